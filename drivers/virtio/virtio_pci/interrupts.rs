// SPDX-License-Identifier: GPL-2.0

//! Interrupt handlers.
//!
//! C source: `vp_config_changed`, `vp_vring_interrupt`, `vp_interrupt`.
//!
//! A handler has its queues from the start, since it is registered after they are made and before
//! they are enabled, and freed before they are deleted: no list changes under it, no lock is
//! needed.  A queue that is reset alone says so in a flag of its own.

use core::ptr::NonNull;
use kernel::{
    irq::{
        Handler,
        IrqReturn, //
    },
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        Arc, //
    }, //
};
use pci_ext::io::Window;
use virtio::{
    device::Device,
    lifecycle, //
};
use virtio_bindings as bindings;
use virtio_spec::pci::isr;

/// A virtqueue that outlives the handler.
///
/// # Invariants
///
/// Made by `virtio_ring`, and not deleted as long as `self` exists.
#[derive(Clone, Copy)]
pub(crate) struct QueueRef(NonNull<bindings::virtqueue>);

// SAFETY: `virtio_ring::interrupt` may be called on any CPU.
unsafe impl Send for QueueRef {}
// SAFETY: As above.
unsafe impl Sync for QueueRef {}

impl QueueRef {
    /// Wraps a queue.
    ///
    /// # Safety
    ///
    /// The type invariants.
    pub(crate) unsafe fn new(queue: NonNull<bindings::virtqueue>) -> Self {
        Self(queue)
    }

    /// `reset` of the queue: it was reset alone, and is not to be looked at.
    fn off(&self) -> &Atomic<bool> {
        // SAFETY: By the type invariants; nobody else uses the field.
        unsafe { Atomic::from_ptr(&raw mut (*self.0.as_ptr()).reset) }
    }

    /// Whether interrupts leave the queue alone.
    pub(crate) fn is_off(&self) -> bool {
        self.off().load(Relaxed)
    }

    /// Has interrupts leave the queue alone, or not.  Handlers that run are not waited for.
    pub(crate) fn set_off(&self, off: bool) {
        // Before a handler that finds it on, what the queue has become is seen.
        self.off().store(off, Release);
    }

    fn interrupt(&self) -> bool {
        if self.off().load(Acquire) {
            return false;
        }
        // SAFETY: By the type invariants.
        unsafe { virtio_ring::interrupt(self.0) }
    }
}

/// The vector of one queue.
pub(crate) struct UsedBuffers(pub(crate) QueueRef);

impl Handler for UsedBuffers {
    fn handle(&self) -> IrqReturn {
        if self.0.interrupt() {
            IrqReturn::Handled
        } else {
            IrqReturn::None
        }
    }
}

/// The vector that all queues share.
pub(crate) struct SharedUsedBuffers(pub(crate) KVec<QueueRef>);

impl Handler for SharedUsedBuffers {
    fn handle(&self) -> IrqReturn {
        let mut handled = IrqReturn::None;
        for queue in &self.0 {
            if queue.interrupt() {
                handled = IrqReturn::Handled;
            }
        }
        handled
    }
}

/// The vector for configuration changes, and for a queue that is slow anyway.
///
/// # Invariants
///
/// The device stays allocated as long as `self` exists.
pub(crate) struct ConfigChanged {
    dev: NonNull<Device>,
    slow: Option<QueueRef>,
}

// SAFETY: `Device` is `Sync`.
unsafe impl Send for ConfigChanged {}
// SAFETY: As above.
unsafe impl Sync for ConfigChanged {}

impl ConfigChanged {
    /// Handles the configuration changes of `dev`, and the used buffers of `slow`.
    ///
    /// # Safety
    ///
    /// The type invariants.
    pub(crate) unsafe fn new(dev: &Device, slow: Option<QueueRef>) -> Self {
        Self {
            dev: NonNull::from(dev),
            slow,
        }
    }
}

impl Handler for ConfigChanged {
    fn handle(&self) -> IrqReturn {
        // SAFETY: By the type invariants.
        lifecycle::config_changed(unsafe { self.dev.as_ref() });
        if let Some(queue) = &self.slow {
            queue.interrupt();
        }
        IrqReturn::Handled
    }
}

/// The interrupt line, for everything (specification 4.1.5.5).
pub(crate) struct Line {
    pub(crate) isr: Arc<Window>,
    pub(crate) config: ConfigChanged,
    pub(crate) queues: SharedUsedBuffers,
}

impl Handler for Line {
    fn handle(&self) -> IrqReturn {
        // Reading clears: once, and before the rings are looked at.
        let status = self.isr.read8(0);
        // A device that is gone did not raise the line.
        if status == 0 || status == isr::ALL_ONES {
            return IrqReturn::None;
        }
        if status & isr::CONFIG != 0 {
            self.config.handle();
        }
        // Whatever the device says: another one on the line may have delayed us.
        self.queues.handle();
        IrqReturn::Handled
    }
}
