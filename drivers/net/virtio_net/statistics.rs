// SPDX-License-Identifier: GPL-2.0

//! What is counted of queues.

use netdev::Counter;

/// Of a receive queue; its poll alone counts, but for `kicks` of one that is filled before it is polled.
#[derive(Default)]
pub(crate) struct RxStatistics {
    pub(crate) packets: Counter,
    pub(crate) bytes: Counter,
    /// Packets that were taken from the device, and not handed to the stack.
    pub(crate) drops: Counter,
    /// Times that the device was told of buffers.
    pub(crate) kicks: Counter,
    /// Packets whose length cannot be.
    pub(crate) length_errors: Counter,
    /// Packets whose header cannot be.
    pub(crate) frame_errors: Counter,
}

/// The names of [`RxStatistics::show`]; what there is no counter for is for programs that know C's.
pub(crate) const RX_NAMES: &[&str] = &[
    "drops",
    "xdp_packets",
    "xdp_tx",
    "xdp_redirects",
    "xdp_drops",
    "kicks",
];

impl RxStatistics {
    /// Fills `values` as [`RX_NAMES`] says.
    pub(crate) fn show(&self, values: &mut [u64]) {
        let all = [self.drops.get(), 0, 0, 0, 0, self.kicks.get()];
        for (value, number) in values.iter_mut().zip(all) {
            *value = number;
        }
    }
}

/// Of a transmit queue; who has its lock counts.
#[derive(Default)]
pub(crate) struct TxStatistics {
    pub(crate) packets: Counter,
    pub(crate) bytes: Counter,
    /// Times that the device was told of packets.
    pub(crate) kicks: Counter,
    /// Times that nothing was sent for too long.
    pub(crate) timeouts: Counter,
    /// Packets that could not be sent.
    pub(crate) drops: Counter,
    /// Packets that the virtqueue did not take.
    pub(crate) fifo_errors: Counter,
}

/// The names of [`TxStatistics::show`], as [`RX_NAMES`].
pub(crate) const TX_NAMES: &[&str] = &["xdp_tx", "xdp_tx_drops", "kicks", "tx_timeouts"];

impl TxStatistics {
    /// Fills `values` as [`TX_NAMES`] says.
    pub(crate) fn show(&self, values: &mut [u64]) {
        let all = [0, 0, self.kicks.get(), self.timeouts.get()];
        for (value, number) in values.iter_mut().zip(all) {
            *value = number;
        }
    }
}
