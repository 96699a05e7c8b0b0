// SPDX-License-Identifier: GPL-2.0

//! Requests that a driver owns.
//!
//! C header: [`include/linux/blk-mq.h`](srctree/include/linux/blk-mq.h).  Upstream:
//! `rust/kernel/block/mq/request.rs`, whose requests are reference counted.  Here a request is a
//! value: who has it ends it, hands it on, or gives it back, once.

use crate::operations::Operations;
use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    mem::ManuallyDrop,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    ffi::c_uint,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    time::{
        msecs_to_jiffies,
        Delta, //
    }, //
};
use virtio_bindings as bindings;

/// What a request is to do (C: `enum req_op`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Read data.
    Read,
    /// Write data.
    Write,
    /// Flush the volatile cache.
    Flush,
    /// Discard ranges.
    Discard,
    /// Erase ranges so that nobody can read them again.
    SecureErase,
    /// Write zeroes.
    WriteZeroes,
    /// Write data at the write pointer of a zone.
    ZoneAppend,
    /// Open a zone.
    ZoneOpen,
    /// Close a zone.
    ZoneClose,
    /// Fill a zone up.
    ZoneFinish,
    /// Rewind a zone.
    ZoneReset,
    /// Rewind all zones.
    ZoneResetAll,
    /// What the driver asks of itself, see [`Disk::execute`](crate::Disk::execute).
    Driver,
    /// Something else.
    Other,
}

impl Op {
    #[inline(always)]
    fn from_raw(op: u32) -> Self {
        match op {
            bindings::req_op_REQ_OP_READ => Self::Read,
            bindings::req_op_REQ_OP_WRITE => Self::Write,
            bindings::req_op_REQ_OP_FLUSH => Self::Flush,
            bindings::req_op_REQ_OP_DISCARD => Self::Discard,
            bindings::req_op_REQ_OP_SECURE_ERASE => Self::SecureErase,
            bindings::req_op_REQ_OP_WRITE_ZEROES => Self::WriteZeroes,
            bindings::req_op_REQ_OP_ZONE_APPEND => Self::ZoneAppend,
            bindings::req_op_REQ_OP_ZONE_OPEN => Self::ZoneOpen,
            bindings::req_op_REQ_OP_ZONE_CLOSE => Self::ZoneClose,
            bindings::req_op_REQ_OP_ZONE_FINISH => Self::ZoneFinish,
            bindings::req_op_REQ_OP_ZONE_RESET => Self::ZoneReset,
            bindings::req_op_REQ_OP_ZONE_RESET_ALL => Self::ZoneResetAll,
            bindings::req_op_REQ_OP_DRV_IN => Self::Driver,
            _ => Self::Other,
        }
    }
}

/// How a request ended (C: `blk_status_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Well.
    Ok,
    /// The device or the way to it failed.
    IoError,
    /// The device cannot do this.
    NotSupported,
    /// Too many open zones.
    ZoneOpenResource,
    /// Too many active zones.
    ZoneActiveResource,
}

impl Status {
    pub(crate) fn to_raw(self) -> bindings::blk_status_t {
        match self {
            Self::Ok => 0,
            Self::IoError => bindings::BLK_STS_IOERR,
            Self::NotSupported => bindings::BLK_STS_NOTSUPP,
            Self::ZoneOpenResource => bindings::BLK_STS_ZONE_OPEN_RESOURCE,
            Self::ZoneActiveResource => bindings::BLK_STS_ZONE_ACTIVE_RESOURCE,
        }
    }
}

/// What the block layer keeps for us behind each request.
pub(crate) struct Pdu<T: Operations> {
    /// How often the request timed out since it was started.
    pub(crate) expirations: Atomic<u32>,
    /// How often it was started anew; only its owner changes it.
    requeues: Atomic<u32>,
    /// What the request brings along; only its owner uses it.
    payload: UnsafeCell<KVec<u8>>,
    /// The driver's; only the owner of the request uses it.
    data: UnsafeCell<T::RequestData>,
}

