// SPDX-License-Identifier: GPL-2.0

//! Block devices with several queues.
//!
//! C headers: [`include/linux/blk-mq.h`](srctree/include/linux/blk-mq.h),
//! [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h).
//!
//! A driver implements [`Operations`].  Its [`TagSet`] has the requests, its [`Disk`] is what people
//! see.  A [`Request`] is a value with one owner: the driver that has one ends it, completes it, has
//! it started anew, puts it into a virtqueue, or gives it back to the block layer as a
//! [`QueueResult`]; there is no other way to say that it could not be queued.
//!
//! Upstream: `rust/kernel/block/mq.rs`.  What goes beyond it: data of requests and of hardware
//! queues, queue maps, batches, polling, timeouts, limits, attributes, zones.

#[path = "block_mq/attributes.rs"]
mod attributes;
#[path = "block_mq/bridge.rs"]
mod bridge;
#[path = "block_mq/disk.rs"]
mod disk;
#[path = "block_mq/limits.rs"]
mod limits;
#[path = "block_mq/major.rs"]
mod major;
#[path = "block_mq/name.rs"]
mod name;
#[path = "block_mq/operations.rs"]
mod operations;
#[path = "block_mq/request.rs"]
mod request;
#[path = "block_mq/size.rs"]
mod size;
#[path = "block_mq/tag_set.rs"]
mod tag_set;
#[cfg(CONFIG_BLK_DEV_ZONED)]
#[path = "block_mq/zones.rs"]
mod zones;

pub use attributes::{
    Access,
    Attribute,
    Page,
    Store, //
};
pub use disk::{
    Disk,
    DiskRef,
    Identity,
    LimitsUpdate,
    MAX_DISKS, //
};
pub use limits::{
    Limits,
    ZoneLimits, //
};
pub use major::{
    num_possible_queues,
    param,
    Index,
    Major,
    MajorNumber, //
};
pub use operations::{
    HwQueue,
    Operations,
    QueueResult, //
};
pub use request::{
    Batch,
    Expired,
    Op,
    Request,
    RequestList,
    Requests,
    Status, //
};
pub use size::Size;
pub use tag_set::{
    QueueOptions,
    TagSet,
    MAX_DEPTH, //
};

#[cfg(CONFIG_BLK_DEV_ZONED)]
pub use zones::{
    Zone,
    ZoneCondition,
    ZoneReport, //
};

/// What old bootloaders and partitioning tools want to know of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Number of cylinders.
    pub cylinders: u16,
    /// Number of heads.
    pub heads: u8,
    /// Sectors of a track.
    pub sectors: u8,
}
