// SPDX-License-Identifier: GPL-2.0

//! Properties over random histories: the four layouts against the reference device and each other,
//! no lost wake-up, and a device that lies.
//!
//! A failure prints the seed and the smallest history, and keeps the seed beside this file.
#![cfg(not(loom))]

use proptest::prelude::*;
use std::collections::VecDeque;
use virtqueue::{AddErrorKind, CbState, Direction, Layout, Segment};
use virtqueue_tests::{
    device::{Chain, Wish},
    driver::Fault,
    hostile,
    rig::{config, pairs, Rig, LAYOUTS},
};

/// One step of an honest history.
#[derive(Clone, Debug)]
enum Step {
    Add {
        readable: Vec<u8>,
        writable: Vec<u8>,
        builder: bool,
    },
    Publish,
    Kick,
    /// The device takes a chain.
    Pop,
    /// The device uses the oldest chain it has, and writes this part of it, in 255ths.
    Use(u8),
    Poll,
    Callbacks(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let lens = || prop::collection::vec(any::<u8>(), 0..4);
    prop_oneof![
        4 => (lens(), lens(), any::<bool>())
            .prop_map(|(readable, writable, builder)| Step::Add { readable, writable, builder }),
        2 => Just(Step::Publish),
        1 => Just(Step::Kick),
        4 => Just(Step::Pop),
        4 => any::<u8>().prop_map(Step::Use),
        5 => Just(Step::Poll),
        1 => (0..3_u8).prop_map(Step::Callbacks),
    ]
}

/// What a driver can tell of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Added(Result<(), AddErrorKind>),
    Polled(Option<(u64, u32)>),
    Free(u16),
}

/// The segments of a chain, as they are reported.
type Pieces = Vec<(Segment, Direction)>;

fn segments(rig: &Rig, lens: &[u8], base: u64) -> Vec<Segment> {
    let at = |i: usize| rig.segment(base + 256 * i as u64, u32::from(lens[i]));
    (0..lens.len()).map(at).collect()
}

/// Runs a history; checks every chain and every return against what was added.
fn history(steps: &[Step], rig: &mut Rig) -> Vec<Seen> {
    let mut seen = Vec::new();
    // Added and not popped; popped and not used; used and not polled.
    let mut added: VecDeque<(u64, Vec<Segment>, Vec<Segment>)> = VecDeque::new();
    let mut held: VecDeque<(u64, Chain)> = VecDeque::new();
    let mut used: VecDeque<(u64, u32, Pieces)> = VecDeque::new();
    let mut visible = 0;
    for (number, step) in steps.iter().enumerate() {
        let payload = number as u64;
        match step {
            Step::Add {
                readable,
                writable,
                builder,
            } => {
                let r = segments(rig, readable, 0);
                let w = segments(rig, writable, 4096);
                let result = if *builder {
                    rig.ring.begin(r.len() + w.len()).map(|mut builder| {
                        for segment in &r {
                            builder.readable(*segment).unwrap();
                        }
                        builder.extend(&w, Direction::Writable).unwrap();
                        builder.commit(payload).unwrap();
                    })
                } else {
                    let result = rig.ring.add(&r, &w, payload);
                    result.map_err(|error| error.kind)
                };
                if result.is_ok() {
                    added.push_back((payload, r, w));
                }
                seen.push(Seen::Added(result));
            }
            Step::Publish => {
                rig.ring.publish();
                visible = added.len();
            }
            Step::Kick => {
                let _ = rig.ring.kick_prepare();
                visible = added.len();
            }
            Step::Pop => match rig.device.pop() {
                None => assert_eq!(visible, 0, "published chain not seen"),
                Some(chain) => {
                    assert!(visible > 0, "chain seen before it was published");
                    visible -= 1;
                    let (payload, r, w) = added.pop_front().unwrap();
                    assert_eq!((&chain.readable, &chain.writable), (&r, &w));
                    held.push_back((payload, chain));
                }
            },
            Step::Use(part) => {
                if let Some((payload, chain)) = held.pop_front() {
                    let written = chain.room() * u32::from(*part) / 255;
                    rig.device.complete(&chain, written);
                    let pieces = pairs(&chain.readable, &chain.writable);
                    used.push_back((payload, written, pieces));
                }
            }
            Step::Poll => {
                let mut unmapped = Vec::new();
                let back = rig
                    .ring
                    .poll_with(|_, segment, direction| unmapped.push((segment, direction)))
                    .unwrap();
                if !used.is_empty() {
                    // Polling publishes what waits.
                    visible = added.len();
                }
                let expected = used.pop_front();
                seen.push(Seen::Polled(
                    back.as_ref().map(|used| (used.payload, used.written)),
                ));
                match (back, expected) {
                    (Some(used), Some((payload, written, pieces))) => {
                        assert_eq!((used.payload, used.written), (payload, written));
                        assert_eq!(unmapped, pieces);
                    }
                    (None, None) => {}
                    (back, expected) => panic!("polled {back:?}, expected {expected:?}"),
                }
            }
            Step::Callbacks(0) => rig.ring.disable_cb(),
            Step::Callbacks(1) => {
                let state = rig.ring.enable_cb();
                assert_eq!(state == CbState::MorePending, !used.is_empty());
            }
            Step::Callbacks(_) => {
                let _ = rig.ring.enable_cb_delayed();
            }
        }
        assert_eq!(rig.ring.more_used(), !used.is_empty());
        assert_eq!(
            usize::from(rig.ring.in_flight()),
            added.len() + held.len() + used.len()
        );
        seen.push(Seen::Free(rig.ring.num_free()));
    }
    seen
}

