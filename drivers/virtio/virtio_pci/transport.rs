// SPDX-License-Identifier: GPL-2.0

//! The verbs of the transport: [`virtio::transport::Transport`].

use crate::{
    admin::Admin,
    function::Function,
    queues::Queue,
    vectors::QueueSet, //
};
use core::{
    pin::Pin,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    cpumask::Cpumask,
    ffi::c_char,
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    }, //
};
use virtio::{
    device::{
        Device,
        ResetFailed, //
    },
    transport::{
        QueueRequest,
        Transport, //
    }, //
};
use virtio_bindings as bindings;
use virtio_spec::{
    transport::RingReset,
    Features,
    Status, //
};

/// The transport of one device.
pub(crate) struct PciTransport {
    function: Arc<Function>,
    /// Held for short only: `set_queue_affinity` is called with the CPU hotplug lock held, which
    /// allocating vectors takes.
    queues: Pin<KBox<Mutex<Option<QueueSet>>>>,
    admin: Pin<KBox<Admin>>,
}

impl PciTransport {
    pub(crate) fn new(function: Arc<Function>) -> Result<Self> {
        Ok(Self {
            admin: Admin::new((*function.pci).as_ref())?,
            function,
            queues: KBox::pin_init(
                new_mutex!(None, "virtio_pci::PciTransport::queues"),
                GFP_KERNEL,
            )?,
        })
    }

    /// The administration of the device.
    pub(crate) fn admin(&self) -> &Admin {
        &self.admin
    }

    /// Resets the device and waits for its handlers.  May sleep.
    fn quiesce(&self) -> Result<(), ResetFailed> {
        self.admin.queue().close();
        let result = self.function.reset();
        self.synchronize_callbacks();
        // SAFETY: What the function does: reset, then handlers waited for.
        unsafe { self.admin.stop(result.is_ok()) };
        result
    }

    /// Runs `f` with a queue, and the set that it belongs to.
    fn with_queue<R>(
        &self,
        index: u32,
        f: impl FnOnce(&QueueSet, &Queue) -> Result<R>,
    ) -> Result<R> {
        let set = self.queues.lock();
        let set = set.as_ref().ok_or(EINVAL)?;
        f(set, set.queue(index)?)
    }

    /// Takes the queues down.  May sleep.
    fn take_down(&self) {
        if self.queues.lock().is_some() && self.function.is_live() {
            // A driver that gives up before DRIVER_OK does not reset, but the device knows the
            // rings.  A failure is in the quarantine, which the rings look at.
            let _ = self.quiesce();
        }
        self.admin.queue().leave();
        let set = self.queues.lock().take();
        // Not under the lock: this waits for handlers.
        drop(set);
    }
}

impl Drop for PciTransport {
    fn drop(&mut self) {
        self.take_down();
    }
}

impl Transport for PciTransport {
    fn read_config(&self, offset: u32, bytes: &mut [u8]) {
        self.function.config.read(offset, bytes);
    }

    fn write_config(&self, offset: u32, bytes: &[u8]) {
        self.function.config.write(offset, bytes);
    }

    fn generation(&self) -> u32 {
        self.function.interface.generation()
    }

    fn status(&self) -> Status {
        self.function.status()
    }

    fn set_status(&self, status: Status) {
        self.function.interface.set_status(status);
        if status.contains(Status::DRIVER_OK) {
            self.admin.activate();
        }
    }

    fn reset(&self, _dev: &Device) -> Result<(), ResetFailed> {
        self.quiesce()
    }

    fn features(&self) -> Features {
        self.function.interface.features()
    }

    fn finalize_features(&self, dev: &Device, features: Features) -> Result<Features> {
        self.function.interface.accept(dev, features)
    }

