// SPDX-License-Identifier: GPL-2.0

//! A transmit queue: packets on their way to the device, and back to be freed.
//!
//! C source: `start_xmit`, `xmit_skb`, `virtnet_poll_tx` in `drivers/net/virtio_net.c`.

use crate::{
    operations::Operations,
    statistics::TxStatistics, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};
use netdev::{
    Outgoing,
    Poll,
    Polled,
    Polling,
    SkBuff,
    TxOutcome,
    MAX_FRAGS, //
};
use virtio::{
    packets::{
        PacketQueue,
        Suppressor, //
    },
    queue::{
        AddErrorKind,
        CbState,
        RingErrorKind, //
    },
};
use virtio_spec::net::header::Layout;

pub(crate) type Queue = PacketQueue<Outgoing>;

/// Descriptors of a packet at most: its pieces, its linear part, its header.
pub(crate) const MAX_PIECES: u16 = MAX_FRAGS as u16 + 2;

/// Free descriptors below which the stack holds packets back.
const ENOUGH: u32 = MAX_PIECES as u32;

pub(crate) type TxGuard<'a> = netdev::TxGuard<'a, Operations>;

/// What is kept of a transmit queue, under the stack's lock.
pub(crate) struct Tx {
    /// `None` while the device is reset.
    pub(crate) queue: Option<Queue>,
    pub(crate) statistics: Arc<TxStatistics>,
    layout: Layout,
    /// The device takes header and packet in one piece.
    any_layout: bool,
}

/// Why a packet was not taken.
enum Refused {
    /// When another one was sent, there is room.
    Full(SkBuff),
    /// It cannot be sent.
    Never,
}

impl Tx {
    pub(crate) fn new(
        queue: Queue,
        statistics: Arc<TxStatistics>,
        layout: Layout,
        any_layout: bool,
    ) -> Self {
        Self {
            queue: Some(queue),
            statistics,
            layout,
            any_layout,
        }
    }

    /// Puts a packet into the virtqueue.
    #[inline]
    fn submit(&mut self, mut skb: SkBuff) -> Result<(), Refused> {
        let queue = self.queue.as_mut().ok_or(Refused::Never)?;
        skb.flatten().map_err(|_| Refused::Never)?;
        let offload = skb.offload().map_err(|_| Refused::Never)?;
        let header = self.layout.write(&offload).map_err(|_| Refused::Never)?;
        let outgoing =
            Outgoing::new(skb, header.as_bytes(), self.any_layout).map_err(|_| Refused::Never)?;
        queue.add(outgoing).map_err(|error| match error.kind {
            AddErrorKind::Ring(RingErrorKind::Full) => Refused::Full(error.buffer.into_skb()),
            _ => Refused::Never,
        })
    }

    /// Makes what was added visible to the device, and tells it.
    #[inline]
    fn kick(&mut self) {
        if let Some(notification) = self.queue.as_mut().and_then(Queue::kick) {
            notification.send();
            self.statistics.kicks.add(1);
        }
    }

    /// Asks for an interrupt when most was sent; whether it was already.
    #[inline]
    fn arm(&mut self) -> bool {
        self.queue
            .as_mut()
            .is_some_and(|queue| queue.enable_callbacks_delayed() == CbState::MorePending)
    }
}

/// Sends a packet.  `poll` has the queue polled.
#[inline]
pub(crate) fn start_xmit(
    mut tx: TxGuard<'_>,
    mut skb: SkBuff,
    more: bool,
    poll: impl FnOnce(),
) -> TxOutcome {
    if let Some(queue) = &mut tx.queue {
        queue.disable_callbacks();
    }
    skb.timestamp();
    let bytes = skb.len();
    let (outcome, tell) = match tx.submit(skb) {
        Ok(()) => {
            if tx
                .queue
                .as_ref()
                .is_some_and(|queue| queue.num_free() < ENOUGH)
            {
                tx.stop();
            }
            (TxOutcome::Sent, tx.sent(bytes, more))
        }
        Err(Refused::Full(skb)) => {
            tx.stop();
            (TxOutcome::Busy(skb), true)
        }
        Err(Refused::Never) => {
            tx.statistics.fifo_errors.add(1);
            tx.statistics.drops.add(1);
            // Those before it do not wait for one that does not come.
            (TxOutcome::Dropped, !more)
        }
    };
    if tell {
        tx.kick();
        if tx.arm() {
            poll();
        }
    }
    outcome
}

/// Frees what was sent, and has the stack go on if there is room again.
#[inline]
pub(crate) fn clean(tx: &mut TxGuard<'_>, polling: &Polling<'_, Operations>) {
    let (mut packets, mut bytes) = (0_u32, 0_u64);
    while let Some((outgoing, _)) = tx.queue.as_mut().and_then(Queue::get) {
        let skb = outgoing.into_skb();
        packets = packets.wrapping_add(1);
        bytes = bytes.wrapping_add(skb.len().into());
        polling.consume(skb);
    }
    if packets != 0 {
        tx.statistics.packets.add(packets.into());
        tx.statistics.bytes.add(bytes);
        // What the stack told of is less.
        tx.completed(packets, bytes as u32);
    }
    if tx
        .queue
        .as_ref()
        .is_some_and(|queue| queue.num_free() >= ENOUGH)
    {
        tx.wake();
    }
}

/// Frees what was sent, from the poll of the receive queue: most is then, and its interrupt is saved.
#[inline]
pub(crate) fn clean_along(index: usize, polling: &Polling<'_, Operations>) {
    let Some(mut tx) = polling.try_lock_tx(index) else {
        return;
    };
    loop {
        let Some(queue) = &mut tx.queue else {
            return;
        };
        if queue.in_flight() == 0 {
            return;
        }
        queue.disable_callbacks();
        clean(&mut tx, polling);
        if !tx.arm() {
            return;
        }
    }
}

/// What polls a transmit queue.
pub(crate) struct TxPoll {
    pub(crate) index: usize,
}

impl Poll<Operations> for TxPoll {
    type Suppress = Option<Suppressor>;

    fn poll(&mut self, polling: &Polling<'_, Operations>) -> Polled<Option<Suppressor>> {
        let Some(mut tx) = polling.lock_tx(self.index) else {
            return Polled::Idle(0, None);
        };
        match &mut tx.queue {
            Some(queue) => queue.disable_callbacks(),
            None => return Polled::Idle(0, None),
        }
        clean(&mut tx, polling);
        match &mut tx.queue {
            Some(queue) if polling.budget() != 0 => match queue.enable_callbacks() {
                CbState::MorePending => Polled::Again,
                CbState::Armed => Polled::Idle(0, Some(queue.suppressor())),
            },
            _ => Polled::Again,
        }
    }
}
