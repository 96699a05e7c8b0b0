// SPDX-License-Identifier: GPL-2.0

//! [`Ring`]: the four layouts behind one set of operations.

use crate::{
    chain::Builder, //
    packed::PackedRing,
    slots::Core,
    split::SplitRing,
    AddError,
    AddErrorKind,
    CbToken,
    Config,
    Direction,
    Layout,
    NewError,
    NotDrained,
    Observer,
    QueueSize,
    RingError,
    RingMem,
    Segment,
    Store,
    Used,
};

/// What switching callbacks on found (C: `virtqueue_enable_cb` returns true for `Armed`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum CbState {
    /// Nothing to do; an interrupt comes with the next used buffer.
    Armed,
    /// Buffers were used in the meantime: poll again, or no interrupt may come for them.
    MorePending,
}

/// The driver side of one virtqueue.
///
/// Dispatch is a match on the layout, not a vtable. Operations take `&mut self`; what may run
/// beside them is on [`Observer`].
///
/// Dropping a ring drops the payloads in its store. While the device may still write into the
/// buffers, the owner must not let that happen: see [`Ring::drain`].
// A ring is made once and never moved on the hot path.
#[derive(Debug)]
pub enum Ring<M, S> {
    /// See [`Layout::Split`].
    Split(SplitRing<M, S, false>),
    /// See [`Layout::SplitInOrder`].
    SplitInOrder(SplitRing<M, S, true>),
    /// See [`Layout::Packed`].
    Packed(PackedRing<M, S, false>),
    /// See [`Layout::PackedInOrder`].
    PackedInOrder(PackedRing<M, S, true>),
}

/// Runs the same expression on whichever ring it is.
macro_rules! each {
    ($ring:expr, $r:ident => $body:expr) => {
        match $ring {
            Ring::Split($r) => $body,
            Ring::SplitInOrder($r) => $body,
            Ring::Packed($r) => $body,
            Ring::PackedInOrder($r) => $body,
        }
    };
}
pub(crate) use each;

impl<M: RingMem, S: Store> Ring<M, S> {
    /// Makes a ring on memory that the caller has zeroed and the device does not use yet.
    ///
    /// Writes nothing to it but when the device is to interrupt, where that is not what zeroes say:
    /// never without [`Config::callbacks`], once in a packed ring with event indices.
    ///
    /// # Errors
    ///
    /// See [`NewError`]. The store is filled with the initial state; what was in it is dropped.
    pub fn new(config: Config, mem: M, store: S) -> Result<Self, NewError> {
        if !config.layout.is_packed() && !config.size.is_power_of_two() {
            return Err(NewError::SizeNotPowerOfTwo);
        }
        let core = Core::new(&config, mem, store)?;
        let mut ring = match config.layout {
            Layout::Split => Self::Split(SplitRing::new(core)),
            Layout::SplitInOrder => Self::SplitInOrder(SplitRing::new(core)),
            Layout::Packed => Self::Packed(PackedRing::new(core)),
            Layout::PackedInOrder => Self::PackedInOrder(PackedRing::new(core)),
        };
        each!(&mut ring, r => r.init_callbacks());
        Ok(ring)
    }

    /// Adds a chain of `readable` and then `writable` segments and takes `payload` until the device
    /// has used it. The device does not see it before [`Self::publish`] or [`Self::kick_prepare`].
    ///
    /// With [`Features::indirect`](crate::Features::indirect), a chain of two or more segments that
    /// fits takes one ring descriptor and the slot's indirect table.
    ///
    /// # Errors
    ///
    /// [`AddErrorKind::Full`], [`EmptyChain`](AddErrorKind::EmptyChain),
    /// [`TooLong`](AddErrorKind::TooLong) or [`Broken`](AddErrorKind::Broken); the payload comes
    /// back and nothing has changed.
    #[inline]
    pub fn add(
        &mut self,
        readable: &[Segment],
        writable: &[Segment],
        payload: S::Payload,
    ) -> Result<(), AddError<S::Payload>> {
        each!(self, r => r.add(readable, writable, payload, true))
    }

    /// [`Self::add`] of one segment, for callers who know that it is one.
    ///
    /// # Errors
    ///
    /// As [`Self::add`].
    #[inline(always)]
    pub fn add_one(
        &mut self,
        segment: Segment,
        direction: Direction,
        payload: S::Payload,
    ) -> Result<(), AddError<S::Payload>> {
        each!(self, r => r.add_one(segment, direction, payload))
    }

    /// [`Self::add`] without an indirect table, for callers whose chains must be in the ring itself.
    ///
    /// # Errors
    ///
    /// As [`Self::add`].
    #[inline]
    pub fn add_direct(
        &mut self,
        readable: &[Segment],
        writable: &[Segment],
        payload: S::Payload,
    ) -> Result<(), AddError<S::Payload>> {
        each!(self, r => r.add(readable, writable, payload, false))
    }

