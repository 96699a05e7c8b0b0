// SPDX-License-Identifier: GPL-2.0

//! What a disk can take.
//!
//! C header: [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h), `struct queue_limits`.

use virtio_bindings as bindings;

/// The zones of a disk that is written to in order; in sectors of 512 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneLimits {
    /// Sectors of a zone, a power of two.
    pub sectors: u32,
    /// Open zones, 0 for no limit.
    pub max_open: u32,
    /// Active zones, 0 for no limit.
    pub max_active: u32,
    /// Sectors of a zone append, not 0.
    pub max_append_sectors: u32,
    /// Granularity of writes in bytes, at most a physical block.
    pub write_granularity: u32,
}

/// The limits of a disk.  Sizes are in bytes unless they say sectors, which have 512 bytes; 0 where a
/// disk has no such thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Logical block, a power of two from 512.
    pub logical_block_size: u32,
    /// Physical block, a power of two, at least a logical one.
    pub physical_block_size: u32,
    /// Offset of the first aligned block.
    pub alignment_offset: u32,
    /// Smallest I/O that the disk likes.
    pub io_min: u32,
    /// Largest I/O that the disk likes.
    pub io_opt: u32,
    /// Segments of a request.
    pub max_segments: u16,
    /// Bytes of a segment, at least 4096.
    pub max_segment_size: u32,
    /// Sectors of a discard.
    pub max_discard_sectors: u32,
    /// Sectors of a secure erase.
    pub max_secure_erase_sectors: u32,
    /// Ranges of a discard or an erase.
    pub max_discard_segments: u16,
    /// Granularity of a discard.
    pub discard_granularity: u32,
    /// Sectors of a write of zeroes.
    pub max_write_zeroes_sectors: u32,
    /// Whether there is a volatile cache, to be flushed.
    pub write_cache: bool,
    /// Whether seeking is slow.
    pub rotational: bool,
    /// Zones, if the disk has any: once and for all.
    pub zones: Option<ZoneLimits>,
}

impl Limits {
    /// Writes them to what C has.
    pub(crate) fn apply(&self, to: &mut bindings::queue_limits) {
        to.logical_block_size = self.logical_block_size;
        to.physical_block_size = self.physical_block_size;
        to.alignment_offset = self.alignment_offset;
        to.io_min = self.io_min;
        to.io_opt = self.io_opt;
        to.max_segments = self.max_segments;
        to.max_segment_size = self.max_segment_size;
        // What fits into the segments.
        to.max_hw_sectors = u32::MAX;
        to.max_hw_discard_sectors = self.max_discard_sectors;
        to.max_secure_erase_sectors = self.max_secure_erase_sectors;
        to.max_discard_segments = self.max_discard_segments;
        to.discard_granularity = self.discard_granularity;
        to.max_write_zeroes_sectors = self.max_write_zeroes_sectors;
        to.max_hw_wzeroes_unmap_sectors = 0;
        let mut set = |feature: bindings::blk_features_t, on: bool| {
            if on {
                to.features |= feature;
            } else {
                to.features &= !feature;
            }
        };
        set(bindings::VIRTIO_BLK_FEAT_WRITE_CACHE, self.write_cache);
        set(bindings::VIRTIO_BLK_FEAT_ROTATIONAL, self.rotational);
    }

    /// Writes the zones to what C has: of a new disk, since the block layer makes more of them later.
    pub(crate) fn apply_zones(&self, to: &mut bindings::queue_limits) {
        if let Some(zones) = &self.zones {
            to.features |= bindings::VIRTIO_BLK_FEAT_ZONED;
            to.chunk_sectors = zones.sectors;
            to.max_open_zones = zones.max_open;
            to.max_active_zones = zones.max_active;
            to.max_hw_zone_append_sectors = zones.max_append_sectors;
            to.zone_write_granularity = zones.write_granularity;
        }
    }
}
