// SPDX-License-Identifier: GPL-2.0

//! Zones of a host-managed disk, as the device reports them (specification 5.2.6).
//!
//! C source: `virtblk_report_zones` in `drivers/block/virtio_blk.c`.

use crate::{
    command::RequestData,
    operations::DiskRef, //
};
use block_mq::{
    Zone,
    ZoneCondition,
    ZoneReport, //
};
use kernel::prelude::*;
use virtio_spec::blk::zone::{
    self,
    Condition, //
};

/// Bytes of a report at most: that many zones are asked for at once.
const MAX_REPORT: usize = 1 << 20;

/// Memory for a report of so many zones, or of fewer if there is not that much.
fn report_memory(disk: &DiskRef, zones: u64) -> Result<KVVec<u8>> {
    let zones = usize::try_from(zones).unwrap_or(usize::MAX);
    let wanted = zones
        .saturating_mul(zone::DESCRIPTOR_SIZE)
        .saturating_add(zone::HEADER_SIZE);
    let mut size = wanted.min(MAX_REPORT).min(disk.max_transfer());
    while size >= zone::HEADER_SIZE + zone::DESCRIPTOR_SIZE {
        if let Ok(memory) = KVVec::from_elem(0, size, GFP_KERNEL | __GFP_NOWARN) {
            return Ok(memory);
        }
        size /= 2;
    }
    Err(ENOMEM)
}

/// Reports the zones from the one of `sector` on.  May sleep, as long as requests take.
///
/// # Errors
///
/// `EOPNOTSUPP` if the disk has none, `EIO` if the device reports what cannot be, `ENOMEM`; those of
/// the request, and of `report`.
pub(crate) fn report(disk: &DiskRef, sector: u64, report: &mut ZoneReport<'_>) -> Result {
    // C's order of things: the capacity may change while zones are reported.
    let grid = disk.data().grid(disk.capacity()).ok_or(EOPNOTSUPP)?;
    let most = grid.capacity.div_ceil(grid.zone_sectors.into());
    let mut memory = report_memory(disk, most.min(report.wanted().into()))?;
    let mut next = grid.start_of(sector);
    while report.wanted() != 0 && next < grid.capacity {
        memory.fill(0);
        disk.execute_into(&mut memory, |data: &mut RequestData| data.ask_zones(next))?;
        let before = next;
        for descriptor in zone::descriptors(&memory) {
            if report.wanted() == 0 || next >= grid.capacity {
                break;
            }
            let zone = grid.check(next, &descriptor).map_err(|absurd| {
                disk.data().complain_of(next, &absurd);
                EIO
            })?;
            report.push(&Zone {
                start: zone.start,
                len: zone.len,
                capacity: zone.capacity,
                condition: condition(zone.condition),
                write_pointer: zone.write_pointer,
            })?;
            next += zone.len;
        }
        if next == before {
            break;
        }
    }
    Ok(())
}

fn condition(condition: Condition) -> ZoneCondition {
    match condition {
        Condition::Conventional => ZoneCondition::Conventional,
        Condition::Empty => ZoneCondition::Empty,
        Condition::ImplicitlyOpen => ZoneCondition::ImplicitlyOpen,
        Condition::ExplicitlyOpen => ZoneCondition::ExplicitlyOpen,
        Condition::Closed => ZoneCondition::Closed,
        Condition::ReadOnly => ZoneCondition::ReadOnly,
        Condition::Full => ZoneCondition::Full,
        Condition::Offline => ZoneCondition::Offline,
    }
}
