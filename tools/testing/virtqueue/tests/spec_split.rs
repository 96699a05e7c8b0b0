// SPDX-License-Identifier: GPL-2.0

//! Split rings, rule by rule. Tests are named after sections of the virtio 1.4 specification.
#![cfg(not(loom))]

use virtqueue::{
    event::need_event,
    layout::{SplitLayout, AVAIL_ALIGN, DESC_ALIGN, USED_ALIGN},
    AddErrorKind, CbState, Layout, LengthPolicy, QueueSize, RingError, Segment,
};
use virtqueue_tests::{
    device::Wish,
    driver::{Fault, Op},
    rig::{config, event_config, indirect_config, Rig},
};

fn split(size: u32) -> Rig {
    Rig::new(config(Layout::Split, size))
}

#[test]
fn spec_2_7_sizes_and_alignments() {
    for bits in 0..=15 {
        let num = 1_usize << bits;
        let layout = SplitLayout::new(QueueSize::new(1 << bits).unwrap(), 4096).unwrap();
        assert_eq!(layout.desc_size, 16 * num);
        assert_eq!(layout.avail_size, 6 + 2 * num);
        assert_eq!(layout.used_size, 6 + 8 * num);
        assert!(layout.desc.is_multiple_of(DESC_ALIGN));
        assert!(layout.avail.is_multiple_of(AVAIL_ALIGN));
        assert!(layout.used.is_multiple_of(USED_ALIGN));
        assert_eq!(layout.used_event, layout.avail_entry(0) + 2 * num);
        assert_eq!(layout.avail_event, layout.used_elem(0) + 8 * num);
        assert_eq!(layout.total, layout.avail_event + 2);
    }
    assert_eq!(SplitLayout::new(QueueSize::new(3).unwrap(), 4096), None);
    assert_eq!(SplitLayout::new(QueueSize::new(4).unwrap(), 3), None);
    assert_eq!(SplitLayout::new(QueueSize::new(4).unwrap(), 2), None);
}

#[test]
fn spec_2_7_2_legacy_offsets() {
    // The usual 256 entries on 4 KiB pages, by hand.
    let layout = SplitLayout::new(QueueSize::new(256).unwrap(), 4096).unwrap();
    assert_eq!((layout.avail, layout.used_event), (4096, 4096 + 4 + 512));
    assert_eq!((layout.used, layout.avail_event), (8192, 8192 + 4 + 2048));
}

#[test]
fn spec_2_7_queue_size_is_a_power_of_two() {
    let mut bad = config(Layout::Split, 4);
    bad.size = QueueSize::new(6).unwrap();
    let rig = Rig::new(config(Layout::Split, 8));
    let slots: Vec<virtqueue::Slot<u64>> = (0..8).map(|_| virtqueue::Slot::EMPTY).collect();
    let made = virtqueue::Ring::new(bad, rig.mem.clone(), (slots, Vec::new()));
    assert_eq!(made.err(), Some(virtqueue::NewError::SizeNotPowerOfTwo));
    assert_eq!(QueueSize::new(0), None);
    assert_eq!(QueueSize::new(32769), None);
    assert_eq!(QueueSize::new(65536 + 4), None);
}

#[test]
fn spec_2_7_4_2_writable_after_readable() {
    let mut rig = split(4);
    let (a, b) = (rig.segment(0, 4), rig.segment(8, 6));
    rig.ring.add(&[a, b], &[b], 7).unwrap();
    rig.ring.publish();
    let chain = rig.device.pop().unwrap();
    assert_eq!(chain.readable, [a, b]);
    assert_eq!(chain.writable, [b]);
    assert_eq!(chain.ndescs, 3);

    let mut builder = rig.ring.begin(1).unwrap();
    builder.writable(a).unwrap();
    assert_eq!(builder.readable(a), Err(AddErrorKind::Misordered));
}

#[test]
fn spec_2_7_5_2_chain_longer_than_32_bits_is_refused() {
    let mut rig = split(4);
    let half = Segment {
        addr: 1 << 32,
        len: 1 << 31,
    };
    let error = rig.ring.add(&[half], &[half], 7).unwrap_err();
    assert_eq!((error.kind, error.payload), (AddErrorKind::TooLong, 7));
    let less = Segment {
        len: half.len - 1,
        ..half
    };
    rig.ring.add(&[half], &[less], 7).unwrap();
    assert_eq!(rig.ring.num_free(), 2);
    let mut builder = rig.ring.begin(2).unwrap();
    builder.readable(half).unwrap();
    assert_eq!(builder.writable(half), Err(AddErrorKind::TooLong));
    drop(builder);
    let kind = rig
        .ring
        .add_indirect(rig.segment(0, 16), 1 << 31, 1 << 31, 8)
        .unwrap_err()
        .kind;
    assert_eq!(kind, AddErrorKind::TooLong);
}

