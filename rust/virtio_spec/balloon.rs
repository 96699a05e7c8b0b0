// SPDX-License-Identifier: GPL-2.0

//! Traditional memory balloon device (section 5.5).

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::config::{config_fields, Always};
use crate::device_type::DeviceType;
use crate::features::{feature_types, AppliesTo, Class, Features};
use crate::negotiate::Requirement;

/// The class of the balloon device.
#[derive(Debug, Clone, Copy)]
pub struct Balloon;

impl AppliesTo<Self> for Balloon {}

impl Class for Balloon {
    const DEVICE: DeviceType = DeviceType::BALLOON;
    const DEFINED: Features = DEFINED;
    const REQUIREMENTS: &'static [Requirement] = REQUIREMENTS;
    const NAMES: &'static [(u32, &'static str)] = NAMES;
}

feature_types! {
    Balloon;
    /// The device is to be told before pages of the balloon are used.
    MustTellHost = 0, "VIRTIO_BALLOON_F_MUST_TELL_HOST", [];
    /// There is a queue for memory statistics.
    StatsVq = 1, "VIRTIO_BALLOON_F_STATS_VQ", [];
    /// The balloon is deflated when the guest runs out of memory.
    DeflateOnOom = 2, "VIRTIO_BALLOON_F_DEFLATE_ON_OOM", [];
    /// The device can ask for hints about free pages.
    FreePageHint = 3, "VIRTIO_BALLOON_F_FREE_PAGE_HINT", [];
    /// The driver tells the device that it fills free pages with `poison_val`.
    PagePoison = 4, "VIRTIO_BALLOON_F_PAGE_POISON", [];
    /// There is a queue on which the driver reports free pages.
    Reporting = 5, "VIRTIO_BALLOON_F_REPORTING", [];
}

/// Binary logarithm of the size of a balloon page, in bytes (section 5.5.6).
pub const PFN_SHIFT: u32 = 12;

/// `free_page_hint_cmd_id`: stop hinting (section 5.5.6.7).
pub const CMD_ID_STOP: u32 = 0;
/// `free_page_hint_cmd_id`: hinting is complete, hinted pages may be reused (section 5.5.6.7).
pub const CMD_ID_DONE: u32 = 1;

/// `struct virtio_balloon_config` (section 5.5.4).
///
/// Its fields are little-endian with the legacy interface too (section 5.5.4.0.0.1).
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Config {
    /// Pages that the device wants the guest to give up.
    pub num_pages: U32,
    /// Pages that the guest has given up.
    pub actual: U32,
    /// Command id of free page hinting.
    pub free_page_hint_cmd_id: U32,
    /// Value that the driver fills free pages with.
    pub poison_val: U32,
}

const _: () = assert!(core::mem::size_of::<Config>() == 16);

config_fields! {
    Config;
    /// Pages of 4 KiB that the device wants the guest to give up.
    NUM_PAGES: u32 = num_pages, ReadOnly, Always, 0;
    /// Pages of 4 KiB that the guest has given up.
    ACTUAL: u32 = actual, ReadWrite, Always, 4;
    /// Command id of free page hinting.
    FREE_PAGE_HINT_CMD_ID: u32 = free_page_hint_cmd_id, ReadOnly, FreePageHint, 8;
    /// Value that the driver fills free pages with.
    POISON_VAL: u32 = poison_val, ReadWrite, PagePoison, 12;
}

/// `struct virtio_balloon_stat`, 10 bytes without padding (section 5.5.6.3).
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Stat {
    /// Which statistic, one of [`StatTag`].
    pub tag: U16,
    /// Its value; bytes where it is an amount of memory.
    pub val: U64,
}

const _: () = assert!(core::mem::size_of::<Stat>() == 10);

impl Stat {
    /// The statistic `tag` with value `val`.
    pub const fn new(tag: StatTag, val: u64) -> Self {
        Self {
            tag: U16::new(tag as u16),
            val: U64::new(val),
        }
    }
}

/// Which memory statistic (section 5.5.6.4), `VIRTIO_BALLOON_S_*` in C.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum StatTag {
    /// Bytes swapped in.
    SwapIn = 0,
    /// Bytes swapped out.
    SwapOut = 1,
    /// Number of major page faults.
    MajorFaults = 2,
    /// Number of minor page faults.
    MinorFaults = 3,
    /// Bytes of memory that is not used for anything.
    FreeMemory = 4,
    /// Bytes of memory in total.
    TotalMemory = 5,
    /// Bytes of memory that could be given out without swapping.
    AvailableMemory = 6,
    /// Bytes of disk caches.
    DiskCaches = 7,
    /// Number of successful hugetlb page allocations.
    HugetlbAllocations = 8,
    /// Number of failed hugetlb page allocations.
    HugetlbFailures = 9,
    /// Number of invocations of the out-of-memory killer.
    OomKills = 10,
    /// Number of stalls of an allocation.
    AllocStalls = 11,
    /// Bytes scanned asynchronously.
    AsyncScans = 12,
    /// Bytes scanned directly.
    DirectScans = 13,
    /// Bytes reclaimed asynchronously.
    AsyncReclaims = 14,
    /// Bytes reclaimed directly.
    DirectReclaims = 15,
}

/// Number of statistics, `VIRTIO_BALLOON_S_NR` in C.
pub const STATS: usize = 16;
