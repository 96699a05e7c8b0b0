// SPDX-License-Identifier: GPL-2.0

//! Section 5.1.9: what a device says of a packet, and what a driver says.

mod common;

use common::at_least;
use proptest::prelude::*;
use virtio_spec::net::header::{
    Checksum, Gso, GsoKind, Hash, Hashed, Header, IpVersion, Layout, Malformed, Partial, Received,
    Refused, Transmit, Tunnel, Words, ETH_HLEN, MAX_SIZE,
};
use virtio_spec::net::{
    gso_type, hash_report, hdr_flag, Csum, GuestCsum, GuestTso4, GuestUdpTunnelGso,
    GuestUdpTunnelGsoCsum, HashReport, Hdr, HdrHash, HdrHashTunnel, HostEcn, HostTso4, HostTso6,
    HostUdpTunnelGso, HostUdpTunnelGsoCsum, HostUso, MrgRxbuf,
};
use virtio_spec::transport::Version1;
use virtio_spec::Features;
use zerocopy::IntoBytes;

fn modern() -> Features {
    Features::EMPTY.with::<Version1>().with::<GuestCsum>()
}

fn tunnels() -> Features {
    modern()
        .with::<GuestTso4>()
        .with::<GuestUdpTunnelGso>()
        .with::<GuestUdpTunnelGsoCsum>()
}

/// The header that CHANGE makes, read with FEATURES.
fn header(features: Features, change: impl FnOnce(&mut HdrHashTunnel)) -> Header {
    let mut wire = HdrHashTunnel::default();
    change(&mut wire);
    Layout::new(features).read(wire.as_bytes(), 60000).unwrap()
}

fn check(features: Features, len: u32, hdr: Hdr) -> Result<Received, Malformed> {
    header(features, |wire| wire.hash_hdr.hdr = hdr).check(len)
}

fn csum(start: u16, offset: u16) -> Hdr {
    Hdr {
        flags: hdr_flag::NEEDS_CSUM,
        csum_start: start.into(),
        csum_offset: offset.into(),
        ..Hdr::default()
    }
}

fn gso(kind: u8, size: u16, start: u16, offset: u16) -> Hdr {
    Hdr {
        gso_type: kind,
        gso_size: size.into(),
        ..csum(start, offset)
    }
}

#[test]
fn a_header_is_as_long_as_the_features_make_it() {
    let none = Features::EMPTY;
    for (features, len) in [
        (none, 10),
        (none.with::<MrgRxbuf>(), 12),
        (none.with::<Version1>(), 12),
        (modern().with::<HashReport>(), 20),
        (tunnels(), 24),
    ] {
        let layout = Layout::new(features);
        assert_eq!(layout.size(), len);
        let bytes = [0xff; MAX_SIZE];
        let least = len as u32 + ETH_HLEN;
        let short = |head: &[u8], written| layout.read(head, written).err();
        assert_eq!(short(&bytes, least), None);
        assert_eq!(short(&bytes, least - 1), Some(Malformed::TooShort));
        assert_eq!(short(&bytes, 0), Some(Malformed::TooShort));
        assert_eq!(short(&bytes[..len - 1], least), Some(Malformed::TooShort));
        let read = layout.read(&bytes[..len], least).unwrap();
        let written = read.as_bytes().to_vec();
        assert_eq!(written.len(), len);
        assert_eq!(&written[..10], &[0xff; 10]);
    }
}

#[test]
fn a_plain_packet() {
    let plain = Received {
        checksum: Checksum::Unknown,
        gso: None,
        tunnel: None,
    };
    assert_eq!(check(modern(), 14, Hdr::default()), Ok(plain));
    let valid = Hdr {
        flags: hdr_flag::DATA_VALID,
        ..Hdr::default()
    };
    let checksum = Checksum::Valid { in_tunnel: false };
    assert_eq!(
        check(modern(), 14, valid),
        Ok(Received { checksum, ..plain })
    );
    // Devices may help without VIRTIO_NET_F_GUEST_CSUM too (as C).
    let features = Features::EMPTY.with::<Version1>();
    assert_eq!(
        check(features, 14, valid),
        Ok(Received { checksum, ..plain })
    );
}

