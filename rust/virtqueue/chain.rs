// SPDX-License-Identifier: GPL-2.0

//! Building a chain, segment by segment.

use crate::{
    ring::each, //
    AddError,   //
    AddErrorKind,
    Direction,
    Ring,
    RingMem,
    Segment,
    Store,
};

/// Where a chain under construction stands. It only touches descriptors and slots that are free,
/// and changes no state of the ring before it is committed.
#[derive(Debug)]
pub(crate) struct Cursor {
    /// Segments announced.
    pub(crate) total: u16,
    /// Segments still to come.
    pub(crate) left: u16,
    /// Head slot.
    pub(crate) id: u16,
    /// Slot for the next segment.
    pub(crate) cur: u16,
    /// Slot of the last segment.
    pub(crate) last: u16,
    /// Packed: ring position for the next segment.
    pub(crate) pos: u16,
    /// Segments go to the indirect table of slot `id`.
    pub(crate) table: bool,
}

/// Byte totals of a chain. 64 bits wide, so that adding up to 2^16 lengths cannot overflow.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) readable: u64,
    pub(crate) writable: u64,
}

impl Totals {
    /// Adds up two lists.
    #[inline]
    pub(crate) fn of(readable: &[Segment], writable: &[Segment]) -> Self {
        let mut totals = Self::default();
        totals.add(readable, writable);
        totals
    }

    /// Adds two lists more.
    #[inline]
    fn add(&mut self, readable: &[Segment], writable: &[Segment]) {
        let sum = |before: u64, list: &[Segment]| {
            let add = |sum: u64, segment: &Segment| sum.wrapping_add(u64::from(segment.len));
            list.iter().fold(before, add)
        };
        self.readable = sum(self.readable, readable);
        self.writable = sum(self.writable, writable);
    }

    /// The writable total, when the chain is no longer than 32 bits can say.
    #[inline]
    pub(crate) fn checked(self) -> Option<u32> {
        if self.readable.wrapping_add(self.writable) <= u64::from(u32::MAX) {
            // CAST: not larger than the sum.
            Some(self.writable as u32)
        } else {
            None
        }
    }
}

/// A chain that is being built; see [`Ring::begin`].
///
/// Dropped without [`Self::commit`], it leaves no trace: nothing was made available, and the
/// descriptors were free all the time.
#[derive(Debug)]
#[must_use]
pub struct Builder<'a, M, S> {
    ring: &'a mut Ring<M, S>,
    cursor: Cursor,
    totals: Totals,
    /// A writable segment was appended.
    writing: bool,
}

impl<'a, M: RingMem, S: Store> Builder<'a, M, S> {
    #[inline]
    pub(crate) fn new(
        ring: &'a mut Ring<M, S>,
        total: usize,
        tables: bool,
    ) -> Result<Self, AddErrorKind> {
        let cursor = each!(&mut *ring, r => r.begin(total, tables))?;
        Ok(Self {
            ring,
            cursor,
            totals: Totals::default(),
            writing: false,
        })
    }

    /// Appends a segment that the device reads. All of these come before the writable ones
    /// (virtio 1.4 section 2.7.4.2).
    ///
    /// # Errors
    ///
    /// [`AddErrorKind::Misordered`] after a writable segment or beyond the announced number,
    /// [`AddErrorKind::TooLong`] when the chain becomes longer than `u32::MAX` bytes. Nothing was
    /// appended then.
    #[inline]
    pub fn readable(&mut self, segment: Segment) -> Result<(), AddErrorKind> {
        self.extend(&[segment], Direction::Readable)
    }

    /// Appends a segment that the device writes.
    ///
    /// # Errors
    ///
    /// As [`Self::readable`], but order is no reason.
    #[inline]
    pub fn writable(&mut self, segment: Segment) -> Result<(), AddErrorKind> {
        self.extend(&[segment], Direction::Writable)
    }

    /// Appends several segments, or none of them: cheaper than one by one.
    ///
    /// # Errors
    ///
    /// As [`Self::readable`] and [`Self::writable`].
    #[inline]
    pub fn extend(
        &mut self,
        segments: &[Segment],
        direction: Direction,
    ) -> Result<(), AddErrorKind> {
        if segments.len() > usize::from(self.cursor.left) {
            return Err(AddErrorKind::Misordered);
        }
        let mut totals = self.totals;
        match direction {
            Direction::Readable if self.writing => return Err(AddErrorKind::Misordered),
            Direction::Readable => totals.add(segments, &[]),
            Direction::Writable => totals.add(&[], segments),
        }
        if totals.checked().is_none() {
            return Err(AddErrorKind::TooLong);
        }
        let cursor = &mut self.cursor;
        let _ = each!(&mut *self.ring, r => r.put(cursor, segments, direction));
        self.totals = totals;
        self.writing |= direction == Direction::Writable && !segments.is_empty();
        Ok(())
    }

    /// Calls `f` for each segment appended so far, in order: for undoing what was done to them
    /// before the builder is dropped. Of an indirect chain nothing is reported when the store has no
    /// [`entries`](Store::entries).
    pub fn for_each<F: FnMut(Segment, Direction)>(&self, f: F) {
        let cursor = &self.cursor;
        each!(&*self.ring, r => r.core().for_each_pushed(cursor, f));
    }

    /// Segments still to be appended.
    #[inline]
    pub fn remaining(&self) -> usize {
        usize::from(self.cursor.left)
    }

    /// Hands the chain over to the ring. The device sees it after the next [`Ring::publish`].
    ///
    /// # Errors
    ///
    /// [`AddErrorKind::Misordered`] when segments are missing; the payload comes back.
    #[inline]
    pub fn commit(self, payload: S::Payload) -> Result<(), AddError<S::Payload>> {
        match self.totals.checked() {
            Some(writable) if self.cursor.left == 0 => {
                each!(self.ring, r => r.commit(self.cursor, writable, payload));
                Ok(())
            }
            _ => Err(AddError {
                kind: AddErrorKind::Misordered,
                payload,
            }),
        }
    }
}
