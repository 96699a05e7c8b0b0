// SPDX-License-Identifier: GPL-2.0

//! Queues of packets: scattered memory that goes one way, header included.
//!
//! Specification: 5.1.9 (packets of the network device), 2.7.5.3 (indirect descriptors).
//!
//! A packet of one piece takes one descriptor of the ring.  One of several pieces takes one too, and
//! a table out of a supply that is made with the queue, as long as that lasts; nothing is allocated
//! for a packet.

use crate::{
    device::Device,
    lifecycle::{
        Configured,
        Quiesced, //
    },
    queue::{
        AddErrorKind,
        Notification,
        Queues,
        RingErrorKind, //
    },
    recovery, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    device,
    ffi::c_void,
    prelude::*,
    sync::rcu, //
};
use virtio_ring::{
    Broken,
    CbState,
    Direction,
    Segment,
    TableFormat,
    Token,
    Vring, //
};

pub use crate::{
    queue::AddError,
    requests::{
        DataDirection,
        Piece, //
    }, //
};

/// Bytes of a descriptor.
const UNIT: usize = 16;

/// Tables that are allocated together.
const TABLES_PER_BLOCK: usize = 16;

/// Where a piece of a packet is.
#[derive(Clone, Copy)]
pub enum Place {
    /// In pages, which the queue maps.
    Pages(Piece),
    /// In linear memory, of `kmalloc` or of pages, which the queue maps: where, and length in bytes.
    Linear(NonNull<u8>, u32),
    /// Where the device finds it, mapped by its owner: address and length in bytes.
    Mapped(u64, u32),
}

/// A packet, or room for one.
///
/// # Safety
///
/// - what `pieces` and `only_piece` show is the same, and valid memory, which stays so, and is left
///   alone but by the rules of DMA, until the packet was put together again by `from_raw`;
/// - `from_raw` gives back the very packet that `into_raw` took apart.
pub unsafe trait Packet: Send + Sized {
    /// What the device does with it, unless [`Packet::direction`] says otherwise.
    const DIRECTION: DataDirection;

    /// Whether its owner maps it where a [`PacketQueue::dma_device`] can be named.
    const MAPS_ITSELF: bool;

    /// What the device does with this one, always the same, of a queue whose packets go both ways.
    #[inline(always)]
    fn direction(&self) -> DataDirection {
        Self::DIRECTION
    }

    /// Whether its owner has mapped all of this one, which the queue then does not undo.  Not asked of
    /// packets that have an [only piece](Packet::only_piece).
    #[inline]
    fn is_mapped(&self) -> bool {
        false
    }

    /// Calls `f` for each piece in turn, until it fails.
    ///
    /// # Errors
    ///
    /// Those of `f`.
    fn pieces<E>(&self, f: impl FnMut(Place) -> Result<(), E>) -> Result<(), E>;

    /// The piece of a packet that has one alone, if it is cheap to say so.
    #[inline]
    fn only_piece(&self) -> Option<Place> {
        None
    }

    /// Takes the packet apart.
    fn into_raw(self) -> (NonNull<c_void>, u16);

    /// Puts it together again.
    ///
    /// # Safety
    ///
    /// Both come from `into_raw`, and are used once.
    unsafe fn from_raw(data: NonNull<c_void>, word: u16) -> Self;
}

/// Tables for packets of several pieces.
struct Tables {
    /// Where they are, for us and for the device.
    memory: KVVec<(NonNull<u8>, u64)>,
    /// Those that are not in use.
    free: KVVec<u16>,
    /// What is to be unmapped of each, as many as a table has descriptors.
    copies: KVVec<Segment>,
    /// How many descriptors of each were copied, and which way they were mapped.
    copied: KVVec<(u16, Direction)>,
    /// Descriptors of one.
    room: u16,
    format: TableFormat,
}