impl<T: Operations> Pdu<T> {
    /// Initialises what is behind `rq`.
    ///
    /// # Safety
    ///
    /// `rq` was just allocated, with room for a `Pdu<T>` behind it.
    pub(crate) unsafe fn init(rq: *mut bindings::request, data: T::RequestData) {
        let pdu = Self {
            expirations: Atomic::new(0),
            requeues: Atomic::new(0),
            payload: UnsafeCell::new(KVec::new()),
            data: UnsafeCell::new(data),
        };
        // SAFETY: By the contract.
        unsafe { Self::of(rq).write(pdu) };
    }

    /// The driver's part of it.
    ///
    /// # Safety
    ///
    /// `rq` is a live request of a tag set of `T`, and the caller's alone during `'a`.
    pub(crate) unsafe fn data<'a>(rq: *mut bindings::request) -> &'a mut T::RequestData {
        // SAFETY: By the contract.
        unsafe { &mut *(*Self::of(rq)).data.get() }
    }

    /// What is behind `rq` (C: `blk_mq_rq_to_pdu`).
    #[inline(always)]
    pub(crate) fn of(rq: *mut bindings::request) -> *mut Self {
        rq.wrapping_add(1).cast()
    }
}

/// A request that was started, and is the driver's: to be ended, completed, requeued or given back.
/// Dropped, it ends with an error.
///
/// # Invariants
///
/// `rq` is a live request of a tag set of `T`, started, and this is its only owner.
pub struct Request<T: Operations> {
    rq: NonNull<bindings::request>,
    _operations: PhantomData<T>,
}

// SAFETY: A request may be ended on any processor; its data is `Send`.
unsafe impl<T: Operations> Send for Request<T> {}

impl<T: Operations> Request<T> {
    /// Starts a request that the block layer has handed out.
    ///
    /// # Safety
    ///
    /// `rq` is a live request of a tag set of `T`, not started, and the caller's alone.
    #[inline]
    pub(crate) unsafe fn start(rq: NonNull<bindings::request>) -> Self {
        // SAFETY: By the contract.
        unsafe {
            (*Pdu::<T>::of(rq.as_ptr())).expirations.store(0, Relaxed);
            bindings::blk_mq_start_request(rq.as_ptr());
            Self::from_raw(rq)
        }
    }

    /// Takes a started request over.
    ///
    /// # Safety
    ///
    /// As the type invariants.
    #[inline(always)]
    pub(crate) unsafe fn from_raw(rq: NonNull<bindings::request>) -> Self {
        // INVARIANT: By the contract.
        Self {
            rq,
            _operations: PhantomData,
        }
    }

    /// Hands the request to who knows it by its pointer.
    #[inline(always)]
    pub(crate) fn into_raw(self) -> NonNull<bindings::request> {
        ManuallyDrop::new(self).rq
    }

    #[inline(always)]
    pub(crate) fn as_raw(&self) -> *mut bindings::request {
        self.rq.as_ptr()
    }

    /// What it is to do.
    #[inline(always)]
    pub fn op(&self) -> Op {
        // SAFETY: By the type invariants.
        let flags = unsafe { (*self.as_raw()).cmd_flags };
        Op::from_raw(flags & ((1 << bindings::REQ_OP_BITS) - 1))
    }

    /// Where it begins, in sectors of 512 bytes.
    #[inline]
    pub fn sector(&self) -> u64 {
        // SAFETY: By the type invariants.
        unsafe { (*self.as_raw()).__sector }
    }

    /// Tells where the data of a [`Op::ZoneAppend`] went, in sectors.
    pub fn set_sector(&mut self, sector: u64) {
        // SAFETY: By the type invariants, exclusive.
        unsafe { (*self.as_raw()).__sector = sector };
    }

    /// How many sectors of 512 bytes it is about.
    #[inline]
    pub fn sectors(&self) -> u32 {
        self.bytes() >> 9
    }

    /// How many bytes it is about.
    #[inline]
    pub fn bytes(&self) -> u32 {
        // SAFETY: By the type invariants.
        unsafe { (*self.as_raw()).__data_len }
    }

