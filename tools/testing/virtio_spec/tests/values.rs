// SPDX-License-Identifier: GPL-2.0

//! Sections 2.1, 2.5 and 5: status, untrusted values, and the layouts of the device classes.

mod common;

use proptest::prelude::*;
use virtio_spec::config::Scalar;
use virtio_spec::{blk, net, DeviceType, Features, Status, Untrusted};
use zerocopy::{FromBytes, IntoBytes};

#[test]
fn section_2_1_status_bits() {
    let table = [
        (Status::ACKNOWLEDGE, 1),
        (Status::DRIVER, 2),
        (Status::DRIVER_OK, 4),
        (Status::FEATURES_OK, 8),
        (Status::SUSPEND, 16),
        (Status::DEVICE_NEEDS_RESET, 64),
        (Status::FAILED, 128),
    ];
    for (status, bits) in table {
        assert_eq!(status.bits(), bits);
        assert!(Status::from_bits(0xff).contains(status));
        assert!(!Status::RESET.contains(status));
    }
}

#[test]
fn section_2_1_status_is_printed_by_name() {
    let mut status = Status::RESET;
    assert_eq!(status.to_string(), "RESET");
    status.insert(Status::ACKNOWLEDGE);
    status.insert(Status::FAILED);
    assert_eq!(status.to_string(), "ACKNOWLEDGE|FAILED");
    assert_eq!(Status::from_bits(0x24).to_string(), "DRIVER_OK|0x20");
    assert_eq!(Status::from_bits(0x20).to_string(), "0x20");
    assert!(Status::from_bits(0xff).is_all_ones());
    assert_eq!(
        Status::from_bits(3).difference(Status::DRIVER),
        Status::ACKNOWLEDGE
    );
}

#[test]
fn section_3_4_1_a_device_is_suspended_when_it_shows_both_bits_so() {
    let table = [
        (0x0f, false, true),
        (0x1f, false, false),
        (0x1b, true, false),
        (0x0b, false, false),
    ];
    for (bits, suspended, running) in table {
        let status = Status::from_bits(bits);
        assert_eq!(
            (status.is_suspended(), status.is_running()),
            (suspended, running),
            "{status}"
        );
    }
}

#[test]
fn section_5_device_types() {
    assert_eq!(DeviceType::RNG.id(), 4);
    assert_eq!(DeviceType::RNG.to_string(), "rng");
    assert_eq!(DeviceType::new(999).to_string(), "virtio device type 999");
    assert_eq!(DeviceType::new(999).name(), None);
}

#[test]
fn untrusted_values_leave_only_through_a_check() {
    assert_eq!(Untrusted::new(5_u8).nonzero(), Some(5));
    assert_eq!(Untrusted::new(0_u64).nonzero(), None);
    assert!(
        Untrusted::new(2_u8).is_nonzero(),
        "any value but zero is true"
    );
    assert_eq!(Untrusted::new(9_u32).clamp(10, 20), 10);
    assert_eq!(Untrusted::new(99_u32).clamp(10, 20), 20);
    assert_eq!(Untrusted::new(99_u32).clamp(20, 10), 10);
    assert_eq!(
        Untrusted::new(0x1234_u16.to_le()).map_le().for_log(),
        0x1234
    );
    assert_eq!(
        Untrusted::new(3_u16)
            .map(u32::from)
            .validate(|n| n.checked_sub(4)),
        None
    );
    assert_eq!(format!("{:?}", Untrusted::new(7_u8)), "untrusted 7");
}

#[test]
fn section_2_5_scalars_keep_their_order() {
    assert_eq!(u32::decode_le([1, 2, 3, 4]), 0x0403_0201);
    assert_eq!(Scalar::encode_le(0x0403_0201_u32), [1, 2, 3, 4]);
    assert_eq!(
        <u16 as Scalar>::decode_native(0x1234_u16.to_ne_bytes()),
        0x1234
    );
    assert_eq!(
        <[u8; 6] as Scalar>::decode_le([1, 2, 3, 4, 5, 6]),
        [1, 2, 3, 4, 5, 6]
    );
    assert_eq!((<u64 as Scalar>::SIZE, <[u8; 6] as Scalar>::SIZE), (8, 6));
}

