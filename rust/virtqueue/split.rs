// SPDX-License-Identifier: GPL-2.0

//! Split rings (virtio 1.4 section 2.7), with and without `VIRTIO_F_IN_ORDER` (section 2.7.9).

use crate::{
    chain::{
        Cursor,
        Totals, //
    },
    desc,
    event::{
        need_event,
        WrapIndex,
        AVAIL_F_NO_INTERRUPT,
        USED_F_NO_NOTIFY, //
    },
    slots::Core,
    AddError, //
    AddErrorKind,
    CbState,
    CbToken,
    Direction,
    NotDrained,
    RingError,
    RingMem,
    Segment,
    SplitDesc,
    Store,
    Used,
};

/// The descriptor for a segment.
#[inline]
fn desc_of(segment: &Segment, flags: u16, next: u16) -> SplitDesc {
    SplitDesc {
        addr: segment.addr,
        len: segment.len,
        flags,
        next,
    }
}

/// A split ring. Used through [`Ring`](crate::Ring).
#[derive(Debug)]
pub struct SplitRing<M, S, const IN_ORDER: bool> {
    core: Core<M, S>,
    /// `avail.idx` with everything added, published or not.
    avail_idx: WrapIndex,
    /// Number of chains returned, modulo 2^16: the next used entry.
    last_used: WrapIndex,
    /// `used.idx` when it was last read: entries up to here can be read.
    seen_used: WrapIndex,
    /// In order: head of the chain that must come back next.
    oldest: u16,
    /// In order: id and length of the last chain of the batch that is being handed out.
    batch: Option<(u16, u32)>,
}

impl<M: RingMem, S: Store, const IN_ORDER: bool> SplitRing<M, S, IN_ORDER> {
    pub(crate) fn new(core: Core<M, S>) -> Self {
        core.shared().set_last_used(0);
        core.shared().set_next_avail(0);
        Self {
            core,
            avail_idx: WrapIndex::new(0),
            last_used: WrapIndex::new(0),
            seen_used: WrapIndex::new(0),
            oldest: 0,
            batch: None,
        }
    }

    #[inline]
    pub(crate) fn core(&self) -> &Core<M, S> {
        &self.core
    }

    /// Size minus one: the size is a power of two.
    #[inline]
    fn mask(&self) -> u16 {
        self.core.size().wrapping_sub(1)
    }

    /// Tells the device at the start that there is no callback.
    pub(crate) fn init_callbacks(&mut self) {
        if self.core.shared().callbacks_off() && !self.core.event_idx() {
            self.core.mem().store_avail_flags(AVAIL_F_NO_INTERRUPT);
        }
    }

    #[inline]
    pub(crate) fn begin(&self, total: usize, tables: bool) -> Result<Cursor, AddErrorKind> {
        self.core.begin(total, tables)
    }