impl Tables {
    fn new(vring: &Vring, count: usize, room: u16, maps: bool) -> Result<Self> {
        let mut tables = Self {
            memory: KVVec::with_capacity(count, GFP_KERNEL)?,
            free: KVVec::with_capacity(count, GFP_KERNEL)?,
            copies: KVVec::new(),
            copied: KVVec::new(),
            room,
            format: vring.table_format(),
        };
        let size = usize::from(room) * UNIT;
        while tables.memory.len() < count {
            let block = TABLES_PER_BLOCK.min(count - tables.memory.len());
            // SAFETY: The only handle, and the device does not run yet.
            let shared = unsafe { vring.share(block * size)? };
            for at in 0..block {
                // SAFETY: Inside of what was allocated.
                let memory = unsafe { shared.memory.add(at * size) };
                let index = tables.memory.len() as u16;
                let address = shared.address + (at * size) as u64;
                tables.memory.push((memory, address), GFP_KERNEL)?;
                tables.free.push(index, GFP_KERNEL)?;
            }
        }
        if maps {
            let nothing = Segment { addr: 0, len: 0 };
            tables.copies = KVVec::from_elem(nothing, count * usize::from(room), GFP_KERNEL)?;
            tables.copied = KVVec::from_elem((0, Direction::Readable), count, GFP_KERNEL)?;
        }
        Ok(tables)
    }

    /// Writes `chain` to a free table: its number, and where the device finds it.  `None` if none is
    /// free, or none is long enough.  What is `mapped` is its owner's to unmap.
    #[inline]
    fn fill(&mut self, chain: &[Segment], dir: Direction, mapped: bool) -> Option<(u16, Segment)> {
        let (last, rest) = chain.split_last()?;
        if chain.len() > usize::from(self.room) {
            return None;
        }
        let index = *self.free.last()?;
        let (memory, address) = *self.memory.get(usize::from(index))?;
        // SAFETY: Shared with that much room; the ring outlives this function.
        let mut table = unsafe { self.format.table(memory, self.room) };
        table.set_direction(dir);
        for segment in rest {
            table.push(*segment);
        }
        let count = table.finish(*last);
        let first = usize::from(index) * usize::from(self.room);
        let copies = self.copies.get_mut(first..).unwrap_or_default();
        for (copy, segment) in copies.iter_mut().zip(chain) {
            *copy = *segment;
        }
        if let Some(copied) = self.copied.get_mut(usize::from(index)) {
            *copied = (if mapped { 0 } else { count }, dir);
        }
        self.free.pop();
        let len = u32::from(count) * UNIT as u32;
        Some((index, Segment { addr: address, len }))
    }

    /// Takes a table back, and calls `unmap` for what is to be unmapped of it.
    #[inline]
    fn release(&mut self, index: u16, mut unmap: impl FnMut(Segment, Direction)) {
        let first = usize::from(index) * usize::from(self.room);
        if let Some((count, dir)) = self.copied.get_mut(usize::from(index)) {
            let copies = self.copies.get(first..first + usize::from(*count));
            for segment in copies.unwrap_or_default() {
                unmap(*segment, *dir);
            }
            *count = 0;
        }
        // It was there before: there is room.
        let _ = self.free.push_within_capacity(index);
    }
}

/// What a queue keeps of a packet in the second word: the packet's own, and behind it the number of
/// its table, plus one.
fn context(word: u16, table: Option<u16>) -> usize {
    let table = table.map_or(0, |table| usize::from(table) + 1);
    usize::from(word) | table << 16
}

fn split_context(context: usize) -> (u16, Option<u16>) {
    let table = (context >> 16).checked_sub(1);
    (context as u16, table.map(|table| table as u16))
}

/// A virtqueue for packets of type `P`.
///
/// Operations need `&mut`.  Who drops a queue with packets in it loses them: [`PacketQueue::drain`]
/// gives them back.
///
/// # Invariants
///
/// The only handle of its queue, with a reference to it; every token in the queue is a `P`.
pub struct PacketQueue<P: Packet> {
    vring: NonNull<Vring>,
    tables: Tables,
    /// A packet while it is put together.
    chain: KVec<Segment>,
    /// Mappings are ours, and to be undone.
    maps: bool,
    /// Something was added since the last kick.
    added: bool,
    _packets: PhantomData<P>,
}

// SAFETY: The queue is used through `&mut`; packets are `Send`.
unsafe impl<P: Packet> Send for PacketQueue<P> {}
// SAFETY: What takes `&self` need not be serialised.
unsafe impl<P: Packet> Sync for PacketQueue<P> {}

