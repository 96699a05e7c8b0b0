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
    alloc::flags::GFP_ATOMIC,
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
    PoolBuffers,
    RxBuffer,
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

pub(crate) type Queue = PacketQueue<RxBuffer>;

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
    /// A packet has as many pages as the longest one needs.
    Big { pages: usize },
    /// A packet has one buffer, into which 1500 bytes fit.
    Small,
}

/// Descriptors of a buffer at most, for packets of at most `longest` bytes.
pub(crate) fn max_pieces(layout: &Layout, longest: u32) -> u16 {
    match mode(layout, longest, 1) {
        // The header is by itself.
        Mode::Big { pages } => pages as u16 + 1,
        Mode::Mergeable { .. } | Mode::Small => 1,
    }
}

/// How packets of at most `longest` bytes are received, through a queue of `size` descriptors.
fn mode(layout: &Layout, longest: u32, size: u32) -> Mode {
    if layout.merges() {
        // A ring full of buffers is to have room for one packet.
        let share = longest.div_ceil(size.max(1));
        return Mode::Mergeable {
            least: share.max(GOOD_PACKET_LEN),
        };
    }
    if longest > GOOD_PACKET_LEN {
        let bytes = longest + layout.size() as u32;
        return Mode::Big {
            pages: bytes.div_ceil(PAGE_SIZE) as usize,
        };
    }
    Mode::Small
}

