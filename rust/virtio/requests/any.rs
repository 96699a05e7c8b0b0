// SPDX-License-Identifier: GPL-2.0

//! Requests of any kind on their way into a queue: also those that are not plain.
//!
//! Mappings may have to be undone, data may be in the slot, or too scattered for its table, and there
//! may be no tables at all.

use super::{
    map,
    slot::{
        TABLE_ROOM,
        UNIT, //
    },
    unmap,
    AddError,
    Command,
    Data,
    Piece,
    Request,
    RequestQueue,
    HEADER_SIZE,
    MAX_PIECES, //
};
use crate::queue::AddErrorKind;
use core::ptr::NonNull;
use kernel::prelude::*;
use virtio_ring::{
    Direction,
    Segment,
    Table,
    Token,
    Vring, //
};

/// Tables for data that is too scattered for that of a slot; when all are in use, the ring itself has
/// to do.
const LARGE_TABLES: usize = 16;

/// Tables as long as a chain may be.
pub(super) struct LargeTables {
    /// Where they are, for us and for the device.
    tables: KVec<(NonNull<u8>, u64)>,
    /// Those that are not in use.
    free: KVec<u16>,
    /// Descriptors of one.
    room: u16,
}

impl LargeTables {
    /// No tables, for a ring with `room` descriptors.
    pub(super) fn new(room: u32) -> Self {
        Self {
            tables: KVec::new(),
            free: KVec::new(),
            room: u16::try_from(room).unwrap_or(u16::MAX),
        }
    }

    /// Makes tables, if they are larger than those of slots.
    ///
    /// # Safety
    ///
    /// Nobody else uses the queue meanwhile; it outlives them.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) unsafe fn fill(&mut self, vring: &Vring) -> Result {
        if self.room <= TABLE_ROOM {
            return Ok(());
        }
        for at in 0..LARGE_TABLES {
            // SAFETY: By the contract.
            let shared = unsafe { vring.share(usize::from(self.room) * UNIT)? };
            self.tables
                .push((shared.memory, shared.address), GFP_KERNEL)?;
            self.free.push(at as u16, GFP_KERNEL)?;
        }
        Ok(())
    }

    /// Descriptors of all of them.
    pub(super) fn descriptors(&self) -> usize {
        self.tables.len() * usize::from(self.room)
    }
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

/// What is to be mapped of a request.
struct Mapped<'a, R> {
    request: &'a R,
    payload: bool,
}

impl<'a, R: Request> Mapped<'a, R> {
    /// What `command` asks for of `request`; `None` if that is nothing.
    fn new(request: &'a R, command: &Command<'_>) -> Option<Self> {
        let payload = match command.data {
            Data::Request => false,
            Data::Payload => true,
            Data::None | Data::Readable(_) | Data::Writable(_) => return None,
        };
        Some(Self { request, payload })
    }

    fn direction(&self) -> Direction {
        if self.payload {
            Direction::Readable
        } else {
            self.request.direction()
        }
    }

    fn max_pieces(&self) -> usize {
        if self.payload {
            1
        } else {
            self.request.max_pieces()
        }
    }

    fn pieces<E>(&self, mut f: impl FnMut(Piece) -> Result<(), E>) -> Result<(), E> {
        if self.payload {
            self.request.payload().map_or(Ok(()), &mut f)
        } else {
            self.request.pieces(f)
        }
    }
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

impl<R: Request> RequestQueue<R> {
    /// Where the table of slot `index` is: its own, or the large one that it has.
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
        self.undoes = true;
        true
    }

    /// Takes back the large table of slot `index`, if it has one.
    fn give_large(&mut self, index: usize) {
        if let Some(large) = self.slots.get_mut(index).and_then(|slot| slot.large.take()) {
            // It was there before: there is room.
            let _ = self.large.free.push_within_capacity(large);
        }
    }

