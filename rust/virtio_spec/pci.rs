// SPDX-License-Identifier: GPL-2.0

//! Virtio over PCI bus (section 4.1): identity, registers, and what the registers may hold.
//!
//! The capability list is parsed in [`caps`].

use crate::device_type::DeviceType;
use crate::features::{Feature, Features};
use crate::transport;

#[path = "pci_caps.rs"]
pub mod caps;

pub use caps::{
    parse_capabilities, BarInfo, BarKind, CapError, Capabilities, NotifyError, NotifyRegion,
    Region, Reject, SharedMemory, VendorData,
};

/// PCI vendor id of every virtio device (section 4.1.2).
pub const VENDOR_ID: u16 = 0x1af4;
/// First PCI device id of the virtio range.
pub const DEVICE_ID_FIRST: u16 = 0x1000;
/// Last PCI device id of the virtio range.
pub const DEVICE_ID_LAST: u16 = 0x107f;
/// First PCI device id of a device that has no legacy interface.
pub const MODERN_ID_FIRST: u16 = 0x1040;

/// PCI revision of a device that has the legacy interface alone; only that one may use it.
pub const LEGACY_REVISION: u8 = 0;

/// How a PCI device id tells the virtio device type (section 4.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// Ids 0x1000 to 0x103f: legacy or transitional; the type is the PCI subsystem id.
    Transitional,
    /// Ids 0x1040 to 0x107f: the type is the id less 0x1040.
    Modern,
}

/// What the PCI ids of a function say about the virtio device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The device type; [`DeviceType::RESERVED`] is not to be driven.
    pub device: DeviceType,
    /// `virtio_device_id.vendor`: the PCI subsystem vendor.
    pub vendor: u32,
    /// Whether the legacy interface may be there.
    pub generation: Generation,
}

/// Tells the virtio device from PCI ids, or `None` if the device id is out of the virtio range.
///
/// The caller has matched the vendor id. As in C (`vp_modern_probe()`), a transitional id leaves
/// the type to the subsystem id, whatever the device id.
///
/// ```
/// use virtio_spec::{pci, DeviceType};
/// let net = pci::identify(0x1000, 0x1af4, 1).map(|id| id.device);
/// assert_eq!(net, Some(DeviceType::NET));
/// let rng = pci::identify(0x1044, 0x1af4, 0x1100).map(|id| id.device);
/// assert_eq!(rng, Some(DeviceType::RNG));
/// assert_eq!(pci::identify(0x1080, 0x1af4, 1), None);
/// ```
pub const fn identify(device: u16, subsystem_vendor: u16, subsystem: u16) -> Option<Identity> {
    let (id, generation) = match device {
        DEVICE_ID_FIRST..=0x103f => (subsystem, Generation::Transitional),
        MODERN_ID_FIRST..=DEVICE_ID_LAST => (device - MODERN_ID_FIRST, Generation::Modern),
        _ => return None,
    };
    Some(Identity {
        device: DeviceType::new(id as u32),
        vendor: subsystem_vendor as u32,
        generation,
    })
}

/// Vector that disables MSI-X for a queue or for configuration changes (section 4.1.5.1.2).
///
/// Read back after another vector was written, it says that the device could not use that one.
pub const MSI_NO_VECTOR: u16 = 0xffff;

/// The ISR status (section 4.1.4.5): one byte that reading clears.
pub mod isr {
    /// A queue has used buffers.
    pub const QUEUE: u8 = 1;
    /// The configuration changed, or the device needs a reset.
    pub const CONFIG: u8 = 2;
    /// What a device that is gone from the bus reads as.
    pub const ALL_ONES: u8 = 0xff;
}

