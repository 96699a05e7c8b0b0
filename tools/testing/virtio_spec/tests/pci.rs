// SPDX-License-Identifier: GPL-2.0

//! Section 4.1: PCI identity, registers and capabilities.

mod common;

use proptest::prelude::*;
use virtio_spec::pci::caps::CfgType;
use virtio_spec::pci::{self, parse_capabilities, CapError, Generation, NotifyError, Reject};
use virtio_spec::{transport, DeviceType, Feature, Features, Untrusted};
use virtio_spec_tests::{assert_sound, config_space, ordinary, Cap, BARS};

fn parse(caps: &[Cap]) -> Result<pci::Capabilities, CapError> {
    parse_capabilities(&config_space(caps), &BARS)
}

/// The ordinary device with the capability of `caps[0]`'s type replaced by `caps`.
fn replaced(caps: &[Cap]) -> Result<pci::Capabilities, CapError> {
    let mut all: Vec<Cap> = ordinary();
    all.retain(|cap| cap.cfg_type != caps[0].cfg_type);
    all.extend_from_slice(caps);
    parse(&all)
}

#[test]
fn section_4_1_2_ids() {
    let table = [
        (0x0fff, 1, None),
        (0x1000, 1, Some((DeviceType::NET, Generation::Transitional))),
        (
            0x1001,
            2,
            Some((DeviceType::BLOCK, Generation::Transitional)),
        ),
        (0x1009, 9, Some((DeviceType::P9, Generation::Transitional))),
        (0x103f, 40, Some((DeviceType::BT, Generation::Transitional))),
        (0x1040, 40, Some((DeviceType::RESERVED, Generation::Modern))),
        (0x1041, 40, Some((DeviceType::NET, Generation::Modern))),
        (0x1045, 40, Some((DeviceType::BALLOON, Generation::Modern))),
        (0x107f, 40, Some((DeviceType::new(63), Generation::Modern))),
        (0x1080, 40, None),
        (0xffff, 0xffff, None),
    ];
    for (device, subsystem, expected) in table {
        let found = pci::identify(device, 0x1af4, subsystem);
        assert_eq!(
            found.map(|id| (id.device, id.generation)),
            expected,
            "{device:#x}"
        );
        assert!(found.is_none_or(|id| id.vendor == 0x1af4));
    }
}

#[test]
fn section_4_1_4_an_ordinary_device() {
    let found = parse(&ordinary()).unwrap();
    let place = |region: &pci::Region| (region.bar(), region.offset(), region.length());
    assert_eq!(place(&found.common), (0, 0, 0x1000));
    assert_eq!(place(&found.isr), (0, 0x1000, 0x1000));
    assert_eq!(found.device.as_ref().map(place), Some((0, 0x2000, 0x1000)));
    assert_eq!(place(&found.notify.region), (0, 0x3000, 0x1000));
    assert_eq!(found.notify.multiplier, 4);
    assert_eq!(found.bars(), 1);
    assert_eq!(
        found.shared_memory().count() + found.vendor_data().count(),
        0
    );
    assert_eq!(found.pci_cfg, None);
}

#[test]
fn section_4_1_4_what_is_missing() {
    let without = |cfg_type: u8| {
        let caps: Vec<Cap> = ordinary()
            .into_iter()
            .filter(|c| c.cfg_type != cfg_type)
            .collect();
        parse(&caps).err()
    };
    assert_eq!(without(1), Some(CapError::Missing(CfgType::Common)));
    assert_eq!(without(2), Some(CapError::Missing(CfgType::Notify)));
    assert_eq!(without(3), Some(CapError::Missing(CfgType::Isr)));
    assert_eq!(without(4), None, "the device configuration is optional");
    assert_eq!(parse(&[]).err(), Some(CapError::Missing(CfgType::Common)));
}

#[test]
fn section_4_1_4_no_list_without_its_status_bit() {
    let mut cfg = config_space(&ordinary());
    cfg[6] = 0;
    let found = parse_capabilities(&cfg, &BARS);
    assert_eq!(found.err(), Some(CapError::Missing(CfgType::Common)));
}

#[test]
fn section_4_1_4_a_device_that_is_gone_reads_all_ones() {
    let found = parse_capabilities(&[0xff; 256], &BARS);
    assert_eq!(found.err(), Some(CapError::Missing(CfgType::Common)));
}

#[test]
fn section_4_1_4_short_config_space() {
    let cfg = config_space(&ordinary());
    for len in 0..256 {
        match parse_capabilities(&cfg[..len], &BARS) {
            Ok(found) => assert_sound(&found, &BARS),
            Err(CapError::ConfigSpaceTruncated) => assert!(len < 64),
            Err(_) => assert!((64..0x84).contains(&len)),
        }
    }
}

