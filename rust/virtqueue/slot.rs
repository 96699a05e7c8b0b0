// SPDX-License-Identifier: GPL-2.0

//! Private state of what is in flight: nothing here is ever read from shared memory.

use core::ops::DerefMut;

use crate::desc;

/// A piece of memory that the device may read or write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Address as the device sees it.
    pub addr: u64,
    /// Length in bytes.
    pub len: u32,
}

/// What the device may do with a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// The device reads it (C: `DMA_TO_DEVICE`).
    #[default]
    Readable,
    /// The device writes it (C: `DMA_FROM_DEVICE`).
    Writable,
}

impl Direction {
    /// What the descriptor flags say of it.
    #[inline]
    pub(crate) const fn write_flag(self) -> u16 {
        match self {
            Self::Readable => 0,
            Self::Writable => desc::WRITE,
        }
    }

    /// The flags of the descriptor when `left` of the chain's are left, itself included.
    #[inline]
    pub(crate) const fn flags(self, left: u16) -> u16 {
        if left == 1 {
            self.write_flag()
        } else {
            self.write_flag() | desc::NEXT
        }
    }
}

/// Private copy of one entry of an indirect table. Opaque; fill the store with [`Entry::EMPTY`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry {
    pub(crate) segment: Segment,
    pub(crate) direction: Direction,
}

impl Entry {
    /// An unused entry.
    pub const EMPTY: Self = Self {
        segment: Segment { addr: 0, len: 0 },
        direction: Direction::Readable,
    };
}

/// Private state of one descriptor, and of the chain that starts at it. Opaque; fill the store
/// with [`Slot::EMPTY`].
#[derive(Debug)]
pub struct Slot<T> {
    /// Of a head: what the caller handed over. [`Some`] means in flight.
    pub(crate) payload: Option<T>,
    /// Copy of this descriptor, for unmapping.
    pub(crate) segment: Segment,
    /// Of a head: bytes the device may write.
    pub(crate) writable: u32,
    /// The next descriptor of the chain, or of the free list.
    pub(crate) next: u16,
    /// Of a head: the last descriptor of the chain.
    pub(crate) last: u16,
    /// Of a head: ring descriptors of the chain.
    pub(crate) ndescs: u16,
    /// Of a head: number of entries in the indirect table out of the arena.
    pub(crate) entries: u16,
    pub(crate) direction: Direction,
    /// Of a head: `segment` is an indirect table and not the caller's to unmap.
    pub(crate) table: bool,
}

impl<T> Slot<T> {
    /// A slot that holds nothing.
    pub const EMPTY: Self = Self {
        payload: None,
        segment: Segment { addr: 0, len: 0 },
        writable: 0,
        next: 0,
        last: 0,
        ndescs: 0,
        entries: 0,
        direction: Direction::Readable,
        table: false,
    };
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// Where a ring keeps its private state. The owner allocates it, so that this crate does not.
///
/// A pair of containers is a store: `(Vec<Slot<T>>, Vec<Entry>)` on the host, a pair of `KVVec` in
/// the kernel.
pub trait Store {
    /// What a chain carries while it is in flight.
    type Payload;

    /// One slot for each descriptor, at least. The length must not change.
    fn slots(&self) -> &[Slot<Self::Payload>];
    /// The same, to change them.
    fn slots_mut(&mut self) -> &mut [Slot<Self::Payload>];
    /// Copies of the indirect tables: size times [`capacity`](crate::IndirectTables::capacity)
    /// entries, or none. Without them the segments of an indirect chain are not reported to
    /// [`Ring::poll_with`](crate::Ring::poll_with), which is right when nothing needs unmapping.
    fn entries(&self) -> &[Entry];
    /// The same, to change them.
    fn entries_mut(&mut self) -> &mut [Entry];
}

impl<T, A, B> Store for (A, B)
where
    A: DerefMut<Target = [Slot<T>]>,
    B: DerefMut<Target = [Entry]>,
{
    type Payload = T;

    #[inline]
    fn slots(&self) -> &[Slot<T>] {
        &self.0
    }
    #[inline]
    fn slots_mut(&mut self) -> &mut [Slot<T>] {
        &mut self.0
    }
    #[inline]
    fn entries(&self) -> &[Entry] {
        &self.1
    }
    #[inline]
    fn entries_mut(&mut self) -> &mut [Entry] {
        &mut self.1
    }
}

/// A chain that came back.
#[derive(Debug, PartialEq, Eq)]
pub struct Used<T> {
    /// What was handed over with it.
    pub payload: T,
    /// Bytes that the device says it wrote: never more than the writable bytes of the chain.
    pub written: u32,
}
