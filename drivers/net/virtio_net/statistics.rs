// SPDX-License-Identifier: GPL-2.0

//! What is counted of queues, by the driver and by the device (specification 5.1.9.5.11).
//!
//! C source: `virtnet_get_hw_stats`, `virtnet_fill_stats`, `virtnet_get_base_stats` in
//! `drivers/net/virtio_net.c`, which believe what a device answers, and show anything if it does not.

use crate::{
    control::Control,
    interface::Interface, //
};
use core::iter;
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};
use netdev::{
    Counter,
    QueueKind,
    RxQueueStatistics,
    StatisticName,
    Statistics,
    TxQueueStatistics, //
};
use virtio_spec::net::{
    ctrl::CtrlHdr,
    payload::Queue,
    stats::{
        request,
        Kinds,
        Replies,
        Reply,
        RECEIVE_NAMES,
        REQUEST_SIZE,
        TRANSMIT_NAMES, //
    }, //
};

/// Queues that a device is asked about with one command.
const QUEUES_AT_ONCE: usize = 64;

/// Of a receive queue; its poll alone counts, but for `kicks` of one that is filled before it is polled.
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
    /// Packets that a program looked at.
    pub(crate) xdp_packets: Counter,
    /// Of those, the ones that went back.
    pub(crate) xdp_tx: Counter,
    /// The ones that went elsewhere.
    pub(crate) xdp_redirects: Counter,
    /// Packets that were dropped for a program, or could not be shown to it.
    pub(crate) xdp_drops: Counter,
    /// Bytes of a buffer, of those that a packet has as many of as it needs.
    pub(crate) buffer_size: Atomic<u32>,
}

impl RxStatistics {
    pub(crate) fn new() -> Self {
        Self {
            packets: Counter::new(),
            bytes: Counter::new(),
            drops: Counter::new(),
            kicks: Counter::new(),
            length_errors: Counter::new(),
            frame_errors: Counter::new(),
            xdp_packets: Counter::new(),
            xdp_tx: Counter::new(),
            xdp_redirects: Counter::new(),
            xdp_drops: Counter::new(),
            buffer_size: Atomic::new(0),
        }
    }

    /// As [`RECEIVE_NAMES`] says.
    fn show(&self) -> [u64; RECEIVE_NAMES.len()] {
        [
            self.drops.get(),
            self.xdp_packets.get(),
            self.xdp_tx.get(),
            self.xdp_redirects.get(),
            self.xdp_drops.get(),
            self.kicks.get(),
        ]
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
    /// Times that the stack was asked to hold packets back.
    pub(crate) stops: Counter,
    /// Times that it was asked to go on.
    pub(crate) wakes: Counter,
    /// Packets of programs, of this interface and of others.
    pub(crate) xdp_tx: Counter,
    /// Of those, the ones that were not sent.
    pub(crate) xdp_tx_drops: Counter,
}

impl TxStatistics {
    /// As [`TRANSMIT_NAMES`], as [`RxStatistics::show`].
    fn show(&self) -> [u64; TRANSMIT_NAMES.len()] {
        [
            self.xdp_tx.get(),
            self.xdp_tx_drops.get(),
            self.kicks.get(),
            self.timeouts.get(),
        ]
    }
}

/// What the device counts of a queue of that kind.
fn queue_of(kind: QueueKind) -> Queue {
    match kind {
        QueueKind::Rx => Queue::Receive(0),
        QueueKind::Tx => Queue::Transmit(0),
        QueueKind::Control => Queue::Control,
    }
}

/// The names of what is counted, if the device counts `kinds`.
pub(crate) fn names(kinds: Kinds, kind: QueueKind) -> impl Iterator<Item = StatisticName> {
    let own: &[&str] = match kind {
        QueueKind::Rx => &RECEIVE_NAMES,
        QueueKind::Tx => &TRANSMIT_NAMES,
        QueueKind::Control => &[],
    };
    let name = |of_device| move |name| StatisticName { of_device, name };
    let of_device = kinds.of_queue(queue_of(kind)).iter();
    let of_device = of_device.flat_map(|kind| kind.ethtool().map(|(_, counter)| counter.name));
    let own = own.iter().copied().map(name(false));
    Iterator::chain(own, of_device.map(name(true)))
}

/// Puts what a device counts of a queue where it belongs, behind `own` numbers of the driver.
fn put(numbers: &mut Statistics<'_>, kinds: Kinds, reply: &Reply<'_>) {
    let (row, own) = match reply.queue {
        Queue::Receive(pair) => (numbers.rx(pair.into()), RECEIVE_NAMES.len()),
        Queue::Transmit(pair) => (numbers.tx(pair.into()), TRANSMIT_NAMES.len()),
        Queue::Control => (numbers.control(), 0),
    };
    let Some(place) = kinds.ethtool_place(reply.kind, reply.queue) else {
        return;
    };
    let room = row.get_mut(own + place..).unwrap_or_default();
    for (number, (at, _)) in room.iter_mut().zip(reply.kind.ethtool()) {
        *number = reply.counter(at).unwrap_or_default();
    }
}

impl Interface {
    /// What the device counts.
    fn counted(&self) -> Kinds {
        Kinds::of_device(self.counted.load(Relaxed))
    }

