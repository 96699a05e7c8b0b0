// SPDX-License-Identifier: GPL-2.0

//! Zones of a disk that is written to in order.
//!
//! C headers: [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h),
//! [`include/uapi/linux/blkzoned.h`](srctree/include/uapi/linux/blkzoned.h).

use crate::{
    disk::DiskRef,
    operations::Operations, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    error::{
        from_result,
        to_result, //
    },
    ffi::{
        c_int,
        c_uint, //
    },
    prelude::*, //
};
use virtio_bindings as bindings;

/// What a zone is, and what was done to it (C: `enum blk_zone_cond`, and the type that goes with it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZoneCondition {
    /// Conventional: it has no write pointer.
    Conventional,
    /// Empty.
    Empty,
    /// Open, since it was written to.
    ImplicitlyOpen,
    /// Open, since it was opened.
    ExplicitlyOpen,
    /// Closed.
    Closed,
    /// Read-only.
    ReadOnly,
    /// Full.
    Full,
    /// Offline.
    Offline,
}

/// A zone (C: `struct blk_zone`); in sectors of 512 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Its first sector.
    pub start: u64,
    /// Its length.
    pub len: u64,
    /// How much of it can be used.
    pub capacity: u64,
    /// What it is.
    pub condition: ZoneCondition,
    /// Where the next write goes, if there is such a place.
    pub write_pointer: Option<u64>,
}

/// What somebody wants to know of zones: how many at most, and where it goes.
///
/// # Invariants
///
/// `disk` is valid, and `args` is what the block layer passed with it, for as long as this exists.
pub struct ZoneReport<'a> {
    disk: *mut bindings::gendisk,
    args: *mut bindings::blk_report_zones_args,
    wanted: u32,
    count: u32,
    _args: PhantomData<&'a mut bindings::blk_report_zones_args>,
}

impl ZoneReport<'_> {
    /// How many zones are still wanted.
    pub fn wanted(&self) -> u32 {
        self.wanted - self.count
    }

    /// Appends a zone, one after the other.  May sleep.
    ///
    /// # Errors
    ///
    /// Those of who wants to know; `ENOSPC` if no more are wanted.
    pub fn push(&mut self, zone: &Zone) -> Result {
        if self.wanted() == 0 {
            return Err(ENOSPC);
        }
        let condition = match zone.condition {
            ZoneCondition::Conventional => bindings::blk_zone_cond_BLK_ZONE_COND_NOT_WP,
            ZoneCondition::Empty => bindings::blk_zone_cond_BLK_ZONE_COND_EMPTY,
            ZoneCondition::ImplicitlyOpen => bindings::blk_zone_cond_BLK_ZONE_COND_IMP_OPEN,
            ZoneCondition::ExplicitlyOpen => bindings::blk_zone_cond_BLK_ZONE_COND_EXP_OPEN,
            ZoneCondition::Closed => bindings::blk_zone_cond_BLK_ZONE_COND_CLOSED,
            ZoneCondition::ReadOnly => bindings::blk_zone_cond_BLK_ZONE_COND_READONLY,
            ZoneCondition::Full => bindings::blk_zone_cond_BLK_ZONE_COND_FULL,
            ZoneCondition::Offline => bindings::blk_zone_cond_BLK_ZONE_COND_OFFLINE,
        };
        let kind = if zone.condition == ZoneCondition::Conventional {
            bindings::blk_zone_type_BLK_ZONE_TYPE_CONVENTIONAL
        } else {
            bindings::blk_zone_type_BLK_ZONE_TYPE_SEQWRITE_REQ
        };
        let mut raw = bindings::blk_zone {
            start: zone.start,
            len: zone.len,
            capacity: zone.capacity,
            wp: zone.write_pointer.unwrap_or(u64::MAX),
            // A byte each.
            type_: kind as u8,
            cond: condition as u8,
            ..Default::default()
        };
        // SAFETY: By the type invariants; the zone is copied.
        to_result(unsafe {
            bindings::disk_report_zone(self.disk, &mut raw, self.count, self.args)
        })?;
        self.count += 1;
        Ok(())
    }
}

/// `report_zones` of a disk.
pub(crate) extern "C" fn report<T: Operations>(
    disk: *mut bindings::gendisk,
    sector: bindings::sector_t,
    wanted: c_uint,
    args: *mut bindings::blk_report_zones_args,
) -> c_int {
    from_result(|| {
        let raw = NonNull::new(disk).ok_or(ENXIO)?;
        // INVARIANT: As the block layer passes them.
        let mut report = ZoneReport {
            disk,
            args,
            // As many as fit into the result.
            wanted: wanted.min(c_int::MAX.unsigned_abs()),
            count: 0,
            _args: PhantomData,
        };
        // SAFETY: The block layer passes a disk of ours.
        T::report_zones(&unsafe { DiskRef::from_raw(raw) }, sector, &mut report)?;
        match report.count {
            0 => Err(EINVAL),
            count => Ok(count as c_int),
        }
    })
}

impl<T: Operations> DiskRef<T> {
    /// Has the block layer look at all zones, by [`Operations::report_zones`], and remember what it
    /// needs to know.  Not while limits are being changed.  May sleep.
    ///
    /// # Errors
    ///
    /// Those of the report, and `ENODEV` for zones that the block layer cannot use.
    pub fn revalidate_zones(&self) -> Result {
        // SAFETY: By the type invariants.
        to_result(unsafe { bindings::blk_revalidate_disk_zones(self.as_raw()) })
    }
}