/// What is kept of a receive queue, by its poll.
pub(crate) struct Rx {
    /// `None` while the device is reset.
    queue: Option<Queue>,
    index: u16,
    layout: Layout,
    little_endian: bool,
    mode: Mode,
    /// Lists of buffers that are empty.
    spare: KVec<PoolBuffers>,
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
        Self {
            mode: mode(&layout, longest, queue.size()),
            queue: Some(queue),
            index,
            layout,
            little_endian,
            spare: KVec::new(),
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
    fn make(&mut self, memory: &Memory<'_>, may_sleep: bool) -> Option<RxBuffer> {
        let header = self.header_len();
        match self.mode {
            Mode::Mergeable { least } => {
                let size = merged_size(self.average.get().max(least), header, PAGE_SIZE);
                memory.alloc(size, may_sleep).map(RxBuffer::One)
            }
            Mode::Big { pages } => {
                let spare = self.spare.pop();
                let mut buffers = match spare {
                    Some(buffers) => buffers,
                    None => PoolBuffers::new(pages, header).ok()?,
                };
                buffers
                    .fill(memory, may_sleep)
                    .then_some(RxBuffer::Many(buffers))
            }
            Mode::Small => {
                let len = header + GOOD_PACKET_LEN;
                let room = (RX_PAD + len).next_multiple_of(64) + SHARED_INFO_ROOM;
                let mut buffer = memory.alloc(room, may_sleep)?;
                buffer.lend(RX_PAD, len);
                Some(RxBuffer::One(buffer))
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
        first: RxBuffer,
        written: u32,
    ) {
        let (first, rest) = match first {
            RxBuffer::One(first) => (first, None),
            RxBuffer::Many(mut buffers) => {
                buffers.buffers().reverse();
                match buffers.buffers().pop() {
                    Some(first) => (first, Some(buffers)),
                    None => return,
                }
            }
        };
        let offset = match self.mode {
            Mode::Mergeable { .. } | Mode::Big { .. } => 0,
            Mode::Small => RX_PAD,
        };
        let in_first = written.min(first.size().saturating_sub(offset));
        let Some(header) = self.read_header(&first, offset, in_first) else {
            round.length_errors += 1;
            polling.recycle(first);
            self.recycle(polling, rest);
            return;
        };
        let len = in_first.saturating_sub(self.header_len());
        round.bytes += u64::from(len);
        let start = offset + self.header_len();
        let skb = match (self.mode, rest) {
            (Mode::Small, _) => first.build(start, len).map_err(|buffer| {
                polling.recycle(buffer);
            }),
            (_, None) => self.merge(polling, round, &header, first, start, len),
            (_, Some(rest)) => {
                let left = written - in_first;
                round.bytes += u64::from(left);
                self.gather(polling, begin(polling, first, start, len), rest, left)
            }
        };
        match skb {
            Ok(skb) => self.hand_over(polling, round, skb, &header),
            Err(()) => round.drops += 1,
        }
    }

    /// Appends to a packet the `left` bytes of it that are in `rest`, the next one last.
    fn gather(
        &mut self,
        polling: &Polling<'_, Operations>,
        begun: Result<SkBuff, ()>,
        mut rest: PoolBuffers,
        mut left: u32,
    ) -> Result<SkBuff, ()> {
        if left == 0 {
            self.recycle(polling, Some(rest));
            return begun;
        }
        let mut assembly = begun.map(Assembly::new);
        while left != 0 {
            let Some(buffer) = rest.buffers().pop() else {
                assembly = Err(());
                break;
            };
            let len = left.min(buffer.size());
            left -= len;
            let refused = match &mut assembly {
                Ok(whole) if buffer.sync(0, len) => whole.append(buffer, 0, len).err(),
                _ => Some(buffer),
            };
            if let Some(buffer) = refused {
                polling.recycle(buffer);
                assembly = Err(());
            }
        }
        self.recycle(polling, Some(rest));
        Ok(assembly?.finish())
    }

    /// Gives the buffers of a list back, and keeps the list.
    fn recycle(&mut self, polling: &Polling<'_, Operations>, list: Option<PoolBuffers>) {
        let Some(mut list) = list else {
            return;
        };
        while let Some(buffer) = list.buffers().pop() {
            polling.recycle(buffer);
        }
        // If there is no memory for it, there may be later for another one.
        let _ = self.spare.push(list, GFP_ATOMIC);
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
                let Some((RxBuffer::One(buffer), written)) = queue.get() else {
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

/// Bytes of a buffer for packets of `len` bytes, if a packet may have several.  Where as many of them
/// fit into a page, it has room for a packet to be built in it.
fn merged_size(len: u32, header: u32, page: u32) -> u32 {
    let size = (len.saturating_add(header)).min(page);
    let built = size.saturating_add(SHARED_INFO_ROOM).next_multiple_of(64);
    if page / built.max(1) == page / size.max(1) {
        built.min(page)
    } else {
        size
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

#[kunit_tests(virtio_net_receive)]
mod tests {
    use super::*;
    use virtio_spec::{
        net,
        transport::Version1,
        Features, //
    };

    #[test]
    fn room_to_build_a_packet_costs_no_pages() {
        // Two to a page, with the room and without.
        let usual = merged_size(GOOD_PACKET_LEN, 12, 4096);
        assert!((GOOD_PACKET_LEN + 12 + SHARED_INFO_ROOM..=2048).contains(&usual));
        // With the room there would be one.
        assert_eq!(merged_size(2000, 12, 4096), 2012);
        // What is larger than a page has all of it.
        assert_eq!(merged_size(65535, 12, 4096), 4096);
        assert_eq!(merged_size(u32::MAX, 12, 4096), 4096);
        // Many to a page.
        assert_eq!(
            merged_size(GOOD_PACKET_LEN, 12, 65536),
            GOOD_PACKET_LEN + 12
        );
    }

    #[test]
    fn mode_is_what_device_and_longest_packet_ask_for() {
        let layout = |features: Features| Layout::new(features.with::<Version1>());
        let merges = layout(Features::EMPTY.with::<net::MrgRxbuf>());
        assert!(matches!(
            mode(&merges, 65535, 256),
            Mode::Mergeable {
                least: GOOD_PACKET_LEN
            }
        ));
        // A short ring has long buffers.
        assert!(matches!(
            mode(&merges, 65535, 16),
            Mode::Mergeable { least: 4096 }
        ));
        let plain = layout(Features::EMPTY);
        assert!(matches!(mode(&plain, GOOD_PACKET_LEN, 256), Mode::Small));
        assert!(matches!(mode(&plain, 9018, 256), Mode::Big { pages: 3 }));
        assert_eq!(max_pieces(&plain, 9018), 4);
        assert!(matches!(mode(&plain, 65553, 256), Mode::Big { pages: 17 }));
    }
}