    /// Asks the device what it counts.  Under the RTNL lock, or before anybody else sees the interface;
    /// sleeps.
    ///
    /// # Errors
    ///
    /// Those of the control queue; it counts nothing then.
    pub(crate) fn look_at_statistics(&self, control: &Control) -> Result {
        let mut answer = [0; 8];
        let asked = control.ask(CtrlHdr::STATS_QUERY, &[], &mut answer);
        let kinds = asked.as_ref().map_or(0, |_| u64::from_le_bytes(answer));
        self.counted.store(kinds, Relaxed);
        asked.map(drop)
    }

    /// Asks the device for `kinds` of `queues`, and shows each reply to `show`.  Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and those of the control queue.
    fn ask_for_statistics(
        &self,
        kinds: Kinds,
        queues: impl Iterator<Item = Queue>,
        mut show: impl FnMut(&Reply<'_>),
    ) -> Result {
        let Some(control) = self.control.as_ref().filter(|_| !kinds.is_empty()) else {
            return Ok(());
        };
        let pairs = self.pairs.len() as u16;
        let mut queues = queues.filter_map(|queue| {
            let kinds = kinds.of_queue(queue);
            let index = queue.index(pairs).filter(|_| !kinds.is_empty())?;
            Some((request(index, kinds), kinds.reply_size()))
        });
        let mut data = KVec::with_capacity(QUEUES_AT_ONCE * REQUEST_SIZE, GFP_KERNEL)?;
        loop {
            data.clear();
            let mut room = 0;
            for (request, size) in queues.by_ref().take(QUEUES_AT_ONCE) {
                data.extend_from_slice(&request, GFP_KERNEL)?;
                room += size;
            }
            if room == 0 {
                return Ok(());
            }
            let mut answer = KVec::from_elem(0, room, GFP_KERNEL)?;
            let written = control.ask(CtrlHdr::STATS_GET, &data, &mut answer)?;
            for reply in Replies::new(answer.get(..written).unwrap_or_default(), pairs) {
                match reply {
                    Ok(reply) => show(&reply),
                    Err(_) => control.complain(CtrlHdr::STATS_GET),
                }
            }
        }
    }

    /// For sysfs.
    pub(crate) fn rx_buffer_size(&self, index: usize) -> u32 {
        let pair = self.pairs.get(index);
        pair.map_or(0, |pair| pair.rx_statistics.buffer_size.load(Relaxed))
    }

    pub(crate) fn statistic_names(&self, kind: QueueKind) -> impl Iterator<Item = StatisticName> {
        names(self.counted(), kind)
    }

    /// For ethtool.  Under the RTNL lock; sleeps.
    pub(crate) fn show_statistics(&self, numbers: &mut Statistics<'_>) {
        let in_use = numbers.queues();
        for (index, pair) in self.pairs.iter().enumerate().take(in_use) {
            let own = pair.rx_statistics.show();
            iter::zip(numbers.rx(index), own).for_each(|(to, from)| *to = from);
            let own = pair.tx_statistics.show();
            iter::zip(numbers.tx(index), own).for_each(|(to, from)| *to = from);
        }
        let kinds = self.counted();
        let pairs = 0..in_use as u16;
        let queues = pairs.flat_map(|pair| [Queue::Receive(pair), Queue::Transmit(pair)]);
        let queues = Iterator::chain(queues, [Queue::Control]);
        // What failed was said.
        let _ = self.ask_for_statistics(kinds.for_ethtool(), queues, |reply| {
            put(numbers, kinds, reply);
        });
    }

    /// What the device counts of one queue, for netlink.  Sleeps.
    fn show_queue(&self, queue: Queue, mut set: impl FnMut(&str, u64) -> bool) {
        let kinds = self.counted().for_queues();
        // What failed was said.
        let _ = self.ask_for_statistics(kinds, iter::once(queue), |reply| {
            if reply.queue != queue {
                return;
            }
            for (at, name) in reply.kind.queue_counters() {
                if let Some(value) = reply.counter(at) {
                    set(name, value);
                }
            }
        });
    }

    /// For netlink.  Under the RTNL lock; sleeps.
    pub(crate) fn show_rx_queue(&self, index: usize, numbers: &mut RxQueueStatistics) {
        if let Some(pair) = self.pairs.get(index) {
            self.show_queue(Queue::Receive(index as u16), |name, value| {
                numbers.set(name, value)
            });
            numbers.set("packets", pair.rx_statistics.packets.get());
            numbers.set("bytes", pair.rx_statistics.bytes.get());
        }
    }

    /// As [`Interface::show_rx_queue`].
    pub(crate) fn show_tx_queue(&self, index: usize, numbers: &mut TxQueueStatistics) {
        if let Some(pair) = self.pairs.get(index) {
            self.show_queue(Queue::Transmit(index as u16), |name, value| {
                numbers.set(name, value)
            });
            let own = &pair.tx_statistics;
            numbers.set("packets", own.packets.get());
            numbers.set("bytes", own.bytes.get());
            numbers.set("stop", own.stops.get());
            numbers.set("wake", own.wakes.get());
        }
    }

    /// Nothing of all that is counted, since queues stay.
    pub(crate) fn show_base(&self, rx: &mut RxQueueStatistics, tx: &mut TxQueueStatistics) {
        for name in ["packets", "bytes"] {
            rx.set(name, 0);
            tx.set(name, 0);
        }
        for name in ["stop", "wake"] {
            tx.set(name, 0);
        }
        for kind in self.counted().iter() {
            for (_, name) in kind.queue_counters() {
                if kind.is_of(Queue::Receive(0)) {
                    rx.set(name, 0);
                } else {
                    tx.set(name, 0);
                }
            }
        }
    }
}

#[kunit_tests(virtio_net_statistics)]
mod tests {
    use super::*;
    use virtio_spec::net::stats::Kind;

    #[test]
    fn names_of_the_driver_come_before_those_of_the_device() {
        let mut some = names(Kinds::EMPTY.with(Kind::RxCsum), QueueKind::Rx).skip(5);
        let kicks = StatisticName {
            of_device: false,
            name: "kicks",
        };
        let needs_csum = StatisticName {
            of_device: true,
            name: "needs_csum",
        };
        assert!(some.next() == Some(kicks) && some.next() == Some(needs_csum));
        assert!(some.next().is_none());
        assert_eq!(names(Kinds::EMPTY, QueueKind::Tx).count(), 4);
        assert_eq!(names(Kinds::EMPTY, QueueKind::Control).count(), 0);
    }
}
