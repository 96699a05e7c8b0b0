// SPDX-License-Identifier: GPL-2.0

//! The few words of a queue that are touched without its lock.
//!
//! C lets an interrupt handler look for used buffers, switch callbacks off, or break a queue while
//! another CPU works on it (`virtqueue_poll`, `virtqueue_disable_cb`, `vring_interrupt`,
//! `__virtqueue_break`). Those operations live on [`Observer`], which shares a [`Shared`] with the
//! ring. All accesses are single relaxed loads and stores, what C calls `READ_ONCE` and
//! `WRITE_ONCE`: no read-modify-write, and no ordering is drawn from them. Ordering comes from
//! [`Barriers`](crate::Barriers) alone.

use core::sync::atomic::{
    AtomicBool, //
    AtomicU16,
    Ordering::Relaxed,
};

use crate::{
    event::{
        PackedIndex,
        AVAIL_F_NO_INTERRUPT,
        EVENT_FLAGS_DISABLE, //
    },
    packed, //
    Layout,
    QueueSize,
    RingMem,
};

/// Lockless state of one queue. Lives beside the ring memory, not inside the ring.
#[derive(Debug, Default)]
pub struct Shared {
    /// Split: free-running index. Packed: offset and wrap counter.
    last_used: AtomicU16,
    /// What a notification with data says: the next available position that was published.
    next_avail: AtomicU16,
    /// In-order rings: a batch is being handed out, so there is more without looking at the ring.
    batch: AtomicBool,
    callbacks_off: AtomicBool,
    event_triggered: AtomicBool,
    broken: AtomicBool,
}

impl Shared {
    /// State of a queue that has not been used yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            last_used: AtomicU16::new(0),
            next_avail: AtomicU16::new(0),
            batch: AtomicBool::new(false),
            callbacks_off: AtomicBool::new(false),
            event_triggered: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        }
    }

    /// Tells whether the queue is broken: by the device's doing, or by [`Self::break_ring`].
    #[inline]
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken.load(Relaxed)
    }

    /// Breaks the queue (C: `__virtqueue_break`): nothing is added or completed from now on.
    #[inline]
    pub fn break_ring(&self) {
        self.broken.store(true, Relaxed);
    }

    /// Undoes [`Self::break_ring`] (C: `__virtqueue_unbreak`). After a [`RingError`](crate::RingError)
    /// only a reset makes the ring usable; see [`Ring::reset`](crate::Ring::reset).
    #[inline]
    pub fn unbreak(&self) {
        self.broken.store(false, Relaxed);
    }

    /// The available position for a notification with data (virtio 1.4 section 2.9; C:
    /// `vring_notification_data`): split an index, packed an offset with the wrap counter in bit 15.
    #[inline]
    #[must_use]
    pub fn next_avail(&self) -> u16 {
        self.next_avail.load(Relaxed)
    }

    #[inline]
    pub(crate) fn set_next_avail(&self, value: u16) {
        self.next_avail.store(value, Relaxed);
    }

    #[inline]
    pub(crate) fn last_used(&self) -> u16 {
        self.last_used.load(Relaxed)
    }

    #[inline]
    pub(crate) fn set_last_used(&self, value: u16) {
        self.last_used.store(value, Relaxed);
    }

    #[inline]
    pub(crate) fn batch(&self) -> bool {
        self.batch.load(Relaxed)
    }

    #[inline]
    pub(crate) fn set_batch(&self, pending: bool) {
        self.batch.store(pending, Relaxed);
    }

    #[inline]
    pub(crate) fn callbacks_off(&self) -> bool {
        self.callbacks_off.load(Relaxed)
    }

    #[inline]
    pub(crate) fn set_callbacks_off(&self, off: bool) {
        self.callbacks_off.store(off, Relaxed);
    }

    #[inline]
    pub(crate) fn event_triggered(&self) -> bool {
        self.event_triggered.load(Relaxed)
    }

    #[inline]
    pub(crate) fn set_event_triggered(&self, triggered: bool) {
        self.event_triggered.store(triggered, Relaxed);
    }
}

/// Where the driver stood when it switched callbacks on (the `unsigned` that C's
/// `virtqueue_enable_cb_prepare` returns and `virtqueue_poll` takes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CbToken(u16);

impl CbToken {
    #[inline]
    pub(crate) const fn new(value: u16) -> Self {
        Self(value)
    }

    #[inline]
    pub(crate) const fn get(self) -> u16 {
        self.0
    }
}

