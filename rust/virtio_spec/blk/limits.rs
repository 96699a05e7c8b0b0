// SPDX-License-Identifier: GPL-2.0

//! What a disk says of itself, checked (section 5.2.4): every field of [`Config`] in one place.
//!
//! C: `virtblk_read_limits`, `init_vq`, `virtblk_get_cache_mode` in `drivers/block/virtio_blk.c`.
//!
//! A device may say anything.  What cannot be meant, and without which the disk works, is left
//! out or cut down, and becomes a [`Note`]; what the disk cannot work without is an [`Absurd`].

use super::{
    zone_model, BlkSize, Config, ConfigWce, Discard, Flush, Mq, Ro, SecureErase, SegMax, SizeMax,
    Topology, WriteZeroes, Zoned, SECTOR_SIZE,
};
use crate::features::Features;

pub use crate::notes::{Absurd, Note, Notes};

/// Largest capacity that is believed, in sectors: 8 EiB, what a signed 64-bit byte offset reaches.
pub const MAX_CAPACITY: u64 = 1 << 54;

/// Largest block, in bytes, that a Linux block device can have.
pub const MAX_BLOCK_SIZE: u32 = 1 << 16;

/// Largest physical block or granularity that is believed, in bytes.
const MAX_GRANULE: u64 = 1 << 30;

/// Smallest segment limit that a Linux block device can have, in bytes.
pub const MIN_SEGMENT_SIZE: u32 = 4096;

/// What the block layer takes for a segment limit that is not known, in bytes (C:
/// `BLK_MAX_SEGMENT_SIZE`).
const UNKNOWN_SEGMENT_SIZE: u32 = 1 << 16;

/// Ranges in one discard, write zeroes or secure erase command at most (C:
/// `MAX_DISCARD_SEGMENTS`).
pub const MAX_RANGES: u16 = 256;

/// Zones of a disk at most, so that a report of all ends in bounded time.
pub const MAX_ZONES: u64 = 1 << 24;

/// What a request takes of a ring beside its data: header and status.
const OVERHEAD: u16 = 2;

/// What is known of the rest of the system.
#[derive(Debug, Clone, Copy)]
pub struct Environment {
    /// Descriptors of the smallest request queue.
    pub queue_size: u16,
    /// Largest block that the kernel takes, in bytes: the page size, or [`MAX_BLOCK_SIZE`].
    pub max_block_size: u32,
    /// Largest mapping for DMA, in bytes.
    pub max_dma_size: u64,
    /// Whether the kernel can drive zoned disks.
    pub zoned: bool,
}

/// Limits of a command that takes ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranges {
    /// Sectors of a range at most; not 0.
    pub max_sectors: u32,
    /// Ranges in a command, 1 to [`MAX_RANGES`].
    pub max_ranges: u16,
    /// Alignment of a range in bytes, a multiple of the sector; 0 where the command has none.
    pub granularity: u32,
}

/// A host-managed zoned disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zones {
    /// Sectors of a zone, a power of two.
    pub sectors: u32,
    /// Open zones at most, 0 for no limit.
    pub max_open: u32,
    /// Active zones at most, 0 for no limit.
    pub max_active: u32,
    /// Sectors of a zone append at most; not 0, and not more than a zone has.
    pub max_append_sectors: u32,
    /// Granularity of writes in bytes, a power of two; not more than a zone has.
    pub write_granularity: u32,
}

/// What a disk is, as far as the block layer wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Sectors of 512 bytes, at most [`MAX_CAPACITY`].
    pub capacity: u64,
    /// The device refuses writes.
    pub read_only: bool,
    /// The device has a volatile write cache.
    pub write_cache: bool,
    /// Request queues, at least 1.
    pub num_queues: u16,
    /// Logical block in bytes, a power of two.
    pub logical_block_size: u32,
    /// Physical block in bytes, a power of two, no smaller than a logical one.
    pub physical_block_size: u32,
    /// Offset of the first aligned block in bytes, less than a physical block.
    pub alignment_offset: u32,
    /// Smallest I/O that the device likes, in bytes; 0 if it does not say.
    pub io_min: u32,
    /// Largest I/O that the device likes, in bytes; 0 if it does not say.
    pub io_opt: u32,
    /// Data segments of a request, at least 1, and room for header and status in the ring.
    pub max_segments: u16,
    /// Bytes of a segment, at least [`MIN_SEGMENT_SIZE`].
    pub max_segment_size: u32,
    /// Discard, if the device does it.
    pub discard: Option<Ranges>,
    /// Write zeroes, if the device does it.
    pub write_zeroes: Option<Ranges>,
    /// Whether write zeroes may deallocate.
    pub write_zeroes_may_unmap: bool,
    /// Secure erase, if the device does it.
    pub secure_erase: Option<Ranges>,
    /// Zones of a host-managed disk.
    pub zones: Option<Zones>,
}

