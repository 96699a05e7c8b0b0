// SPDX-License-Identifier: GPL-2.0

//! A device with the interface of specification 1.0 and later: its structures, and its reset.
//!
//! C source: `vp_modern_probe` of `drivers/virtio/virtio_pci_modern_dev.c`, `vp_reset` of
//! `drivers/virtio/virtio_pci_modern.c`.

use crate::{
    common::{
        poll,
        CommonConfig, //
    },
    config::DeviceConfig,
    notify::{
        Doorbell,
        Format,
        NotifyArea, //
    }, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            AtomicFlag,
            Full,
            Relaxed, //
        },
        Arc, //
    },
    time::Delta, //
};
use pci_ext::{
    io::{
        Bars,
        Window, //
    },
    BarKind,
    DeviceRef, //
};
use virtio::device::ResetFailed;
use virtio_spec::{
    pci::{
        self,
        caps::CfgType,
        BarInfo,
        CapError,
        Capabilities,
        Identity,
        Reject, //
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

/// What the PCI callbacks and the transport share of a device.
pub(crate) struct Modern {
    pub(crate) pci: DeviceRef,
    pub(crate) common: Arc<CommonConfig>,
    pub(crate) isr: Arc<Window>,
    notify: NotifyArea,
    pub(crate) config: DeviceConfig,
    pub(crate) quarantine: Arc<Quarantine>,
    capabilities: Capabilities,
    identity: Identity,
    /// The last reset found nobody there.
    gone: AtomicFlag,
    /// Queues have been enabled since the last reset.
    live: AtomicFlag,
}

impl Modern {
    /// Finds and maps the structures of an enabled function.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the function is no virtio device or has the legacy interface only, `EINVAL` if
    /// a structure is missing or not where it says, `EBUSY` or `ENOMEM` for the BARs.
    pub(crate) fn probe(dev: &pci_ext::Device) -> Result<Arc<Self>> {
        let identity = identify(dev)?;
        let capabilities = find_capabilities(dev)?;
        set_dma_mask(dev);

        let bars = Bars::request(dev, capabilities.bars(), c"virtio-pci-modern")?;
        let isr = capabilities.isr;
        let modern = Self {
            pci: dev.into(),
            common: Arc::new(CommonConfig::map(&bars, capabilities.common)?, GFP_KERNEL)?,
            isr: Arc::new(Window::map(&bars, isr.bar(), isr.offset(), 1)?, GFP_KERNEL)?,
            notify: NotifyArea::map(&bars, capabilities.notify)?,
            config: DeviceConfig::map(dev.into(), &bars, capabilities.device)?,
            quarantine: Arc::new(Quarantine::new(dev.into()), GFP_KERNEL)?,
            capabilities,
            identity,
            gone: AtomicFlag::new(false),
            live: AtomicFlag::new(false),
        };
        Ok(Arc::new(modern, GFP_KERNEL)?)
    }

    /// The notification register of a queue whose `queue_notify_off` is `notify_off`.  May sleep.
    ///
    /// # Errors
    ///
    /// As [`NotifyArea::doorbell`]; `ENODEV` after [`Modern::close`].
    pub(crate) fn doorbell(&self, notify_off: u16, format: Format) -> Result<Doorbell> {
        let bars = self.isr.bars().ok_or(ENODEV)?;
        self.notify.doorbell(&bars, notify_off, format)
    }

    /// Unmaps everything: the function is about to be unbound.  Accesses that come later find
    /// nobody.  The BARs are free for the next driver.  May sleep.
    pub(crate) fn close(&self) {
        self.config.unmap();
        self.notify.unmap();
        self.isr.unmap();
        self.common.unmap();
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
        self.common.status()
    }

    /// Queues are about to be enabled: from now on only a reset gives their memory back.
    pub(crate) fn set_live(&self) {
        self.live.store(true, Relaxed);
    }

    /// Whether queues may be enabled.
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
        self.common.set_status(Status::RESET);
        let mut status = Status::RESET;
        let settled = poll(deadline, || {
            status = self.common.status();
            (status.is_reset() || status.is_all_ones()).then_some(())
        });
        let gone = status.is_all_ones() && self.pci.is_gone();
        self.gone.store(gone, Relaxed);
        if gone || (settled.is_some() && status.is_reset()) {
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
        let region = self.capabilities.shared_memory_by_id(id)?.region;
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

fn find_capabilities(dev: &pci_ext::Device) -> Result<Capabilities> {
    if dev.is_gone() {
        dev_err!(dev.as_ref(), "device does not answer\n");
        return Err(ENODEV);
    }
    let mut bars = [None; pci_ext::BARS];
    for (index, slot) in bars.iter_mut().enumerate() {
        *slot = dev.bar(index).map(|bar| BarInfo {
            len: bar.len,
            kind: match bar.kind {
                BarKind::Port => pci::BarKind::Io,
                BarKind::Memory => pci::BarKind::Mem,
            },
        });
    }
    pci::parse_capabilities(&dev.copy_config_space(), &bars).map_err(|error| match error {
        CapError::Missing(CfgType::Common)
        | CapError::Unusable(CfgType::Common, Reject::BarReserved | Reject::BarAbsent) => {
            dev_info!(
                dev.as_ref(),
                "legacy device without modern interface: not supported\n"
            );
            ENODEV
        }
        error => {
            dev_err!(dev.as_ref(), "{}\n", core::format_args!("{error}"));
            EINVAL
        }
    })
}

fn set_dma_mask(dev: &pci_ext::Device) {
    // SAFETY: The function is being probed: nothing is mapped for it yet.
    let result = unsafe { dev.set_dma_mask(64).or_else(|_| dev.set_dma_mask(32)) };
    if result.is_err() {
        dev_warn!(
            dev.as_ref(),
            "failed to enable 64-bit or 32-bit DMA; trying to continue\n"
        );
    }
}

/// A device that does not acknowledge its reset may still write to every buffer and ring that it
/// was given.  It is kept from doing DMA, and rings that are deleted meanwhile are not freed.
pub(crate) struct Quarantine {
    pci: DeviceRef,
    active: AtomicFlag,
}

impl Quarantine {
    fn new(pci: DeviceRef) -> Self {
        Self {
            pci,
            active: AtomicFlag::new(false),
        }
    }

    pub(crate) fn is_active(&self) -> bool {
        self.active.load(Relaxed)
    }

    fn impose(&self, status: Status) {
        if !self.active.xchg(true, Full) {
            self.pci.clear_master();
            dev_err!(
                (*self.pci).as_ref(),
                "device does not reset, status {:#x}: DMA is switched off, rings are not freed\n",
                status.bits()
            );
        }
    }

    fn lift(&self) {
        if self.active.xchg(false, Full) {
            self.pci.set_master();
            dev_info!(
                (*self.pci).as_ref(),
                "device has reset after all: DMA is switched on\n"
            );
        }
    }
}
