// SPDX-License-Identifier: GPL-2.0

//! Section 5.1.9.5.10: what may be asked of coalescing, as C has it.

use virtio_spec::net::coalescing::{Abilities, Change, Refused, Settings};
use virtio_spec::net::payload::Coalescing;
use virtio_spec::net::{NotfCoal, VqNotfCoal};
use virtio_spec::Features;

fn values(max_usecs: u32, max_packets: u32) -> Coalescing {
    Coalescing {
        max_usecs,
        max_packets,
    }
}

fn settings(rx: Coalescing, tx: Coalescing, adaptive_rx: bool) -> Settings {
    Settings {
        rx,
        tx,
        adaptive_rx,
    }
}

#[test]
fn abilities_are_those_of_the_features() {
    let none = Abilities::of(Features::EMPTY);
    assert!(!none.all && !none.each && !none.any());
    let all = Abilities::of(Features::EMPTY.with::<NotfCoal>());
    assert!(all.all && !all.each && all.any());
    let each = Abilities::of(Features::EMPTY.with::<VqNotfCoal>());
    assert!(!each.all && each.each && each.any());
}

#[test]
fn a_plain_device_notifies_of_each_packet() {
    assert_eq!(Settings::PLAIN.check_plain(), Ok(()));
    let one = values(0, 1);
    for (asked, expected) in [
        (settings(one, values(0, 0), false), Ok(())),
        (
            settings(values(1, 1), one, false),
            Err(Refused::Unsupported),
        ),
        (
            settings(one, values(1, 1), false),
            Err(Refused::Unsupported),
        ),
        (settings(one, one, true), Err(Refused::Unsupported)),
        (settings(one, values(0, 2), false), Err(Refused::Invalid)),
        (settings(values(0, 0), one, false), Err(Refused::Invalid)),
        (settings(values(0, 2), one, false), Err(Refused::Invalid)),
    ] {
        assert_eq!(asked.check_plain(), expected, "{asked:?}");
    }
}

#[test]
fn either_values_or_adaptivity_are_chosen() {
    let both = Abilities {
        all: true,
        each: true,
    };
    let (now, other, tx) = (values(1, 2), values(3, 4), values(0, 1));
    let (fixed, adaptive) = (settings(now, tx, false), settings(now, tx, true));
    for (from, to, expected) in [
        // Also values that are those already: other queues may have others.
        (fixed, fixed, Ok(Change::Send(now))),
        (fixed, settings(other, tx, false), Ok(Change::Send(other))),
        (fixed, adaptive, Ok(Change::Adapt)),
        (fixed, settings(other, tx, true), Err(Refused::Invalid)),
        (adaptive, settings(other, tx, true), Err(Refused::Invalid)),
        (adaptive, adaptive, Ok(Change::Send(now))),
        (
            adaptive,
            settings(other, tx, false),
            Ok(Change::Send(other)),
        ),
    ] {
        assert_eq!(from.change_rx(to, both), expected, "{from:?} {to:?}");
    }
    let all = Abilities {
        each: false,
        ..both
    };
    assert_eq!(fixed.change_rx(adaptive, all), Err(Refused::Unsupported));
    assert_eq!(fixed.change_rx(fixed, all), Ok(Change::Send(now)));
}
