// SPDX-License-Identifier: GPL-2.0

//! A receive queue: buffers on their way to the device, packets on their way to the stack.
//!
//! C source: `virtnet_poll`, `receive_buf`, `receive_mergeable`, `receive_small`, `try_fill_recv` in
//! `drivers/net/virtio_net.c`.

use crate::{
    average::Average,
    operations::Operations,
    statistics::RxStatistics,
    transmit, //
};
use kernel::{
    device,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};
use netdev::{
    Assembly,
    Memory,
    Poll,
    Polled,
    Polling,
    PoolBuffer,
    SkBuff,
    ETH_HLEN,
    IP_ALIGN,
    RX_PAD,
    SHARED_INFO_ROOM, //
};
use virtio::{
    packets::{
        PacketQueue,
        Suppressor, //
    },
    queue::CbState,
};
use virtio_spec::net::header::{
    self,
    Header,
    Layout,
    ETH_HLEN as MIN_PACKET, //
};

pub(crate) type Queue = PacketQueue<PoolBuffer>;

/// Bytes of a packet that no device needs to be asked for: Ethernet header, VLAN tag and 1500.
const GOOD_PACKET_LEN: u32 = ETH_HLEN + 4 + 1500;

/// Bytes of a packet up to which it is copied, so that its buffer can be used again at once.
const GOOD_COPY_LEN: u32 = 128;

/// Bytes of a page, and so of a buffer at most.
const PAGE_SIZE: u32 = kernel::page::PAGE_SIZE as u32;

/// How packets are received.
#[derive(Clone, Copy)]
enum Mode {
    /// A packet has as many buffers as it needs, which are at least that long.
    Mergeable { least: u32 },
    /// A packet has one buffer, into which 1500 bytes fit.
    Small,
}

/// What is kept of a receive queue, by its poll.
pub(crate) struct Rx {
    /// `None` while the device is reset.
    queue: Option<Queue>,
    index: u16,
    layout: Layout,
    little_endian: bool,
    mode: Mode,
    average: Average,
    statistics: Arc<RxStatistics>,
}

/// What a poll counts.
#[derive(Default)]
struct Round {
    packets: u32,
    bytes: u64,
    drops: u64,
    length_errors: u64,
    frame_errors: u64,
}

impl Rx {
    /// For packets of at most `longest` bytes, headers of Ethernet included.
    pub(crate) fn new(
        queue: Queue,
        index: u16,
        layout: Layout,
        little_endian: bool,
        longest: u32,
        statistics: Arc<RxStatistics>,
    ) -> Self {
        let mode = if layout.merges() {
            // A ring full of buffers is to have room for one packet.
            let share = longest.div_ceil(queue.num_free().max(1));
            Mode::Mergeable {
                least: share.max(GOOD_PACKET_LEN),
            }
        } else {
            Mode::Small
        };
        Self {
            queue: Some(queue),
            index,
            layout,
            little_endian,
            mode,
            average: Average::new(),
            statistics,
        }
    }

    /// Puts the queue of a device that is back in place, or takes that of one that was reset.
    pub(crate) fn replace(&mut self, queue: Option<Queue>) -> Option<Queue> {
        core::mem::replace(&mut self.queue, queue)
    }

    /// The device for which the pool of buffers is to map them.
    pub(crate) fn dma_device(&self) -> Option<ARef<device::Device>> {
        self.queue.as_ref()?.dma_device().map(ARef::from)
    }

    fn header_len(&self) -> u32 {
        self.layout.size() as u32
    }

    /// Makes a buffer for the device.
    #[inline]
    fn make(&self, memory: &Memory<'_>, may_sleep: bool) -> Option<PoolBuffer> {
        let header = self.header_len();
        match self.mode {
            Mode::Mergeable { least } => {
                let most = PAGE_SIZE.saturating_sub(header);
                let len = self.average.get().max(least).min(most);
                memory.alloc(len + header, may_sleep)
            }
            Mode::Small => {
                let len = header + GOOD_PACKET_LEN;
                let room = (RX_PAD + len).next_multiple_of(64) + SHARED_INFO_ROOM;
                let mut buffer = memory.alloc(room, may_sleep)?;
                buffer.lend(RX_PAD, len);
                Some(buffer)
            }
        }
    }

