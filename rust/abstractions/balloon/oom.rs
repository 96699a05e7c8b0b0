// SPDX-License-Identifier: GPL-2.0

//! Being asked for memory before somebody is killed for it.
//!
//! C header: [`include/linux/oom.h`](srctree/include/linux/oom.h).

use core::marker::PhantomPinned;
use kernel::{
    error::to_result,
    ffi::{
        c_int,
        c_ulong,
        c_void, //
    },
    prelude::*,
    sync::Arc,
    types::Opaque, //
};
use virtio_bindings as bindings;

/// Before others are asked that have less to give (C: `VIRTIO_BALLOON_OOM_NOTIFY_PRIORITY`).
const PRIORITY: c_int = 80;

/// Who has memory to give.
pub trait OutOfMemory: Send + Sync {
    /// Frees what it can, and says how many pages.  Sleeps, as long as it has to: all wait who want
    /// memory.  No memory may be allocated.
    fn out_of_memory(&self) -> usize;
}

/// Who is asked; until it is dropped, which waits for callbacks and sleeps.
///
/// # Invariants
///
/// `block` is registered.
#[pin_data(PinnedDrop)]
#[repr(C)]
pub struct OomNotifier<T: OutOfMemory> {
    // First, for the callback to find the rest.
    #[pin]
    block: Opaque<bindings::notifier_block>,
    owner: Arc<T>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: The kernel has locks of its own; the owner is `Send` and `Sync`.
unsafe impl<T: OutOfMemory> Send for OomNotifier<T> {}
// SAFETY: As above.
unsafe impl<T: OutOfMemory> Sync for OomNotifier<T> {}

impl<T: OutOfMemory> OomNotifier<T> {
    /// Has `owner` asked from now on.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(owner: Arc<T>) -> Result<Pin<KBox<Self>>> {
        // INVARIANT: Registered, or not made.
        let this = try_pin_init!(Self {
            owner,
            _pin: PhantomPinned,
            block <- Opaque::try_ffi_init(|slot: *mut bindings::notifier_block| {
                // SAFETY: `slot` is what is to be initialised, pinned; nothing can fail after it, and
                // `drop` takes it back.
                unsafe {
                    slot.write(bindings::notifier_block {
                        notifier_call: Some(callback::<T>),
                        next: core::ptr::null_mut(),
                        priority: PRIORITY,
                    });
                    to_result(bindings::register_oom_notifier(slot))
                }
            }),
        });
        KBox::pin_init(this, GFP_KERNEL)
    }
}

#[pinned_drop]
impl<T: OutOfMemory> PinnedDrop for OomNotifier<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariants.
        unsafe { bindings::unregister_oom_notifier(self.block.get()) };
    }
}

/// # Safety
///
/// `block` is that of a registered [`OomNotifier<T>`], `freed` points to an `unsigned long`.
unsafe extern "C" fn callback<T: OutOfMemory>(
    block: *mut bindings::notifier_block,
    _action: c_ulong,
    freed: *mut c_void,
) -> c_int {
    // SAFETY: The kernel passes a registered block, the first field of an `OomNotifier<T>` whose
    // owner was initialised before it, and a counter.
    unsafe {
        let this = block.cast::<OomNotifier<T>>();
        let pages = (*this).owner.out_of_memory();
        *freed.cast::<c_ulong>() += pages as c_ulong;
    }
    bindings::NOTIFY_OK as c_int
}

#[kunit_tests(virtio_balloon_oom)]
mod tests {
    use super::*;

    struct Giver(usize);

    impl OutOfMemory for Giver {
        fn out_of_memory(&self) -> usize {
            self.0
        }
    }

    #[test]
    fn what_is_freed_is_added_up() -> Result {
        let notifier = OomNotifier::new(Arc::new(Giver(7), GFP_KERNEL)?)?;
        let mut freed: c_ulong = 5;
        // SAFETY: Registered, and of this type.
        let result = unsafe { callback::<Giver>(notifier.block.get(), 0, (&raw mut freed).cast()) };
        assert_eq!((result, freed), (bindings::NOTIFY_OK as c_int, 12));
        Ok(())
    }
}
