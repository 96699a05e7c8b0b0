// SPDX-License-Identifier: GPL-2.0

//! What a queue of scattered requests wants of a ring: memory shared with the device that lives as
//! long as the ring, indirect tables in it, and segments reported back when a buffer returns.
//!
//! Specification: 2.7.5.3, 2.8.7 (indirect descriptors).

use crate::{
    add::Entry,
    body::Area,
    mapper::Mapper,
    trace,
    vring::{
        Token,
        Vring, //
    }, //
};
use core::ptr::NonNull;
use kernel::{
    ffi::c_void,
    prelude::*, //
};
use virtio_bindings as bindings;
use virtqueue::{
    desc,
    AddErrorKind,
    Direction,
    Segment,
    Used, //
};

/// What the descriptors in the indirect tables of one ring say beside address and length.
#[derive(Clone, Copy)]
pub struct TableFormat {
    /// Split: that the second descriptor comes next.  Packed: nothing, that the table goes on is
    /// understood.
    next: u64,
    /// What that grows by with each descriptor.
    step: u64,
    /// That the device may write.
    write: u64,
}

impl TableFormat {
    /// The format of packed rings, or of split ones (section 2.8.7, 2.7.5.3.1).
    pub fn new(packed: bool) -> Self {
        let (next, write) = (u64::from(desc::NEXT), u64::from(desc::WRITE));
        if packed {
            Self {
                next: 0,
                step: 0,
                write: write << 48,
            }
        } else {
            Self {
                next: next << 32 | 1 << 48,
                step: 1 << 48,
                write: write << 32,
            }
        }
    }

    /// A table at `memory`.
    ///
    /// # Safety
    ///
    /// `memory` is part of what [`Vring::share`] gave, has `room * 16` bytes, `room` is not 0, it is
    /// aligned to 8, and the ring outlives the table.
    #[inline(always)]
    pub unsafe fn table(&self, memory: NonNull<u8>, room: u16) -> Table {
        let start = memory.cast();
        // INVARIANT: By the contract.
        Table {
            start,
            entry: start,
            // SAFETY: By the contract, part of the same memory.
            last: unsafe { start.add(usize::from(room) - 1) },
            word: self.next,
            format: *self,
        }
    }
}

/// An indirect table in memory that is shared with the device: written to from the start to the end,
/// never read.
///
/// # Invariants
///
/// - between `start` and `last` there is room for descriptors of 16 bytes, and at `last` too, for as
///   long as this exists;
/// - `entry` is not before `start`, nor behind `last`.
pub struct Table {
    start: NonNull<Entry>,
    entry: NonNull<Entry>,
    last: NonNull<Entry>,
    /// What the next descriptor says of itself, and of the one behind it.
    word: u64,
    format: TableFormat,
}

impl Table {
    /// Whether there is room for a descriptor, and one behind it.
    #[inline(always)]
    pub fn has_room(&self) -> bool {
        self.entry != self.last
    }

    /// With the segments from here on, the device may do `dir`: at the start, read.
    #[inline(always)]
    pub fn set_direction(&mut self, dir: Direction) {
        let access = match dir {
            Direction::Readable => 0,
            Direction::Writable => self.format.write,
        };
        self.word = self.word & !self.format.write | access;
    }

    /// Leaves the next descriptor, after which another one comes, as it was written before.  False if
    /// there is no room.
    #[inline(always)]
    pub fn pass(&mut self) -> bool {
        if !self.has_room() {
            return false;
        }
        self.word = self.word.wrapping_add(self.format.step);
        // SAFETY: By the type invariants, there is room.
        // INVARIANT: Not behind `last`, since it was not there.
        self.entry = unsafe { self.entry.add(1) };
        true
    }

    /// Writes the next descriptor, after which another one comes.  False if there is no room.
    #[inline(always)]
    pub fn push(&mut self, segment: Segment) -> bool {
        if !self.has_room() {
            return false;
        }
        self.write(segment, self.word);
        self.pass()
    }

    /// Writes the last descriptor, for which there is always room, and says how many there are.
    #[inline(always)]
    pub fn finish(mut self, segment: Segment) -> u16 {
        self.write(segment, self.word & self.format.write);
        // SAFETY: By the type invariants, in one piece of memory.
        let before = unsafe { self.entry.offset_from_unsigned(self.start) };
        // CAST: The room was of that type.
        before as u16 + 1
    }

    #[inline(always)]
    fn write(&mut self, segment: Segment, word: u64) {
        let entry = Entry {
            addr: segment.addr.to_le(),
            rest: (word | u64::from(segment.len)).to_le(),
        };
        // SAFETY: By the type invariants, there is room; the device may read at any time, so the
        // write is volatile.
        unsafe { self.entry.write_volatile(entry) };
    }
}

/// A device broke its queue.
pub struct Broken;

/// Zeroed memory that is shared with the device.
pub struct SharedMemory {
    /// Where we find it; aligned to 64 bytes at least.
    pub memory: NonNull<u8>,
    /// Where the device finds it.
    pub address: u64,
}

impl Vring {
    /// Whether the device takes indirect tables.
    #[inline]
    pub fn has_indirect(&self) -> bool {
        self.indirect
    }

