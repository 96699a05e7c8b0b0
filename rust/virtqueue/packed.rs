// SPDX-License-Identifier: GPL-2.0

//! Packed rings (virtio 1.4 section 2.8), with and without `VIRTIO_F_IN_ORDER` (section 2.8.8).

use crate::{
    chain::{
        Cursor,
        Totals, //
    },
    desc,
    event::{
        need_event,
        PackedIndex,
        EVENT_FLAGS_DESC,
        EVENT_FLAGS_DISABLE,
        EVENT_FLAGS_ENABLE, //
    },
    slots::Core,
    AddError, //
    AddErrorKind,
    CbState,
    CbToken,
    Direction,
    NotDrained,
    PackedDesc,
    RingError,
    RingMem,
    Segment,
    Store,
    Used,
};

/// AVAIL and USED as the driver writes them at a position: AVAIL is the wrap counter, USED its
/// inverse (section 2.8.1).
#[inline]
const fn available(at: PackedIndex) -> u16 {
    if at.wrap() {
        desc::AVAIL
    } else {
        desc::USED
    }
}

/// Tells whether the flags at a position say used: both bits are the wrap counter.
#[inline]
pub(crate) const fn is_used(flags: u16, at: PackedIndex) -> bool {
    let both = desc::AVAIL | desc::USED;
    flags & both == if at.wrap() { both } else { 0 }
}

/// A packed ring. Used through [`Ring`](crate::Ring).
#[derive(Debug)]
pub struct PackedRing<M, S, const IN_ORDER: bool> {
    core: Core<M, S>,
    /// Where the next chain goes.
    next_avail: PackedIndex,
    /// Where the next used descriptor is expected.
    next_used: PackedIndex,
    /// Index and flags of the first head since the last publication, not written yet.
    held_back: (u16, u16),
    /// In order: id and length of the last chain of the batch that is being handed out.
    batch: Option<(u16, u32)>,
}

impl<M: RingMem, S: Store, const IN_ORDER: bool> PackedRing<M, S, IN_ORDER> {
    pub(crate) fn new(core: Core<M, S>) -> Self {
        core.shared().set_last_used(PackedIndex::START.off_wrap());
        core.shared().set_next_avail(PackedIndex::START.off_wrap());
        Self {
            core,
            next_avail: PackedIndex::START,
            next_used: PackedIndex::START,
            held_back: (0, 0),
            batch: None,
        }
    }

    #[inline]
    pub(crate) fn core(&self) -> &Core<M, S> {
        &self.core
    }

    /// Tells the device at the start that there is no callback, or with event indices to interrupt for
    /// the first used buffer, and not for each.
    pub(crate) fn init_callbacks(&mut self) {
        let mem = self.core.mem();
        if self.core.shared().callbacks_off() {
            mem.store_driver_event_flags(EVENT_FLAGS_DISABLE);
        } else if self.core.event_idx() {
            mem.store_driver_event_off_wrap(PackedIndex::START.off_wrap());
            mem.store_driver_event_flags(EVENT_FLAGS_DESC);
        }
    }

    #[inline]
    pub(crate) fn begin(&self, total: usize, tables: bool) -> Result<Cursor, AddErrorKind> {
        let mut cursor = self.core.begin(total, tables)?;
        cursor.pos = self.next_avail.index();
        Ok(cursor)
    }

    /// Writes segments to the next free descriptors or table entries, but no flags to the ring, and
    /// gives their length in bytes.
    #[inline]
    pub(crate) fn put(
        &mut self,
        cursor: &mut Cursor,
        segments: &[Segment],
        direction: Direction,
    ) -> u64 {
        if cursor.table {
            self.put_table(cursor, segments, direction)
        } else {
            self.put_ring::<false>(cursor, segments, direction)
        }
    }