#[test]
fn section_4_1_4_a_list_that_loops_is_refused() {
    let mut cfg = config_space(&ordinary());
    // The last capability leads back to the first.
    let last = 0x40 + 16 * 3;
    assert_eq!(cfg[last..last + 2], [9, 0]);
    cfg[last + 1] = 0x40;
    assert_eq!(
        parse_capabilities(&cfg, &BARS).err(),
        Some(CapError::ListLoops)
    );
    // One that leads to itself.
    cfg[0x41] = 0x40;
    assert_eq!(
        parse_capabilities(&cfg, &BARS).err(),
        Some(CapError::ListLoops)
    );
}

#[test]
fn section_4_1_4_the_longest_list_is_not_a_loop() {
    let mut cfg = config_space(&ordinary());
    // 44 capabilities of another kind, four bytes each, would overlap: chain single dwords.
    let used = 0x40 + 16 * 3 + 20;
    let mut link = 0x40 + 16 * 3 + 1;
    for position in (used..256).step_by(4) {
        cfg[position] = 1;
        cfg[link] = position as u8;
        link = position + 1;
    }
    assert!(parse_capabilities(&cfg, &BARS).is_ok());
}

#[test]
fn section_4_1_4_a_pointer_into_the_header_ends_the_list() {
    let mut cfg = config_space(&ordinary());
    // The list goes on from there, but what the header holds is not a capability.
    (cfg[0x3d], cfg[0x41]) = (0x50, 0x3c);
    assert_eq!(
        parse_capabilities(&cfg, &BARS).err(),
        Some(CapError::Missing(CfgType::Notify))
    );
}

#[test]
fn section_4_1_4_the_low_bits_of_a_pointer_are_reserved() {
    let mut cfg = config_space(&ordinary());
    cfg[0x34] |= 3;
    cfg[0x41] |= 2;
    assert!(parse_capabilities(&cfg, &BARS).is_ok());
}

#[test]
fn section_4_1_4_1_bad_locations() {
    let unusable = |cap: Cap| match replaced(&[cap]) {
        Err(CapError::Unusable(_, reject)) => Some(reject),
        _ => None,
    };
    // The common configuration: 56 bytes, aligned to 4.
    assert_eq!(
        unusable(Cap::new(1, 6, 0, 0x1000)),
        Some(Reject::BarReserved)
    );
    assert_eq!(
        unusable(Cap::new(1, 255, 0, 0x1000)),
        Some(Reject::BarReserved)
    );
    assert_eq!(unusable(Cap::new(1, 1, 0, 0x1000)), Some(Reject::BarAbsent));
    assert_eq!(unusable(Cap::new(1, 3, 0, 0x1000)), Some(Reject::BarAbsent));
    assert_eq!(unusable(Cap::new(1, 0, 0, 55)), Some(Reject::TooShort));
    assert_eq!(
        unusable(Cap::new(1, 0, 2, 0x1000)),
        Some(Reject::Misaligned)
    );
    assert_eq!(
        unusable(Cap::new(1, 0, 0x4000, 0x1000)),
        Some(Reject::OutsideBar)
    );
    assert_eq!(
        unusable(Cap::new(1, 0, 0x4004, 0x1000)),
        Some(Reject::OutsideBar)
    );
    assert_eq!(
        unusable(Cap::new(1, 0, 0x3fcc, 0x1000)),
        Some(Reject::OutsideBar)
    );
    assert_eq!(
        unusable(Cap::new(1, 0, u32::MAX - 3, 0x1000)),
        Some(Reject::Wraps)
    );
    assert_eq!(
        unusable(Cap::new(1, 0, 0x1000, u32::MAX)),
        Some(Reject::Wraps)
    );
    let short = Cap::new(1, 0, 0, 56).with_cap_len(15);
    assert_eq!(unusable(short), Some(Reject::CapabilityTruncated));
    // The others.
    assert_eq!(unusable(Cap::notify(0, 1, 2, 0)), Some(Reject::Misaligned));
    assert_eq!(unusable(Cap::notify(0, 0, 1, 0)), Some(Reject::TooShort));
    let no_multiplier = Cap::new(2, 0, 0, 0x1000);
    assert_eq!(unusable(no_multiplier), Some(Reject::CapabilityTruncated));
    assert_eq!(unusable(Cap::new(3, 0, 0, 0)), Some(Reject::TooShort));
    assert_eq!(unusable(Cap::new(4, 0, 0, 0)), Some(Reject::TooShort));
    assert_eq!(unusable(Cap::new(4, 0, 1, 8)), Some(Reject::Misaligned));
}