    /// [`RequestQueue::add`] for whatever there is.
    #[inline(never)]
    pub(super) fn add_any(&mut self, request: R, command: &Command<'_>) -> Result<(), AddError<R>> {
        let slot = request.slot();
        let prepared = match self.prepare(&request, command) {
            Ok(prepared) => prepared,
            Err(kind) => return Err(AddError { kind, request }),
        };
        let raw = request.into_raw();
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
                        self.vring().add_indirect(*table, readable, writable, raw)
                    }
                    _ => Err(virtio_ring::AddErrorKind::TooLong),
                },
                Prepared::Chain { readable, .. } => {
                    let middle = (*readable).min(self.chain.len());
                    let (readable, writable) = self.chain.split_at(middle);
                    let added = self.vring().add(readable, writable, Token::mapped(raw));
                    added.map_err(|(kind, _)| kind)
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
            Err(kind) => {
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
                    request: unsafe { R::from_raw(raw) },
                })
            }
        }
    }

    /// Fills the slot, and maps the data.
    fn prepare(&mut self, request: &R, command: &Command<'_>) -> Result<Prepared, AddErrorKind> {
        let index = request.slot();
        match self.slots.get(index) {
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
    fn fill_table(
        &mut self,
        index: usize,
        request: &R,
        command: &Command<'_>,
    ) -> Result<Prepared, Stop> {
        let data = Mapped::new(request, command);
        let pieces = data.as_ref().map_or(0, Mapped::max_pieces);
        // One is for the header, one for the footer.
        if pieces > MAX_PIECES && !self.take_large(index) {
            return Err(Stop::Room);
        }
        let place = self.table_place(index).ok_or(Stop::Room)?;
        let slot = self.slots.get(index).ok_or(Stop::Room)?;
        // SAFETY: Part of what was shared with that much room; the ring outlives this function.
        let mut table = unsafe { self.format.table(place.memory, place.room) };
        table.push(slot.header());
        let (bytes, dir) = if let Some((segment, dir)) = slot.inline(command) {
            table.set_direction(dir);
            table.push(segment);
            (u64::from(segment.len), dir)
        } else if let Some(data) = data {
            let bytes = if self.copies.is_empty() {
                self.push_data(&data, &mut table)?
            } else {
                self.push_mapped(index, &place, &data, &mut table)?
            };
            (bytes, data.direction())
        } else {
            (0, Direction::Readable)
        };
        let slot = self.slots.get(index).ok_or(Stop::Room)?;
        let footer = slot.footer(command.footer);
        table.set_direction(Direction::Writable);
        let count = table.finish(footer);
        let (readable, writable) = match dir {
            Direction::Readable => (bytes, 0),
            Direction::Writable => (0, bytes),
        };
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
    fn push_data(&self, data: &Mapped<'_, R>, table: &mut Table) -> Result<u64, Stop> {
        let vring = self.vring();
        let dir = data.direction();
        table.set_direction(dir);
        let mut bytes = 0_u64;
        data.pieces(|piece| {
            // SAFETY: By the contract of `Request`.
            let segment = unsafe { map(vring, piece, dir) }.map_err(|_| Stop::Mapping)?;
            bytes = bytes.wrapping_add(segment.len.into());
            if !table.push(segment) {
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
        data: &Mapped<'_, R>,
        table: &mut Table,
    ) -> Result<u64, Stop> {
        let dir = data.direction();
        // SAFETY: By the type invariants; it does not borrow `self`.
        let vring = unsafe { self.vring.as_ref() };
        table.set_direction(dir);
        let mut bytes = 0_u64;
        let mut count = 0;
        let copies = self.copies.get_mut(place.copies..).unwrap_or_default();
        let mut copies = copies.iter_mut();
        let filled = data.pieces(|piece| {
            if !table.has_room() {
                return Err(Stop::Room);
            }
            let copy = copies.next().ok_or(Stop::Room)?;
            // SAFETY: By the contract of `Request`; unmapped when it comes back.
            *copy = unsafe { map(vring, piece, dir) }.map_err(|_| Stop::Mapping)?;
            count += 1;
            bytes = bytes.wrapping_add(copy.len.into());
            table.push(*copy);
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
        let data = Mapped::new(request, command);
        let pieces = data.as_ref().map_or(0, Mapped::max_pieces);
        // Mapped for nothing, if others have to come back first anyway.
        if self.in_flight() != 0 && (vring.num_free() as usize) < pieces.saturating_add(2) {
            return Err(AddErrorKind::Ring(virtio_ring::AddErrorKind::Full));
        }
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
        } else if let Some(data) = data {
            dir = data.direction();
            mapped = Some(dir);
            data.pieces(|piece| {
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
        let footer = slot.footer(command.footer);
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
    pub(super) unsafe fn unmap_table(&mut self, index: usize) {
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
}