#[test]
fn section_2_5_2_a_field_may_lie_beyond_the_space() {
    assert!(blk::Config::CAPACITY.is_within(8));
    assert!(!blk::Config::CAPACITY.is_within(7));
    assert!(!blk::Config::ZONED_MODEL.is_within(92));
    assert!(blk::Config::ZONED_MODEL.is_within(93));
}

#[test]
fn section_5_1_4_network_configuration() {
    let mut bytes = [0_u8; 28];
    bytes[6] = 3;
    bytes[10..12].copy_from_slice(&1500_u16.to_le_bytes());
    bytes[20] = 0x3f;
    let config = net::Config::read_from_bytes(&bytes).unwrap();
    assert_eq!(
        config.status.get(),
        net::STATUS_LINK_UP | net::STATUS_ANNOUNCE
    );
    assert_eq!(
        (config.mtu.get(), config.supported_hash_types.get()),
        (1500, 0x3f)
    );
    let hashes = net::hash_type::IPV4
        | net::hash_type::TCPV4
        | net::hash_type::UDPV4
        | net::hash_type::IPV6
        | net::hash_type::TCPV6
        | net::hash_type::UDPV6;
    assert_eq!(hashes, 0x3f);
}

#[test]
fn section_5_1_9_header_length() {
    let table: [(&[u32], usize); 7] = [
        (&[], 10),
        (&[15], 12),
        (&[32], 12),
        (&[32, 15], 12),
        (&[32, 57], 20),
        (&[32, 65], 24),
        (&[32, 67, 57], 24),
    ];
    for (bits, len) in table {
        assert_eq!(net::hdr_len(Features::of(bits)), len, "{bits:?}");
    }
}

#[test]
fn section_5_1_9_header_bytes() {
    let mut hdr = net::HdrHashTunnel::default();
    hdr.hash_hdr.hdr.flags = net::hdr_flag::NEEDS_CSUM;
    hdr.hash_hdr.hdr.num_buffers.set(0x0102);
    hdr.hash_hdr.hash_value.set(0x0a0b_0c0d);
    hdr.inner_nh_offset.set(0x0304);
    let expected = [
        1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0xd, 0xc, 0xb, 0xa, 0, 0, 0, 0, 0, 0, 4, 3,
    ];
    assert_eq!(hdr.as_bytes(), expected);
}

#[test]
fn section_5_1_9_5_control_commands() {
    use net::ctrl::CtrlHdr;
    assert_eq!(CtrlHdr::MQ_VQ_PAIRS_SET.as_bytes(), [4, 0]);
    assert_eq!(CtrlHdr::MAC_ADDR_SET.as_bytes(), [1, 1]);
    assert_eq!(CtrlHdr::STATS_GET.as_bytes(), [8, 1]);
    assert_eq!(CtrlHdr::NOTF_COAL_VQ_GET.as_bytes(), [6, 3]);
}

#[test]
fn section_5_2_4_block_configuration() {
    let mut bytes = [0_u8; 96];
    bytes[..8].copy_from_slice(&0x0102_0304_0506_0708_u64.to_le_bytes());
    bytes[24] = 3;
    bytes[32] = 2;
    bytes[92] = blk::zone_model::HOST_MANAGED;
    let config = blk::Config::read_from_bytes(&bytes).unwrap();
    assert_eq!(config.capacity.get(), 0x0102_0304_0506_0708);
    assert_eq!(config.topology.physical_block_exp, 3);
    assert_eq!((config.writeback, config.zoned.model), (2, 1));
}

#[test]
fn section_5_2_6_request_header() {
    let header = blk::RequestHeader::new(blk::RequestType::WriteZeroes, 7, 0x0102);
    assert_eq!(
        header.as_bytes(),
        [13, 0, 0, 0, 7, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]
    );
}

proptest! {
    #![proptest_config(common::at_least(2000))]

    #[test]
    fn an_index_is_the_value_or_nothing(value in any::<u64>(), small in 0_u64..64, len in 0_usize..64) {
        for value in [value, small, value << 32 | small] {
            let index = Untrusted::new(value).index(len);
            prop_assert_eq!(index, (value < len as u64).then_some(value as usize));
        }
    }

    #[test]
    fn a_bound_is_kept(value in any::<u32>(), bound in any::<u32>()) {
        let least = Untrusted::new(value).min(bound);
        prop_assert!(least <= bound && (least == value || least == bound));
    }
}
