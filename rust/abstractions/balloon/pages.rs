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

/// How many balloon pages a page is.
pub(crate) const UNITS: Units = match Units::new(PAGE_SHIFT as u32) {
    Some(units) => units,
    // PANIC: The compiler's, of a kernel whose pages have more than a mebibyte.
    None => panic!("no array is long enough for a page"),
};

/// Of which zones some pages are: the bits that say so, of any and of all.
#[derive(Clone, Copy)]
pub(crate) struct Zones {
    any: usize,
    all: usize,
}

impl Zones {
    /// Those of no page.
    pub(crate) const NONE: Self = Self {
        any: 0,
        all: usize::MAX,
    };

    /// Of any.
    const UNKNOWN: Self = Self {
        any: usize::MAX,
        all: 0,
    };

    /// Another page.
    ///
    /// # Safety
    ///
    /// `page` is a page.
    #[inline(always)]
    pub(crate) unsafe fn add(&mut self, page: NonNull<bindings::page>) {
        // SAFETY: By the contract.
        let bits = unsafe { bindings::virtio_page_flags(page.as_ptr()) };
        self.any |= bits;
        self.all &= bits;
    }

    /// Whether all are of one, for certain.
    fn are_one(self) -> bool {
        // SAFETY: No preconditions.
        !unsafe { bindings::virtio_are_zone_bits(self.any ^ self.all) }
    }
}

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
    /// `ENOMEM`.
    pub fn new(accounted: bool) -> Result<Arc<Self>> {
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
            held: Atomic::new(0),
            accounted,
        });
        Arc::pin_init(this, GFP_KERNEL)
    }

    /// How many balloon pages a page is.
    #[inline]
    pub fn units(&self) -> Units {
        UNITS
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

    /// Puts pages into it, which are of `zones`.  Any context.
    pub(crate) fn insert(&self, pages: Pin<&mut PageList>, zones: Zones) {
        let count = pages.len();
        if count == 0 {
            return;
        }
        self.account(&pages, zones, -1);
        // SAFETY: The pages are ours, and go from one list to the other.
        unsafe {
            pages.change(|head| {
                bindings::balloon_page_list_enqueue(self.info.get(), head);
                0
            });
        }
        self.held.add(count as i64, Relaxed);
    }

    /// Takes at most `count` pages out of it, and adds them to `pages`, which is empty: the caller
    /// has them accounted.  Pages that are being moved stay.
    pub(crate) fn take(&self, mut pages: Pin<&mut PageList>, count: usize) {
        // SAFETY: The pages go from one list to the other; `pages` was empty.
        unsafe {
            pages
                .as_mut()
                .change(|head| bindings::balloon_page_list_dequeue(self.info.get(), head, count));
        }
        self.held.add(-(pages.len() as i64), Relaxed);
    }

    /// Counts `pages`, which are of `zones`, as pages of the kernel, or not any more.
    pub(crate) fn account(&self, pages: &PageList, zones: Zones, sign: c_long) {
        if !self.accounted {
            return;
        }
        if zones.are_one() {
            if let Some(page) = pages.first() {
                adjust(page, sign * pages.len() as c_long);
            }
        } else {
            Self::account_by_zone(pages, sign);
        }
    }

    /// [`Balloon::account`] of pages of several zones, those of one together.
    #[inline(never)]
    fn account_by_zone(pages: &PageList, sign: c_long) {
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
            self.account(&pages, Zones::UNKNOWN, 1);
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