    /// Allocates `size` zeroed bytes that are shared with the device, and freed with the ring: not
    /// while a handle is left, and never if the device did not acknowledge its reset.  May sleep.
    ///
    /// # Safety
    ///
    /// Nobody else uses the queue meanwhile.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub unsafe fn share(&self, size: usize) -> Result<SharedMemory> {
        let (memory, address) = self
            .mapper()
            .alloc(size, bindings::GFP_KERNEL | bindings::__GFP_NOWARN)?;
        let area = Area {
            memory,
            address,
            size,
        };
        // SAFETY: By the contract.
        let arena = unsafe { &mut *self.arena.get() };
        if arena.push(area, GFP_KERNEL).is_err() {
            // SAFETY: Allocated just now, and no device knows it.
            unsafe { self.mapper().free(size, memory, address) };
            return Err(ENOMEM);
        }
        Ok(SharedMemory { memory, address })
    }

    /// How indirect tables of this ring are written.
    pub fn table_format(&self) -> TableFormat {
        TableFormat::new(self.is_packed())
    }

    /// Adds a buffer by its indirect table, of which the device may read `readable` bytes and write
    /// `writable` bytes.  What comes back is `data`, mapped as [`Token::mapped`] says.
    ///
    /// # Safety
    ///
    /// - nobody else uses the ring meanwhile;
    /// - the table is written as [`Vring::table_format`] says, it and its segments are the device's
    ///   until `data` comes back.
    ///
    /// # Errors
    ///
    /// Why it was not added.
    // Not inlined, so that who fills the table has the registers to himself.
    #[inline(never)]
    pub unsafe fn add_indirect(
        &self,
        table: Segment,
        readable: u32,
        writable: u32,
        data: NonNull<c_void>,
    ) -> Result<(), AddErrorKind> {
        // SAFETY: By the contract.
        unsafe { self.add_indirect_token(table, readable, writable, Token::mapped(data)) }
    }

    /// As [`Vring::add_indirect`], with a token that the caller has made.
    ///
    /// # Safety
    ///
    /// As there.
    ///
    /// # Errors
    ///
    /// As there.
    #[inline(always)]
    pub unsafe fn add_indirect_token(
        &self,
        table: Segment,
        readable: u32,
        writable: u32,
        token: Token,
    ) -> Result<(), AddErrorKind> {
        let data = token.data;
        // SAFETY: By the contract.
        let ring = unsafe { self.ring() };
        let result = ring
            .add_indirect(table, readable, writable, token)
            .map_err(|error| error.kind);
        if result.is_ok() {
            self.counters.adds.count();
            trace::added(self, data, ring.num_free(), || {
                (u64::from(readable), u64::from(writable))
            });
        }
        self.sync_num_free(ring);
        result
    }

    /// Takes the next used buffer, as [`Vring::get`], and hands its segments to `unmap`: those of
    /// the ring itself, not of a table, and only where mappings are to be undone.
    ///
    /// # Safety
    ///
    /// Nobody else uses the ring meanwhile.
    ///
    /// # Errors
    ///
    /// The device broke the queue just now.
    #[inline]
    pub unsafe fn get_with(
        &self,
        mut unmap: impl FnMut(NonNull<c_void>, Segment, Direction),
    ) -> Result<Option<(NonNull<c_void>, u32)>, Broken> {
        // SAFETY: By the contract.
        unsafe {
            self.get_mapped(
                self.mapper().uses_api(),
                |token, segment, dir| unmap(token.data, segment, dir),
                |token| (token.data, token.data),
            )
        }
    }

    /// Takes the next used buffer, and hands its segments to `unmap` if it `walks` over them, and its
    /// token to `map`, which gives its data too.
    ///
    /// # Safety
    ///
    /// Nobody else uses the ring meanwhile.
    ///
    /// # Errors
    ///
    /// The device broke the queue just now.
    #[inline(always)]
    pub(crate) unsafe fn get_mapped<T>(
        &self,
        walks: bool,
        unmap: impl FnMut(&Token, Segment, Direction),
        map: impl FnOnce(Token) -> (NonNull<c_void>, T),
    ) -> Result<Option<(T, u32)>, Broken> {
        // SAFETY: By the contract.
        let ring = unsafe { self.ring() };
        let result = if walks {
            ring.poll_with(unmap).map(|used| {
                used.map(|used| Used {
                    payload: map(used.payload),
                    written: used.written,
                })
            })
        } else {
            ring.poll_map(map)
        };
        self.sync_num_free(ring);
        match result {
            Ok(Some(used)) => {
                let (data, payload) = used.payload;
                self.counters.used.count();
                trace::got(self, data, used.written);
                Ok(Some((payload, used.written)))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                self.report(error);
                Err(Broken)
            }
        }
    }

    /// Takes back a buffer that the device has not used, with its segments as [`Vring::get_with`].
    ///
    /// # Safety
    ///
    /// The device was reset (or this queue), and nobody else uses the ring meanwhile.
    pub unsafe fn detach_with(
        &self,
        mut unmap: impl FnMut(NonNull<c_void>, Segment, Direction),
    ) -> Option<Token> {
        // SAFETY: By the contract.
        let ring = unsafe { self.ring() };
        let token = ring.drain_with(|token, segment, dir| unmap(token.data, segment, dir));
        self.sync_num_free(ring);
        token
    }

    /// Buffers that were added and have not come back.
    ///
    /// # Safety
    ///
    /// Nobody else uses the ring meanwhile.
    #[inline]
    pub unsafe fn in_flight(&self) -> u16 {
        // SAFETY: By the contract.
        unsafe { self.ring() }.in_flight()
    }
}

/// Frees what [`Vring::share`] gave.
///
/// # Safety
///
/// The device does not own it any more, and no handle of the queue is left.
pub(crate) unsafe fn free(arena: &[Area], mapper: &Mapper) {
    for area in arena {
        // SAFETY: By the contract.
        unsafe { mapper.free(area.size, area.memory, area.address) };
    }
}
