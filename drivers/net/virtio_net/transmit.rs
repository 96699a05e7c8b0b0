// SPDX-License-Identifier: GPL-2.0

//! A transmit queue: packets on their way to the device, and back to be freed.
//!
//! C source: `start_xmit`, `xmit_skb`, `virtnet_poll_tx`, `__virtnet_xdp_xmit_one` in
//! `drivers/net/virtio_net.c`.

use crate::{
    operations::Operations,
    statistics::TxStatistics,
    transmit_xsk, //
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
    Sent,
    SkBuff,
    TxOutcome,
    XdpFrame,
    XdpFrames,
    XskTx,
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
    /// The device interrupts when packets were sent; else the next one that is sent frees them, and they
    /// belong to nobody meanwhile (C: `napi_tx`).
    interrupts: bool,
    /// Frames of programs that the device has.
    frames: u32,
    /// What sockets send through the queue too.
    pub(crate) xsk: Option<XskTx>,
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
        interrupts: bool,
        layout: Layout,
        any_layout: bool,
    ) -> Self {
        Self {
            queue: Some(queue),
            statistics,
            interrupts,
            frames: 0,
            xsk: None,
            layout,
            any_layout,
        }
    }

    /// Puts a packet into the virtqueue.
    #[inline(always)]
    fn submit(&mut self, skb: SkBuff) -> Result<(), Refused> {
        let outgoing = match Outgoing::plain(skb, self.layout.size() as u32, self.any_layout) {
            Ok(outgoing) => outgoing,
            Err(skb) => self.prepare(skb)?,
        };
        let queue = self.queue.as_mut().ok_or(Refused::Never)?;
        queue.add(outgoing).map_err(|error| match error.kind {
            AddErrorKind::Ring(RingErrorKind::Full) => match error.buffer.into_sent() {
                Sent::Packet(skb) => Refused::Full(skb),
                Sent::Frame(_) | Sent::Socket(_) => Refused::Never,
            },
            _ => Refused::Never,
        })
    }

    /// Puts a header before a packet that may ask for something.
    #[inline(never)]
    fn prepare(&self, mut skb: SkBuff) -> Result<Outgoing, Refused> {
        skb.flatten().map_err(|_| Refused::Never)?;
        let offload = skb.offload().map_err(|_| Refused::Never)?;
        let header = self.layout.write(&offload).map_err(|_| Refused::Never)?;
        Outgoing::new(skb, header.as_bytes(), self.any_layout).map_err(|_| Refused::Never)
    }

    /// Puts a frame into the virtqueue.
    ///
    /// # Errors
    ///
    /// The frame, if there is no room, in the queue or before it; none if it is gone.
    fn submit_frame(&mut self, frame: XdpFrame) -> Result<(), Option<XdpFrame>> {
        let Some(queue) = &mut self.queue else {
            return Err(Some(frame));
        };
        let outgoing = Outgoing::frame(frame, self.layout.size() as u32, self.any_layout)?;
        queue
            .add(outgoing)
            .map_err(|error| match error.buffer.into_sent() {
                Sent::Frame(frame) => Some(frame),
                Sent::Packet(_) | Sent::Socket(_) => None,
            })?;
        self.frames = self.frames.saturating_add(1);
        Ok(())
    }

    /// Makes what was added visible to the device, and tells it.
    #[inline]
    pub(crate) fn kick(&mut self) {
        if let Some(notification) = self.queue.as_mut().and_then(Queue::kick) {
            notification.send();
            self.statistics.kicks.add(1);
        }
    }

    /// Whether so little room is left that the stack is to hold packets back.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.queue
            .as_ref()
            .is_some_and(|queue| queue.num_free() < ENOUGH)
    }

    /// Whether the device interrupts when packets were sent.
    pub(crate) fn interrupts(&self) -> bool {
        self.interrupts
    }

    /// Whether the device is to interrupt when what it has was sent.  Frames do not wait for a packet
    /// that comes later: they are pages of a pool, perhaps of another driver, or a socket waits for them.
    #[inline]
    fn wants_interrupts(&self) -> bool {
        self.interrupts || self.frames != 0 || self.xsk.is_some()
    }

    /// Whether the device has nothing.
    #[inline]
    fn is_idle(&mut self) -> bool {
        self.queue
            .as_mut()
            .is_none_or(|queue| queue.in_flight() == 0)
    }

    /// Counts frames, and those of them that were not sent.
    fn count_frames(&self, all: u64, left: u64) {
        self.statistics.xdp_tx.add(all);
        self.statistics.xdp_tx_drops.add(left);
    }

    /// Asks for no interrupts.
    #[inline]
    fn disarm(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.disable_callbacks();
        }
    }

    /// Asks for an interrupt when most was sent, or anything for a socket; whether it was already.
    #[inline]
    fn arm(&mut self) -> bool {
        let Some(queue) = &mut self.queue else {
            return false;
        };
        let state = match self.xsk {
            Some(_) => queue.enable_callbacks(),
            None => queue.enable_callbacks_delayed(),
        };
        state == CbState::MorePending
    }
}

