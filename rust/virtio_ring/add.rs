// SPDX-License-Identifier: GPL-2.0

//! Adding buffers: mapped segments from Rust, scatterlists from C.
//!
//! C source: `virtqueue_add` in `drivers/virtio/virtio_ring.c`.

use crate::{
    trace,
    vring::{
        Token,
        Vring, //
    }, //
};
use core::{
    mem::size_of,
    ptr::NonNull, //
};
use kernel::prelude::*;
use virtio_bindings as bindings;
use virtqueue::{
    desc,
    AddErrorKind,
    Direction,
    Segment, //
};

/// An indirect table of one buffer: `count` descriptors that the device reads, and behind them, if
/// there is something to unmap, our own copy of what they say.
pub(crate) struct Table {
    entries: NonNull<Entry>,
    head: Head,
}

/// What comes before the descriptors in the same piece of memory, when the table is in flight.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
struct Head {
    address: u64,
    count: u32,
    copied: bool,
}

/// A table in flight, one word long.
///
/// # Invariants
///
/// Points to the entries of a table, before which its head was written.
pub(crate) struct TableInFlight(NonNull<Entry>);

impl TableInFlight {
    /// The table again.
    pub(crate) fn into_table(self) -> Table {
        Table {
            entries: self.0,
            // SAFETY: By the type invariants.
            head: unsafe { self.0.cast::<Head>().sub(1).read() },
        }
    }
}

/// A descriptor in memory, or our copy of one.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) addr: u64,
    pub(crate) rest: u64,
}

/// Where `len`, `flags` and `next` (packed: `id`, `flags`) sit in the second word.
fn split_entry(segment: Segment, flags: u16, next: u16) -> Entry {
    Entry {
        addr: segment.addr.to_le(),
        rest: (u64::from(segment.len) | u64::from(flags) << 32 | u64::from(next) << 48).to_le(),
    }
}

fn packed_entry(segment: Segment, flags: u16) -> Entry {
    Entry {
        addr: segment.addr.to_le(),
        rest: (u64::from(segment.len) | u64::from(flags) << 48).to_le(),
    }
}

impl Table {
    fn new(count: u32, copied: bool, gfp: bindings::gfp_t) -> Option<Self> {
        let size = size_of::<Entry>() << usize::from(copied);
        let bytes = (count as usize).checked_mul(size)?;
        let bytes = bytes.checked_add(size_of::<Head>())?;
        // SAFETY: The helper has no preconditions.
        let memory = unsafe { bindings::virtio_kmalloc(bytes, gfp) };
        let memory = NonNull::new(memory.cast::<Head>())?;
        Some(Self {
            // SAFETY: There is room for it.
            entries: unsafe { memory.add(1) }.cast(),
            head: Head {
                address: 0,
                count,
                copied,
            },
        })
    }

    /// What a buffer keeps of it while it is in flight.
    fn into_flight(self) -> TableInFlight {
        // SAFETY: Allocated with room for it.
        unsafe { self.entries.cast::<Head>().sub(1).write(self.head) };
        // INVARIANT: Written just now.
        TableInFlight(self.entries)
    }

    /// Frees the memory.
    fn discard(self) {
        // SAFETY: Allocated by `new`, which returned what is behind the head.
        unsafe { bindings::kfree(self.entries.cast::<Head>().sub(1).as_ptr().cast()) };
    }

    /// Writes descriptor `at`, and our copy.
    #[inline(always)]
    fn set(&mut self, at: u32, packed: bool, segment: Segment, dir: Direction) {
        if at >= self.head.count {
            return;
        }
        let write = match dir {
            Direction::Readable => 0,
            Direction::Writable => desc::WRITE,
        };
        let entry = if packed {
            packed_entry(segment, write)
        } else if at + 1 == self.head.count {
            split_entry(segment, write, 0)
        } else {
            // CAST: a table has fewer entries than a scatterlist may be long: checked by callers.
            split_entry(segment, write | desc::NEXT, (at + 1) as u16)
        };
        // SAFETY: `at` is below `count`; there is room for twice as many if there are copies.
        unsafe {
            self.entries.add(at as usize).write(entry);
            if self.head.copied {
                self.entries
                    .add((self.head.count + at) as usize)
                    .write(split_entry(segment, write, 0));
            }
        }
    }

