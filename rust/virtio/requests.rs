// SPDX-License-Identifier: GPL-2.0

//! Queues of requests: a header that the device reads, scattered data one way or the other, and a
//! footer that the device writes.
//!
//! Specification: 5.2.6 (block requests), 2.7.5.3 (indirect descriptors).
//!
//! Every request has a number below the queue's number of slots.  A slot is memory that is shared
//! with the device once and for all: footer, header, an indirect table, and room for a little data
//! that is not the request's own.  To add a request is to write its segments to the table in one
//! pass and to hand one descriptor to the ring: nothing is allocated, and nothing but the data is
//! mapped.

mod request;
mod slot;

use crate::{
    device::Device,
    lifecycle::{
        Configured,
        Quiesced, //
    },
    queue::{
        AddErrorKind,
        Notification,
        Queues, //
    },
    recovery, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    ffi::c_void,
    prelude::*, //
};
use slot::{
    Slot,
    SLOT_SIZE,
    TABLE_ROOM,
    UNIT, //
};
use virtio_ring::{
    CbState,
    Direction,
    Segment,
    Table,
    Token,
    Vring, //
};

pub use request::{
    AddError,
    Command,
    Data,
    Done,
    Piece,
    Request, //
};
pub use virtio_ring::Direction as DataDirection;

/// Bytes of a header, and of the longest footer.
pub const HEADER_SIZE: usize = 16;

/// Bytes of data that fit into a slot.
pub const INLINE_SIZE: usize = slot::INLINE_SIZE;

/// Slots that are allocated together.
const SLOTS_PER_BLOCK: usize = 64;

/// Tables for data that is too scattered for that of a slot; when all are in use, the ring itself has
/// to do.
const LARGE_TABLES: usize = 16;

/// A virtqueue for requests of type `R`.
///
/// Operations need `&mut`: put it behind the lock of the driver's choice.  Who drops a queue with
/// requests in it loses them: [`RequestQueue::drain`] gives them back.
///
/// # Invariants
///
/// The only handle of its queue, with a reference to it; every token in the queue is an `R`, whose
/// slot is in flight.
pub struct RequestQueue<R: Request> {
    vring: NonNull<Vring>,
    slots: KVVec<Slot>,
    large: LargeTables,
    /// Where the data of tables was mapped to, [`TABLE_ROOM`] for each slot, and behind them as many as
    /// a ring has descriptors for each large table: only where mappings are to be undone.  (The ring
    /// remembers chains by itself.)
    copies: KVVec<Segment>,
    /// A chain for the ring itself, while it is put together.
    chain: KVVec<Segment>,
    indirect: bool,
    /// Something was added since the last kick.
    added: bool,
    _requests: PhantomData<R>,
}

// SAFETY: The queue is used through `&mut`; requests are `Send`.
unsafe impl<R: Request> Send for RequestQueue<R> {}

/// Tables as long as a chain may be.
struct LargeTables {
    /// Where they are, for us and for the device.
    tables: KVec<(NonNull<u8>, u64)>,
    /// Those that are not in use.
    free: KVec<u16>,
    /// Descriptors of one.
    room: u16,
}

/// The table of a request: where it is, for us and for the device, its room, and where the copies of
/// its segments begin.
struct TablePlace {
    memory: NonNull<u8>,
    address: u64,
    room: u16,
    copies: usize,
}

/// Why a request cannot be put together.
enum Stop {
    /// The table is too short.
    Room,
    /// The data cannot be mapped now.
    Mapping,
}

/// A request whose slot is filled and whose data is mapped.
enum Prepared {
    /// It has a table, with so many bytes to read and to write.
    Table {
        table: Segment,
        readable: u64,
        writable: u64,
    },
    /// It is in `chain`, with so many segments to read; its own data, if it is there, is mapped.
    Chain {
        readable: usize,
        mapped: Option<Direction>,
    },
}

