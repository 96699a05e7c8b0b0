// SPDX-License-Identifier: GPL-2.0

//! A receive queue: buffers on their way to the device, packets on their way to the stack.
//!
//! C source: `virtnet_poll`, `receive_buf`, `receive_mergeable`, `receive_small`, `try_fill_recv` in
//! `drivers/net/virtio_net.c`.

use crate::{
    average::Average,
    operations::Operations,
    receive_xdp::XdpRound,
    receive_xsk::{
        fill_from_sockets,
        give_back, //
    },
    statistics::RxStatistics,
    transmit,
    xdp::XdpQueues, //
};
use kernel::{
    alloc::flags::GFP_ATOMIC,
    device,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::Relaxed,
        Arc, //
    }, //
};
use netdev::{
    feature,
    Assembly,
    Memory,
    Poll,
    Polled,
    Polling,
    PoolBuffer,
    PoolBuffers,
    Program,
    RxBuffer,
    Sampler,
    SkBuff,
    XskRx,
    ETH_HLEN,
    IP_ALIGN,
    RX_PAD,
    SHARED_INFO_ROOM,
    XDP_HEADROOM,
    XDP_ROOM, //
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
    Checksum,
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
pub(crate) const PAGE_SIZE: u32 = kernel::page::PAGE_SIZE as u32;

/// How packets are received.
#[derive(Clone, Copy)]
pub(crate) enum Mode {
    /// A packet has as many buffers as it needs, which are at least that long.
    Mergeable { least: u32 },
    /// A packet has as many pages as the longest one needs.
    Big { pages: usize },
    /// A packet has one buffer, into which 1500 bytes fit.
    Small,
}

impl Mode {
    /// Bytes that are left free before a packet for the stack, beside the head room of a program.
    #[inline]
    pub(crate) fn pad(self) -> u32 {
        match self {
            Self::Mergeable { .. } | Self::Big { .. } => 0,
            Self::Small => RX_PAD,
        }
    }
}

/// Whether packets of at most `longest` bytes are received into lists of pages.
pub(crate) fn is_big(layout: &Layout, longest: u32) -> bool {
    matches!(mode(layout, longest, 1), Mode::Big { .. })
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
    pub(crate) queue: Option<Queue>,
    pub(crate) index: u16,
    pub(crate) layout: Layout,
    little_endian: bool,
    /// Bytes of the longest packet.
    longest: u32,
    pub(crate) mode: Mode,
    /// Looks at packets before the stack does.
    pub(crate) program: Option<Program>,
    pub(crate) xdp_queues: Arc<XdpQueues>,
    /// Where buffers come from, if sockets have some.
    pub(crate) xsk: Option<XskRx>,
    /// Lists of buffers that are empty.
    spare: KVec<PoolBuffers>,
    average: Average,
    statistics: Arc<RxStatistics>,
    sampler: Option<Sampler<Operations>>,
}

/// What a poll counts.
#[derive(Default)]
pub(crate) struct Round {
    packets: u32,
    pub(crate) bytes: u64,
    pub(crate) drops: u64,
    pub(crate) length_errors: u64,
    pub(crate) frame_errors: u64,
    pub(crate) xdp: XdpRound,
}

impl Rx {
    /// For packets of at most `longest` bytes, headers of Ethernet included.
    pub(crate) fn new(
        queue: Queue,
        index: u16,
        layout: Layout,
        little_endian: bool,
        longest: u32,
        xdp_queues: Arc<XdpQueues>,
        statistics: Arc<RxStatistics>,
    ) -> Self {
        let mode = mode(&layout, longest, queue.size());
        if let Mode::Mergeable { least } = mode {
            let size = merged_size(least, layout.size() as u32, PAGE_SIZE);
            statistics.buffer_size.store(size, Relaxed);
        }
        Self {
            mode,
            queue: Some(queue),
            index,
            layout,
            little_endian,
            longest,
            program: None,
            xdp_queues,
            xsk: None,
            spare: KVec::new(),
            average: Average::new(),
            statistics,
            sampler: None,
        }
    }

    /// Has what measures the queue, for a device that lets it be coalesced.
    pub(crate) fn set_sampler(&mut self, sampler: Sampler<Operations>) {
        self.sampler = Some(sampler);
    }

    /// Measures what was received.
    #[inline]
    fn sample(&mut self) {
        if let Some(sampler) = &mut self.sampler {
            let statistics = &self.statistics;
            sampler.sample(statistics.packets.get(), statistics.bytes.get());
        }
    }

    /// Puts the queue of a device that is back in place, or takes that of one that was reset.
    pub(crate) fn replace(&mut self, queue: Option<Queue>) -> Option<Queue> {
        core::mem::replace(&mut self.queue, queue)
    }

    /// Has the queue have `size` descriptors; buffers that are in it are given back, and others are put
    /// into it by the next poll, or when the queue is enabled.
    ///
    /// # Errors
    ///
    /// Those of [`PacketQueue::resize`]; `ENODEV` while the device is reset.
    pub(crate) fn resize(&mut self, size: u32) -> Result {
        let queue = self.queue.as_mut().ok_or(ENODEV)?;
        let xsk = &mut self.xsk;
        let resized = queue.resize(size, |buffer| give_back(xsk, buffer));
        self.mode = mode(&self.layout, self.longest, queue.size());
        resized
    }

    /// The device for which the pool of buffers is to map them.
    pub(crate) fn dma_device(&self) -> Option<ARef<device::Device>> {
        self.queue.as_ref()?.dma_device().map(ARef::from)
    }

    pub(crate) fn header_len(&self) -> u32 {
        self.layout.size() as u32
    }

    /// Tells the device again of its buffers, now that other queues have some.  A device that steers packets may
    /// take one for another queue than it looks at; if that has no buffer, it waits for a notification of the queue
    /// that it looks at (QEMU 10.0).
    pub(crate) fn renotify(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.renotify().send();
            self.statistics.kicks.add(1);
        }
    }

    /// Gives the device as many buffers as it takes, and tells it of all at once.  False if there was
    /// no memory.
    pub(crate) fn fill(&mut self, memory: &Memory<'_>, may_sleep: bool) -> bool {
        let header = self.header_len();
        let with_headroom = self.program.is_some();
        let Some(queue) = &mut self.queue else {
            return true;
        };
        let enough = match self.mode {
            _ if self.xsk.is_some() => fill_from_sockets(queue, &mut self.xsk),
            // As programs want them: a page, with room on both sides.
            Mode::Mergeable { .. } if with_headroom => {
                let size = PAGE_SIZE - XDP_ROOM;
                self.statistics.buffer_size.store(size, Relaxed);
                fill_with(queue, || {
                    let mut buffer = memory.alloc(PAGE_SIZE, may_sleep)?;
                    buffer.lend_behind_headroom(0, size);
                    Some(RxBuffer::One(buffer))
                })
            }
            Mode::Mergeable { least } => {
                let size = merged_size(self.average.get().max(least), header, PAGE_SIZE);
                self.statistics.buffer_size.store(size, Relaxed);
                fill_with(queue, || memory.alloc(size, may_sleep).map(RxBuffer::One))
            }
            Mode::Big { pages } => fill_with(queue, || {
                let mut buffers = match self.spare.pop() {
                    Some(buffers) => buffers,
                    None => PoolBuffers::new(pages, header).ok()?,
                };
                buffers
                    .fill(memory, may_sleep)
                    .then_some(RxBuffer::Many(buffers))
            }),
            Mode::Small => {
                let len = header + GOOD_PACKET_LEN;
                let before = RX_PAD + if with_headroom { XDP_HEADROOM } else { 0 };
                let room = (before + len).next_multiple_of(64) + SHARED_INFO_ROOM;
                fill_with(queue, || {
                    let mut buffer = memory.alloc(room, may_sleep)?;
                    if with_headroom {
                        buffer.lend_behind_headroom(RX_PAD, len);
                    } else {
                        buffer.lend(RX_PAD, len);
                    }
                    Some(RxBuffer::One(buffer))
                })
            }
        };
        if let Some(notification) = queue.kick() {
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

    /// Takes a packet that begins, and perhaps ends, in `first`.
    #[inline(always)]
    fn receive(
        &mut self,
        polling: &Polling<'_, Operations>,
        round: &mut Round,
        first: PoolBuffer,
        written: u32,
    ) {
        let offset = first.headroom().wrapping_add(self.mode.pad());
        let written = written.min(first.size().saturating_sub(offset));
        let head = match first.sync(offset, written) {
            true if self.layout.fits(written) => first.words(offset),
            _ => None,
        };
        let Some(head) = head else {
            round.length_errors = round.length_errors.wrapping_add(1);
            polling.recycle(first);
            return;
        };
        let start = offset.wrapping_add(self.header_len());
        let len = written.wrapping_sub(self.header_len());
        round.bytes = round.bytes.wrapping_add(len.into());
        if self.program.is_some() {
            self.receive_xdp(polling, round, head, (first, start, len));
            return;
        }
        match self.layout.plain(&head) {
            Some(checksum) => self.receive_plain(polling, round, checksum, (first, start, len)),
            None => self.receive_other(polling, round, head, (first, start, len)),
        }
    }

    /// Takes a packet in one buffer, offset and length in which are given too, of which the device says
    /// no more than what its checksum is.
    #[inline(always)]
    fn receive_plain(
        &mut self,
        polling: &Polling<'_, Operations>,
        round: &mut Round,
        checksum: Checksum,
        (buffer, start, len): (PoolBuffer, u32, u32),
    ) {
        let skb = match self.mode {
            Mode::Small => buffer
                .build(start, len)
                .map_err(|buffer| polling.recycle(buffer)),
            Mode::Mergeable { .. } | Mode::Big { .. } => begin(polling, buffer, start, len),
        };
        let Ok(mut skb) = skb else {
            round.drops = round.drops.wrapping_add(1);
            return;
        };
        self.average.add(len);
        polling.prepare(&mut skb, self.index);
        if matches!(checksum, Checksum::Valid { .. }) {
            skb.set_checksum_valid(false);
        }
        if polling.receive(skb).is_err() {
            round.frame_errors = round.frame_errors.wrapping_add(1);
        }
    }

    /// Takes a packet whose first buffer is given with offset and length, with any header.
    #[inline(never)]
    fn receive_other(
        &mut self,
        polling: &Polling<'_, Operations>,
        round: &mut Round,
        head: header::Words,
        (first, start, len): (PoolBuffer, u32, u32),
    ) {
        let written = len.saturating_add(self.header_len());
        let Ok(header) = self.layout.read_words(&head, written) else {
            round.length_errors += 1;
            polling.recycle(first);
            return;
        };
        let skb = match self.mode {
            Mode::Small => first
                .build(start, len)
                .map_err(|buffer| polling.recycle(buffer)),
            Mode::Mergeable { .. } | Mode::Big { .. } => {
                self.merge(polling, round, &header, first, start, len)
            }
        };
        self.end(polling, round, skb, &header);
    }

    /// Takes a packet that is in the pages of a list.
    #[inline(never)]
    fn receive_many(
        &mut self,
        polling: &Polling<'_, Operations>,
        round: &mut Round,
        mut rest: PoolBuffers,
        written: u32,
    ) {
        rest.buffers().reverse();
        let Some(first) = rest.buffers().pop() else {
            return;
        };
        let in_first = written.min(first.size());
        let header = match first.sync(0, in_first) {
            true => first
                .words(0)
                .and_then(|head: header::Words| self.layout.read_words(&head, in_first).ok()),
            false => None,
        };
        let Some(header) = header else {
            round.length_errors += 1;
            polling.recycle(first);
            self.recycle(polling, rest);
            return;
        };
        let start = self.header_len();
        let len = in_first.saturating_sub(start);
        let left = written - in_first;
        round.bytes += u64::from(len) + u64::from(left);
        let begun = begin(polling, first, start, len);
        let skb = self.gather(polling, begun, rest, left);
        self.end(polling, round, skb, &header);
    }

    /// Hands a packet over, or counts that there is none.
    pub(crate) fn end(
        &self,
        polling: &Polling<'_, Operations>,
        round: &mut Round,
        skb: Result<SkBuff, ()>,
        header: &Header,
    ) {
        match skb {
            Ok(skb) => self.hand_over(polling, round, skb, header),
            Err(()) => round.drops = round.drops.wrapping_add(1),
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
            self.recycle(polling, rest);
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
        self.recycle(polling, rest);
        Ok(assembly?.finish())
    }

    /// Gives the buffers of a list back, and keeps the list.
    fn recycle(&mut self, polling: &Polling<'_, Operations>, mut list: PoolBuffers) {
        while let Some(buffer) = list.buffers().pop() {
            polling.recycle(buffer);
        }
        // If there is no memory for it, there may be later for another one.
        let _ = self.spare.push(list, GFP_ATOMIC);
    }

    /// Puts a packet together whose first `len` bytes are in `first`, from `start` on.
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
            round.length_errors = round.length_errors.wrapping_add(1);
            polling.recycle(first);
            return Err(());
        };
        let begun = begin(polling, first, start, len);
        let skb = match count.get() {
            1 => begun?,
            count => append_rest(queue, polling, round, begun, count - 1)?,
        };
        self.average.add(skb.len());
        Ok(skb)
    }

    /// Hands a packet to the stack, with what the device says of it.
    fn hand_over(
        &self,
        polling: &Polling<'_, Operations>,
        round: &mut Round,
        mut skb: SkBuff,
        header: &Header,
    ) {
        let Ok(received) = header.check(skb.len()) else {
            round.frame_errors = round.frame_errors.wrapping_add(1);
            return;
        };
        polling.prepare(&mut skb, self.index);
        set_hash(polling, &mut skb, header);
        let good = skb.set_offload(&received, header, self.little_endian);
        if good.is_err() || polling.receive(skb).is_err() {
            round.frame_errors = round.frame_errors.wrapping_add(1);
        }
    }

    fn count(&self, round: &Round) {
        let statistics = &self.statistics;
        statistics.packets.add(round.packets.into());
        statistics.bytes.add(round.bytes);
        if self.program.is_some() {
            round.xdp.count(statistics);
        }
        if round.drops | round.length_errors | round.frame_errors != 0 {
            statistics.drops.add(round.drops);
            statistics.length_errors.add(round.length_errors);
            statistics.frame_errors.add(round.frame_errors);
        }
    }
}

/// Tells the stack the hash of a packet, if the device has made one, and it is asked for.
#[inline]
pub(crate) fn set_hash(polling: &Polling<'_, Operations>, skb: &mut SkBuff, header: &Header) {
    if let Some(hash) = header.hash() {
        if polling.features() & feature::RXHASH != 0 {
            skb.set_hash(&hash);
        }
    }
}

/// Adds what `make` gives until there is no room.  False if there was no memory.
#[inline(always)]
fn fill_with(queue: &mut Queue, mut make: impl FnMut() -> Option<RxBuffer>) -> bool {
    while queue.num_free() != 0 {
        let Some(buffer) = make() else {
            return false;
        };
        if let Err(error) = queue.add(buffer) {
            drop(error);
            // It is not to be mapped, which passes, or the queue is broken, and filled anew.
            return queue.is_broken();
        }
    }
    true
}

/// Appends to a packet what is in the next `rest` buffers of `queue`.
#[inline(never)]
fn append_rest(
    queue: &mut Queue,
    polling: &Polling<'_, Operations>,
    round: &mut Round,
    begun: Result<SkBuff, ()>,
    rest: u16,
) -> Result<SkBuff, ()> {
    let mut assembly = begun.map(Assembly::new).ok();
    for _ in 0..rest {
        let Some((RxBuffer::One(buffer), written)) = queue.get() else {
            round.length_errors += 1;
            return Err(());
        };
        round.bytes += u64::from(written);
        let start = buffer.headroom();
        let fits = written != 0 && buffer.sync(start, written);
        match assembly.as_mut().filter(|_| fits) {
            Some(whole) => {
                if let Err(buffer) = whole.append(buffer, start, written) {
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
    Ok(assembly.ok_or(())?.finish())
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

/// Makes a packet of `buffer` alone: without a copy if that is worth it.
#[inline(always)]
fn begin(
    polling: &Polling<'_, Operations>,
    buffer: PoolBuffer,
    start: u32,
    len: u32,
) -> Result<SkBuff, ()> {
    let mut buffer = buffer;
    if IP_ALIGN == 0 && len > GOOD_COPY_LEN {
        match buffer.build(start, len) {
            Ok(skb) => return Ok(skb),
            Err(whole) => buffer = whole,
        }
    }
    begin_copied(polling, buffer, start, len)
}

/// [`begin`] with as much of a copy as the stack needs.
#[inline(never)]
fn begin_copied(
    polling: &Polling<'_, Operations>,
    buffer: PoolBuffer,
    start: u32,
    len: u32,
) -> Result<SkBuff, ()> {
    let Some(mut skb) = polling.alloc_skb(GOOD_COPY_LEN) else {
        polling.recycle(buffer);
        return Err(());
    };
    let copied = if len <= GOOD_COPY_LEN {
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

    #[inline]
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
            match buffer {
                RxBuffer::One(first) => self.receive(polling, &mut round, first, written),
                RxBuffer::Many(list) => self.receive_many(polling, &mut round, list, written),
                RxBuffer::Socket(buffer) => {
                    self.receive_socket(polling, &mut round, buffer, written);
                }
            }
            round.packets = round.packets.wrapping_add(1);
        }
        if round.packets != 0 {
            self.count(&round);
        }
        if self.program.is_some() {
            self.end_xdp(polling, &round.xdp);
        }
        if self.runs_low(budget) && !self.fill(polling.memory(), false) {
            // Tried again with the next poll.
            return Polled::Again;
        }
        if round.packets >= budget {
            return Polled::Again;
        }
        self.sample();
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
