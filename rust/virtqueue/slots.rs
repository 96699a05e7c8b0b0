// SPDX-License-Identifier: GPL-2.0

//! [`Core`]: what all layouts have in common. The free list and the chains in flight.
//!
//! A chain takes as many slots as it takes ring descriptors, linked by [`Slot::next`]; the first
//! one's index is the chain's id. Free slots are linked the same way from `free_head`.
//! In order, chains come back in the order they were taken, so the links stay what they are at
//! the start: a circle.

use crate::{
    chain::Cursor, //
    AddErrorKind,  //
    Config,
    Direction,
    Entry,
    LengthPolicy,
    NewError,
    NotDrained,
    Observer,
    RingError,
    RingMem,
    Segment,
    Shared,
    Slot,
    Store,
};

#[derive(Debug)]
pub(crate) struct Core<M, S> {
    pub(crate) observer: Observer<M>,
    pub(crate) store: S,
    config: Config,
    /// Entries of an indirect table; 0 also without the feature.
    table_capacity: u16,
    /// Power of two minus one, and no id is larger: what device ids are masked with.
    id_mask: u16,
    free_head: u16,
    num_free: u16,
    in_flight: u16,
    /// Chains added since the last publication.
    pub(crate) pending: u16,
    /// Split: chains, packed: descriptors, added since the last kick decision.
    pub(crate) num_added: u64,
    /// Where [`Self::drain`] looks next.
    drain_at: u16,
}

impl<M: RingMem, S: Store> Core<M, S> {
    pub(crate) fn new(config: &Config, mem: M, store: S) -> Result<Self, NewError> {
        let size = usize::from(config.size.get());
        if store.slots().len() < size {
            return Err(NewError::TooFewSlots);
        }
        let capacity = if config.features.indirect {
            mem.capacity()
        } else {
            0
        };
        let entries = store.entries().len();
        if entries != 0 && entries < size * usize::from(capacity) {
            return Err(NewError::TooFewEntries);
        }
        let mut core = Self {
            observer: Observer::new(config.layout, config.size, config.features.event_idx, mem),
            store,
            config: *config,
            table_capacity: capacity,
            id_mask: config.size.get().next_power_of_two().wrapping_sub(1),
            free_head: 0,
            num_free: 0,
            in_flight: 0,
            pending: 0,
            num_added: 0,
            drain_at: 0,
        };
        core.init();
        Ok(core)
    }

    /// Puts every slot on the free list, in order, and starts counting anew.
    pub(crate) fn init(&mut self) {
        let size = self.config.size.get();
        for (i, slot) in (0..size).zip(self.store.slots_mut()) {
            *slot = Slot {
                next: if i + 1 == size { 0 } else { i + 1 },
                ..Slot::EMPTY
            };
        }
        self.free_head = 0;
        self.num_free = size;
        self.in_flight = 0;
        self.pending = 0;
        self.num_added = 0;
        self.drain_at = 0;
        let shared = self.shared();
        shared.set_batch(false);
        shared.set_event_triggered(false);
        shared.set_callbacks_off(!self.config.callbacks);
    }

    /// [`Self::init`] for a ring that was in use.
    pub(crate) fn reset(&mut self) -> Result<(), NotDrained> {
        if self.in_flight != 0 {
            return Err(NotDrained {
                in_flight: self.in_flight,
            });
        }
        self.init();
        Ok(())
    }

    #[inline]
    pub(crate) fn observer(&self) -> &Observer<M> {
        &self.observer
    }

    #[inline]
    pub(crate) fn mem(&self) -> &M {
        self.observer.mem()
    }

    #[inline]
    pub(crate) fn shared(&self) -> &Shared {
        self.mem().shared()
    }

    #[inline]
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    #[inline]
    pub(crate) fn size(&self) -> u16 {
        self.config.size.get()
    }

    #[inline]
    pub(crate) fn event_idx(&self) -> bool {
        self.config.features.event_idx
    }

    #[inline]
    pub(crate) fn num_free(&self) -> u16 {
        self.num_free
    }