    /// Our copy of entry `at`.
    ///
    /// # Safety
    ///
    /// There are copies, and this one was written by [`Table::set`].
    unsafe fn get(&self, at: u32) -> (Segment, Direction) {
        // SAFETY: By the contract; never shared with the device.
        let entry = unsafe { self.entries.add((self.head.count + at) as usize).read() };
        let rest = u64::from_le(entry.rest);
        let dir = if (rest >> 32) as u16 & desc::WRITE != 0 {
            Direction::Writable
        } else {
            Direction::Readable
        };
        let segment = Segment {
            addr: u64::from_le(entry.addr),
            len: rest as u32,
        };
        (segment, dir)
    }

    fn bytes(&self) -> usize {
        self.head.count as usize * size_of::<Entry>()
    }

    /// Unmaps the first `filled` segments.
    ///
    /// # Safety
    ///
    /// They were mapped by us, and the device does not own them.
    unsafe fn unmap(&self, vring: &Vring, filled: u32) {
        if !self.head.copied {
            return;
        }
        for at in 0..filled {
            // SAFETY: Copied, and filled so far.
            let (segment, dir) = unsafe { self.get(at) };
            // SAFETY: By the contract.
            unsafe {
                vring
                    .mapper()
                    .unmap(segment.addr, segment.len as usize, dir)
            };
        }
    }

    /// Unmaps the table, and the segments unless the caller mapped them; frees the table.
    ///
    /// # Safety
    ///
    /// The device does not own the buffer any more.
    pub(crate) unsafe fn free(self, vring: &Vring, premapped: bool) {
        let mapper = vring.mapper();
        if mapper.uses_api() {
            // SAFETY: By the contract; a table in flight is mapped and filled.
            unsafe {
                mapper.unmap(self.head.address, self.bytes(), Direction::Readable);
                if !premapped {
                    self.unmap(vring, self.head.count);
                }
            }
        }
        self.discard();
    }
}

/// The scatterlists of a C caller: `outs` readable ones, then writable ones.
pub(crate) struct Lists<'a> {
    pub(crate) lists: &'a [*mut bindings::scatterlist],
    pub(crate) outs: usize,
    /// Entries of all lists together.
    pub(crate) total: u32,
    pub(crate) premapped: bool,
    pub(crate) attrs: usize,
}

impl Lists<'_> {
    /// Maps every entry in turn and hands it to `f`.
    ///
    /// # Safety
    ///
    /// The lists are valid and well-formed, as C's contract says.
    #[inline(always)]
    unsafe fn for_each(
        &self,
        vring: &Vring,
        mut f: impl FnMut(Segment, Direction) -> Result,
    ) -> Result {
        let mut left = self.total;
        for (at, list) in self.lists.iter().enumerate() {
            let dir = if at < self.outs {
                Direction::Readable
            } else {
                Direction::Writable
            };
            let mut sg = *list;
            while !sg.is_null() && left != 0 {
                // SAFETY: By the contract.
                let segment = unsafe { self.segment(vring, sg, dir)? };
                f(segment, dir).inspect_err(|_| {
                    if !self.premapped {
                        // SAFETY: Mapped just now.
                        unsafe {
                            vring
                                .mapper()
                                .unmap(segment.addr, segment.len as usize, dir)
                        };
                    }
                })?;
                left -= 1;
                // SAFETY: By the contract.
                sg = unsafe { bindings::sg_next(sg) };
            }
        }
        Ok(())
    }

    /// Bytes that the device may read, and bytes that it may write.
    ///
    /// # Safety
    ///
    /// As [`Lists::for_each`].
    unsafe fn bytes(&self) -> (u64, u64) {
        let (mut readable, mut writable) = (0u64, 0u64);
        let mut left = self.total;
        for (at, list) in self.lists.iter().enumerate() {
            let bytes = if at < self.outs {
                &mut readable
            } else {
                &mut writable
            };
            let mut sg = *list;
            while !sg.is_null() && left != 0 {
                // SAFETY: By the contract.
                unsafe {
                    *bytes += u64::from(self.len(sg));
                    sg = bindings::sg_next(sg);
                }
                left -= 1;
            }
        }
        (readable, writable)
    }

    /// # Safety
    ///
    /// `sg` is a valid entry.
    #[inline]
    unsafe fn len(&self, sg: *mut bindings::scatterlist) -> u32 {
        // SAFETY: By the contract.
        unsafe {
            if self.premapped {
                bindings::virtio_sg_dma_len(sg)
            } else {
                (*sg).length
            }
        }
    }

    /// # Safety
    ///
    /// `sg` is a valid entry.
    #[inline(always)]
    unsafe fn segment(
        &self,
        vring: &Vring,
        sg: *mut bindings::scatterlist,
        dir: Direction,
    ) -> Result<Segment> {
        // SAFETY: By the contract.
        unsafe {
            if self.premapped {
                return Ok(Segment {
                    addr: bindings::virtio_sg_dma_address(sg),
                    len: self.len(sg),
                });
            }
            Ok(Segment {
                addr: vring.mapper().map_sg(sg, dir, self.attrs)?,
                len: self.len(sg),
            })
        }
    }
}

