// SPDX-License-Identifier: GPL-2.0

//! What holds for every layout: builders, tokens, breaking, draining, resetting, lies of the device.
#![cfg(not(loom))]

use virtqueue::{
    AddErrorKind, CbToken, Direction, Layout, NotDrained, Observer, RingError, Segment,
};
use virtqueue_tests::{
    device::Device,
    driver::Fault,
    rig::{config, event_config, indirect_config, pairs, Rig, LAYOUTS},
};

#[test]
fn nothing_to_poll_on_a_new_ring() {
    for layout in LAYOUTS {
        let mut rig = Rig::new(config(layout, 4));
        assert_eq!(rig.poll(), None);
        assert!(!rig.ring.more_used());
        assert!(!rig.ring.observer().more_used());
        assert_eq!((rig.ring.num_free(), rig.ring.in_flight()), (4, 0));
    }
}

#[test]
fn errors_of_add_give_the_payload_back() {
    for layout in LAYOUTS {
        let mut rig = Rig::new(config(layout, 4));
        assert_eq!(rig.add(0, 0, 1), Err(AddErrorKind::EmptyChain));
        assert_eq!(rig.add(5, 0, 1), Err(AddErrorKind::TooLong));
        rig.add(2, 1, 1).unwrap();
        assert_eq!(rig.add(1, 1, 2), Err(AddErrorKind::Full));
        rig.add(1, 0, 2).unwrap();
        assert_eq!(rig.add(1, 0, 3), Err(AddErrorKind::Full));
        rig.ring.break_ring();
        assert_eq!(rig.add(1, 0, 3), Err(AddErrorKind::Broken));
        rig.ring.unbreak();
        assert_eq!(rig.add(1, 0, 3), Err(AddErrorKind::Full));
    }
}

#[test]
fn builder_takes_several_segments_or_none() {
    for layout in LAYOUTS {
        let mut rig = Rig::new(config(layout, 4));
        let (a, b, c) = (rig.segment(0, 1), rig.segment(8, 2), rig.segment(16, 3));
        let mut builder = rig.ring.begin(3).unwrap();
        let too_many = builder.extend(&[a, b, c, a], Direction::Readable);
        assert_eq!(too_many, Err(AddErrorKind::Misordered));
        assert_eq!(builder.extend(&[], Direction::Writable), Ok(()));
        assert_eq!(builder.extend(&[a, b], Direction::Readable), Ok(()));
        assert_eq!(builder.remaining(), 1);
        let long = Segment {
            addr: c.addr,
            len: u32::MAX,
        };
        let too_long = builder.extend(&[long], Direction::Writable);
        assert_eq!(too_long, Err(AddErrorKind::TooLong));
        assert_eq!(builder.extend(&[c], Direction::Writable), Ok(()));
        let late = builder.extend(&[a], Direction::Readable);
        assert_eq!(late, Err(AddErrorKind::Misordered));
        let mut pushed = Vec::new();
        builder.for_each(|segment, direction| pushed.push((segment, direction)));
        assert_eq!(pushed, pairs(&[a, b], &[c]));
        builder.commit(1).unwrap();
        rig.ring.publish();
        let chain = rig.device.pop().unwrap();
        assert_eq!((chain.readable, chain.writable), (vec![a, b], vec![c]));
    }
}

#[test]
fn builder_reports_what_was_pushed_and_leaves_no_trace() {
    for layout in LAYOUTS {
        for tables in [0, 4] {
            let mut rig = Rig::with_tables(indirect_config(layout, 4), tables);
            let (a, b, c) = (rig.segment(0, 1), rig.segment(8, 2), rig.segment(16, 3));
            for turn in 0..9 {
                let mut builder = rig.ring.begin(3).unwrap();
                builder.readable(a).unwrap();
                builder.writable(b).unwrap();
                assert_eq!(builder.remaining(), 1);
                let mut pushed = Vec::new();
                builder.for_each(|segment, direction| pushed.push((segment, direction)));
                assert_eq!(pushed, pairs(&[a], &[b]));
                let error = builder.commit(5).unwrap_err();
                assert_eq!((error.kind, error.payload), (AddErrorKind::Misordered, 5));
                rig.ring.publish();
                assert!(rig.device.pop().is_none());
                assert_eq!((rig.ring.num_free(), rig.ring.in_flight()), (4, 0));

                let mut builder = rig.ring.begin(2).unwrap();
                builder.readable(c).unwrap();
                builder.writable(a).unwrap();
                assert_eq!(builder.writable(a), Err(AddErrorKind::Misordered));
                builder.commit(turn).unwrap();
                rig.ring.publish();
                let chain = rig.device.pop().unwrap();
                assert_eq!(
                    (&chain.readable[..], &chain.writable[..]),
                    (&[c][..], &[a][..])
                );
                rig.device.complete(&chain, 1);
                let mut unmapped = Vec::new();
                let used = rig.ring.poll_with(|payload, segment, direction| {
                    assert_eq!(*payload, turn);
                    unmapped.push((segment, direction));
                });
                assert_eq!(used.unwrap().unwrap().payload, turn);
                assert_eq!(unmapped, pairs(&[c], &[a]));
            }
        }
    }
}