    #[inline]
    fn put_table(
        &mut self,
        cursor: &mut Cursor,
        segments: &[Segment],
        direction: Direction,
    ) -> u64 {
        let mut bytes: u64 = 0;
        let id = cursor.id;
        let mut nth = cursor.total.wrapping_sub(cursor.left);
        let (mem, entries) = self.core.table_parts(id);
        for segment in segments {
            bytes = bytes.wrapping_add(u64::from(segment.len));
            if let Some(entry) = entries.get_mut(usize::from(nth)) {
                entry.segment = *segment;
                entry.direction = direction;
            }
            let desc = PackedDesc {
                addr: segment.addr,
                len: segment.len,
                id: 0,
                flags: direction.write_flag(),
            };
            mem.store_packed(id, nth, desc);
            nth = nth.wrapping_add(1);
        }
        cursor.left = cursor.total.wrapping_sub(nth);
        bytes
    }

    /// With `FLAGS`, the flags of all but the head are written too: only for chains that are sure to
    /// be committed.
    #[inline]
    fn put_ring<const FLAGS: bool>(
        &mut self,
        cursor: &mut Cursor,
        segments: &[Segment],
        direction: Direction,
    ) -> u64 {
        let mut bytes: u64 = 0;
        let size = self.core.size();
        let head = self.next_avail;
        let (mut cur, mut last, mut pos) = (cursor.cur, cursor.last, cursor.pos);
        let (mut left, total, id) = (cursor.left, cursor.total, cursor.id);
        let (mem, slots) = self.core.ring_parts();
        for segment in segments {
            let Some(slot) = slots.get_mut(usize::from(cur)) else {
                break;
            };
            bytes = bytes.wrapping_add(u64::from(segment.len));
            slot.segment = *segment;
            slot.direction = direction;
            mem.store_desc_body(pos, segment.addr, segment.len, id);
            if FLAGS && left != total {
                // Positions before the head's are behind the end of the ring.
                let at = PackedIndex::new(pos, head.wrap() == (pos >= head.index()));
                mem.store_desc_flags(pos, direction.flags(left) | available(at));
            }
            left = left.wrapping_sub(1);
            last = cur;
            cur = slot.next;
            pos = pos.wrapping_add(1);
            if pos == size {
                pos = 0;
            }
        }
        (cursor.cur, cursor.last, cursor.pos) = (cur, last, pos);
        cursor.left = left;
        bytes
    }

    /// Takes a chain whose segments were all written, but not their flags.
    #[inline]
    pub(crate) fn commit(&mut self, cursor: Cursor, writable: u32, payload: S::Payload) {
        if cursor.table {
            self.commit_arena(cursor, writable, payload);
            return;
        }
        let size = self.core.size();
        let mut pos = self.next_avail;
        let (mem, slots) = self.core.ring_parts();
        let mut left = cursor.total;
        let mut cur = cursor.id;
        let mut head_flags = 0;
        while left != 0 {
            let Some(slot) = slots.get(usize::from(cur)) else {
                return;
            };
            let flags = slot.direction.flags(left);
            if left == cursor.total {
                head_flags = flags;
            } else {
                mem.store_desc_flags(pos.index(), flags | available(pos));
            }
            left = left.wrapping_sub(1);
            pos = pos.advance(1, size);
            cur = slot.next;
        }
        let ndescs = cursor.total;
        self.core.take(&cursor, writable, payload, false);
        self.finish(head_flags, pos, ndescs);
    }

    /// Takes a chain that is in its slot's table.
    #[inline]
    fn commit_arena(&mut self, cursor: Cursor, writable: u32, payload: S::Payload) {
        let table = Segment {
            addr: self.core.mem().addr(cursor.id),
            len: u32::from(cursor.total).wrapping_mul(16),
        };
        self.commit_table(cursor, table, writable, payload, false);
    }

    /// Takes a chain of one ring descriptor that leads to `table`.
    #[inline]
    fn commit_table(
        &mut self,
        cursor: Cursor,
        table: Segment,
        writable: u32,
        payload: S::Payload,
        callers: bool,
    ) {
        let at = self.next_avail;
        self.core
            .mem()
            .store_desc_body(at.index(), table.addr, table.len, cursor.id);
        self.core.take(&cursor, writable, payload, callers);
        self.finish(desc::INDIRECT, at.advance(1, self.core.size()), 1);
    }

