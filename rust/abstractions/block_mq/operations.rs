// SPDX-License-Identifier: GPL-2.0

//! What a block driver implements.
//!
//! C header: [`include/linux/blk-mq.h`](srctree/include/linux/blk-mq.h).  Upstream:
//! `rust/kernel/block/mq/operations.rs`, where a driver that fails to queue a request still has it.

use crate::{
    attributes::Attribute,
    request::{
        expire,
        jiffies,
        Batch,
        Expired,
        Pdu,
        Request,
        RequestList,
        Status, //
    },
    tag_set::TagSet,
    Geometry, //
};
#[cfg(CONFIG_BLK_DEV_ZONED)]
use crate::{
    disk::DiskRef,
    zones::ZoneReport, //
};
use core::{
    marker::PhantomData,
    mem::MaybeUninit,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    error::from_result,
    ffi::{
        c_int,
        c_uint,
        c_void, //
    },
    prelude::*,
    sync::Arc,
    time::Delta, //
};
use virtio_bindings as bindings;

/// A block driver.
pub trait Operations: Sized + Send + Sync + 'static {
    /// What it keeps of a request.
    type RequestData: Default + Send;

    /// What it keeps of a disk.
    type QueueData: Send + Sync;

    /// What it keeps of a hardware queue.
    type HwData: Send + Sync;

    /// Files of its disks in sysfs.
    const ATTRIBUTES: &'static [Attribute<Self>];

    /// What it keeps of hardware queue `index`.  May sleep.
    ///
    /// # Errors
    ///
    /// Why there is no such queue.
    fn hw_data(data: &Self::QueueData, index: usize) -> Result<Arc<Self::HwData>>;

    /// Queues a request; if it is the `last` for now, the device is to be told.  Does not sleep.
    fn queue_rq(hw: HwQueue<'_, Self>, request: Request<Self>, last: bool) -> QueueResult<Self>;

    /// Queues the requests of a list; those that it leaves there are queued one by one.  Does not
    /// sleep.
    fn queue_rqs(hw: HwQueue<'_, Self>, list: &mut RequestList<'_, Self>);

    /// Tells the device of what was queued with no `last`.  Does not sleep.
    fn commit_rqs(hw: HwQueue<'_, Self>);

    /// Ends a request that is complete.  Does not sleep.
    fn complete(request: Request<Self>);

    /// Looks for complete requests on a queue without interrupts, and says how many there were.
    /// Does not sleep.
    fn poll(hw: HwQueue<'_, Self>, batch: &mut Batch<'_>) -> u32;

    /// A request was not ended in time.  The driver sees to it that it comes back, and says after how
    /// long it times out again.  May sleep.
    fn timeout(hw: HwQueue<'_, Self>, expired: Expired) -> Delta;

    /// Appends zones to `report`, from the one that has `sector` on; only of disks that have zones.
    /// May sleep.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` without zones; those of the device, and of `report`.
    #[cfg(CONFIG_BLK_DEV_ZONED)]
    fn report_zones(_disk: &DiskRef<Self>, _sector: u64, _report: &mut ZoneReport<'_>) -> Result {
        Err(EOPNOTSUPP)
    }

    /// The geometry to report; `None` if the disk is gone.  May sleep.
    fn geometry(data: &Self::QueueData) -> Option<Geometry>;
}

/// What became of a request.
pub enum QueueResult<T: Operations> {
    /// The driver has it.
    Queued,
    /// It cannot be queued now: when another one of its queue ends, or there is memory.
    Busy(Request<T>),
    /// It cannot be queued at all.
    Fail(Request<T>, Status),
}

/// A hardware queue.
///
/// # Invariants
///
/// `hctx` is valid, of a disk of `T`.
pub struct HwQueue<'a, T: Operations> {
    hctx: *mut bindings::blk_mq_hw_ctx,
    _operations: PhantomData<&'a T>,
}

impl<'a, T: Operations> HwQueue<'a, T> {
    /// # Safety
    ///
    /// `hctx` is valid during `'a`, of a disk of `T`.
    #[inline(always)]
    unsafe fn from_raw(hctx: *mut bindings::blk_mq_hw_ctx) -> Self {
        // INVARIANT: By the contract.
        Self {
            hctx,
            _operations: PhantomData,
        }
    }

    /// The driver's.
    #[inline(always)]
    pub fn data(&self) -> &'a T::HwData {
        // SAFETY: By the type invariants; set by `init_hctx`, and an `Arc` keeps it until
        // `exit_hctx`.
        unsafe { &*(*self.hctx).driver_data.cast::<T::HwData>() }
    }

    /// The driver's data of the disk.
    pub fn queue_data(&self) -> &'a T::QueueData {
        // SAFETY: By the type invariants; `queuedata` is what `Disk::new` set, which the disk keeps.
        unsafe { &*(*(*self.hctx).queue).queuedata.cast::<T::QueueData>() }
    }

    /// Stops it: no more requests until [`Request::restart_queue`].
    pub fn stop(&self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::blk_mq_stop_hw_queue(self.hctx) };
    }
}

impl<T: Operations> Request<T> {
    /// Starts the hardware queue of the request again, if it was stopped.  Any context.
    pub fn restart_queue(&self) {
        // SAFETY: The request is alive, and its queue with it.
        unsafe { bindings::blk_mq_start_stopped_hw_queue((*self.as_raw()).mq_hctx, true) };
    }
}

/// The callbacks of a driver.
pub(crate) struct Callbacks<T: Operations>(PhantomData<T>);

