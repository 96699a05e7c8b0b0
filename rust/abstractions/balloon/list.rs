// SPDX-License-Identifier: GPL-2.0

//! Lists of pages, linked through the pages themselves.
//!
//! C header: [`include/linux/list.h`](srctree/include/linux/list.h); `lru` of `struct page`.

use core::ptr::{
    self,
    NonNull, //
};
use kernel::{
    prelude::*,
    types::Opaque, //
};
use virtio_bindings as bindings;

/// Pages whose references are given back at once.
const AT_ONCE: usize = 64;

/// Pages that are ours, or blocks of so many pages as `ORDER` is the binary logarithm of.
///
/// # Invariants
///
/// `head` is a list of `count` pages, each the first of its block, linked by `lru`, to each of which the
/// list has a reference, and whose `lru` nobody else uses.
#[pin_data(PinnedDrop)]
pub(crate) struct PageList<const ORDER: u32 = 0> {
    #[pin]
    head: Opaque<bindings::list_head>,
    count: usize,
}

// SAFETY: Pages belong to no thread.
unsafe impl<const ORDER: u32> Send for PageList<ORDER> {}

impl<const ORDER: u32> PageList<ORDER> {
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

    /// Adds a page that `alloc` gives for each of `items`, until it gives none, and calls `each` for both.
    ///
    /// # Safety
    ///
    /// Of each page `alloc` gives a reference, which goes to the list, and its `lru` is free.
    #[inline(always)]
    pub(crate) unsafe fn extend<T>(
        self: Pin<&mut Self>,
        mut items: impl ExactSizeIterator<Item = T>,
        mut alloc: impl FnMut() -> Option<NonNull<bindings::page>>,
        mut each: impl FnMut(NonNull<bindings::page>, T),
    ) {
        let this = self.project();
        let head = this.head.as_ref().get();
        let most = items.len();
        // INVARIANT: By the contract; the list is whole again at the end, and one item taken for each.
        // SAFETY: By the contract, and the type invariants.
        unsafe {
            let mut last = (*head).prev;
            while items.len() != 0 {
                let Some(page) = alloc() else {
                    break;
                };
                let entry = bindings::virtio_page_lru(page.as_ptr());
                (*last).next = entry;
                (*entry).prev = last;
                last = entry;
                if let Some(item) = items.next() {
                    each(page, item);
                }
            }
            (*last).next = head;
            (*head).prev = last;
        }
        *this.count += most - items.len();
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

    /// Takes the first page out, with its reference.
    pub(crate) fn pop(self: Pin<&mut Self>) -> Option<NonNull<bindings::page>> {
        let this = self.project();
        let head = this.head.as_ref().get();
        // SAFETY: By the type invariants.
        unsafe {
            let entry = (*head).next;
            if ptr::eq(entry, head) {
                return None;
            }
            // INVARIANT: One less.
            bindings::virtio_list_del(entry);
            *this.count -= 1;
            Some(NonNull::new_unchecked(bindings::virtio_lru_page(entry)))
        }
    }

    /// The first page, if there is one.
    pub(crate) fn first(&self) -> Option<NonNull<bindings::page>> {
        let head = self.head.get();
        // SAFETY: By the type invariants, a list of pages.
        unsafe {
            let entry = (*head).next;
            (!ptr::eq(entry, head))
                .then(|| NonNull::new_unchecked(bindings::virtio_lru_page(entry)))
        }
    }

    /// Calls `f` for each page in turn.
    #[inline]
    pub(crate) fn for_each(&self, mut f: impl FnMut(NonNull<bindings::page>)) {
        let head = self.head.get();
        // SAFETY: By the type invariants, a list of pages.
        unsafe {
            let mut entry = (*head).next;
            while !ptr::eq(entry, head) {
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
    pub(crate) fn free(mut self: Pin<&mut Self>) {
        if ORDER == 0 {
            self.free_pages();
            return;
        }
        while let Some(page) = self.as_mut().pop() {
            // SAFETY: By the type invariants, it was the list's.
            unsafe { bindings::__free_pages(page.as_ptr(), ORDER) };
        }
    }

    /// [`PageList::free`] of single pages, some at a time.
    fn free_pages(self: Pin<&mut Self>) {
        let this = self.project();
        let head = this.head.as_ref().get();
        // SAFETY: By the type invariants; what links a page is read before its reference goes, and
        // the list is empty when they are gone.
        unsafe {
            let mut entry = (*head).next;
            while !ptr::eq(entry, head) {
                let mut pages = [ptr::null_mut(); AT_ONCE];
                let mut count = 0;
                for page in &mut pages {
                    if ptr::eq(entry, head) {
                        break;
                    }
                    *page = bindings::virtio_lru_page(entry);
                    entry = (*entry).next;
                    count += 1;
                }
                bindings::virtio_release_pages(pages.as_mut_ptr(), count);
            }
            bindings::virtio_init_list_head(head);
        }
        *this.count = 0;
    }
}

#[pinned_drop]
impl<const ORDER: u32> PinnedDrop for PageList<ORDER> {
    fn drop(self: Pin<&mut Self>) {
        self.free();
    }
}