impl Queues<'_> {
    /// Takes queue `index` for requests with numbers below `slots`.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is no such queue, or it was taken before; `ENOMEM`.
    pub fn take_requests<R: Request>(
        &mut self,
        _dev: &Configured<'_>,
        index: usize,
        slots: usize,
    ) -> Result<RequestQueue<R>> {
        let queue = self.take_raw(index)?;
        // SAFETY: Found by the core, and handed out once.
        let vring = unsafe { Vring::from_raw(queue.as_ptr()) };
        vring.get_ref();
        // INVARIANT: Handed out once, with a reference.
        let mut queue = RequestQueue {
            vring: NonNull::from(vring),
            slots: KVVec::new(),
            large: LargeTables {
                tables: KVec::new(),
                free: KVec::new(),
                room: u16::try_from(vring.num_free()).unwrap_or(u16::MAX),
            },
            copies: KVVec::new(),
            chain: KVVec::new(),
            // No chain may be longer than its ring, a table neither (section 2.7.5.3.1).
            indirect: vring.has_indirect() && vring.num_free() >= TABLE_ROOM.into(),
            added: false,
            _requests: PhantomData,
        };
        queue.make_slots(slots)?;
        Ok(queue)
    }
}

impl<R: Request> RequestQueue<R> {
    fn make_slots(&mut self, count: usize) -> Result {
        // SAFETY: By the type invariants; it does not borrow `self`.
        let vring = unsafe { self.vring.as_ref() };
        self.slots.reserve(count, GFP_KERNEL)?;
        self.chain.reserve(vring.num_free() as usize, GFP_KERNEL)?;
        while self.slots.len() < count {
            let block = SLOTS_PER_BLOCK.min(count - self.slots.len());
            // SAFETY: The only handle, and the device does not run yet.
            let shared = unsafe { vring.share(block * SLOT_SIZE)? };
            for at in 0..block {
                let address = shared.address + (at * SLOT_SIZE) as u64;
                // SAFETY: Inside of what was allocated, which lives as long as the ring, to which
                // this handle has a reference.
                let slot = unsafe { Slot::new(shared.memory.add(at * SLOT_SIZE), address) };
                self.slots.push(slot, GFP_KERNEL)?;
            }
        }
        if !self.indirect {
            return Ok(());
        }
        if self.large.room > TABLE_ROOM {
            let size = usize::from(self.large.room) * UNIT;
            for at in 0..LARGE_TABLES {
                // SAFETY: As above.
                let shared = unsafe { vring.share(size)? };
                let table = (shared.memory, shared.address);
                self.large.tables.push(table, GFP_KERNEL)?;
                self.large.free.push(at as u16, GFP_KERNEL)?;
            }
        }
        if vring.mapper().uses_api() {
            let nothing = Segment { addr: 0, len: 0 };
            let large = self.large.tables.len() * usize::from(self.large.room);
            let all = count * usize::from(TABLE_ROOM) + large;
            self.copies = KVVec::from_elem(nothing, all, GFP_KERNEL)?;
        }
        Ok(())
    }

    /// Where the table of slot `index` is: its own, or the large one that it has.
    #[inline(always)]
    fn table_place(&self, index: usize) -> Option<TablePlace> {
        let slot = self.slots.get(index)?;
        let Some(large) = slot.large else {
            return Some(TablePlace {
                memory: slot.table_memory(),
                address: slot.table_address(),
                room: TABLE_ROOM,
                copies: index.wrapping_mul(usize::from(TABLE_ROOM)),
            });
        };
        let (memory, address) = *self.large.tables.get(usize::from(large))?;
        let before = self.slots.len() * usize::from(TABLE_ROOM);
        Some(TablePlace {
            memory,
            address,
            room: self.large.room,
            copies: before + usize::from(large) * usize::from(self.large.room),
        })
    }

    /// Gives slot `index` a large table.  False if there is none.
    #[cold]
    fn take_large(&mut self, index: usize) -> bool {
        let (Some(slot), Some(large)) = (self.slots.get_mut(index), self.large.free.pop()) else {
            return false;
        };
        slot.large = Some(large);
        true
    }

