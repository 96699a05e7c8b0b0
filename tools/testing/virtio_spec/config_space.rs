// SPDX-License-Identifier: GPL-2.0

//! Builds PCI configuration spaces for the tests and the fuzz target of capability parsing.

use virtio_spec::pci::{BarInfo, BarKind, Capabilities, Region};

/// The BARs of the function under test: memory, absent, I/O, empty, large memory, absent.
pub const BARS: [Option<BarInfo>; 6] = [
    Some(BarInfo {
        len: 0x4000,
        kind: BarKind::Mem,
    }),
    None,
    Some(BarInfo {
        len: 0x100,
        kind: BarKind::Io,
    }),
    Some(BarInfo {
        len: 0,
        kind: BarKind::Mem,
    }),
    Some(BarInfo {
        len: 0x2_0000_0000,
        kind: BarKind::Mem,
    }),
    None,
];

/// One capability to be laid out.
#[derive(Debug, Clone, Default)]
pub struct Cap {
    /// PCI capability id; 9 is a vendor capability.
    pub id: u8,
    /// `cfg_type`.
    pub cfg_type: u8,
    /// `bar`.
    pub bar: u8,
    /// `id` of `struct virtio_pci_cap`.
    pub shm_id: u8,
    /// `offset`.
    pub offset: u32,
    /// `length`.
    pub length: u32,
    /// What follows `length`: the multiplier, or the upper halves of a cap64.
    pub tail: Vec<u8>,
    /// `cap_len`, where it is to be a lie.
    pub cap_len: Option<u8>,
}

impl Cap {
    /// A vendor capability of type `cfg_type`.
    #[must_use]
    pub fn new(cfg_type: u8, bar: u8, offset: u32, length: u32) -> Self {
        Self {
            id: 9,
            cfg_type,
            bar,
            offset,
            length,
            ..Self::default()
        }
    }

    /// A notification capability with multiplier `multiplier`.
    #[must_use]
    pub fn notify(bar: u8, offset: u32, length: u32, multiplier: u32) -> Self {
        Self {
            tail: multiplier.to_le_bytes().to_vec(),
            ..Self::new(2, bar, offset, length)
        }
    }

    /// A shared memory capability of region `shm_id`.
    #[must_use]
    pub fn shared_memory(shm_id: u8, bar: u8, offset: u64, length: u64) -> Self {
        let [offset_high, length_high] = [(offset >> 32) as u32, (length >> 32) as u32];
        Self {
            shm_id,
            tail: [offset_high.to_le_bytes(), length_high.to_le_bytes()].concat(),
            ..Self::new(8, bar, offset as u32, length as u32)
        }
    }

    /// The same with a `cap_len` that does not match.
    #[must_use]
    pub fn with_cap_len(self, cap_len: u8) -> Self {
        Self {
            cap_len: Some(cap_len),
            ..self
        }
    }

    fn bytes(&self, next: u8) -> Vec<u8> {
        let len = 16 + self.tail.len() as u8;
        let mut bytes = vec![self.id, next, self.cap_len.unwrap_or(len), self.cfg_type];
        bytes.extend([self.bar, self.shm_id, 0, 0]);
        bytes.extend(self.offset.to_le_bytes());
        bytes.extend(self.length.to_le_bytes());
        bytes.extend(&self.tail);
        bytes
    }
}

/// The capabilities of an ordinary device: common, notify, ISR and device configuration in BAR 0.
#[must_use]
pub fn ordinary() -> Vec<Cap> {
    vec![
        Cap::new(1, 0, 0x0000, 0x1000),
        Cap::new(3, 0, 0x1000, 0x1000),
        Cap::new(4, 0, 0x2000, 0x1000),
        Cap::notify(0, 0x3000, 0x1000, 4),
    ]
}

/// A configuration space with `caps` in this order; those that do not fit are left out.
#[must_use]
pub fn config_space(caps: &[Cap]) -> [u8; 256] {
    let mut cfg = [0; 256];
    cfg[6] = 0x10;
    let mut link = 0x34;
    let mut position = 0x40;
    for cap in caps {
        let bytes = cap.bytes(0);
        let Some(room) = cfg.get_mut(position..position + bytes.len()) else {
            break;
        };
        room.copy_from_slice(&bytes);
        cfg[link] = position as u8;
        link = position + 1;
        position = (position + bytes.len() + 3) & !3;
    }
    cfg
}

/// What must hold for whatever the parser accepts.
///
/// # Panics
///
/// If it does not hold.
pub fn assert_sound(found: &Capabilities, bars: &[Option<BarInfo>; 6]) {
    assert_inside(&found.common, 56, bars);
    assert_inside(&found.notify.region, 2, bars);
    assert_inside(&found.isr, 1, bars);
    assert_eq!(
        found.common.offset() % 4,
        0,
        "common configuration is not aligned"
    );
    assert_eq!(
        found.notify.region.offset() % 2,
        0,
        "notifications are not aligned"
    );
    if let Some(device) = &found.device {
        assert_inside(device, 1, bars);
        assert_eq!(
            device.offset() % 4,
            0,
            "device configuration is not aligned"
        );
    }
    for memory in found.shared_memory() {
        assert_inside(&memory.region, 1, bars);
        let same = found
            .shared_memory()
            .filter(|other| other.id == memory.id)
            .count();
        assert_eq!(same, 1, "shared memory id {} twice", memory.id);
    }
    for data in found.vendor_data() {
        let end = usize::from(data.position) + usize::from(data.len);
        assert!(
            data.position >= 64 && end <= 256,
            "vendor data outside config space"
        );
    }
    if let Some(position) = found.pci_cfg {
        assert!(
            (64..=256 - 20).contains(&usize::from(position)),
            "window outside config space"
        );
    }
    for off in [0, 1, 2, 255, 0x7fff, u16::MAX] {
        for width in [2, 4] {
            if let Ok(at) = found
                .notify
                .offset_for(virtio_spec::Untrusted::new(off), width)
            {
                let region = &found.notify.region;
                assert_eq!(at, u64::from(off) * u64::from(found.notify.multiplier));
                assert!(
                    at + width <= region.length(),
                    "notification outside its structure"
                );
                assert_eq!(
                    (region.offset() + at) % width,
                    0,
                    "notification not aligned"
                );
            }
        }
    }
}

fn assert_inside(region: &Region, min_len: u64, bars: &[Option<BarInfo>; 6]) {
    let bar = bars[usize::from(region.bar())].expect("region in a BAR that is absent");
    let end = region
        .offset()
        .checked_add(region.length())
        .expect("region wraps");
    assert!(end <= bar.len, "region {region:?} outside its BAR {bar:?}");
    assert!(region.length() >= min_len, "region {region:?} too short");
}
