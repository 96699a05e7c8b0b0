// SPDX-License-Identifier: GPL-2.0

//! Hardware random number generators: `/dev/hwrng`.
//!
//! C header: [`include/linux/hw_random.h`](srctree/include/linux/hw_random.h)
//!
//! # Examples
//!
//! A generator whose every byte is 4 (`samples/rust/rust_virtio_minimal.rs` is a real one):
//!
//! ```ignore
//! struct Fair;
//!
//! impl hw_random::Generator for Fair {
//!     fn read(&self, out: &mut hw_random::ReadBuf<'_>, _wait: bool) -> Result {
//!         while out.remaining() != 0 {
//!             out.write(&[4]);
//!         }
//!         Ok(())
//!     }
//! }
//!
//! let registration = hw_random::Registration::new(c"fair", 0, Arc::new(Fair, GFP_KERNEL)?)?;
//! ```

use core::{
    marker::PhantomPinned,
    mem::MaybeUninit,
    pin::Pin, //
};
use kernel::{
    error::to_result,
    ffi::{
        c_int,
        c_void, //
    },
    prelude::*,
    str::CString,
    sync::Arc,
    types::Opaque, //
};
use virtio_bindings as bindings;

/// Numbers that [`Registration::numbered`] tries.
const MAX_NUMBER: u32 = 1024;

/// Where a generator puts its bytes: it can be written to, in order, and not read.
pub struct ReadBuf<'a> {
    room: &'a mut [MaybeUninit<u8>],
    filled: usize,
}

impl<'a> ReadBuf<'a> {
    /// Wraps the room for the bytes.
    pub fn new(room: &'a mut [MaybeUninit<u8>]) -> Self {
        Self { room, filled: 0 }
    }

    /// How many bytes still fit.
    pub fn remaining(&self) -> usize {
        self.room.len() - self.filled
    }

    /// How many bytes were written.
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Appends as many of `bytes` as fit, and returns how many.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.remaining());
        let Some(room) = self.room.get_mut(self.filled..) else {
            return 0;
        };
        // SAFETY: `count` is at most the length of either; one is borrowed exclusively, so they
        // do not overlap.
        unsafe {
            bytes
                .as_ptr()
                .copy_to_nonoverlapping(room.as_mut_ptr().cast(), count)
        };
        self.filled += count;
        count
    }
}

/// A hardware random number generator.
pub trait Generator: Send + Sync {
    /// Appends bytes to `out`: at most what fits; all of it, or after a wait at least one, if `wait`
    /// is set.  May sleep then.  Calls are serialised.
    ///
    /// # Errors
    ///
    /// Why there are no bytes.  Without `wait`, none are no error.
    fn read(&self, out: &mut ReadBuf<'_>, wait: bool) -> Result;

    /// The generator is no longer the current one: whoever waits in `read` must return.
    fn cleanup(&self) {}
}

/// A registered generator; unregistered when dropped, which waits for readers and may sleep.
///
/// # Invariants
///
/// `hwrng` is registered, and its `priv` points to `generator`'s value.
#[pin_data(PinnedDrop)]
pub struct Registration<T: Generator> {
    #[pin]
    hwrng: Opaque<bindings::hwrng>,
    name: CString,
    generator: Arc<T>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: The core has locks of its own; the generator is `Send` and `Sync`.
unsafe impl<T: Generator> Send for Registration<T> {}
// SAFETY: As above.
unsafe impl<T: Generator> Sync for Registration<T> {}

impl<T: Generator> Registration<T> {
    /// Registers `generator` under a name of its own.  May sleep; `read` may be called before this
    /// returns.
    ///
    /// `quality` is in bits of entropy per 1024 bits; 0 for the most.
    ///
    /// # Errors
    ///
    /// `EEXIST` if the name is taken, `ENOMEM`, or what the core says.
    pub fn new(name: CString, quality: u16, generator: Arc<T>) -> Result<Pin<KBox<Self>>> {
        let this = KBox::pin_init(
            pin_init!(Self {
                hwrng: Opaque::zeroed(),
                name,
                generator,
                _pin: PhantomPinned,
            }),
            GFP_KERNEL,
        )?;
        let hwrng = this.hwrng.get();
        // SAFETY: Not registered yet, so not shared; pinned, so it stays where it is.
        unsafe {
            (*hwrng).name = this.name.as_char_ptr();
            (*hwrng).read = Some(read::<T>);
            (*hwrng).cleanup = Some(cleanup::<T>);
            (*hwrng).priv_ = Arc::as_ptr(&this.generator).expose_provenance();
            (*hwrng).quality = quality;
        }
        // SAFETY: Initialised above, and valid until it is unregistered.
        match to_result(unsafe { bindings::hwrng_register(hwrng) }) {
            Ok(()) => Ok(this),
            Err(error) => {
                // Not registered: what `Drop` would undo has not been done.
                // SAFETY: Never handed out as pinned to anybody but the core, which refused it.
                let this = unsafe { Pin::into_inner_unchecked(this) };
                let this = KBox::into_raw(this);
                // SAFETY: Just taken apart; the fields are dropped one by one, and the memory.
                unsafe {
                    core::ptr::drop_in_place(&raw mut (*this).name);
                    core::ptr::drop_in_place(&raw mut (*this).generator);
                    drop(KBox::<MaybeUninit<Self>>::from_raw(this.cast()));
                }
                Err(error)
            }
        }
    }

    /// Registers `generator` as `prefix.N`, with the lowest N that is free.  As [`Self::new`].
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub fn numbered(prefix: &CStr, quality: u16, generator: Arc<T>) -> Result<Pin<KBox<Self>>> {
        for number in 0..MAX_NUMBER {
            let name = CString::try_from_fmt(fmt!("{}.{}", prefix, number))?;
            match Self::new(name, quality, generator.clone()) {
                Err(error) if error == EEXIST => {}
                result => return result,
            }
        }
        Err(EEXIST)
    }

    /// The name it is registered under.
    pub fn name(&self) -> &CStr {
        &self.name
    }
}

#[pinned_drop]
impl<T: Generator> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariants; returns when no reader is left.
        unsafe { bindings::hwrng_unregister(self.hwrng.get()) };
    }
}

/// # Safety
///
/// `hwrng` is that of a live `Registration<T>`.
unsafe fn generator<'a, T: Generator>(hwrng: *mut bindings::hwrng) -> &'a T {
    // SAFETY: By the contract and the invariants of `Registration`.
    unsafe { &*core::ptr::with_exposed_provenance::<T>((*hwrng).priv_) }
}

extern "C" fn read<T: Generator>(
    hwrng: *mut bindings::hwrng,
    data: *mut c_void,
    max: usize,
    wait: bool,
) -> c_int {
    // SAFETY: The core passes a registered generator, and room for `max` bytes.
    let (generator, room) = unsafe {
        (
            generator::<T>(hwrng),
            core::slice::from_raw_parts_mut(data.cast::<MaybeUninit<u8>>(), max),
        )
    };
    let mut out = ReadBuf::new(room);
    match generator.read(&mut out, wait) {
        // What is there is worth more than the error.
        Err(error) if out.filled() == 0 => error.to_errno(),
        _ => out.filled() as c_int,
    }
}

extern "C" fn cleanup<T: Generator>(hwrng: *mut bindings::hwrng) {
    // SAFETY: The core passes a registered generator.
    unsafe { generator::<T>(hwrng) }.cleanup();
}