    /// Takes back the large table of slot `index`, if it has one.
    #[inline(always)]
    fn give_large(&mut self, index: usize) {
        if let Some(large) = self.slots.get_mut(index).and_then(|slot| slot.large.take()) {
            // It was there before: there is room.
            let _ = self.large.free.push_within_capacity(large);
        }
    }

    fn vring(&self) -> &Vring {
        // SAFETY: By the type invariants.
        unsafe { self.vring.as_ref() }
    }

    /// Lends `request` to the device, with `command`.  It is seen after the next kick.  Any context.
    ///
    /// # Errors
    ///
    /// Why not; the request comes back.  `Full` passes when a request comes back from the device,
    /// `NoMapping` with time.
    #[inline]
    pub fn add(&mut self, request: R, command: &Command<'_>) -> Result<(), AddError<R>> {
        let slot = request.slot();
        let prepared = match self.prepare(&request, command) {
            Ok(prepared) => prepared,
            Err(kind) => return Err(AddError { kind, request }),
        };
        let token = Token::mapped(request.into_raw());
        // SAFETY: `&mut self` is exclusive; slot and data are the device's until the request comes
        // back, by the contract of `Request`.
        let result = unsafe {
            match &prepared {
                Prepared::Table {
                    table,
                    readable,
                    writable,
                } => match (u32::try_from(*readable), u32::try_from(*writable)) {
                    (Ok(readable), Ok(writable)) => {
                        self.vring().add_indirect(*table, readable, writable, token)
                    }
                    _ => Err((virtio_ring::AddErrorKind::TooLong, token)),
                },
                Prepared::Chain { readable, .. } => {
                    let middle = (*readable).min(self.chain.len());
                    let (readable, writable) = self.chain.split_at(middle);
                    self.vring().add(readable, writable, token)
                }
            }
        };
        match result {
            Ok(()) => {
                if let Some(slot) = self.slots.get_mut(slot) {
                    slot.in_flight = true;
                }
                self.added = true;
                Ok(())
            }
            Err((kind, token)) => {
                // SAFETY: Mapped by `prepare`, and not handed to the device.
                unsafe {
                    match prepared {
                        Prepared::Table { .. } => self.unmap_table(slot),
                        Prepared::Chain { mapped, .. } => self.unmap_chain(mapped, 1),
                    }
                }
                Err(AddError {
                    kind: AddErrorKind::Ring(kind),
                    // SAFETY: Taken apart above.
                    request: unsafe { R::from_raw(token.data) },
                })
            }
        }
    }

    /// Fills the slot, and maps the data.
    #[inline(always)]
    fn prepare(&mut self, request: &R, command: &Command<'_>) -> Result<Prepared, AddErrorKind> {
        let index = request.slot();
        match self.slots.get_mut(index) {
            Some(slot) if !slot.in_flight => {
                if !slot.fill(command) {
                    return Err(AddErrorKind::Ring(virtio_ring::AddErrorKind::TooLong));
                }
            }
            _ => return Err(AddErrorKind::NoSlot),
        }
        if self.indirect {
            let stop = match self.fill_table(index, request, command) {
                Ok(prepared) => return Ok(prepared),
                Err(stop) => stop,
            };
            // SAFETY: Not handed to the device.
            unsafe { self.unmap_table(index) };
            match stop {
                Stop::Mapping => return Err(AddErrorKind::NoMapping),
                // Too scattered for a table, or no large one is left: the ring itself has to do.
                Stop::Room => {}
            }
        }
        self.fill_chain(index, request, command)
    }

