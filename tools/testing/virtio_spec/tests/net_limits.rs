// SPDX-License-Identifier: GPL-2.0

//! Section 5.1.4: what a network device says of itself, and what is made of it.

mod common;

use common::at_least;
use proptest::prelude::*;
use virtio_spec::net::limits::{Duplex, Environment, Hashing, Limits, Link, MAX_TABLE_LEN};
use virtio_spec::net::rss::{HashTypes, MIN_KEY_SIZE};
use virtio_spec::net::{
    Config, CtrlVq, HashReport, Mac, Mq, Mtu, Rss, SpeedDuplex, Standby, Status,
};
use virtio_spec::Features;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

const ENVIRONMENT: Environment = Environment {
    max_pairs: 8,
    max_key_size: 256,
};

/// The limits of an empty configuration with FEATURES, after CHANGE, and the notes.
fn read(features: Features, change: impl FnOnce(&mut Config)) -> (Limits, Vec<String>) {
    let mut config = Config::new_zeroed();
    change(&mut config);
    let (limits, notes) = Limits::read(&config, features, &ENVIRONMENT);
    (limits, notes.iter().map(ToString::to_string).collect())
}

fn none() -> Features {
    Features::EMPTY
}

#[test]
fn a_device_that_says_nothing() {
    let mut config = Config::new_zeroed();
    config.as_mut_bytes().fill(0xff);
    let (limits, notes) = Limits::read(&config, none(), &ENVIRONMENT);
    assert_eq!(
        limits,
        Limits {
            mac: None,
            standby: false,
            pairs: 1,
            used_pairs: 1,
            mtu: None,
            hashing: None,
        }
    );
    assert_eq!(notes.iter().count(), 0);
    let up = Link {
        is_up: true,
        announce: false,
        speed: None,
        duplex: None,
    };
    assert_eq!(Link::read(&config, none()), up);
}

#[test]
fn an_address_is_that_of_one_device() {
    let address = |mac| read(none().with::<Mac>().with::<Standby>(), |c| c.mac = mac);
    let (limits, notes) = address([2, 0, 0, 0, 0, 1]);
    assert_eq!(
        (limits.mac, limits.standby),
        (Some([2, 0, 0, 0, 0, 1]), true)
    );
    assert!(notes.is_empty());
    let (limits, notes) = address([0; 6]);
    assert_eq!((limits.mac, limits.standby), (None, false));
    assert_eq!(notes, ["mac is 0: not used"]);
    let (limits, notes) = address([1, 0, 0x5e, 0, 0, 1]);
    assert_eq!(limits.mac, None);
    assert_eq!(
        notes,
        [format!("mac is {}: not used", 0x0100_5e00_0001_u64)]
    );
    assert_eq!(address([0xff; 6]).0.mac, None);
}

#[test]
fn pairs_are_between_1_and_0x8000() {
    let pairs = |count: u16| {
        read(none().with::<Mq>().with::<CtrlVq>(), |c| {
            c.max_virtqueue_pairs.set(count)
        })
    };
    for (count, used) in [(1, 1), (8, 8), (9, 8), (0x8000, 8)] {
        let (limits, notes) = pairs(count);
        assert_eq!((limits.pairs, limits.used_pairs), (count, used));
        assert!(notes.is_empty());
    }
    for count in [0, 0x8001, 0xffff] {
        let (limits, notes) = pairs(count);
        assert_eq!((limits.pairs, limits.used_pairs), (1, 1));
        assert_eq!(
            notes,
            [format!("max_virtqueue_pairs is {count}: 1 is used")]
        );
    }
    let deaf = read(none().with::<Mq>(), |c| c.max_virtqueue_pairs.set(4));
    assert_eq!(deaf.0.pairs, 1, "nobody can say how many are used");
    let steers = none().with::<Rss>().with::<CtrlVq>();
    assert_eq!(read(steers, |c| c.max_virtqueue_pairs.set(4)).0.pairs, 4);
    let no_use = Environment {
        max_pairs: 0,
        ..ENVIRONMENT
    };
    let limits = Limits::read(&Config::new_zeroed(), none(), &no_use).0;
    assert_eq!(limits.used_pairs, 1);
}

#[test]
fn an_mtu_is_at_least_68() {
    let mtu = |value: u16| read(none().with::<Mtu>(), |c| c.mtu.set(value));
    for value in [68, 1500, 65535] {
        assert_eq!(mtu(value).0.mtu, Some(value));
    }
    for value in [0, 1, 67] {
        let (limits, notes) = mtu(value);
        assert_eq!(limits.mtu, None);
        assert_eq!(notes, [format!("mtu is {value}: not used")]);
    }
}

