// SPDX-License-Identifier: GPL-2.0

//! Files of a disk in sysfs: `serial` and `cache_type`, and of one with a lifetime `pre_eol_info` and
//! `life_time`, which are named and written as those of eMMC.
//!
//! C source: `virtblk_attr_group` in `drivers/block/virtio_blk.c`.

use crate::{
    command::RequestData,
    disk::Shared,
    operations::{
        DiskRef,
        Operations, //
    }, //
};
use block_mq::{
    Access,
    Attribute,
    Page, //
};
use core::fmt::Write;
use kernel::prelude::*;
use virtio_spec::blk::LifetimeReport;

pub(crate) const ALL: [Attribute<Operations>; 4] = [
    Attribute {
        name: c"serial",
        show: show_serial,
        store: None,
        access: |_| Access::Read,
    },
    Attribute {
        name: c"cache_type",
        show: show_cache_type,
        store: Some(store_cache_type),
        access: |shared| {
            if shared.can_switch_cache() {
                Access::Write
            } else {
                Access::Read
            }
        },
    },
    Attribute {
        name: c"pre_eol_info",
        show: show_pre_eol_info,
        store: None,
        access: access_lifetime,
    },
    Attribute {
        name: c"life_time",
        show: show_life_time,
        store: None,
        access: access_lifetime,
    },
];

fn access_lifetime(shared: &Shared) -> Access {
    if shared.has_lifetime() {
        Access::Read
    } else {
        Access::None
    }
}

/// What the files say, without and with a cache.
const CACHE_TYPES: [&[u8]; 2] = [b"write through", b"write back"];

fn show_serial(disk: &DiskRef, page: &mut Page<'_>) -> Result {
    match disk.execute(RequestData::ask_id, RequestData::id) {
        Ok((id, len)) => {
            // It fits: a page is longer.
            page.write(id.get(..len).unwrap_or_default());
            Ok(())
        }
        // The device has none.
        Err(error) if error == EIO || error == EOPNOTSUPP => Ok(()),
        Err(error) => Err(error),
    }
}

/// Asks the device, each time: it changes.
fn lifetime(disk: &DiskRef) -> Result<LifetimeReport> {
    disk.execute(RequestData::ask_lifetime, RequestData::lifetime)
}

// Numbers that the specification reserves are shown as they are: who reads them knows best.

fn show_pre_eol_info(disk: &DiskRef, page: &mut Page<'_>) -> Result {
    let report = lifetime(disk)?;
    writeln!(page, "0x{:02x}", report.pre_eol_info.get())?;
    Ok(())
}

fn show_life_time(disk: &DiskRef, page: &mut Page<'_>) -> Result {
    let report = lifetime(disk)?;
    writeln!(
        page,
        "0x{:02x} 0x{:02x}",
        report.device_lifetime_est_typ_a.get(),
        report.device_lifetime_est_typ_b.get()
    )?;
    Ok(())
}

fn show_cache_type(disk: &DiskRef, page: &mut Page<'_>) -> Result {
    let [through, back] = CACHE_TYPES;
    page.write(if disk.data().has_cache() {
        back
    } else {
        through
    });
    page.write(b"\n");
    Ok(())
}

fn store_cache_type(disk: &DiskRef, text: &[u8]) -> Result {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let [through, back] = CACHE_TYPES;
    let on = if text == back {
        true
    } else if text == through {
        false
    } else {
        return Err(EINVAL);
    };
    let on = disk.data().switch_cache(on)?;
    disk.change_limits(|limits| limits.set_write_cache(on))
}
