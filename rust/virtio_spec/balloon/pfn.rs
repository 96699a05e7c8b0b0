// SPDX-License-Identifier: GPL-2.0

//! Arrays of page frame numbers (section 5.5.6): what is said of pages of the guest, in balloon
//! pages of 4 KiB.
//!
//! C: `set_page_pfns` and `page_to_balloon_pfn` in `drivers/virtio/virtio_balloon.c`, which cut a
//! number that has more than 32 bits.

use super::Wire;

/// Binary logarithm of the size of a balloon page, in bytes (section 5.5.6).
pub const PFN_SHIFT: u32 = 12;

/// Numbers in an array at most: as many as the C driver sends, since there are devices that take no
/// more.
pub const ARRAY_LEN: usize = 256;

/// How many balloon pages a page of the guest is.
///
/// # Invariants
///
/// At least 1, at most [`ARRAY_LEN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Units(u32);

impl Units {
    /// Those of a guest whose pages have `1 << page_shift` bytes; `None` if no array is long enough
    /// for one, or they are smaller than balloon pages.
    pub const fn new(page_shift: u32) -> Option<Self> {
        let Some(shift) = page_shift.checked_sub(PFN_SHIFT) else {
            return None;
        };
        match 1_u32.checked_shl(shift) {
            // INVARIANT: Compared.
            Some(count) if count as usize <= ARRAY_LEN => Some(Self(count)),
            _ => None,
        }
    }

    /// Balloon pages of a page.
    #[inline]
    pub const fn per_page(self) -> u32 {
        self.0
    }

    /// Pages that fit into an array, 1 at least.
    #[inline]
    pub const fn pages_per_array(self) -> usize {
        ARRAY_LEN / self.0 as usize
    }

    /// The pages that `count` balloon pages are, rounded up: a balloon that is off by less than a
    /// page would be changed for ever.
    #[inline]
    pub const fn pages(self, count: u32) -> u64 {
        (count as u64).div_ceil(self.0 as u64)
    }

    /// The balloon pages that `pages` pages are; the largest number if they are more than that.
    #[inline]
    pub const fn balloon_pages(self, pages: u64) -> u32 {
        let count = pages.saturating_mul(self.0 as u64);
        if count > u32::MAX as u64 {
            u32::MAX
        } else {
            count as u32
        }
    }

    /// The number of the first balloon page of the page with number `pfn`; `None` if one of them has
    /// none, since it is beyond 16 TiB.
    #[inline]
    pub const fn first(self, pfn: u64) -> Option<u32> {
        let per_page = self.0 as u64;
        let Some(first) = pfn.checked_mul(per_page) else {
            return None;
        };
        if first > u32::MAX as u64 - (per_page - 1) {
            None
        } else {
            Some(first as u32)
        }
    }

    /// Writes the numbers of the page with number `pfn` to `room`, which has room for those of one page.
    /// Each is cut to 32 bits: the caller knows that [`Units::first`] gives one, or asks it later.  It
    /// gives one for all of some pages if it does for the bits that any of their numbers has.
    #[inline(always)]
    pub fn write_cut(self, wire: Wire, pfn: u64, room: &mut [u32]) {
        let mut number = (pfn as u32).wrapping_mul(self.0);
        for word in room {
            *word = wire.word(number);
            number = number.wrapping_add(1);
        }
    }

    /// Writes the numbers of the page with number `pfn` to the start of `room`: how many.  `None`,
    /// with nothing written, if it has none or there is too little room.
    #[inline]
    pub fn write(self, wire: Wire, pfn: u64, room: &mut [u32]) -> Option<usize> {
        let first = self.first(pfn)?;
        let room = room.get_mut(..self.0 as usize)?;
        for (number, word) in (first..).zip(room.iter_mut()) {
            *word = wire.word(number);
        }
        Some(room.len())
    }
}