    /// Its priority (C: `req_get_ioprio`).
    #[inline]
    pub fn priority(&self) -> u16 {
        // SAFETY: By the type invariants; a request without bio has none.
        unsafe { (*self.as_raw()).bio.as_ref() }.map_or(0, |bio| bio.bi_ioprio)
    }

    /// Whether a [`Op::WriteZeroes`] may deallocate (C: no `REQ_NOUNMAP`).
    pub fn may_unmap(&self) -> bool {
        // SAFETY: By the type invariants.
        let flags = unsafe { (*self.as_raw()).cmd_flags };
        flags & (1 << bindings::req_flag_bits___REQ_NOUNMAP) == 0
    }

    /// Its tag, which no other request of the hardware queue has.
    #[inline]
    pub fn tag(&self) -> usize {
        // SAFETY: By the type invariants.
        tag(unsafe { (*self.as_raw()).tag })
    }

    /// The driver's data.
    #[inline]
    pub fn data_mut(&mut self) -> &mut T::RequestData {
        // SAFETY: By the type invariants, only the owner uses it.
        unsafe { Pdu::<T>::data(self.as_raw()) }
    }

    /// The driver's data.
    #[inline]
    pub fn data(&self) -> &T::RequestData {
        // SAFETY: By the type invariants, only the owner uses it.
        unsafe { &*(*Pdu::<T>::of(self.as_raw())).data.get() }
    }

    /// How often it was started anew since the block layer made it.
    pub fn requeues(&self) -> u32 {
        self.pdu().requeues.load(Relaxed)
    }

    /// How often it timed out since it was started.
    pub fn expirations(&self) -> u32 {
        self.pdu().expirations.load(Relaxed)
    }

    #[inline(always)]
    /// Has the request bring `payload` along for the device, in place of another that it had.
    pub fn set_payload(&mut self, payload: KVec<u8>) {
        // SAFETY: By the type invariants, ours alone.
        drop(unsafe { core::mem::replace(&mut *self.pdu().payload.get(), payload) });
    }

    /// What the request brings along, empty if that is nothing.
    pub fn payload(&self) -> &[u8] {
        // SAFETY: By the type invariants, ours alone.
        unsafe { &*self.pdu().payload.get() }
    }

    fn pdu(&self) -> &Pdu<T> {
        // SAFETY: By the type invariants.
        unsafe { &*Pdu::<T>::of(self.as_raw()) }
    }

    /// Calls `f` for the ranges of a discard, an erase or a write of zeroes: first sector and number
    /// of sectors.
    pub fn for_each_range(&self, mut f: impl FnMut(u64, u32)) {
        let rq = self.as_raw();
        // SAFETY: By the type invariants; bios of a request are a list.
        unsafe {
            let multiple = (*(*rq).q).limits.max_discard_segments > 1;
            if !multiple || self.op() == Op::WriteZeroes {
                f(self.sector(), self.sectors());
                return;
            }
            let mut bio = (*rq).bio;
            while !bio.is_null() {
                f((*bio).bi_iter.bi_sector, (*bio).bi_iter.bi_size >> 9);
                bio = (*bio).bi_next;
            }
        }
    }

    /// Ends it.  Any context.
    #[inline]
    pub fn end(self, status: Status) {
        self.pdu().requeues.store(0, Relaxed);
        let rq = self.into_raw().as_ptr();
        // SAFETY: By the type invariants; the block layer's from here on.
        unsafe { bindings::blk_mq_end_request(rq, status.to_raw()) };
    }

    /// Has the block layer start it anew, later: see
    /// [`Disk::kick_requeued`](crate::Disk::kick_requeued).  If `patience` is given, it times out
    /// after so long.  Any context.
    pub fn requeue(self, patience: Option<Delta>) {
        let requeues = self.requeues().saturating_add(1);
        self.pdu().requeues.store(requeues, Relaxed);
        let rq = self.into_raw().as_ptr();
        // SAFETY: By the type invariants; the block layer's from here on.
        unsafe {
            if let Some(patience) = patience {
                (*rq).timeout = jiffies(patience);
            }
            bindings::blk_mq_requeue_request(rq, false);
        }
    }

