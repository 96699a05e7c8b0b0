// SPDX-License-Identifier: GPL-2.0

//! Files of a disk in sysfs.
//!
//! C header: [`include/linux/device.h`](srctree/include/linux/device.h), `struct device_attribute`.

use crate::{
    disk::DiskRef,
    operations::Operations, //
};
use core::{
    fmt::Write,
    marker::PhantomData,
    mem::MaybeUninit,
    ptr::NonNull, //
};
use kernel::{
    error::from_result,
    ffi::{
        c_char,
        c_int, //
    },
    prelude::*, //
};
use virtio_bindings as bindings;

/// Takes what was written to a file.
pub type Store<T> = fn(&DiskRef<T>, &[u8]) -> Result;

/// What may be done with a file of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The disk does not have it.
    None,
    /// It can be read.
    Read,
    /// It can be read and written, if there is a [`Store`].
    Write,
}

/// A file: its name, and what it does.
pub struct Attribute<T: Operations> {
    /// The name.
    pub name: &'static CStr,
    /// Writes the value.  May sleep.
    pub show: fn(&DiskRef<T>, &mut Page<'_>) -> Result,
    /// Takes a value.  May sleep.
    pub store: Option<Store<T>>,
    /// What may be done with it.
    pub access: fn(&T::QueueData) -> Access,
}

/// Where a value is written to.
pub struct Page<'a> {
    room: &'a mut [u8],
    filled: usize,
}

impl Write for Page<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        if self.write(text.as_bytes()) {
            Ok(())
        } else {
            Err(core::fmt::Error)
        }
    }
}

impl Page<'_> {
    /// Appends bytes, all or none.
    pub fn write(&mut self, bytes: &[u8]) -> bool {
        let end = self.filled + bytes.len();
        match self.room.get_mut(self.filled..end) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.filled = end;
                true
            }
            None => false,
        }
    }
}

/// An attribute as C and we see it.
///
/// # Invariants
///
/// `c` is first.
#[repr(C)]
struct Entry<T: Operations> {
    c: bindings::device_attribute,
    ours: &'static Attribute<T>,
}

/// The files of a disk, which they must outlive.
pub(crate) struct Attributes<T: Operations> {
    groups: [*const bindings::attribute_group; 2],
    group: bindings::attribute_group,
    list: KVec<*mut bindings::attribute>,
    entries: KVec<Entry<T>>,
}

impl<T: Operations> Attributes<T> {
    pub(crate) fn new() -> Result<KBox<Self>> {
        let mut entries = KVec::with_capacity(T::ATTRIBUTES.len(), GFP_KERNEL)?;
        for ours in T::ATTRIBUTES {
            entries.push(Entry::new(ours), GFP_KERNEL)?;
        }
        let mut list = KVec::with_capacity(T::ATTRIBUTES.len() + 1, GFP_KERNEL)?;
        for entry in entries.iter_mut() {
            list.push(&raw mut entry.c.attr, GFP_KERNEL)?;
        }
        list.push(core::ptr::null_mut(), GFP_KERNEL)?;
        let mut group = bindings::attribute_group::default();
        group.__bindgen_anon_1.is_visible = Some(Callbacks::<T>::is_visible);
        group.__bindgen_anon_2.attrs = list.as_mut_ptr();
        let mut this = KBox::new(
            Self {
                groups: [core::ptr::null(); 2],
                group,
                list,
                entries,
            },
            GFP_KERNEL,
        )?;
        this.groups[0] = &raw const this.group;
        Ok(this)
    }

    /// As C wants them.
    pub(crate) fn groups(&self) -> *mut *const bindings::attribute_group {
        debug_assert!(self.list.len() == self.entries.len() + 1);
        self.groups.as_ptr().cast_mut()
    }
}

impl<T: Operations> Entry<T> {
    fn new(ours: &'static Attribute<T>) -> Self {
        // SAFETY: All zeroes are a valid attribute to start from.
        let mut c: bindings::device_attribute = unsafe { MaybeUninit::zeroed().assume_init() };
        c.attr.name = ours.name.as_char_ptr();
        c.attr.mode = 0o444;
        // Not in static memory, as lockdep would like its keys to be.
        #[cfg(CONFIG_DEBUG_LOCK_ALLOC)]
        c.attr.set_ignore_lockdep(true);
        c.__bindgen_anon_1.show = Some(Callbacks::<T>::show);
        if ours.store.is_some() {
            c.attr.mode = 0o644;
            c.__bindgen_anon_2.store = Some(Callbacks::<T>::store);
        }
        // INVARIANT: By the layout.
        Self { c, ours }
    }
}

struct Callbacks<T: Operations>(PhantomData<T>);

impl<T: Operations> Callbacks<T> {
    extern "C" fn is_visible(
        kobj: *mut bindings::kobject,
        attr: *mut bindings::attribute,
        _index: c_int,
    ) -> bindings::umode_t {
        // SAFETY: sysfs passes a disk of ours and an attribute of it, the first field of an `Entry`.
        unsafe {
            let dev = kobj
                .byte_sub(core::mem::offset_of!(bindings::device, kobj))
                .cast();
            let mode = (*attr).mode;
            let access = (*attr.cast::<Entry<T>>()).ours.access;
            match disk::<T>(dev).map(|disk| access(disk.data())) {
                Some(Access::Write) => mode,
                Some(Access::Read) => mode & 0o444,
                Some(Access::None) | None => 0,
            }
        }
    }

    extern "C" fn show(
        dev: *mut bindings::device,
        attr: *mut bindings::device_attribute,
        room: *mut c_char,
    ) -> isize {
        from_result(|| {
            // SAFETY: sysfs passes a disk of ours, an attribute of it, and a page.
            unsafe {
                let disk = disk::<T>(dev).ok_or(ENODEV)?;
                let room = core::slice::from_raw_parts_mut(room.cast::<u8>(), bindings::PAGE_SIZE);
                let mut page = Page { room, filled: 0 };
                ((*attr.cast::<Entry<T>>()).ours.show)(&disk, &mut page)?;
                // At most a page.
                Ok(page.filled as isize)
            }
        })
    }

    extern "C" fn store(
        dev: *mut bindings::device,
        attr: *mut bindings::device_attribute,
        text: *const c_char,
        count: usize,
    ) -> isize {
        from_result(|| {
            // SAFETY: sysfs passes a disk of ours, an attribute of it, and `count` bytes.
            unsafe {
                let disk = disk::<T>(dev).ok_or(ENODEV)?;
                let store = (*attr.cast::<Entry<T>>()).ours.store.ok_or(EIO)?;
                store(&disk, core::slice::from_raw_parts(text.cast::<u8>(), count))?;
                // At most a page.
                Ok(count as isize)
            }
        })
    }
}

/// # Safety
///
/// `dev` is the device of a disk of `T`.
unsafe fn disk<T: Operations>(dev: *mut bindings::device) -> Option<DiskRef<T>> {
    // SAFETY: By the contract.
    unsafe { NonNull::new(bindings::virtio_dev_to_disk(dev)).map(|disk| DiskRef::from_raw(disk)) }
}
