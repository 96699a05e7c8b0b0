// SPDX-License-Identifier: GPL-2.0

//! Pages of a balloon that are moved, for others to have the place.
//!
//! C: `virtballoon_migratepage` in `drivers/virtio/virtio_balloon.c`; `mm/migrate.c`.
//!
//! The device is told of the new page, then of the old one.  While it may take the new one at any
//! time, there is a reference to it: a migration that is given up leaves a page behind that goes into
//! the balloon when the device has it.

use crate::{
    pages::Balloon,
    transfer::{
        Acked,
        Deflating,
        Idle,
        Inflating, //
    }, //
};
use core::{
    cell::Cell,
    ptr::NonNull, //
};
use kernel::{
    container_of,
    ffi::c_int,
    prelude::*,
    sync::Arc,
    types::Opaque, //
};
use virtio_bindings as bindings;
use virtio_spec::balloon::Wire;

/// Who has a device moved to other pages.
pub trait Migrate: Send + Sync {
    /// Has the device take the new page and give the old one, and finishes `migration`.  Sleeps,
    /// while others wait for memory.  No memory may be allocated.
    ///
    /// # Errors
    ///
    /// `EAGAIN` to be asked again at once.
    fn migrate(&self, migration: &Migration) -> Result;
}

/// One page that is to be moved.
///
/// # Invariants
///
/// Both are pages, valid and locked as long as it exists; `old` is in the balloon.
pub struct Migration {
    new: NonNull<bindings::page>,
    old: NonNull<bindings::page>,
    /// Something links the new page.
    lent: Cell<bool>,
    done: Cell<bool>,
}

impl Migration {
    /// Makes the array that says that the device has the new page.
    ///
    /// # Errors
    ///
    /// The transfer, if that was done before or the page has no number.
    pub fn inflate(&self, idle: Idle, wire: Wire) -> Result<Inflating, Idle> {
        if self.lent.get() {
            return Err(idle);
        }
        // SAFETY: By the type invariants, a page, whose `lru` `mm/migrate.c` has freed, and uses no
        // more until it is asked to try again, which `migrate_page` prevents.
        let result = unsafe { idle.inflate_with(wire, self.new) };
        self.lent.set(result.is_ok());
        result
    }

    /// Makes the array that says that the device does not have the old page any more.
    ///
    /// # Errors
    ///
    /// The transfer, if the page has no number.
    pub fn deflate(&self, idle: Idle, wire: Wire) -> Result<Deflating, Idle> {
        // SAFETY: By the type invariants, a page.
        unsafe { idle.deflate_with(wire, self.old) }
    }

    /// The device has said yes to both.
    ///
    /// # Errors
    ///
    /// The transfers, if they are of another migration.
    pub fn finish(
        &self,
        inflated: Acked<Inflating>,
        deflated: Acked<Deflating>,
    ) -> Result<(Idle, Idle), (Acked<Inflating>, Acked<Deflating>)> {
        if inflated.moved() != Some(self.new) || deflated.moved() != Some(self.old) {
            return Err((inflated, deflated));
        }
        self.done.set(true);
        // The kernel puts the page into the balloon, with a reference of its own.
        Ok((inflated.give_back(), deflated.finish()))
    }
}

/// Who is asked to move pages of a balloon, until it is dropped.
pub struct Mover(Arc<Balloon>);

impl Mover {
    /// Has `owner` asked from now on.
    pub fn new(balloon: &Arc<Balloon>, owner: Arc<dyn Migrate>) -> Self {
        *balloon.mover.lock() = Some(owner);
        Self(balloon.clone())
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        let owner = self.0.mover.lock().take();
        drop(owner);
    }
}

/// Moves a page (C: `migratepage` of `struct balloon_dev_info`).
///
/// # Safety
///
/// `info` is that of a [`Balloon`], `old` a page of it, `new` another page, whose `lru` is free.  Both
/// are locked.
pub(crate) unsafe extern "C" fn migrate_page(
    info: *mut bindings::balloon_dev_info,
    new: *mut bindings::page,
    old: *mut bindings::page,
    _mode: bindings::migrate_mode,
) -> c_int {
    // SAFETY: The kernel passes the balloon of the page, which `take_all` keeps as long as there is
    // one.
    let balloon = unsafe { &*container_of!(Opaque::cast_from(info), Balloon, info) };
    // SAFETY: The kernel passes two pages.
    let (new, old) = unsafe { (NonNull::new_unchecked(new), NonNull::new_unchecked(old)) };
    // INVARIANT: The kernel has locked them.
    let migration = Migration {
        new,
        old,
        lent: Cell::new(false),
        done: Cell::new(false),
    };
    let owner = balloon.mover.lock().clone();
    let result = match owner {
        Some(owner) => owner.migrate(&migration),
        None => Err(EAGAIN),
    };
    if migration.done.get() {
        // SAFETY: The kernel passes a page of the balloon and the other one.
        unsafe { balloon.replaced(old.as_ptr(), new.as_ptr()) };
        return 0;
    }
    let again = matches!(result, Err(error) if error == EAGAIN);
    // Only of a page that nobody links: asked to try again, the kernel links it.  (`ENOENT` would
    // mean that the old page is free.)
    if again && !migration.lent.get() {
        EAGAIN.to_errno()
    } else {
        EBUSY.to_errno()
    }
}