    fn find_queues(
        &self,
        dev: &Device,
        requests: &mut [QueueRequest<'_>],
        affinity: Option<NonNull<bindings::irq_affinity>>,
    ) -> Result {
        if self.function.quarantine.is_active() {
            return Err(EIO);
        }
        if self.queues.lock().is_some() {
            return Err(EBUSY);
        }
        // SAFETY: Drivers pass an initialised structure.  Copied: `pre_vectors` is changed.
        let affinity = affinity.map(|affinity| unsafe { affinity.read() });
        let set = QueueSet::find(
            &self.function,
            dev,
            requests,
            Some(admin_queue_used),
            affinity,
        )?;
        self.function.set_live();
        let enabled = set.enable(&self.function);
        if enabled.is_ok() {
            set.provide(requests);
            if let Some(queue) = set.admin_queue() {
                // SAFETY: Made just now, and provided to nobody else; deleted by `take_down`,
                // after a reset, whose `quiesce` stops using it.
                unsafe { self.admin.start(queue) };
            }
        }
        *self.queues.lock() = Some(set);
        if enabled.is_err() {
            self.take_down();
        }
        enabled
    }

    fn delete_queues(&self, _dev: &Device) {
        self.take_down();
    }

    fn synchronize_callbacks(&self) {
        if let Some(set) = &*self.queues.lock() {
            set.synchronize();
        }
    }

    fn bus_name(&self) -> *const c_char {
        self.function.pci.name().as_char_ptr()
    }

    fn reset_queue(&self, dev: &Device, queue: u32) -> Result {
        if !dev.features().has::<RingReset>() {
            return Err(ENOENT);
        }
        let index = self.with_queue(queue, |_, queue| Ok(queue.index()))?;
        // Not under the lock: this waits for the device.
        let result = self.function.interface.reset_queue(index);
        self.with_queue(queue, |set, queue| {
            match result {
                Ok(()) => {
                    queue.set_off(true);
                    set.synchronize_queue(queue);
                }
                Err(error) => {
                    queue.break_ring();
                    dev_err!(
                        dev.as_device(),
                        "queue {} does not reset: {:?}\n",
                        index,
                        error
                    );
                }
            }
            result
        })
    }

    fn enable_queue_after_reset(&self, dev: &Device, queue: u32) -> Result {
        let index = self.with_queue(queue, |_, queue| {
            if !queue.is_off() {
                return Err(EBUSY);
            }
            Ok(queue.index())
        })?;
        let enable = || {
            self.with_queue(queue, |_, queue| {
                queue.place_again()?;
                // Before the device can interrupt.
                queue.set_off(false);
                queue.enable()
            })?;
            // Not under the lock: this waits for the device.
            self.function.interface.await_enabled(index)
        };
        enable().inspect_err(|error| {
            let _ = self.with_queue(queue, |_, queue| {
                queue.break_ring();
                Ok(())
            });
            dev_err!(
                dev.as_device(),
                "queue {} does not enable after a reset: {:?}\n",
                index,
                error
            );
        })
    }

    fn set_queue_affinity(&self, queue: u32, mask: *const bindings::cpumask) -> Result {
        // SAFETY: Null or valid for the call, by the contract of `set_vq_affinity`.
        let mask = (!mask.is_null()).then(|| unsafe { Cpumask::from_raw(mask) });
        match &mut *self.queues.lock() {
            Some(set) => set.set_affinity(queue, mask),
            None => Err(EINVAL),
        }
    }

    fn queue_affinity(&self, queue: u32) -> *const bindings::cpumask {
        match &*self.queues.lock() {
            Some(set) => set.affinity(queue),
            None => ptr::null(),
        }
    }

    fn shared_memory(&self, id: u8) -> Option<(u64, u64)> {
        self.function.shared_memory(id)
    }
}

/// The callback of the administration queue.  Interrupt context.
///
/// # Safety
///
/// `vq` is a queue of a device whose transport this is.
unsafe extern "C" fn admin_queue_used(vq: *mut bindings::virtqueue) {
    // SAFETY: By the contract; a queue does not outlive its device.
    let transport: &PciTransport = unsafe { virtio::transport::of((*vq).vdev) };
    transport.admin.queue().used();
}
