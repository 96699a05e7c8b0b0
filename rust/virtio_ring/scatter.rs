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
    Segment, //
};

/// An indirect table in memory that is shared with the device: written to from the start to the end,
/// never read.
///
/// # Invariants
///
/// `entry` has room for `left` descriptors of 16 bytes, for as long as this exists.
pub struct Table {
    entry: NonNull<Entry>,
    left: u16,
    /// The second word of the next descriptor, but for length and access: that another one follows,
    /// and which.
    word: u64,
    /// What that grows by with each.
    step: u64,
    /// Where the access flag is.
    shift: u32,
}

/// What the device may do with a segment, as the descriptors of one table say it.
#[derive(Clone, Copy)]
pub struct Access(u64);

impl Table {
    /// Descriptors that still fit.
    #[inline(always)]
    pub fn left(&self) -> u16 {
        self.left
    }

    /// How this table says that the device may do `dir`.
    #[inline(always)]
    pub fn access(&self, dir: Direction) -> Access {
        Access(match dir {
            Direction::Readable => 0,
            Direction::Writable => u64::from(desc::WRITE) << self.shift,
        })
    }

    /// Writes the next descriptor, after which another one comes.  False if there is no room.
    #[inline(always)]
    pub fn push(&mut self, segment: Segment, access: Access) -> bool {
        let word = self.word;
        self.word = word.wrapping_add(self.step);
        self.write(segment, word | access.0)
    }

    /// Writes the last descriptor.  False if there is no room.
    #[inline(always)]
    pub fn finish(&mut self, segment: Segment, access: Access) -> bool {
        self.write(segment, access.0)
    }

    #[inline(always)]
    fn write(&mut self, segment: Segment, word: u64) -> bool {
        let Some(left) = self.left.checked_sub(1) else {
            return false;
        };
        let entry = Entry {
            addr: segment.addr.to_le(),
            rest: (word | u64::from(segment.len)).to_le(),
        };
        // SAFETY: By the type invariants, there is room; the device may read at any time, so the
        // write is volatile.
        // INVARIANT: One less.
        unsafe {
            self.entry.write_volatile(entry);
            self.entry = self.entry.add(1);
        }
        self.left = left;
        true
    }
}

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

    /// Makes an indirect table for this ring at `memory`.
    ///
    /// # Safety
    ///
    /// `memory` is part of what [`Vring::share`] gave, has `room * 16` bytes, is aligned to 8, and
    /// the ring outlives the table.
    #[inline]
    pub unsafe fn table(&self, memory: NonNull<u8>, room: u16) -> Table {
        let next = u64::from(desc::NEXT) << 32;
        // Split: the flags, and behind them the number of the next one.  Packed: flags alone, and
        // that the table goes on is understood.
        let (word, step, shift) = if self.is_packed() {
            (0, 0, 48)
        } else {
            (next | 1 << 48, 1 << 48, 32)
        };
        // INVARIANT: By the contract.
        Table {
            entry: memory.cast(),
            left: room,
            word,
            step,
            shift,
        }
    }

    /// Adds a buffer by its indirect table, of which the device may read `readable` bytes and write
    /// `writable` bytes.
    ///
    /// # Safety
    ///
    /// - nobody else uses the ring meanwhile;
    /// - the table is as [`Vring::table`] made it, it and its segments are the device's until the
    ///   token comes back.
    ///
    /// # Errors
    ///
    /// Why it was not added; the token comes back.
    #[inline]
    pub unsafe fn add_indirect(
        &self,
        table: Segment,
        readable: u32,
        writable: u32,
        token: Token,
    ) -> Result<(), (AddErrorKind, Token)> {
        // SAFETY: By the contract.
        let ring = unsafe { self.ring() };
        let data = token.data;
        let result = ring
            .add_indirect(table, readable, writable, token)
            .map_err(|error| (error.kind, error.payload));
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
    /// the ring itself, not of a table.
    ///
    /// # Safety
    ///
    /// Nobody else uses the ring meanwhile.
    #[inline]
    pub unsafe fn get_with(
        &self,
        mut unmap: impl FnMut(NonNull<c_void>, Segment, Direction),
    ) -> Option<(Token, u32)> {
        // SAFETY: By the contract.
        let ring = unsafe { self.ring() };
        let result = if self.mapper().uses_api() {
            ring.poll_with(|token, segment, dir| unmap(token.data, segment, dir))
        } else {
            ring.poll()
        };
        self.sync_num_free(ring);
        match result {
            Ok(Some(used)) => {
                self.counters.used.count();
                trace::got(self, &used.payload, used.written);
                Some((used.payload, used.written))
            }
            Ok(None) => None,
            Err(error) => {
                self.report(error);
                None
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