    /// Makes the head available, or holds it back when it is the first of a batch: then the device
    /// sees none of the batch before that one's flags are written.
    #[inline]
    fn finish(&mut self, head_flags: u16, end: PackedIndex, ndescs: u16) {
        let head = self.next_avail;
        let flags = head_flags | available(head);
        if self.core.pending == 1 {
            self.held_back = (head.index(), flags);
        } else {
            self.core.mem().store_desc_flags(head.index(), flags);
        }
        self.next_avail = end;
        self.core.num_added = self.core.num_added.wrapping_add(ndescs.into());
    }

    #[inline]
    pub(crate) fn add(
        &mut self,
        readable: &[Segment],
        writable: &[Segment],
        payload: S::Payload,
        tables: bool,
    ) -> Result<(), AddError<S::Payload>> {
        match (readable, writable) {
            ([segment], []) => self.add_one(*segment, Direction::Readable, payload),
            ([], [segment]) => self.add_one(*segment, Direction::Writable, payload),
            _ => self.add_chain(readable, writable, payload, tables),
        }
    }

    /// Adds a chain of one segment: no loop, and no table.
    #[inline(always)]
    pub(crate) fn add_one(
        &mut self,
        segment: Segment,
        direction: Direction,
        payload: S::Payload,
    ) -> Result<(), AddError<S::Payload>> {
        let mut cursor = match self.core.begin(1, false) {
            Ok(cursor) => cursor,
            Err(kind) => return Err(AddError { kind, payload }),
        };
        let writable = match direction {
            Direction::Readable => 0,
            Direction::Writable => segment.len,
        };
        let at = self.next_avail;
        let (mem, slots) = self.core.ring_parts();
        if let Some(slot) = slots.get_mut(usize::from(cursor.id)) {
            slot.segment = segment;
            slot.direction = direction;
            cursor.cur = slot.next;
            mem.store_desc_body(at.index(), segment.addr, segment.len, cursor.id);
        }
        self.core.take(&cursor, writable, payload, false);
        self.finish(direction.write_flag(), at.advance(1, self.core.size()), 1);
        Ok(())
    }

    // Not inlined, so that its loops have the registers to themselves.
    #[inline(never)]
    fn add_chain(
        &mut self,
        readable: &[Segment],
        writable: &[Segment],
        payload: S::Payload,
        tables: bool,
    ) -> Result<(), AddError<S::Payload>> {
        // Slices cannot be long enough to wrap.
        let total = readable.len().wrapping_add(writable.len());
        let mut cursor = match self.begin(total, tables) {
            Ok(cursor) => cursor,
            Err(kind) => return Err(AddError { kind, payload }),
        };
        let Some(bytes) = Totals::of(readable, writable).checked() else {
            let kind = AddErrorKind::TooLong;
            return Err(AddError { kind, payload });
        };
        if cursor.table {
            self.put_table(&mut cursor, readable, Direction::Readable);
            self.put_table(&mut cursor, writable, Direction::Writable);
            self.commit_arena(cursor, bytes, payload);
            return Ok(());
        }
        // Nothing can fail any more, so the flags are written in the same pass.
        self.put_ring::<true>(&mut cursor, readable, Direction::Readable);
        self.put_ring::<true>(&mut cursor, writable, Direction::Writable);
        let first = if readable.is_empty() {
            Direction::Writable
        } else {
            Direction::Readable
        };
        let ndescs = cursor.total;
        let end = self.next_avail.advance(ndescs, self.core.size());
        self.core.take(&cursor, bytes, payload, false);
        self.finish(first.flags(ndescs), end, ndescs);
        Ok(())
    }

    #[inline(always)]
    pub(crate) fn add_indirect(
        &mut self,
        table: Segment,
        readable: u32,
        writable: u32,
        payload: S::Payload,
    ) -> Result<(), AddError<S::Payload>> {
        let cursor = match self.core.begin_indirect(table) {
            Ok(cursor) => cursor,
            Err(kind) => return Err(AddError { kind, payload }),
        };
        if readable.checked_add(writable).is_none() {
            return Err(AddError {
                kind: AddErrorKind::TooLong,
                payload,
            });
        }
        self.commit_table(cursor, table, writable, payload, true);
        Ok(())
    }

