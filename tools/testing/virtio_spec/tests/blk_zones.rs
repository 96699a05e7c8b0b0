// SPDX-License-Identifier: GPL-2.0

//! Section 5.2.6: what a disk reports of its zones, and what is made of it.

mod common;

use proptest::prelude::*;
use virtio_spec::blk::zone::{
    descriptors, holds_append, zone_state, zone_type, Condition, Grid, Zone, DESCRIPTOR_SIZE,
    HEADER_SIZE,
};
use virtio_spec::blk::{LifetimeReport, ZoneDescriptor};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Three zones of 64 sectors, and one of 8.
const GRID: Grid = Grid {
    zone_sectors: 64,
    capacity: 200,
};

/// The descriptor of an open zone at `start`, after CHANGE.
fn zone(start: u64, change: impl FnOnce(&mut ZoneDescriptor)) -> ZoneDescriptor {
    let mut descriptor = ZoneDescriptor::new_zeroed();
    descriptor.z_start.set(start);
    descriptor.z_cap.set(8);
    descriptor.z_wp.set(start + 3);
    descriptor.z_type = zone_type::SEQUENTIAL_REQUIRED;
    descriptor.z_state = zone_state::IMPLICITLY_OPEN;
    change(&mut descriptor);
    descriptor
}

#[test]
fn states_of_a_sequential_zone() {
    for (state, condition, write_pointer) in [
        (zone_state::EMPTY, Condition::Empty, Some(67)),
        (
            zone_state::IMPLICITLY_OPEN,
            Condition::ImplicitlyOpen,
            Some(67),
        ),
        (
            zone_state::EXPLICITLY_OPEN,
            Condition::ExplicitlyOpen,
            Some(67),
        ),
        (zone_state::CLOSED, Condition::Closed, Some(67)),
        (zone_state::FULL, Condition::Full, Some(128)),
        (zone_state::READ_ONLY, Condition::ReadOnly, None),
        (zone_state::OFFLINE, Condition::Offline, None),
    ] {
        let found = GRID.check(64, &zone(64, |zone| zone.z_state = state));
        let wanted = Zone {
            start: 64,
            len: 64,
            capacity: 8,
            condition,
            write_pointer,
        };
        assert_eq!(found, Ok(wanted));
    }
}

#[test]
fn the_last_zone_may_be_shorter() {
    let last = GRID.check(192, &zone(192, |_| {})).unwrap();
    assert_eq!((last.len, last.capacity), (8, 8));
    let full = zone(192, |zone| zone.z_state = zone_state::FULL);
    assert_eq!(GRID.check(192, &full).unwrap().write_pointer, Some(200));
    assert!(GRID
        .check(192, &zone(192, |zone| zone.z_cap.set(9)))
        .is_err());
}

#[test]
fn a_conventional_zone_has_no_write_pointer() {
    let conventional = |capacity: u64| {
        zone(0, |zone| {
            zone.z_type = zone_type::CONVENTIONAL;
            zone.z_state = zone_state::NOT_WP;
            zone.z_wp.set(u64::MAX);
            zone.z_cap.set(capacity);
        })
    };
    let found = GRID.check(0, &conventional(64)).unwrap();
    assert_eq!(found.condition, Condition::Conventional);
    assert_eq!(found.write_pointer, None);
    assert_eq!(GRID.check(0, &conventional(63)).unwrap_err().field, "z_cap");
}

#[test]
fn what_cannot_be_is_refused() {
    type Change = fn(&mut ZoneDescriptor);
    let refused: [(&str, Change); 14] = [
        ("z_start", |zone| zone.z_start.set(0)),
        ("z_start", |zone| zone.z_start.set(65)),
        ("z_start", |zone| zone.z_start.set(u64::MAX)),
        ("z_cap", |zone| zone.z_cap.set(0)),
        ("z_cap", |zone| zone.z_cap.set(65)),
        ("z_cap", |zone| zone.z_cap.set(u64::MAX)),
        ("z_wp", |zone| zone.z_wp.set(63)),
        ("z_wp", |zone| zone.z_wp.set(129)),
        ("z_state", |zone| zone.z_state = 5),
        ("z_state", |zone| zone.z_state = 255),
        ("z_type", |zone| zone.z_type = 0),
        ("z_type", |zone| zone.z_type = zone_type::CONVENTIONAL),
        ("z_type", |zone| {
            zone.z_type = zone_type::SEQUENTIAL_PREFERRED
        }),
        ("z_type", |zone| zone.z_state = zone_state::NOT_WP),
    ];
    for (field, change) in refused {
        assert_eq!(GRID.check(64, &zone(64, change)).unwrap_err().field, field);
    }
    // A zone that the disk does not have.
    assert_eq!(
        GRID.check(256, &zone(256, |_| {})).unwrap_err().field,
        "z_start"
    );
}