impl From<CbToken> for u32 {
    #[inline]
    fn from(token: CbToken) -> u32 {
        u32::from(token.0)
    }
}

impl From<u32> for CbToken {
    /// Takes back what was handed out. Only the low 16 bits count, as in C; any value is safe.
    #[inline]
    fn from(value: u32) -> Self {
        // CAST: truncation intended.
        Self(value as u16)
    }
}

/// A view of a queue for code that does not hold its lock. Make one with
/// [`Ring::observer`](crate::Ring::observer), or with [`Observer::new`] on the same memory.
#[derive(Clone, Copy, Debug)]
pub struct Observer<M> {
    layout: Layout,
    size: QueueSize,
    event_idx: bool,
    mem: M,
}

impl<M: RingMem> Observer<M> {
    /// Makes an observer of the queue that uses `mem`. The first three must be those of the ring.
    pub fn new(layout: Layout, size: QueueSize, event_idx: bool, mem: M) -> Self {
        Self {
            layout,
            size,
            event_idx,
            mem,
        }
    }

    /// Tells whether the device has used buffers that were not taken yet (C: `more_used`).
    #[inline]
    pub fn more_used(&self) -> bool {
        let shared = self.mem.shared();
        match self.layout {
            Layout::Split => shared.last_used() != self.mem.load_used_idx(),
            Layout::SplitInOrder => {
                shared.batch() || shared.last_used() != self.mem.load_used_idx()
            }
            Layout::Packed => self.packed_used(shared.last_used()),
            Layout::PackedInOrder => shared.batch() || self.packed_used(shared.last_used()),
        }
    }

    /// Tells whether anything was used since `token` was taken (C: `virtqueue_poll`), with the full
    /// barrier between the earlier stores of the event words and this look at the ring.
    #[inline]
    pub fn poll_token(&self, token: CbToken) -> bool {
        let shared = self.mem.shared();
        if shared.is_broken() {
            return false;
        }
        self.mem.full();
        match self.layout {
            Layout::Split => token.get() != self.mem.load_used_idx(),
            Layout::SplitInOrder => shared.batch() || token.get() != self.mem.load_used_idx(),
            Layout::Packed => self.packed_used(token.get()),
            Layout::PackedInOrder => shared.batch() || self.packed_used(token.get()),
        }
    }

    #[inline]
    fn packed_used(&self, off_wrap: u16) -> bool {
        let at = PackedIndex::from_off_wrap(off_wrap);
        // A token can come back through the C ABI with any value.
        at.index() < self.size.get() && packed::is_used(self.mem.load_desc_flags(at.index()), at)
    }

    /// Notes that an interrupt came, so that [`Self::disable_cb`] need not write shared memory: with
    /// event indices the device will not interrupt again before callbacks are switched on anew.
    /// Call it when [`Self::more_used`] said yes (C: `vring_interrupt`). Racing is harmless.
    #[inline]
    pub fn note_interrupt(&self) {
        if self.event_idx {
            self.mem.shared().set_event_triggered(true);
        }
    }

    /// Asks the device not to interrupt any more (C: `virtqueue_disable_cb`). A hint: it need not be
    /// serialised, and interrupts can still come.
    #[inline]
    pub fn disable_cb(&self) {
        let shared = self.mem.shared();
        if shared.callbacks_off() {
            return;
        }
        shared.set_callbacks_off(true);
        if shared.event_triggered() {
            return;
        }
        match self.layout {
            Layout::Split | Layout::SplitInOrder => {
                if self.event_idx {
                    // An entry that has been used already: the device comes to it after 2^16 - 1
                    // more.
                    self.mem
                        .store_used_event(shared.last_used().wrapping_sub(1));
                } else {
                    self.mem.store_avail_flags(AVAIL_F_NO_INTERRUPT);
                }
            }
            Layout::Packed | Layout::PackedInOrder => {
                self.mem.store_driver_event_flags(EVENT_FLAGS_DISABLE);
            }
        }
    }

    /// See [`Shared::is_broken`].
    #[inline]
    pub fn is_broken(&self) -> bool {
        self.mem.shared().is_broken()
    }

    /// See [`Shared::break_ring`].
    #[inline]
    pub fn break_ring(&self) {
        self.mem.shared().break_ring();
    }

    /// The next used position the driver expects, for diagnostics: split a free-running index,
    /// packed an offset with the wrap counter in bit 15.
    #[inline]
    pub fn used_index(&self) -> u16 {
        self.mem.shared().last_used()
    }

    /// The memory observed.
    #[inline]
    pub fn mem(&self) -> &M {
        &self.mem
    }
}