    #[inline]
    pub(crate) fn publish(&mut self) {
        if self.core.pending != 0 {
            self.core.pending = 0;
            let (index, flags) = self.held_back;
            let mem = self.core.mem();
            // All descriptors of the batch before the flags of the first; pairs with the device's
            // barrier between seeing those flags and reading on (section 2.8.21.1.1).
            mem.publish();
            mem.store_desc_flags(index, flags);
            mem.shared().set_next_avail(self.next_avail.off_wrap());
        }
    }

    #[inline]
    pub(crate) fn kick_prepare(&mut self) -> bool {
        self.publish();
        let added = core::mem::take(&mut self.core.num_added);
        let mem = self.core.mem();
        // The flags before the device's wish is read; pairs with the device's barrier between
        // writing its event area and looking at the ring again (section 2.8.21.3.1).
        mem.full();
        let Ok(added) = u16::try_from(added) else {
            // The distance does not fit the index arithmetic any more.
            return true;
        };
        let flags = mem.load_device_event_flags();
        if flags != EVENT_FLAGS_DESC {
            return flags != EVENT_FLAGS_DISABLE;
        }
        // The device writes the offset before it switches to DESC.
        mem.acquire();
        let event = PackedIndex::from_off_wrap(mem.load_device_event_off_wrap());
        let new = self.next_avail.index();
        let old = new.wrapping_sub(added);
        let event_idx = if event.wrap() == self.next_avail.wrap() {
            event.index()
        } else {
            event.index().wrapping_sub(self.core.size())
        };
        need_event(event_idx, new, old)
    }

    /// Tells which chain comes back next, and with how many bytes written.
    #[inline]
    fn next_used(&mut self) -> Result<Option<(u16, u32)>, RingError> {
        let at = self.next_used;
        if !IN_ORDER || self.batch.is_none() {
            let mem = self.core.mem();
            let flags = mem.load_desc_flags(at.index());
            if !is_used(flags, at) {
                return Ok(None);
            }
            // The flags before the rest of the descriptor; pairs with the device's barrier
            // between writing id and length and the flags (section 2.8.6).
            mem.acquire();
            self.publish();
            let used = self.core.mem().load_used(at.index());
            let id = self.core.check_id(u32::from(used.id))?;
            // Without WRITE the length is reserved (section 2.8.4), so it is no reason to break the
            // ring. It cannot be taken for 0 either: QEMU never sets WRITE.
            let len = self
                .core
                .check_len(id, used.len, flags & desc::WRITE != 0)?;
            if !IN_ORDER {
                return Ok(Some((id, len)));
            }
            self.batch = Some((id, len));
        }
        // In order, the id of a chain is the position of its head.
        let oldest = at.index();
        match self.batch {
            Some((id, len)) if id == oldest => {
                self.batch = None;
                Ok(Some((id, len)))
            }
            // Skipped over by the device: all of it counts as written (as C does).
            _ => Ok(Some((oldest, self.core.writable(oldest)))),
        }
    }

    #[inline(always)]
    pub(crate) fn poll_map<F, G, T>(
        &mut self,
        unmap: F,
        map: G,
    ) -> Result<Option<Used<T>>, RingError>
    where
        F: FnMut(&S::Payload, Segment, Direction),
        G: FnOnce(S::Payload) -> T,
    {
        if self.core.shared().is_broken() {
            return Ok(None);
        }
        let (id, written) = match self.next_used() {
            Ok(Some(next)) => next,
            Ok(None) => return Ok(None),
            Err(error) => return Err(self.core.fail(error)),
        };
        let Some((payload, ndescs)) = self.core.release(id, IN_ORDER, unmap) else {
            return Err(self.core.fail(RingError::IdNotInFlight { id }));
        };
        self.next_used = self.next_used.advance(ndescs, self.core.size());
        let at = self.next_used;
        let shared = self.core.shared();
        shared.set_last_used(at.off_wrap());
        if IN_ORDER {
            shared.set_batch(self.batch.is_some());
        }
        if self.core.event_idx() && !shared.callbacks_off() && (!IN_ORDER || self.batch.is_none()) {
            let mem = self.core.mem();
            // Behind a used descriptor the device has passed the event anyway.
            if !is_used(mem.load_desc_flags(at.index()), at) {
                mem.store_driver_event_off_wrap(at.off_wrap());
                // The event offset before the flags are read again: by the next poll.
                mem.full();
            }
        }
        Ok(Some(Used {
            payload: map(payload),
            written,
        }))
    }

