// SPDX-License-Identifier: GPL-2.0

//! Telling somebody of free pages, who may take away what is in them.
//!
//! C header: [`include/linux/page_reporting.h`](srctree/include/linux/page_reporting.h)
//!
//! While they are told of, the pages are nobody's: [`FreePages`] is one value, which goes into a queue and
//! out of it, and back to the kernel.  What is still in a queue cannot be given back.

use core::{
    marker::PhantomPinned,
    ptr::NonNull, //
};
use kernel::{
    error::to_result,
    ffi::{
        c_int,
        c_uint,
        c_void, //
    },
    prelude::*,
    sync::Arc,
    types::Opaque, //
};
use virtio::packets::{
    DataDirection,
    Packet,
    Piece,
    Place, //
};
use virtio_bindings as bindings;

/// Runs of free pages that are told of at once, at most (C: `PAGE_REPORTING_CAPACITY`).
pub const REPORT_LEN: u16 = bindings::PAGE_REPORTING_CAPACITY as u16;

/// How long a run is at least, as a binary logarithm of its pages: the kernel's own choice, unless
/// that is half a gigabyte, which is hardly ever free.
const ORDER: c_uint = if cfg!(CONFIG_ARM64_64K_PAGES) {
    5
} else {
    bindings::PAGE_REPORTING_ORDER_UNSPECIFIED as c_uint
};

/// Free pages, some runs of them, which nobody uses.
///
/// # Invariants
///
/// `runs` is an array of `count` entries that is valid as long as this exists, each of which has pages
/// that the kernel has taken out of its lists.
pub struct FreePages {
    runs: NonNull<bindings::scatterlist>,
    count: u16,
}

// SAFETY: Pages belong to no thread.
unsafe impl Send for FreePages {}

impl FreePages {
    /// How many pages there are.
    pub fn pages(&self) -> u64 {
        let mut bytes = 0;
        let _ = self.pieces(|place| {
            if let Place::Pages(piece) = place {
                bytes += u64::from(piece.len);
            }
            Ok::<(), ()>(())
        });
        bytes >> kernel::page::PAGE_SHIFT
    }
}

// SAFETY:
// - the pages are nobody else's as long as this exists, by the type invariants, and whoever has it
//   must give it back (`Reporter::report`), so that they stay so;
// - both conversions are their own.
unsafe impl Packet for FreePages {
    const DIRECTION: DataDirection = DataDirection::Writable;
    const MAPS_ITSELF: bool = false;

    fn pieces<E>(&self, mut f: impl FnMut(Place) -> Result<(), E>) -> Result<(), E> {
        for at in 0..usize::from(self.count) {
            // SAFETY: By the type invariants; such an entry has a page.
            let piece = unsafe {
                let run = self.runs.as_ptr().add(at);
                Piece {
                    page: NonNull::new_unchecked(bindings::virtio_sg_page(run)),
                    offset: 0,
                    len: (*run).length,
                }
            };
            f(Place::Pages(piece))?;
        }
        Ok(())
    }

    fn into_raw(self) -> (NonNull<c_void>, u16) {
        (self.runs.cast(), self.count)
    }

    unsafe fn from_raw(data: NonNull<c_void>, word: u16) -> Self {
        // INVARIANT: By the contract, they were taken apart.
        Self {
            runs: data.cast(),
            count: word,
        }
    }
}

/// Who tells of free pages.
pub trait Reporter: Send + Sync {
    /// Tells of `pages`, and gives them back: `Ok` if what was in them may be gone, in which case
    /// nobody is told of them again before they were used.  Sleeps; no memory may be allocated.
    ///
    /// # Errors
    ///
    /// The pages, if they are as before.
    fn report(&self, pages: FreePages) -> Result<FreePages, FreePages>;
}

