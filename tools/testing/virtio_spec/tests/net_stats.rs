// SPDX-License-Identifier: GPL-2.0

//! Section 5.1.9.5.11: statistics of the device, asked for and answered.

mod common;

use common::at_least;
use proptest::prelude::*;
use virtio_spec::net::payload::Queue;
use virtio_spec::net::stats::{
    request, Kind, Kinds, Malformed, Replies, RECEIVE_NAMES, REQUEST_SIZE, TRANSMIT_NAMES,
};

/// A reply of type KIND about queue INDEX, which says it has SIZE bytes and whose counters are
/// COUNTERS.
fn reply(kind: u8, index: u16, size: u16, counters: &[u64]) -> Vec<u8> {
    let mut bytes = vec![kind, 0];
    bytes.extend(index.to_le_bytes());
    bytes.extend([0, 0]);
    bytes.extend(size.to_le_bytes());
    bytes.extend(counters.iter().flat_map(|counter| counter.to_le_bytes()));
    bytes
}

fn good(kind: Kind, index: u16) -> Vec<u8> {
    let count = kind.counters().len() as u64;
    let counters: Vec<u64> = (0..count).map(|at| at + 1000).collect();
    reply(kind as u8, index, kind.reply_size() as u16, &counters)
}

fn read(bytes: &[u8]) -> Vec<Result<(Queue, Kind, u64), Malformed>> {
    Replies::new(bytes, 2)
        .map(|reply| reply.map(|r| (r.queue, r.kind, r.counter(1).unwrap())))
        .collect()
}

#[test]
fn replies_are_as_long_as_in_c() {
    let sizes = Kind::ALL.map(Kind::reply_size);
    assert_eq!(sizes, [56, 40, 40, 24, 56, 24, 56, 24, 24]);
}

#[test]
fn names_are_those_of_c() {
    let names = |kind: Kind| -> Vec<_> { kind.ethtool().map(|(_, c)| c.name).collect() };
    let basic = ["packets", "bytes", "notifications", "interrupts"];
    assert_eq!(names(Kind::RxBasic), basic);
    assert_eq!(names(Kind::TxBasic), basic);
    assert_eq!(names(Kind::RxCsum), ["needs_csum"]);
    assert_eq!(names(Kind::RxSpeed), ["ratelimit_bytes"]);
    assert_eq!(names(Kind::TxSpeed), ["ratelimit_bytes"]);
    assert_eq!(names(Kind::TxGso), ["gso_packets_noseg", "gso_bytes_noseg"]);
    assert_eq!(names(Kind::Control), ["command_num", "ok_num"]);
    assert!(names(Kind::RxGso).is_empty() && names(Kind::TxCsum).is_empty());

    let names = |kind: Kind| -> Vec<_> { kind.queue_counters().collect() };
    assert_eq!(
        names(Kind::RxBasic),
        [(4, "hw_drops"), (5, "hw_drop_overruns")]
    );
    assert_eq!(
        names(Kind::TxBasic),
        [(4, "hw_drops"), (5, "hw_drop_errors")]
    );
    assert_eq!(
        names(Kind::RxCsum),
        [(0, "csum_unnecessary"), (2, "csum_none"), (3, "csum_bad")]
    );
    assert_eq!(names(Kind::TxCsum), [(0, "csum_none"), (1, "needs_csum")]);
    assert_eq!(
        names(Kind::TxGso)
            .iter()
            .map(|(_, name)| *name)
            .collect::<Vec<_>>(),
        [
            "hw_gso_packets",
            "hw_gso_bytes",
            "hw_gso_wire_packets",
            "hw_gso_wire_bytes"
        ]
    );
    assert_eq!(names(Kind::RxSpeed), [(0, "hw_drop_ratelimits")]);
    assert!(names(Kind::Control).is_empty());
    assert_eq!((RECEIVE_NAMES.len(), TRANSMIT_NAMES.len()), (6, 4));
}

#[test]
fn places_of_counters_are_those_of_their_names() {
    for kind in Kind::ALL {
        for (at, counter) in kind.ethtool() {
            assert_eq!(kind.counters()[at], *counter);
        }
    }
}

#[test]
fn only_what_is_known_is_asked_for() {
    let all = Kinds::of_device(u64::MAX);
    assert_eq!(all.iter().count(), 9);
    assert!(Kinds::of_device(1 << 63 | 1 << 4).is_empty());
    let rx = all.of_queue(Queue::Receive(0));
    assert_eq!(
        rx.iter().map(|kind| kind as u8).collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );
    let tx = all.of_queue(Queue::Transmit(1));
    assert_eq!(
        tx.iter().map(|kind| kind as u8).collect::<Vec<_>>(),
        [16, 17, 18, 19]
    );
    let control = all.of_queue(Queue::Control);
    assert!(control.has(Kind::Control) && control.iter().count() == 1);
    assert_eq!(rx.reply_size(), 56 + 40 + 40 + 24);
    // As C asks.
    assert_eq!(
        all.for_ethtool(),
        Kinds::of_device(1 << 32 | 0b1011 | 0b1101 << 16)
    );
    assert_eq!(all.for_queues(), Kinds::of_device(0xf | 0xf << 16));

    let bytes = request(5, tx);
    assert_eq!(bytes.len(), REQUEST_SIZE);
    assert_eq!(bytes, [5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xf, 0, 0, 0, 0, 0]);
}

