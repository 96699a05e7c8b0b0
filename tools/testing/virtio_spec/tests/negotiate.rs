// SPDX-License-Identifier: GPL-2.0

//! Sections 2.2 and 5.1.3.1: feature sets, and what negotiation makes of them.

mod common;

use proptest::prelude::*;
use virtio_spec::negotiate::{first_unmet, resolve, Policy};
use virtio_spec::{balloon, blk, net, rng, transport};
use virtio_spec::{Class, DeviceType, Feature, Features, Negotiated, Offered, Requirement};

const NET: &[&[Requirement]] = &[transport::REQUIREMENTS, net::REQUIREMENTS];

fn resolve_net(offered: Features, wanted: Features) -> Features {
    resolve(
        offered,
        wanted,
        &Policy {
            accepted: Features::ALL,
            requirements: NET,
        },
    )
}

#[test]
fn section_2_2_features_are_numbered_from_the_low_end() {
    let set = Features::from_words([1 << 5, 1, 0, 1 << 31]);
    assert_eq!(set.iter().collect::<Vec<_>>(), [5, 32, 127]);
    assert_eq!(set, Features::of(&[5, 32, 127]));
    assert_eq!(set.to_words(), [1 << 5, 1, 0, 1 << 31]);
    assert_eq!(set.to_u64s(), [1 << 32 | 1 << 5, 1 << 63]);
    assert_eq!(Features::from_u64s(set.to_u64s()), set);
}

#[test]
fn section_2_2_bit_128_does_not_exist() {
    assert_eq!(Features::bit(128), Features::EMPTY);
    assert!(!Features::ALL.has_bit(128));
    assert!(!Features::ALL.has_bit(u32::MAX));
    assert_eq!(Features::range(120, 500), Features::from_bits(0xff << 120));
}

#[test]
fn section_2_2_sysfs_shows_bit_0_first() {
    let text = Features::of(&[0, 3]).to_string();
    assert_eq!(text.len(), 128);
    assert!(text.starts_with("10010") && !text[5..].contains('1'));
}

#[test]
fn section_2_2_classes_keep_to_their_own_bits() {
    fn check<C: Class>(legacy: &[u32]) {
        for bit in C::DEFINED.iter() {
            let reserved = (24..50).contains(&bit);
            assert!(
                !reserved || legacy.contains(&bit),
                "{} bit {bit}",
                C::DEVICE
            );
        }
        assert_eq!(
            C::NAMES.len(),
            C::DEFINED.iter().count(),
            "{} has a bit twice",
            C::DEVICE
        );
    }
    check::<net::Net>(&[]);
    check::<blk::Blk>(&[]);
    check::<balloon::Balloon>(&[]);
    check::<rng::Rng>(&[]);
    assert_eq!(transport::NAMES.len(), transport::DEFINED.iter().count());
    assert_eq!(<rng::Rng as Class>::DEVICE, DeviceType::RNG);
}

#[test]
fn section_6_reserved_bits_have_the_numbers_of_the_table() {
    let expected = [
        (24, "VIRTIO_F_NOTIFY_ON_EMPTY"),
        (27, "VIRTIO_F_ANY_LAYOUT"),
        (28, "VIRTIO_F_INDIRECT_DESC"),
        (29, "VIRTIO_F_EVENT_IDX"),
        (32, "VIRTIO_F_VERSION_1"),
        (33, "VIRTIO_F_ACCESS_PLATFORM"),
        (34, "VIRTIO_F_RING_PACKED"),
        (35, "VIRTIO_F_IN_ORDER"),
        (36, "VIRTIO_F_ORDER_PLATFORM"),
        (37, "VIRTIO_F_SR_IOV"),
        (38, "VIRTIO_F_NOTIFICATION_DATA"),
        (39, "VIRTIO_F_NOTIF_CONFIG_DATA"),
        (40, "VIRTIO_F_RING_RESET"),
        (41, "VIRTIO_F_ADMIN_VQ"),
        (43, "VIRTIO_F_SUSPEND"),
    ];
    assert_eq!(transport::NAMES, expected);
}

#[test]
fn section_6_the_ring_accepts_what_c_accepts() {
    let ring = transport::ring_features(Features::EMPTY);
    let kept = [28, 29, 32, 33, 34, 35, 36, 38];
    for bit in 0..128 {
        let transport = (28..=41).contains(&bit);
        assert_eq!(
            ring.has_bit(bit),
            !transport || kept.contains(&bit),
            "bit {bit}"
        );
    }
    let extra = Features::EMPTY.with::<transport::RingReset>();
    let more = transport::ring_features(extra);
    assert!(more.has::<transport::RingReset>());
    assert!(!more.has::<transport::AdminVq>());
}