impl Queues<'_> {
    /// Takes queue `index` for packets of at most `pieces` pieces, 1 at least.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is no such queue, or it was taken before; `EINVAL` if it is too short for
    /// such packets; `ENOMEM`.
    pub fn take_packets<P: Packet>(
        &mut self,
        _dev: &Configured<'_>,
        index: usize,
        pieces: u16,
    ) -> Result<PacketQueue<P>> {
        let queue = self.take_raw(index)?;
        // SAFETY: Found by the core, and handed out once.
        let vring = unsafe { Vring::from_raw(queue.as_ptr()) };
        let size = vring.num_free();
        if pieces == 0 || size < pieces.into() {
            return Err(EINVAL);
        }
        let mapper = vring.mapper();
        let maps = mapper.uses_api() && !(P::MAPS_ITSELF && vring.dma_device().is_some());
        let count = if pieces > 1 && vring.has_indirect() {
            size as usize
        } else {
            0
        };
        let tables = Tables::new(vring, count, pieces, maps)?;
        let chain = KVec::with_capacity(pieces.into(), GFP_KERNEL)?;
        vring.get_ref();
        // INVARIANT: Handed out once, with a reference.
        Ok(PacketQueue {
            vring: NonNull::from(vring),
            tables,
            chain,
            maps,
            added: false,
            _packets: PhantomData,
        })
    }
}

impl<P: Packet> PacketQueue<P> {
    fn vring(&self) -> &Vring {
        // SAFETY: By the type invariants.
        unsafe { self.vring.as_ref() }
    }

    /// Lends `packet` to the device.  It is seen after the next kick.  Any context.
    ///
    /// # Errors
    ///
    /// Why not; the packet comes back.  `Full` passes when one comes back from the device,
    /// `NoMapping` with time.
    #[inline(always)]
    pub fn add(&mut self, packet: P) -> Result<(), AddError<P>> {
        match packet.only_piece() {
            Some(place) => self.add_one(packet, place),
            None => self.add_chain(packet),
        }
    }

    /// Adds a packet of one piece: the usual case, for which all is in registers.
    #[inline(always)]
    fn add_one(&mut self, packet: P, place: Place) -> Result<(), AddError<P>> {
        // SAFETY: By the type invariants; it does not borrow `self`.
        let vring = unsafe { self.vring.as_ref() };
        let dir = packet.direction();
        // SAFETY: By the contract of `Packet`; unmapped when it comes back.
        let segment = match unsafe { map(vring, place, dir) } {
            Ok(segment) => segment,
            Err(kind) => {
                return Err(AddError {
                    kind,
                    buffer: packet,
                });
            }
        };
        let (data, word) = packet.into_raw();
        let token = Token::with_context(data, context(word, None));
        // SAFETY: `&mut self` is exclusive; the memory is the device's until the packet comes back,
        // by the contract of `Packet`.
        match unsafe { vring.add_one(segment, dir, token) } {
            Ok(()) => {
                self.added = true;
                Ok(())
            }
            // SAFETY: Taken apart above.
            Err(kind) => Err(unsafe { self.one_not_taken(kind, segment, data, word) }),
        }
    }

    /// A packet of one piece that the ring did not take.
    ///
    /// # Safety
    ///
    /// `segment` is its piece, mapped, and `data` and `word` come from `into_raw`.
    #[cold]
    unsafe fn one_not_taken(
        &self,
        kind: RingErrorKind,
        segment: Segment,
        data: NonNull<c_void>,
        word: u16,
    ) -> AddError<P> {
        // SAFETY: By the contract; the device does not have it.
        unsafe {
            let buffer = P::from_raw(data, word);
            if self.maps {
                unmap(self.vring(), segment, buffer.direction());
            }
            AddError {
                kind: AddErrorKind::Ring(kind),
                buffer,
            }
        }
    }

    /// Adds a packet of any number of pieces.
    #[inline(never)]
    fn add_chain(&mut self, packet: P) -> Result<(), AddError<P>> {
        if let Err(kind) = self.map(&packet) {
            return Err(AddError {
                kind,
                buffer: packet,
            });
        }
        let dir = packet.direction();
        let mapped = packet.is_mapped();
        let (data, word) = packet.into_raw();
        // SAFETY: By the type invariants; it does not borrow `self`.
        let vring = unsafe { self.vring.as_ref() };
        let table = if self.chain.len() > 1 {
            self.tables.fill(&self.chain, dir, mapped)
        } else {
            None
        };
        let mut token = Token::with_context(data, context(word, table.map(|(index, _)| index)));
        token.premapped = mapped && table.is_none();
        // SAFETY: `&mut self` is exclusive; the memory is the device's until the packet comes back,
        // by the contract of `Packet`.
        let result = unsafe {
            match table {
                Some((_, table)) => {
                    // A packet is far shorter than this could count.
                    let bytes = self.chain.iter().map(|segment| segment.len).sum();
                    let (readable, writable) = match dir {
                        Direction::Readable => (bytes, 0),
                        Direction::Writable => (0, bytes),
                    };
                    vring.add_indirect_token(table, readable, writable, token)
                }
                None => {
                    let (readable, writable): (&[Segment], &[Segment]) = match dir {
                        Direction::Readable => (&self.chain, &[]),
                        Direction::Writable => (&[], &self.chain),
                    };
                    let added = vring.add(readable, writable, token);
                    added.map_err(|(kind, _)| kind)
                }
            }
        };
        match result {
            Ok(()) => {
                self.added = true;
                Ok(())
            }
            Err(kind) => {
                if let Some((index, _)) = table {
                    self.tables.release(index, |_, _| ());
                }
                self.unmap_chain(dir, mapped);
                Err(AddError {
                    kind: AddErrorKind::Ring(kind),
                    // SAFETY: Taken apart above.
                    buffer: unsafe { P::from_raw(data, word) },
                })
            }
        }
    }

