// SPDX-License-Identifier: GPL-2.0

//! Sections 2.12 and 2.13: group administration commands.

mod common;

use proptest::prelude::*;
use std::collections::BTreeSet;
use virtio_spec::admin::{
    dev_parts_operation, has_dev_parts_cap, notify_owner, CapHead, CommandStatus, DevPartsCap,
    DevPartsCapSet, DevPartsObjectCreate, DevPartsQuery, GroupType, Header, NotifyInfo,
    NotifyInfoResult, ObjectHead, ObjectIds, Opcode, Opcodes, Refusal, DEV_PARTS_CAP,
    DEV_PARTS_OBJECT, GET_ALL,
};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, IntoBytes};

#[test]
fn section_2_12_1_header() {
    let header = Header::new(Opcode::DevModeSet, GroupType::SrIov, 0x0102);
    let mut expected = [0_u8; 24];
    (expected[0], expected[2], expected[16], expected[17]) = (0x11, 1, 2, 1);
    assert_eq!(header.as_bytes(), expected);
}

#[test]
fn section_2_12_1_opcodes() {
    assert_eq!(Opcodes::LEGACY.bits(), 0x7c);
    assert_eq!(Opcodes::DEV_PARTS.bits(), 0x3_e780);
    assert!(Opcodes::from_bits(!0).contains(Opcodes::LEGACY));
    assert!(!Opcodes::from_bits(0x3c).contains(Opcodes::LEGACY));
    assert!(Opcodes::from_bits(2).has(Opcode::ListUse));
    assert!(!Opcodes::from_bits(2).has(Opcode::ListQuery));
    assert_eq!(
        Opcodes::from_bits(!0).intersection(Opcodes::LEGACY.union(Opcodes::EMPTY)),
        Opcodes::LEGACY
    );
}

#[test]
fn section_2_12_1_status() {
    let table = [
        (0, Ok(())),
        (6, Err(Refusal::NotFound)),
        (11, Err(Refusal::TryAgain)),
        (12, Err(Refusal::NoMemory)),
        (16, Err(Refusal::Busy)),
        (22, Err(Refusal::Invalid)),
        (28, Err(Refusal::NoSpace)),
    ];
    for (status, result) in table {
        let bytes = [status, 0, 2, 0, 0, 0, 0, 0];
        let status = CommandStatus::read_from_bytes(&bytes).unwrap();
        assert_eq!(status.result(), result);
        assert_eq!(status.qualifier(), "invalid opcode");
    }
}

#[test]
fn section_2_12_1_3_a_status_without_meaning_is_invalid() {
    for status in [1, 512, 4096, 0xffff] {
        let status = CommandStatus {
            status: U16::new(status),
            status_qualifier: U16::new(8),
            ..CommandStatus::default()
        };
        assert_eq!(status.result(), Err(Refusal::Invalid));
        assert_eq!(status.qualifier(), "reserved qualifier");
    }
}

fn entry(flags: u8, bar: u8, offset: u64) -> NotifyInfo {
    NotifyInfo {
        flags,
        bar,
        offset: U64::new(offset),
        ..NotifyInfo::default()
    }
}

#[test]
fn section_2_12_1_1_7_entries_behind_the_end_are_ignored() {
    let result = NotifyInfoResult {
        entries: [
            entry(7, 0, 0),
            entry(notify_owner::OWNER, 1, 0x10),
            entry(notify_owner::END, 0, 0),
            entry(notify_owner::MEMBER, 2, 0x20),
        ],
    };
    let bars = |owner| {
        let bars: Vec<u8> = result.of_owner(owner).map(|entry| entry.bar).collect();
        bars
    };
    assert_eq!(bars(notify_owner::OWNER), [1]);
    assert!(bars(notify_owner::MEMBER).is_empty());
}

#[test]
fn section_2_12_1_1_7_a_place_lies_in_its_bar() {
    let place = |offset| entry(1, 2, offset).place(|bar| (bar == 2).then_some(0x1000));
    assert_eq!(place(0xffe), Some((2, 0xffe)));
    assert_eq!(place(0xfff), None, "odd");
    assert_eq!(place(0x1000), None, "beyond the BAR");
    assert_eq!(place(u64::MAX - 1), None, "wraps");
    assert_eq!(entry(1, 2, 0).place(|_| None), None, "no such BAR");
}

#[test]
fn capability_bytes() {
    let cap = DevPartsCap {
        get_parts_resource_objects_limit: 9,
        set_parts_resource_objects_limit: 4,
    };
    assert_eq!(cap.objects_limit(), 4);
    let set = DevPartsCapSet {
        head: CapHead {
            id: U16::new(DEV_PARTS_CAP),
            reserved: [0; 6],
        },
        cap,
    };
    assert_eq!(set.as_bytes(), [0, 0, 0, 0, 0, 0, 0, 0, 9, 4]);
    assert!(has_dev_parts_cap(1) && !has_dev_parts_cap(!1));
}

#[test]
fn object_bytes() {
    let head = ObjectHead {
        object_type: U16::new(DEV_PARTS_OBJECT),
        reserved: [0; 2],
        id: U32::new(0x0102),
    };
    let create = DevPartsObjectCreate {
        head,
        operation: dev_parts_operation::SET,
        ..DevPartsObjectCreate::default()
    };
    let mut expected = [0_u8; 24];
    (expected[4], expected[5], expected[16]) = (2, 1, 1);
    assert_eq!(create.as_bytes(), expected);
    let query = DevPartsQuery {
        head,
        query_type: GET_ALL,
        reserved: [0; 7],
    };
    let mut expected = [0_u8; 16];
    (expected[4], expected[5], expected[8]) = (2, 1, 1);
    assert_eq!(query.as_bytes(), expected);
}

proptest! {
    #![proptest_config(common::at_least(256))]

    #[test]
    fn object_ids_are_those_of_a_set(
        limit in any::<u8>(),
        first in any::<u8>(),
        steps in proptest::collection::vec(proptest::option::of(any::<u32>()), 0..60),
    ) {
        let mut ids = ObjectIds::new(limit);
        let mut model: BTreeSet<u32> = (0..first.min(limit)).map(u32::from).collect();
        for id in &model {
            prop_assert_eq!(ids.take().map(u32::from), Some(*id));
        }
        for step in steps {
            if let Some(id) = step {
                let id = if id % 4 == 0 { id } else { id % 256 };
                ids.give_back(id);
                model.remove(&id);
            } else {
                let free = (0..u32::from(limit)).find(|id| !model.contains(id));
                prop_assert_eq!(ids.take().map(u32::from), free);
                model.extend(free);
            }
        }
        prop_assert_eq!(ids.limit(), limit);
    }

    #[test]
    fn a_place_is_inside(offset in any::<u64>(), len in any::<u64>()) {
        if let Some((_, offset)) = entry(1, 0, offset).place(|_| Some(len)) {
            prop_assert!(offset % 2 == 0 && offset < len && len - offset >= 2);
        }
    }
}
