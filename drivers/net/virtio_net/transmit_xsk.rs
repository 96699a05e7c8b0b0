// SPDX-License-Identifier: GPL-2.0

//! Frames of sockets in a transmit queue.
//!
//! C source: `virtnet_xsk_xmit`, `virtnet_xsk_completed` in `drivers/net/virtio_net.c`.  There who takes
//! frames back outside of the queue's own poll has that scheduled; here it sends what sockets have next.

use crate::transmit::{
    leave_room,
    Tx,
    TxGuard, //
};
use kernel::prelude::*;
use netdev::{
    Outgoing,
    Sent, //
};

/// Descriptors of a frame, if it has no table: its header and itself.
const PIECES: u32 = 2;

/// Frames that are sent at most by who has taken some back.
const BATCH: u32 = 64;

impl Tx {
    /// Puts at most `max` frames of sockets into the virtqueue, and tells the device; how many.
    fn submit_socket_frames(&mut self, max: u32) -> u32 {
        let (Some(xsk), Some(queue)) = (&mut self.xsk, &mut self.queue) else {
            return 0;
        };
        if queue.is_broken() {
            return 0;
        }
        let sent = xsk.send(max.min(queue.room(PIECES)), |frame| {
            let added = queue.add(Outgoing::socket(frame));
            // The sockets have a frame that was not taken back with those behind it.
            added.map_err(|_| EIO)
        });
        if sent != 0 {
            self.statistics.xdp_tx.add(sent.into());
            self.kick();
        }
        sent
    }

    /// Takes what the device has not sent out of a queue that is empty now.
    pub(crate) fn give_back(&mut self, frames: u32) {
        if let Some(xsk) = &mut self.xsk {
            xsk.completed(frames);
        }
    }
}

/// Counts what is of sockets in `frames`, and frees everything else.
pub(crate) fn dispose(frames: &mut u32) -> impl FnMut(Outgoing) + use<'_> {
    |outgoing| {
        if let Sent::Socket(_) = outgoing.into_sent() {
            *frames += 1;
        }
    }
}

/// Gives so many frames back to their sockets, and sends what they have next.
pub(crate) fn completed(tx: &mut TxGuard<'_>, frames: u32) {
    if frames != 0 {
        tx.give_back(frames);
        send(tx, BATCH);
    }
}

/// Sends what sockets have, at most so many frames.  True if there may be more.
pub(crate) fn send(tx: &mut TxGuard<'_>, budget: u32) -> bool {
    if tx.xsk.is_none() {
        return false;
    }
    let sent = tx.submit_socket_frames(budget);
    if sent != 0 {
        // The stack's watchdog knows of none of them.
        tx.touch();
        leave_room(tx);
    }
    if let Some(xsk) = &mut tx.xsk {
        xsk.ask_for_wakeup();
    }
    sent != 0 && sent >= budget
}