#[test]
fn spec_2_7_5_3_1_indirect_only_when_negotiated() {
    let mut config = config(Layout::Split, 4);
    let mut rig = Rig::with_tables(config, 4);
    rig.add(2, 1, 1).unwrap();
    assert_eq!(rig.ring.num_free(), 1);
    config.features.indirect = true;
    let mut rig = Rig::with_tables(config, 4);
    rig.add(2, 1, 1).unwrap();
    assert_eq!(rig.ring.num_free(), 3);
    rig.ring.publish();
    let chain = rig.device.pop().unwrap();
    assert_eq!((chain.readable.len(), chain.writable.len()), (2, 1));
    assert_eq!(chain.ndescs, 1);
}

#[test]
fn spec_2_7_5_3_tables_only_where_they_help() {
    let mut rig = Rig::with_tables(indirect_config(Layout::Split, 8), 3);
    // One segment, too many segments, and by the caller's wish.
    rig.add(1, 0, 1).unwrap();
    assert_eq!(rig.ring.num_free(), 7);
    rig.add(2, 2, 2).unwrap();
    assert_eq!(rig.ring.num_free(), 3);
    let segment = rig.segment(0, 8);
    rig.ring.add_direct(&[segment], &[segment], 3).unwrap();
    assert_eq!(rig.ring.num_free(), 1);
    rig.ring.publish();
    for ndescs in [1, 4, 2] {
        assert_eq!(rig.device.pop().unwrap().ndescs, ndescs);
    }
}

#[test]
fn spec_2_7_5_3_table_of_the_caller() {
    let mut rig = Rig::new(indirect_config(Layout::Split, 4));
    let table = rig.segment(0, 32);
    for (at, len, flags, next) in [(0, 5, 1, 1), (16, 9, 2, 0)] {
        rig.guest.set_u64(table.addr + at, rig.data + 64);
        rig.guest.set_u32(table.addr + at + 8, len);
        rig.guest.set_u16(table.addr + at + 12, flags);
        rig.guest.set_u16(table.addr + at + 14, next);
    }
    rig.ring.add_indirect(table, 5, 9, 77).unwrap();
    for len in [0, 15, 17] {
        let kind = rig
            .ring
            .add_indirect(rig.segment(0, len), 5, 9, 78)
            .unwrap_err()
            .kind;
        assert_eq!(kind, AddErrorKind::BadTable);
    }
    rig.ring.publish();
    let chain = rig.device.pop().unwrap();
    assert_eq!((chain.readable[0].len, chain.room()), (5, 9));
    rig.device.complete(&chain, 9);
    assert_eq!(rig.poll(), Some((77, 9)));
}

#[test]
fn spec_2_7_6_1_avail_idx_only_grows() {
    let mut rig = split(2);
    for turn in 0..70_000_u64 {
        rig.add(1, 1, turn).unwrap();
        rig.ring.publish();
        let chain = rig.device.pop().unwrap();
        rig.device.complete(&chain, 3);
        assert_eq!(rig.poll(), Some((turn, 3)));
        let idx = rig.guest.u16(rig.mem.areas().driver + 2);
        assert_eq!(idx, (turn + 1) as u16);
        assert_eq!(rig.ring.notification_data(), idx);
    }
}

#[test]
fn spec_2_7_7_1_flags_without_event_idx() {
    let mut rig = split(4);
    let flags = rig.mem.areas().driver;
    rig.ring.disable_cb();
    assert_eq!(rig.guest.u16(flags), 1);
    rig.add(1, 0, 1).unwrap();
    rig.ring.publish();
    let chain = rig.device.pop().unwrap();
    rig.device.complete(&chain, 0);
    assert!(!rig.device.interrupt());
    assert_eq!(rig.ring.enable_cb(), CbState::MorePending);
    assert_eq!(rig.guest.u16(flags), 0);
    assert_eq!(rig.poll(), Some((1, 0)));
    assert_eq!(rig.ring.enable_cb(), CbState::Armed);
}

