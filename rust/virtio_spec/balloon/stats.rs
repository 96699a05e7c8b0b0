// SPDX-License-Identifier: GPL-2.0

//! Memory statistics (section 5.5.6.3): numbers of the guest, as the device reads them.
//!
//! C: `update_balloon_stats` in `drivers/virtio/virtio_balloon.c`.

use super::Wire;
use zerocopy::little_endian::{U16, U64};
use zerocopy::IntoBytes;
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

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
    pub const fn new(wire: Wire, tag: StatTag, val: u64) -> Self {
        match wire {
            Wire::Modern => Self {
                tag: U16::new(tag as u16),
                val: U64::new(val),
            },
            Wire::Legacy => Self {
                tag: U16::from_bytes((tag as u16).to_ne_bytes()),
                val: U64::from_bytes(val.to_ne_bytes()),
            },
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

/// Bytes that the statistics have at most.
pub const STATS_SIZE: usize = STATS * core::mem::size_of::<Stat>();

/// What a kernel counts that counts events of its memory management.  In pages unless it says
/// otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Events {
    /// Swapped in.
    pub swap_in: u64,
    /// Swapped out.
    pub swap_out: u64,
    /// Major page faults.
    pub major_faults: u64,
    /// Page faults; the tag is called minor, but C counts all of them.
    pub faults: u64,
    /// Invocations of the out-of-memory killer.
    pub oom_kills: u64,
    /// Stalls of an allocation, in all zones.
    pub alloc_stalls: u64,
    /// Scanned asynchronously.
    pub async_scans: u64,
    /// Scanned directly.
    pub direct_scans: u64,
    /// Reclaimed asynchronously.
    pub async_reclaims: u64,
    /// Reclaimed directly.
    pub direct_reclaims: u64,
    /// Huge pages that could be allocated, and that could not, if there is such a thing.
    pub hugetlb: Option<(u64, u64)>,
}

/// The numbers of a guest, in pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sample {
    /// What is counted, if anything is.
    pub events: Option<Events>,
    /// Not used for anything.
    pub free: u64,
    /// In total.
    pub total: u64,
    /// Could be given out without swapping.
    pub available: u64,
    /// Disk caches.
    pub caches: u64,
}

/// The statistics of a guest, as the device reads them: those that there are, in the order of C.
#[derive(Debug, Clone, Copy)]
pub struct Stats {
    stats: [Stat; STATS],
    len: usize,
    wire: Wire,
}

impl Stats {
    /// Those of `sample`, whose pages have `1 << page_shift` bytes.
    pub fn new(wire: Wire, page_shift: u32, sample: &Sample) -> Self {
        let bytes = |pages: u64| pages.wrapping_shl(page_shift);
        let mut stats = Self {
            stats: [Stat::new(wire, StatTag::SwapIn, 0); STATS],
            len: 0,
            wire,
        };
        if let Some(events) = &sample.events {
            stats.push(StatTag::SwapIn, bytes(events.swap_in));
            stats.push(StatTag::SwapOut, bytes(events.swap_out));
            stats.push(StatTag::MajorFaults, events.major_faults);
            stats.push(StatTag::MinorFaults, events.faults);
            stats.push(StatTag::OomKills, events.oom_kills);
            stats.push(StatTag::AllocStalls, events.alloc_stalls);
            stats.push(StatTag::AsyncScans, bytes(events.async_scans));
            stats.push(StatTag::DirectScans, bytes(events.direct_scans));
            stats.push(StatTag::AsyncReclaims, bytes(events.async_reclaims));
            stats.push(StatTag::DirectReclaims, bytes(events.direct_reclaims));
            if let Some((allocations, failures)) = events.hugetlb {
                stats.push(StatTag::HugetlbAllocations, allocations);
                stats.push(StatTag::HugetlbFailures, failures);
            }
        }
        stats.push(StatTag::FreeMemory, bytes(sample.free));
        stats.push(StatTag::TotalMemory, bytes(sample.total));
        stats.push(StatTag::AvailableMemory, bytes(sample.available));
        stats.push(StatTag::DiskCaches, bytes(sample.caches));
        stats
    }

    fn push(&mut self, tag: StatTag, val: u64) {
        if let Some(room) = self.stats.get_mut(self.len) {
            *room = Stat::new(self.wire, tag, val);
            self.len += 1;
        }
    }

    /// What goes to the device.
    pub fn as_bytes(&self) -> &[u8] {
        self.stats.get(..self.len).unwrap_or_default().as_bytes()
    }
}