/// Has the stack hold packets back.
#[cold]
pub(crate) fn hold_back(tx: &mut TxGuard<'_>) {
    tx.stop();
    tx.statistics.stops.add(1);
}

/// Has the stack go on if it holds packets back.
#[inline]
pub(crate) fn go_on(tx: &mut TxGuard<'_>) {
    if tx.wake() {
        tx.statistics.wakes.add(1);
    }
}

/// The device has nothing any more, and the stack waits for nothing.
pub(crate) fn forget(tx: &mut TxGuard<'_>) {
    tx.reset();
    tx.frames = 0;
}

/// Sends a packet.
#[inline]
pub(crate) fn start_xmit(mut tx: TxGuard<'_>, mut skb: SkBuff, more: bool) -> TxOutcome {
    if !tx.interrupts {
        return start_xmit_orphan(tx, skb, more);
    }
    tx.disarm();
    skb.timestamp();
    let bytes = skb.len();
    let (outcome, tell) = match tx.submit(skb) {
        Ok(()) => {
            if tx.is_full() {
                hold_back(&mut tx);
            }
            (TxOutcome::Sent, tx.sent(bytes, more))
        }
        Err(Refused::Full(skb)) => {
            // It is full of frames.
            tx.touch();
            hold_back(&mut tx);
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
        kick_and_arm(&mut tx);
    }
    outcome
}

/// Sends a packet through a queue without interrupts, but for the one that says that there is room
/// again.  The stack's limit of what may be on its way does not know of it.
#[inline(never)]
fn start_xmit_orphan(mut tx: TxGuard<'_>, mut skb: SkBuff, more: bool) -> TxOutcome {
    tx.disarm();
    clean(&mut tx, 0);
    skb.timestamp();
    skb.orphan();
    let (outcome, tell) = match tx.submit(skb) {
        Ok(()) => (TxOutcome::Sent, !more),
        Err(Refused::Full(skb)) => {
            // It is full of frames.
            tx.touch();
            (TxOutcome::Busy(skb), true)
        }
        Err(Refused::Never) => {
            tx.statistics.fifo_errors.add(1);
            tx.statistics.drops.add(1);
            (TxOutcome::Dropped, !more)
        }
    };
    if tell || tx.is_full() {
        tx.kick();
    }
    if tx.is_full() {
        hold_back(&mut tx);
    }
    // Has the stack go on if that is true no more, and frees frames that were sent.
    while (tx.is_full() || tx.wants_interrupts()) && tx.arm() {
        tx.disarm();
        clean(&mut tx, 0);
    }
    outcome
}

/// Has a queue work with interrupts, or without; the interface is down.
///
/// # Errors
///
/// `EBUSY` if the device still has packets of which the stack's limit does not know.
pub(crate) fn set_interrupts(tx: &mut TxGuard<'_>, on: bool) -> Result {
    clean(tx, 0);
    if on && !tx.interrupts && !tx.is_idle() {
        return Err(EBUSY);
    }
    if tx.interrupts != on {
        tx.reset();
        tx.interrupts = on;
    }
    Ok(())
}

/// Tells the device of what was added, and asks for an interrupt when most was sent.
#[inline]
fn kick_and_arm(tx: &mut TxGuard<'_>) {
    tx.kick();
    // A device that sends at once needs no poll.
    while tx.arm() {
        tx.disarm();
        clean(tx, 0);
        if tx.is_idle() {
            break;
        }
    }
}

/// Sends frames, of this interface or of others: as many as there is room for.
pub(crate) fn send_frames(mut tx: TxGuard<'_>, frames: &mut XdpFrames<'_>, flush: bool) {
    tx.disarm();
    clean(&mut tx, 0);
    frames.send(|frame| match tx.submit_frame(frame) {
        // What cannot come back is gone, and none of the caller's.
        Ok(()) | Err(None) => Ok(()),
        Err(Some(frame)) => Err(frame),
    });
    let left = frames.count().saturating_sub(frames.sent());
    tx.count_frames(frames.count() as u64, left as u64);
    leave_room(&mut tx);
    if flush {
        kick_and_arm(&mut tx);
    }
}

/// Sends a frame of this interface, or drops it if there is no room.  [`flush_frames`] is to follow.
pub(crate) fn send_frame(mut tx: TxGuard<'_>, frame: XdpFrame) {
    tx.disarm();
    if tx.is_full() {
        clean(&mut tx, 0);
    }
    let sent = tx.submit_frame(frame).is_ok();
    tx.count_frames(1, u64::from(!sent));
    leave_room(&mut tx);
}

/// Has the stack hold packets back if frames have left it no room.
pub(crate) fn leave_room(tx: &mut TxGuard<'_>) {
    if tx.is_full() {
        // Its watchdog knows of no frames.
        tx.touch();
        hold_back(tx);
    }
}

/// Tells the device of what [`send_frame`] has added.
pub(crate) fn flush_frames(mut tx: TxGuard<'_>) {
    kick_and_arm(&mut tx);
}

/// Frees what was sent, and has the stack go on if there is room again.  `budget` is that of the poll,
/// or 0.
#[inline]
fn clean(tx: &mut TxGuard<'_>, budget: u32) {
    let (mut packets, mut bytes) = (0_u32, 0_u64);
    let (mut frames, mut frame_bytes) = (0_u32, 0_u64);
    let mut of_sockets = 0;
    let Some(queue) = &mut tx.queue else {
        return;
    };
    while queue.in_flight() != 0 {
        let Some((outgoing, _)) = queue.get() else {
            break;
        };
        let skb = match outgoing.into_sent() {
            Sent::Packet(skb) => skb,
            Sent::Frame(frame) => {
                frames += 1;
                frame_bytes += u64::from(frame.len());
                continue;
            }
            Sent::Socket(frame) => {
                of_sockets += 1;
                frame_bytes += u64::from(frame.len());
                continue;
            }
        };
        packets = packets.wrapping_add(1);
        bytes = bytes.wrapping_add(skb.len().into());
        skb.consume(budget);
    }
    let has_room = queue.num_free() >= ENOUGH;
    if packets != 0 {
        tx.statistics.packets.add(packets.into());
        tx.statistics.bytes.add(bytes);
        if tx.interrupts {
            // What the stack told of is less.
            tx.completed(packets, bytes as u32);
        }
    }
    if frames | of_sockets != 0 {
        // Of these the stack was not told.
        tx.frames = tx.frames.saturating_sub(frames);
        tx.statistics.packets.add((frames + of_sockets).into());
        tx.statistics.bytes.add(frame_bytes);
    }
    if has_room {
        go_on(tx);
    }
    // These take the room again.
    transmit_xsk::completed(tx, of_sockets);
}

/// Frees what was sent, from the poll of the receive queue: most is then, and its interrupt is saved.
#[inline]
pub(crate) fn clean_along(index: usize, polling: &Polling<'_, Operations>) {
    let Some(mut tx) = polling.try_lock_tx(index) else {
        return;
    };
    loop {
        if !tx.wants_interrupts() || tx.is_idle() {
            return;
        }
        tx.disarm();
        clean(&mut tx, polling.budget());
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

    #[inline]
    fn poll(&mut self, polling: &Polling<'_, Operations>) -> Polled<Option<Suppressor>> {
        let Some(mut tx) = polling.lock_tx(self.index) else {
            return Polled::Idle(0, None);
        };
        match &mut tx.queue {
            Some(queue) => queue.disable_callbacks(),
            None => return Polled::Idle(0, None),
        }
        clean(&mut tx, polling.budget());
        if transmit_xsk::send(&mut tx, polling.budget()) {
            return Polled::Again;
        }
        if !tx.wants_interrupts() {
            return match tx.is_full() && tx.arm() {
                true => Polled::Again,
                false => Polled::Idle(0, None),
            };
        }
        match &mut tx.queue {
            Some(queue) if polling.budget() != 0 => match queue.enable_callbacks() {
                CbState::MorePending => Polled::Again,
                CbState::Armed => Polled::Idle(0, Some(queue.suppressor())),
            },
            _ => Polled::Again,
        }
    }
}