#[test]
fn tables_without_entries_report_nothing() {
    let rig = Rig::with_tables(indirect_config(Layout::Split, 4), 4);
    let slots: Vec<virtqueue::Slot<u64>> = (0..4).map(|_| virtqueue::Slot::EMPTY).collect();
    let mut ring =
        virtqueue::Ring::new(*rig.ring.config(), rig.mem.clone(), (slots, Vec::new())).unwrap();
    let segment = rig.segment(0, 8);
    ring.add(&[segment], &[segment], 1).unwrap();
    ring.publish();
    let mut device = Device::new(&rig.guest, ring.config(), rig.mem.areas());
    let chain = device.pop().unwrap();
    device.complete(&chain, 8);
    let used = ring.poll_with(|_, _, _| panic!("nothing to report"));
    assert_eq!(used.unwrap().unwrap().written, 8);
}

#[test]
fn too_small_stores_are_refused() {
    let rig = Rig::with_tables(indirect_config(Layout::Packed, 4), 4);
    let slots =
        |n: u64| -> Vec<virtqueue::Slot<u64>> { (0..n).map(|_| virtqueue::Slot::EMPTY).collect() };
    let new = |slots, entries| {
        virtqueue::Ring::new(*rig.ring.config(), rig.mem.clone(), (slots, entries)).err()
    };
    let entries = |n| vec![virtqueue::Entry::EMPTY; n];
    assert_eq!(
        new(slots(3), entries(16)),
        Some(virtqueue::NewError::TooFewSlots)
    );
    assert_eq!(
        new(slots(4), entries(15)),
        Some(virtqueue::NewError::TooFewEntries)
    );
    assert_eq!(new(slots(4), entries(16)), None);
}

#[test]
fn drain_gives_everything_back_and_reset_starts_anew() {
    // C bug candidate: an in-order ring that was reset in the middle of its life.
    for layout in LAYOUTS {
        for event_idx in [false, true] {
            let mut config = config(layout, 8);
            config.features.event_idx = event_idx;
            let mut rig = Rig::new(config);
            for turn in 0..12_u64 {
                for i in 0..3 {
                    rig.add(1, 1, 10 * turn + i).unwrap();
                }
                let _ = rig.ring.kick_prepare();
                let mut done = Vec::new();
                for _ in 0..turn % 3 {
                    let chain = rig.device.pop().unwrap();
                    rig.device.complete(&chain, 2);
                    done.push(rig.poll().unwrap().0);
                }
                let in_flight = 3 - (turn % 3) as u16;
                assert_eq!(rig.ring.reset(), Err(NotDrained { in_flight }));
                done.extend(rig.restart());
                done.sort_unstable();
                assert_eq!(done, [10 * turn, 10 * turn + 1, 10 * turn + 2]);
                assert_eq!((rig.ring.num_free(), rig.ring.in_flight()), (8, 0));
                assert_eq!(rig.ring.drain(), None);
                assert_eq!(rig.poll(), None);
            }
        }
    }
}

#[test]
fn reset_in_the_middle_of_a_batch() {
    for layout in [Layout::SplitInOrder, Layout::PackedInOrder] {
        let mut rig = Rig::new(config(layout, 8));
        for _ in 0..3 {
            for i in 0..3 {
                rig.add(1, 1, i).unwrap();
            }
            rig.ring.publish();
            let chains: Vec<_> = std::iter::from_fn(|| rig.device.pop()).collect();
            rig.device.complete_batch(&chains, 5);
            assert_eq!(rig.poll(), Some((0, 8)));
            assert_eq!(rig.restart(), [1, 2]);
            assert!(!rig.ring.more_used());
            assert!(!rig.ring.observer().more_used());
        }
    }
}

