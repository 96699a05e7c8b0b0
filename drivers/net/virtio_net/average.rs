// SPDX-License-Identifier: GPL-2.0

//! The average length of packets, by which buffers for them are sized.
//!
//! C source: `DECLARE_EWMA(pkt_len, 0, 64)` in `drivers/net/virtio_net.c`.

use kernel::macros::kunit_tests;

/// Of the average, each new packet makes one part in so many: a whole ring may be refilled at once, so
/// that a short burst of another length must not change it.
const WEIGHT: u64 = 64;

/// An exponentially weighted moving average, in bytes.
pub(crate) struct Average(u32);

impl Average {
    pub(crate) fn new() -> Self {
        Self(0)
    }

    /// Adds a packet; the first one is the average.
    #[inline]
    pub(crate) fn add(&mut self, len: u32) {
        let (old, len) = (u64::from(self.0), u64::from(len));
        let new = if old == 0 {
            len
        } else {
            (old * (WEIGHT - 1) + len) / WEIGHT
        };
        // No more than the longest.
        self.0 = new as u32;
    }

    /// The average; 0 before there was a packet.
    #[inline]
    pub(crate) fn get(&self) -> u32 {
        self.0
    }
}

#[kunit_tests(virtio_net_average)]
mod tests {
    use super::*;

    #[test]
    fn the_first_packet_is_the_average_and_later_ones_move_it() {
        let mut average = Average::new();
        average.add(1000);
        assert_eq!(average.get(), 1000);
        average.add(1064);
        assert_eq!(average.get(), 1001);
        for _ in 0..1000 {
            average.add(u32::MAX);
        }
        assert!(average.get() > u32::MAX - 1000);
    }
}