    #[inline]
    pub(crate) fn in_flight(&self) -> u16 {
        self.in_flight
    }

    /// Checks that a chain of `total` segments can be added and says where it starts.
    #[inline]
    pub(crate) fn begin(&self, total: usize, tables: bool) -> Result<Cursor, AddErrorKind> {
        if self.shared().is_broken() {
            return Err(AddErrorKind::Broken);
        }
        if total == 0 {
            return Err(AddErrorKind::EmptyChain);
        }
        let table = tables && total > 1 && total <= usize::from(self.table_capacity);
        let ndescs = if table { 1 } else { total };
        if ndescs > usize::from(self.num_free) {
            return Err(if ndescs > usize::from(self.size()) {
                AddErrorKind::TooLong
            } else {
                AddErrorKind::Full
            });
        }
        // CAST: at most the queue size or the table capacity.
        let total = total as u16;
        Ok(Cursor {
            total,
            left: total,
            id: self.free_head,
            cur: self.free_head,
            last: self.free_head,
            pos: 0,
            table,
        })
    }

    /// Checks that a chain with a table of the caller's can be added.
    #[inline]
    pub(crate) fn begin_indirect(&self, table: Segment) -> Result<Cursor, AddErrorKind> {
        if table.len == 0 || !table.len.is_multiple_of(16) {
            return Err(AddErrorKind::BadTable);
        }
        self.begin(1, false)
    }

    /// The memory, and the slots to remember ring descriptors in.
    #[inline]
    pub(crate) fn ring_parts(&mut self) -> (&M, &mut [Slot<S::Payload>]) {
        (self.observer.mem(), self.store.slots_mut())
    }

    /// The memory, and the entries to remember the indirect table of slot `id` in: none when the
    /// store has none.
    #[inline]
    pub(crate) fn table_parts(&mut self, id: u16) -> (&M, &mut [Entry]) {
        let start = usize::from(id) * usize::from(self.table_capacity);
        let entries = self.store.entries_mut().get_mut(start..);
        (self.observer.mem(), entries.unwrap_or_default())
    }

    /// Takes the slots of `cursor` off the free list and puts `payload` into the first.
    #[inline(always)]
    pub(crate) fn take(
        &mut self,
        cursor: &Cursor,
        writable: u32,
        payload: S::Payload,
        caller_table: bool,
    ) {
        let ndescs = if cursor.table { 1 } else { cursor.total };
        let Some(head) = self.store.slots_mut().get_mut(usize::from(cursor.id)) else {
            return;
        };
        head.payload = Some(payload);
        head.writable = writable;
        head.last = cursor.last;
        head.ndescs = ndescs;
        head.entries = if cursor.table { cursor.total } else { 0 };
        head.table = cursor.table || caller_table;
        self.free_head = if head.table { head.next } else { cursor.cur };
        // `begin` has compared: none of these wraps.
        self.num_free = self.num_free.wrapping_sub(ndescs);
        self.in_flight = self.in_flight.wrapping_add(1);
        self.pending = self.pending.wrapping_add(1);
    }

    /// Checks what the device says it used: the id, and then the length.
    /// `id` is compared before it is narrowed, and masked against speculation.
    #[inline]
    pub(crate) fn check_id(&self, id: u32) -> Result<u16, RingError> {
        if id >= u32::from(self.size()) {
            return Err(RingError::IdOutOfRange { id });
        }
        // CAST: compared above.
        let id = id as u16 & self.id_mask;
        match self.store.slots().get(usize::from(id)) {
            Some(Slot {
                payload: Some(_), ..
            }) => Ok(id),
            _ => Err(RingError::IdNotInFlight { id }),
        }
    }

    /// Checks a used length against the chain's room. `id` is in flight. `meant` is false when the
    /// device does not vouch for the length, which is cut down then.
    #[inline]
    pub(crate) fn check_len(&self, id: u16, len: u32, meant: bool) -> Result<u32, RingError> {
        let writable = self.writable(id);
        if len <= writable {
            return Ok(len);
        }
        match self.config.length_policy {
            LengthPolicy::Reject if meant => Err(RingError::LengthTooLong { id, len, writable }),
            _ => Ok(writable),
        }
    }