#[test]
fn spec_2_7_7_1_flags_stay_0_with_event_idx() {
    let mut rig = Rig::new(event_config(Layout::Split, 4));
    rig.ring.disable_cb();
    let _ = rig.ring.enable_cb();
    rig.ring.disable_cb();
    assert_eq!(rig.guest.u16(rig.mem.areas().driver), 0);
    let log = rig.mem.take_log();
    assert!(!log.iter().any(|op| matches!(op, Op::EventFlags(_))));
}

#[test]
fn spec_2_7_7_queue_without_callback() {
    let mut config = config(Layout::Split, 4);
    config.callbacks = false;
    let rig = Rig::new(config);
    assert_eq!(rig.guest.u16(rig.mem.areas().driver), 1);
}

#[test]
fn spec_2_7_7_used_event_once_a_batch() {
    let mut rig = Rig::new(event_config(Layout::Split, 8));
    for i in 0..5 {
        rig.add(0, 1, i).unwrap();
    }
    rig.ring.publish();
    for _ in 0..5 {
        let chain = rig.device.pop().unwrap();
        rig.device.complete(&chain, 1);
    }
    assert!(rig.device.interrupt());
    rig.mem.take_log();
    for i in 0..5 {
        assert_eq!(rig.poll(), Some((i, 1)));
    }
    let log = rig.mem.take_log();
    let events: Vec<_> = log.iter().filter(|op| matches!(op, Op::Event(_))).collect();
    assert_eq!(events, [&Op::Event(5)]);
    // ... and it is followed by the full barrier.
    assert_eq!(log[log.len() - 2..], [Op::Event(5), Op::Full]);
    // The index is looked at once for the batch.
    let looks = log.iter().filter(|op| **op == Op::LoadUsedIdx).count();
    assert_eq!(looks, 1);
}

#[test]
fn spec_2_7_7_one_poll_for_each_interrupt_is_enough() {
    // A driver that takes one buffer for each interrupt and never waits for None.
    let mut rig = Rig::new(event_config(Layout::Split, 2));
    for turn in 0..70_000 {
        rig.add(0, 1, turn).unwrap();
        rig.ring.publish();
        let chain = rig.device.pop().unwrap();
        rig.device.complete(&chain, 1);
        assert!(rig.device.interrupt(), "turn {turn}");
        assert_eq!(rig.poll(), Some((turn, 1)));
    }
}

#[test]
#[should_panic = "no interrupt"]
fn spec_2_7_7_lost_used_event_is_noticed() {
    let mut rig = Rig::new(event_config(Layout::Split, 2));
    rig.break_with(Fault::LostEvent);
    for turn in 0..3 {
        rig.add(0, 1, turn).unwrap();
        rig.ring.publish();
        let chain = rig.device.pop().unwrap();
        rig.device.complete(&chain, 1);
        assert!(rig.device.interrupt(), "no interrupt");
        rig.poll();
    }
}

#[test]
fn spec_2_7_7_disabled_callbacks_do_not_fire_soon() {
    let mut rig = Rig::new(event_config(Layout::Split, 4));
    rig.ring.disable_cb();
    for turn in 0..65_000 {
        rig.add(0, 1, turn).unwrap();
        rig.ring.publish();
        let chain = rig.device.pop().unwrap();
        rig.device.complete(&chain, 1);
        assert!(!rig.device.interrupt(), "turn {turn}");
        assert_eq!(rig.poll(), Some((turn, 1)));
    }
}

#[test]
fn c_event_triggered_saves_the_store() {
    let mut rig = Rig::new(event_config(Layout::Split, 4));
    rig.ring.note_interrupt();
    rig.mem.take_log();
    rig.ring.disable_cb();
    assert_eq!(rig.mem.take_log(), []);
    // Enabling clears the hint: the next disable writes again.
    let _ = rig.ring.enable_cb();
    rig.mem.take_log();
    rig.ring.disable_cb();
    assert!(matches!(rig.mem.take_log()[..], [Op::Event(_)]));
}

