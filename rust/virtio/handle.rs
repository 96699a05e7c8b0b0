// SPDX-License-Identifier: GPL-2.0

//! A way to the device for what outlives the binding of its driver: open files, work items, timers.

use crate::{
    device::Device,
    lifecycle::Quiesced,
    recovery, //
};
use kernel::{
    new_mutex,
    prelude::*,
    seq_file::SeqFile,
    sync::{
        Arc,
        Mutex, //
    }, //
};

/// A handle of a device: it leads nowhere when the driver is unbound.
#[derive(Clone)]
pub struct Handle(Arc<Gate>);

/// Prints what a driver counts of its device.
pub(crate) type Statistics = fn(&Device, &SeqFile);

/// A device to which a driver is bound.
struct Open {
    device: &'static Device,
    statistics: Statistics,
}

#[pin_data]
struct Gate {
    /// `None` unless a driver is bound, and the device works.
    #[pin]
    open: Mutex<Option<Open>>,
}

impl Handle {
    pub(crate) fn new() -> Result<Self> {
        let gate = pin_init!(Gate {
            open <- new_mutex!(None),
        });
        Ok(Self(Arc::pin_init(gate, GFP_KERNEL)?))
    }

    /// Lets users in.  The device outlives its binding, which ends with [`Handle::close`].
    pub(crate) fn open(&self, device: &'static Device, statistics: Statistics) {
        *self.0.open.lock() = Some(Open { device, statistics });
    }

    /// Keeps users out, and waits for those who are in.  May sleep.
    pub(crate) fn close(&self) {
        *self.0.open.lock() = None;
    }

    /// Has the driver print what it counts; nothing without one.  May sleep.
    pub(crate) fn print_statistics(&self, file: &SeqFile) {
        if let Some(open) = &*self.0.open.lock() {
            (open.statistics)(open.device, file);
        }
    }

    /// Runs `f` on the device, which is not unbound meanwhile; one at a time.  May sleep.  Not from
    /// the driver's own callbacks.
    ///
    /// `None` if the driver is unbound.
    pub fn with<R>(&self, f: impl FnOnce(&Device) -> R) -> Option<R> {
        let open = self.0.open.lock();
        open.as_ref().map(|open| f(open.device))
    }

    /// Takes the device out of service at once: breaks its queues, resets it, waits for callbacks,
    /// and runs `f`, which may take buffers back.  For who cannot wait for the device lock, since
    /// its holder waits for the device; it is recovered when the lock is free.  May sleep, no longer
    /// than a reset may take.
    ///
    /// `None` if the driver is unbound.
    pub fn halt<R>(&self, f: impl FnOnce(&Quiesced<'_>) -> R) -> Option<R> {
        self.with(|dev| {
            dev.break_queues();
            if let Err(failed) = dev.reset() {
                dev_err!(
                    dev.as_device(),
                    "does not reset, status {:#x}\n",
                    failed.status.bits()
                );
            }
            dev.synchronize_callbacks();
            let result = f(&Quiesced(dev));
            // When the lock is free: the device may work again then.
            recovery::schedule_broken(dev);
            result
        })
    }
}