#[test]
fn a_report_has_no_more_zones_than_it_has_room_for() {
    let mut report = vec![0; HEADER_SIZE + 3 * DESCRIPTOR_SIZE + 1];
    for (says, there) in [(0, 0), (1, 1), (3, 3), (4, 3), (u64::MAX, 3)] {
        report[..8].copy_from_slice(&says.to_le_bytes());
        assert_eq!(descriptors(&report).count(), there);
    }
    for at in 0..3_u8 {
        report[HEADER_SIZE + usize::from(at) * DESCRIPTOR_SIZE] = at + 1;
    }
    let capacities: Vec<u64> = descriptors(&report).map(|zone| zone.z_cap.get()).collect();
    assert_eq!(capacities, [1, 2, 3]);
    assert_eq!(descriptors(&report[..HEADER_SIZE - 1]).count(), 0);
    assert_eq!(descriptors(&report[..HEADER_SIZE]).count(), 0);
}

#[test]
fn zones_are_where_they_begin() {
    for (sector, start) in [(0, 0), (63, 0), (64, 64), (199, 192)] {
        assert_eq!(GRID.start_of(sector), start);
    }
}

#[test]
fn what_is_appended_is_in_its_zone() {
    for (sector, sectors, good) in [
        (64, 1, true),
        (64, 64, true),
        (127, 1, true),
        (120, 8, true),
        (120, 9, false),
        (64, 65, false),
        (63, 1, false),
        (128, 1, false),
        (u64::MAX, 1, false),
    ] {
        assert_eq!(
            holds_append(64, 64, sector, sectors),
            good,
            "{sector} {sectors}"
        );
    }
}

#[test]
fn a_lifetime_is_three_numbers() {
    let report = LifetimeReport::from_bytes([3, 0, 11, 1, 0xff, 0xff]);
    assert_eq!(report.pre_eol_info.get(), 3);
    assert_eq!(report.device_lifetime_est_typ_a.get(), 0x010b);
    assert_eq!(report.device_lifetime_est_typ_b.get(), 0xffff);
}

proptest! {
    #![proptest_config(common::at_least(2000))]

    /// Whatever a descriptor says, the zone is the one asked for, and inside of the disk.
    #[test]
    fn no_descriptor_gets_past(
        words in proptest::array::uniform3(prop_oneof![any::<u64>(), 0_u64..300]),
        kind in prop_oneof![any::<u8>(), 0_u8..4],
        state in prop_oneof![any::<u8>(), 0_u8..16],
        index in 0_u64..5,
    ) {
        let mut descriptor = ZoneDescriptor::new_zeroed();
        descriptor.z_start.set(if words[2] & 1 == 0 { index * 64 } else { words[0] });
        descriptor.z_cap.set(words[1]);
        descriptor.z_wp.set(words[2]);
        descriptor.z_type = kind;
        descriptor.z_state = state;
        let descriptor = ZoneDescriptor::read_from_bytes(descriptor.as_bytes()).unwrap();
        if let Ok(zone) = GRID.check(index * 64, &descriptor) {
            prop_assert_eq!(zone.start, index * 64);
            prop_assert!(zone.len >= 1 && zone.len <= 64 && zone.start + zone.len <= 200);
            prop_assert!(zone.capacity >= 1 && zone.capacity <= zone.len);
            if let Some(pointer) = zone.write_pointer {
                prop_assert!((zone.start..=zone.start + zone.len).contains(&pointer));
            }
        }
    }
}