#[test]
fn replies_about_all_queues() {
    let bytes = [
        good(Kind::RxBasic, 0),
        good(Kind::RxSpeed, 2),
        good(Kind::TxGso, 3),
        good(Kind::Control, 4),
    ]
    .concat();
    assert_eq!(
        read(&bytes),
        [
            Ok((Queue::Receive(0), Kind::RxBasic, 1001)),
            Ok((Queue::Receive(1), Kind::RxSpeed, 1001)),
            Ok((Queue::Transmit(1), Kind::TxGso, 1001)),
            Ok((Queue::Control, Kind::Control, 1001)),
        ]
    );
    let first = Replies::new(&bytes, 2).next().unwrap().unwrap();
    assert_eq!(first.counter(5), Some(1005));
    assert_eq!(first.counter(6), None);
    assert_eq!(first.counter(usize::MAX), None);
    assert!(read(&[]).is_empty());
}

#[test]
fn a_size_of_0_is_an_end_and_no_loop() {
    let first = good(Kind::RxBasic, 0);
    for size in [0, 1, 7] {
        let bytes = [first.clone(), reply(0, 0, size, &[0; 6])].concat();
        let expected = [
            Ok((Queue::Receive(0), Kind::RxBasic, 1001)),
            Err(Malformed::Size),
        ];
        assert_eq!(read(&bytes), expected);
    }
}

#[test]
fn a_reply_is_no_longer_than_what_was_written() {
    let whole = good(Kind::TxBasic, 1);
    for len in 1..whole.len() {
        assert_eq!(read(&whole[..len]), [Err(Malformed::Size)], "{len}");
    }
    assert_eq!(read(&reply(16, 1, 0xffff, &[0; 6])), [Err(Malformed::Size)]);
}

#[test]
fn a_reply_is_about_a_queue_that_exists_and_has_it() {
    for index in [5, 6, 0xffff] {
        assert_eq!(read(&good(Kind::RxBasic, index)), [Err(Malformed::Queue)]);
    }
    for (kind, index) in [
        (Kind::RxBasic, 1),
        (Kind::TxBasic, 0),
        (Kind::Control, 0),
        (Kind::RxCsum, 4),
    ] {
        assert_eq!(read(&good(kind, index)), [Err(Malformed::Kind)], "{kind:?}");
    }
    assert_eq!(
        read(&reply(0, 0, 48, &[0; 5])),
        [Err(Malformed::Kind)],
        "too few counters"
    );
}

#[test]
fn what_is_not_known_is_left_out() {
    let bytes = [
        reply(77, 9, 24, &[1, 2]),
        reply(0, 0, 64, &[1, 2, 3, 4, 5, 6, 7]),
    ]
    .concat();
    let known = Ok((Queue::Receive(0), Kind::RxBasic, 2));
    assert_eq!(read(&bytes), [known], "and counters of the future");
}

proptest! {
    #![proptest_config(at_least(256))]

    #[test]
    fn whatever_comes_there_is_an_end(
        bytes in proptest::collection::vec(prop_oneof![0_u8..64, any::<u8>()], 0..300),
        pairs in 0_u16..4,
    ) {
        let replies: Vec<_> = Replies::new(&bytes, pairs).collect();
        prop_assert!(replies.len() <= bytes.len() / 8 + 1);
        let good = replies.iter().take_while(|reply| reply.is_ok()).count();
        prop_assert!(replies.len() - good <= 1, "nothing comes after a malformed one");
        for reply in replies.into_iter().flatten() {
            prop_assert!(reply.kind.is_of(reply.queue));
            prop_assert!(reply.queue.index(pairs).is_some());
            let count = reply.kind.counters().len();
            prop_assert!((0..count).all(|at| reply.counter(at).is_some()));
        }
    }
}

#[test]
fn counters_of_ethtool_have_their_place() {
    let all = Kind::ALL.into_iter().fold(Kinds::EMPTY, Kinds::with);
    let place = |kind, queue| all.ethtool_place(kind, queue);
    let receive = [Kind::RxBasic, Kind::RxCsum, Kind::RxGso, Kind::RxSpeed];
    assert_eq!(
        receive.map(|kind| place(kind, Queue::Receive(7))),
        [Some(0), Some(4), Some(5), Some(5)]
    );
    let transmit = [Kind::TxBasic, Kind::TxCsum, Kind::TxGso, Kind::TxSpeed];
    assert_eq!(
        transmit.map(|kind| place(kind, Queue::Transmit(0))),
        [Some(0), Some(4), Some(4), Some(6)]
    );
    assert_eq!(place(Kind::Control, Queue::Control), Some(0));
    // Not of this queue, and not in the set.
    assert_eq!(place(Kind::Control, Queue::Receive(0)), None);
    let some = Kinds::EMPTY.with(Kind::TxSpeed);
    assert_eq!(
        some.ethtool_place(Kind::TxSpeed, Queue::Transmit(0)),
        Some(0)
    );
    assert_eq!(some.ethtool_place(Kind::TxGso, Queue::Transmit(0)), None);
}