#[test]
fn bits_that_nobody_knows_are_ignored() {
    let hdr = Hdr {
        flags: 0xf0 | hdr_flag::RSC_INFO,
        csum_start: 0xffff.into(),
        ..Hdr::default()
    };
    let received = check(modern(), 14, hdr).unwrap();
    assert_eq!(received.checksum, Checksum::Unknown);
}

#[test]
fn num_buffers_is_neither_none_nor_more_than_there_are() {
    let merged = modern().with::<MrgRxbuf>();
    let count = |features, count: u16, most| {
        header(features, |wire| wire.hash_hdr.hdr.num_buffers.set(count))
            .num_buffers(most)
            .map(|count| count.get())
    };
    assert_eq!(count(merged, 1, 16), Ok(1));
    assert_eq!(count(merged, 16, 16), Ok(16));
    assert_eq!(count(merged, 17, 16), Err(Malformed::NumBuffers));
    assert_eq!(count(merged, 0xffff, 16), Err(Malformed::NumBuffers));
    assert_eq!(count(merged, 0, 16), Err(Malformed::NumBuffers));
    assert_eq!(count(merged, 1, 0), Ok(1), "the one in hand is there");
    assert_eq!(count(modern(), 0, 16), Ok(1), "not looked at");
    assert_eq!(count(modern(), 99, 16), Ok(1), "not looked at");
}

#[test]
fn a_checksum_is_within_the_packet() {
    let partial = |start, offset, len| check(modern(), len, csum(start, offset));
    let place = Partial {
        start: 34,
        offset: 6,
    };
    assert_eq!(
        partial(34, 6, 42).unwrap().checksum,
        Checksum::Partial(place)
    );
    for (start, offset, len) in [
        (34, 6, 41),
        (33, 6, 42),
        (0, 0, 1500),
        (34, 0xffff, 1500),
        (0xffff, 0xffff, 1500),
        (0xffff, 0, 65535),
        (1499, 0, 1500),
    ] {
        assert_eq!(
            partial(start, offset, len),
            Err(Malformed::Checksum),
            "{start} {offset} {len}"
        );
    }
    // Both flags: to be completed (as C).
    let mut both = csum(34, 6);
    both.flags |= hdr_flag::DATA_VALID;
    let received = check(modern(), 42, both).unwrap();
    assert_eq!(received.checksum, Checksum::Partial(place));
}

#[test]
fn segments_of_each_kind() {
    for (wire, kind, start, offset, headers) in [
        (gso_type::TCPV4, GsoKind::TcpV4, 34, 16, 54),
        (gso_type::TCPV6, GsoKind::TcpV6, 54, 16, 74),
        (gso_type::UDP, GsoKind::Udp, 34, 6, 34),
        (gso_type::UDP_L4, GsoKind::UdpL4, 34, 6, 42),
    ] {
        let received = check(modern(), headers + 1001, gso(wire, 1000, start, offset)).unwrap();
        let expected = Gso {
            kind,
            ecn: false,
            size: 1000,
        };
        assert_eq!(received.gso, Some(expected), "{kind:?}");
        let one = check(modern(), headers + 1000, gso(wire, 1000, start, offset)).unwrap();
        assert_eq!(one.gso, None, "{kind:?}: one segment is none");
        assert_eq!(
            check(modern(), 1500, gso(wire, 1000, start - 1, offset)),
            Err(Malformed::Checksum),
            "{kind:?}: too early"
        );
        let short = u32::from(start) + kind.min_transport_len() - 1;
        assert_eq!(
            check(modern(), short, gso(wire, 1000, start, offset)),
            Err(Malformed::Checksum),
            "{kind:?}: no room for its header"
        );
    }
}

#[test]
fn segments_that_cannot_be() {
    let bad = |hdr| check(modern(), 60000, hdr).unwrap_err();
    for wire in [2, 6, 0x1f, gso_type::ECN, gso_type::ECN | gso_type::UDP_L4] {
        assert_eq!(bad(gso(wire, 1000, 34, 16)), Malformed::GsoType, "{wire}");
    }
    for size in [0, 0xffff] {
        assert_eq!(
            bad(gso(gso_type::TCPV4, size, 34, 16)),
            Malformed::GsoSize,
            "{size}"
        );
    }
    assert_eq!(
        bad(gso(gso_type::TCPV4, 1000, 34, 6)),
        Malformed::Checksum,
        "not where TCP has it"
    );
    assert_eq!(
        bad(gso(gso_type::UDP_L4, 1000, 34, 16)),
        Malformed::Checksum
    );
    assert_eq!(
        bad(gso(gso_type::UDP_L4, 100, 34, 6)),
        Malformed::GsoSize,
        "more than 128 datagrams"
    );
    let tiny = check(modern(), 1500, gso(gso_type::TCPV4, 1, 34, 16)).unwrap();
    assert_eq!(tiny.gso.unwrap().size, 8, "as C");
}

