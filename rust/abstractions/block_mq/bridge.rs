// SPDX-License-Identifier: GPL-2.0

//! Requests of the block layer in a virtqueue.

use crate::{
    operations::Operations,
    request::{
        tag,
        Request, //
    }, //
};
use core::ptr::NonNull;
use kernel::ffi::c_void;
use virtio::requests::{
    self,
    DataDirection,
    Piece, //
};
use virtio_bindings as bindings;

// SAFETY:
// - the pages of the bios are there, and the block layer leaves them alone, until the request is
//   ended, for which it must be put together again; so must it be for the payload to be changed;
// - the raw form is the pointer to the request;
// - the tag does not change until the request is ended or given back.
unsafe impl<T: Operations> requests::Request for Request<T> {
    #[inline(always)]
    fn slot(&self) -> usize {
        self.tag()
    }

    #[inline(always)]
    unsafe fn slot_of(raw: NonNull<c_void>) -> usize {
        // SAFETY: By the contract, a live request.
        tag(unsafe { (*raw.cast::<bindings::request>().as_ptr()).tag })
    }

    #[inline(always)]
    fn direction(&self) -> DataDirection {
        // SAFETY: By the invariants of `Request`.
        let flags = unsafe { (*self.as_raw()).cmd_flags };
        // As `op_is_write` tells.
        if flags & 1 != 0 {
            DataDirection::Readable
        } else {
            DataDirection::Writable
        }
    }

    #[inline(always)]
    fn bytes(&self) -> u32 {
        Request::bytes(self)
    }

    #[inline(always)]
    fn max_pieces(&self) -> usize {
        // SAFETY: By the invariants of `Request`.
        unsafe { (*self.as_raw()).nr_phys_segments }.into()
    }

    #[inline(always)]
    fn pieces<E>(&self, mut f: impl FnMut(Piece) -> Result<(), E>) -> Result<(), E> {
        let rq = self.as_raw();
        // SAFETY: By the invariants of `Request`: bios are a list, each with an array of vectors of
        // which `bi_iter` says which part is the request's.
        unsafe {
            let most = (*(*rq).q).limits.max_segment_size.max(1);
            let mut next = (*rq).bio;
            while let Some(bio) = next.as_ref() {
                next = bio.bi_next;
                let mut vec = bio.bi_io_vec.add(bio.bi_iter.bi_idx as usize);
                let mut skip = bio.bi_iter.bi_offset;
                let mut left = bio.bi_iter.bi_size;
                while left != 0 {
                    // What is subtracted is never more, and a page frame has an address: nothing
                    // wraps.
                    let page = NonNull::new_unchecked((*vec).bv_page);
                    let mut offset = (*vec).bv_offset.wrapping_add(skip);
                    let mut rest = (*vec).bv_len.wrapping_sub(skip).min(left);
                    left = left.wrapping_sub(rest);
                    (vec, skip) = (vec.add(1), 0);
                    loop {
                        let len = rest.min(most);
                        f(Piece { page, offset, len })?;
                        rest = rest.wrapping_sub(len);
                        if rest == 0 {
                            break;
                        }
                        offset = offset.wrapping_add(len);
                    }
                }
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn only_piece(&self) -> Option<Piece> {
        let rq = self.as_raw();
        // SAFETY: As in `pieces`.
        unsafe {
            // More than the longest segment has been counted as several.
            if (*rq).nr_phys_segments != 1 {
                return None;
            }
            let bio = (*rq).bio.as_ref()?;
            let (skip, len) = (bio.bi_iter.bi_offset, bio.bi_iter.bi_size);
            let vec = bio.bi_io_vec.add(bio.bi_iter.bi_idx as usize);
            // A segment may be made of several vectors that follow each other.
            if !bio.bi_next.is_null() || len == 0 || (*vec).bv_len.wrapping_sub(skip) < len {
                return None;
            }
            Some(Piece {
                page: NonNull::new_unchecked((*vec).bv_page),
                offset: (*vec).bv_offset.wrapping_add(skip),
                len,
            })
        }
    }

    fn payload(&self) -> Option<Piece> {
        let bytes = Request::payload(self);
        let start = bytes.first().map(core::ptr::from_ref)?;
        // SAFETY: Memory of `kmalloc`.
        let page = unsafe { bindings::virtio_virt_to_page(start.cast_mut().cast()) };
        Some(Piece {
            page: NonNull::new(page)?,
            offset: (start.addr() & (bindings::PAGE_SIZE - 1)) as u32,
            len: u32::try_from(bytes.len()).ok()?,
        })
    }

    #[inline(always)]
    fn into_raw(self) -> NonNull<c_void> {
        Request::into_raw(self).cast()
    }

    #[inline(always)]
    unsafe fn from_raw(raw: NonNull<c_void>) -> Self {
        // SAFETY: By the contract.
        unsafe { Request::from_raw(raw.cast()) }
    }
}