fn hashing(
    features: Features,
    key_size: u8,
    table_len: u16,
    types: u32,
) -> (Option<Hashing>, Vec<String>) {
    let (limits, notes) = read(features, |c| {
        c.rss_max_key_size = key_size;
        c.rss_max_indirection_table_length.set(table_len);
        c.supported_hash_types.set(types);
        c.max_virtqueue_pairs.set(2);
    });
    (limits.hashing, notes)
}

#[test]
fn a_device_hashes_what_the_driver_knows() {
    let features = none().with::<Rss>().with::<CtrlVq>();
    let (found, notes) = hashing(features, 40, 128, 0x1ff);
    let expected = Hashing {
        key_size: 40,
        types: HashTypes::ALL,
        table_len: Some(128),
        reports: false,
    };
    assert_eq!(found, Some(expected));
    assert!(notes.is_empty());
    let both = features.with::<HashReport>();
    assert!(hashing(both, 52, 128, 0).0.unwrap().reports);
    let reports = none().with::<HashReport>().with::<CtrlVq>();
    let (found, _) = hashing(reports, 52, 0, 3);
    assert_eq!(found.unwrap().table_len, None);
    assert_eq!(found.unwrap().types.bits(), 3);
}

#[test]
fn a_key_has_at_least_40_bytes() {
    let features = none().with::<Rss>().with::<CtrlVq>();
    for size in [0, 1, 39] {
        let (found, notes) = hashing(features, size, 128, 1);
        assert_eq!(found, None);
        assert_eq!(notes, [format!("rss_max_key_size is {size}: not used")]);
    }
    let small = Environment {
        max_key_size: 52,
        ..ENVIRONMENT
    };
    let mut config = Config::new_zeroed();
    config.rss_max_key_size = 255;
    config.rss_max_indirection_table_length.set(128);
    let (limits, notes) = Limits::read(&config, none().with::<Rss>(), &small);
    assert_eq!(limits.hashing.unwrap().key_size, 52);
    let notes: Vec<_> = notes.iter().map(|note| note.field).collect();
    assert_eq!(notes, ["max_virtqueue_pairs", "rss_max_key_size"]);
}

#[test]
fn a_table_has_a_power_of_two_of_entries() {
    let features = none().with::<Rss>().with::<CtrlVq>();
    for (says, used) in [(1, 1), (128, 128), (129, 128), (0xffff, 0x8000)] {
        let (found, notes) = hashing(features, 40, says, 1);
        assert_eq!(found.unwrap().table_len, Some(used));
        assert_eq!(notes.is_empty(), says == used);
    }
    let (found, notes) = hashing(features, 40, 0, 1);
    assert_eq!(found, None);
    assert_eq!(notes, ["rss_max_indirection_table_length is 0: not used"]);
    let (found, _) = hashing(features.with::<HashReport>(), 40, 0, 1);
    assert_eq!(found.unwrap().table_len, None, "reports go without a table");
}

#[test]
fn a_link_is_what_is_known_of_it() {
    let features = none().with::<Status>().with::<SpeedDuplex>();
    let link = |status: u16, speed: u32, duplex| {
        let mut config = Config::new_zeroed();
        config.status.set(status);
        config.speed.set(speed);
        config.duplex = duplex;
        Link::read(&config, features)
    };
    let found = link(0xfffe, 0x7fff_ffff, 1);
    assert!(!found.is_up && found.announce);
    assert_eq!(found.speed, Some(0x7fff_ffff));
    assert_eq!(found.duplex, Some(Duplex::Full));
    let found = link(1, 0x8000_0000, 2);
    assert!(found.is_up && !found.announce);
    assert_eq!((found.speed, found.duplex), (None, None));
    assert_eq!(link(1, 0, 0).duplex, Some(Duplex::Half));
    assert_eq!(link(1, u32::MAX, 0xff).speed, None);
}

proptest! {
    #![proptest_config(at_least(512))]

    #[test]
    fn whatever_a_device_says_limits_are_sane(
        bytes in any::<[u8; 28]>(),
        features in any::<u128>(),
        max_pairs in any::<u16>(),
    ) {
        let config = Config::read_from_bytes(&bytes).unwrap();
        let environment = Environment { max_pairs, ..ENVIRONMENT };
        let features = Features::from_bits(features);
        let (limits, _) = Limits::read(&config, features, &environment);
        prop_assert!((1..=0x8000).contains(&limits.pairs));
        prop_assert!((1..=limits.pairs).contains(&limits.used_pairs));
        prop_assert!(limits.mtu.unwrap_or(68) >= 68);
        if let Some(hashing) = limits.hashing {
            prop_assert!(hashing.key_size >= MIN_KEY_SIZE);
            prop_assert!(hashing.types.is_subset_of(HashTypes::ALL));
            let len = hashing.table_len.unwrap_or(1);
            prop_assert!(len.is_power_of_two() && len <= MAX_TABLE_LEN);
        }
        let link = Link::read(&config, features);
        prop_assert!(i32::try_from(link.speed.unwrap_or(0)).is_ok());
    }
}