impl Limits {
    /// Reads `config`, of which `features` say what is there.
    ///
    /// # Errors
    ///
    /// The field that makes the disk unusable.
    pub fn read(
        config: &Config,
        features: Features,
        environment: &Environment,
    ) -> Result<(Self, Notes), Absurd> {
        let mut notes = Notes::default();
        let logical = logical_block_size(config, features, environment, &mut notes)?;
        let (mut physical, alignment_offset, mut io_min, io_opt) =
            topology(config, features, logical, &mut notes);
        let capacity = capacity(config)?;
        let zones = zones(
            config,
            features,
            environment,
            (capacity, logical),
            &mut notes,
        )?;
        if let Some(zones) = &zones {
            // As C has it.
            physical = zones.write_granularity.max(logical);
            io_min = physical;
        }
        let alignment_offset = alignment_offset & (physical - 1);
        let limits = Self {
            capacity,
            read_only: features.has::<Ro>(),
            write_cache: write_cache(config, features, &mut notes),
            num_queues: num_queues(config, features)?,
            logical_block_size: logical,
            physical_block_size: physical,
            alignment_offset,
            io_min,
            io_opt,
            max_segments: max_segments(config, features, environment, &mut notes)?,
            max_segment_size: max_segment_size(config, features, environment, &mut notes)?,
            discard: discard(config, features, zones.is_some(), logical, &mut notes),
            write_zeroes: write_zeroes(config, features, &mut notes),
            write_zeroes_may_unmap: features.has::<WriteZeroes>()
                && config.write_zeroes_may_unmap != 0,
            secure_erase: secure_erase(config, features, &mut notes),
            zones,
        };
        Ok((limits, notes))
    }
}

fn capacity(config: &Config) -> Result<u64, Absurd> {
    let value = config.capacity.get();
    if value > MAX_CAPACITY {
        return Err(Absurd {
            field: "capacity",
            value,
            expected: "at most 2^54 sectors",
        });
    }
    Ok(value)
}

/// Writable caches say their mode; else there is one if it can be flushed (section 5.2.5.2).
fn write_cache(config: &Config, features: Features, notes: &mut Notes) -> bool {
    if !features.has::<ConfigWce>() {
        return features.has::<Flush>();
    }
    if config.writeback > 1 {
        notes.instead("writeback", config.writeback, 1_u8);
    }
    config.writeback != 0
}

fn num_queues(config: &Config, features: Features) -> Result<u16, Absurd> {
    if !features.has::<Mq>() {
        return Ok(1);
    }
    match config.num_queues.get() {
        0 => Err(Absurd {
            field: "num_queues",
            value: 0,
            expected: "at least 1",
        }),
        count => Ok(count),
    }
}

fn logical_block_size(
    config: &Config,
    features: Features,
    environment: &Environment,
    notes: &mut Notes,
) -> Result<u32, Absurd> {
    if !features.has::<BlkSize>() {
        return Ok(SECTOR_SIZE);
    }
    let size = config.blk_size.get();
    if size == 0 {
        notes.instead("blk_size", size, SECTOR_SIZE);
        return Ok(SECTOR_SIZE);
    }
    let most = environment.max_block_size.min(MAX_BLOCK_SIZE);
    if !size.is_power_of_two() || !(SECTOR_SIZE..=most).contains(&size) {
        return Err(Absurd {
            field: "blk_size",
            value: size.into(),
            expected: "a power of two from 512 up to what the kernel takes",
        });
    }
    Ok(size)
}

