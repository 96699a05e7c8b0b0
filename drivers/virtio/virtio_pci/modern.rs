// SPDX-License-Identifier: GPL-2.0

//! A device with the interface of specification 1.0 and later: its structures.
//!
//! C source: `vp_modern_probe` of `drivers/virtio/virtio_pci_modern_dev.c`, `vp_finalize_features`
//! of `drivers/virtio/virtio_pci_modern.c`.

use crate::{
    common::CommonConfig,
    config::DeviceConfig,
    function::Found,
    interface::{
        Interface,
        RingRules, //
    },
    notify::{
        Doorbell,
        Format,
        NotifyArea, //
    }, //
};
use kernel::prelude::*;
use pci_ext::{
    io::{
        Bars,
        Window, //
    },
    BarKind, //
};
use virtio::device::Device;
use virtio_bindings as bindings;
use virtio_spec::{
    pci::{
        self,
        caps::CfgType,
        BarInfo,
        CapError,
        Capabilities,
        Region,
        Reject, //
    },
    transport::{
        AdminVq,
        NotifConfigData,
        RingReset,
        SrIov,
        Suspend,
        Version1, //
    },
    Features, //
};

/// The structures of a device.
pub(crate) struct Modern {
    pub(crate) common: CommonConfig,
    notify: NotifyArea,
    capabilities: Capabilities,
    has_sriov: bool,
}

impl Modern {
    pub(crate) const RING_RULES: RingRules = RingRules {
        align: bindings::SMP_CACHE_BYTES,
        may_reduce: true,
    };

    /// Finds and maps the structures of an enabled function.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the function has the legacy interface only, `EINVAL` if a structure is missing
    /// or not where it says, `EBUSY` or `ENOMEM` for the BARs.
    pub(crate) fn probe(dev: &pci_ext::Device) -> Result<Found> {
        let capabilities = find_capabilities(dev)?;
        set_dma_mask(dev);

        let bars = Bars::request(dev, capabilities.bars(), c"virtio-pci-modern")?;
        let isr = capabilities.isr;
        let modern = Self {
            common: CommonConfig::map(&bars, capabilities.common)?,
            notify: NotifyArea::map(&bars, capabilities.notify)?,
            capabilities,
            has_sriov: dev.has_sriov(),
        };
        Ok(Found {
            interface: Interface::Modern(modern),
            isr: Window::map(&bars, isr.bar(), isr.offset(), 1)?,
            config: DeviceConfig::map(dev.into(), &bars, capabilities.device)?,
        })
    }

    /// A device whose common configuration a test plays, and perhaps its notification registers.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn model(
        common: Window,
        notify: Option<Window>,
        capabilities: Capabilities,
    ) -> Result<Self> {
        Ok(Self {
            common: CommonConfig::new(common)?,
            notify: NotifyArea::model(capabilities.notify, notify),
            capabilities,
            has_sriov: false,
        })
    }

    pub(crate) fn unmap(&self) {
        self.notify.unmap();
        self.common.unmap();
    }

    /// Tells the device which features were agreed on: those that rings and transport know.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it does not offer `VIRTIO_F_VERSION_1`, or lacks registers for another feature.
    pub(crate) fn accept(&self, dev: &Device, features: Features) -> Result<Features> {
        let mut known = Features::EMPTY
            .with::<AdminVq>()
            .with::<NotifConfigData>()
            .with::<RingReset>();
        if self.has_sriov {
            known = known.with::<SrIov>();
        }
        let mut accepted =
            virtio_ring::accepted_transport_features(features).union(features.intersection(known));
        if accepted.has::<AdminVq>() {
            // Its users do not stop for the system to sleep, as a suspended device wants it.
            accepted = accepted.without::<Suspend>();
        }
        if !accepted.has::<Version1>() {
            dev_err!(
                dev.as_device(),
                "device has the modern interface, but not VIRTIO_F_VERSION_1\n"
            );
            return Err(EINVAL);
        }
        pci::check_common_len(self.common.len(), accepted).map_err(|short| {
            dev_err!(
                dev.as_device(),
                "common configuration of {} bytes is too short for {}\n",
                short.len,
                short.feature
            );
            EINVAL
        })?;
        self.common.set_driver_features(accepted);
        Ok(accepted)
    }

    /// The notification register of a queue.  May sleep.
    ///
    /// # Errors
    ///
    /// As [`NotifyArea::doorbell`].
    pub(crate) fn doorbell(&self, index: u16, format: Format) -> Result<Doorbell> {
        let bars = self.common.bars();
        let registers = self.common.queue(index);
        let (notify_off, number) = (registers.notify_off(), registers.notify_data());
        self.notify.doorbell(bars, notify_off, number, format)
    }

    /// Where a shared memory region lies (specification 4.1.4.7).
    pub(crate) fn shared_memory(&self, id: u8) -> Option<Region> {
        Some(self.capabilities.shared_memory_by_id(id)?.region)
    }
}

fn find_capabilities(dev: &pci_ext::Device) -> Result<Capabilities> {
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
            dev_info!(dev.as_ref(), "no modern interface\n");
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