    /// Writes segments to the next free descriptors or table entries, and gives their length in bytes.
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
            self.put_ring(cursor, segments, direction)
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
        let (id, mut left) = (cursor.id, cursor.left);
        let mut nth = cursor.total.wrapping_sub(left);
        let (mem, entries) = self.core.table_parts(id);
        for segment in segments {
            bytes = bytes.wrapping_add(u64::from(segment.len));
            if let Some(entry) = entries.get_mut(usize::from(nth)) {
                entry.segment = *segment;
                entry.direction = direction;
            }
            let next = nth.wrapping_add(1);
            mem.store_split(id, nth, desc_of(segment, direction.flags(left), next));
            left = left.wrapping_sub(1);
            nth = next;
        }
        cursor.left = left;
        bytes
    }

    #[inline]
    fn put_ring(&mut self, cursor: &mut Cursor, segments: &[Segment], direction: Direction) -> u64 {
        let mut bytes: u64 = 0;
        let (mut cur, mut last, mut left) = (cursor.cur, cursor.last, cursor.left);
        let (mem, slots) = self.core.ring_parts();
        for segment in segments {
            let Some(slot) = slots.get_mut(usize::from(cur)) else {
                break;
            };
            bytes = bytes.wrapping_add(u64::from(segment.len));
            slot.segment = *segment;
            slot.direction = direction;
            mem.store_desc(cur, desc_of(segment, direction.flags(left), slot.next));
            left = left.wrapping_sub(1);
            last = cur;
            cur = slot.next;
        }
        (cursor.cur, cursor.last, cursor.left) = (cur, last, left);
        bytes
    }

    /// Takes a chain whose segments were all written.
    #[inline]
    pub(crate) fn commit(&mut self, cursor: Cursor, writable: u32, payload: S::Payload) {
        if cursor.table {
            let table = Segment {
                addr: self.core.mem().addr(cursor.id),
                len: u32::from(cursor.total).wrapping_mul(16),
            };
            self.store_table(cursor.id, table);
        }
        self.finish(cursor, writable, payload, false);
    }

    #[inline]
    fn store_table(&mut self, id: u16, table: Segment) {
        let desc = SplitDesc {
            addr: table.addr,
            len: table.len,
            flags: desc::INDIRECT,
            next: 0,
        };
        self.core.mem().store_desc(id, desc);
    }

    #[inline]
    fn finish(&mut self, cursor: Cursor, writable: u32, payload: S::Payload, caller_table: bool) {
        self.core.take(&cursor, writable, payload, caller_table);
        self.core.num_added = self.core.num_added.wrapping_add(1);
        self.core
            .mem()
            .store_avail_entry(self.avail_idx.slot(self.mask()), cursor.id);
        self.avail_idx = self.avail_idx.advance(1);
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
        let (mem, slots) = self.core.ring_parts();
        if let Some(slot) = slots.get_mut(usize::from(cursor.id)) {
            slot.segment = segment;
            slot.direction = direction;
            cursor.cur = slot.next;
            mem.store_desc(cursor.id, desc_of(&segment, direction.write_flag(), 0));
        }
        self.finish(cursor, writable, payload, false);
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
        let totals = if cursor.table {
            Totals {
                readable: self.put_table(&mut cursor, readable, Direction::Readable),
                writable: self.put_table(&mut cursor, writable, Direction::Writable),
            }
        } else {
            Totals {
                readable: self.put_ring(&mut cursor, readable, Direction::Readable),
                writable: self.put_ring(&mut cursor, writable, Direction::Writable),
            }
        };
        let Some(writable) = totals.checked() else {
            let kind = AddErrorKind::TooLong;
            return Err(AddError { kind, payload });
        };
        self.commit(cursor, writable, payload);
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
        self.store_table(cursor.id, table);
        self.finish(cursor, writable, payload, true);
        Ok(())
    }

    #[inline]
    pub(crate) fn publish(&mut self) {
        if self.core.pending != 0 {
            self.core.pending = 0;
            let mem = self.core.mem();
            // Descriptors and available entries before the index that shows them; pairs with the
            // device's barrier between reading avail.idx and the entries (section 2.7.13.3.1).
            mem.publish();
            mem.store_avail_idx(self.avail_idx.get());
            mem.shared().set_next_avail(self.avail_idx.get());
        }
    }

    #[inline]
    pub(crate) fn kick_prepare(&mut self) -> bool {
        self.publish();
        let added = core::mem::take(&mut self.core.num_added);
        let mem = self.core.mem();
        // avail.idx before the device's wish is read; pairs with the device's barrier between
        // writing avail_event or the flags and looking at avail.idx again (section 2.7.13.4.1).
        mem.full();
        let Ok(added) = u16::try_from(added) else {
            // The distance does not fit the index arithmetic any more.
            return true;
        };
        if self.core.event_idx() {
            let new = self.avail_idx.get();
            need_event(mem.load_avail_event(), new, new.wrapping_sub(added))
        } else {
            mem.load_used_flags() & USED_F_NO_NOTIFY == 0
        }
    }

    /// Looks whether the device has used more than is known. Cheap when it has not.
    #[inline]
    fn look(&mut self) -> Result<bool, RingError> {
        let mem = self.core.mem();
        let used = WrapIndex::new(mem.load_used_idx());
        if used == self.last_used {
            return Ok(false);
        }
        // used.idx before the entries it shows; pairs with the device's barrier between writing
        // an entry and the index (section 2.7.8.2).
        mem.acquire();
        let delta = used.since(self.last_used);
        let limit = self.core.in_flight();
        if delta > limit {
            return Err(RingError::IndexJump { delta, limit });
        }
        self.seen_used = used;
        Ok(true)
    }

    /// Tells which chain comes back next, and with how many bytes written.
    #[inline]
    fn next_used(&mut self) -> Result<Option<(u16, u32)>, RingError> {
        if !IN_ORDER || self.batch.is_none() {
            if self.seen_used == self.last_used && !self.look()? {
                return Ok(None);
            }
            self.publish();
            let slot = self.last_used.slot(self.mask());
            let elem = self.core.mem().load_used_elem(slot);
            let id = self.core.check_id(elem.id)?;
            let len = self.core.check_len(id, elem.len, true)?;
            if !IN_ORDER {
                return Ok(Some((id, len)));
            }
            self.batch = Some((id, len));
        }
        match self.batch {
            Some((id, len)) if id == self.oldest => {
                self.batch = None;
                Ok(Some((id, len)))
            }
            Some(_) if self.last_used.advance(1) == self.seen_used => {
                // The entry claims more chains than the index does.
                Err(RingError::IndexJump {
                    delta: self.core.in_flight(),
                    limit: 1,
                })
            }
            // Skipped over by the device: all of it counts as written (as C does).
            _ => Ok(Some((self.oldest, self.core.writable(self.oldest)))),
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
        self.last_used = self.last_used.advance(1);
        let shared = self.core.shared();
        shared.set_last_used(self.last_used.get());
        if IN_ORDER {
            shared.set_batch(self.batch.is_some());
            self.oldest = self.core.following(id, ndescs);
        }
        if self.seen_used == self.last_used && self.core.event_idx() && !shared.callbacks_off() {
            let mem = self.core.mem();
            mem.store_used_event(self.last_used.get());
            // used_event before used.idx is read again: by the next poll.
            mem.full();
        }
        Ok(Some(Used {
            payload: map(payload),
            written,
        }))
    }

    #[inline]
    pub(crate) fn more_used(&self) -> bool {
        self.last_used.get() != self.core.mem().load_used_idx()
    }

    /// Switches interrupts on in the flags, if they are used and off.
    #[inline]
    fn callbacks_on(&mut self) {
        let shared = self.core.shared();
        shared.set_event_triggered(false);
        if shared.callbacks_off() {
            shared.set_callbacks_off(false);
            if !self.core.event_idx() {
                self.core.mem().store_avail_flags(0);
            }
        }
    }

    #[inline]
    pub(crate) fn enable_cb_prepare(&mut self) -> CbToken {
        self.callbacks_on();
        if self.core.event_idx() {
            self.core.mem().store_used_event(self.last_used.get());
        }
        CbToken::new(self.last_used.get())
    }

    #[inline]
    pub(crate) fn enable_cb(&mut self) -> CbState {
        self.enable_cb_prepare();
        // The event words before the ring is looked at; pairs with the device's barrier between
        // its used index and its look at the event words (section 2.7.7).
        self.core.mem().full();
        if self.more_used() && !self.core.shared().is_broken() {
            CbState::MorePending
        } else {
            CbState::Armed
        }
    }

    #[inline]
    pub(crate) fn enable_cb_delayed(&mut self) -> CbState {
        self.callbacks_on();
        let outstanding = self.avail_idx.since(self.last_used);
        // CAST: smaller than what is widened.
        let bufs = (u32::from(outstanding) * 3 / 4) as u16;
        let mem = self.core.mem();
        if self.core.event_idx() {
            mem.store_used_event(self.last_used.advance(bufs).get());
        }
        // The event word before used.idx; pairs with the device's barrier between used.idx and
        // its look at used_event or the flags (section 2.7.7).
        mem.full();
        if WrapIndex::new(mem.load_used_idx()).since(self.last_used) > bufs {
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
        mem.store_avail_flags(0);
        mem.store_avail_idx(0);
        mem.store_used_event(0);
        mem.zero_used_area();
        self.core.shared().set_last_used(0);
        self.core.shared().set_next_avail(0);
        self.avail_idx = WrapIndex::new(0);
        self.last_used = WrapIndex::new(0);
        self.seen_used = WrapIndex::new(0);
        self.oldest = 0;
        self.batch = None;
        self.init_callbacks();
        Ok(())
    }
}