/// A reporter who is told of free pages by the kernel, until this is dropped, which waits for a report
/// that is on its way, and sleeps.
///
/// # Invariants
///
/// `info` is registered.
#[pin_data(PinnedDrop)]
#[repr(C)]
pub struct PageReporting<T: Reporter> {
    // First, for the callback to find the rest.
    #[pin]
    info: Opaque<bindings::page_reporting_dev_info>,
    owner: Arc<T>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: The kernel has locks of its own; the owner is `Send` and `Sync`.
unsafe impl<T: Reporter> Send for PageReporting<T> {}
// SAFETY: As above.
unsafe impl<T: Reporter> Sync for PageReporting<T> {}

impl<T: Reporter> PageReporting<T> {
    /// Has `owner` tell of free pages from now on, at most so many runs of them at once, 1 at least.
    /// Sleeps.
    ///
    /// # Errors
    ///
    /// `EBUSY` if somebody else does already, `ENOMEM`.
    pub fn new(owner: Arc<T>, runs: u16) -> Result<Pin<KBox<Self>>> {
        // INVARIANT: Registered, or not made.
        let this = try_pin_init!(Self {
            owner,
            _pin: PhantomPinned,
            info <- Opaque::try_ffi_init(|slot: *mut bindings::page_reporting_dev_info| {
                // SAFETY: `slot` is what is to be initialised, pinned, which the kernel does but for
                // these fields; nothing can fail after it, and `drop` takes it back.
                unsafe {
                    slot.write_bytes(0, 1);
                    (*slot).report = Some(callback::<T>);
                    (*slot).order = ORDER;
                    (*slot).capacity = c_uint::from(runs.clamp(1, REPORT_LEN));
                    to_result(bindings::page_reporting_register(slot))
                }
            }),
        });
        KBox::pin_init(this, GFP_KERNEL)
    }
}

#[pinned_drop]
impl<T: Reporter> PinnedDrop for PageReporting<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariants.
        unsafe { bindings::page_reporting_unregister(self.info.get()) };
    }
}

/// # Safety
///
/// `info` is that of a registered [`PageReporting<T>`], `runs` an array of `count` entries, with pages
/// that are in no list of free ones until this returns.
unsafe extern "C" fn callback<T: Reporter>(
    info: *mut bindings::page_reporting_dev_info,
    runs: *mut bindings::scatterlist,
    count: c_uint,
) -> c_int {
    // SAFETY: The kernel passes a registered one, the first field of a `PageReporting<T>` whose owner
    // was initialised before it, and the pages.
    unsafe { tell(&*(*info.cast::<PageReporting<T>>()).owner, runs, count) }
}

/// # Safety
///
/// As [`callback`].
unsafe fn tell<T: Reporter>(owner: &T, runs: *mut bindings::scatterlist, count: c_uint) -> c_int {
    let (Some(runs), Ok(count)) = (NonNull::new(runs), u16::try_from(count)) else {
        return EINVAL.to_errno();
    };
    // INVARIANT: By the contract, until this returns: there is one alone, and it came back then.
    match owner.report(FreePages { runs, count }) {
        Ok(_) => 0,
        Err(_) => EIO.to_errno(),
    }
}

#[kunit_tests(virtio_balloon_reporting)]
mod tests {
    use super::*;
    use kernel::{
        page::PAGE_SIZE,
        sync::atomic::{
            Atomic,
            Relaxed, //
        },
    };

    /// Counts pages, and says that it told of them, or not.
    struct Teller {
        pages: Atomic<i64>,
        tells: bool,
    }

    impl Reporter for Teller {
        fn report(&self, pages: FreePages) -> Result<FreePages, FreePages> {
            // As a queue does.
            let (data, word) = pages.into_raw();
            // SAFETY: Taken apart just now.
            let pages = unsafe { FreePages::from_raw(data, word) };
            self.pages.add(pages.pages() as i64, Relaxed);
            if self.tells {
                Ok(pages)
            } else {
                Err(pages)
            }
        }
    }

    #[test]
    fn pages_are_told_of_and_come_back() -> Result {
        for tells in [true, false] {
            let teller = Teller {
                pages: Atomic::new(0),
                tells,
            };
            let mut runs = [bindings::scatterlist::default(); 2];
            // SAFETY: No preconditions; no page is looked at, only its place.
            let answer = unsafe {
                let page = bindings::balloon_page_alloc();
                assert!(!page.is_null());
                for (run, count) in runs.iter_mut().zip([1, 4]) {
                    bindings::virtio_sg_set_page(run, page, count * PAGE_SIZE as u32);
                }
                let answer = tell(&teller, runs.as_mut_ptr(), 2);
                bindings::virtio_put_page(page);
                answer
            };
            assert_eq!(answer, if tells { 0 } else { EIO.to_errno() });
            assert_eq!(teller.pages.load(Relaxed), 5);
        }
        Ok(())
    }

    #[test]
    fn who_tells_of_pages_is_alone() -> Result {
        let teller = |tells| {
            let pages = Atomic::new(0);
            Arc::new(Teller { pages, tells }, GFP_KERNEL)
        };
        let one = PageReporting::new(teller(true)?, 1)?;
        assert_eq!(PageReporting::new(teller(true)?, 1).err(), Some(EBUSY));
        drop(one);
        drop(PageReporting::new(teller(false)?, 1)?);
        Ok(())
    }
}
