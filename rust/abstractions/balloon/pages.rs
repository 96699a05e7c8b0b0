// SPDX-License-Identifier: GPL-2.0

//! The pages that are in a balloon.
//!
//! C source: `mm/balloon.c`.
//!
//! That the kernel has fewer pages is accounted a list at a time: the C driver leaves it to
//! `balloon_page_list_enqueue`, which computes the reserves of all zones for each page.

use crate::{
    list::PageList,
    migration, //
};
use core::ptr::NonNull;
use kernel::{
    ffi::c_long,
    new_spinlock,
    page::PAGE_SHIFT,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        SpinLock, //
    },
    time::{
        delay::fsleep,
        Delta, //
    },
    types::Opaque, //
};
use virtio::lifecycle::Quiesced;
use virtio_bindings as bindings;
use virtio_spec::balloon::pfn::Units;

/// Pages that are taken out at once when all are.
const AT_ONCE: usize = 256;

/// How often pages that are being moved are looked for.
const MOVED_INTERVAL: Delta = Delta::from_millis(1);

/// Adds `count` to the pages that the kernel has in the zone of `page`.
fn adjust(page: NonNull<bindings::page>, count: c_long) {
    // SAFETY: A page of a list, by the invariants of `PageList`.
    unsafe { bindings::adjust_managed_page_count(page.as_ptr(), count) };
}

/// A balloon: pages that the host has, or is being told that it does not.
///
/// # Invariants
///
/// `held` is the number of pages in `info`, with those that are being moved.
#[pin_data(PinnedDrop)]
pub struct Balloon {
    #[pin]
    pub(crate) info: Opaque<bindings::balloon_dev_info>,
    /// Its own reference is nobody's: see [`migration::Mover`].
    #[pin]
    pub(crate) mover: SpinLock<Option<Arc<dyn migration::Migrate>>>,
    units: Units,
    held: Atomic<i64>,
    /// What is in it is none of the kernel's pages.
    accounted: bool,
}

// SAFETY: The kernel has a lock for all balloons.
unsafe impl Send for Balloon {}
// SAFETY: As above.
unsafe impl Sync for Balloon {}

impl Balloon {
    /// An empty balloon.  If `accounted`, the kernel has fewer pages for each that is in it; if not,
    /// they count as used, and come back when others are missing.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EOPNOTSUPP` if the kernel's pages are too large.
    pub fn new(accounted: bool) -> Result<Arc<Self>> {
        let units = Units::new(PAGE_SHIFT as u32).ok_or(EOPNOTSUPP)?;
        // INVARIANT: Empty.
        let this = pin_init!(Self {
            info <- Opaque::ffi_init(|slot: *mut bindings::balloon_dev_info| {
                // SAFETY: `slot` is what is to be initialised.
                unsafe {
                    bindings::virtio_balloon_devinfo_init(slot);
                    (*slot).migratepage = Some(migration::migrate_page);
                }
            }),
            mover <- new_spinlock!(None),
            units,
            held: Atomic::new(0),
            accounted,
        });
        Arc::pin_init(this, GFP_KERNEL)
    }

    /// How many balloon pages a page is.
    #[inline]
    pub fn units(&self) -> Units {
        self.units
    }

    /// How many pages are in it.
    pub fn held(&self) -> u64 {
        u64::try_from(self.held.load(Relaxed)).unwrap_or(0)
    }

    /// How many pages the kernel does not count any more.
    pub fn uncounted(&self) -> u64 {
        if self.accounted {
            self.held()
        } else {
            0
        }
    }

    /// Puts pages into it.  Any context.
    pub(crate) fn insert(&self, pages: Pin<&mut PageList>) {
        let count = pages.len();
        if count == 0 {
            return;
        }
        self.account(&pages, -1);
        // SAFETY: The pages are ours, and go from one list to the other.
        unsafe {
            pages.change(|head| {
                bindings::balloon_page_list_enqueue(self.info.get(), head);
                0
            });
        }
        self.held.add(count as i64, Relaxed);
    }

    /// Takes at most `count` pages out of it, and adds them to `pages`, which is empty.  Pages that
    /// are being moved stay.
    pub(crate) fn take(&self, mut pages: Pin<&mut PageList>, count: usize) {
        // SAFETY: The pages go from one list to the other; `pages` was empty.
        unsafe {
            pages
                .as_mut()
                .change(|head| bindings::balloon_page_list_dequeue(self.info.get(), head, count));
        }
        self.held.add(-(pages.len() as i64), Relaxed);
        self.account(&pages, 1);
    }

    /// Counts `pages` as pages of the kernel, or not any more: those of a zone together.
    fn account(&self, pages: &PageList, sign: c_long) {
        if !self.accounted {
            return;
        }
        let mut run: Option<(NonNull<bindings::page>, c_long)> = None;
        pages.for_each(|page| {
            if let Some((first, length)) = &mut run {
                // SAFETY: Pages, which are ours.
                if unsafe { bindings::virtio_is_same_zone(first.as_ptr(), page.as_ptr()) } {
                    *length += 1;
                    return;
                }
            }
            if let Some((first, length)) = run.replace((page, 1)) {
                adjust(first, sign * length);
            }
        });
        if let Some((first, length)) = run {
            adjust(first, sign * length);
        }
    }

    /// A page of it was replaced by another one, perhaps of another zone.
    ///
    /// # Safety
    ///
    /// `old` is a page of the balloon, `new` the one that takes its place.
    pub(crate) unsafe fn replaced(&self, old: *mut bindings::page, new: *mut bindings::page) {
        // SAFETY: By the contract.
        unsafe {
            if self.accounted && !bindings::virtio_is_same_zone(old, new) {
                bindings::adjust_managed_page_count(old, 1);
                bindings::adjust_managed_page_count(new, -1);
            }
        }
    }

    /// Gives all pages to the kernel again: the device was reset, so that none of them is its.
    /// Sleeps, while pages are being moved: no callback of [`migration::Migrate`] runs when this
    /// returns, and none will.
    pub fn empty(&self, _proof: &Quiesced<'_>) {
        self.take_all();
    }

    fn take_all(&self) {
        pin_init::stack_pin_init!(let pages = PageList::new());
        while self.held() != 0 {
            self.take(pages.as_mut(), AT_ONCE);
            if pages.len() == 0 {
                fsleep(MOVED_INTERVAL);
            }
            pages.as_mut().free();
        }
    }
}

#[pinned_drop]
impl PinnedDrop for Balloon {
    fn drop(self: Pin<&mut Self>) {
        // The kernel would look for them here.
        self.take_all();
    }
}
