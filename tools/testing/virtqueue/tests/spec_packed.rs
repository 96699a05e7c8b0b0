// SPDX-License-Identifier: GPL-2.0

//! Packed rings, rule by rule. Tests are named after sections of the virtio 1.4 specification.
#![cfg(not(loom))]

use virtqueue::{event::PackedIndex, layout::PackedLayout, CbState, Layout, QueueSize, RingError};
use virtqueue_tests::{
    device::Wish,
    driver::{Fault, Op},
    rig::{config, event_config, indirect_config, Rig},
};

fn packed(size: u32) -> Rig {
    Rig::new(config(Layout::Packed, size))
}

/// Flags of descriptor `index`.
fn flags(rig: &Rig, index: u64) -> u16 {
    rig.guest.u16(rig.mem.areas().desc + 16 * index + 14)
}

#[test]
fn spec_2_8_10_1_sizes() {
    let layout = PackedLayout::new(QueueSize::new(7).unwrap());
    assert_eq!(layout.desc_size, 16 * 7);
    assert_eq!((layout.driver_event_size, layout.device_event_size), (4, 4));
    assert_eq!(layout.desc(3), 48);
}

#[test]
fn spec_2_8_1_wrap_counters() {
    let mut rig = packed(3);
    const AVAIL: u16 = 1 << 7;
    const USED: u16 = 1 << 15;
    for turn in 0..7_u64 {
        rig.add(1, 0, turn).unwrap();
        rig.ring.publish();
        let expected = if (turn / 3) % 2 == 0 { AVAIL } else { USED };
        assert_eq!(flags(&rig, turn % 3), expected, "turn {turn}");
        let chain = rig.device.pop().unwrap();
        rig.device.complete(&chain, 0);
        let expected = if (turn / 3) % 2 == 0 { AVAIL | USED } else { 0 };
        assert_eq!(flags(&rig, turn % 3), expected, "turn {turn}");
        assert_eq!(rig.poll(), Some((turn, 0)));
    }
}

#[test]
fn spec_2_8_1_chain_across_the_end() {
    let mut rig = packed(5);
    for turn in 0..20_u64 {
        rig.add(2, 1, turn).unwrap();
        rig.ring.publish();
        let chain = rig.device.pop().unwrap();
        assert_eq!((chain.readable.len(), chain.writable.len()), (2, 1));
        rig.device.complete(&chain, 4);
        assert_eq!(rig.poll(), Some((turn, 4)));
        assert_eq!(rig.ring.num_free(), 5);
    }
}

#[test]
fn spec_2_8_6_id_follows_out_of_order_use() {
    let mut rig = packed(6);
    let mut next = 0;
    let mut out = Vec::new();
    for turn in 0..50 {
        while rig.ring.num_free() >= 2 {
            rig.add(1, 1, next).unwrap();
            next += 1;
        }
        rig.ring.publish();
        while let Some(chain) = rig.device.pop() {
            out.push(chain);
        }
        let chain = out.swap_remove(turn % out.len());
        rig.device.complete(&chain, turn as u32 % 9);
        let (_, written) = rig.poll().unwrap();
        assert_eq!(written, turn as u32 % 9);
        assert_eq!(rig.poll(), None);
    }
}

#[test]
fn spec_2_8_7_indirect_table() {
    for layout in [Layout::Packed, Layout::PackedInOrder] {
        let mut rig = Rig::with_tables(indirect_config(layout, 3), 4);
        for turn in 0..10 {
            rig.add(3, 1, turn).unwrap();
            rig.add(1, 3, turn + 100).unwrap();
            assert_eq!(rig.ring.num_free(), 1);
            rig.ring.publish();
            let first = rig.device.pop().unwrap();
            assert_eq!((first.readable.len(), first.writable.len()), (3, 1));
            let second = rig.device.pop().unwrap();
            assert_eq!((second.readable.len(), second.writable.len()), (1, 3));
            rig.device.complete(&first, 8);
            rig.device.complete(&second, 24);
            assert_eq!(rig.poll(), Some((turn, 8)));
            assert_eq!(rig.poll(), Some((turn + 100, 24)));
        }
    }
}

#[test]
fn spec_2_8_8_in_order_batch() {
    let mut rig = Rig::new(config(Layout::PackedInOrder, 7));
    for turn in 0..20_u64 {
        for i in 0..3 {
            rig.add(1, 1, 3 * turn + i).unwrap();
        }
        rig.ring.publish();
        let chains: Vec<_> = std::iter::from_fn(|| rig.device.pop()).collect();
        rig.device.complete_batch(&chains, 5);
        assert!(rig.ring.more_used());
        assert_eq!(rig.poll(), Some((3 * turn, 8)));
        // C looks at the next descriptor here, and sleeps with two buffers left.
        assert!(rig.ring.more_used());
        assert!(rig.ring.observer().more_used());
        assert_eq!(rig.ring.enable_cb(), CbState::MorePending);
        assert_eq!(rig.ring.enable_cb_delayed(), CbState::MorePending);
        assert_eq!(rig.poll(), Some((3 * turn + 1, 8)));
        assert_eq!(rig.poll(), Some((3 * turn + 2, 5)));
        assert_eq!(rig.poll(), None);
    }
}