    /// As [`Request::requeue`], at once, and not counted: it was not with a device.
    pub fn requeue_now(self) {
        // SAFETY: As there.
        unsafe { bindings::blk_mq_requeue_request(self.into_raw().as_ptr(), true) };
    }
}

impl<T: Operations> Drop for Request<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; nobody has it any more.
        unsafe { bindings::blk_mq_end_request(self.as_raw(), Status::IoError.to_raw()) };
    }
}

/// A tag as a number; one that no tag set has for a request without.
#[inline]
pub(crate) fn tag(tag: i32) -> usize {
    // CAST: A negative one becomes larger than any.
    tag as u32 as usize
}

/// Requests that the block layer wants to have queued, of one hardware queue.
///
/// # Invariants
///
/// `list` is the block layer's, valid, and of requests of `T` that are not started.
pub struct RequestList<'a, T: Operations> {
    list: &'a mut bindings::rq_list,
    hctx: *mut bindings::blk_mq_hw_ctx,
    _operations: PhantomData<T>,
}

impl<'a, T: Operations> RequestList<'a, T> {
    /// # Safety
    ///
    /// As the type invariants.
    pub(crate) unsafe fn new(
        list: &'a mut bindings::rq_list,
        hctx: *mut bindings::blk_mq_hw_ctx,
    ) -> Self {
        // INVARIANT: By the contract.
        Self {
            list,
            hctx,
            _operations: PhantomData,
        }
    }

    /// Takes the next request, and starts it.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "as it reads in C")]
    pub fn next(&mut self) -> Option<Request<T>> {
        let rq = NonNull::new(self.list.head)?;
        // SAFETY: By the type invariants.
        unsafe {
            if !ptr::eq((*rq.as_ptr()).mq_hctx, self.hctx) {
                return None;
            }
            pop(self.list);
            Some(Request::start(rq))
        }
    }
}

/// # Safety
///
/// The list is valid.
#[inline(always)]
unsafe fn pop(list: &mut bindings::rq_list) -> Option<NonNull<bindings::request>> {
    let rq = NonNull::new(list.head)?;
    // SAFETY: By the contract.
    unsafe {
        list.head = (*rq.as_ptr()).__bindgen_anon_1.rq_next;
        if list.head.is_null() {
            list.tail = ptr::null_mut();
        }
        (*rq.as_ptr()).__bindgen_anon_1.rq_next = ptr::null_mut();
    }
    Some(rq)
}

/// Requests of the driver's, first in, first out.
///
/// # Invariants
///
/// The list owns its requests, which are as [`Request`] says.
pub struct Requests<T: Operations> {
    list: bindings::rq_list,
    _operations: PhantomData<T>,
}

impl<T: Operations> Requests<T> {
    /// No requests.
    #[inline]
    pub fn new() -> Self {
        // INVARIANT: Empty.
        Self {
            list: bindings::rq_list {
                head: ptr::null_mut(),
                tail: ptr::null_mut(),
            },
            _operations: PhantomData,
        }
    }

    /// Appends a request.
    #[inline]
    pub fn push(&mut self, request: Request<T>) {
        let rq = request.into_raw().as_ptr();
        // SAFETY: By the type invariants; the link is the owner's to use.
        unsafe {
            (*rq).__bindgen_anon_1.rq_next = ptr::null_mut();
            if self.list.tail.is_null() {
                self.list.head = rq;
            } else {
                (*self.list.tail).__bindgen_anon_1.rq_next = rq;
            }
        }
        self.list.tail = rq;
    }

    /// Takes the first request.
    #[inline]
    pub fn pop(&mut self) -> Option<Request<T>> {
        // SAFETY: By the type invariants.
        unsafe { pop(&mut self.list).map(|rq| Request::from_raw(rq)) }
    }
}

impl<T: Operations> Default for Requests<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Operations> Drop for Requests<T> {
    fn drop(&mut self) {
        while let Some(request) = self.pop() {
            drop(request);
        }
    }
}

