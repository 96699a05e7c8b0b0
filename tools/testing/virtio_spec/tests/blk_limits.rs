// SPDX-License-Identifier: GPL-2.0

//! Section 5.2.4: what a disk says of itself, and what is made of it.

mod common;

use proptest::prelude::*;
use virtio_spec::blk::limits::{
    Absurd, Environment, Limits, Notes, Ranges, Zones, MAX_CAPACITY, MAX_RANGES, MAX_ZONES,
    MIN_SEGMENT_SIZE,
};
use virtio_spec::blk::{
    BlkSize, Config, ConfigWce, Discard, Flush, Mq, Ro, SecureErase, SegMax, SizeMax, Topology,
    WriteZeroes, Zoned,
};
use virtio_spec::Features;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

const ENVIRONMENT: Environment = Environment {
    queue_size: 256,
    max_block_size: 1 << 16,
    max_dma_size: u64::MAX,
    zoned: true,
};

/// The limits of an empty configuration with FEATURES, after CHANGE.
fn read(
    features: Features,
    change: impl FnOnce(&mut Config),
) -> Result<(Limits, Vec<String>), Absurd> {
    let mut config = Config::new_zeroed();
    change(&mut config);
    Limits::read(&config, features, &ENVIRONMENT).map(|(limits, notes)| (limits, strings(&notes)))
}

/// What a test does to a configuration.
type Change<'a> = &'a dyn Fn(&mut Config);

fn strings(notes: &Notes) -> Vec<String> {
    notes.iter().map(ToString::to_string).collect()
}

fn none() -> Features {
    Features::EMPTY
}

#[test]
fn a_disk_that_says_nothing() {
    let (limits, notes) = read(none(), |_| {}).unwrap();
    assert_eq!(
        limits,
        Limits {
            capacity: 0,
            read_only: false,
            write_cache: false,
            num_queues: 1,
            logical_block_size: 512,
            physical_block_size: 512,
            alignment_offset: 0,
            io_min: 0,
            io_opt: 0,
            max_segments: 1,
            max_segment_size: u32::MAX,
            discard: None,
            write_zeroes: None,
            write_zeroes_may_unmap: false,
            secure_erase: None,
            zones: None,
        }
    );
    assert!(notes.is_empty());
}

#[test]
fn fields_without_their_feature_are_not_looked_at() {
    let mut config = Config::new_zeroed();
    config.as_mut_bytes()[8..].fill(0xff);
    let (limits, notes) = Limits::read(&config, none(), &ENVIRONMENT).unwrap();
    assert_eq!(limits, read(none(), |_| {}).unwrap().0);
    assert_eq!(notes.iter().count(), 0);
}

#[test]
fn capacity_has_an_end() {
    let capacity = |value: u64| read(none(), |config| config.capacity.set(value));
    assert_eq!(capacity(1 << 54).unwrap().0.capacity, MAX_CAPACITY);
    for value in [MAX_CAPACITY + 1, 1 << 60, u64::MAX] {
        assert_eq!(capacity(value).unwrap_err().field, "capacity");
    }
    assert_eq!(
        capacity(1 << 60).unwrap_err().to_string(),
        "capacity is 1152921504606846976, not at most 2^54 sectors"
    );
}

#[test]
fn a_block_is_a_power_of_two() {
    let size = |value: u32| {
        read(none().with::<BlkSize>(), |config| {
            config.blk_size.set(value)
        })
    };
    for good in [512, 4096, 1 << 16] {
        assert_eq!(size(good).unwrap().0.logical_block_size, good);
    }
    for bad in [1, 3, 256, 513, 1 << 17, u32::MAX] {
        assert_eq!(size(bad).unwrap_err().field, "blk_size");
    }
    let (limits, notes) = size(0).unwrap();
    assert_eq!(limits.logical_block_size, 512);
    assert_eq!(notes, ["blk_size is 0: 512 is used"]);
}

#[test]
fn a_block_is_no_larger_than_the_kernel_takes() {
    let environment = Environment {
        max_block_size: 4096,
        ..ENVIRONMENT
    };
    let mut config = Config::new_zeroed();
    config.blk_size.set(8192);
    let absurd = Limits::read(&config, none().with::<BlkSize>(), &environment).unwrap_err();
    assert_eq!((absurd.field, absurd.value), ("blk_size", 8192));
}

