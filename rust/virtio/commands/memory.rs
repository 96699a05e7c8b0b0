// SPDX-License-Identifier: GPL-2.0

//! The memory of a command: what the device reads and what it writes.
//!
//! It is the command's own, never the caller's: a device that does not answer in time keeps it,
//! and the caller goes on.

use core::{
    cmp,
    ptr::NonNull, //
};
use kernel::{
    alloc::flags::__GFP_NOWARN,
    prelude::*, //
};
use virtio_bindings as bindings;

/// Longest piece, in bytes: what the page allocator can be relied on for.
const PIECE_LEN: usize = 32 * 1024;

/// Memory that a device may use.
///
/// # Invariants
///
/// `memory` has `len` bytes, which are ours, of `kmalloc`, in a vector of capacity `capacity`.
/// There are no references to them, since the device may write at any time.
struct Piece {
    memory: NonNull<u8>,
    len: usize,
    capacity: usize,
}

// SAFETY: Memory belongs to no thread.
unsafe impl Send for Piece {}
// SAFETY: `&self` only copies out what a device may be writing: bytes, whatever they are.
unsafe impl Sync for Piece {}

impl Piece {
    fn new(len: usize) -> Result<Self> {
        let vec = KVec::<u8>::zeroed(len, GFP_KERNEL | __GFP_NOWARN)?;
        let (memory, len, capacity) = vec.into_raw_parts();
        // INVARIANT: Allocated just now.
        Ok(Self {
            memory: NonNull::new(memory).ok_or(ENOMEM)?,
            len,
            capacity,
        })
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        drop(unsafe { KVec::from_raw_parts(self.memory.as_ptr(), self.len, self.capacity) });
    }
}

/// A part of a command, in pieces that are contiguous each.
pub struct Memory(KVec<Piece>);

impl Memory {
    /// Allocates `len` zeroed bytes.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn zeroed(len: usize) -> Result<Self> {
        let mut pieces = KVec::with_capacity(len.div_ceil(PIECE_LEN), GFP_KERNEL)?;
        let mut left = len;
        while left != 0 {
            let piece = Piece::new(cmp::min(left, PIECE_LEN))?;
            left -= piece.len;
            pieces.push(piece, GFP_KERNEL)?;
        }
        Ok(Self(pieces))
    }

    /// Allocates a copy of `head` and, behind it, `tail`.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn of_bytes(head: &[u8], tail: &[u8]) -> Result<Self> {
        let mut memory = Self::zeroed(head.len().checked_add(tail.len()).ok_or(EINVAL)?)?;
        let mut bytes = Iterator::chain(head.iter(), tail);
        for piece in &mut memory.0 {
            for (at, byte) in (0..piece.len).zip(&mut bytes) {
                // SAFETY: `at` is inside; no device knows the memory yet.
                unsafe { piece.memory.add(at).write(*byte) };
            }
        }
        Ok(memory)
    }

    /// Allocates a copy of what a scatterlist points to.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EINVAL` if the list is too long to be true.
    ///
    /// # Safety
    ///
    /// `list` is a valid scatterlist, terminated, and nobody writes to the memory meanwhile.
    pub unsafe fn of_list(list: *mut bindings::scatterlist) -> Result<Self> {
        // SAFETY: By the contract.
        let (entries, len) = unsafe { measure(list) }?;
        let memory = Self::zeroed(len)?;
        let mut skip = 0;
        for piece in &memory.0 {
            // SAFETY: By the contract; the piece has the bytes, and no device knows it yet.
            unsafe {
                bindings::sg_pcopy_to_buffer(
                    list,
                    entries,
                    piece.memory.as_ptr().cast(),
                    piece.len,
                    skip as bindings::off_t,
                )
            };
            skip += piece.len;
        }
        Ok(memory)
    }

    /// Copies the first `len` bytes, or as many as there are on both sides, to where a scatterlist
    /// points.  Returns how many.
    ///
    /// # Safety
    ///
    /// `list` is a valid scatterlist, terminated, whose memory nobody else uses meanwhile.
    pub unsafe fn copy_to_list(
        &self,
        list: *mut bindings::scatterlist,
        len: usize,
    ) -> Result<usize> {
        // SAFETY: By the contract.
        let (entries, room) = unsafe { measure(list) }?;
        let mut copied = 0;
        for piece in &self.0 {
            let part = cmp::min(piece.len, cmp::min(len, room) - copied);
            if part == 0 {
                break;
            }
            // SAFETY: By the contract; the piece has the bytes.
            copied += unsafe {
                bindings::sg_pcopy_from_buffer(
                    list,
                    entries,
                    piece.memory.as_ptr().cast(),
                    part,
                    copied as bindings::off_t,
                )
            };
        }
        Ok(copied)
    }

    /// Copies the first bytes, at most `len` of them; the rest of `out` is 0.
    pub fn copy_to(&self, out: &mut [u8], len: usize) {
        let mut bytes = self
            .0
            .iter()
            .flat_map(|piece| {
                // SAFETY: Inside; each byte is read once, as the device may be writing.
                (0..piece.len).map(|at| unsafe { piece.memory.add(at).read_volatile() })
            })
            .take(len);
        out.fill_with(|| bytes.next().unwrap_or(0));
    }

    /// How many bytes there are.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|piece| piece.len).sum()
    }

    /// How many pieces there are.
    pub(crate) fn pieces(&self) -> usize {
        self.0.len()
    }

    /// Appends an entry for each piece, each a list of its own.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EINVAL`.
    pub(crate) fn append_to(&self, lists: &mut KVec<bindings::scatterlist>) -> Result {
        for piece in &self.0 {
            let mut entry = bindings::scatterlist::default();
            let len = c_uint::try_from(piece.len)?;
            // SAFETY: The entry is ours, the memory is `kmalloc`'s.
            unsafe { bindings::sg_init_one(&mut entry, piece.memory.as_ptr().cast(), len) };
            lists.push(entry, GFP_KERNEL)?;
        }
        Ok(())
    }
}