    /// Adds a chain whose indirect table the caller has filled and keeps: one ring descriptor.
    ///
    /// `VIRTIO_F_INDIRECT_DESC` must be negotiated (virtio 1.4 section 2.7.5.3.1), whatever
    /// [`Features::indirect`](crate::Features::indirect) says of the ring's own tables.
    /// `table` is the table's address and its length in bytes, a multiple of 16; `readable` and
    /// `writable` are the byte totals of the segments in it. Neither the table nor its segments
    /// are reported to [`Self::poll_with`].
    ///
    /// # Errors
    ///
    /// [`AddErrorKind::BadTable`] for any other length; otherwise as [`Self::add`].
    #[inline(always)]
    pub fn add_indirect(
        &mut self,
        table: Segment,
        readable: u32,
        writable: u32,
        payload: S::Payload,
    ) -> Result<(), AddError<S::Payload>> {
        each!(self, r => r.add_indirect(table, readable, writable, payload))
    }

    /// Starts a chain of exactly `total` segments that is given segment by segment, for callers
    /// that may fail midway. Dropping the builder gives everything back.
    ///
    /// # Errors
    ///
    /// As [`Self::add`].
    #[inline]
    pub fn begin(&mut self, total: usize) -> Result<Builder<'_, M, S>, AddErrorKind> {
        Builder::new(self, total, true)
    }

    /// [`Self::begin`] without an indirect table.
    ///
    /// # Errors
    ///
    /// As [`Self::add`].
    #[inline]
    pub fn begin_direct(&mut self, total: usize) -> Result<Builder<'_, M, S>, AddErrorKind> {
        Builder::new(self, total, false)
    }

    /// Makes every chain added so far visible to the device: one barrier and one index (split) or
    /// flags (packed) store for all of them.
    #[inline]
    pub fn publish(&mut self) {
        each!(self, r => r.publish())
    }

    /// Publishes, and tells whether the device wants to be notified (C: `virtqueue_kick_prepare`).
    /// The caller notifies then, without the lock if it likes.
    #[inline]
    #[must_use]
    pub fn kick_prepare(&mut self) -> bool {
        each!(self, r => r.kick_prepare())
    }

    /// Takes the next used chain, if there is one (C: `virtqueue_get_buf`).
    ///
    /// Publishes first if chains wait for it, so that a device cannot complete what it cannot see.
    /// With callbacks on and event indices, the event word is written when the last used buffer that
    /// is visible is taken, not for each: before that the device has passed it anyway.
    ///
    /// # Errors
    ///
    /// What the device did wrong. The ring is broken from then on, and later calls return
    /// `Ok(None)`; the payloads stay in flight until [`Self::drain`].
    #[inline]
    pub fn poll(&mut self) -> Result<Option<Used<S::Payload>>, RingError> {
        self.poll_map(|payload| payload)
    }

    /// [`Self::poll`] for a caller who wants only part of the payload: `map` gets it at its place, so
    /// that the rest is not moved.
    ///
    /// # Errors
    ///
    /// As [`Self::poll`]; then `map` was not called.
    #[inline(always)]
    pub fn poll_map<G, T>(&mut self, map: G) -> Result<Option<Used<T>>, RingError>
    where
        G: FnOnce(S::Payload) -> T,
    {
        each!(self, r => r.poll_map(|_, _, _| (), map))
    }

    /// [`Self::poll`], and calls `unmap` with the payload for each segment of the chain, in the order
    /// they were added, before it is released.
    ///
    /// # Errors
    ///
    /// As [`Self::poll`]; then `unmap` was not called.
    #[inline]
    pub fn poll_with<F>(&mut self, unmap: F) -> Result<Option<Used<S::Payload>>, RingError>
    where
        F: FnMut(&S::Payload, Segment, Direction),
    {
        each!(self, r => r.poll_map(unmap, |payload| payload))
    }

    /// Tells whether [`Self::poll`] has something to do (C: `more_used`).
    #[inline]
    pub fn more_used(&self) -> bool {
        each!(self, r => r.more_used())
    }

    /// Asks the device not to interrupt (C: `virtqueue_disable_cb`). A hint.
    #[inline]
    pub fn disable_cb(&mut self) {
        each!(self, r => r.core().observer().disable_cb())
    }

    /// Notes that an interrupt came; see [`Observer::note_interrupt`].
    #[inline]
    pub fn note_interrupt(&mut self) {
        each!(self, r => r.core().observer().note_interrupt())
    }

    /// Asks the device to interrupt for the next used buffer (C: `virtqueue_enable_cb_prepare`).
    /// [`Self::poll_token`] then tells whether one was used before the device could see that.
    #[inline]
    pub fn enable_cb_prepare(&mut self) -> CbToken {
        each!(self, r => r.enable_cb_prepare())
    }

    /// Tells whether anything was used since `token` (C: `virtqueue_poll`). False on a broken ring.
    #[inline]
    pub fn poll_token(&self, token: CbToken) -> bool {
        each!(self, r => r.core().observer().poll_token(token))
    }

    /// Both of the above (C: `virtqueue_enable_cb`).
    #[inline]
    pub fn enable_cb(&mut self) -> CbState {
        each!(self, r => r.enable_cb())
    }

    /// Asks for an interrupt when about three quarters of what is outstanding has been used
    /// (C: `virtqueue_enable_cb_delayed`). `Armed` on a broken ring, so that nobody spins on it.
    #[inline]
    pub fn enable_cb_delayed(&mut self) -> CbState {
        if self.is_broken() {
            return CbState::Armed;
        }
        each!(self, r => r.enable_cb_delayed())
    }

    /// Takes back a chain that the device has not used (C: `virtqueue_detach_unused_buf`).
    ///
    /// Only for when the device does not own the ring any more, which the caller must know: after a
    /// device or queue reset. When [`None`] came, [`Self::reset`] makes the ring usable again.
    pub fn drain(&mut self) -> Option<S::Payload> {
        self.drain_with(|_, _, _| ())
    }

    /// [`Self::drain`] with the segments, as [`Self::poll_with`].
    pub fn drain_with<F>(&mut self, unmap: F) -> Option<S::Payload>
    where
        F: FnMut(&S::Payload, Segment, Direction),
    {
        each!(self, r => r.drain_with(unmap))
    }

    /// Sets ring memory and driver state to where they were after [`Self::new`]. Whether the ring is
    /// broken does not change. The device must not own the ring.
    ///
    /// # Errors
    ///
    /// [`NotDrained`], when buffers are in flight; nothing has changed then.
    pub fn reset(&mut self) -> Result<(), NotDrained> {
        each!(self, r => r.reset())
    }

    /// Tells whether the ring is broken.
    #[inline]
    pub fn is_broken(&self) -> bool {
        each!(self, r => r.core().shared().is_broken())
    }

    /// Breaks the ring; see [`Shared::break_ring`](crate::Shared::break_ring).
    pub fn break_ring(&self) {
        each!(self, r => r.core().shared().break_ring())
    }

    /// Undoes it; see [`Shared::unbreak`](crate::Shared::unbreak).
    pub fn unbreak(&self) {
        each!(self, r => r.core().shared().unbreak())
    }

    /// Free ring descriptors.
    #[inline]
    pub fn num_free(&self) -> u16 {
        each!(self, r => r.core().num_free())
    }

    /// Chains added since the last [`Self::kick_prepare`].
    #[inline]
    pub fn num_added(&self) -> u32 {
        let added = each!(self, r => r.core().num_added);
        u32::try_from(added).unwrap_or(u32::MAX)
    }

    /// Chains added and not yet returned, published or not.
    #[inline]
    pub fn in_flight(&self) -> u16 {
        each!(self, r => r.core().in_flight())
    }

    /// Number of descriptors.
    #[inline]
    pub fn size(&self) -> QueueSize {
        each!(self, r => r.core().config().size)
    }

    /// The ring's layout.
    #[inline]
    pub fn layout(&self) -> Layout {
        each!(self, r => r.core().config().layout)
    }

    /// What the ring was made from.
    #[inline]
    pub fn config(&self) -> &Config {
        each!(self, r => r.core().config())
    }

    /// The upper half of notification data (`VIRTIO_F_NOTIFICATION_DATA`, virtio 1.4 section 2.9):
    /// split the next available index, packed the next offset with the wrap counter in bit 15.
    /// It counts what was published; who does not hold the queue's lock reads it from [`Shared`](crate::Shared).
    #[inline]
    pub fn notification_data(&self) -> u16 {
        each!(self, r => r.core().shared().next_avail())
    }

    /// The next used position expected, for diagnostics; see [`Observer::used_index`].
    #[inline]
    pub fn used_index(&self) -> u16 {
        each!(self, r => r.core().shared().last_used())
    }

    /// The memory the ring works on.
    #[inline]
    pub fn mem(&self) -> &M {
        each!(self, r => r.core().mem())
    }

    /// A lockless view on the same memory.
    pub fn observer(&self) -> Observer<M>
    where
        M: Clone,
    {
        let config = self.config();
        Observer::new(
            config.layout,
            config.size,
            config.features.event_idx,
            self.mem().clone(),
        )
    }
}