    /// Gives the device as many buffers as it takes, and tells it of all at once.  False if there was
    /// no memory.
    pub(crate) fn fill(&mut self, memory: &Memory<'_>, may_sleep: bool) -> bool {
        let mut enough = true;
        while self
            .queue
            .as_ref()
            .is_some_and(|queue| queue.num_free() != 0)
        {
            let Some(buffer) = self.make(memory, may_sleep) else {
                enough = false;
                break;
            };
            let Some(queue) = &mut self.queue else {
                break;
            };
            if queue.add(buffer).is_err() {
                // It is not to be mapped, which passes, or the queue is broken, and filled anew.
                enough = queue.is_broken();
                break;
            }
        }
        if let Some(notification) = self.queue.as_mut().and_then(Queue::kick) {
            notification.send();
            self.statistics.kicks.add(1);
        }
        enough
    }

    /// Whether so many descriptors are free that the device is to have more buffers.
    fn runs_low(&self, budget: u32) -> bool {
        self.queue
            .as_ref()
            .is_some_and(|queue| queue.num_free() > budget.min(queue.size()) / 2)
    }

    /// Takes a packet, which begins in `first`.
    #[inline]
    fn receive(
        &mut self,
        polling: &Polling<'_, Operations>,
        round: &mut Round,
        first: PoolBuffer,
        written: u32,
    ) {
        let offset = match self.mode {
            Mode::Mergeable { .. } => 0,
            Mode::Small => RX_PAD,
        };
        let Some(header) = self.read_header(&first, offset, written) else {
            round.length_errors += 1;
            polling.recycle(first);
            return;
        };
        let len = written.saturating_sub(self.header_len());
        round.bytes += u64::from(len);
        let start = offset + self.header_len();
        let skb = match self.mode {
            Mode::Mergeable { .. } => self.merge(polling, round, &header, first, start, len),
            Mode::Small => first.build(start, len).map_err(|buffer| {
                polling.recycle(buffer);
            }),
        };
        match skb {
            Ok(skb) => self.hand_over(polling, round, skb, &header),
            Err(()) => round.drops += 1,
        }
    }

    /// Copies the header that is at `offset` of a buffer.
    #[inline]
    fn read_header(&self, buffer: &PoolBuffer, offset: u32, written: u32) -> Option<Header> {
        let mut head = [0; header::MAX_SIZE];
        let head = head.get_mut(..self.layout.size())?;
        if !buffer.sync(offset, written) || !buffer.copy(offset, head) {
            return None;
        }
        self.layout.read(head, written).ok()
    }

    /// Puts a packet together whose first `len` bytes are in `first`, from `start` on.
    #[inline]
    fn merge(
        &mut self,
        polling: &Polling<'_, Operations>,
        round: &mut Round,
        header: &Header,
        first: PoolBuffer,
        start: u32,
        len: u32,
    ) -> Result<SkBuff, ()> {
        let Some(queue) = &mut self.queue else {
            return Err(());
        };
        // What the device has, and the first one.
        let most = queue.in_flight().saturating_add(1);
        let Ok(count) = header.num_buffers(most) else {
            round.length_errors += 1;
            polling.recycle(first);
            return Err(());
        };
        let mut rest = count.get() - 1;
        let begun = begin(polling, first, start, len);
        let skb = if rest == 0 {
            begun?
        } else {
            let mut assembly = begun.map(Assembly::new).ok();
            while rest != 0 {
                let Some((buffer, written)) = queue.get() else {
                    round.length_errors += 1;
                    assembly = None;
                    break;
                };
                rest -= 1;
                round.bytes += u64::from(written);
                let fits = written != 0 && buffer.sync(0, written);
                match assembly.as_mut().filter(|_| fits) {
                    Some(whole) => {
                        if let Err(buffer) = whole.append(buffer, 0, written) {
                            polling.recycle(buffer);
                            assembly = None;
                        }
                    }
                    None => {
                        // The others of the packet are not packets by themselves.
                        assembly = None;
                        round.length_errors += u64::from(!fits);
                        polling.recycle(buffer);
                    }
                }
            }
            assembly.ok_or(())?.finish()
        };
        self.average.add(skb.len());
        Ok(skb)
    }