/// Segments of one direction that are mapped, and not in the ring yet: it takes several at once more
/// cheaply.
struct Chunk {
    segments: [Segment; Self::SIZE],
    filled: usize,
    dir: Direction,
}

impl Chunk {
    const SIZE: usize = 8;

    fn new() -> Self {
        Self {
            segments: [Segment { addr: 0, len: 0 }; Self::SIZE],
            filled: 0,
            dir: Direction::Readable,
        }
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.filled == Self::SIZE
    }

    /// Appends a segment to a chunk that is not full.
    #[inline]
    fn push(&mut self, segment: Segment) {
        if let Some(place) = self.segments.get_mut(self.filled) {
            *place = segment;
            self.filled += 1;
        }
    }

    #[inline]
    fn segments(&self) -> &[Segment] {
        self.segments.get(..self.filled).unwrap_or_default()
    }

    /// Starts anew, with segments of direction `dir`.
    #[inline]
    fn clear(&mut self, dir: Direction) {
        self.filled = 0;
        self.dir = dir;
    }
}

/// The error that C callers expect.
fn errno(kind: AddErrorKind) -> Error {
    match kind {
        AddErrorKind::Full => ENOSPC,
        AddErrorKind::Broken => EIO,
        AddErrorKind::EmptyChain
        | AddErrorKind::TooLong
        | AddErrorKind::Misordered
        | AddErrorKind::BadTable => EINVAL,
    }
}

impl Vring {
    /// Adds a buffer whose segments are mapped.
    ///
    /// # Safety
    ///
    /// - nobody else uses the ring meanwhile;
    /// - the segments are the device's until the token comes back.
    ///
    /// # Errors
    ///
    /// Why it was not added; the token comes back.
    #[inline]
    pub unsafe fn add(
        &self,
        readable: &[Segment],
        writable: &[Segment],
        token: Token,
    ) -> Result<(), (AddErrorKind, Token)> {
        // SAFETY: By the contract.
        let ring = unsafe { self.ring() };
        let data = token.data;
        let result = ring
            .add(readable, writable, token)
            .map_err(|error| (error.kind, error.payload));
        if result.is_ok() {
            self.counters.adds.count();
            trace::added(self, data, ring.num_free(), || {
                (trace::bytes(readable), trace::bytes(writable))
            });
        }
        self.sync_num_free(ring);
        result
    }

    /// Makes what was added visible to the device, and says whether to notify it (C:
    /// `virtqueue_kick_prepare`).
    ///
    /// # Safety
    ///
    /// Nobody else uses the ring meanwhile.
    #[inline]
    pub unsafe fn kick_prepare(&self) -> bool {
        // SAFETY: By the contract.
        let ring = unsafe { self.ring() };
        let notify = if trace::kicks() {
            trace::kick(self, ring)
        } else {
            ring.kick_prepare()
        };
        self.counters.kicks.count();
        if notify {
            self.counters.notifications.count();
        }
        notify
    }