#[test]
fn section_4_1_4_1_good_locations() {
    assert!(replaced(&[Cap::new(1, 0, 0x3fc8, 56)]).is_ok());
    assert!(
        replaced(&[Cap::new(3, 2, 0xff, 1)]).is_ok(),
        "an ISR in I/O space, at its end"
    );
    assert!(
        replaced(&[Cap::new(1, 0, 0, 56).with_cap_len(200)]).is_ok(),
        "a longer capability"
    );
    assert_eq!(
        replaced(&[Cap::new(4, 2, 0, 4)]).map(|found| found.bars()),
        Ok(0b101)
    );
}

#[test]
fn section_4_1_4_1_a_structure_is_cut_off_at_the_end_of_its_bar() {
    let found = replaced(&[Cap::new(4, 0, 0x3ff0, 0x1000)]).unwrap();
    assert_eq!(found.device.map(|region| region.length()), Some(0x10));
}

#[test]
fn section_4_1_4_2_the_first_usable_one_counts() {
    let unusable = Cap::new(1, 7, 0, 0x1000);
    let found = replaced(&[
        unusable,
        Cap::new(1, 0, 0x100, 64),
        Cap::new(1, 0, 0x200, 64),
    ]);
    assert_eq!(found.map(|found| found.common.offset()), Ok(0x100));
}

#[test]
fn section_4_1_4_2_unknown_types_are_skipped() {
    let mut caps = vec![
        Cap::new(6, 0, 0, 0),
        Cap::new(7, 0, 0, 0),
        Cap::new(255, 255, 1, 1),
    ];
    caps.extend(ordinary());
    assert!(parse(&caps).is_ok());
}

#[test]
fn section_4_1_4_other_capabilities_are_skipped() {
    let mut caps = ordinary();
    caps.insert(
        1,
        Cap {
            id: 0x11,
            ..Cap::new(1, 0, 0x100, 64)
        },
    );
    assert_eq!(parse(&caps).map(|found| found.common.offset()), Ok(0));
}

#[test]
fn section_4_1_4_3_length_by_feature() {
    let needs = [
        (transport::NotifConfigData::BIT, 58),
        (transport::RingReset::BIT, 60),
        (transport::AdminVq::BIT, 64),
    ];
    for (bit, needed) in needs {
        let agreed = Features::bit(bit);
        assert!(pci::check_common_len(needed, agreed).is_ok());
        let short = pci::check_common_len(needed - 1, agreed).unwrap_err();
        assert_eq!((short.needed as u64, short.len), (needed, needed - 1));
        assert!(pci::check_common_len(56, Features::ALL.without_bit(bit)).is_err());
    }
    assert!(pci::check_common_len(56, Features::of(&[32, 34, 38])).is_ok());
}

#[test]
fn section_4_1_4_4_notification_addresses() {
    let notify = |offset, length, multiplier| {
        replaced(&[Cap::notify(0, offset, length, multiplier)])
            .unwrap()
            .notify
    };
    let at =
        |region: pci::NotifyRegion, off: u16, width| region.offset_for(Untrusted::new(off), width);
    assert_eq!(at(notify(0, 0x1000, 4), 3, 2), Ok(12));
    assert_eq!(
        at(notify(0, 0x1000, 0), 0xffff, 2),
        Ok(0),
        "all queues share one address"
    );
    assert_eq!(at(notify(0, 16, 4), 3, 4), Ok(12));
    assert_eq!(at(notify(0, 14, 4), 3, 4), Err(NotifyError::OutOfRange));
    assert_eq!(at(notify(0, 14, 4), 3, 2), Ok(12));
    assert_eq!(at(notify(2, 0x1000, 4), 1, 4), Err(NotifyError::Misaligned));
    assert_eq!(at(notify(0, 0x1000, 3), 1, 2), Err(NotifyError::Misaligned));
    // 0x8000 * 0x20000 is 2^32: in 32 bits it would be offset 0.
    assert_eq!(
        at(notify(0, 0x1000, 0x2_0000), 0x8000, 2),
        Err(NotifyError::OutOfRange)
    );
    assert_eq!(
        at(notify(0, 0x1000, u32::MAX), u16::MAX, 2),
        Err(NotifyError::OutOfRange)
    );
    assert_eq!(
        at(notify(0, 0x1000, 2), 0, 0),
        Err(NotifyError::Misaligned),
        "no width"
    );
}