/// Physical block, alignment offset, least and best size of an I/O, all in bytes.
fn topology(
    config: &Config,
    features: Features,
    logical: u32,
    notes: &mut Notes,
) -> (u32, u32, u32, u32) {
    if !features.has::<Topology>() {
        return (logical, 0, 0, 0);
    }
    let says = &config.topology;

    let exponent = says.physical_block_exp;
    let physical = u64::from(logical).checked_shl(exponent.into());
    // Beyond 63 bits the shift loses the block.
    let physical = match physical.filter(|size| exponent < 32 && *size <= MAX_GRANULE) {
        Some(size) => size as u32,
        None => {
            notes.instead("physical_block_exp", exponent, 0_u8);
            logical
        }
    };

    let offset = u64::from(says.alignment_offset) * u64::from(logical);
    let offset = if offset < u64::from(physical) {
        offset as u32
    } else {
        notes.instead("alignment_offset", says.alignment_offset, 0_u8);
        0
    };

    let blocks = MAX_GRANULE / u64::from(logical);
    let io_min = notes.at_most("min_io_size", says.min_io_size.get().into(), blocks);
    let io_opt = notes.at_most("opt_io_size", says.opt_io_size.get().into(), blocks);
    let bytes = |count: u64| (count * u64::from(logical)) as u32;
    (physical, offset, bytes(io_min), bytes(io_opt))
}

/// A chain may be no longer than its queue, an indirect one neither (section 2.7.5.3.1).
fn max_segments(
    config: &Config,
    features: Features,
    environment: &Environment,
    notes: &mut Notes,
) -> Result<u16, Absurd> {
    let room = environment.queue_size.saturating_sub(OVERHEAD);
    if room == 0 {
        return Err(Absurd {
            field: "queue_size",
            value: environment.queue_size.into(),
            expected: "at least 3",
        });
    }
    if !features.has::<SegMax>() {
        return Ok(1);
    }
    match config.seg_max.get() {
        0 => {
            notes.instead("seg_max", 0_u32, 1_u32);
            Ok(1)
        }
        // At most `room`, which has 16 bits.
        count => Ok(notes.at_most("seg_max", count.into(), room.into()) as u16),
    }
}

fn max_segment_size(
    config: &Config,
    features: Features,
    environment: &Environment,
    notes: &mut Notes,
) -> Result<u32, Absurd> {
    let dma = u32::try_from(environment.max_dma_size).unwrap_or(u32::MAX);
    if dma < MIN_SEGMENT_SIZE {
        return Err(Absurd {
            field: "largest DMA mapping",
            value: dma.into(),
            expected: "at least 4096",
        });
    }
    if !features.has::<SizeMax>() {
        return Ok(dma);
    }
    let size = config.size_max.get();
    if size == 0 {
        // What `qemu-storage-daemon` says.
        let used = UNKNOWN_SEGMENT_SIZE.min(dma);
        notes.instead("size_max", size, used);
        return Ok(used);
    }
    if size < MIN_SEGMENT_SIZE {
        return Err(Absurd {
            field: "size_max",
            value: size.into(),
            expected: "at least 4096",
        });
    }
    Ok(size.min(dma))
}

/// As many sectors as the field says, or no limit.
fn sectors(says: u32) -> u32 {
    if says == 0 {
        u32::MAX
    } else {
        says
    }
}

/// As many ranges as the field says, at least 1.
fn ranges(says: u32) -> u16 {
    says.clamp(1, MAX_RANGES.into()) as u16
}

/// An alignment of so many sectors, in bytes; `None` if it cannot be meant.
fn granularity(says: u32) -> Option<u32> {
    let bytes = u64::from(says) * u64::from(SECTOR_SIZE);
    // At most `MAX_GRANULE`, which has 31 bits.
    (bytes <= MAX_GRANULE).then_some(bytes as u32)
}

fn discard(
    config: &Config,
    features: Features,
    zoned: bool,
    logical: u32,
    notes: &mut Notes,
) -> Option<Ranges> {
    if !features.has::<Discard>() {
        return None;
    }
    let says = config.max_discard_sectors.get();
    if zoned {
        // Not to be offered by such a disk (section 5.2.3).
        notes.without("max_discard_sectors", says);
        return None;
    }
    let alignment = config.discard_sector_alignment.get();
    let granularity = match granularity(alignment) {
        Some(0) => logical,
        Some(bytes) => bytes,
        None => {
            notes.instead("discard_sector_alignment", alignment, logical / SECTOR_SIZE);
            logical
        }
    };
    let max_ranges = match config.max_discard_seg.get() {
        // No limit; C takes that of data segments.
        0 => MAX_RANGES,
        count => ranges(count),
    };
    Some(Ranges {
        max_sectors: sectors(says),
        max_ranges,
        granularity,
    })
}