#[test]
fn drain_reports_segments() {
    for layout in LAYOUTS {
        let mut rig = Rig::new(config(layout, 4));
        let (a, b) = (rig.segment(0, 1), rig.segment(8, 2));
        rig.ring.add(&[a, b], &[b], 9).unwrap();
        let mut unmapped = Vec::new();
        let drained = rig
            .ring
            .drain_with(|_, segment, direction| unmapped.push((segment, direction)));
        assert_eq!(drained, Some(9));
        assert_eq!(unmapped, pairs(&[a, b], &[b]));
    }
}

#[test]
fn token_goes_through_the_c_abi() {
    for layout in LAYOUTS {
        let mut rig = Rig::new(event_config(layout, 4));
        for turn in 0..9 {
            let number = u32::from(rig.ring.enable_cb_prepare());
            assert!(!rig.ring.poll_token(CbToken::from(number)));
            rig.add(1, 0, turn).unwrap();
            rig.ring.publish();
            let chain = rig.device.pop().unwrap();
            rig.device.complete(&chain, 0);
            assert!(rig.ring.poll_token(CbToken::from(number)));
            assert!(rig.ring.observer().poll_token(CbToken::from(number)));
            rig.poll().unwrap();
        }
        // Any number is safe.
        for number in [0, 3, 4, 0x7fff, 0x8004, 0xffff, u32::MAX] {
            let _ = rig.ring.poll_token(CbToken::from(number));
        }
        rig.ring.break_ring();
        assert!(!rig.ring.poll_token(CbToken::from(1)));
    }
}

#[test]
fn observer_breaks_the_ring() {
    for layout in LAYOUTS {
        let mut rig = Rig::new(config(layout, 4));
        let config = *rig.ring.config();
        let observer = Observer::new(config.layout, config.size, false, rig.mem.clone());
        rig.add(1, 0, 1).unwrap();
        rig.ring.publish();
        let chain = rig.device.pop().unwrap();
        rig.device.complete(&chain, 0);
        observer.break_ring();
        assert!(rig.ring.is_broken());
        assert_eq!(rig.poll(), None);
        rig.ring.unbreak();
        assert_eq!(rig.poll(), Some((1, 0)));
        assert_eq!(observer.used_index(), rig.ring.used_index());
    }
}

/// Writes a used element for `id` where the device would, and the index or the flags.
fn lie(rig: &Rig, id: u32, len: u32, index: u16) {
    let areas = rig.mem.areas();
    if rig.ring.layout().is_packed() {
        rig.guest.set_u32(areas.desc + 8, len);
        rig.guest.set_u16(areas.desc + 12, id as u16);
        rig.guest.set_u16(areas.desc + 14, 1 << 7 | 1 << 15);
    } else {
        rig.guest.set_u32(areas.device + 4, id);
        rig.guest.set_u32(areas.device + 8, len);
        rig.guest.set_u16(areas.device + 2, index);
    }
}

#[test]
fn threat_1_id_out_of_range() {
    for layout in LAYOUTS {
        for id in [4, 5, 0xffff, 0x1_0000, u32::MAX] {
            let mut rig = Rig::new(config(layout, 4));
            rig.add(1, 0, 1).unwrap();
            rig.ring.publish();
            if layout.is_packed() && id > 0xffff {
                continue;
            }
            lie(&rig, id, 0, 1);
            assert_eq!(rig.ring.poll().unwrap_err(), RingError::IdOutOfRange { id });
            assert_eq!(rig.ring.poll(), Ok(None));
            assert_eq!(rig.restart(), [1]);
        }
    }
}

#[test]
fn threat_2_and_3_id_not_in_flight() {
    for layout in LAYOUTS {
        for id in [1, 3] {
            // 1 is the middle of the chain, 3 is free.
            let mut rig = Rig::new(config(layout, 4));
            rig.add(2, 1, 1).unwrap();
            rig.ring.publish();
            lie(&rig, id, 0, 1);
            let id = id as u16;
            assert_eq!(
                rig.ring.poll().unwrap_err(),
                RingError::IdNotInFlight { id }
            );
            assert!(rig.ring.is_broken());
            assert_eq!(rig.restart(), [1]);
        }
    }
}