#[test]
fn segments_without_a_checksum_are_looked_for_in_the_packet() {
    let without = |wire| Hdr {
        flags: hdr_flag::DATA_VALID,
        ..gso(wire, 1000, 0, 0)
    };
    for wire in [
        gso_type::TCPV4,
        gso_type::TCPV6 | gso_type::ECN,
        gso_type::UDP,
    ] {
        let received = check(modern(), 1500, without(wire)).unwrap();
        assert_eq!(received.checksum, Checksum::Valid { in_tunnel: false });
        assert!(received.gso.is_some(), "{wire}");
    }
    assert_eq!(
        check(modern(), 1500, without(gso_type::UDP_L4)),
        Err(Malformed::Checksum)
    );
    let found = Gso {
        kind: GsoKind::TcpV4,
        ecn: true,
        size: 1000,
    };
    assert_eq!(found.has_segments(34, 1054), Ok(false));
    assert_eq!(found.has_segments(34, 1055), Ok(true));
    assert_eq!(found.has_segments(34, 53), Err(Malformed::GsoType));
    assert_eq!(found.has_segments(u32::MAX, 53), Err(Malformed::GsoType));
}

/// VXLAN over IPv4: Ethernet, IPv4, UDP, VXLAN, Ethernet, IPv4, TCP.
fn vxlan(change: impl FnOnce(&mut HdrHashTunnel)) -> Result<Received, Malformed> {
    header(tunnels(), |wire| {
        wire.hash_hdr.hdr = gso(gso_type::TCPV4 | gso_type::UDP_TUNNEL_IPV4, 1000, 84, 16);
        wire.outer_th_offset.set(34);
        wire.inner_nh_offset.set(64);
        change(wire);
    })
    .check(5000)
}

#[test]
fn a_tunnel() {
    let received = vxlan(|_| {}).unwrap();
    let tunnel = Tunnel {
        outer: IpVersion::V4,
        outer_transport: 34,
        inner_network: 64,
        checksum: false,
    };
    assert_eq!(received.tunnel, Some(tunnel));
    assert_eq!(received.gso.unwrap().kind, GsoKind::TcpV4);
    let with_checksum = vxlan(|wire| {
        wire.hash_hdr.hdr.flags |= hdr_flag::UDP_TUNNEL_CSUM;
    });
    assert!(with_checksum.unwrap().tunnel.unwrap().checksum);
    let udp = vxlan(|wire| {
        wire.hash_hdr.hdr = gso(gso_type::UDP_L4 | gso_type::UDP_TUNNEL_IPV4, 1000, 84, 6);
    });
    assert_eq!(udp.unwrap().tunnel, Some(tunnel));
    assert_eq!(tunnel.inner(GsoKind::UdpL4, 84, 0x45), Ok(IpVersion::V4));
    assert_eq!(
        tunnel.inner(GsoKind::UdpL4, 84, 0x60),
        Err(Malformed::Tunnel)
    );
    assert_eq!(tunnel.inner(GsoKind::UdpL4, 104, 0x60), Ok(IpVersion::V6));
    assert_eq!(tunnel.inner(GsoKind::TcpV4, 84, 0x60), Ok(IpVersion::V4));
}