/// Offsets into the common configuration, in bytes (section 4.1.4.3), `VIRTIO_PCI_COMMON_*` in C.
pub mod common {
    /// 32 bits, read-write: which 32 bits of `device_feature` to show.
    pub const DEVICE_FEATURE_SELECT: usize = 0;
    /// 32 bits, read-only: features that the device offers.
    pub const DEVICE_FEATURE: usize = 4;
    /// 32 bits, read-write: which 32 bits of `driver_feature` to show.
    pub const DRIVER_FEATURE_SELECT: usize = 8;
    /// 32 bits, read-write: features that the driver accepts.
    pub const DRIVER_FEATURE: usize = 12;
    /// 16 bits, read-write: MSI-X vector for configuration changes.
    pub const CONFIG_MSIX_VECTOR: usize = 16;
    /// 16 bits, read-only: number of queues, administration queues left out.
    pub const NUM_QUEUES: usize = 18;
    /// 8 bits, read-write: [`crate::Status`].
    pub const DEVICE_STATUS: usize = 20;
    /// 8 bits, read-only: changes with the device configuration (section 2.5.1).
    pub const CONFIG_GENERATION: usize = 21;
    /// 16 bits, read-write: the queue that the fields below are about.
    pub const QUEUE_SELECT: usize = 22;
    /// 16 bits, read-write: largest, then chosen, size of the queue; 0 if there is none.
    pub const QUEUE_SIZE: usize = 24;
    /// 16 bits, read-write: MSI-X vector of the queue.
    pub const QUEUE_MSIX_VECTOR: usize = 26;
    /// 16 bits, read-write: 1 enables the queue; 0 is never written.
    pub const QUEUE_ENABLE: usize = 28;
    /// 16 bits, read-only: see [`super::NotifyRegion::offset_for`].
    pub const QUEUE_NOTIFY_OFF: usize = 30;
    /// 64 bits, read-write in halves: bus address of the descriptor area.
    pub const QUEUE_DESC: usize = 32;
    /// 64 bits, read-write in halves: bus address of the driver area.
    pub const QUEUE_DRIVER: usize = 40;
    /// 64 bits, read-write in halves: bus address of the device area.
    pub const QUEUE_DEVICE: usize = 48;
    /// 16 bits, read-only, with `VIRTIO_F_NOTIF_CONFIG_DATA`: what a notification is to carry.
    pub const QUEUE_NOTIFY_DATA: usize = 56;
    /// 16 bits, read-write, with `VIRTIO_F_RING_RESET`: resets the queue.
    pub const QUEUE_RESET: usize = 58;
    /// 16 bits, read-only, with `VIRTIO_F_ADMIN_VQ`: index of the first administration queue.
    pub const ADMIN_QUEUE_INDEX: usize = 60;
    /// 16 bits, read-only, with `VIRTIO_F_ADMIN_VQ`: number of administration queues.
    pub const ADMIN_QUEUE_NUM: usize = 62;

    /// Length of what every device has, in bytes.
    pub const MIN_LEN: usize = 56;
    /// Length with every field of this specification, in bytes.
    pub const FULL_LEN: usize = 64;
}

/// The feature that needs a common configuration longer than the device has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommonCfgTooShort {
    /// Name of the feature.
    pub feature: &'static str,
    /// Length that the feature needs, in bytes.
    pub needed: usize,
    /// Length that the device has, in bytes.
    pub len: u64,
}

/// Whether a common configuration of `len` bytes has the fields of every feature in `agreed`.
///
/// # Errors
///
/// The first feature whose fields are missing: probing fails (`vp_check_common_size()` in C).
pub fn check_common_len(len: u64, agreed: Features) -> Result<(), CommonCfgTooShort> {
    const NEEDS: [(u32, &str, usize); 3] = [
        (
            transport::NotifConfigData::BIT,
            transport::NotifConfigData::NAME,
            58,
        ),
        (transport::RingReset::BIT, transport::RingReset::NAME, 60),
        (transport::AdminVq::BIT, transport::AdminVq::NAME, 64),
    ];
    for (bit, feature, needed) in NEEDS {
        if agreed.has_bit(bit) && len < needed as u64 {
            return Err(CommonCfgTooShort {
                feature,
                needed,
                len,
            });
        }
    }
    Ok(())
}

/// Largest queue (sections 2.7 and 2.8.10.1).
pub const QUEUE_SIZE_MAX: u16 = 32768;