#[test]
fn threat_5_and_6_index_jumps() {
    for layout in [Layout::Split, Layout::SplitInOrder] {
        for index in [2, 3, 0x8000, 0xffff] {
            let mut rig = Rig::new(config(layout, 4));
            rig.add(1, 0, 1).unwrap();
            rig.ring.publish();
            lie(&rig, 0, 0, index);
            assert_eq!(
                rig.ring.poll().unwrap_err(),
                RingError::IndexJump {
                    delta: index,
                    limit: 1
                }
            );
            assert_eq!(rig.restart(), [1]);
        }
    }
}

#[test]
fn threat_9_flags_in_the_shared_table_do_not_matter() {
    for layout in LAYOUTS {
        let mut rig = Rig::new(config(layout, 4));
        for turn in 0..9_u64 {
            rig.add(2, 1, turn).unwrap();
            rig.ring.publish();
            let chain = rig.device.pop().unwrap();
            // A loop through every descriptor.
            if !layout.is_packed() {
                for index in 0..4_u64 {
                    let at = rig.mem.areas().desc + 16 * index;
                    rig.guest.set_u16(at + 12, 1);
                    rig.guest.set_u16(at + 14, (index as u16 + 1) % 4);
                }
            }
            rig.device.complete(&chain, 0);
            assert_eq!(rig.poll(), Some((turn, 0)));
            assert_eq!(rig.ring.num_free(), 4);
        }
    }
}

#[test]
fn a_device_cannot_complete_what_it_cannot_see() {
    for layout in LAYOUTS {
        let mut rig = Rig::new(config(layout, 4));
        rig.add(1, 0, 1).unwrap();
        lie(&rig, 0, 0, 1);
        // The payload comes back, but only after the chain was made visible.
        assert_eq!(rig.poll(), Some((1, 0)));
        if layout.is_packed() {
            // The driver's own flags went over the lie.
            assert_eq!(rig.guest.u16(rig.mem.areas().desc + 14), 1 << 7);
        } else {
            assert_eq!(rig.guest.u16(rig.mem.areas().driver + 2), 1);
        }
        rig.mem.take_log();
        rig.ring.publish();
        assert_eq!(rig.mem.take_log(), []);
    }
}

#[test]
#[should_panic]
fn stale_used_elements_are_noticed() {
    let mut rig = Rig::new(config(Layout::Split, 4));
    rig.break_with(Fault::StaleUsed);
    for turn in 0..3 {
        rig.add(1, 1, turn).unwrap();
        rig.add(1, 1, turn + 10).unwrap();
        rig.ring.publish();
        for _ in 0..2 {
            let chain = rig.device.pop().unwrap();
            rig.device.complete(&chain, 0);
        }
        assert_eq!(rig.poll(), Some((turn, 0)));
        assert_eq!(rig.poll(), Some((turn + 10, 0)));
    }
}

#[test]
fn largest_ring_works_in_every_layout() {
    for layout in LAYOUTS {
        let mut rig = Rig::new(config(layout, 32768));
        for turn in 0..3_u64 {
            for i in 0..32768 {
                rig.add(1, 0, turn + i).unwrap();
            }
            assert_eq!(rig.add(1, 0, 0), Err(AddErrorKind::Full));
            rig.ring.publish();
            for i in 0..32768 {
                // One at a time: the reference device looks through its list.
                let chain = rig.device.pop().unwrap();
                rig.device.complete(&chain, 0);
                assert_eq!(rig.poll(), Some((turn + i, 0)));
            }
        }
    }
}

#[test]
fn ring_of_one() {
    for layout in LAYOUTS {
        let mut rig = Rig::new(event_config(layout, 1));
        for turn in 0..100 {
            rig.add(0, 1, turn).unwrap();
            assert_eq!(rig.add(1, 0, 0), Err(AddErrorKind::Full));
            rig.device.wish(virtqueue_tests::device::Wish::Next);
            assert!(rig.ring.kick_prepare());
            let chain = rig.device.pop().unwrap();
            rig.device.complete(&chain, 8);
            assert!(rig.device.interrupt());
            assert_eq!(rig.poll(), Some((turn, 8)));
        }
    }
}