    /// Writes the request to the table of its slot, or to a large one.
    #[inline(always)]
    fn fill_table(
        &mut self,
        index: usize,
        request: &R,
        command: &Command<'_>,
    ) -> Result<Prepared, Stop> {
        let data = matches!(command.data, Data::Request);
        // One is for the header, one for the footer.
        if data && request.max_pieces() > usize::from(TABLE_ROOM - 2) && !self.take_large(index) {
            return Err(Stop::Room);
        }
        let place = self.table_place(index).ok_or(Stop::Room)?;
        let slot = self.slots.get(index).ok_or(Stop::Room)?;
        // SAFETY: Part of what was shared with that much room; the ring outlives this function.
        let mut table = unsafe { self.vring().table(place.memory, place.room) };
        table.push(slot.header(), table.access(Direction::Readable));
        let (bytes, dir) = if let Some((segment, dir)) = slot.inline(command) {
            table.push(segment, table.access(dir));
            (u64::from(segment.len), dir)
        } else if !data {
            (0, Direction::Readable)
        } else if self.copies.is_empty() {
            let dir = request.direction();
            (self.push_data(request, dir, &mut table)?, dir)
        } else {
            let dir = request.direction();
            let bytes = self.push_mapped(index, &place, request, dir, &mut table)?;
            (bytes, dir)
        };
        let slot = self.slots.get(index).ok_or(Stop::Room)?;
        let footer = slot.footer(command);
        table.finish(footer, table.access(Direction::Writable));
        let (readable, writable) = match dir {
            Direction::Readable => (bytes, 0),
            Direction::Writable => (0, bytes),
        };
        let count = place.room.wrapping_sub(table.left());
        Ok(Prepared::Table {
            table: Segment {
                addr: place.address,
                len: u32::from(count).wrapping_mul(UNIT as u32),
            },
            readable: readable.wrapping_add(HEADER_SIZE as u64),
            writable: writable.wrapping_add(footer.len.into()),
        })
    }