fn rig(layout: Layout, size: u32, event_idx: bool, tables: u16) -> Rig {
    let mut config = config(layout, size);
    config.features.event_idx = event_idx;
    config.features.indirect = tables != 0;
    Rig::with_tables(config, tables)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// All layouts give the driver the same history when buffers are used in order.
    #[test]
    fn layouts_agree(
        steps in prop::collection::vec(step(), 0..150),
        bits in 0..5_u32,
        event_idx: bool,
        tables in prop_oneof![Just(0_u16), Just(4)],
    ) {
        let first = history(&steps, &mut rig(Layout::Split, 1 << bits, event_idx, tables));
        for layout in LAYOUTS {
            let other = history(&steps, &mut rig(layout, 1 << bits, event_idx, tables));
            prop_assert_eq!(&first, &other, "{:?}", layout);
        }
    }

    /// Packed rings of any size.
    #[test]
    fn packed_sizes(
        steps in prop::collection::vec(step(), 0..150),
        size in 1..20_u32,
        in_order: bool,
        event_idx: bool,
        tables in prop_oneof![Just(0_u16), Just(3)],
    ) {
        history(&steps, &mut rig(Layout::from_features(true, in_order), size, event_idx, tables));
    }

    /// Any size up to the largest.
    #[test]
    fn all_sizes(
        steps in prop::collection::vec(step(), 0..60),
        size in prop_oneof![1..64_u32, 1..=32768_u32, Just(32768)],
        layout in prop::sample::select(&LAYOUTS[..]),
    ) {
        let size = if layout.is_packed() { size } else { size.next_power_of_two() };
        history(&steps, &mut rig(layout, size, true, 0));
    }

    /// Buffers used in any order come back with what was put in.
    #[test]
    fn any_order(
        picks in prop::collection::vec((any::<prop::sample::Index>(), 0..4_usize, any::<bool>()), 1..200),
        layout in prop::sample::select(&[Layout::Split, Layout::Packed][..]),
        tables in prop_oneof![Just(0_u16), Just(3)],
    ) {
        let mut rig = rig(layout, 8, true, tables);
        let mut held: Vec<(u64, Chain)> = Vec::new();
        for (number, (pick, more, complete)) in picks.iter().enumerate() {
            let payload = number as u64;
            if rig.add(1, *more, payload).is_ok() {
                rig.ring.publish();
                held.push((payload, rig.device.pop().unwrap()));
            }
            if *complete && !held.is_empty() {
                let (payload, chain) = held.swap_remove(pick.index(held.len()));
                rig.device.complete(&chain, chain.room());
                prop_assert_eq!(rig.poll(), Some((payload, chain.room())));
                prop_assert_eq!(rig.poll(), None);
            }
        }
        let mut left: Vec<_> = held.iter().map(|(payload, _)| *payload).collect();
        let mut drained = rig.restart();
        left.sort_unstable();
        drained.sort_unstable();
        prop_assert_eq!(left, drained);
    }

    /// Batches of an in-order device.
    #[test]
    fn in_order_batches(
        batches in prop::collection::vec((1..6_usize, 0..=24_u32), 1..60),
        layout in prop::sample::select(&[Layout::SplitInOrder, Layout::PackedInOrder][..]),
        tables in prop_oneof![Just(0_u16), Just(3)],
    ) {
        let mut rig = rig(layout, 16, true, tables);
        let (mut added, mut returned) = (0_u64, 0_u64);
        let mut held: Vec<Chain> = Vec::new();
        for (count, written) in batches {
            while rig.add(1, (added % 4) as usize, added).is_ok() {
                added += 1;
            }
            let _ = rig.ring.kick_prepare();
            held.extend(std::iter::from_fn(|| rig.device.pop()));
            let count = count.min(held.len());
            let batch: Vec<_> = held.drain(..count).collect();
            let written = written.min(batch[count - 1].room());
            rig.device.complete_batch(&batch, written);
            for (n, chain) in batch.iter().enumerate() {
                let expected = if n + 1 == count { written } else { chain.room() };
                prop_assert_eq!(rig.poll(), Some((returned, expected)));
                returned += 1;
            }
            prop_assert_eq!(rig.poll(), None);
        }
    }

    /// Neither side sleeps while the other waits for it.
    #[test]
    fn no_lost_wakeup(
        turns in prop::collection::vec((any::<u8>(), 0..4_usize), 0..300),
        layout in prop::sample::select(&LAYOUTS[..]),
        size in prop::sample::select(&[1_u32, 2, 4, 16][..]),
        event_idx: bool,
    ) {
        wakeups(rig(layout, size, event_idx, 0), &turns);
    }

    /// Nothing a device writes breaks a guarantee.
    #[test]
    fn hostile_device(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        hostile::run(&bytes);
    }
}

