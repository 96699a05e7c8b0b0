// SPDX-License-Identifier: GPL-2.0

//! Section 5.5: page frame numbers, statistics, hints, features and targets of a balloon.

mod common;

use proptest::prelude::*;
use virtio_spec::balloon::hint::{Hinting, Next, CMD_ID_DONE, CMD_ID_STOP};
use virtio_spec::balloon::pfn::{Units, ARRAY_LEN, PFN_SHIFT};
use virtio_spec::balloon::stats::{Events, Sample, Stat, StatTag, Stats, STATS, STATS_SIZE};
use virtio_spec::balloon::target::{Backoff, Memory};
use virtio_spec::balloon::{
    FreePageHint, FreePages, PagePoison, QueueIndices, Reporting, StatsVq, Wire,
};
use virtio_spec::transport::Version1;
use virtio_spec::{Features, Untrusted};
use zerocopy::IntoBytes;

const SMALL: u32 = 12;
const LARGE: u32 = 16;

fn units(page_shift: u32) -> Units {
    Units::new(page_shift).unwrap()
}

/// The numbers of page PFN, as bytes.
fn numbers(wire: Wire, page_shift: u32, pfn: u64) -> Option<Vec<u8>> {
    let mut room = [0xdead_beef_u32; ARRAY_LEN];
    let count = units(page_shift).write(wire, pfn, &mut room)?;
    assert!(room[count..].iter().all(|word| *word == 0xdead_beef));
    Some(room[..count].as_bytes().to_vec())
}

#[test]
fn section_5_5_6_a_page_of_4_kib_has_one_number() {
    assert_eq!(units(SMALL).per_page(), 1);
    assert_eq!(units(SMALL).pages_per_array(), 256);
    let bytes = numbers(Wire::Modern, SMALL, 0x0102_0304).unwrap();
    assert_eq!(bytes, [4, 3, 2, 1]);
}

#[test]
fn section_5_5_6_a_page_of_64_kib_has_sixteen() {
    assert_eq!(units(LARGE).per_page(), 16);
    assert_eq!(units(LARGE).pages_per_array(), 16);
    let bytes = numbers(Wire::Modern, LARGE, 3).unwrap();
    let wanted: Vec<u8> = (48_u32..64).flat_map(u32::to_le_bytes).collect();
    assert_eq!(bytes, wanted);
}

#[test]
fn section_5_5_6_0_1_legacy_numbers_are_as_the_guest_has_them() {
    let bytes = numbers(Wire::Legacy, SMALL, 0x0102_0304).unwrap();
    assert_eq!(bytes, 0x0102_0304_u32.to_ne_bytes());
    assert_eq!(Wire::of(Features::EMPTY), Wire::Legacy);
    assert_eq!(Wire::of(Features::EMPTY.with::<Version1>()), Wire::Modern);
}

#[test]
fn a_page_beyond_16_tib_has_no_number() {
    assert_eq!(units(SMALL).first(u64::from(u32::MAX)), Some(u32::MAX));
    assert_eq!(units(SMALL).first(1 << 32), None);
    assert_eq!(units(LARGE).first((1 << 28) - 1), Some(u32::MAX - 15));
    assert_eq!(units(LARGE).first(1 << 28), None);
    assert_eq!(units(LARGE).first(u64::MAX), None);
    assert_eq!(numbers(Wire::Modern, LARGE, 1 << 28), None);
}

#[test]
fn no_page_is_smaller_than_4_kib_or_larger_than_an_array() {
    assert_eq!(Units::new(11), None);
    assert_eq!(Units::new(0), None);
    assert_eq!(units(20).pages_per_array(), 1);
    assert_eq!(Units::new(21), None);
    assert_eq!(Units::new(44), None);
    assert_eq!(Units::new(u32::MAX), None);
}

#[test]
fn too_little_room_is_left_as_it_is() {
    let mut room = [7; 15];
    assert_eq!(units(LARGE).write(Wire::Modern, 0, &mut room), None);
    assert_eq!(room, [7; 15]);
}

