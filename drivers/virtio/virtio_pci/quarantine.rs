// SPDX-License-Identifier: GPL-2.0

//! What is done with a device that does not acknowledge its reset.

use kernel::{
    prelude::*,
    sync::atomic::{
        AtomicFlag,
        Full,
        Relaxed, //
    }, //
};
use pci_ext::DeviceRef;
use virtio_spec::Status;

/// A device that does not acknowledge its reset may still write to every buffer and ring that it
/// was given.  It is kept from doing DMA, and rings that are deleted meanwhile are not freed.
pub(crate) struct Quarantine {
    pci: DeviceRef,
    active: AtomicFlag,
}

impl Quarantine {
    pub(crate) fn new(pci: DeviceRef) -> Self {
        Self {
            pci,
            active: AtomicFlag::new(false),
        }
    }

    pub(crate) fn is_active(&self) -> bool {
        self.active.load(Relaxed)
    }

    pub(crate) fn impose(&self, status: Status) {
        if !self.active.xchg(true, Full) {
            self.pci.clear_master();
            dev_err!(
                (*self.pci).as_ref(),
                "device does not reset, status {:#x}: DMA is switched off, rings are not freed\n",
                status.bits()
            );
        }
    }

    pub(crate) fn lift(&self) {
        if self.active.xchg(false, Full) {
            self.pci.set_master();
            dev_info!(
                (*self.pci).as_ref(),
                "device has reset after all: DMA is switched on\n"
            );
        }
    }
}