#[test]
fn c_enable_cb_delayed_waits_for_three_quarters() {
    let mut rig = Rig::new(event_config(Layout::Split, 8));
    for i in 0..8 {
        rig.add(0, 1, i).unwrap();
    }
    rig.ring.publish();
    rig.ring.disable_cb();
    assert_eq!(rig.ring.enable_cb_delayed(), CbState::Armed);
    let mut fired = 0;
    for done in 1..=8 {
        let chain = rig.device.pop().unwrap();
        rig.device.complete(&chain, 1);
        if rig.device.interrupt() {
            assert_eq!(done, 7);
            fired += 1;
        }
    }
    assert_eq!(fired, 1);
    assert_eq!(rig.ring.enable_cb_delayed(), CbState::MorePending);
    rig.ring.break_ring();
    assert_eq!(rig.ring.enable_cb_delayed(), CbState::Armed);
}

#[test]
fn spec_2_7_8_used_in_any_order() {
    let mut rig = split(8);
    for i in 0..4 {
        rig.add(1, 1, i).unwrap();
    }
    rig.ring.publish();
    let mut chains: Vec<_> = std::iter::from_fn(|| rig.device.pop()).collect();
    assert_eq!(chains.len(), 4);
    chains.swap(0, 3);
    chains.swap(1, 2);
    for (n, chain) in chains.iter().enumerate() {
        rig.device.complete(chain, n as u32);
    }
    let back: Vec<_> = std::iter::from_fn(|| rig.poll()).collect();
    assert_eq!(back, [(3, 0), (2, 1), (1, 2), (0, 3)]);
    assert_eq!(rig.ring.num_free(), 8);
}

#[test]
fn spec_2_7_8_2_index_is_read_before_the_element() {
    let mut rig = split(4);
    rig.add(0, 1, 1).unwrap();
    rig.ring.publish();
    let chain = rig.device.pop().unwrap();
    rig.device.complete(&chain, 8);
    rig.mem.take_log();
    rig.poll().unwrap();
    assert_eq!(
        rig.mem.take_log(),
        [Op::LoadUsedIdx, Op::Acquire, Op::LoadUsed]
    );
}

#[test]
fn spec_2_7_8_3_length_is_bounded() {
    let mut rig = split(4);
    rig.add(3, 1, 1).unwrap();
    rig.ring.publish();
    let chain = rig.device.pop().unwrap();
    rig.device.complete(&chain, 9);
    let (len, writable) = (9, 8);
    assert_eq!(
        rig.ring.poll().unwrap_err(),
        RingError::LengthTooLong {
            id: 0,
            len,
            writable
        }
    );
    assert!(rig.ring.is_broken());
    assert_eq!(rig.ring.poll(), Ok(None));
    assert_eq!(rig.add(1, 0, 2), Err(AddErrorKind::Broken));
    assert_eq!(rig.restart(), [1]);

    let mut config = config(Layout::Split, 4);
    config.length_policy = LengthPolicy::Clamp;
    let mut rig = Rig::new(config);
    rig.add(3, 1, 1).unwrap();
    rig.ring.publish();
    let chain = rig.device.pop().unwrap();
    rig.device.complete(&chain, u32::MAX);
    assert_eq!(rig.poll(), Some((1, 8)));
}

#[test]
fn spec_2_7_9_in_order_batch() {
    let mut rig = Rig::new(config(Layout::SplitInOrder, 8));
    for turn in 0..20_u64 {
        for i in 0..3 {
            rig.add(1, 1, 3 * turn + i).unwrap();
        }
        rig.ring.publish();
        let chains: Vec<_> = std::iter::from_fn(|| rig.device.pop()).collect();
        rig.device.complete_batch(&chains, 5);
        assert!(rig.ring.more_used());
        // The skipped ones were used completely, as far as the driver may assume.
        assert_eq!(rig.poll(), Some((3 * turn, 8)));
        assert!(rig.ring.more_used());
        assert!(rig.ring.observer().more_used());
        assert_eq!(rig.ring.enable_cb(), CbState::MorePending);
        assert_eq!(rig.poll(), Some((3 * turn + 1, 8)));
        assert_eq!(rig.poll(), Some((3 * turn + 2, 5)));
        assert_eq!(rig.poll(), None);
        assert!(!rig.ring.more_used());
    }
}

#[test]
fn spec_2_7_9_in_order_batch_longer_than_the_index_says() {
    let mut rig = Rig::new(config(Layout::SplitInOrder, 8));
    for i in 0..3 {
        rig.add(0, 1, i).unwrap();
    }
    rig.ring.publish();
    // Element for the third buffer, but the index moves by two.
    let used = rig.mem.areas().device;
    rig.guest.set_u32(used + 4, 2);
    rig.guest.set_u32(used + 8, 1);
    rig.guest.set_u16(used + 2, 2);
    assert_eq!(rig.poll(), Some((0, 8)));
    assert!(matches!(rig.ring.poll(), Err(RingError::IndexJump { .. })));
    assert_eq!(rig.restart(), [1, 2]);
}

