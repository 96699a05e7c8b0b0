// SPDX-License-Identifier: GPL-2.0

//! Being asked for memory that is not in use, when others want it.
//!
//! C header: [`include/linux/shrinker.h`](srctree/include/linux/shrinker.h)
//!
//! Upstream: there is no `rust/kernel/mm/shrinker.rs` yet.

use core::ptr::NonNull;
use kernel::{
    ffi::c_ulong,
    prelude::*,
    sync::Arc, //
};
use virtio_bindings as bindings;

/// Who has memory that nobody needs.
///
/// Both are called while somebody wants memory: none may be allocated, nor a lock be waited for under
/// which some is.
pub trait Shrink: Send + Sync {
    /// How many pages could be freed.
    fn count(&self) -> usize;

    /// Frees at least `pages` pages, or all: how many were freed.
    fn scan(&self, pages: usize) -> usize;
}

/// Who is asked; until it is dropped, which waits for callbacks and sleeps.
///
/// # Invariants
///
/// `raw` is registered, with a pointer to `owner`.
pub struct Shrinker<T: Shrink> {
    raw: NonNull<bindings::shrinker>,
    _owner: Arc<T>,
}

// SAFETY: The kernel has locks of its own; the owner is `Send` and `Sync`.
unsafe impl<T: Shrink> Send for Shrinker<T> {}
// SAFETY: As above.
unsafe impl<T: Shrink> Sync for Shrinker<T> {}

impl<T: Shrink> Shrinker<T> {
    /// Has `owner` asked from now on; debugfs shows it as `name`, with a number.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(name: &'static CStr, owner: Arc<T>) -> Result<Self> {
        // SAFETY: The name is all that the format asks for.
        let raw = unsafe { bindings::shrinker_alloc(0, c"%s".as_char_ptr(), name.as_char_ptr()) };
        let raw = NonNull::new(raw).ok_or(ENOMEM)?;
        // SAFETY: Allocated just now, and nobody else knows it before it is registered.
        unsafe {
            let shrinker = raw.as_ptr();
            (*shrinker).count_objects = Some(count::<T>);
            (*shrinker).scan_objects = Some(scan::<T>);
            (*shrinker).private_data = core::ptr::from_ref::<T>(&owner).cast_mut().cast();
            bindings::shrinker_register(shrinker);
        }
        // INVARIANT: Registered.
        Ok(Self { raw, _owner: owner })
    }
}

impl<T: Shrink> Drop for Shrinker<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; the owner goes after it.
        unsafe { bindings::shrinker_free(self.raw.as_ptr()) };
    }
}

/// # Safety
///
/// `shrinker` is that of a registered [`Shrinker<T>`].
unsafe extern "C" fn count<T: Shrink>(
    shrinker: *mut bindings::shrinker,
    _control: *mut bindings::shrink_control,
) -> c_ulong {
    // SAFETY: By the contract, the owner, which the shrinker keeps.
    unsafe { (*(*shrinker).private_data.cast::<T>()).count() as c_ulong }
}

/// # Safety
///
/// As [`count`].
unsafe extern "C" fn scan<T: Shrink>(
    shrinker: *mut bindings::shrinker,
    control: *mut bindings::shrink_control,
) -> c_ulong {
    // SAFETY: By the contract, as in `count`; the kernel says how much it wants.
    unsafe {
        let wanted = (*control).nr_to_scan;
        (*(*shrinker).private_data.cast::<T>()).scan(wanted) as c_ulong
    }
}

#[kunit_tests(virtio_balloon_shrinker)]
mod tests {
    use super::*;
    use kernel::sync::atomic::{
        Atomic,
        Relaxed, //
    };

    struct Giver(Atomic<usize>);

    impl Shrink for Giver {
        fn count(&self) -> usize {
            self.0.load(Relaxed)
        }

        fn scan(&self, pages: usize) -> usize {
            let freed = pages.min(self.count());
            self.0.store(self.count() - freed, Relaxed);
            freed
        }
    }

    #[test]
    fn what_is_wanted_is_freed() -> Result {
        let giver = Arc::new(Giver(Atomic::new(10)), GFP_KERNEL)?;
        let shrinker = Shrinker::new(c"virtio-kunit", giver)?;
        let raw = shrinker.raw.as_ptr();
        let mut control = bindings::shrink_control::default();
        control.nr_to_scan = 7;
        // SAFETY: Registered, and of this type; others may ask at the same time, and get as much.
        unsafe {
            let before = count::<Giver>(raw, &raw mut control);
            let freed = scan::<Giver>(raw, &raw mut control);
            assert!(before <= 10 && freed <= 7);
            let after = count::<Giver>(raw, &raw mut control);
            assert!(after <= 10 - freed);
        }
        Ok(())
    }
}
