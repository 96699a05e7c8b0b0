// SPDX-License-Identifier: GPL-2.0

//! Section 5.1.9.5: the data of the commands of the control queue.

mod common;

use common::at_least;
use proptest::prelude::*;
use virtio_spec::net::offloads::{can_run_xdp, can_toggle_gro_hw, GuestOffloads};
use virtio_spec::net::payload::{
    coalescing_of, switch, Coalescing, Extra, MacTables, NoRoom, Order, Queue, RxMode,
};
use virtio_spec::net::rss::{
    default_entry, BadConfig, Fields, Flow, HashConfig, HashTypes, RssConfig,
};
use virtio_spec::net::{
    hash_type, CtrlGuestOffloads, GuestCsum, GuestHdrlen, GuestTso4, GuestUdpTunnelGso,
    GuestUdpTunnelGsoCsum, GuestUso6,
};
use virtio_spec::transport::Version1;
use virtio_spec::Features;
use zerocopy::{FromBytes, IntoBytes};

const A: [u8; 6] = [2, 0, 0, 0, 0, 1];
const B: [u8; 6] = [2, 0, 0, 0, 0, 2];
const C: [u8; 6] = [1, 0, 0x5e, 0, 0, 3];

#[test]
fn the_order_is_that_of_the_interface() {
    assert_eq!(Order::of(Features::EMPTY), Order::Native);
    assert_eq!(Order::of(Features::EMPTY.with::<Version1>()), Order::Little);
    assert_eq!(Order::Little.vlan(0x123), Some([0x23, 1]));
    assert_eq!(Order::Native.vlan(0x123), Some(0x123_u16.to_ne_bytes()));
}

#[test]
fn small_data() {
    assert_eq!(Order::Little.vlan(0), Some([0, 0]));
    assert_eq!(Order::Little.vlan(4095), Some([0xff, 0xf]));
    assert_eq!(Order::Little.vlan(4096), None);
    assert_eq!(Order::Little.queue_pairs(1, 4), Some([1, 0]));
    assert_eq!(Order::Little.queue_pairs(4, 4), Some([4, 0]));
    assert_eq!(Order::Little.queue_pairs(5, 4), None);
    assert_eq!(Order::Little.queue_pairs(0, 4), None);
    assert_eq!((switch(true), switch(false)), ([1], [0]));
}

#[test]
fn tables_of_addresses() {
    let mut out = [0xee; 64];
    let mut tables = MacTables::new(Order::Little, &mut out).unwrap();
    tables.push(A).unwrap();
    tables.push(B).unwrap();
    let mut tables = tables.multicast();
    tables.push(C).unwrap();
    let len = tables.finish();
    let expected = [&[2, 0, 0, 0][..], &A, &B, &[1, 0, 0, 0], &C].concat();
    assert_eq!(out[..len], expected);
    let mode = RxMode {
        promiscuous: false,
        all_multicast: false,
        unicast: 2,
        multicast: 1,
        extra: Extra::default(),
    };
    assert_eq!(mode.table_size(), len);

    let len = MacTables::new(Order::Little, &mut out).unwrap().finish();
    assert_eq!(out[..len], [0; 8]);
}