/// How many bytes a scatterlist points to.
///
/// # Errors
///
/// `EINVAL` if the list is too long to be true.
///
/// # Safety
///
/// `list` is a valid scatterlist, terminated.
pub unsafe fn list_len(list: *mut bindings::scatterlist) -> Result<usize> {
    // SAFETY: By the contract.
    Ok(unsafe { measure(list) }?.1)
}

/// Entries and bytes of a scatterlist.
///
/// # Safety
///
/// `list` is a valid scatterlist, terminated.
unsafe fn measure(list: *mut bindings::scatterlist) -> Result<(c_uint, usize)> {
    let (mut entries, mut len) = (0, 0usize);
    let mut entry = list;
    while !entry.is_null() {
        // SAFETY: By the contract.
        unsafe {
            len = len.checked_add((*entry).length as usize).ok_or(EINVAL)?;
            entry = bindings::sg_next(entry);
        }
        entries += 1;
    }
    // What the device may write is counted in 32 bits (specification 2.7.8).
    u32::try_from(len)?;
    Ok((entries, len))
}

#[kunit_tests(virtio_commands_memory)]
mod tests {
    use super::*;

    #[test]
    fn scatterlists_are_copied() -> Result {
        let mut bytes = KVec::<u8>::from_elem(0x5a, 100, GFP_KERNEL)?;
        let mut list = bindings::scatterlist::default();
        // SAFETY: The bytes are `kmalloc`'s and outlive the list.
        let memory = unsafe {
            bindings::sg_init_one(&mut list, bytes.as_mut_ptr().cast(), 100);
            Memory::of_list(&mut list)?
        };
        let mut copy = [0; 101];
        memory.copy_to(&mut copy, 200);
        assert_eq!((copy[0], copy[99], copy[100]), (0x5a, 0x5a, 0));

        let memory = Memory::of_bytes(&[1, 2], &[3, 4, 5])?;
        // SAFETY: As above.
        let copied = unsafe { memory.copy_to_list(&mut list, 4)? };
        assert_eq!(copied, 4);
        // SAFETY: As above.
        let memory = unsafe { Memory::of_list(&mut list)? };
        memory.copy_to(&mut copy, 100);
        assert_eq!(copy[..6], [1, 2, 3, 4, 0x5a, 0x5a]);
        Ok(())
    }
}