    /// Puts the pieces of a packet into `chain`, mapped.
    fn map(&mut self, packet: &P) -> Result<(), AddErrorKind> {
        // SAFETY: By the type invariants; it does not borrow `self`.
        let vring = unsafe { self.vring.as_ref() };
        let dir = packet.direction();
        let chain = &mut self.chain;
        chain.clear();
        let mapped = packet.pieces(|place| {
            if chain.len() == chain.capacity() {
                return Err(AddErrorKind::Ring(RingErrorKind::TooLong));
            }
            // SAFETY: By the contract of `Packet`; unmapped when it comes back.
            let segment = unsafe { map(vring, place, dir)? };
            // There is room, see above.
            let _ = chain.push_within_capacity(segment);
            Ok(())
        });
        mapped.inspect_err(|_| self.unmap_chain(dir, packet.is_mapped()))
    }

    /// Unmaps what is in `chain`, which the device does not have, unless its owner has `mapped` it.
    #[cold]
    fn unmap_chain(&self, dir: Direction, mapped: bool) {
        if self.maps && !mapped {
            for segment in &self.chain {
                // SAFETY: Mapped so.
                unsafe { unmap(self.vring(), *segment, dir) };
            }
        }
    }

    /// Takes the next packet that the device has used, and the number of bytes it wrote.  Any
    /// context.
    ///
    /// A device that breaks the queue is recovered, see [`crate::recovery`].
    #[inline(always)]
    pub fn get(&mut self) -> Option<(P, u32)> {
        if self.maps {
            return self.get_mapped();
        }
        // SAFETY: `&mut self` is exclusive.
        match unsafe { self.vring().get_pair(false, |_, _| ()) } {
            Ok(Some(used)) => Some((self.finish(used.data, used.context), used.written)),
            Ok(None) => None,
            Err(Broken) => self.recover(),
        }
    }

    /// [`PacketQueue::get`] of a packet of which something is to be unmapped.
    #[inline(never)]
    fn get_mapped(&mut self) -> Option<(P, u32)> {
        // SAFETY: By the type invariants; it does not borrow `self`.
        let vring = unsafe { self.vring.as_ref() };
        // SAFETY: `&mut self` is exclusive; the device gave the packet back.
        match unsafe { vring.get_pair(true, |segment, dir| unmap(vring, segment, dir)) } {
            Ok(Some(used)) => Some((self.finish(used.data, used.context), used.written)),
            Ok(None) => None,
            Err(Broken) => self.recover(),
        }
    }

    /// Has a device recovered that broke the queue just now, which has no packet.
    #[cold]
    fn recover(&self) -> Option<(P, u32)> {
        // SAFETY: A queue that was whole is of a device that is bound.
        unsafe { recovery::schedule_broken(Device::from_raw((*self.vring().as_raw()).vdev)) };
        None
    }

    /// Takes back a packet that the device has not used.
    pub fn drain(&mut self, _proof: &Quiesced<'_>) -> Option<P> {
        // SAFETY: By the type invariants; it does not borrow `self`.
        let vring = unsafe { self.vring.as_ref() };
        // SAFETY: `&mut self` is exclusive; the device does not own its buffers any more, or is
        // kept from them, which `Quiesced` is about.
        let (data, context) =
            unsafe { vring.detach_pair(self.maps, |segment, dir| unmap(vring, segment, dir)) }?;
        Some(self.finish(data, context))
    }

