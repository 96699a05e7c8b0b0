// SPDX-License-Identifier: GPL-2.0

//! Files of a disk in sysfs: `serial` and `cache_type`.
//!
//! C source: `virtblk_attr_group` in `drivers/block/virtio_blk.c`.

use crate::{
    command::RequestData,
    operations::{
        DiskRef,
        Operations, //
    }, //
};
use block_mq::{
    Attribute,
    Page, //
};
use kernel::prelude::*;

pub(crate) const ALL: [Attribute<Operations>; 2] = [
    Attribute {
        name: c"serial",
        show: show_serial,
        store: None,
        is_writable: |_| false,
    },
    Attribute {
        name: c"cache_type",
        show: show_cache_type,
        store: Some(store_cache_type),
        is_writable: |shared| shared.can_switch_cache(),
    },
];

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