impl<T: Operations> Callbacks<T> {
    /// As C wants them; without queues to poll, there is no `poll`.
    pub(crate) const TABLE: &'static bindings::blk_mq_ops = &bindings::blk_mq_ops {
        queue_rq: Some(Self::queue_rq),
        queue_rqs: Some(Self::queue_rqs),
        commit_rqs: Some(Self::commit_rqs),
        complete: Some(Self::complete),
        poll: Some(Self::poll),
        timeout: Some(Self::timeout),
        map_queues: Some(Self::map_queues),
        init_hctx: Some(Self::init_hctx),
        exit_hctx: Some(Self::exit_hctx),
        init_request: Some(Self::init_request),
        exit_request: Some(Self::exit_request),
        // SAFETY: All that is left is optional functions.
        ..unsafe { MaybeUninit::zeroed().assume_init() }
    };

    extern "C" fn queue_rq(
        hctx: *mut bindings::blk_mq_hw_ctx,
        bd: *const bindings::blk_mq_queue_data,
    ) -> bindings::blk_status_t {
        // SAFETY: The block layer passes a queue of ours, and a request that it does not touch
        // until it is given back or ended.
        let (hw, request, last) = unsafe {
            let rq = NonNull::new_unchecked((*bd).rq);
            (HwQueue::from_raw(hctx), Request::start(rq), (*bd).last)
        };
        let (request, status) = match T::queue_rq(hw, request, last) {
            QueueResult::Queued => return 0,
            // Not `BLK_STS_DEV_RESOURCE`, by which the block layer waits for a request to end: one
            // that ends in a batch wakes nobody.  So it looks again by itself, a little later.
            QueueResult::Busy(request) => (request, bindings::BLK_STS_RESOURCE),
            QueueResult::Fail(request, status) => (request, status.to_raw()),
        };
        // The block layer has it again.
        let _ = request.into_raw();
        status
    }

    extern "C" fn queue_rqs(list: *mut bindings::rq_list) {
        // SAFETY: The block layer passes a list of requests of ours.
        unsafe {
            while let Some(first) = (*list).head.as_ref() {
                let hctx = first.mq_hctx;
                let before = (*list).head;
                T::queue_rqs(
                    HwQueue::from_raw(hctx),
                    &mut RequestList::new(&mut *list, hctx),
                );
                if ptr::eq(before, (*list).head) {
                    // Not taken: the block layer tries one by one.
                    return;
                }
            }
        }
    }

    extern "C" fn commit_rqs(hctx: *mut bindings::blk_mq_hw_ctx) {
        // SAFETY: The block layer passes a queue of ours.
        T::commit_rqs(unsafe { HwQueue::from_raw(hctx) });
    }

    extern "C" fn complete(rq: *mut bindings::request) {
        // SAFETY: The block layer passes a request that was handed over by `Batch::complete`.
        T::complete(unsafe { Request::from_raw(NonNull::new_unchecked(rq)) });
    }

    extern "C" fn poll(
        hctx: *mut bindings::blk_mq_hw_ctx,
        iob: *mut bindings::io_comp_batch,
    ) -> c_int {
        // SAFETY: The block layer passes a queue of ours, and a batch or null.
        unsafe { T::poll(HwQueue::from_raw(hctx), &mut Batch::from_raw(iob)) as c_int }
    }

    extern "C" fn timeout(rq: *mut bindings::request) -> bindings::blk_eh_timer_return {
        // SAFETY: The block layer passes a request of ours, and keeps it meanwhile.
        unsafe {
            let expired = expire::<T>(rq);
            let patience = T::timeout(HwQueue::from_raw((*rq).mq_hctx), expired);
            // For who sets the timer again, after this.
            (*rq).timeout = jiffies(patience);
        }
        bindings::blk_eh_timer_return_BLK_EH_RESET_TIMER
    }

    extern "C" fn map_queues(set: *mut bindings::blk_mq_tag_set) {
        // SAFETY: `driver_data` is the `TagSet` that owns it.
        unsafe { (*(*set).driver_data.cast::<TagSet<T>>()).map_queues() };
    }

    extern "C" fn init_hctx(
        hctx: *mut bindings::blk_mq_hw_ctx,
        tags: *mut c_void,
        index: c_uint,
    ) -> c_int {
        from_result(|| {
            // SAFETY: `tags` is the `TagSet`; nobody uses the queue yet.
            unsafe {
                let data = T::hw_data((*tags.cast::<TagSet<T>>()).data(), index as usize)?;
                (*hctx).driver_data = Arc::into_raw(data).cast_mut().cast();
            }
            Ok(0)
        })
    }

    extern "C" fn exit_hctx(hctx: *mut bindings::blk_mq_hw_ctx, _index: c_uint) {
        // SAFETY: Set by `init_hctx`; nobody uses the queue any more.
        unsafe {
            let data = core::mem::replace(&mut (*hctx).driver_data, ptr::null_mut());
            if !data.is_null() {
                drop(Arc::from_raw(data.cast::<T::HwData>()));
            }
        }
    }

    extern "C" fn init_request(
        _set: *mut bindings::blk_mq_tag_set,
        rq: *mut bindings::request,
        _hctx: c_uint,
        _node: c_int,
    ) -> c_int {
        // SAFETY: The tag set was told of the room.
        unsafe { Pdu::<T>::init(rq, T::RequestData::default()) };
        0
    }

    extern "C" fn exit_request(
        _set: *mut bindings::blk_mq_tag_set,
        rq: *mut bindings::request,
        _hctx: c_uint,
    ) {
        // SAFETY: Initialised by `init_request`; nobody has the request.
        unsafe { ptr::drop_in_place(Pdu::<T>::of(rq)) };
    }
}
