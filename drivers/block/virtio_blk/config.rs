// SPDX-License-Identifier: GPL-2.0

//! The configuration of a disk, read once an event and checked (specification 5.2.4).
//!
//! C source: `virtblk_read_limits` in `drivers/block/virtio_blk.c`.

use crate::command::MAX_RANGES;
use block_mq::{
    Geometry,
    Limits,
    ZoneLimits, //
};
use kernel::prelude::*;
use virtio::device::Device;
use virtio_spec::{
    blk::{
        self,
        limits::{
            self,
            Environment, //
        },
        Config, //
    },
    Features, //
};

/// Bytes of the configuration that there are with `features`.
fn size(features: Features) -> usize {
    // Where the last field of each feature ends, the last feature first.
    let ends = [
        (features.has::<blk::Zoned>(), 96),
        (features.has::<blk::SecureErase>(), 72),
        (features.has::<blk::WriteZeroes>(), 60),
        (features.has::<blk::Discard>(), 48),
        (features.has::<blk::Mq>(), 36),
        (features.has::<blk::ConfigWce>(), 33),
        (features.has::<blk::Topology>(), 32),
        (features.has::<blk::BlkSize>(), 24),
        (features.has::<blk::Geometry>(), 20),
        (features.has::<blk::SegMax>(), 16),
        (features.has::<blk::SizeMax>(), 12),
    ];
    let end = ends.iter().find(|(has, _)| *has);
    end.map_or(8, |(_, end)| *end)
}

/// What a disk says of itself, checked.
pub(crate) struct Checked {
    pub(crate) limits: limits::Limits,
    pub(crate) geometry: Option<Geometry>,
}

/// Reads the configuration of `dev`, whose smallest queue has `queue_size` descriptors.  What cannot
/// be meant is logged, if it is to be `verbose`.  May sleep.
///
/// # Errors
///
/// `EIO` if it does not hold still, `EINVAL` if no disk can be like that.
pub(crate) fn read(dev: &Device, queue_size: u16, verbose: bool) -> Result<Checked> {
    let features = dev.features();
    let mut bytes = [0; size_of::<Config>()];
    let size = size(features);
    // Eight bytes by themselves are read at once.
    let (capacity, rest) = bytes.split_at_mut(8);
    dev.read_config(0, capacity)?;
    if let Some(rest) = rest.get_mut(..size - 8).filter(|rest| !rest.is_empty()) {
        dev.read_config(8, rest)?;
    }
    let config = Config::from_bytes(bytes);
    let environment = Environment {
        queue_size,
        max_block_size: kernel::page::PAGE_SIZE as u32,
        max_dma_size: dev.max_dma_size() as u64,
        zoned: cfg!(CONFIG_BLK_DEV_ZONED),
    };
    let (limits, notes) =
        limits::Limits::read(&config, features, &environment).map_err(|absurd| {
            if verbose {
                dev_err!(dev.as_device(), "{}\n", core::format_args!("{absurd}"));
            }
            EINVAL
        })?;
    for note in notes.iter().filter(|_| verbose) {
        dev_warn!(dev.as_device(), "{}\n", core::format_args!("{note}"));
    }
    let geometry = features.has::<blk::Geometry>().then(|| Geometry {
        cylinders: config.geometry.cylinders.get(),
        heads: config.geometry.heads,
        sectors: config.geometry.sectors,
    });
    Ok(Checked { limits, geometry })
}

/// The limits as the block layer wants them: it has one for the ranges of discards and erases.
pub(crate) fn block_limits(limits: &limits::Limits) -> Limits {
    let (discard, erase) = (limits.discard, limits.secure_erase);
    let ranges = [discard, erase].into_iter().flatten();
    let max_ranges = ranges.clone().map(|ranges| ranges.max_ranges).min();
    let granularity = ranges.map(|ranges| ranges.granularity).min();
    Limits {
        logical_block_size: limits.logical_block_size,
        physical_block_size: limits.physical_block_size,
        alignment_offset: limits.alignment_offset,
        io_min: limits.io_min,
        io_opt: limits.io_opt,
        max_segments: limits.max_segments,
        max_segment_size: limits.max_segment_size,
        max_discard_sectors: discard.map_or(0, |ranges| ranges.max_sectors),
        max_secure_erase_sectors: erase.map_or(0, |ranges| ranges.max_sectors),
        max_discard_segments: max_ranges.map_or(0, |count| count.min(MAX_RANGES)),
        discard_granularity: granularity.unwrap_or(0),
        max_write_zeroes_sectors: limits.write_zeroes.map_or(0, |ranges| {
            let count = ranges.max_ranges.min(MAX_RANGES);
            ranges.max_sectors.saturating_mul(count.into())
        }),
        write_cache: limits.write_cache,
        // As C says, and user space knows better.
        rotational: true,
        zones: limits.zones.map(|zones| ZoneLimits {
            sectors: zones.sectors,
            max_open: zones.max_open,
            max_active: zones.max_active,
            max_append_sectors: zones.max_append_sectors,
            write_granularity: zones.write_granularity,
        }),
    }
}

#[kunit_tests(virtio_blk_config)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_there_is_read() {
        let features = Features::EMPTY;
        assert_eq!(size(features), 8);
        assert_eq!(size(features.with::<blk::SegMax>()), 16);
        assert_eq!(size(features.with::<blk::Mq>().with::<blk::SegMax>()), 36);
        assert_eq!(size(features.with::<blk::Zoned>()), size_of::<Config>());
    }
}