/// Offsets into the I/O region of the legacy interface, BAR 0 (section 4.1.4.10).
pub mod legacy {
    /// 32 bits, read-only: features that the device offers.
    pub const DEVICE_FEATURES: usize = 0;
    /// 32 bits, read-write: features that the driver accepts.
    pub const DRIVER_FEATURES: usize = 4;
    /// 32 bits, read-write: page number of the queue; 0 takes it away.
    pub const QUEUE_PFN: usize = 8;
    /// 16 bits, read-only: size of the queue.
    pub const QUEUE_SIZE: usize = 12;
    /// 16 bits, read-write: the queue that the fields around are about.
    pub const QUEUE_SELECT: usize = 14;
    /// 16 bits, read-write: index of the queue to notify.
    pub const QUEUE_NOTIFY: usize = 16;
    /// 8 bits, read-write: [`crate::Status`].
    pub const DEVICE_STATUS: usize = 18;
    /// 8 bits, read-only, cleared by reading: [`super::isr`].
    pub const ISR_STATUS: usize = 19;
    /// 16 bits, read-write, only while MSI-X is enabled: vector for configuration changes.
    pub const CONFIG_MSIX_VECTOR: usize = 20;
    /// 16 bits, read-write, only while MSI-X is enabled: vector of the selected queue.
    pub const QUEUE_MSIX_VECTOR: usize = 22;

    /// Where the device configuration starts, in bytes: it moves with MSI-X.
    pub const fn device_config(msix_enabled: bool) -> usize {
        if msix_enabled {
            24
        } else {
            20
        }
    }

    /// Size of the page in [`QUEUE_PFN`], as a shift.
    pub const QUEUE_ADDR_SHIFT: u32 = 12;
    /// Alignment of the used ring, in bytes (section 2.7.2).
    pub const VRING_ALIGN: usize = 4096;
    /// Length of the header without MSI-X, in bytes.
    pub const MIN_LEN: usize = 20;
}

const _: () = {
    // The table of section 4.1.4.3, width by width.
    assert!(common::DEVICE_FEATURE == common::DEVICE_FEATURE_SELECT + 4);
    assert!(common::DRIVER_FEATURE_SELECT == common::DEVICE_FEATURE + 4);
    assert!(common::DRIVER_FEATURE == common::DRIVER_FEATURE_SELECT + 4);
    assert!(common::CONFIG_MSIX_VECTOR == common::DRIVER_FEATURE + 4);
    assert!(common::NUM_QUEUES == common::CONFIG_MSIX_VECTOR + 2);
    assert!(common::DEVICE_STATUS == common::NUM_QUEUES + 2);
    assert!(common::CONFIG_GENERATION == common::DEVICE_STATUS + 1);
    assert!(common::QUEUE_SELECT == common::CONFIG_GENERATION + 1);
    assert!(common::QUEUE_SIZE == common::QUEUE_SELECT + 2);
    assert!(common::QUEUE_MSIX_VECTOR == common::QUEUE_SIZE + 2);
    assert!(common::QUEUE_ENABLE == common::QUEUE_MSIX_VECTOR + 2);
    assert!(common::QUEUE_NOTIFY_OFF == common::QUEUE_ENABLE + 2);
    assert!(common::QUEUE_DESC == common::QUEUE_NOTIFY_OFF + 2);
    assert!(common::QUEUE_DRIVER == common::QUEUE_DESC + 8);
    assert!(common::QUEUE_DEVICE == common::QUEUE_DRIVER + 8);
    assert!(common::MIN_LEN == common::QUEUE_DEVICE + 8);
    assert!(common::QUEUE_NOTIFY_DATA == common::MIN_LEN);
    assert!(common::QUEUE_RESET == common::QUEUE_NOTIFY_DATA + 2);
    assert!(common::ADMIN_QUEUE_INDEX == common::QUEUE_RESET + 2);
    assert!(common::ADMIN_QUEUE_NUM == common::ADMIN_QUEUE_INDEX + 2);
    assert!(common::FULL_LEN == common::ADMIN_QUEUE_NUM + 2);
};
