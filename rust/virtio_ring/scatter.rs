// SPDX-License-Identifier: GPL-2.0

//! What a queue of scattered requests wants of a ring: memory shared with the device that lives as
//! long as the ring, indirect tables in it, and segments reported back when a buffer returns.
//!
//! Specification: 2.7.5.3, 2.8.7 (indirect descriptors).

use crate::{
    add::{
        packed_entry,
        split_entry,
        Entry, //
    },
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

/// An indirect table in memory that is shared with the device; written to, never read.
///
/// # Invariants
///
/// `entries` has room for `room` descriptors of 16 bytes, for as long as this exists.
pub struct Table {
    entries: NonNull<Entry>,
    room: u16,
    packed: bool,
}

impl Table {
    /// Descriptors that fit.
    #[inline]
    pub fn room(&self) -> u16 {
        self.room
    }

    /// Writes descriptor `at`; beyond the room, nothing.  `last` ends the chain.
    #[inline(always)]
    pub fn set(&mut self, at: u16, segment: Segment, dir: Direction, last: bool) {
        if at >= self.room {
            return;
        }
        let write = match dir {
            Direction::Readable => 0,
            Direction::Writable => desc::WRITE,
        };
        let entry = if self.packed {
            packed_entry(segment, write)
        } else if last {
            split_entry(segment, write, 0)
        } else {
            split_entry(segment, write | desc::NEXT, at + 1)
        };
        // SAFETY: By the type invariants, `at` is in bounds; the device may read at any time, so
        // the write is volatile.
        unsafe { self.entries.add(usize::from(at)).write_volatile(entry) };
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
        // INVARIANT: By the contract.
        Table {
            entries: memory.cast(),
            room,
            packed: self.is_packed(),
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
