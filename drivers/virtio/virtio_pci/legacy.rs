// SPDX-License-Identifier: GPL-2.0

//! A device with the interface of before specification 1.0 (4.1.4.10): its registers.
//!
//! C source: `drivers/virtio/virtio_pci_legacy.c`, `virtio_pci_legacy_dev.c`.
//!
//! A header in BAR 0, which grows by four bytes while MSI-X is enabled, and the device
//! configuration behind it.  There is one register for the address of a queue, a page number.

use crate::{
    config::DeviceConfig,
    function::Found,
    interface::{
        Interface,
        RingRules, //
    },
    notify::Doorbell, //
};
use kernel::prelude::*;
use pci_ext::{
    io::{
        Bars,
        Window, //
    },
    DeviceRef, //
};
use virtio_ring::Addresses;
use virtio_spec::{
    pci::legacy,
    Features,
    Status, //
};

/// The BAR that has the registers.
const BAR: u8 = 0;

/// Bits of a DMA address that the page number of a ring has room for.
const RING_ADDRESS_BITS: u32 = u32::BITS + legacy::QUEUE_ADDR_SHIFT;

/// The features that there is a register for.
const FEATURES: Features = Features::range(0, 31);

/// The legacy interface.
///
/// Registers that belong to a queue are reached through one that selects it; the device lock sees
/// to it that nobody does so beside another.
pub(crate) struct Legacy {
    pci: DeviceRef,
    header: Window,
    notify: Window,
}

impl Legacy {
    pub(crate) const RING_RULES: RingRules = RingRules {
        align: legacy::VRING_ALIGN as u32,
        may_reduce: false,
    };

    /// Maps the registers of an enabled function.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENODEV` or `EINVAL` if BAR 0 does not exist or is too short for a header, `EBUSY`,
    /// `ENOMEM`.
    pub(crate) fn probe(dev: &pci_ext::Device) -> Result<Found> {
        let len = dev.bar(BAR.into()).ok_or(ENODEV)?.len;
        set_dma_masks(dev);
        let bars = Bars::request(dev, 1 << BAR, c"virtio-pci-legacy")?;
        let header_len = len.min(legacy::device_config(true) as u64);
        if header_len < legacy::MIN_LEN as u64 {
            dev_err!(
                dev.as_ref(),
                "BAR 0 of {} bytes has no legacy header\n",
                len
            );
            return Err(EINVAL);
        }
        let legacy = Self {
            pci: dev.into(),
            header: Window::map(&bars, BAR, 0, header_len)?,
            notify: Window::map(&bars, BAR, legacy::QUEUE_NOTIFY as u64, 2)?,
        };
        Ok(Found {
            interface: Interface::Legacy(legacy),
            isr: Window::map(&bars, BAR, legacy::ISR_STATUS as u64, 1)?,
            config: DeviceConfig::map_legacy(dev.into(), &bars, BAR, len)?,
        })
    }

    pub(crate) fn unmap(&self) {
        self.notify.unmap();
        self.header.unmap();
    }

    pub(crate) fn device_features(&self) -> Features {
        let word = self.header.read32(legacy::DEVICE_FEATURES as u64);
        Features::from_words([word, 0, 0, 0])
    }

    /// Tells the device which features were agreed on: those that there is a register for.
    pub(crate) fn accept(&self, features: Features) -> Features {
        let accepted = virtio_ring::accepted_transport_features(features).intersection(FEATURES);
        let [word, ..] = accepted.to_words();
        self.header.write32(legacy::DRIVER_FEATURES as u64, word);
        accepted
    }

    pub(crate) fn status(&self) -> Status {
        Status::from_bits(self.header.read8(legacy::DEVICE_STATUS as u64))
    }

    pub(crate) fn set_status(&self, status: Status) {
        self.header
            .write8(legacy::DEVICE_STATUS as u64, status.bits());
    }

    /// The header, with a queue selected.
    fn selected(&self, index: u16) -> &Window {
        self.header.write16(legacy::QUEUE_SELECT as u64, index);
        &self.header
    }

    /// Size of a queue, and whether somebody has given it an address.
    pub(crate) fn queue(&self, index: u16) -> (u16, bool) {
        let header = self.selected(index);
        (
            header.read16(legacy::QUEUE_SIZE as u64),
            header.read32(legacy::QUEUE_PFN as u64) != 0,
        )
    }

    /// The page number of a ring.
    ///
    /// # Errors
    ///
    /// `E2BIG` if the ring lies too high.
    pub(crate) fn page_number(&self, addresses: &Addresses) -> Result<u32> {
        page_number(addresses.desc).inspect_err(|_| {
            dev_err!(
                (*self.pci).as_ref(),
                "platform bug: legacy virtio-pci must not be used with RAM above {:#x}GB\n",
                1u64 << (RING_ADDRESS_BITS - 30)
            );
        })
    }

    pub(crate) fn enable_queue(&self, index: u16, addresses: &Addresses) -> Result {
        let page = self.page_number(addresses)?;
        self.selected(index).write32(legacy::QUEUE_PFN as u64, page);
        Ok(())
    }

    /// Takes the address of a queue back, if the device still has it.  Not otherwise: some devices
    /// take an address of 0 for a reset of the whole device.
    pub(crate) fn disable_queue(&self, index: u16) {
        if self.queue(index).1 {
            self.header.write32(legacy::QUEUE_PFN as u64, 0);
        }
    }

    /// Writes the vector for configuration changes; returns what the device made of it.  MSI-X is
    /// enabled, else the register does not exist.
    pub(crate) fn set_config_vector(&self, vector: u16) -> u16 {
        self.header
            .write16(legacy::CONFIG_MSIX_VECTOR as u64, vector);
        self.header.read16(legacy::CONFIG_MSIX_VECTOR as u64)
    }

    /// As [`Legacy::set_config_vector`], for a queue.
    pub(crate) fn set_queue_vector(&self, index: u16, vector: u16) -> u16 {
        let header = self.selected(index);
        header.write16(legacy::QUEUE_MSIX_VECTOR as u64, vector);
        header.read16(legacy::QUEUE_MSIX_VECTOR as u64)
    }

    /// The notification register, which all queues share.
    pub(crate) fn doorbell(&self) -> Result<Doorbell> {
        Doorbell::in_window(&self.notify, 0, 2)
    }
}

fn page_number(address: u64) -> Result<u32> {
    u32::try_from(address >> legacy::QUEUE_ADDR_SHIFT).map_err(|_| E2BIG)
}

/// Buffers may lie anywhere, rings only where a page number reaches.
fn set_dma_masks(dev: &pci_ext::Device) {
    // SAFETY: The function is being probed: nothing is mapped for it yet.
    let result = unsafe {
        dev.set_dma_mask(64)
            .and_then(|()| dev.set_coherent_dma_mask(RING_ADDRESS_BITS))
            .or_else(|_| dev.set_dma_mask(32))
    };
    if result.is_err() {
        dev_warn!(
            dev.as_ref(),
            "failed to enable 64-bit or 32-bit DMA; trying to continue\n"
        );
    }
}

#[kunit_tests(virtio_pci_legacy)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_may_lie_below_2_to_the_44() {
        assert_eq!(page_number(0x1000), Ok(1));
        assert_eq!(page_number((1 << 44) - 4096), Ok(u32::MAX));
        assert_eq!(page_number(1 << 44), Err(E2BIG));
        assert_eq!(page_number(u64::MAX), Err(E2BIG));
    }
}