#[test]
fn tunnels_that_cannot_be() {
    type Change = fn(&mut HdrHashTunnel);
    let changes: [(&str, Change); 10] = [
        ("both versions", |wire| {
            wire.hash_hdr.hdr.gso_type |= gso_type::UDP_TUNNEL_IPV6;
        }),
        ("no segments", |wire| {
            wire.hash_hdr.hdr.gso_type = gso_type::UDP_TUNNEL_IPV4;
        }),
        ("fragments", |wire| {
            wire.hash_hdr.hdr.gso_type = gso_type::UDP_TUNNEL_IPV4 | gso_type::UDP;
        }),
        ("no checksum", |wire| wire.hash_hdr.hdr.flags = 0),
        ("a valid checksum", |wire| {
            wire.hash_hdr.hdr.flags |= hdr_flag::DATA_VALID;
        }),
        ("outer IPv4", |wire| wire.outer_th_offset.set(33)),
        ("outer IPv6", |wire| {
            wire.hash_hdr.hdr.gso_type = gso_type::TCPV4 | gso_type::UDP_TUNNEL_IPV6;
        }),
        ("outer UDP", |wire| wire.inner_nh_offset.set(41)),
        ("inner IPv4", |wire| wire.inner_nh_offset.set(65)),
        ("inner IPv6", |wire| {
            wire.hash_hdr.hdr.gso_type = gso_type::TCPV6 | gso_type::UDP_TUNNEL_IPV4;
        }),
    ];
    for (name, change) in changes {
        assert_eq!(vxlan(change), Err(Malformed::Tunnel), "{name}");
    }
    let hdr = gso(gso_type::TCPV4 | gso_type::UDP_TUNNEL_IPV4, 1000, 84, 16);
    assert_eq!(
        check(modern(), 5000, hdr),
        Err(Malformed::Tunnel),
        "not agreed on"
    );
}

#[test]
fn an_inner_checksum_is_valid_where_tunnels_were_agreed_on() {
    let hdr = Hdr {
        flags: hdr_flag::DATA_VALID | hdr_flag::UDP_TUNNEL_CSUM,
        ..Hdr::default()
    };
    let received = check(tunnels(), 100, hdr).unwrap();
    assert_eq!(received.checksum, Checksum::Valid { in_tunnel: true });
    assert_eq!(check(modern(), 100, hdr), Err(Malformed::Tunnel));
}

#[test]
fn section_5_1_9_4_4_hash_reports() {
    let hash = |features, report: u16| {
        header(features, |wire| {
            wire.hash_hdr = HdrHash {
                hash_value: 0x1234_5678.into(),
                hash_report: report.into(),
                ..HdrHash::default()
            }
        })
        .hash()
    };
    let reports = modern().with::<HashReport>();
    for (report, of, extended) in [
        (hash_report::IPV4, Hashed::Network(IpVersion::V4), false),
        (hash_report::TCPV4, Hashed::Tcp(IpVersion::V4), false),
        (hash_report::UDPV4, Hashed::Udp(IpVersion::V4), false),
        (hash_report::IPV6, Hashed::Network(IpVersion::V6), false),
        (hash_report::TCPV6, Hashed::Tcp(IpVersion::V6), false),
        (hash_report::UDPV6, Hashed::Udp(IpVersion::V6), false),
        (hash_report::IPV6_EX, Hashed::Network(IpVersion::V6), true),
        (hash_report::TCPV6_EX, Hashed::Tcp(IpVersion::V6), true),
        (hash_report::UDPV6_EX, Hashed::Udp(IpVersion::V6), true),
    ] {
        let expected = Hash {
            value: 0x1234_5678,
            of,
            extended,
        };
        assert_eq!(hash(reports, report), Some(expected));
        assert_eq!(hash(modern(), report), None);
    }
    for report in [hash_report::NONE, 10, 0x100, 0xffff] {
        assert_eq!(hash(reports, report), None, "{report}");
    }
}

fn tcp(kind: GsoKind, ecn: bool) -> Transmit {
    Transmit {
        checksum: Some(Partial {
            start: 34,
            offset: 16,
        }),
        gso: Some(Gso {
            kind,
            ecn,
            size: 1448,
        }),
        header_len: 66,
        tunnel: None,
    }
}