#[test]
fn section_5_1_3_1_every_requirement_of_the_table() {
    // bit, sets of which one bit each is needed
    let table: &[(u32, &[&[u32]])] = &[
        (7, &[&[1]]),
        (8, &[&[1]]),
        (9, &[&[7, 8]]),
        (10, &[&[1]]),
        (54, &[&[1]]),
        (55, &[&[1]]),
        (11, &[&[0]]),
        (12, &[&[0]]),
        (13, &[&[11, 12]]),
        (14, &[&[0]]),
        (56, &[&[0]]),
        (18, &[&[17]]),
        (19, &[&[17]]),
        (21, &[&[17]]),
        (22, &[&[17]]),
        (23, &[&[17]]),
        (53, &[&[17]]),
        (61, &[&[11, 12]]),
        (60, &[&[17]]),
        (52, &[&[17]]),
        (51, &[&[17], &[57, 60]]),
        (64, &[&[17], &[60]]),
    ];
    for (bit, needs) in table {
        for need in *needs {
            let mut offered = Features::ALL;
            for one in *need {
                offered = offered.without_bit(*one);
            }
            let agreed = resolve_net(offered, Features::ALL);
            assert!(
                !agreed.has_bit(*bit),
                "{bit} was agreed on without {need:?}"
            );
            for one in *need {
                let agreed = resolve_net(offered.with_bit(*one), Features::ALL);
                assert!(agreed.has_bit(*bit), "{bit} was not agreed on with {one}");
            }
        }
        assert!(resolve_net(Features::ALL, Features::ALL).has_bit(*bit));
    }
}

#[test]
fn section_2_2_1_a_chain_of_requirements_falls_as_a_whole() {
    // The tunnel needs TSO, which needs the checksum.
    let agreed = resolve_net(Features::ALL.without::<net::Csum>(), Features::ALL);
    assert!(!agreed.has::<net::HostTso4>());
    assert!(!agreed.has::<net::HostUdpTunnelGso>());
    assert!(!agreed.has::<net::HostUdpTunnelGsoCsum>());
    assert!(agreed.has::<net::GuestUdpTunnelGsoCsum>());
}

#[test]
fn section_2_2_1_one_of_two_is_enough() {
    let one = Features::of(&[net::Csum::BIT, net::HostTso6::BIT, net::HostEcn::BIT]);
    assert_eq!(resolve_net(one, Features::ALL), one);
    assert!(first_unmet(one, NET).is_none());
    let none = one.without::<net::HostTso6>();
    assert_eq!(
        first_unmet(none, NET).map(Requirement::name),
        Some("VIRTIO_NET_F_HOST_ECN")
    );
}

#[test]
fn section_6_packed_needs_version_1() {
    let offered = Features::ALL.without::<transport::Version1>();
    assert!(!resolve_net(offered, Features::ALL).has::<transport::RingPacked>());
}

#[test]
fn witnesses_follow_the_agreed_bits() {
    let offered = Offered::<blk::Blk>::new(Features::of(&[9, 12, 32, 40]));
    let ring = transport::ring_features(Features::EMPTY);
    let agreed = offered.negotiate(Features::of(&[9, 32, 40]), ring);
    assert!(agreed.has::<blk::Flush>().is_some());
    assert!(agreed.has::<blk::Mq>().is_none(), "it was not wanted");
    assert!(
        agreed.has::<transport::RingReset>().is_none(),
        "the ring does not accept it"
    );
    assert_eq!(agreed.features(), Features::of(&[9, 32]));
    assert_eq!(
        std::mem::size_of_val(&agreed.has::<blk::Flush>().unwrap()),
        0
    );
}

#[test]
fn witnesses_are_not_given_for_an_open_requirement() {
    let agreed = Negotiated::<net::Net>::from_acknowledged(Features::of(&[22, 32]));
    assert!(agreed.has::<net::Mq>().is_none());
    assert!(agreed.has::<transport::Version1>().is_some());
}

/// Sets with the class's bits often present, so that requirements are met and unmet.
fn features() -> impl Strategy<Value = Features> {
    (any::<u128>(), any::<u128>(), any::<bool>())
        .prop_map(|(a, b, dense)| Features::from_bits(if dense { a | b } else { a }))
}

proptest! {
    #![proptest_config(common::at_least(2000))]

    #[test]
    fn the_result_is_a_subset(offered in features(), wanted in features(), accepted in features()) {
        let policy = Policy { accepted, requirements: NET };
        let agreed = resolve(offered, wanted, &policy);
        prop_assert!(agreed.is_subset_of(offered));
        prop_assert!(agreed.is_subset_of(wanted));
        prop_assert!(agreed.is_subset_of(accepted));
    }

    #[test]
    fn the_result_is_closed(offered in features(), wanted in features()) {
        let agreed = resolve_net(offered, wanted);
        prop_assert!(first_unmet(agreed, NET).is_none());
    }

    #[test]
    fn the_result_is_idempotent(offered in features(), wanted in features()) {
        let agreed = resolve_net(offered, wanted);
        prop_assert_eq!(resolve_net(agreed, wanted), agreed);
        prop_assert_eq!(resolve_net(offered, agreed), agreed);
        prop_assert_eq!(resolve_net(agreed, agreed), agreed);
    }

    #[test]
    fn the_result_is_monotone(offered in features(), wanted in features(), more in features()) {
        let agreed = resolve_net(offered, wanted);
        prop_assert!(agreed.is_subset_of(resolve_net(offered.union(more), wanted)));
        prop_assert!(agreed.is_subset_of(resolve_net(offered, wanted.union(more))));
    }

    #[test]
    fn nothing_is_dropped_without_need(offered in features(), wanted in features()) {
        // No requirement of these tables is circular, so a bit that could stay, would have.
        let agreed = resolve_net(offered, wanted);
        for bit in offered.intersection(wanted).difference(agreed).iter() {
            let unmet = first_unmet(agreed.with_bit(bit), NET).map(Requirement::bit);
            prop_assert_eq!(unmet, Some(bit));
        }
    }
}