/// A driver and a device that both sleep when they have nothing to do. Panics when both sleep and
/// buffers are on their way.
fn wakeups(mut rig: Rig, turns: &[(u8, usize)]) {
    let (mut device_awake, mut driver_awake) = (false, true);
    let (mut added, mut returned) = (0_u64, 0_u64);
    let mut armed = true;
    rig.device.wish(Wish::Next);
    let end = [(3, 0), (2, 9), (1, 9)].repeat(100);
    for (who, amount) in turns.iter().chain(&end) {
        match who % 4 {
            0 | 3 => {
                for _ in 0..*amount {
                    added += u64::from(rig.add(1, 0, added).is_ok());
                }
                device_awake |= rig.ring.kick_prepare();
            }
            1 if driver_awake => {
                // The usual driver switches callbacks off while there is work. The other leaves
                // them as they are, and sleeps on what polling armed.
                let usual = who & 4 == 0;
                if usual {
                    rig.ring.disable_cb();
                    armed = false;
                }
                let mut budget = *amount;
                while budget > 0 && rig.poll().is_some() {
                    returned += 1;
                    budget -= 1;
                }
                if budget > 0 {
                    if armed {
                        driver_awake = false;
                    } else if rig.ring.enable_cb() == CbState::Armed {
                        armed = true;
                        driver_awake = false;
                    }
                }
            }
            2 if device_awake => {
                rig.device.wish(Wish::Nothing);
                for _ in 0..*amount {
                    let Some(chain) = rig.device.pop() else { break };
                    rig.device.complete(&chain, 0);
                }
                // The next two belong together: ask, then look again.
                rig.device.wish(Wish::Next);
                match rig.device.pop() {
                    Some(chain) => rig.device.complete(&chain, 0),
                    None => device_awake = false,
                }
                if rig.device.interrupt() {
                    rig.ring.note_interrupt();
                    driver_awake = true;
                }
            }
            _ => {}
        }
    }
    assert_eq!(returned, added, "somebody sleeps");
}

#[test]
#[should_panic = "somebody sleeps"]
fn lost_event_is_noticed() {
    let rig = rig(Layout::Split, 4, true, 0);
    rig.break_with(Fault::LostEvent);
    wakeups(rig, &[(0, 2), (2, 1), (1, 3), (0, 3), (2, 3), (1, 1)]);
}

#[test]
#[should_panic = "somebody sleeps"]
fn lost_wish_is_noticed() {
    let rig = rig(Layout::Packed, 4, true, 0);
    rig.break_with(Fault::LostWish);
    wakeups(rig, &[(0, 2)]);
}

#[test]
#[should_panic = "published chain not seen"]
fn lost_publication_is_noticed() {
    let mut rig = rig(Layout::Packed, 4, true, 0);
    rig.break_with(Fault::LostPublication);
    let add = Step::Add {
        readable: vec![1],
        writable: vec![],
        builder: false,
    };
    history(&[add, Step::Publish, Step::Pop], &mut rig);
}

#[test]
fn hostile_runs_reach_what_they_should() {
    // A fixed sample of runs, so that the guarantees are not tested on nothing.
    let mut state = 1_u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let (mut returned, mut broken, mut whole) = (0, 0, 0);
    for _ in 0..400 {
        let bytes: Vec<u8> = (0..400).map(|_| random()).collect();
        let outcome = hostile::run(&bytes);
        returned += outcome.returned;
        broken += usize::from(outcome.broken);
        whole += usize::from(!outcome.broken);
    }
    assert!(returned > 100, "{returned} chains returned");
    assert!(broken > 100, "{broken} rings broken");
    assert!(whole > 10, "{whole} rings survived");
}