#[test]
fn spec_2_8_4_length_without_write_flag_is_reserved() {
    let mut rig = packed(4);
    rig.add(1, 0, 1).unwrap();
    rig.ring.publish();
    let _ = rig.device.pop().unwrap();
    // Used, no WRITE, and the length left as the driver wrote it.
    let at = rig.mem.areas().desc;
    rig.guest.set_u16(at + 14, 1 << 7 | 1 << 15);
    assert_eq!(rig.guest.u32(at + 8), 8);
    assert_eq!(rig.poll(), Some((1, 0)));

    // With WRITE the device vouches for it.
    rig.add(1, 0, 2).unwrap();
    rig.ring.publish();
    rig.guest.set_u16(at + 16 + 14, 1 << 7 | 1 << 15 | 2);
    assert_eq!(
        rig.ring.poll().unwrap_err(),
        RingError::LengthTooLong {
            id: 0,
            len: 8,
            writable: 0
        }
    );
}

#[test]
fn spec_2_8_10_desc_event() {
    let mut rig = Rig::new(event_config(Layout::Packed, 5));
    let driver = rig.mem.areas().driver;
    // For the first buffer at the start, not for each.
    assert_eq!(rig.guest.u16(driver + 2), 2);
    assert_eq!(rig.guest.u16(driver), PackedIndex::START.off_wrap());
    rig.ring.disable_cb();
    assert_eq!(rig.guest.u16(driver + 2), 1);
    assert_eq!(rig.ring.enable_cb(), CbState::Armed);
    assert_eq!(rig.guest.u16(driver + 2), 2);
    assert_eq!(rig.guest.u16(driver), PackedIndex::START.off_wrap());
    // From now on one interrupt for each buffer, if each is polled for.
    for turn in 0..50 {
        rig.add(1, 0, turn).unwrap();
        rig.ring.publish();
        let chain = rig.device.pop().unwrap();
        rig.device.complete(&chain, 0);
        assert!(rig.device.interrupt(), "turn {turn}");
        assert_eq!(rig.poll(), Some((turn, 0)));
    }
}

#[test]
fn spec_2_8_10_one_interrupt_for_what_is_not_polled() {
    let mut rig = Rig::new(event_config(Layout::Packed, 8));
    for turn in 0..5 {
        rig.add(1, 0, turn).unwrap();
    }
    rig.ring.publish();
    for turn in 0..5 {
        let chain = rig.device.pop().unwrap();
        rig.device.complete(&chain, 0);
        assert_eq!(rig.device.interrupt(), turn == 0, "turn {turn}");
    }
}

#[test]
fn spec_2_8_10_offset_before_flags() {
    let mut rig = Rig::new(event_config(Layout::Packed, 5));
    rig.ring.disable_cb();
    rig.mem.take_log();
    let _ = rig.ring.enable_cb_prepare();
    assert_eq!(
        rig.mem.take_log(),
        [
            Op::Event(PackedIndex::START.off_wrap()),
            Op::Publish,
            Op::EventFlags(2)
        ]
    );
}

#[test]
fn spec_2_8_10_event_offset_once_a_batch() {
    let mut rig = Rig::new(event_config(Layout::Packed, 8));
    rig.ring.disable_cb();
    let _ = rig.ring.enable_cb();
    for i in 0..5 {
        rig.add(0, 1, i).unwrap();
    }
    rig.ring.publish();
    for _ in 0..5 {
        let chain = rig.device.pop().unwrap();
        rig.device.complete(&chain, 1);
    }
    rig.mem.take_log();
    while rig.poll().is_some() {}
    let log = rig.mem.take_log();
    let events = log.iter().filter(|op| matches!(op, Op::Event(_))).count();
    assert_eq!(events, 1);
    assert!(log.contains(&Op::Event(PackedIndex::new(5, true).off_wrap())));
}

#[test]
fn spec_2_8_10_queue_without_callback() {
    let mut config = config(Layout::Packed, 4);
    config.callbacks = false;
    let rig = Rig::new(config);
    assert_eq!(rig.guest.u16(rig.mem.areas().driver + 2), 1);
}

#[test]
fn spec_2_8_10_kick_follows_the_device_event() {
    let mut rig = Rig::new(event_config(Layout::Packed, 5));
    for turn in 0..1000 {
        rig.device.wish(Wish::Next);
        rig.add(1, 0, turn).unwrap();
        rig.add(1, 1, turn).unwrap();
        assert!(rig.ring.kick_prepare(), "turn {turn}");
        rig.add(1, 0, turn).unwrap();
        assert!(!rig.ring.kick_prepare(), "turn {turn}");
        rig.device.wish(Wish::Nothing);
        assert!(!rig.ring.kick_prepare());
        while let Some(chain) = rig.device.pop() {
            rig.device.complete(&chain, 0);
        }
        while rig.poll().is_some() {}
    }
}