    /// Gives the queue `size` descriptors, no more than it was made with; the packets that are in it go
    /// to `dispose`.  If the device cannot do it in time, it is recovered.  May sleep.
    ///
    /// # Errors
    ///
    /// - nothing has happened: `ENOENT` if the device cannot, `EINVAL` or `E2BIG` for a size that the
    ///   queue cannot have, `EIO` if it is broken;
    /// - the queue is as large as before, and empty: `ENOMEM`, `EINVAL`;
    /// - the queue is broken: anything else.
    pub fn resize(&mut self, size: u32, dispose: impl FnMut(P)) -> Result {
        if size < self.tables.room.into() && !self.is_broken() {
            return Err(EINVAL);
        }
        self.restart(Some(size), dispose)
    }

    /// Resets the queue alone, which is as new afterwards; the packets that are in it go to `dispose`.  If
    /// the device cannot do it in time, it is recovered.  May sleep.
    ///
    /// # Errors
    ///
    /// - nothing has happened: `ENOENT` if the device cannot, `EIO` if the queue is broken;
    /// - the queue is broken: anything else.
    pub fn reset(&mut self, dispose: impl FnMut(P)) -> Result {
        self.restart(None, dispose)
    }

    fn restart(&mut self, size: Option<u32>, mut dispose: impl FnMut(P)) -> Result {
        if self.is_broken() {
            return Err(EIO);
        }
        // SAFETY: By the type invariants; it does not borrow `self`.
        let queue = unsafe { NonNull::new_unchecked(self.vring.as_ref().as_raw()) };
        let give_back = |vring: &Vring| {
            let unmap = |segment, dir| {
                // SAFETY: Mapped when the packet was added.
                unsafe { unmap(vring, segment, dir) }
            };
            // SAFETY: `&mut self` is exclusive, and the device has reset the queue.
            while let Some((data, context)) = unsafe { vring.detach_pair(self.maps, unmap) } {
                dispose(self.finish(data, context));
            }
            self.added = false;
        };
        // SAFETY: `&mut self` is exclusive, and of the only handle.
        let result = unsafe { virtio_ring::restart(queue, size, give_back) };
        if result.is_err() && self.is_broken() {
            let _ = self.recover();
        }
        result
    }

    /// Puts a packet together that the device does not have any more.
    #[inline(always)]
    fn finish(&mut self, data: NonNull<c_void>, context: usize) -> P {
        let (word, table) = split_context(context);
        if let Some(index) = table {
            self.release(index);
        }
        // SAFETY: By the type invariants; every token comes back once.
        unsafe { P::from_raw(data, word) }
    }

    /// Takes back the table of a packet that the device does not have any more.
    #[inline(never)]
    fn release(&mut self, index: u16) {
        // SAFETY: By the type invariants; it does not borrow `self`.
        let vring = unsafe { self.vring.as_ref() };
        self.tables.release(index, |segment, dir| {
            // SAFETY: Mapped when the packet was added.
            unsafe { unmap(vring, segment, dir) };
        });
    }

    /// Makes what was added visible; the notification, if one is due, is the caller's to send.
    /// Nothing added since the last kick, nothing due.
    #[inline]
    pub fn kick(&mut self) -> Option<Notification> {
        if !core::mem::take(&mut self.added) {
            return None;
        }
        // SAFETY: `&mut self` is exclusive.
        if !unsafe { self.vring().kick_prepare() } {
            return None;
        }
        // SAFETY: By the type invariants, alive.
        Some(unsafe { Notification::new(self.vring) })
    }

    /// A notification whether or not the device asked for one.
    pub fn renotify(&mut self) -> Notification {
        let _ = self.kick();
        // SAFETY: By the type invariants, alive.
        unsafe { Notification::new(self.vring) }
    }

    /// Asks the device not to interrupt: a hint.
    #[inline]
    pub fn disable_callbacks(&mut self) {
        self.vring().observer().disable_cb();
    }

    /// Asks for interrupts again.
    ///
    /// [`CbState::MorePending`] if packets were used meanwhile, for which none may come.
    #[inline]
    pub fn enable_callbacks(&mut self) -> CbState {
        // SAFETY: `&mut self` is exclusive.
        unsafe { self.vring().enable_callbacks() }
    }

    /// Asks for an interrupt when most of what the device has was used.
    ///
    /// [`CbState::MorePending`] if that much was used already.
    #[inline]
    pub fn enable_callbacks_delayed(&mut self) -> CbState {
        // SAFETY: `&mut self` is exclusive.
        unsafe { self.vring().enable_callbacks_delayed() }
    }

