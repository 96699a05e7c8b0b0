// SPDX-License-Identifier: GPL-2.0

//! Lists of pages, linked through the pages themselves.
//!
//! C header: [`include/linux/list.h`](srctree/include/linux/list.h); `lru` of `struct page`.

use core::ptr::NonNull;
use kernel::{
    prelude::*,
    types::Opaque, //
};
use virtio_bindings as bindings;

/// Pages that are ours.
///
/// # Invariants
///
/// `head` is a list of `count` pages, linked by `lru`, to each of which the list has a reference, and
/// whose `lru` nobody else uses.
#[pin_data(PinnedDrop)]
pub(crate) struct PageList {
    #[pin]
    head: Opaque<bindings::list_head>,
    count: usize,
}

// SAFETY: Pages belong to no thread.
unsafe impl Send for PageList {}

impl PageList {
    /// None.
    pub(crate) fn new() -> impl PinInit<Self> {
        // INVARIANT: Empty.
        pin_init!(Self {
            head <- Opaque::ffi_init(|slot| {
                // SAFETY: `slot` is what is to be initialised.
                unsafe { bindings::virtio_init_list_head(slot) };
            }),
            count: 0,
        })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Adds `page`.
    ///
    /// # Safety
    ///
    /// The caller's reference to it goes to the list, and its `lru` is free.
    #[inline]
    pub(crate) unsafe fn push(self: Pin<&mut Self>, page: NonNull<bindings::page>) {
        let this = self.project();
        // INVARIANT: By the contract.
        // SAFETY: By the contract, and the type invariants.
        unsafe {
            bindings::virtio_list_add_tail(
                bindings::virtio_page_lru(page.as_ptr()),
                this.head.as_ref().get(),
            );
        }
        *this.count += 1;
    }

    /// Calls `f` for each page in turn.
    #[inline]
    pub(crate) fn for_each(&self, mut f: impl FnMut(NonNull<bindings::page>)) {
        let head = self.head.get();
        // SAFETY: By the type invariants, a list of pages.
        unsafe {
            let mut entry = (*head).next;
            while !core::ptr::eq(entry, head) {
                f(NonNull::new_unchecked(bindings::virtio_lru_page(entry)));
                entry = (*entry).next;
            }
        }
    }

    /// Has `change` take or add pages, which returns how many there are then.
    ///
    /// # Safety
    ///
    /// `change` keeps the type invariants.
    pub(crate) unsafe fn change(
        self: Pin<&mut Self>,
        change: impl FnOnce(*mut bindings::list_head) -> usize,
    ) {
        let this = self.project();
        *this.count = change(this.head.as_ref().get());
    }

    /// Gives the references back: pages to which there is no other are free.
    pub(crate) fn free(self: Pin<&mut Self>) {
        let this = self.project();
        let head = this.head.as_ref().get();
        // SAFETY: By the type invariants; each page is taken from the list before its reference is
        // given back.
        unsafe {
            while !core::ptr::eq((*head).next, head) {
                let entry = (*head).next;
                bindings::virtio_list_del(entry);
                bindings::virtio_put_page(bindings::virtio_lru_page(entry));
            }
        }
        *this.count = 0;
    }
}

#[pinned_drop]
impl PinnedDrop for PageList {
    fn drop(self: Pin<&mut Self>) {
        self.free();
    }
}