#[test]
fn spec_2_8_10_kick_after_index_overflow() {
    let mut rig = Rig::new(event_config(Layout::Packed, 3));
    for turn in 0..65_536 {
        rig.add(1, 0, turn).unwrap();
        rig.ring.publish();
        let chain = rig.device.pop().unwrap();
        rig.device.complete(&chain, 0);
        rig.poll().unwrap();
    }
    rig.guest.set_u16(rig.mem.areas().device, 0x8001);
    rig.guest.set_u16(rig.mem.areas().device + 2, 2);
    assert!(rig.ring.kick_prepare());
}

#[test]
fn spec_2_8_17_head_flags_last() {
    let mut rig = packed(8);
    rig.add(2, 1, 1).unwrap();
    assert_eq!(
        rig.mem.take_log(),
        [
            Op::Desc(0),
            Op::Desc(1),
            Op::Flags(1),
            Op::Desc(2),
            Op::Flags(2)
        ]
    );
    rig.ring.publish();
    assert_eq!(rig.mem.take_log(), [Op::Publish, Op::Flags(0)]);
}

#[test]
fn spec_2_8_17_builder_writes_no_flags_before_it_is_committed() {
    let mut rig = packed(8);
    let segment = rig.segment(0, 8);
    let mut builder = rig.ring.begin(2).unwrap();
    builder.readable(segment).unwrap();
    builder.writable(segment).unwrap();
    assert_eq!(rig.mem.take_log(), [Op::Desc(0), Op::Desc(1)]);
    builder.commit(1).unwrap();
    assert_eq!(rig.mem.take_log(), [Op::Flags(1)]);
    rig.ring.publish();
    assert_eq!(rig.mem.take_log(), [Op::Publish, Op::Flags(0)]);
}

#[test]
fn spec_2_8_21_batch_hangs_on_its_first_head() {
    let mut rig = packed(8);
    for i in 0..4 {
        rig.add(1, 0, i).unwrap();
    }
    assert!(rig.device.pop().is_none());
    rig.mem.take_log();
    rig.ring.publish();
    assert_eq!(rig.mem.take_log(), [Op::Publish, Op::Flags(0)]);
    assert_eq!(std::iter::from_fn(|| rig.device.pop()).count(), 4);
}

#[test]
fn spec_2_8_17_dropped_builder_makes_nothing_available() {
    // C's recent bug: a longer chain that fails midway leaves flags behind a shorter one's end.
    let mut rig = packed(4);
    for turn in 0..20_u64 {
        let segment = rig.segment(0, 8);
        let mut builder = rig.ring.begin(4).unwrap();
        for _ in 0..3 {
            builder.readable(segment).unwrap();
        }
        drop(builder);
        assert_eq!(rig.ring.num_free(), 4);
        rig.add(1, 0, turn).unwrap();
        rig.ring.publish();
        let chain = rig.device.pop().unwrap();
        assert!(rig.device.pop().is_none());
        rig.device.complete(&chain, 0);
        assert_eq!(rig.poll(), Some((turn, 0)));
        assert_eq!(rig.poll(), None);
    }
}

#[test]
#[should_panic = "assertion"]
fn spec_2_8_6_lost_next_flag_is_noticed() {
    let mut rig = packed(8);
    rig.break_with(Fault::LostNext);
    rig.add(2, 1, 1).unwrap();
    rig.ring.publish();
    assert_eq!(rig.device.pop().unwrap().ndescs, 3);
}

#[test]
fn spec_2_8_21_3_1_full_barrier_before_the_wish_is_read() {
    let mut rig = packed(8);
    rig.add(1, 0, 1).unwrap();
    rig.mem.take_log();
    let _ = rig.ring.kick_prepare();
    assert_eq!(
        rig.mem.take_log(),
        [Op::Publish, Op::Flags(0), Op::Full, Op::LoadWish]
    );
}

#[test]
fn spec_2_8_22_flags_are_read_before_the_rest() {
    let mut rig = packed(8);
    rig.add(1, 0, 1).unwrap();
    rig.ring.publish();
    let chain = rig.device.pop().unwrap();
    rig.device.complete(&chain, 0);
    rig.mem.take_log();
    rig.poll().unwrap();
    assert_eq!(
        rig.mem.take_log(),
        [Op::LoadUsedIdx, Op::Acquire, Op::LoadUsed]
    );
}

#[test]
fn spec_2_9_notification_data_has_the_wrap_counter() {
    let mut rig = packed(3);
    let mut seen = Vec::new();
    for turn in 0..7 {
        seen.push(rig.ring.notification_data());
        rig.add(1, 0, turn).unwrap();
        rig.ring.publish();
        let chain = rig.device.pop().unwrap();
        rig.device.complete(&chain, 0);
        rig.poll().unwrap();
    }
    assert_eq!(seen, [0x8000, 0x8001, 0x8002, 0, 1, 2, 0x8000]);
}