#[test]
fn section_4_1_4_7_shared_memory() {
    let mut caps = ordinary();
    caps.extend([
        Cap::shared_memory(1, 4, 0x1_0000_0000, 0x1_0000_0000),
        Cap::shared_memory(1, 4, 0, 0x1000),
        Cap::shared_memory(2, 4, 0x1_0000_0000, 0x1_0000_0001),
        Cap::shared_memory(3, 4, u64::MAX, 2),
        Cap::shared_memory(4, 4, 0, 0),
    ]);
    let found = parse(&caps).unwrap();
    assert_eq!(
        found.shared_memory().count(),
        1,
        "the others do not fit or repeat an id"
    );
    let region = found.shared_memory_by_id(1).unwrap().region;
    assert_eq!(
        (region.offset(), region.length()),
        (0x1_0000_0000, 0x1_0000_0000)
    );
    assert_eq!(found.shared_memory_by_id(2), None);
    assert_eq!(found.bars(), 1, "shared memory is claimed by who maps it");
}

#[test]
fn section_4_1_4_8_vendor_data() {
    let mut caps = ordinary();
    let mut vendor = Cap::new(9, 0, 0, 0);
    (vendor.bar, vendor.shm_id) = (0xf4, 0x1a);
    caps.insert(0, vendor.clone());
    caps.push(vendor.with_cap_len(5));
    let found = parse(&caps).unwrap();
    let data: Vec<_> = found.vendor_data().collect();
    assert_eq!(data.len(), 1, "the second is too short for a vendor id");
    assert_eq!(
        (data[0].vendor, data[0].position, data[0].len),
        (0x1af4, 0x40, 16)
    );
}

#[test]
fn section_4_1_4_9_configuration_access() {
    let mut caps = ordinary();
    caps.push(Cap {
        tail: vec![0; 4],
        ..Cap::new(5, 0, 0, 0)
    });
    assert_eq!(parse(&caps).map(|found| found.pci_cfg), Ok(Some(0x84)));
}

#[test]
fn section_4_1_4_10_legacy_configuration_moves_with_msix() {
    assert_eq!(pci::legacy::device_config(false), 20);
    assert_eq!(pci::legacy::device_config(true), 24);
}

/// Capabilities near the edges of what is accepted.
fn cap() -> impl Strategy<Value = Cap> {
    let edge = prop_oneof![
        0_u32..0x80,
        0x3f00_u32..0x4010,
        any::<u32>(),
        Just(u32::MAX),
    ];
    let tail = prop::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 0..=8);
    let id = prop_oneof![9 => Just(9_u8), 1 => any::<u8>()];
    (
        id,
        0_u8..11,
        0_u8..8,
        0_u8..3,
        edge.clone(),
        edge,
        tail,
        prop::option::weighted(0.1, any::<u8>()),
    )
        .prop_map(
            |(id, cfg_type, bar, shm_id, offset, length, tail, cap_len)| Cap {
                id,
                cfg_type,
                bar,
                shm_id,
                offset,
                length,
                tail,
                cap_len,
            },
        )
}

proptest! {
    #![proptest_config(common::at_least(1500))]

    #[test]
    fn any_bytes_are_parsed_soundly(
        cfg in prop::collection::vec(any::<u8>(), 0..300),
        lens in any::<[Option<u16>; 6]>(),
    ) {
        let kind = pci::BarKind::Mem;
        let bars = lens.map(|len| len.map(|len| pci::BarInfo { len: len.into(), kind }));
        if let Ok(found) = parse_capabilities(&cfg, &bars) {
            assert_sound(&found, &bars);
        }
    }

    #[test]
    fn any_list_is_parsed_soundly(mut caps in prop::collection::vec(cap(), 0..10), at in 0..10_usize) {
        // The mandatory ones somewhere in between, so that the parser often succeeds.
        let at = at.min(caps.len());
        caps.splice(at..at, ordinary());
        if let Ok(found) = parse(&caps) {
            assert_sound(&found, &BARS);
        }
    }

    #[test]
    fn any_pointers_end(links in prop::collection::vec((0_usize..48, any::<u8>()), 0..60)) {
        let mut cfg = config_space(&ordinary());
        for (slot, next) in links {
            cfg[0x40 + 4 * slot + 1] = next;
        }
        if let Ok(found) = parse_capabilities(&cfg, &BARS) {
            assert_sound(&found, &BARS);
        }
    }

    #[test]
    fn what_comes_before_the_ordinary_ones_only_adds(caps in prop::collection::vec(cap(), 1..3)) {
        let mut all = caps;
        // Id 255 is what an absent device reads as: it ends the list.
        all.retain(|cap| cap.id != 255);
        all.extend(ordinary());
        // Everything fits into config space, so every mandatory structure is there.
        prop_assert!(parse(&all).is_ok());
    }
}