#[test]
fn topology_in_bytes() {
    let features = none().with::<Topology>().with::<BlkSize>();
    let (limits, notes) = read(features, |config| {
        config.blk_size.set(512);
        config.topology.physical_block_exp = 3;
        config.topology.alignment_offset = 7;
        config.topology.min_io_size.set(8);
        config.topology.opt_io_size.set(2048);
    })
    .unwrap();
    assert_eq!(limits.physical_block_size, 4096);
    assert_eq!(limits.alignment_offset, 3584);
    assert_eq!((limits.io_min, limits.io_opt), (4096, 1 << 20));
    assert!(notes.is_empty());
}

#[test]
fn absurd_topology_is_left_out() {
    for exponent in [22, 31, 32, 63, 64, 255] {
        let (limits, notes) = read(none().with::<Topology>(), |config| {
            config.topology.physical_block_exp = exponent;
        })
        .unwrap();
        assert_eq!(limits.physical_block_size, 512, "exponent {exponent}");
        assert_eq!(notes.len(), 1);
    }
    let (limits, notes) = read(none().with::<Topology>(), |config| {
        config.topology.alignment_offset = 1;
        config.topology.min_io_size.set(u16::MAX);
        config.topology.opt_io_size.set(u32::MAX);
    })
    .unwrap();
    assert_eq!(limits.alignment_offset, 0);
    assert_eq!(limits.io_min, 65535 * 512);
    assert_eq!(limits.io_opt, 1 << 30);
    assert_eq!(notes.len(), 2);
}

#[test]
fn a_chain_fits_its_queue() {
    let segments = |value: u32| read(none().with::<SegMax>(), |config| config.seg_max.set(value));
    assert_eq!(segments(0).unwrap().0.max_segments, 1);
    assert_eq!(segments(254).unwrap().0.max_segments, 254);
    assert_eq!(segments(254).unwrap().1.len(), 0);
    for more in [255, 65536, 65537, u32::MAX] {
        let (limits, notes) = segments(more).unwrap();
        assert_eq!(limits.max_segments, 254);
        assert_eq!(notes, [format!("seg_max is {more}: 254 is used")]);
    }
    for (queue_size, max_segments) in [(0, None), (2, None), (3, Some(1)), (32768, Some(32766))] {
        let environment = Environment {
            queue_size,
            ..ENVIRONMENT
        };
        let mut config = Config::new_zeroed();
        config.seg_max.set(u32::MAX);
        let read = Limits::read(&config, none().with::<SegMax>(), &environment);
        assert_eq!(
            read.ok().map(|(limits, _)| limits.max_segments),
            max_segments
        );
    }
}

#[test]
fn a_segment_holds_a_page() {
    let size = |value: u32| {
        read(none().with::<SizeMax>(), |config| {
            config.size_max.set(value)
        })
    };
    assert_eq!(size(4096).unwrap().0.max_segment_size, 4096);
    assert_eq!(size(u32::MAX).unwrap().0.max_segment_size, u32::MAX);
    // Said by a device that means none.
    let (limits, notes) = size(0).unwrap();
    assert_eq!(limits.max_segment_size, 1 << 16);
    assert_eq!(notes, ["size_max is 0: 65536 is used"]);
    for bad in [1, 4095] {
        assert_eq!(size(bad).unwrap_err().field, "size_max");
    }
    for (max_dma_size, expected) in [(1 << 18, Some(1 << 18)), (4095, None)] {
        let environment = Environment {
            max_dma_size,
            ..ENVIRONMENT
        };
        let read = Limits::read(&Config::new_zeroed(), none(), &environment);
        assert_eq!(
            read.ok().map(|(limits, _)| limits.max_segment_size),
            expected
        );
    }
}

#[test]
fn the_cache_is_on_or_off() {
    let cache = |features, value| read(features, |config| config.writeback = value).unwrap();
    assert!(!cache(none(), 1).0.write_cache);
    assert!(cache(none().with::<Flush>(), 0).0.write_cache);
    let wce = none().with::<Flush>().with::<ConfigWce>();
    assert!(!cache(wce, 0).0.write_cache);
    assert!(cache(wce, 1).0.write_cache);
    assert!(cache(wce, 1).1.is_empty());
    let (limits, notes) = cache(wce, 2);
    assert!(limits.write_cache);
    assert_eq!(notes, ["writeback is 2: 1 is used"]);
}