    /// What can disable callbacks again for who has lost the queue to somebody else meanwhile.
    #[inline]
    pub fn suppressor(&self) -> Suppressor {
        // INVARIANT: This is the handle.
        Suppressor {
            vring: self.vring,
            _guard: rcu::read_lock(),
        }
    }

    /// Whether the device has used packets that were not taken yet.
    #[inline]
    pub fn has_used(&self) -> bool {
        self.vring().observer().more_used()
    }

    /// Whether the queue takes and gives nothing any more: broken by the device, or reset.
    #[inline]
    pub fn is_broken(&self) -> bool {
        self.vring().observer().is_broken()
    }

    /// Breaks the queue, and has the device recovered: see [`crate::recovery`].  Any context.
    pub fn give_up(&mut self) {
        if !self.is_broken() {
            self.vring().observer().break_ring();
            let _ = self.recover();
        }
    }

    /// Descriptors that are free: packets that can be added at least, if each has one piece.
    #[inline]
    pub fn num_free(&self) -> u32 {
        self.vring().num_free()
    }

    /// How many packets of so many pieces can be added now, at least.
    pub fn room(&self, pieces: u32) -> u32 {
        let free = self.num_free();
        match self.tables.free.len() as u32 {
            0 => free.checked_div(pieces).unwrap_or(free),
            tables => free.min(tables),
        }
    }

    /// The number of descriptors.
    pub fn size(&self) -> u32 {
        // SAFETY: By the type invariants, of the kernel's.
        unsafe { virtio_ring::size(NonNull::new_unchecked(self.vring().as_raw())) }
    }

    /// How many packets the device has.
    #[inline]
    pub fn in_flight(&mut self) -> u16 {
        // SAFETY: `&mut self` is exclusive.
        unsafe { self.vring().in_flight() }
    }

    /// The device for which the owner of a packet may map it.
    pub fn dma_device(&self) -> Option<&device::Device> {
        self.vring().dma_device()
    }
}

impl<P: Packet> Drop for PacketQueue<P> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, the handle's own reference.
        unsafe { Vring::put_ref(self.vring) };
    }
}

/// Disables the callbacks of a queue, whoever uses it.  As long as there is one, RCU is read: do not
/// sleep.
///
/// # Invariants
///
/// The queue had a handle when the guard was made, as that of a [`Notification`].
pub struct Suppressor {
    vring: NonNull<Vring>,
    _guard: rcu::Guard,
}

impl Suppressor {
    /// Asks the device not to interrupt: a hint.  Any context.
    #[inline]
    pub fn disable_callbacks(&self) {
        // SAFETY: By the type invariants, there as long as the guard is.
        unsafe { self.vring.as_ref() }.observer().disable_cb();
    }
}

/// Maps a piece, unless its owner has.
///
/// # Safety
///
/// It is a piece of a packet, and unmapped before that is put together again.
#[inline(always)]
unsafe fn map(vring: &Vring, place: Place, dir: Direction) -> Result<Segment, AddErrorKind> {
    let mapper = vring.mapper();
    // SAFETY: By the contract, and that of `Packet`.
    let (mapped, len) = unsafe {
        match place {
            Place::Linear(memory, len) => (mapper.map_single(memory, len as usize, dir), len),
            Place::Pages(Piece { page, offset, len }) => {
                (mapper.map_pages(page, offset, len, dir), len)
            }
            Place::Mapped(addr, len) => (Ok(addr), len),
        }
    };
    let addr = mapped.map_err(|_| AddErrorKind::NoMapping)?;
    Ok(Segment { addr, len })
}

/// Undoes the mapping of a piece.
///
/// # Safety
///
/// The queue mapped it, and the device does not own it any more.
#[inline]
unsafe fn unmap(vring: &Vring, segment: Segment, dir: Direction) {
    // SAFETY: By the contract.
    unsafe {
        vring
            .mapper()
            .unmap(segment.addr, segment.len as usize, dir)
    };
}

#[kunit_tests(virtio_packets)]
mod tests {
    use super::*;

    #[test]
    fn both_parts_of_the_context_come_back() {
        for word in [0, 1, u16::MAX] {
            for table in [None, Some(0), Some(1), Some(0x7fff)] {
                assert!(split_context(context(word, table)) == (word, table));
            }
        }
    }
}
