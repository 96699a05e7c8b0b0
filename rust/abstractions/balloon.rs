// SPDX-License-Identifier: GPL-2.0

//! Memory balloons: pages that the host has instead of the guest.
//!
//! C headers: [`include/linux/balloon.h`](srctree/include/linux/balloon.h),
//! [`include/linux/oom.h`](srctree/include/linux/oom.h),
//! [`include/linux/page_reporting.h`](srctree/include/linux/page_reporting.h),
//! [`include/linux/shrinker.h`](srctree/include/linux/shrinker.h).
//!
//! A [`Balloon`] holds pages that the host has.  On their way in and out they are in a transfer, with
//! the array of numbers that tells the device of them: [`Idle`] without pages, then [`Inflating`] or
//! [`Deflating`].  Only a device that has used the array makes it [`Acked`], which alone puts pages
//! into the balloon, or gives them to the kernel again; or a device that was reset, see
//! [`Balloon::empty`].
//!
//! What is free and stays the guest's has types of its own: [`FreePages`], which the kernel says are
//! free, and a [`Block`], which is kept so that it is.
//!
//! Upstream: `rust/kernel/mm/`, which has none of it yet.

#[path = "balloon/block.rs"]
mod block;
#[path = "balloon/event.rs"]
mod event;
#[path = "balloon/hint.rs"]
mod hint;
#[path = "balloon/list.rs"]
mod list;
#[path = "balloon/memory.rs"]
mod memory;
#[path = "balloon/migration.rs"]
mod migration;
#[path = "balloon/oom.rs"]
mod oom;
#[path = "balloon/pages.rs"]
mod pages;
#[path = "balloon/report.rs"]
mod report;
#[path = "balloon/reporting.rs"]
mod reporting;
#[path = "balloon/shrinker.rs"]
mod shrinker;
#[path = "balloon/task.rs"]
mod task;
#[cfg(CONFIG_KUNIT = "y")]
#[path = "balloon/tests.rs"]
mod tests;
#[path = "balloon/transfer.rs"]
mod transfer;
#[path = "balloon/wakeup.rs"]
mod wakeup;

pub use block::{
    Block,
    Blocks,
    BLOCK_PAGES, //
};
pub use event::{
    Event,
    Seen, //
};
pub use hint::{
    Command,
    Hint, //
};
pub use memory::{
    free_pages,
    memory,
    sample, //
};
pub use migration::{
    Migrate,
    Migration,
    Mover, //
};
pub use oom::{
    OomNotifier,
    OutOfMemory, //
};
pub use pages::Balloon;
pub use report::Report;
pub use reporting::{
    FreePages,
    PageReporting,
    Reporter,
    REPORT_LEN, //
};
pub use shrinker::{
    Shrink,
    Shrinker, //
};
pub use task::{
    Again,
    Job,
    Task, //
};
pub use transfer::{
    Acked,
    Deflating,
    Idle,
    Inflating,
    Transfer,
    TransferQueue, //
};
pub use wakeup::WakeSource;