    #[inline]
    pub(crate) fn more_used(&self) -> bool {
        let at = self.next_used;
        (IN_ORDER && self.batch.is_some())
            || is_used(self.core.mem().load_desc_flags(at.index()), at)
    }

    /// Switches interrupts on at `event`, or for every descriptor without event indices.
    #[inline]
    fn callbacks_on(&mut self, event: PackedIndex) {
        let event_idx = self.core.event_idx();
        let mem = self.core.mem();
        let shared = self.core.shared();
        shared.set_event_triggered(false);
        if event_idx {
            mem.store_driver_event_off_wrap(event.off_wrap());
        }
        if shared.callbacks_off() {
            shared.set_callbacks_off(false);
            if event_idx {
                // The offset before the flags that give it a meaning; pairs with the device's
                // barrier between reading the flags and the offset (section 2.8.10).
                mem.publish();
                mem.store_driver_event_flags(EVENT_FLAGS_DESC);
            } else {
                mem.store_driver_event_flags(EVENT_FLAGS_ENABLE);
            }
        }
    }

    #[inline]
    pub(crate) fn enable_cb_prepare(&mut self) -> CbToken {
        self.callbacks_on(self.next_used);
        CbToken::new(self.next_used.off_wrap())
    }

    #[inline]
    pub(crate) fn enable_cb(&mut self) -> CbState {
        self.enable_cb_prepare();
        // The event words before the ring is looked at; pairs with the device's barrier between
        // its used flags and its look at the event words (section 2.8.22).
        self.core.mem().full();
        if self.more_used() && !self.core.shared().is_broken() {
            CbState::MorePending
        } else {
            CbState::Armed
        }
    }

    #[inline]
    pub(crate) fn enable_cb_delayed(&mut self) -> CbState {
        let size = self.core.size();
        let outstanding = size - self.core.num_free();
        // CAST: smaller than what is widened.
        let descs = (u32::from(outstanding) * 3 / 4) as u16;
        self.callbacks_on(self.next_used.advance(descs, size));
        // The event words before the ring is looked at; pairs with the device's barrier between
        // its used flags and its look at the event words (section 2.8.22).
        self.core.mem().full();
        if self.more_used() {
            CbState::MorePending
        } else {
            CbState::Armed
        }
    }

    pub(crate) fn drain_with<F>(&mut self, unmap: F) -> Option<S::Payload>
    where
        F: FnMut(&S::Payload, Segment, Direction),
    {
        self.batch = None;
        self.core.drain(IN_ORDER, unmap)
    }

    pub(crate) fn reset(&mut self) -> Result<(), NotDrained> {
        self.core.reset()?;
        let mem = self.core.mem();
        mem.store_driver_event_off_wrap(0);
        mem.store_driver_event_flags(EVENT_FLAGS_ENABLE);
        mem.zero_device_event();
        for index in 0..self.core.size() {
            // Used is derived from the flags, so none may stay behind.
            mem.store_desc_flags(index, 0);
            mem.store_desc_body(index, 0, 0, 0);
        }
        let shared = self.core.shared();
        shared.set_last_used(PackedIndex::START.off_wrap());
        shared.set_next_avail(PackedIndex::START.off_wrap());
        self.next_avail = PackedIndex::START;
        self.next_used = PackedIndex::START;
        self.held_back = (0, 0);
        self.batch = None;
        self.init_callbacks();
        Ok(())
    }
}
