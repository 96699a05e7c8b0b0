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

mod any;
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
        Queues,
        RingErrorKind, //
    },
    recovery, //
};
use any::LargeTables;
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
use virtio_ring::{
    Broken,
    CbState,
    Direction,
    Segment,
    TableFormat,
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

/// Pieces of data that fit into the table of a slot, with header and footer.
const MAX_PIECES: usize = TABLE_ROOM as usize - 2;

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
    /// Requests with data of their own take a table, and nothing of it is to be undone.
    plain: bool,
    /// There are no tables, and nothing of a chain is to be undone.
    direct: bool,
    /// There may be something to undo when a request comes back: mappings, or a large table.
    undoes: bool,
    /// How tables are written.
    format: TableFormat,
    /// Something was added since the last kick.
    added: bool,
    /// To take all used requests asks for the next interrupt.
    rearms: bool,
    _requests: PhantomData<R>,
}

// SAFETY: The queue is used through `&mut`; requests are `Send`.
unsafe impl<R: Request> Send for RequestQueue<R> {}

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
            large: LargeTables::new(vring.num_free()),
            copies: KVVec::new(),
            chain: KVVec::new(),
            // No chain may be longer than its ring, a table neither (section 2.7.5.3.1).
            indirect: vring.has_indirect() && vring.num_free() >= TABLE_ROOM.into(),
            plain: false,
            direct: false,
            undoes: false,
            format: vring.table_format(),
            added: false,
            rearms: vring.has_event_idx(),
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
                let slot =
                    unsafe { Slot::new(shared.memory.add(at * SLOT_SIZE), address, &self.format) };
                self.slots.push(slot, GFP_KERNEL)?;
            }
        }
        if !self.indirect {
            self.direct = !vring.mapper().uses_api();
            return Ok(());
        }
        // SAFETY: As above.
        unsafe { self.large.fill(vring)? };
        self.plain = !vring.mapper().uses_api();
        self.undoes = !self.plain;
        if !self.plain {
            let nothing = Segment { addr: 0, len: 0 };
            let all = count * usize::from(TABLE_ROOM) + self.large.descriptors();
            self.copies = KVVec::from_elem(nothing, all, GFP_KERNEL)?;
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
    #[inline(always)]
    pub fn add(&mut self, request: R, command: Command<'_>) -> Result<(), AddError<R>> {
        let Command {
            header,
            data,
            footer,
        } = command;
        if self.plain && matches!(data, Data::Request) && request.max_pieces() <= MAX_PIECES {
            self.add_plain(request, header, footer)
        } else if let Some(piece) = self.direct_piece(&request, &data) {
            self.add_direct(request, piece, header, footer)
        } else {
            // Put together here, so that it need not be in memory for the others.
            let command = Command {
                header,
                data,
                footer,
            };
            self.add_any(request, &command)
        }
    }

    /// Adds a request with data of its own that fits into the table of its slot, where mapping is no
    /// more than to know an address: the usual case, for which everything is in registers.
    #[inline(always)]
    fn add_plain(
        &mut self,
        request: R,
        header: [u8; HEADER_SIZE],
        footer_size: usize,
    ) -> Result<(), AddError<R>> {
        // SAFETY: By the type invariants; it does not borrow `self`.
        let vring = unsafe { self.vring.as_ref() };
        let (slot, request) = free_slot(&mut self.slots, request)?;
        slot.fill_ends(header);
        let footer = slot.footer(footer_size);
        let filled = match request.only_piece() {
            Some(piece) => Some(slot.fill_piece(piece, request.direction(), &self.format, footer)),
            None => slot.fill_plain(&request, &self.format, footer),
        };
        let Some(count) = filled else {
            let command = Command {
                header,
                data: Data::Request,
                footer: footer_size,
            };
            return self.add_any(request, &command);
        };
        let table = slot.table(count);
        let bytes = request.bytes();
        let (readable, writable) = match request.direction() {
            Direction::Readable => (bytes, 0),
            Direction::Writable => (0, bytes),
        };
        // The block layer's limit for a request is far from where this would end.
        let readable = readable.saturating_add(HEADER_SIZE as u32);
        let writable = writable.saturating_add(footer.len);
        let raw = request.into_raw();
        // SAFETY: `&mut self` is exclusive; slot and data are the device's until the request comes
        // back, by the contract of `Request`.
        let result = unsafe { vring.add_indirect(table, readable, writable, raw) };
        // SAFETY: Taken apart above.
        result.map_err(|kind| unsafe { not_taken(kind, raw) })?;
        slot.in_flight = true;
        self.added = true;
        Ok(())
    }

    /// The data of a request that is one piece, where there are no tables, and mapping is no more than to
    /// know an address.
    #[inline(always)]
    fn direct_piece(&self, request: &R, data: &Data<'_>) -> Option<Piece> {
        if self.direct && matches!(data, Data::Request) {
            request.only_piece()
        } else {
            None
        }
    }

    /// Adds a request with one piece of data to the ring itself: [`RequestQueue::add_plain`] where there
    /// are no tables.
    #[inline(never)]
    fn add_direct(
        &mut self,
        request: R,
        piece: Piece,
        header: [u8; HEADER_SIZE],
        footer_size: usize,
    ) -> Result<(), AddError<R>> {
        // SAFETY: By the type invariants; it does not borrow `self`.
        let vring = unsafe { self.vring.as_ref() };
        let (slot, request) = free_slot(&mut self.slots, request)?;
        slot.fill_ends(header);
        let dir = request.direction();
        // SAFETY: By the contract of `Request`.
        let data = unsafe { slot::plain(piece, dir) };
        let chain = [slot.header(), data, slot.footer(footer_size)];
        let (readable, writable) = match dir {
            Direction::Readable => chain.split_at(2),
            Direction::Writable => chain.split_at(1),
        };
        let raw = request.into_raw();
        // SAFETY: `&mut self` is exclusive; slot and data are the device's until the request comes
        // back, by the contract of `Request`.
        let result = unsafe { vring.add(readable, writable, Token::mapped(raw)) };
        // SAFETY: Taken apart above.
        result.map_err(|(kind, _)| unsafe { not_taken(kind, raw) })?;
        slot.in_flight = true;
        self.added = true;
        Ok(())
    }

    /// Takes the next request that the device has used.  Any context.
    ///
    /// `inline` is called with the request, for [`Data::Writable`]: what it returns is filled with
    /// what the device wrote.  A device that breaks the queue is recovered, see [`crate::recovery`].
    #[inline]
    pub fn get_buf(&mut self, inline: impl FnOnce(&mut R) -> &mut [u8]) -> Option<Done<R>> {
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
        let (raw, written) = match taken {
            Ok(taken) => taken?,
            Err(Broken) => {
                // SAFETY: A queue that was whole is of a device that is bound.
                unsafe { recovery::schedule_broken(Device::from_raw((*vring.as_raw()).vdev)) };
                return None;
            }
        };
        // SAFETY: By the type invariants; every token comes back once.
        let mut request = unsafe { R::from_raw(raw) };
        let index = request.slot();
        if self.undoes {
            // SAFETY: The device gave the request back.
            unsafe { self.unmap_table(index) };
        }
        let slot = self.slots.get_mut(index)?;
        slot.in_flight = false;
        let footer = slot.read_footer();
        let reply = inline(&mut request);
        if !reply.is_empty() {
            slot.read_inline(reply);
        }
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
        // SAFETY: This is the handle.
        Some(unsafe { Notification::new(self.vring) })
    }

    /// A notification whether or not the device asked for one: it may have missed the last.
    pub fn renotify(&mut self) -> Notification {
        let _ = self.kick();
        // SAFETY: This is the handle.
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

    /// Asks the device not to interrupt while used requests are taken, if that must be said: with event
    /// indices it does not, before [`RequestQueue::get_buf`] has given the last one.
    #[inline]
    pub fn pause_callbacks(&mut self) {
        if !self.rearms {
            self.disable_callbacks();
        }
    }

    /// Ends that, once [`RequestQueue::get_buf`] has nothing more to give.
    ///
    /// [`CbState::MorePending`] if requests were used meanwhile, for which no interrupt may come.
    #[inline]
    pub fn resume_callbacks(&mut self) -> CbState {
        if self.rearms {
            // The last `get_buf` has looked after it, or the one before, had asked for the next.
            CbState::Armed
        } else {
            self.enable_callbacks()
        }
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

/// The slot of a request, if the device has it not; the request comes back either way.
#[inline(always)]
fn free_slot<R: Request>(slots: &mut [Slot], request: R) -> Result<(&mut Slot, R), AddError<R>> {
    match slots.get_mut(request.slot()) {
        Some(slot) if !slot.in_flight => Ok((slot, request)),
        _ => Err(AddError {
            kind: AddErrorKind::NoSlot,
            request,
        }),
    }
}

/// Gives back a request that the ring did not take.
///
/// # Safety
///
/// `raw` is an `R` taken apart, and nobody puts it together again.
#[inline(always)]
unsafe fn not_taken<R: Request>(kind: RingErrorKind, raw: NonNull<c_void>) -> AddError<R> {
    AddError {
        kind: AddErrorKind::Ring(kind),
        // SAFETY: By the contract.
        request: unsafe { R::from_raw(raw) },
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
