// SPDX-License-Identifier: GPL-2.0

//! Tags and requests of a disk, and which processor uses which hardware queue.
//!
//! C header: [`include/linux/blk-mq.h`](srctree/include/linux/blk-mq.h).  Upstream:
//! `rust/kernel/block/mq/tag_set.rs`.

use crate::{
    operations::{
        Callbacks,
        Operations, //
    },
    request::pdu_size, //
};
use core::marker::PhantomPinned;
use kernel::{
    device,
    error::to_result,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    types::Opaque, //
};
use virtio_bindings as bindings;

/// Requests of a queue at most (C: `BLK_MQ_MAX_DEPTH`).
pub const MAX_DEPTH: u32 = bindings::BLK_MQ_MAX_DEPTH;

/// The hardware queues of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueOptions {
    /// Queues with interrupts, at least 1; they come first.
    pub default: u32,
    /// Queues that are polled.
    pub poll: u32,
    /// Requests of a queue.
    pub depth: u32,
    /// The NUMA node of the tags, or -1.
    pub node: i32,
}

/// The tags of a disk (C: `struct blk_mq_tag_set`).
///
/// # Invariants
///
/// `set` is allocated, and its `driver_data` points to this.
#[pin_data(PinnedDrop)]
pub struct TagSet<T: Operations> {
    #[pin]
    set: Opaque<bindings::blk_mq_tag_set>,
    options: QueueOptions,
    device: ARef<device::Device>,
    data: Arc<T::QueueData>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: The block layer has locks of its own.
unsafe impl<T: Operations> Send for TagSet<T> {}
// SAFETY: As above.
unsafe impl<T: Operations> Sync for TagSet<T> {}

impl<T: Operations> TagSet<T> {
    /// Allocates the requests of a disk.  The interrupts of `device` say which processor is to use
    /// which queue.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EINVAL` for options that no tag set can have.
    pub fn new(
        options: QueueOptions,
        device: ARef<device::Device>,
        data: Arc<T::QueueData>,
    ) -> Result<Pin<KBox<Self>>> {
        let this = KBox::pin_init(
            pin_init!(Self {
                set: Opaque::zeroed(),
                options,
                device,
                data,
                _pin: PhantomPinned,
            }),
            GFP_KERNEL,
        )?;
        let set = this.set.get();
        // SAFETY: Ours alone so far; pinned.
        let allocated = unsafe {
            (*set).ops = Callbacks::<T>::TABLE;
            (*set).nr_hw_queues = options.default + options.poll;
            // With queues to poll, there must be a map for reads too.
            (*set).nr_maps = if options.poll == 0 {
                1
            } else {
                bindings::hctx_type_HCTX_MAX_TYPES
            };
            (*set).queue_depth = options.depth;
            (*set).numa_node = options.node;
            (*set).cmd_size = const { pdu_size::<T>() };
            (*set).driver_data = core::ptr::from_ref(&*this).cast_mut().cast();
            to_result(bindings::blk_mq_alloc_tag_set(set))
        };
        match allocated {
            // INVARIANT: Done above.
            Ok(()) => Ok(this),
            Err(error) => {
                // Not allocated: `drop` finds no tags.
                Err(error)
            }
        }
    }

    pub(crate) fn as_raw(&self) -> *mut bindings::blk_mq_tag_set {
        self.set.get()
    }

    pub(crate) fn data(&self) -> &Arc<T::QueueData> {
        &self.data
    }

    /// Fills the maps (C: `virtblk_map_queues`): queues with interrupts go to the processors that
    /// have them, polled ones to all in turn.
    pub(crate) fn map_queues(&self) {
        let set = self.set.get();
        let queues = [self.options.default, 0, self.options.poll];
        let mut offset = 0;
        // SAFETY: Called by the block layer while it sets up the tag set, whose maps are allocated.
        unsafe {
            let count = (*set).nr_maps as usize;
            for (at, count) in queues.into_iter().enumerate().take(count) {
                let map = &raw mut (*set).map[at];
                (*map).nr_queues = count;
                (*map).queue_offset = offset;
                offset += count;
                if count == 0 {
                    continue;
                }
                if at == bindings::hctx_type_HCTX_TYPE_POLL as usize {
                    bindings::blk_mq_map_queues(map);
                } else {
                    let device: &device::Device = &self.device;
                    let device = core::ptr::from_ref(device).cast_mut();
                    // `Device` is transparent.
                    bindings::blk_mq_map_hw_queues(map, device.cast(), 0);
                }
            }
        }
    }
}

#[pinned_drop]
impl<T: Operations> PinnedDrop for TagSet<T> {
    fn drop(self: Pin<&mut Self>) {
        let set = self.set.get();
        // SAFETY: Allocated if there are tags; the disk is gone.
        unsafe {
            if !(*set).tags.is_null() {
                bindings::blk_mq_free_tag_set(set);
            }
        }
    }
}
