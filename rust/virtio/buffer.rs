// SPDX-License-Identifier: GPL-2.0

//! Buffers: memory that a driver lends to its device.
//!
//! A buffer in a queue is unreachable.  It comes back as [`Completed`], which shows the bytes that
//! the device wrote and no others.

use core::{
    num::NonZeroU32,
    ptr::NonNull, //
};
use kernel::{
    alloc::flags::__GFP_ZERO,
    ffi::c_void,
    prelude::*, //
};

/// Memory that a queue can take.
///
/// # Safety
///
/// - [`Buffer::memory`] is `kmalloc` or page memory of that length, which stays where it is when
///   the buffer moves, and which nobody touches but through the buffer;
/// - `from_raw` gives back the very buffer that `into_raw` took apart.
pub unsafe trait Buffer: Send + Sized {
    /// Address and length in bytes.
    fn memory(&self) -> (NonNull<u8>, NonZeroU32);

    /// Takes the buffer apart.
    fn into_raw(self) -> NonNull<c_void>;

    /// Puts it together again.
    ///
    /// # Safety
    ///
    /// `raw` comes from `into_raw`, and is used once.
    unsafe fn from_raw(raw: NonNull<c_void>) -> Self;
}

/// `N` bytes that a device fills.  They start as zeroes, and what was read of them can be wiped.
pub struct DeviceWritable<const N: usize>(KBox<Aligned<N>>);

/// On cache lines of its own: the device writes to it.
#[repr(C, align(64))]
struct Aligned<const N: usize>([u8; N]);

impl<const N: usize> DeviceWritable<N> {
    const LEN: NonZeroU32 = {
        assert!(N > 0 && N <= u32::MAX as usize);
        match NonZeroU32::new(N as u32) {
            Some(len) => len,
            None => NonZeroU32::MIN,
        }
    };

    /// Allocates a buffer.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        let room = KBox::<Aligned<N>>::new_uninit(GFP_KERNEL | __GFP_ZERO)?;
        // SAFETY: Zeroed, which is a valid array of bytes.
        Ok(Self(unsafe { room.assume_init() }))
    }

    /// The whole buffer.
    pub fn bytes_mut(&mut self) -> &mut [u8; N] {
        &mut self.0 .0
    }

    fn bytes(&self) -> &[u8; N] {
        &self.0 .0
    }
}

// SAFETY: A `KBox` stays where it is; both conversions are its own.
unsafe impl<const N: usize> Buffer for DeviceWritable<N> {
    fn memory(&self) -> (NonNull<u8>, NonZeroU32) {
        (NonNull::from(self.bytes()).cast(), Self::LEN)
    }

    fn into_raw(self) -> NonNull<c_void> {
        NonNull::from(KBox::leak(self.0)).cast()
    }

    unsafe fn from_raw(raw: NonNull<c_void>) -> Self {
        // SAFETY: By the contract.
        Self(unsafe { KBox::from_raw(raw.as_ptr().cast()) })
    }
}

/// A buffer that came back from the device.
///
/// # Invariants
///
/// `written` is at most the length of the buffer.
pub struct Completed<B> {
    buffer: B,
    written: u32,
}

impl<B: Buffer> Completed<B> {
    pub(crate) fn new(buffer: B, written: u32) -> Self {
        let (_, len) = buffer.memory();
        // INVARIANT: The ring checked it; twice is cheap.
        Self {
            written: written.min(len.get()),
            buffer,
        }
    }

    /// How many bytes the device wrote, from the start.
    pub fn written(&self) -> u32 {
        self.written
    }

    /// The buffer, to be lent again.
    pub fn into_inner(self) -> B {
        self.buffer
    }
}

impl<const N: usize> Completed<DeviceWritable<N>> {
    /// The bytes that the device wrote.
    pub fn bytes(&self) -> &[u8] {
        // The invariant says that it is in range.
        self.buffer
            .bytes()
            .get(..self.written as usize)
            .unwrap_or(&[])
    }

    /// The same, to be wiped.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let written = self.written as usize;
        self.buffer
            .bytes_mut()
            .get_mut(..written)
            .unwrap_or(&mut [])
    }
}

#[kunit_tests(virtio_buffer)]
mod tests {
    use super::*;

    #[test]
    fn completed_shows_only_what_was_written() -> Result {
        let mut buffer = DeviceWritable::<8>::new()?;
        assert_eq!(*buffer.bytes_mut(), [0; 8]);
        buffer
            .bytes_mut()
            .copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
        let mut completed = Completed::new(buffer, 3);
        assert_eq!(completed.written(), 3);
        assert_eq!(*completed.bytes(), [1, 2, 3]);
        assert_eq!(completed.bytes_mut().len(), 3);
        Ok(())
    }

    #[test]
    fn completed_is_clamped_to_the_buffer() -> Result {
        let completed = Completed::new(DeviceWritable::<8>::new()?, u32::MAX);
        assert_eq!(completed.written(), 8);
        assert_eq!(completed.bytes().len(), 8);
        Ok(())
    }

    #[test]
    fn raw_round_trip_keeps_place_and_bytes() -> Result {
        let mut buffer = DeviceWritable::<4>::new()?;
        buffer.bytes_mut().copy_from_slice(&[9, 8, 7, 6]);
        let (memory, len) = buffer.memory();
        assert_eq!(len.get(), 4);
        assert_eq!(memory.addr().get() % 64, 0);
        let raw = buffer.into_raw();
        // SAFETY: Taken apart just now.
        let mut buffer = unsafe { DeviceWritable::<4>::from_raw(raw) };
        assert_eq!(buffer.memory().0, memory);
        assert_eq!(*buffer.bytes_mut(), [9, 8, 7, 6]);
        Ok(())
    }
}
