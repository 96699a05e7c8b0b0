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
    TABLE_ROOM, //
};
use virtio_bindings as bindings;
use virtio_ring::{
    CbState,
    Direction,
    Segment,
    Token,
    Vring, //
};

pub use virtio_ring::Direction as DataDirection;

/// Bytes of a header, and of the longest footer.
pub const HEADER_SIZE: usize = 16;

/// Bytes of data that fit into a slot.
pub const INLINE_SIZE: usize = slot::INLINE_SIZE;

/// Slots that are allocated together.
const SLOTS_PER_BLOCK: usize = 64;

/// Memory of one piece: part of a page, or of pages that follow each other.
#[derive(Clone, Copy)]
pub struct Piece {
    /// The first page.
    pub page: NonNull<bindings::page>,
    /// Where it begins, in bytes from there.
    pub offset: u32,
    /// Its length in bytes, not 0.
    pub len: u32,
}

/// A request with its data.
///
/// # Safety
///
/// - what `pieces` shows is valid memory, which stays so, and is left alone but by the rules of DMA,
///   until the request was put together again by `from_raw`;
/// - `from_raw` gives back the very request that `into_raw` took apart;
/// - `slot_of` says of what `into_raw` returned what `slot` said of the request.
pub unsafe trait Request: Send + Sized {
    /// The number of the request: no other that is in the same queue has it.
    fn slot(&self) -> usize;

    /// The number of a request that was taken apart.
    ///
    /// # Safety
    ///
    /// `raw` comes from `into_raw`, and was not put together since.
    unsafe fn slot_of(raw: NonNull<c_void>) -> usize;

    /// What the device does with the data.
    fn direction(&self) -> Direction;

    /// Calls `f` for the data, piece by piece, until it fails.
    ///
    /// # Errors
    ///
    /// Those of `f`.
    fn pieces<E>(&self, f: impl FnMut(Piece) -> Result<(), E>) -> Result<(), E>;

    /// Takes the request apart.
    fn into_raw(self) -> NonNull<c_void>;

    /// Puts it together again.
    ///
    /// # Safety
    ///
    /// `raw` comes from `into_raw`, and is used once.
    unsafe fn from_raw(raw: NonNull<c_void>) -> Self;
}

/// The data of a command.
#[derive(Clone, Copy)]
pub enum Data<'a> {
    /// There is none.
    None,
    /// What the request brings along.
    Request,
    /// These bytes, at most [`INLINE_SIZE`], for the device to read.
    Readable(&'a [u8]),
    /// So many bytes, at most [`INLINE_SIZE`], for the device to write: see
    /// [`RequestQueue::get_buf`].
    Writable(usize),
}

/// What is asked of the device.
pub struct Command<'a> {
    /// What the device reads first.
    pub header: [u8; HEADER_SIZE],
    /// The data between header and footer.
    pub data: Data<'a>,
    /// Bytes of the footer, 1 to [`HEADER_SIZE`].
    pub footer: usize,
}

/// Why a request was not added, and the request.
pub struct AddError<R> {
    /// Why.
    pub kind: AddErrorKind,
    /// The request.
    pub request: R,
}

/// A request that came back from the device.
pub struct Done<R> {
    /// The request.
    pub request: R,
    /// How many bytes the device says it wrote, footer included; no more than there were.
    pub written: u32,
    /// The footer, read once; all ones where the device did not write it.
    pub footer: [u8; HEADER_SIZE],
}

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
    /// Where the data of tables was mapped to, [`TABLE_ROOM`] for each slot: only where mappings are
    /// to be undone.  (The ring remembers chains by itself.)
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
        if vring.mapper().uses_api() && self.indirect {
            let nothing = Segment { addr: 0, len: 0 };
            self.copies = KVVec::from_elem(nothing, count * usize::from(TABLE_ROOM), GFP_KERNEL)?;
        }
        Ok(())
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
            match self.fill_table(index, request, command) {
                Ok(prepared) => return Ok(prepared),
                Err(Stop::Mapping) => return Err(AddErrorKind::NoMapping),
                // Too scattered for the table: the ring itself has room for more.
                Err(Stop::Room) => {}
            }
        }
        self.fill_chain(index, request, command)
    }

    /// Writes the request to the table of its slot.
    #[inline(always)]
    fn fill_table(
        &mut self,
        index: usize,
        request: &R,
        command: &Command<'_>,
    ) -> Result<Prepared, Stop> {
        // SAFETY: By the type invariants; it does not borrow `self`.
        let vring = unsafe { self.vring.as_ref() };
        let slot = self.slots.get_mut(index).ok_or(Stop::Room)?;
        // SAFETY: The table's part of what was shared; the ring outlives this function.
        let mut table = unsafe { vring.table(slot.table_memory(), TABLE_ROOM) };
        table.set(0, slot.header(), Direction::Readable, false);
        let mut count = 1;
        let mut bytes = 0;
        let mut dir = Direction::Readable;
        if let Some((segment, inline_dir)) = slot.inline(command) {
            table.set(count, segment, inline_dir, false);
            count += 1;
            (bytes, dir) = (u64::from(segment.len), inline_dir);
        } else if matches!(command.data, Data::Request) {
            dir = request.direction();
            let copies = self.copies.get_mut(index * usize::from(TABLE_ROOM)..);
            let mut copies = copies.unwrap_or_default().iter_mut();
            let filled = request.pieces(|piece| {
                // One is left for the footer.
                if count + 1 >= TABLE_ROOM {
                    return Err(Stop::Room);
                }
                // SAFETY: By the contract of `Request`; unmapped when it comes back.
                let segment = unsafe { map(vring, piece, dir) }.map_err(|_| Stop::Mapping)?;
                if let Some(copy) = copies.next() {
                    *copy = segment;
                }
                table.set(count, segment, dir, false);
                count += 1;
                bytes += u64::from(segment.len);
                Ok(())
            });
            if !self.copies.is_empty() {
                (slot.mapped, slot.direction) = (count - 1, dir);
                if let Err(stop) = filled {
                    // SAFETY: Mapped above, and not handed to the device.
                    unsafe { self.unmap_table(index) };
                    return Err(stop);
                }
            }
            filled?;
        }
        let slot = self.slots.get(index).ok_or(Stop::Room)?;
        let footer = slot.footer(command);
        table.set(count, footer, Direction::Writable, true);
        let (readable, writable) = match dir {
            Direction::Readable => (bytes, 0),
            Direction::Writable => (0, bytes),
        };
        Ok(Prepared::Table {
            table: slot.table(count + 1),
            readable: readable + HEADER_SIZE as u64,
            writable: writable + u64::from(footer.len),
        })
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

    /// Undoes the mappings of a table's data.
    ///
    /// # Safety
    ///
    /// The device does not own the request.
    #[inline]
    unsafe fn unmap_table(&mut self, index: usize) {
        // SAFETY: By the type invariants; it does not borrow `self`.
        let vring = unsafe { self.vring.as_ref() };
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        let count = usize::from(core::mem::take(&mut slot.mapped));
        let start = index * usize::from(TABLE_ROOM);
        for segment in self.copies.get(start..start + count).unwrap_or_default() {
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
        if !self.copies.is_empty() {
            // SAFETY: The device gave the request back.
            unsafe { self.unmap_table(index) };
        }
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
