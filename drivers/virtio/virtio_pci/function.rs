// SPDX-License-Identifier: GPL-2.0

//! A virtio function, whichever interface it has: which that is, and its reset.
//!
//! C source: `virtio_pci_probe` of `drivers/virtio/virtio_pci_common.c`, `vp_reset` of
//! `drivers/virtio/virtio_pci_modern.c` and `virtio_pci_legacy.c`.

use crate::{
    config::DeviceConfig,
    interface::Interface,
    legacy::Legacy,
    modern::Modern,
    quarantine::Quarantine, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            AtomicFlag,
            Relaxed, //
        },
        Arc, //
    },
    time::Delta, //
};
use pci_ext::{
    io::Window,
    DeviceRef, //
};
use virtio::device::ResetFailed;
use virtio_spec::{
    pci::{
        self,
        Generation,
        Identity, //
    },
    DeviceType,
    Status, //
};

/// How long a device may take to acknowledge a reset.
///
/// A device that finishes requests before it does may need seconds.  It is less than the time
/// after which the kernel reports a hung task, or an orchestrator gives up on an unplug.
const RESET_DEADLINE: Delta = Delta::from_secs(10);

/// How long a device that missed the first deadline may take: enough to see that it came back.
const RESET_RETRY_DEADLINE: Delta = Delta::from_millis(100);

/// What the probe of an interface finds.
pub(crate) struct Found {
    pub(crate) interface: Interface,
    pub(crate) isr: Window,
    pub(crate) config: DeviceConfig,
}

/// What the PCI callbacks and the transport share of a device.
pub(crate) struct Function {
    pub(crate) pci: DeviceRef,
    pub(crate) interface: Arc<Interface>,
    pub(crate) isr: Arc<Window>,
    pub(crate) config: DeviceConfig,
    pub(crate) quarantine: Arc<Quarantine>,
    identity: Identity,
    /// The last reset found nobody there.
    gone: AtomicFlag,
    /// Queues have been enabled since the last reset.
    live: AtomicFlag,
}

impl Function {
    /// Finds and maps the registers of an enabled function: those of the modern interface, or, if
    /// it has none, of the legacy one; the other way round with `force_legacy`.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the function is no virtio device that can be driven, `EINVAL` if a structure is
    /// missing or not where it says, `EBUSY` or `ENOMEM` for the BARs.
    pub(crate) fn probe(dev: &pci_ext::Device) -> Result<Arc<Self>> {
        let identity = identify(dev)?;
        if dev.is_gone() {
            dev_err!(dev.as_ref(), "device does not answer\n");
            return Err(ENODEV);
        }
        let found = if crate::force_legacy() {
            match probe_legacy(dev, identity) {
                // Without I/O space there is no BAR 0 to map.
                Err(error) if error == ENODEV || error == ENOMEM => Modern::probe(dev),
                other => other,
            }
        } else {
            match Modern::probe(dev) {
                Err(error) if error == ENODEV => probe_legacy(dev, identity),
                other => other,
            }
        }?;
        let function = Self {
            pci: dev.into(),
            interface: Arc::new(found.interface, GFP_KERNEL)?,
            isr: Arc::new(found.isr, GFP_KERNEL)?,
            config: found.config,
            quarantine: Arc::new(Quarantine::new(dev.into()), GFP_KERNEL)?,
            identity,
            gone: AtomicFlag::new(false),
            live: AtomicFlag::new(false),
        };
        Ok(Arc::new(function, GFP_KERNEL)?)
    }

    /// Unmaps everything: the function is about to be unbound.  Accesses that come later find
    /// nobody.  The BARs are free for the next driver.  May sleep.
    pub(crate) fn close(&self) {
        self.config.unmap();
        self.isr.unmap();
        self.interface.unmap();
    }

    /// Device and vendor id, as on the virtio bus.
    pub(crate) fn virtio_id(&self) -> (u32, u32) {
        (self.identity.device.id(), self.identity.vendor)
    }

    /// The device status; that of a device that is gone is "reset", since it will not do anything.
    pub(crate) fn status(&self) -> Status {
        if self.gone.load(Relaxed) {
            return Status::RESET;
        }
        self.interface.status()
    }

    /// Queues are about to be enabled: from now on only a reset gives their memory back.
    pub(crate) fn set_live(&self) {
        self.live.store(true, Relaxed);
    }

    /// Whether queues have been enabled since the last reset.
    pub(crate) fn is_live(&self) -> bool {
        self.live.load(Relaxed)
    }

    /// Resets the device and waits for it to say so (specification 2.4).  May sleep, at most
    /// for [`RESET_DEADLINE`].
    ///
    /// Reading the status back also flushes what the device wrote, interrupts included.
    ///
    /// A function that is off the bus counts as reset: its registers and its configuration space
    /// read as all ones, so it cannot reach memory either.
    ///
    /// # Errors
    ///
    /// The device did not acknowledge; it is in quarantine now.
    pub(crate) fn reset(&self) -> Result<(), ResetFailed> {
        let deadline = if self.quarantine.is_active() {
            RESET_RETRY_DEADLINE
        } else {
            RESET_DEADLINE
        };
        let status = self.interface.reset(deadline);
        let gone = status.is_all_ones() && self.pci.is_gone();
        self.gone.store(gone, Relaxed);
        if gone || status.is_reset() {
            self.live.store(false, Relaxed);
            if !gone {
                self.quarantine.lift();
            }
            return Ok(());
        }
        self.quarantine.impose(status);
        Err(ResetFailed { status })
    }

    /// Lets the device do DMA again after it was disabled, unless it is in quarantine.
    pub(crate) fn set_master(&self) {
        if !self.quarantine.is_active() {
            self.pci.set_master();
        }
    }

    /// Address as the CPU sees it, and length, of a shared memory region (specification 4.1.4.7).
    pub(crate) fn shared_memory(&self, id: u8) -> Option<(u64, u64)> {
        let region = self.interface.shared_memory(id)?;
        let bar = self.pci.bar(region.bar().into())?;
        Some((bar.start.checked_add(region.offset())?, region.length()))
    }
}

fn identify(dev: &pci_ext::Device) -> Result<Identity> {
    let ids = dev.ids();
    pci::identify(ids.device, ids.subsystem_vendor, ids.subsystem_device)
        .filter(|identity| identity.device != DeviceType::RESERVED)
        .ok_or(ENODEV)
}

/// The legacy interface, if the function can have it and the kernel is to drive it.
fn probe_legacy(dev: &pci_ext::Device, identity: Identity) -> Result<Found> {
    let may_be_legacy = identity.generation == Generation::Transitional
        && dev.ids().revision == pci::LEGACY_REVISION;
    if cfg!(CONFIG_VIRTIO_PCI_LEGACY) && may_be_legacy {
        Legacy::probe(dev)
    } else {
        Err(ENODEV)
    }
}