#[test]
fn there_is_a_queue() {
    let queues = |value: u16| read(none().with::<Mq>(), |config| config.num_queues.set(value));
    assert_eq!(queues(0).unwrap_err().field, "num_queues");
    assert_eq!(queues(65535).unwrap().0.num_queues, 65535);
    assert!(read(none().with::<Ro>(), |_| {}).unwrap().0.read_only);
}

#[test]
fn commands_with_ranges() {
    let (limits, notes) = read(none().with::<Discard>(), |_| {}).unwrap();
    assert_eq!(
        limits.discard,
        Some(Ranges {
            max_sectors: u32::MAX,
            max_ranges: MAX_RANGES,
            granularity: 512,
        })
    );
    assert!(notes.is_empty());

    let (limits, _) = read(none().with::<WriteZeroes>(), |config| {
        config.max_write_zeroes_sectors.set(2048);
        config.max_write_zeroes_seg.set(4000);
        config.write_zeroes_may_unmap = 1;
    })
    .unwrap();
    assert_eq!(
        limits.write_zeroes,
        Some(Ranges {
            max_sectors: 2048,
            max_ranges: MAX_RANGES,
            granularity: 0,
        })
    );
    assert!(limits.write_zeroes_may_unmap);

    let erase = |sectors: u32, ranges: u32, alignment: u32| {
        read(none().with::<SecureErase>(), |config| {
            config.max_secure_erase_sectors.set(sectors);
            config.max_secure_erase_seg.set(ranges);
            config.secure_erase_sector_alignment.set(alignment);
        })
        .unwrap()
    };
    assert_eq!(
        erase(8, 2, 4).0.secure_erase,
        Some(Ranges {
            max_sectors: 8,
            max_ranges: 2,
            granularity: 2048,
        })
    );
    for (sectors, ranges, alignment) in [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, u32::MAX)] {
        let (limits, notes) = erase(sectors, ranges, alignment);
        assert_eq!(limits.secure_erase, None);
        assert_eq!(notes.len(), 1, "{notes:?}");
    }
}

#[test]
fn zones_of_a_host_managed_disk() {
    let zoned = |change: Change<'_>| {
        read(none().with::<Zoned>().with::<Discard>(), |config| {
            config.zoned.model = 1;
            config.zoned.zone_sectors.set(1 << 17);
            config.zoned.max_open_zones.set(8);
            config.zoned.max_active_zones.set(4);
            config.zoned.max_append_sectors.set(1 << 20);
            config.zoned.write_granularity.set(4096);
            change(config);
        })
    };
    let (limits, notes) = zoned(&|_| {}).unwrap();
    assert_eq!(
        limits.zones,
        Some(Zones {
            sectors: 1 << 17,
            max_open: 4,
            max_active: 4,
            max_append_sectors: 1 << 17,
            write_granularity: 4096,
        })
    );
    assert_eq!((limits.physical_block_size, limits.io_min), (4096, 4096));
    assert_eq!(limits.discard, None);
    assert_eq!(notes.len(), 2, "{notes:?}");
    let refused: [(&str, Change<'_>); 9] = [
        ("zoned.zone_sectors", &|c| c.zoned.zone_sectors.set(0)),
        ("zoned.zone_sectors", &|c| c.zoned.zone_sectors.set(100)),
        ("zoned.write_granularity", &|c| {
            c.zoned.write_granularity.set(0);
        }),
        ("zoned.zone_sectors", &|c| c.capacity.set((1 << 41) + 1)),
        ("zoned.write_granularity", &|c| {
            c.zoned.write_granularity.set(3);
        }),
        ("zoned.write_granularity", &|c| {
            c.zoned.write_granularity.set(1 << 27);
        }),
        ("zoned.max_append_sectors", &|c| {
            c.zoned.max_append_sectors.set(0);
        }),
        ("zoned.max_append_sectors", &|c| {
            c.zoned.max_append_sectors.set(7);
        }),
        ("zoned.model", &|c| c.zoned.model = 3),
    ];
    for (field, change) in refused {
        assert_eq!(zoned(change).unwrap_err().field, field);
    }
    assert!(zoned(&|c| c.capacity.set(1 << 41)).is_ok());
    for plain in [0, 2] {
        let (limits, _) = zoned(&|c| c.zoned.model = plain).unwrap();
        assert_eq!(limits.zones, None);
        assert!(limits.discard.is_some());
    }
}