#[test]
fn section_5_5_6_3_statistics() {
    let stat = Stat::new(Wire::Modern, StatTag::DirectReclaims, 0x0102);
    assert_eq!(stat.as_bytes(), [15, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(STATS, StatTag::DirectReclaims as usize + 1);
    let legacy = Stat::new(Wire::Legacy, StatTag::FreeMemory, 0x0102);
    let bytes = [&4_u16.to_ne_bytes()[..], &0x0102_u64.to_ne_bytes()[..]].concat();
    assert_eq!(legacy.as_bytes(), bytes);
}

/// A sample whose every number is another one.
fn sample() -> Sample {
    Sample {
        events: Some(Events {
            swap_in: 100,
            swap_out: 101,
            major_faults: 102,
            faults: 103,
            oom_kills: 110,
            alloc_stalls: 111,
            async_scans: 112,
            direct_scans: 113,
            async_reclaims: 114,
            direct_reclaims: 115,
            hugetlb: Some((108, 109)),
        }),
        free: 104,
        total: 105,
        available: 106,
        caches: 107,
    }
}

/// Tag and value of each statistic, sorted.
fn parse(stats: &Stats) -> Vec<(u16, u64)> {
    let bytes = stats.as_bytes();
    assert_eq!(bytes.len() % 10, 0);
    let mut all: Vec<_> = bytes
        .chunks(10)
        .map(|stat| {
            let (tag, val) = stat.split_at(2);
            (
                u16::from_le_bytes(tag.try_into().unwrap()),
                u64::from_le_bytes(val.try_into().unwrap()),
            )
        })
        .collect();
    all.sort_unstable();
    all
}

#[test]
fn section_5_5_6_4_each_tag_has_its_number() {
    let all = parse(&Stats::new(Wire::Modern, SMALL, &sample()));
    // Counts are counts, and memory is in bytes.
    let counts = [2, 3, 8, 9, 10, 11];
    let wanted: Vec<(u16, u64)> = (0..16)
        .map(|tag| {
            let number = 100 + u64::from(tag);
            let shift = if counts.contains(&tag) { 0 } else { SMALL };
            (tag, number << shift)
        })
        .collect();
    assert_eq!(all, wanted);
    assert_eq!(STATS_SIZE, 160);
}

#[test]
fn what_is_not_counted_is_left_out() {
    let mut sample = sample();
    sample.events.as_mut().unwrap().hugetlb = None;
    let tags = |sample: &Sample| -> Vec<u16> {
        let all = parse(&Stats::new(Wire::Modern, LARGE, sample));
        all.iter().map(|(tag, _)| *tag).collect()
    };
    assert_eq!(
        tags(&sample),
        [0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15]
    );
    sample.events = None;
    assert_eq!(tags(&sample), [4, 5, 6, 7]);
}

#[test]
fn section_5_5_3_1_reporting_needs_to_say_what_is_in_free_pages() {
    let offered = Features::EMPTY
        .with::<StatsVq>()
        .with::<PagePoison>()
        .with::<Reporting>();
    let silent = offered.without::<PagePoison>();
    assert_eq!(FreePages::AsTheyAre.usable(offered), silent);
    assert_eq!(FreePages::AsTheyAre.usable(silent), silent);
    for filled in [FreePages::Zeroed, FreePages::Poisoned] {
        assert_eq!(filled.usable(offered), offered);
        assert_eq!(filled.usable(silent), silent.without::<Reporting>());
    }
}

#[test]
fn section_5_5_6_6_poison_values() {
    assert_eq!(FreePages::AsTheyAre.poison_val(), None);
    assert_eq!(FreePages::Zeroed.poison_val(), Some(0));
    assert_eq!(FreePages::Poisoned.poison_val(), Some(0xaaaa_aaaa));
}

/// A guest with so many MiB, all of them available, in pages of 4 KiB.
fn guest(mebibytes: u64) -> Memory {
    Memory {
        total: mebibytes << 8,
        available: mebibytes << 8,
        free_swap: 0,
    }
}

#[test]
fn a_reserve_is_a_64th_within_limits() {
    for (mebibytes, reserve) in [
        (8, 2),
        (32, 8),
        (64, 16),
        (512, 16),
        (1 << 11, 32),
        (1 << 14, 256),
        (1 << 20, 256),
    ] {
        let pages = guest(mebibytes).reserve(units(SMALL));
        assert_eq!(pages, reserve << 8, "of {mebibytes} MiB");
    }
}

#[test]
fn an_absurd_target_is_cut_and_noted() {
    let (target, notes) = guest(512).target(units(SMALL), Untrusted::new(u32::MAX));
    assert_eq!(target, (512 - 16) << 8);
    let notes: Vec<_> = notes.iter().map(ToString::to_string).collect();
    assert_eq!(notes, ["num_pages is 4294967295: 126976 is used"]);
}

#[test]
fn a_sensible_target_is_rounded_up_to_pages() {
    let memory = guest(512);
    let (target, notes) = memory.target(units(SMALL), Untrusted::new(1000));
    assert_eq!((target, notes.iter().count()), (1000, 0));
    let memory = Memory {
        total: 1 << 13,
        ..memory
    };
    let (target, notes) = memory.target(units(LARGE), Untrusted::new(33));
    assert_eq!((target, notes.iter().count()), (3, 0));
}

#[test]
fn memory_that_can_be_swapped_out_can_be_spared() {
    let mut memory = guest(512);
    memory.available = 10 << 8;
    assert_eq!(memory.spare(units(SMALL)), 0);
    memory.free_swap = 100 << 8;
    assert_eq!(memory.spare(units(SMALL)), (10 + 100 - 16) << 8);
}

#[test]
fn failures_are_tried_again_later_and_later() {
    let mut backoff = Backoff::new();
    let delays: Vec<_> = (0..7).map(|_| backoff.failed()).collect();
    assert_eq!(delays, [200, 400, 800, 1600, 3200, 5000, 5000]);
    backoff.worked();
    assert_eq!(backoff.failed(), 200);
}

#[test]
fn section_5_5_2_queues_without_their_feature_take_no_index() {
    let all = Features::EMPTY
        .with::<StatsVq>()
        .with::<FreePageHint>()
        .with::<Reporting>();
    let indices = |features| {
        let QueueIndices {
            stats,
            free_page,
            reporting,
        } = QueueIndices::of(features);
        [stats, free_page, reporting]
    };
    assert_eq!(indices(Features::EMPTY), [None; 3]);
    assert_eq!(indices(all), [Some(2), Some(3), Some(4)]);
    assert_eq!(indices(all.without::<StatsVq>()), [None, Some(2), Some(3)]);
    assert_eq!(
        indices(all.without::<FreePageHint>()),
        [Some(2), None, Some(3)]
    );
    assert_eq!(
        indices(all.without::<Reporting>()),
        [Some(2), Some(3), None]
    );
}

/// A device that says ID, and what is next.
fn says(hinting: &mut Hinting, id: u32) -> Next {
    hinting.receive(Untrusted::new(id));
    hinting.next()
}

#[test]
fn section_5_5_6_5_each_command_is_hinted_for_once() {
    let mut hinting = Hinting::new();
    assert_eq!(hinting.next(), Next::Nothing);
    assert_eq!(says(&mut hinting, CMD_ID_STOP), Next::Nothing);
    assert_eq!(says(&mut hinting, 2), Next::Begin(2));
    assert_eq!(says(&mut hinting, 2), Next::Begin(2));
    hinting.begin(2);
    assert_eq!(says(&mut hinting, 2), Next::Hint);
    hinting.exhaust();
    assert_eq!(hinting.next(), Next::End);
    hinting.end();
    assert_eq!(says(&mut hinting, 2), Next::Nothing);
    assert_eq!(says(&mut hinting, 3), Next::Begin(3));
}

#[test]
fn section_5_5_6_5_hints_end_when_the_device_says_something_else() {
    for other in [CMD_ID_STOP, CMD_ID_DONE, 3, u32::MAX] {
        let mut hinting = Hinting::new();
        assert_eq!(says(&mut hinting, 2), Next::Begin(2));
        hinting.begin(2);
        assert_eq!(says(&mut hinting, other), Next::End);
        hinting.end();
        let then = if other > CMD_ID_DONE {
            Next::Begin(other)
        } else {
            Next::Nothing
        };
        assert_eq!(hinting.next(), then);
    }
}

#[test]
fn section_5_5_6_5_hinted_pages_are_kept_until_it_is_done() {
    let mut hinting = Hinting::new();
    assert!(hinting.keeps());
    for (id, keeps) in [
        (2, true),
        (CMD_ID_STOP, true),
        (3, true),
        (CMD_ID_DONE, false),
        (4, true),
    ] {
        hinting.receive(Untrusted::new(id));
        assert_eq!(hinting.keeps(), keeps, "{id}");
    }
}

proptest! {
    #![proptest_config(common::at_least(2000))]

    #[test]
    fn numbers_are_those_of_the_bytes_of_the_page(shift in 12_u32..21, pfn in any::<u64>(), bits in 0_u32..64) {
        let pfn = pfn >> bits;
        let bytes = u128::from(pfn) << shift;
        let last = (bytes + (1 << shift) - 1) >> PFN_SHIFT;
        let written = numbers(Wire::Modern, shift, pfn);
        prop_assert_eq!(written.is_some(), last <= u128::from(u32::MAX));
        if let Some(written) = written {
            let first = (bytes >> PFN_SHIFT) as u32;
            let wanted: Vec<u8> = (first..=last as u32).flat_map(u32::to_le_bytes).collect();
            prop_assert_eq!(written, wanted);
        }
    }

    #[test]
    fn cut_numbers_are_those_of_pages_whose_bits_together_have_one(
        shift in 12_u32..21,
        pfns in prop::collection::vec((any::<u64>(), 0_u32..64), 1..4),
    ) {
        let units = units(shift);
        let pfns: Vec<u64> = pfns.into_iter().map(|(pfn, bits)| pfn >> bits).collect();
        let any = pfns.iter().fold(0, |any, pfn| any | pfn);
        prop_assert_eq!(units.first(any).is_some(), pfns.iter().all(|pfn| units.first(*pfn).is_some()));
        for pfn in pfns {
            let mut room = vec![0; units.per_page() as usize];
            units.write_cut(Wire::Modern, pfn, &mut room);
            if let Some(wanted) = numbers(Wire::Modern, shift, pfn) {
                prop_assert_eq!(room.as_bytes(), &wanted[..]);
            }
        }
    }

    #[test]
    fn the_target_leaves_the_reserve(
        shift in 12_u32..21,
        num_pages in any::<u32>(),
        total in 0_u64..1 << 40,
        available in any::<u64>(),
        free_swap in any::<u64>(),
    ) {
        let units = units(shift);
        let memory = Memory { total, available, free_swap };
        let (target, notes) = memory.target(units, Untrusted::new(num_pages));
        prop_assert!(target <= units.pages(num_pages));
        prop_assert!(target + memory.reserve(units) <= total);
        prop_assert_eq!(notes.iter().count() == 1, target < units.pages(num_pages));
        prop_assert!(memory.spare(units) <= available.saturating_add(free_swap));
    }

    #[test]
    fn pages_and_balloon_pages_are_the_same(shift in 12_u32..21, count in any::<u32>()) {
        let units = units(shift);
        let pages = units.pages(count);
        let back = units.balloon_pages(pages);
        prop_assert!(back >= count && (back - count < units.per_page() || back == u32::MAX));
    }

    #[test]
    fn a_device_that_says_anything_gets_its_own_numbers_alone(
        ids in prop::collection::vec((0_u32..6, 0_usize..4), 0..40),
    ) {
        let mut hinting = Hinting::new();
        // For which command hints are being given, and were given last.
        let (mut open, mut last) = (None, CMD_ID_STOP);
        for (id, steps) in ids {
            hinting.receive(Untrusted::new(id));
            for _ in 0..steps {
                match hinting.next() {
                    Next::Begin(given) => {
                        prop_assert!(open.is_none() && given == id && id > CMD_ID_DONE && id != last);
                        hinting.begin(given);
                        (open, last) = (Some(given), given);
                    }
                    Next::Hint => {
                        prop_assert_eq!(open, Some(id));
                        hinting.exhaust();
                    }
                    Next::End => {
                        prop_assert!(open.is_some());
                        hinting.end();
                        open = None;
                    }
                    Next::Nothing => prop_assert!(open.is_none() && (id <= CMD_ID_DONE || id == last)),
                }
            }
        }
    }
}
