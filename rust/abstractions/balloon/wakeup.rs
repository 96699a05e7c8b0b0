// SPDX-License-Identifier: GPL-2.0

//! Keeping the system awake while there is something to do.
//!
//! C header: [`include/linux/pm_wakeup.h`](srctree/include/linux/pm_wakeup.h); `start_wakeup_event`
//! and `finish_wakeup_event` in `drivers/virtio/virtio_balloon.c`.

use kernel::{
    device,
    new_spinlock_irq,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        SpinLockIrq, //
    }, //
};
use virtio_bindings as bindings;

/// A wake-up source: it counts if the user has enabled it in sysfs.
#[pin_data(PinnedDrop)]
pub struct WakeSource {
    dev: ARef<device::Device>,
    /// What there is to do, a bit each.
    #[pin]
    active: SpinLockIrq<u32>,
}

fn raw(dev: &device::Device) -> *mut bindings::device {
    // `Device` is transparent.
    core::ptr::from_ref(dev).cast_mut().cast()
}

impl WakeSource {
    /// Lets `dev` be a wake-up source.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(dev: &device::Device) -> Result<Arc<Self>> {
        // SAFETY: A device that is registered.
        unsafe { bindings::device_set_wakeup_capable(raw(dev), true) };
        let this = pin_init!(Self {
            dev: dev.into(),
            active <- new_spinlock_irq!(0),
        });
        Arc::pin_init(this, GFP_KERNEL)
    }

    /// Keeps the system awake for `reason`, a bit, until it is over.  Any context.
    pub fn begin(&self, reason: u32) {
        let mut active = self.active.lock();
        if *active == 0 {
            // SAFETY: There is a reference to the device.
            unsafe { bindings::pm_stay_awake(raw(&self.dev)) };
        }
        *active |= reason;
    }

    /// The reasons that have a bit in `reason` are over.  Any context.
    pub fn end(&self, reason: u32) {
        let mut active = self.active.lock();
        let before = *active;
        *active &= !reason;
        if before != 0 && *active == 0 {
            // SAFETY: There is a reference to the device.
            unsafe { bindings::pm_relax(raw(&self.dev)) };
        }
    }
}

#[pinned_drop]
impl PinnedDrop for WakeSource {
    fn drop(self: Pin<&mut Self>) {
        self.end(u32::MAX);
    }
}
