// SPDX-License-Identifier: GPL-2.0

//! How many descriptors queues have, while they work (specification 2.6.1).
//!
//! C source: `virtnet_set_ringparam`, `virtnet_rx_resize`, `virtnet_tx_resize` in
//! `drivers/net/virtio_net.c`.  There queues that were changed before one fails stay so, a reset forgets
//! all of it, and what single queues were told of coalescing is lost.

use crate::{
    interface::{
        Interface,
        Pair, //
    },
    transmit::MAX_PIECES,
    transmit_xsk::dispose, //
};
use kernel::{
    prelude::*,
    sync::atomic::Relaxed, //
};
use netdev::Rings;
use virtio_spec::net::payload::Queue;

impl Interface {
    /// For ethtool.
    pub(crate) fn rings(&self) -> Rings {
        Rings {
            rx: self.rx_size.load(Relaxed),
            tx: self.tx_size.load(Relaxed),
            ..self.first_rings
        }
    }

    /// Has each queue to receive have `rx` descriptors, and each to send `tx`: packets in them are lost.
    /// Under the RTNL lock; sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL` for sizes that cannot be, `ENOENT` if queues of the device cannot be reset alone,
    /// `ENOMEM`: they are as long as before then.  Others if the device fails, which is recovered.
    pub(crate) fn set_rings(&self, rx: u32, tx: u32) -> Result {
        let before = self.rings();
        if tx != before.tx && tx <= MAX_PIECES.into() {
            // Not even one packet has room for sure.
            return Err(EINVAL);
        }
        let resized = self.resize((before.rx, rx), (before.tx, tx));
        if self.steers() {
            for pair in &self.pairs {
                pair.rx.with_paused(|rx, _| rx.renotify());
            }
        }
        resized?;
        self.rx_size.store(rx, Relaxed);
        self.tx_size.store(tx, Relaxed);
        Ok(())
    }

    /// Has the queues of a device that was reset be as long as before; if they cannot, they are as long
    /// as those of a new one.  Under the RTNL lock, while it is not used; sleeps.
    pub(crate) fn replay_rings(&self) {
        let Rings { rx, tx, .. } = self.rings();
        let first = self.first_rings;
        if self.resize((first.rx, rx), (first.tx, tx)).is_err() {
            self.rx_size.store(first.rx, Relaxed);
            self.tx_size.store(first.tx, Relaxed);
        }
    }

    /// Resizes all queues, from the first size to the second; if that fails, back.
    fn resize(&self, rx: (u32, u32), tx: (u32, u32)) -> Result {
        let changes = |(from, to)| (from != to).then_some(to);
        self.resize_to(changes(rx), changes(tx)).inspect_err(|_| {
            let back = |(from, to)| (from != to).then_some(from);
            // Those that have that size are left alone.  What fails now was said.
            let _ = self.resize_to(back(rx), back(tx));
        })
    }

    /// Resizes all queues, up to the first error.
    fn resize_to(&self, rx: Option<u32>, tx: Option<u32>) -> Result {
        for (index, pair) in self.pairs.iter().enumerate() {
            if let Some(size) = tx {
                self.resize_tx(index, pair, size)?;
            }
            if let Some(size) = rx {
                self.resize_rx(index, pair, size)?;
            }
        }
        Ok(())
    }

    pub(crate) fn complain(&self, way: &str, index: usize, error: Error) {
        dev_err!(
            self.device,
            "{way} queue {index} cannot be reset: {error:?}\n"
        );
    }

    /// Tells the device again what it was told of a queue that was reset.
    fn tell_again(&self, queue: Queue) -> Result {
        self.coalescer
            .as_ref()
            .map_or(Ok(()), |coalescer| coalescer.replay_one(queue))
    }

    fn resize_rx(&self, index: usize, pair: &Pair, size: u32) -> Result {
        let resized = pair.rx.with_paused(|rx, _| rx.resize(size));
        resized.unwrap_or(Err(EBUSY)).inspect_err(|error| {
            self.complain("rx", index, *error);
        })?;
        self.tell_again(Queue::Receive(index as u16))
    }

    fn resize_tx(&self, index: usize, pair: &Pair, size: u32) -> Result {
        let resized = self.with_tx_apart(
            index,
            pair,
            |queue, frames| queue.resize(size, dispose(frames)),
            |_, _| (),
        );
        resized.inspect_err(|error| {
            self.complain("tx", index, *error);
        })?;
        self.tell_again(Queue::Transmit(index as u16))
    }

    /// Tells the device again what it was told of a pair of queues that was reset.
    pub(crate) fn tell_both_again(&self, index: usize) {
        for queue in [Queue::Transmit(index as u16), Queue::Receive(index as u16)] {
            // What fails was said.
            let _ = self.tell_again(queue);
        }
    }
}