/// Where requests that are done are gathered, to be ended together (C: `struct io_comp_batch`).
///
/// # Invariants
///
/// `iob` is null or valid.
pub struct Batch<'a> {
    iob: *mut bindings::io_comp_batch,
    _iob: PhantomData<&'a mut bindings::io_comp_batch>,
}

impl Batch<'_> {
    /// Runs `f` with a batch of its own, which is ended afterwards.
    #[inline]
    pub fn with<R>(f: impl FnOnce(&mut Batch<'_>) -> R) -> R {
        let mut iob = bindings::io_comp_batch {
            req_list: bindings::rq_list {
                head: ptr::null_mut(),
                tail: ptr::null_mut(),
            },
            need_ts: false,
            complete: None,
            poll_ctx: ptr::null_mut(),
        };
        // INVARIANT: Valid while `f` runs.
        let result = f(&mut Batch {
            iob: &raw mut iob,
            _iob: PhantomData,
        });
        if !iob.req_list.head.is_null() {
            // SAFETY: Its requests are complete.
            unsafe { bindings::blk_mq_end_request_batch(&raw mut iob) };
        }
        result
    }

    /// # Safety
    ///
    /// As the type invariants, for as long as the batch exists.
    pub(crate) unsafe fn from_raw(iob: *mut bindings::io_comp_batch) -> Self {
        // INVARIANT: By the contract.
        Self {
            iob,
            _iob: PhantomData,
        }
    }

    /// Completes a request: on the processor that submitted it, by [`Operations::complete`], or with
    /// the batch, for which it must be `plain`: ended well, with nothing to do in
    /// [`Operations::complete`].  Else it comes back, for the caller to do that.  Any context.
    #[inline]
    pub fn complete<T: Operations>(
        &mut self,
        request: Request<T>,
        plain: bool,
    ) -> Option<Request<T>> {
        let rq = request.into_raw();
        // SAFETY: By the type invariants of `Request`; whoever takes it owns it.
        unsafe {
            if bindings::blk_mq_complete_request_remote(rq.as_ptr()) {
                return None;
            }
            if plain && self.add(rq.as_ptr()) {
                (*Pdu::<T>::of(rq.as_ptr())).requeues.store(0, Relaxed);
                return None;
            }
            Some(Request::from_raw(rq))
        }
    }

    /// # Safety
    ///
    /// `rq` is complete, and the caller's.
    #[inline(always)]
    unsafe fn add(&mut self, rq: *mut bindings::request) -> bool {
        // SAFETY: By the contract and the type invariants.
        unsafe { bindings::virtio_blk_mq_add_to_batch(rq, self.iob, Some(end_batch)) }
    }
}

extern "C" fn end_batch(iob: *mut bindings::io_comp_batch) {
    // SAFETY: Called by the block layer with a batch of ours.
    unsafe { bindings::blk_mq_end_request_batch(iob) };
}

/// A request that timed out; somebody else owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired {
    /// How often it timed out since it was started.
    pub times: u32,
    /// How often it was started anew before.
    pub requeues: u32,
}

/// Counts that `rq` timed out.
///
/// # Safety
///
/// `rq` is a live request of a tag set of `T`.
pub(crate) unsafe fn expire<T: Operations>(rq: *mut bindings::request) -> Expired {
    // SAFETY: By the contract; these words are for everybody.
    let pdu = unsafe { &*Pdu::<T>::of(rq) };
    let times = pdu.expirations.load(Relaxed).saturating_add(1);
    pdu.expirations.store(times, Relaxed);
    Expired {
        times,
        requeues: pdu.requeues.load(Relaxed),
    }
}

/// So many jiffies, at least one.
pub(crate) fn jiffies(time: Delta) -> c_uint {
    let millis = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    c_uint::try_from(msecs_to_jiffies(millis)).map_or(c_uint::MAX, |jiffies| jiffies.max(1))
}

/// Bytes that the block layer is to keep behind each request.
pub(crate) const fn pdu_size<T: Operations>() -> c_uint {
    assert!(align_of::<Pdu<T>>() <= align_of::<bindings::request>());
    size_of::<Pdu<T>>() as c_uint
}