    /// Writes the data to a table, with mappings that need not be undone, and says how many bytes.
    #[inline(always)]
    fn push_data(&self, request: &R, dir: Direction, table: &mut Table) -> Result<u64, Stop> {
        let vring = self.vring();
        let access = table.access(dir);
        let mut bytes = 0_u64;
        request.pieces(|piece| {
            // SAFETY: By the contract of `Request`.
            let segment = unsafe { map(vring, piece, dir) }.map_err(|_| Stop::Mapping)?;
            bytes = bytes.wrapping_add(segment.len.into());
            // One is left for the footer.
            if table.left() <= 1 || !table.push(segment, access) {
                return Err(Stop::Room);
            }
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Maps the data, writes it to a table, and says how many bytes.
    #[inline(never)]
    fn push_mapped(
        &mut self,
        index: usize,
        place: &TablePlace,
        request: &R,
        dir: Direction,
        table: &mut Table,
    ) -> Result<u64, Stop> {
        // SAFETY: By the type invariants; it does not borrow `self`.
        let vring = unsafe { self.vring.as_ref() };
        let access = table.access(dir);
        let mut bytes = 0_u64;
        let mut count = 0;
        let copies = self.copies.get_mut(place.copies..).unwrap_or_default();
        let mut copies = copies.iter_mut();
        let filled = request.pieces(|piece| {
            // One is left for the footer.
            if table.left() <= 1 {
                return Err(Stop::Room);
            }
            let copy = copies.next().ok_or(Stop::Room)?;
            // SAFETY: By the contract of `Request`; unmapped when it comes back.
            *copy = unsafe { map(vring, piece, dir) }.map_err(|_| Stop::Mapping)?;
            count += 1;
            bytes = bytes.wrapping_add(copy.len.into());
            table.push(*copy, access);
            Ok(())
        });
        if let Some(slot) = self.slots.get_mut(index) {
            (slot.mapped, slot.direction) = (count, dir);
        }
        filled?;
        Ok(bytes)
    }

    /// Writes the request to `chain`: the device takes no tables, or the data is too scattered for
    /// ours.
    fn fill_chain(
        &mut self,
        index: usize,
        request: &R,
        command: &Command<'_>,
    ) -> Result<Prepared, AddErrorKind> {
        const TOO_LONG: AddErrorKind = AddErrorKind::Ring(virtio_ring::AddErrorKind::TooLong);
        // SAFETY: By the type invariants; it does not borrow `self`.
        let vring = unsafe { self.vring.as_ref() };
        let slot = self.slots.get(index).ok_or(AddErrorKind::NoSlot)?;
        let chain = &mut self.chain;
        chain.clear();
        // The capacity is that of the ring: what is longer does not fit there either.
        let mut push = |segment| chain.push_within_capacity(segment).map_err(|_| TOO_LONG);
        push(slot.header())?;
        let mut dir = Direction::Readable;
        let mut mapped = None;
        let filled = if let Some((segment, inline_dir)) = slot.inline(command) {
            dir = inline_dir;
            push(segment)
        } else if matches!(command.data, Data::Request) {
            dir = request.direction();
            mapped = Some(dir);
            request.pieces(|piece| {
                // SAFETY: By the contract of `Request`; unmapped when it comes back.
                let segment =
                    unsafe { map(vring, piece, dir) }.map_err(|_| AddErrorKind::NoMapping)?;
                push(segment).inspect_err(|_| {
                    // SAFETY: Mapped just now.
                    unsafe { unmap(vring, segment, dir) }
                })
            })
        } else {
            Ok(())
        };
        let last = self.chain.len();
        let footer = slot.footer(command);
        let filled = filled.and_then(|()| {
            let pushed = self.chain.push_within_capacity(footer);
            pushed.map_err(|_| TOO_LONG)
        });
        if let Err(kind) = filled {
            // SAFETY: Mapped above, and not handed to the device; the footer is not there.
            unsafe { self.unmap_chain(mapped, 0) };
            return Err(kind);
        }
        let readable = match dir {
            Direction::Readable => last,
            Direction::Writable => 1,
        };
        Ok(Prepared::Chain { readable, mapped })
    }

    /// Undoes the mappings of a table's data, and takes a large table back.
    ///
    /// # Safety
    ///
    /// The device does not own the request.
    #[inline]
    unsafe fn unmap_table(&mut self, index: usize) {
        if !self.copies.is_empty() {
            // SAFETY: By the contract.
            unsafe { self.unmap_copies(index) };
        }
        self.give_large(index);
    }

    /// Undoes the mappings of a table's data.
    ///
    /// # Safety
    ///
    /// As [`RequestQueue::unmap_table`].
    unsafe fn unmap_copies(&mut self, index: usize) {
        let Some(place) = self.table_place(index) else {
            return;
        };
        // SAFETY: By the type invariants; it does not borrow `self`.
        let vring = unsafe { self.vring.as_ref() };
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        let count = usize::from(core::mem::take(&mut slot.mapped));
        let copies = self.copies.get(place.copies..place.copies + count);
        for segment in copies.unwrap_or_default() {
            // SAFETY: By the contract; mapped when it was added.
            unsafe { unmap(vring, *segment, slot.direction) };
        }
    }

    /// Undoes the mappings of the data in `chain`: all but the header and the last `footer`.
    ///
    /// # Safety
    ///
    /// The device does not own the request.
    unsafe fn unmap_chain(&self, mapped: Option<Direction>, footer: usize) {
        let Some(dir) = mapped else {
            return;
        };
        let end = self.chain.len().saturating_sub(footer);
        for segment in self.chain.get(1..end).unwrap_or_default() {
            // SAFETY: By the contract; mapped by `fill_chain`.
            unsafe { unmap(self.vring(), *segment, dir) };
        }
    }

    /// Takes the next request that the device has used.  Any context.
    ///
    /// `inline` is called with the request, for [`Data::Writable`]: what it returns is filled with
    /// what the device wrote.  A device that breaks the queue is recovered, see [`crate::recovery`].
    #[inline]
    pub fn get_buf(&mut self, inline: impl FnOnce(&mut R) -> &mut [u8]) -> Option<Done<R>> {
        let was_whole = !self.is_broken();
        // SAFETY: By the type invariants; it does not borrow `self`.
        let vring = unsafe { self.vring.as_ref() };
        // SAFETY: `&mut self` is exclusive; the device gave the request back.
        let taken = unsafe {
            vring.get_with(|raw, segment, dir| {
                if !is_in_slot::<R>(&self.slots, raw, segment) {
                    unmap(vring, segment, dir);
                }
            })
        };
        let Some((token, written)) = taken else {
            if was_whole && self.is_broken() {
                // SAFETY: A queue that was whole is of a device that is bound.
                unsafe { recovery::schedule_broken(Device::from_raw((*vring.as_raw()).vdev)) };
            }
            return None;
        };
        // SAFETY: By the type invariants; every token comes back once.
        let mut request = unsafe { R::from_raw(token.data) };
        let index = request.slot();
        // SAFETY: The device gave the request back.
        unsafe { self.unmap_table(index) };
        let slot = self.slots.get_mut(index)?;
        slot.in_flight = false;
        let footer = slot.read_footer();
        slot.read_inline(inline(&mut request));
        Some(Done {
            request,
            written,
            footer,
        })
    }

    /// Takes back a request that the device has not used.
    pub fn drain(&mut self, _proof: &Quiesced<'_>) -> Option<R> {
        // SAFETY: By the type invariants; it does not borrow `self`.
        let vring = unsafe { self.vring.as_ref() };
        // SAFETY: `&mut self` is exclusive; the device does not own its buffers any more, or is
        // kept from them, which `Quiesced` is about.
        let token = unsafe {
            vring.detach_with(|raw, segment, dir| {
                if !is_in_slot::<R>(&self.slots, raw, segment) {
                    unmap(vring, segment, dir);
                }
            })
        }?;
        // SAFETY: By the type invariants; every token comes back once.
        let request = unsafe { R::from_raw(token.data) };
        let index = request.slot();
        // SAFETY: As above.
        unsafe { self.unmap_table(index) };
        if let Some(slot) = self.slots.get_mut(index) {
            slot.in_flight = false;
        }
        Some(request)
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

    /// A notification whether or not the device asked for one: it may have missed the last.
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
    /// [`CbState::MorePending`] if requests were used meanwhile, for which none may come.
    #[inline]
    pub fn enable_callbacks(&mut self) -> CbState {
        // SAFETY: `&mut self` is exclusive.
        unsafe { self.vring().enable_callbacks() }
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
            // SAFETY: A queue that was whole is of a device that is bound.
            unsafe { recovery::schedule_broken(Device::from_raw((*self.vring().as_raw()).vdev)) };
        }
    }

    /// How many requests the device has.
    pub fn in_flight(&mut self) -> u16 {
        // SAFETY: `&mut self` is exclusive.
        unsafe { self.vring().in_flight() }
    }
}

impl<R: Request> Drop for RequestQueue<R> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, the handle's own reference.
        unsafe { Vring::put_ref(self.vring) };
    }
}

/// Maps a piece for the device.
///
/// # Safety
///
/// As `Mapper::map_pages`.
#[inline(always)]
unsafe fn map(vring: &Vring, piece: Piece, dir: Direction) -> Result<Segment> {
    // SAFETY: By the contract.
    let addr = unsafe {
        vring
            .mapper()
            .map_pages(piece.page, piece.offset, piece.len, dir)
    }?;
    Ok(Segment {
        addr,
        len: piece.len,
    })
}

/// Undoes [`map`].
///
/// # Safety
///
/// Mapped so, and the device does not own it any more.
unsafe fn unmap(vring: &Vring, segment: Segment, dir: Direction) {
    // SAFETY: By the contract.
    unsafe {
        vring
            .mapper()
            .unmap(segment.addr, segment.len as usize, dir)
    };
}

/// Whether a segment of a chain is not data of the request, but part of its slot.
///
/// # Safety
///
/// `raw` is an `R` taken apart.
unsafe fn is_in_slot<R: Request>(slots: &[Slot], raw: NonNull<c_void>, segment: Segment) -> bool {
    // SAFETY: By the contract.
    let slot = slots.get(unsafe { R::slot_of(raw) });
    slot.is_some_and(|slot| slot.holds(segment.addr))
}