fn write_zeroes(config: &Config, features: Features, notes: &mut Notes) -> Option<Ranges> {
    if !features.has::<WriteZeroes>() {
        return None;
    }
    let says = config.max_write_zeroes_seg.get();
    if says == 0 {
        notes.instead("max_write_zeroes_seg", says, 1_u32);
    }
    Some(Ranges {
        max_sectors: sectors(config.max_write_zeroes_sectors.get()),
        max_ranges: ranges(says),
        granularity: 0,
    })
}

/// Its limits must not be 0 (section 5.2.4); C gives the whole disk up for that.
fn secure_erase(config: &Config, features: Features, notes: &mut Notes) -> Option<Ranges> {
    if !features.has::<SecureErase>() {
        return None;
    }
    let max_sectors = config.max_secure_erase_sectors.get();
    let max_ranges = config.max_secure_erase_seg.get();
    let alignment = config.secure_erase_sector_alignment.get();
    let bytes = granularity(alignment).filter(|bytes| *bytes != 0);
    for (field, value, usable) in [
        ("max_secure_erase_sectors", max_sectors, max_sectors != 0),
        ("max_secure_erase_seg", max_ranges, max_ranges != 0),
        ("secure_erase_sector_alignment", alignment, bytes.is_some()),
    ] {
        if !usable {
            notes.without(field, value);
            return None;
        }
    }
    Some(Ranges {
        max_sectors,
        max_ranges: ranges(max_ranges),
        granularity: bytes?,
    })
}

fn zones(
    config: &Config,
    features: Features,
    environment: &Environment,
    (capacity, logical): (u64, u32),
    notes: &mut Notes,
) -> Result<Option<Zones>, Absurd> {
    if !features.has::<Zoned>() {
        return Ok(None);
    }
    let says = &config.zoned;
    let absurd = |field, value: u32, expected| Absurd {
        field,
        value: value.into(),
        expected,
    };
    match says.model {
        // A host-aware disk is a plain one to who does not look at its zones.
        zone_model::NONE | zone_model::HOST_AWARE => return Ok(None),
        zone_model::HOST_MANAGED if environment.zoned => {}
        zone_model::HOST_MANAGED => {
            return Err(absurd("zoned.model", 1, "one that this kernel can drive"));
        }
        model => return Err(absurd("zoned.model", model.into(), "one of 0, 1 and 2")),
    }
    let sectors = says.zone_sectors.get();
    // The block layer wants it.
    let bytes = u64::from(sectors) * u64::from(SECTOR_SIZE);
    if !sectors.is_power_of_two() || bytes < logical.into() {
        return Err(absurd(
            "zoned.zone_sectors",
            sectors,
            "a power of two, at least a block",
        ));
    }
    if capacity.div_ceil(sectors.into()) > MAX_ZONES {
        return Err(absurd(
            "zoned.zone_sectors",
            sectors,
            "so many that there are at most 2^24 zones",
        ));
    }
    let write_granularity = says.write_granularity.get();
    if !write_granularity.is_power_of_two()
        || write_granularity < SECTOR_SIZE
        || u64::from(write_granularity) > bytes.min(MAX_GRANULE)
    {
        return Err(absurd(
            "zoned.write_granularity",
            write_granularity,
            "a power of two, at least 512, at most a zone",
        ));
    }
    let append = says.max_append_sectors.get();
    if u64::from(append) * u64::from(SECTOR_SIZE) < write_granularity.into() {
        return Err(absurd(
            "zoned.max_append_sectors",
            append,
            "at least a write granularity",
        ));
    }
    let max_active = says.max_active_zones.get();
    let mut max_open = says.max_open_zones.get();
    if max_active != 0 && max_open > max_active {
        notes.instead("zoned.max_open_zones", max_open, max_active);
        max_open = max_active;
    }
    Ok(Some(Zones {
        sectors,
        max_open,
        max_active,
        max_append_sectors: append.min(sectors),
        write_granularity,
    }))
}