#[test]
fn tables_have_no_more_than_fits() {
    assert_eq!(
        MacTables::new(Order::Little, &mut [0; 7]).err(),
        Some(NoRoom)
    );
    // One address, of either kind.
    let mut out = [0; 14];
    let mut tables = MacTables::new(Order::Little, &mut out).unwrap();
    tables.push(A).unwrap();
    assert_eq!(tables.push(B), Err(NoRoom));
    let mut tables = tables.multicast();
    assert_eq!(tables.push(C), Err(NoRoom));
    assert_eq!(tables.finish(), 14);
    assert_eq!(out, [1, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    let mut tables = MacTables::new(Order::Little, &mut out).unwrap().multicast();
    tables.push(C).unwrap();
    assert_eq!(tables.push(C), Err(NoRoom));
    assert_eq!(tables.finish(), 14);
}

#[test]
fn what_does_not_fit_is_not_filtered() {
    let mode = |unicast, multicast| RxMode {
        promiscuous: false,
        all_multicast: false,
        unicast,
        multicast,
        extra: Extra::default(),
    };
    assert_eq!(mode(3, 5).within(8), mode(3, 5));
    let cut = mode(3, 6).within(8);
    assert_eq!((cut.promiscuous, cut.all_multicast), (false, true));
    assert_eq!((cut.unicast, cut.multicast), (3, 0));
    let all = mode(9, 0).within(8);
    assert_eq!((all.promiscuous, all.all_multicast), (true, true));
    assert_eq!(all.table_size(), 8);
    let wanted = RxMode {
        promiscuous: true,
        ..mode(1, 1)
    };
    assert_eq!(wanted.within(2), wanted);
}

#[test]
fn who_can_be_asked_for_more_filters_more() {
    let mode = |unicast, multicast| RxMode {
        promiscuous: false,
        all_multicast: false,
        unicast,
        multicast,
        extra: Extra::default(),
    };
    assert_eq!(mode(3, 5).within_extra(8, false), mode(3, 5));
    // Everything to one, but of the others only what is asked for.
    let cut = mode(9, 3).within_extra(8, false);
    assert!(cut.extra.all_unicast && !cut.promiscuous && !cut.all_multicast);
    assert_eq!((cut.unicast, cut.multicast), (0, 3));
    let cut = mode(9, 9).within_extra(8, false);
    assert!(cut.extra.all_unicast && !cut.promiscuous && cut.all_multicast);
    // None to many, unless somebody wants all.
    assert!(mode(1, 1).within_extra(8, true).extra.no_multicast);
    for wanted in [
        RxMode {
            promiscuous: true,
            ..mode(0, 0)
        },
        RxMode {
            all_multicast: true,
            ..mode(0, 0)
        },
    ] {
        assert_eq!(wanted.within_extra(8, true), wanted);
    }
}

#[test]
fn section_5_1_2_queues() {
    for (queue, index) in [
        (Queue::Receive(0), Some(0)),
        (Queue::Transmit(0), Some(1)),
        (Queue::Receive(3), Some(6)),
        (Queue::Transmit(3), Some(7)),
        (Queue::Control, Some(8)),
        (Queue::Receive(4), None),
        (Queue::Transmit(4), None),
    ] {
        assert_eq!(queue.index(4), index);
        if let Some(index) = index {
            assert_eq!(Queue::of_index(index, 4), Some(queue));
        }
    }
    for index in [9, 10, 0xffff] {
        assert_eq!(Queue::of_index(index, 4), None);
    }
    assert_eq!(Queue::of_index(0, 0), None);
    assert_eq!(Queue::Transmit(0x7fff).index(0x8000), Some(0xffff));
    assert_eq!(Queue::Control.index(0x8000), None);
}

#[test]
fn section_5_1_9_5_10_coalescing() {
    let coalescing = Coalescing {
        max_usecs: 0x0102_0304,
        max_packets: 5,
    };
    let all = coalescing.all();
    assert_eq!(all.as_bytes(), [5, 0, 0, 0, 4, 3, 2, 1]);
    assert_eq!(Coalescing::from_answer(&all), coalescing);
    let queue = coalescing.of_queue(0x1234);
    assert_eq!(queue.as_bytes(), [0x34, 0x12, 0, 0, 5, 0, 0, 0, 4, 3, 2, 1]);
    assert_eq!(coalescing_of(0x1234), queue.as_bytes()[..4]);
}

#[test]
fn section_5_1_9_5_9_offloads() {
    let features = Features::EMPTY
        .with::<GuestCsum>()
        .with::<GuestTso4>()
        .with::<GuestUso6>()
        .with::<GuestUdpTunnelGso>()
        .with::<GuestUdpTunnelGsoCsum>();
    let all = GuestOffloads::of_features(features);
    assert_eq!(all.bits(), 1 << 1 | 1 << 7 | 1 << 55 | 1 << 46 | 1 << 47);
    assert_eq!(all.with_gro_hw(false).bits(), 1 << 1);
    assert_eq!(all.with_gro_hw(true), all);
    assert_eq!(
        Order::Little.guest_offloads(all),
        [0x82, 0, 0, 0, 0, 0xc0, 0x80, 0]
    );
    assert_eq!(
        GuestOffloads::of_features(Features::ALL)
            .bits()
            .count_ones(),
        10
    );
    assert!(GuestOffloads::of_features(Features::EMPTY).is_empty());
    // What can be switched, and what must be before XDP can run.
    assert!(!can_toggle_gro_hw(features));
    assert!(can_toggle_gro_hw(features.with::<CtrlGuestOffloads>()));
    let csum = Features::EMPTY.with::<GuestCsum>();
    assert!(!can_toggle_gro_hw(csum.with::<CtrlGuestOffloads>()));
    assert!(!can_run_xdp(csum));
    assert!(can_run_xdp(csum.with::<CtrlGuestOffloads>()));
    assert!(can_run_xdp(Features::EMPTY));
    assert!(can_run_xdp(Features::EMPTY.with::<GuestHdrlen>()));
}

const FLOWS: [Flow; 6] = [
    Flow::TcpV4,
    Flow::UdpV4,
    Flow::IpV4,
    Flow::TcpV6,
    Flow::UdpV6,
    Flow::IpV6,
];

#[test]
fn fields_of_flows_are_hash_types() {
    let types = |bits| HashTypes::of_device(bits);
    let v4 = types(hash_type::IPV4);
    assert_eq!(v4.fields(Flow::TcpV4), Fields::Addresses);
    assert_eq!(v4.fields(Flow::IpV4), Fields::Addresses);
    assert_eq!(v4.fields(Flow::TcpV6), Fields::Nothing);
    let tcp = types(hash_type::TCPV6);
    assert_eq!(tcp.fields(Flow::TcpV6), Fields::AddressesAndPorts);
    assert_eq!(tcp.fields(Flow::UdpV6), Fields::Nothing);
    assert_eq!(types(0x1c0), HashTypes::EMPTY, "extension headers");

    let set = |types: HashTypes, flow, fields| types.with_fields(flow, fields, HashTypes::ALL);
    let wanted = set(HashTypes::EMPTY, Flow::UdpV4, Fields::AddressesAndPorts);
    assert_eq!(
        wanted.map(HashTypes::bits),
        Some(hash_type::IPV4 | hash_type::UDPV4)
    );
    assert_eq!(
        set(HashTypes::ALL, Flow::IpV4, Fields::AddressesAndPorts),
        None
    );
    // Other flows stay as they are, but for the addresses that they share.
    let without = set(HashTypes::ALL, Flow::TcpV4, Fields::Nothing).unwrap();
    assert_eq!(without.fields(Flow::UdpV4), Fields::AddressesAndPorts);
    assert_eq!(without.fields(Flow::IpV4), Fields::Nothing);
    let plain = set(HashTypes::ALL, Flow::IpV4, Fields::Addresses);
    assert_eq!(plain, Some(HashTypes::ALL), "C clears the rest here");
    // What the device cannot.
    assert_eq!(
        HashTypes::EMPTY.with_fields(Flow::TcpV4, Fields::AddressesAndPorts, v4),
        None
    );
}

#[test]
fn fields_that_were_set_are_those_that_are_read() {
    for bits in 0..0x40 {
        let types = HashTypes::of_device(bits);
        for flow in FLOWS {
            for fields in [
                Fields::Nothing,
                Fields::Addresses,
                Fields::AddressesAndPorts,
            ] {
                if let Some(new) = types.with_fields(flow, fields, HashTypes::ALL) {
                    assert_eq!(new.fields(flow), fields, "{types:?} {flow:?}");
                }
            }
        }
    }
}

#[test]
fn section_5_1_9_5_7_steering() {
    let config = RssConfig {
        types: HashTypes::of_device(0x3f),
        table: &[0, 1, 0, 1],
        unclassified: 1,
        pairs: 2,
        key: &[9; 40],
    };
    let mut out = [0xee; 64];
    let len = config.write(&mut out).unwrap();
    assert_eq!(len, RssConfig::size(4, 40));
    let head = [0x3f, 0, 0, 0, 3, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 2, 0, 40];
    assert_eq!(out[..19], head);
    assert_eq!(out[19..len], [9; 40]);
    assert_eq!(out[len], 0xee);
    assert_eq!(config.write(&mut out[..len - 1]), Err(BadConfig::Room));
    assert_eq!(config.write(&mut []), Err(BadConfig::Room));
}

#[test]
fn steering_that_cannot_be() {
    let good = RssConfig {
        types: HashTypes::EMPTY,
        table: &[0],
        unclassified: 0,
        pairs: 2,
        key: &[],
    };
    let write = |config: RssConfig<'_>| config.write(&mut [0; 512]);
    assert_eq!(write(good), Ok(RssConfig::size(1, 0)));
    for table in [&[][..], &[0; 3], &[0; 6]] {
        assert_eq!(write(RssConfig { table, ..good }), Err(BadConfig::TableLen));
    }
    let table: &[u16] = &[0, 2];
    assert_eq!(write(RssConfig { table, ..good }), Err(BadConfig::Queue));
    let unclassified = 2;
    assert_eq!(
        write(RssConfig {
            unclassified,
            ..good
        }),
        Err(BadConfig::Queue)
    );
    assert_eq!(write(RssConfig { pairs: 0, ..good }), Err(BadConfig::Pairs));
    let key: &[u8] = &[0; 256];
    assert_eq!(write(RssConfig { key, ..good }), Err(BadConfig::KeyLen));
}

#[test]
fn hashes_without_steering() {
    let config = HashConfig {
        types: HashTypes::of_device(1),
        key: &[7, 8],
    };
    let mut out = [0xee; 16];
    assert_eq!(config.write(&mut out), Ok(HashConfig::size(2)));
    assert_eq!(out, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 7, 8, 0xee]);
    assert_eq!(config.write(&mut out[..14]), Err(BadConfig::Room));
}

#[test]
fn a_table_spreads_packets_over_all_queues() {
    let table: Vec<u16> = (0..8).map(|index| default_entry(index, 3)).collect();
    assert_eq!(table, [0, 1, 2, 0, 1, 2, 0, 1]);
    assert_eq!(default_entry(5, 0), 0);
}

proptest! {
    #![proptest_config(at_least(256))]

    #[test]
    fn tables_can_be_read_again(
        unicast in proptest::collection::vec(any::<[u8; 6]>(), 0..40),
        multicast in proptest::collection::vec(any::<[u8; 6]>(), 0..40),
        room in 8_usize..512,
    ) {
        let mut out = vec![0xee; room];
        let mut tables = MacTables::new(Order::Little, &mut out).unwrap();
        let mut kept = [Vec::new(), Vec::new()];
        for address in unicast {
            if tables.push(address).is_ok() {
                kept[0].push(address);
            }
        }
        let mut tables = tables.multicast();
        for address in multicast {
            if tables.push(address).is_ok() {
                kept[1].push(address);
            }
        }
        let len = tables.finish();
        prop_assert!(len <= room);
        let mut rest = &out[..len];
        for table in kept {
            let (count, tail) = u32::read_from_prefix(rest).unwrap();
            prop_assert_eq!(u32::from_le(count) as usize, table.len());
            let (addresses, tail) = tail.split_at(table.len() * 6);
            prop_assert_eq!(addresses, table.concat());
            rest = tail;
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn steering_is_written_whole_or_not_at_all(
        table in proptest::collection::vec(0_u16..6, 0..80),
        unclassified in 0_u16..6,
        pairs in 0_u16..6,
        key in proptest::collection::vec(any::<u8>(), 0..300),
        room in 0_usize..600,
    ) {
        let config = RssConfig { types: HashTypes::ALL, table: &table, unclassified, pairs, key: &key };
        let mut out = vec![0; room];
        if let Ok(len) = config.write(&mut out) {
            prop_assert_eq!(len, RssConfig::size(table.len() as u16, key.len() as u8));
            prop_assert!(len <= room && table.len().is_power_of_two());
            prop_assert!(table.iter().all(|queue| *queue < pairs) && unclassified < pairs);
        }
    }
}