#[test]
fn a_driver_asks_for_what_was_agreed_on() {
    let none = Features::EMPTY.with::<Version1>();
    let write = |features, packet: &Transmit| {
        Layout::new(features)
            .write(packet)
            .map(|header| header.as_bytes().to_vec())
    };
    assert_eq!(write(none, &Transmit::default()), Ok(vec![0; 12]));

    let packet = tcp(GsoKind::TcpV4, false);
    let bytes = [1, 1, 66, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0];
    assert_eq!(
        write(none.with::<Csum>().with::<HostTso4>(), &packet),
        Ok(bytes.to_vec())
    );
    assert_eq!(write(none.with::<HostTso4>(), &packet), Err(Refused));
    assert_eq!(write(none.with::<Csum>(), &packet), Err(Refused));
    let unsummed = Transmit {
        checksum: None,
        ..packet
    };
    let both = none.with::<Csum>().with::<HostTso4>();
    assert_eq!(write(both, &unsummed), Err(Refused));

    let ecn = tcp(GsoKind::TcpV4, true);
    assert_eq!(write(both, &ecn), Err(Refused));
    assert_eq!(write(both.with::<HostEcn>(), &ecn).unwrap()[1], 0x81);
    let legacy = Features::EMPTY
        .with::<Csum>()
        .with::<virtio_spec::net::Gso>();
    assert_eq!(write(legacy, &ecn).unwrap().len(), 10);
    assert_eq!(write(legacy, &tcp(GsoKind::UdpL4, false)), Err(Refused));

    let all = both.with::<HostTso6>().with::<HostUso>();
    assert_eq!(write(all, &tcp(GsoKind::TcpV6, false)).unwrap()[1], 4);
    assert_eq!(write(all, &tcp(GsoKind::UdpL4, false)).unwrap()[1], 5);
    assert_eq!(write(all, &tcp(GsoKind::Udp, false)), Err(Refused));
}

#[test]
fn a_driver_sends_tunnels_that_were_agreed_on() {
    let features = Features::EMPTY
        .with::<Version1>()
        .with::<Csum>()
        .with::<HostTso4>();
    let tunnel = Tunnel {
        outer: IpVersion::V6,
        outer_transport: 54,
        inner_network: 84,
        checksum: true,
    };
    let packet = Transmit {
        checksum: Some(Partial {
            start: 104,
            offset: 16,
        }),
        tunnel: Some(tunnel),
        ..tcp(GsoKind::TcpV4, false)
    };
    let write = |features, packet: &Transmit| Layout::new(features).write(packet).err();
    assert_eq!(write(features, &packet), Some(Refused));
    let agreed = features.with::<HostUdpTunnelGso>();
    assert_eq!(write(agreed, &packet), Some(Refused));
    let agreed = agreed.with::<HostUdpTunnelGsoCsum>();
    let header = Layout::new(agreed).write(&packet).unwrap();
    assert_eq!(header.as_bytes()[..2], [0x09, 0x41]);
    assert_eq!(header.as_bytes()[20..], [54, 0, 84, 0]);
    let whole = Transmit {
        gso: None,
        ..packet
    };
    assert_eq!(write(agreed, &whole), Some(Refused));
}

#[test]
fn a_header_is_printed_for_a_message() {
    let mut hdr = gso(gso_type::TCPV4, 1000, 34, 16);
    hdr.num_buffers.set(3);
    assert_eq!(
        header(modern(), |wire| wire.hash_hdr.hdr = hdr).to_string(),
        "flags 0x1, gso_type 0x1, hdr_len 0, gso_size 1000, csum 34+16, num_buffers 3"
    );
    assert_eq!(Malformed::Tunnel.to_string(), "UDP tunnel");
}

/// Feature sets in which receive headers differ.
fn any_features() -> impl Strategy<Value = Features> {
    any::<u128>().prop_map(Features::from_bits)
}

/// Headers of which many are near to sensible ones.
fn any_wire() -> impl Strategy<Value = [u8; MAX_SIZE]> {
    let kind = prop_oneof![0_u8..8, any::<u8>()];
    let place = prop_oneof![Just(34_u16), Just(54), Just(84), any::<u16>()];
    let offset = prop_oneof![Just(6_u16), Just(16), any::<u16>()];
    (
        any::<[u8; MAX_SIZE]>(),
        0_u8..16,
        kind,
        0_u8..8,
        place,
        offset,
    )
        .prop_map(|(mut wire, flags, kind, high, start, offset)| {
            wire[0] = flags;
            wire[1] = kind | high << 5;
            wire[6..8].copy_from_slice(&start.to_le_bytes());
            wire[8..10].copy_from_slice(&offset.to_le_bytes());
            wire
        })
}