    /// Adds a C caller's buffer.
    ///
    /// # Safety
    ///
    /// - nobody else uses the ring meanwhile;
    /// - the lists are valid and well-formed, and the memory is the device's until the token
    ///   comes back.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if the ring is full, `EIO` if it is broken, `ENOMEM` if mapping fails, `EINVAL` for
    /// a chain that no ring could take.
    pub(crate) unsafe fn add_lists(
        &self,
        lists: &Lists<'_>,
        mut token: Token,
        gfp: bindings::gfp_t,
    ) -> Result {
        let data = token.data;
        // SAFETY: By the contract.
        unsafe {
            // Without room for a table, the ring itself may have room.
            let table = if self.indirect && lists.total > 1 && self.ring().num_free() > 0 {
                let copied = self.mapper().uses_api() && !lists.premapped;
                Table::new(lists.total, copied, gfp)
            } else {
                None
            };
            let result = match table {
                Some(table) => self.add_table(lists, token, table),
                None => {
                    token.table = None;
                    self.add_direct(lists, token)
                }
            };
            let ring = self.ring();
            if result.is_ok() {
                self.counters.adds.count();
                trace::added(self, data, ring.num_free(), || lists.bytes());
                // As C does it: visible at once, not only when kicked.
                ring.publish();
            }
            self.sync_num_free(ring);
            if matches!(result, Err(error) if error == ENOSPC) && lists.outs != 0 {
                // C drivers rely on it, for the sake of hosts that make room only when told.
                self.counters.notifications.count();
                self.notify();
            }
            result
        }
    }

    /// # Safety
    ///
    /// As [`Vring::add_lists`].
    unsafe fn add_direct(&self, lists: &Lists<'_>, token: Token) -> Result {
        // SAFETY: By the contract.
        unsafe {
            let mut builder =
                self.ring()
                    .begin(lists.total as usize)
                    .map_err(|kind| match kind {
                        // No table for it now; C's word for that.
                        AddErrorKind::TooLong => ENOSPC,
                        kind => errno(kind),
                    })?;
            let mut chunk = Chunk::new();
            let filled = lists
                .for_each(self, |segment, dir| {
                    if chunk.is_full() || chunk.dir != dir {
                        builder.extend(chunk.segments(), chunk.dir).map_err(errno)?;
                        chunk.clear(dir);
                    }
                    chunk.push(segment);
                    Ok(())
                })
                .and_then(|()| builder.extend(chunk.segments(), chunk.dir).map_err(errno));
            if let Err(error) = filled {
                if !lists.premapped {
                    let unmap = |segment: Segment, dir| {
                        self.mapper().unmap(segment.addr, segment.len as usize, dir);
                    };
                    builder.for_each(unmap);
                    chunk
                        .segments()
                        .iter()
                        .for_each(|segment| unmap(*segment, chunk.dir));
                }
                return Err(error);
            }
            builder.commit(token).map_err(|error| errno(error.kind))
        }
    }

    /// # Safety
    ///
    /// As [`Vring::add_lists`].
    unsafe fn add_table(&self, lists: &Lists<'_>, mut token: Token, mut table: Table) -> Result {
        let packed = self.is_packed();
        let mut filled = 0;
        let (mut readable, mut writable) = (0u64, 0u64);
        // SAFETY: By the contract.
        let result = unsafe {
            lists.for_each(self, |segment, dir| {
                match dir {
                    Direction::Readable => readable += u64::from(segment.len),
                    Direction::Writable => writable += u64::from(segment.len),
                }
                table.set(filled, packed, segment, dir);
                filled += 1;
                Ok(())
            })
        };
        let undo = |table: Table, error: Error| {
            if !lists.premapped {
                // SAFETY: Mapped above, and not handed to the device.
                unsafe { table.unmap(self, filled) };
            }
            table.discard();
            Err(error)
        };
        if let Err(error) = result {
            return undo(table, error);
        }
        let (Ok(readable), Ok(writable)) = (u32::try_from(readable), u32::try_from(writable))
        else {
            return undo(table, EINVAL);
        };
        let bytes = table.bytes();
        // SAFETY: The table is `kmalloc` memory, which lives until the buffer comes back.
        let mapped = unsafe {
            self.mapper()
                .map_single(table.entries.cast(), bytes, Direction::Readable)
        };
        match mapped {
            Ok(address) => table.head.address = address,
            Err(error) => return undo(table, error),
        }
        let segment = Segment {
            addr: table.head.address,
            len: bytes as u32,
        };
        token.table = Some(table.into_flight());
        // SAFETY: By the contract.
        match unsafe { self.ring() }.add_indirect(segment, readable, writable, token) {
            Ok(()) => Ok(()),
            Err(error) => {
                // SAFETY: Mapped above, and not handed to the device.
                unsafe {
                    self.mapper()
                        .unmap(segment.addr, bytes, Direction::Readable)
                };
                match error.payload.table {
                    Some(table) => undo(table.into_table(), errno(error.kind)),
                    None => Err(errno(error.kind)),
                }
            }
        }
    }
}