#[test]
fn spec_2_7_10_1_kick_follows_the_flags() {
    let mut rig = split(8);
    rig.add(1, 0, 1).unwrap();
    assert!(rig.ring.kick_prepare());
    rig.device.wish(Wish::Nothing);
    rig.add(1, 0, 2).unwrap();
    assert!(!rig.ring.kick_prepare());
}

#[test]
fn spec_2_7_10_1_kick_follows_avail_event() {
    let mut rig = Rig::new(event_config(Layout::Split, 8));
    for turn in 0..70_000_u64 {
        rig.device.wish(Wish::Next);
        rig.add(1, 0, turn).unwrap();
        rig.add(1, 0, turn).unwrap();
        assert!(rig.ring.kick_prepare(), "turn {turn}");
        rig.add(1, 0, turn).unwrap();
        assert!(!rig.ring.kick_prepare(), "turn {turn}");
        while let Some(chain) = rig.device.pop() {
            rig.device.complete(&chain, 0);
        }
        while rig.poll().is_some() {}
    }
}

#[test]
fn spec_2_7_10_kick_after_index_overflow() {
    // The device asks for a far entry, and the driver does not kick for 2^16 chains.
    let mut rig = Rig::new(event_config(Layout::Split, 2));
    for turn in 0..65_536 {
        rig.add(1, 0, turn).unwrap();
        rig.ring.publish();
        let chain = rig.device.pop().unwrap();
        rig.device.complete(&chain, 0);
        rig.poll().unwrap();
    }
    let at = rig.mem.areas().device + 4 + 16;
    rig.guest.set_u16(at, 1000);
    assert!(rig.ring.kick_prepare());
    assert!(!rig.ring.kick_prepare());
}

#[test]
fn spec_2_7_13_several_chains_one_publication() {
    let mut rig = split(8);
    rig.mem.take_log();
    for i in 0..4 {
        rig.add(1, 0, i).unwrap();
    }
    assert!(rig.device.pop().is_none());
    let before = rig.mem.take_log();
    assert!(!before.contains(&Op::Publish));
    rig.ring.publish();
    assert_eq!(rig.mem.take_log(), [Op::Publish, Op::AvailIdx(4)]);
    rig.ring.publish();
    assert_eq!(rig.mem.take_log(), []);
    assert_eq!(std::iter::from_fn(|| rig.device.pop()).count(), 4);
}

#[test]
#[should_panic = "assertion"]
fn spec_2_7_13_lost_publication_is_noticed() {
    let mut rig = split(8);
    rig.break_with(Fault::LostPublication);
    rig.add(1, 0, 1).unwrap();
    rig.ring.publish();
    assert!(rig.device.pop().is_some());
}

#[test]
#[should_panic = "offered twice"]
fn spec_2_7_13_2_lost_available_entry_is_noticed() {
    let mut rig = split(8);
    rig.break_with(Fault::LostAvailEntry);
    rig.add(1, 0, 1).unwrap();
    rig.add(1, 0, 2).unwrap();
    rig.ring.publish();
    while rig.device.pop().is_some() {}
}

#[test]
fn spec_2_7_13_4_1_full_barrier_before_the_wish_is_read() {
    let mut rig = split(8);
    rig.add(1, 0, 1).unwrap();
    rig.mem.take_log();
    let _ = rig.ring.kick_prepare();
    assert_eq!(
        rig.mem.take_log(),
        [Op::Publish, Op::AvailIdx(1), Op::Full, Op::LoadWish]
    );
}

#[test]
fn need_event_is_its_definition() {
    // For every distance: was `event` one of the indices from `old` to `new`, `new` excluded?
    for old in [0_u16, 1, 0x7fff, 0xfff0] {
        for moved in 0..40 {
            let new = old.wrapping_add(moved);
            for offset in -50..50 {
                let event = old.wrapping_add_signed(offset);
                let passed = (0..moved).any(|i| old.wrapping_add(i) == event);
                assert_eq!(need_event(event, new, old), passed);
            }
        }
    }
}