proptest! {
    #![proptest_config(at_least(2048))]

    #[test]
    fn whatever_is_taken_fits_into_the_packet(
        wire in any_wire(),
        features in any_features(),
        len in ETH_HLEN..70000,
        most in any::<u16>(),
    ) {
        let layout = Layout::new(features);
        let header = layout.read(&wire, len + layout.size() as u32).unwrap();
        prop_assert_eq!(header.as_bytes(), &wire[..layout.size()]);
        if let Ok(count) = header.num_buffers(most) {
            prop_assert!(count.get() <= most.max(1));
        }
        let Ok(received) = header.check(len) else {
            return Ok(());
        };
        if let Checksum::Partial(Partial { start, offset }) = received.checksum {
            prop_assert!(u32::from(start) + u32::from(offset) + 2 <= len);
            prop_assert!(u32::from(start) >= ETH_HLEN + 20);
            if let Some(gso) = received.gso {
                let end = u32::from(start) + gso.kind.min_transport_len();
                prop_assert!(end <= len);
                prop_assert_eq!(gso.has_segments(start.into(), len), Ok(true));
            }
        }
        if let Some(gso) = received.gso {
            prop_assert!(gso.size > 0 && gso.size < 0xffff);
            prop_assert!(!gso.ecn || gso.kind.is_tcp());
        }
        if let Some(tunnel) = received.tunnel {
            let Checksum::Partial(inner) = received.checksum else {
                panic!("a tunnel without a checksum");
            };
            prop_assert!(tunnel.outer_transport < tunnel.inner_network);
            prop_assert!(tunnel.inner_network < inner.start);
            prop_assert!(features.has::<GuestUdpTunnelGso>());
        }
    }

    #[test]
    fn a_plain_header_says_nothing_but_what_its_checksum_is(
        mut wire in any_wire(),
        features in any_features(),
        flags in 0_u8..8,
        kind in prop_oneof![4 => Just(0_u8), 1 => any::<u8>()],
        buffers in prop_oneof![4 => Just(1_u16), 1 => any::<u16>()],
        len in ETH_HLEN..70000,
    ) {
        let layout = Layout::new(features);
        (wire[0], wire[1]) = (flags, kind);
        wire[10..12].copy_from_slice(&buffers.to_le_bytes());
        let words: Words = core::array::from_fn(|at| {
            u64::from_ne_bytes(wire[8 * at..8 * at + 8].try_into().unwrap())
        });
        let written = len + layout.size() as u32;
        let header = layout.read_words(&words, written).unwrap();
        let plain = layout.plain(&words);
        if let Some(checksum) = plain {
            prop_assert!(layout.fits(written));
            prop_assert_eq!(header.num_buffers(1).map(u16::from), Ok(1));
            let received = Received { checksum, gso: None, tunnel: None };
            prop_assert_eq!(header.check(len), Ok(received));
        }
        // The usual ones are not missed.
        let usual = layout.size() == 12 && kind == 0 && (flags == 0 || flags == hdr_flag::DATA_VALID);
        prop_assert_eq!(plain.is_some(), usual && header.num_buffers(1).is_ok());
    }

    #[test]
    fn what_a_driver_sends_another_one_takes(
        kind in prop_oneof![Just(GsoKind::TcpV4), Just(GsoKind::TcpV6), Just(GsoKind::UdpL4)],
        size in 8_u16..0xffff,
        ecn in any::<bool>(),
    ) {
        let features = Features::ALL;
        let ecn = ecn && kind.is_tcp();
        let offset = if kind.is_tcp() { 16 } else { 6 };
        let gso = Gso { kind, ecn, size };
        let tunnel = Tunnel {
            outer: IpVersion::V6,
            outer_transport: 54,
            inner_network: 84,
            checksum: true,
        };
        let packet = Transmit {
            checksum: Some(Partial { start: 124, offset }),
            gso: Some(gso),
            header_len: 144,
            tunnel: Some(tunnel),
        };
        let layout = Layout::new(features);
        let sent = layout.write(&packet).unwrap();
        let read = layout.read(sent.as_bytes(), 70000).unwrap();
        let len = 144 + u32::from(size) + 1;
        let received = read.check(len).unwrap();
        prop_assert_eq!(received.checksum, Checksum::Partial(Partial { start: 124, offset }));
        prop_assert_eq!(received.gso, Some(gso));
        prop_assert_eq!(received.tunnel, Some(tunnel));
    }
}
