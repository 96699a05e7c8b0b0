// SPDX-License-Identifier: GPL-2.0

//! What is counted of a device.
//!
//! C header: [`include/linux/u64_stats_sync.h`](srctree/include/linux/u64_stats_sync.h).

use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};

/// A number that one writer at a time counts up, and anybody reads: a load, an addition and a store.
pub struct Counter(Atomic<u64>);

impl Counter {
    /// A counter at 0.
    pub fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Counts `more`.  If two do so at once, one of them may be lost.  Any context.
    #[inline]
    pub fn add(&self, more: u64) {
        self.0.store(self.get().wrapping_add(more), Relaxed);
    }

    /// The number.  Any context.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Default for Counter {
    fn default() -> Self {
        Self::new()
    }
}

/// Totals of a device (C: `struct rtnl_link_stats64`, where each is explained).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Problems with sending.
    pub tx_errors: u64,
    /// Packets received and not processed.
    pub rx_dropped: u64,
    /// Packets dropped on their way to be sent.
    pub tx_dropped: u64,
    /// Packets received with a length that cannot be.
    pub rx_length_errors: u64,
    /// Packets received with a header that cannot be.
    pub rx_frame_errors: u64,
    /// Packets that the device did not take.
    pub tx_fifo_errors: u64,
}
