// SPDX-License-Identifier: GPL-2.0

//! What goes into a queue of requests, and what comes back.

use super::HEADER_SIZE;
#[cfg(doc)]
use super::{
    RequestQueue,
    INLINE_SIZE, //
};
use crate::queue::AddErrorKind;
use core::ptr::NonNull;
use kernel::ffi::c_void;
use virtio_bindings as bindings;
use virtio_ring::Direction;

/// Memory of one piece: part of a page, or of pages that follow each other.
#[derive(Clone, Copy)]
pub struct Piece {
    /// The first page.
    pub page: NonNull<bindings::page>,
    /// Where it begins, in bytes from there.
    pub offset: u32,
    /// Its length in bytes, not 0.
    pub len: u32,
}

/// A request with its data.
///
/// # Safety
///
/// - what `pieces` and `only_piece` show is the same, and with what `payload` shows valid memory, which stays so, and is left alone but by the rules of DMA,
///   until the request was put together again by `from_raw`;
/// - `from_raw` gives back the very request that `into_raw` took apart;
/// - `slot_of` says of what `into_raw` returned what `slot` said of the request.
pub unsafe trait Request: Send + Sized {
    /// The number of the request: no other that is in the same queue has it.
    fn slot(&self) -> usize;

    /// The number of a request that was taken apart.
    ///
    /// # Safety
    ///
    /// `raw` comes from `into_raw`, and was not put together since.
    unsafe fn slot_of(raw: NonNull<c_void>) -> usize;

    /// What the device does with the data.
    fn direction(&self) -> Direction;

    /// Bytes of data: of all pieces together.
    fn bytes(&self) -> u32;

    /// How many pieces there are, at most.
    fn max_pieces(&self) -> usize;

    /// Calls `f` for the data, piece by piece, until it fails.
    ///
    /// # Errors
    ///
    /// Those of `f`.
    fn pieces<E>(&self, f: impl FnMut(Piece) -> Result<(), E>) -> Result<(), E>;

    /// The data, if it is known to be one piece: the usual case of small requests, without a loop.
    #[inline(always)]
    fn only_piece(&self) -> Option<Piece> {
        None
    }

    /// What the request brings along beside its data, for the device to read: see [`Data::Payload`].
    fn payload(&self) -> Option<Piece> {
        None
    }

    /// Takes the request apart.
    fn into_raw(self) -> NonNull<c_void>;

    /// Puts it together again.
    ///
    /// # Safety
    ///
    /// `raw` comes from `into_raw`, and is used once.
    unsafe fn from_raw(raw: NonNull<c_void>) -> Self;
}

/// The data of a command.
#[derive(Clone, Copy)]
pub enum Data<'a> {
    /// There is none.
    None,
    /// What the request brings along.
    Request,
    /// What the request brings along beside it: its payload.  There must be one.
    Payload,
    /// These bytes, at most [`INLINE_SIZE`], for the device to read.
    Readable(&'a [u8]),
    /// So many bytes, at most [`INLINE_SIZE`], for the device to write: see
    /// [`RequestQueue::get_buf`].
    Writable(usize),
}

/// What is asked of the device.
#[derive(Clone, Copy)]
pub struct Command<'a> {
    /// What the device reads first.
    pub header: [u8; HEADER_SIZE],
    /// The data between header and footer.
    pub data: Data<'a>,
    /// Bytes of the footer, 1 to [`HEADER_SIZE`].
    pub footer: usize,
}

/// Why a request was not added, and the request.
pub struct AddError<R> {
    /// Why.
    pub kind: AddErrorKind,
    /// The request.
    pub request: R,
}

/// A request that came back from the device.
pub struct Done<R> {
    /// The request.
    pub request: R,
    /// How many bytes the device says it wrote, footer included; no more than there were.
    pub written: u32,
    /// The footer, read once; all ones where the device did not write it.
    pub footer: [u8; HEADER_SIZE],
}