    /// Writable bytes of chain `id`.
    #[inline]
    pub(crate) fn writable(&self, id: u16) -> u32 {
        match self.store.slots().get(usize::from(id)) {
            Some(slot) => slot.writable,
            None => 0,
        }
    }

    /// Breaks the ring for `error`.
    #[cold]
    pub(crate) fn fail(&self, error: RingError) -> RingError {
        self.shared().break_ring();
        error
    }

    /// Reports the segments of chain `id`, puts its slots back, and gives the payload and the number
    /// of ring descriptors. [`None`], with nothing changed, when `id` is not in flight.
    #[inline]
    pub(crate) fn release<F>(
        &mut self,
        id: u16,
        in_order: bool,
        mut unmap: F,
    ) -> Option<(S::Payload, u16)>
    where
        F: FnMut(&S::Payload, Segment, Direction),
    {
        let head = self.store.slots().get(usize::from(id))?;
        let payload = head.payload.as_ref()?;
        let (last, ndescs) = (head.last, head.ndescs);
        if head.table {
            for entry in self.table_entries(id, head.entries) {
                unmap(payload, entry.segment, entry.direction);
            }
        } else {
            unmap(payload, head.segment, head.direction);
            let mut cur = head.next;
            for _ in 1..ndescs {
                let Some(slot) = self.store.slots().get(usize::from(cur)) else {
                    break;
                };
                unmap(payload, slot.segment, slot.direction);
                cur = slot.next;
            }
        }

        let slots = self.store.slots_mut();
        if !in_order {
            slots.get_mut(usize::from(last))?.next = self.free_head;
            self.free_head = id;
        }
        let payload = slots.get_mut(usize::from(id))?.payload.take()?;
        // What `take` took.
        self.num_free = self.num_free.wrapping_add(ndescs);
        self.in_flight = self.in_flight.wrapping_sub(1);
        Some((payload, ndescs))
    }

    /// The first `count` entries of the table of slot `id`, as far as they were remembered.
    #[inline]
    fn table_entries(&self, id: u16, count: u16) -> &[Entry] {
        let start = usize::from(id) * usize::from(self.table_capacity);
        self.store
            .entries()
            .get(start..start + usize::from(count))
            .unwrap_or(&[])
    }

    /// Reports the segments of a chain under construction.
    pub(crate) fn for_each_pushed<F>(&self, cursor: &Cursor, mut f: F)
    where
        F: FnMut(Segment, Direction),
    {
        let pushed = cursor.total - cursor.left;
        if cursor.table {
            for entry in self.table_entries(cursor.id, pushed) {
                f(entry.segment, entry.direction);
            }
            return;
        }
        let mut cur = cursor.id;
        for _ in 0..pushed {
            let Some(slot) = self.store.slots().get(usize::from(cur)) else {
                return;
            };
            f(slot.segment, slot.direction);
            cur = slot.next;
        }
    }

    /// The slot after the last one of chain `id`: in order, the head of the next chain.
    #[inline]
    pub(crate) fn following(&self, id: u16, ndescs: u16) -> u16 {
        // Neither is above 32768, and the sum is at most 65535.
        let next = id.wrapping_add(ndescs);
        if next >= self.size() {
            next.wrapping_sub(self.size())
        } else {
            next
        }
    }

    /// Finds the next chain in flight and releases it.
    pub(crate) fn drain<F>(&mut self, in_order: bool, mut unmap: F) -> Option<S::Payload>
    where
        F: FnMut(&S::Payload, Segment, Direction),
    {
        self.pending = 0;
        self.shared().set_batch(false);
        if self.in_flight == 0 {
            self.drain_at = 0;
            return None;
        }
        let size = self.size();
        for _ in 0..size {
            let id = self.drain_at;
            self.drain_at = if id + 1 == size { 0 } else { id + 1 };
            if let Some((payload, _)) = self.release(id, in_order, &mut unmap) {
                return Some(payload);
            }
        }
        None
    }
}
