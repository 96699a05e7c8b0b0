// SPDX-License-Identifier: GPL-2.0

//! How large the balloon is to be: what the device wants, and what the guest can do without.
//!
//! C: `towards_target` in `drivers/virtio/virtio_balloon.c`, which believes `num_pages`, and gives
//! pages until there are none.

use super::pfn::{Units, PFN_SHIFT};
use crate::notes::Notes;
use crate::untrusted::Untrusted;

/// Least reserve of a guest that has four times as much, in bytes.
const LEAST_RESERVE: u64 = 16 << 20;
/// Largest reserve, in bytes.
const MOST_RESERVE: u64 = 256 << 20;
/// One part in so many is reserved, between these.
const RESERVED_PART: u64 = 64;
/// One part in so many is reserved at most.
const RESERVED_AT_MOST: u64 = 4;

/// The memory of the guest, in pages of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// All that there is, with what is in the balloon.
    pub total: u64,
    /// What could be given out without swapping (C: `si_mem_available`).
    pub available: u64,
    /// Free swap space: as much could be swapped out.
    pub free_swap: u64,
}

impl Memory {
    /// Pages that the device cannot have: a 64th of all, not less than 16 MiB nor more than
    /// 256 MiB, but at most a quarter.
    pub const fn reserve(&self, units: Units) -> u64 {
        let unit = (units.per_page() as u64) << PFN_SHIFT;
        let bytes = self.total.saturating_mul(unit) / RESERVED_PART;
        let bytes = if bytes < LEAST_RESERVE {
            LEAST_RESERVE
        } else if bytes > MOST_RESERVE {
            MOST_RESERVE
        } else {
            bytes
        };
        let pages = bytes / unit;
        let most = self.total / RESERVED_AT_MOST;
        if pages < most {
            pages
        } else {
            most
        }
    }

    /// Pages that can be given up now, without anybody missing them.
    pub const fn spare(&self, units: Units) -> u64 {
        self.available
            .saturating_add(self.free_swap)
            .saturating_sub(self.reserve(units))
    }

    /// Pages that are to be in the balloon when the device says `num_pages` (section 5.5.6): rounded
    /// up to pages of the guest, without the reserve.
    pub fn target(&self, units: Units, num_pages: Untrusted<u32>) -> (u64, Notes) {
        let mut notes = Notes::default();
        let most = self.total.saturating_sub(self.reserve(units));
        let wanted = num_pages.validate(Some).map_or(0, |count| {
            let wanted = units.pages(count);
            if wanted > most {
                notes.instead("num_pages", count, units.balloon_pages(most));
            }
            wanted
        });
        (wanted.min(most), notes)
    }
}

/// When to try again what failed for want of memory: 200 ms later, then twice as late each time, up
/// to 5 seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backoff(u32);

impl Backoff {
    const FIRST_MS: u32 = 200;
    const LAST_MS: u32 = 5000;

    /// None has failed.
    pub const fn new() -> Self {
        Self(0)
    }

    /// It has failed: how long to wait, in milliseconds.
    pub fn failed(&mut self) -> u32 {
        self.0 = (self.0 * 2).clamp(Self::FIRST_MS, Self::LAST_MS);
        self.0
    }

    /// It has worked.
    pub fn worked(&mut self) {
        self.0 = 0;
    }
}