#[test]
fn zones_need_a_kernel_that_drives_them() {
    let environment = Environment {
        zoned: false,
        ..ENVIRONMENT
    };
    let mut config = Config::new_zeroed();
    config.zoned.model = 1;
    let absurd = Limits::read(&config, none().with::<Zoned>(), &environment).unwrap_err();
    assert_eq!(absurd.field, "zoned.model");
}

/// What the block layer takes for granted, or refuses (`blk_validate_limits` of Linux).
fn block_layer_takes(limits: &Limits, environment: &Environment) {
    assert!(limits.capacity <= MAX_CAPACITY);
    assert!(limits.num_queues != 0);
    let (logical, physical) = (limits.logical_block_size, limits.physical_block_size);
    assert!(logical.is_power_of_two() && (512..=environment.max_block_size).contains(&logical));
    assert!(physical.is_power_of_two() && physical >= logical);
    assert!(limits.alignment_offset < physical);
    assert!(limits.io_min.is_multiple_of(logical) && limits.io_opt.is_multiple_of(logical));
    assert!(limits.max_segments >= 1 && limits.max_segments <= environment.queue_size - 2);
    assert!(limits.max_segment_size >= MIN_SEGMENT_SIZE);
    assert!(u64::from(limits.max_segment_size) <= environment.max_dma_size);
    for ranges in [limits.discard, limits.write_zeroes, limits.secure_erase]
        .into_iter()
        .flatten()
    {
        assert!(ranges.max_sectors != 0);
        assert!((1..=MAX_RANGES).contains(&ranges.max_ranges));
        assert!(ranges.granularity.is_multiple_of(512));
    }
    if let Some(zones) = limits.zones {
        assert!(environment.zoned && limits.discard.is_none());
        assert!(zones.sectors.is_power_of_two());
        assert!(u64::from(zones.sectors) * 512 >= u64::from(logical));
        assert!(zones.write_granularity.is_power_of_two());
        assert!(u64::from(zones.write_granularity) <= u64::from(zones.sectors) * 512);
        assert!(zones.max_append_sectors >= zones.write_granularity / 512);
        assert!(limits.capacity.div_ceil(zones.sectors.into()) <= MAX_ZONES);
        assert!(zones.max_append_sectors != 0 && zones.max_append_sectors <= zones.sectors);
        assert!(zones.max_active == 0 || zones.max_open <= zones.max_active);
    }
}

proptest! {
    #![proptest_config(common::at_least(2000))]

    /// Whatever the device says, the block layer gets what it can take, or nothing.
    #[test]
    fn no_configuration_gets_past(
        bytes in proptest::array::uniform32(any::<[u8; 3]>()),
        small in any::<u128>(),
        features in any::<u32>(),
        queue_size in 0_u16..=32768,
        max_dma_size in prop_oneof![Just(u64::MAX), 0_u64..(1 << 20)],
        zoned in any::<bool>(),
    ) {
        let mut config = Config::read_from_bytes(bytes.as_flattened()).unwrap();
        // Random words are hardly ever plausible: half of the fields get one that is.
        if small & 1 != 0 { config.capacity.set((small >> 64) as u64 >> 10); }
        if small & 2 != 0 { config.blk_size.set(1 << ((small >> 16) % 18)); }
        if small & 4 != 0 { config.size_max.set((small >> 32) as u32); }
        if small & 8 != 0 { config.zoned.model = (small >> 24) as u8 % 3; }
        if small & 16 != 0 { config.zoned.zone_sectors.set(1 << ((small >> 40) % 32)); }
        if small & 32 != 0 { config.zoned.write_granularity.set(1 << ((small >> 48) % 32)); }
        let environment = Environment { queue_size, max_block_size: 1 << 16, max_dma_size, zoned };
        let features = Features::from_bits(features.into());
        match Limits::read(&config, features, &environment) {
            Ok((limits, notes)) => {
                block_layer_takes(&limits, &environment);
                let mut fields: Vec<_> = notes.iter().map(|note| note.field).collect();
                let count = fields.len();
                fields.sort_unstable();
                fields.dedup();
                prop_assert_eq!(fields.len(), count, "a field has one note at most");
            }
            Err(absurd) => prop_assert!(!absurd.to_string().is_empty()),
        }
    }
}
