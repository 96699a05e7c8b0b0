// SPDX-License-Identifier: GPL-2.0

//! Zones of a host-managed disk, as its device reports them, checked (section 5.2.6).
//!
//! C: `virtblk_report_zones`, `virtblk_parse_zone` in `drivers/block/virtio_blk.c`, and
//! `blk_revalidate_zone_cb` in `block/blk-zoned.c`.

use zerocopy::FromBytes;

use super::limits::Absurd;
use super::{ZoneDescriptor, ZoneReportHeader};

/// Bytes before the first descriptor of a report.
pub const HEADER_SIZE: usize = core::mem::size_of::<ZoneReportHeader>();

/// Bytes of a descriptor.
pub const DESCRIPTOR_SIZE: usize = core::mem::size_of::<ZoneDescriptor>();

/// Types of a zone (`VIRTIO_BLK_ZT_*` in C).
pub mod zone_type {
    /// Written anywhere.
    pub const CONVENTIONAL: u8 = 1;
    /// Written at its write pointer alone.
    pub const SEQUENTIAL_REQUIRED: u8 = 2;
    /// Better written at its write pointer; not on a host-managed disk.
    pub const SEQUENTIAL_PREFERRED: u8 = 3;
}

/// States of a zone (`VIRTIO_BLK_ZS_*` in C).
pub mod zone_state {
    /// The zone has no write pointer.
    pub const NOT_WP: u8 = 0;
    /// Nothing was written since the last reset.
    pub const EMPTY: u8 = 1;
    /// Open, since it was written to.
    pub const IMPLICITLY_OPEN: u8 = 2;
    /// Open, since the driver opened it.
    pub const EXPLICITLY_OPEN: u8 = 3;
    /// Closed, and neither empty nor full.
    pub const CLOSED: u8 = 4;
    /// Nothing can be written any more.
    pub const READ_ONLY: u8 = 13;
    /// Nothing can be written before a reset.
    pub const FULL: u8 = 14;
    /// Nothing can be read or written.
    pub const OFFLINE: u8 = 15;
}

/// What a zone is, and what was done to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Conventional: it has no write pointer.
    Conventional,
    /// Empty.
    Empty,
    /// Open, since it was written to.
    ImplicitlyOpen,
    /// Open, since the driver opened it.
    ExplicitlyOpen,
    /// Closed.
    Closed,
    /// Read-only.
    ReadOnly,
    /// Full.
    Full,
    /// Offline.
    Offline,
}

/// A zone.  Places and lengths are in sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zone {
    /// Its first sector.
    pub start: u64,
    /// Its length, not 0.
    pub len: u64,
    /// How much of it can be used, 1 to `len`.
    pub capacity: u64,
    /// What it is.
    pub condition: Condition,
    /// Where the next write goes, from `start` to its end; `None` where there is no such place.
    pub write_pointer: Option<u64>,
}

/// Where the zones of a disk are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Sectors of a zone, a power of two; the last zone of a disk may be shorter.
    pub zone_sectors: u32,
    /// Sectors of the disk.
    pub capacity: u64,
}

impl Grid {
    /// The first sector of the zone that has `sector`.
    pub fn start_of(&self, sector: u64) -> u64 {
        sector & !(u64::from(self.zone_sectors) - 1)
    }

    /// Makes a zone of a descriptor, of which is known that it is about the zone at `start`, which
    /// the disk has.
    ///
    /// # Errors
    ///
    /// The field that cannot be right.
    pub fn check(&self, start: u64, descriptor: &ZoneDescriptor) -> Result<Zone, Absurd> {
        let absurd = |field, value, expected| Absurd {
            field,
            value,
            expected,
        };
        let says = descriptor.z_start.get();
        if says != start || start >= self.capacity {
            return Err(absurd("z_start", says, "where the zone before it ends"));
        }
        let len = u64::from(self.zone_sectors).min(self.capacity - start);
        let end = start + len;
        let capacity = descriptor.z_cap.get();
        if !(1..=len).contains(&capacity) {
            return Err(absurd("z_cap", capacity, "what fits into the zone"));
        }
        let pointer = descriptor.z_wp.get();
        let (condition, write_pointer) = match descriptor.z_state {
            zone_state::NOT_WP => (Condition::Conventional, None),
            zone_state::EMPTY => (Condition::Empty, Some(pointer)),
            zone_state::IMPLICITLY_OPEN => (Condition::ImplicitlyOpen, Some(pointer)),
            zone_state::EXPLICITLY_OPEN => (Condition::ExplicitlyOpen, Some(pointer)),
            zone_state::CLOSED => (Condition::Closed, Some(pointer)),
            zone_state::READ_ONLY => (Condition::ReadOnly, None),
            // Whatever it says (C has that, too).
            zone_state::FULL => (Condition::Full, Some(end)),
            zone_state::OFFLINE => (Condition::Offline, None),
            state => return Err(absurd("z_state", state.into(), "one that there is")),
        };
        let wanted = if condition == Condition::Conventional {
            zone_type::CONVENTIONAL
        } else {
            zone_type::SEQUENTIAL_REQUIRED
        };
        if descriptor.z_type != wanted {
            return Err(absurd(
                "z_type",
                descriptor.z_type.into(),
                "conventional or sequential, as the state of the zone is",
            ));
        }
        if write_pointer.is_some_and(|pointer| !(start..=end).contains(&pointer)) {
            return Err(absurd("z_wp", pointer, "in the zone"));
        }
        if condition == Condition::Conventional && capacity != len {
            return Err(absurd("z_cap", capacity, "all of a conventional zone"));
        }
        Ok(Zone {
            start,
            len,
            capacity,
            condition,
            write_pointer,
        })
    }
}

/// Whether `sectors` that were appended to the zone of `zone_sectors` at `start` can have gone to
/// `sector`.
pub fn holds_append(start: u64, zone_sectors: u32, sector: u64, sectors: u32) -> bool {
    let last = u64::from(zone_sectors).checked_sub(sectors.into());
    matches!(
        (sector.checked_sub(start), last),
        (Some(offset), Some(last)) if offset <= last
    )
}

/// The descriptors of a report: as many as the device says that there are, and no more than there
/// are.
pub fn descriptors(report: &[u8]) -> impl Iterator<Item = ZoneDescriptor> + '_ {
    let (count, rest) = match ZoneReportHeader::read_from_prefix(report) {
        Ok((header, rest)) => (header.nr_zones.get(), rest),
        Err(_) => (0, [].as_slice()),
    };
    rest.chunks_exact(DESCRIPTOR_SIZE)
        .take(usize::try_from(count).unwrap_or(usize::MAX))
        .filter_map(|bytes| ZoneDescriptor::read_from_bytes(bytes).ok())
}