    /// Hands a packet to the stack, with what the device says of it.
    #[inline]
    fn hand_over(
        &self,
        polling: &Polling<'_, Operations>,
        round: &mut Round,
        mut skb: SkBuff,
        header: &Header,
    ) {
        let Ok(received) = header.check(skb.len()) else {
            round.frame_errors += 1;
            return;
        };
        polling.prepare(&mut skb, self.index);
        let good = skb.set_offload(&received, header, self.little_endian);
        if good.is_err() || polling.receive(skb).is_err() {
            round.frame_errors += 1;
        }
    }

    fn count(&self, round: &Round) {
        let statistics = &self.statistics;
        statistics.packets.add(round.packets.into());
        statistics.bytes.add(round.bytes);
        if round.drops | round.length_errors | round.frame_errors != 0 {
            statistics.drops.add(round.drops);
            statistics.length_errors.add(round.length_errors);
            statistics.frame_errors.add(round.frame_errors);
        }
    }
}

/// Makes a packet of `buffer` alone: without a copy if that is worth it, or else with as much of a
/// copy as the stack needs.
#[inline]
fn begin(
    polling: &Polling<'_, Operations>,
    buffer: PoolBuffer,
    start: u32,
    len: u32,
) -> Result<SkBuff, ()> {
    let mut buffer = buffer;
    if IP_ALIGN == 0 && len > GOOD_COPY_LEN && buffer.has_room_behind(start, len) {
        match buffer.build(start, len) {
            Ok(skb) => return Ok(skb),
            Err(whole) => buffer = whole,
        }
    }
    let Some(mut skb) = polling.alloc_skb(GOOD_COPY_LEN) else {
        polling.recycle(buffer);
        return Err(());
    };
    let copied = if len <= skb.tailroom() {
        len
    } else {
        MIN_PACKET
    };
    if !skb.append_copy(&buffer, start, copied) {
        polling.recycle(buffer);
        return Err(());
    }
    if copied == len {
        polling.recycle(buffer);
        return Ok(skb);
    }
    let mut assembly = Assembly::new(skb);
    match assembly.append(buffer, start + copied, len - copied) {
        Ok(()) => Ok(assembly.finish()),
        Err(buffer) => {
            polling.recycle(buffer);
            Err(())
        }
    }
}

impl Poll<Operations> for Rx {
    type Suppress = Option<Suppressor>;

    fn poll(&mut self, polling: &Polling<'_, Operations>) -> Polled<Option<Suppressor>> {
        let budget = polling.budget();
        transmit::clean_along(self.index.into(), polling);
        if budget == 0 {
            return Polled::Again;
        }
        if let Some(queue) = &mut self.queue {
            queue.disable_callbacks();
        }
        let mut round = Round::default();
        while round.packets < budget {
            let Some((buffer, written)) = self.queue.as_mut().and_then(Queue::get) else {
                break;
            };
            self.receive(polling, &mut round, buffer, written);
            round.packets += 1;
        }
        if round.packets != 0 {
            self.count(&round);
        }
        if self.runs_low(budget) && !self.fill(polling.memory(), false) {
            // Tried again with the next poll.
            return Polled::Again;
        }
        if round.packets >= budget {
            return Polled::Again;
        }
        match &mut self.queue {
            Some(queue) => match queue.enable_callbacks() {
                CbState::MorePending => Polled::Again,
                CbState::Armed => Polled::Idle(round.packets, Some(queue.suppressor())),
            },
            None => Polled::Idle(round.packets, None),
        }
    }
}
