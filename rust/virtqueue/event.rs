// SPDX-License-Identifier: GPL-2.0

//! Index arithmetic and event suppression, shared by both ring formats.

/// `VIRTQ_AVAIL_F_NO_INTERRUPT` in `avail.flags` (virtio 1.4 section 2.7.6).
pub const AVAIL_F_NO_INTERRUPT: u16 = 1;

/// `VIRTQ_USED_F_NO_NOTIFY` in `used.flags` (virtio 1.4 section 2.7.8).
pub const USED_F_NO_NOTIFY: u16 = 1;

/// `RING_EVENT_FLAGS_ENABLE`: notify for every descriptor (virtio 1.4 section 2.8.10).
pub const EVENT_FLAGS_ENABLE: u16 = 0;

/// `RING_EVENT_FLAGS_DISABLE`: do not notify (virtio 1.4 section 2.8.10).
pub const EVENT_FLAGS_DISABLE: u16 = 1;

/// `RING_EVENT_FLAGS_DESC`: notify for one descriptor; needs `VIRTIO_F_EVENT_IDX` (virtio 1.4 section 2.8.10).
pub const EVENT_FLAGS_DESC: u16 = 2;

/// Tells whether moving an index from `old` to `new` passed `event`, so that the other side wants
/// to be told (virtio 1.4 section 2.7.10, C: `vring_need_event`).
///
/// All three are free-running modulo 2^16.
///
/// ```
/// use virtqueue::event::need_event;
///
/// assert!(need_event(4, 5, 4)); // entry 4 was asked for and has just been used
/// assert!(!need_event(5, 5, 4)); // entry 5 is still to come
/// assert!(need_event(0xffff, 2, 0xfffe)); // passed while wrapping around
/// ```
#[inline]
#[must_use]
pub const fn need_event(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

/// A free-running index of a split ring, modulo 2^16 (`avail.idx`, `used.idx`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WrapIndex(u16);

impl WrapIndex {
    /// Makes an index from the value in shared memory.
    #[inline]
    #[must_use]
    pub const fn new(value: u16) -> Self {
        Self(value)
    }

    /// The value as it stands in shared memory.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The index `count` entries later.
    #[inline]
    #[must_use]
    pub const fn advance(self, count: u16) -> Self {
        Self(self.0.wrapping_add(count))
    }

    /// How many entries `self` is ahead of `earlier`.
    #[inline]
    #[must_use]
    pub const fn since(self, earlier: Self) -> u16 {
        self.0.wrapping_sub(earlier.0)
    }

    /// The ring slot of this index in a ring whose size is `mask + 1`, a power of two.
    #[inline]
    #[must_use]
    pub const fn slot(self, mask: u16) -> u16 {
        self.0 & mask
    }
}

/// A position in a packed ring with its wrap counter (virtio 1.4 section 2.8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedIndex {
    index: u16,
    wrap: bool,
}

impl PackedIndex {
    /// Bit 15 of an event offset or of notification data: the wrap counter.
    pub const WRAP_BIT: u16 = 1 << 15;

    /// Where both sides start: descriptor 0, wrap counter 1.
    pub const START: Self = Self {
        index: 0,
        wrap: true,
    };

    /// Makes a position. `index` is taken modulo 2^15.
    #[inline]
    #[must_use]
    pub const fn new(index: u16, wrap: bool) -> Self {
        Self {
            index: index & !Self::WRAP_BIT,
            wrap,
        }
    }

    /// The descriptor's index in the ring.
    #[inline]
    #[must_use]
    pub const fn index(self) -> u16 {
        self.index
    }

    /// The wrap counter: the value that the AVAIL bit takes when this descriptor is made
    /// available, and that both bits have when it is used.
    #[inline]
    #[must_use]
    pub const fn wrap(self) -> bool {
        self.wrap
    }

    /// The form used in event offsets and in notification data: offset in bits 0 to 14, wrap
    /// counter in bit 15.
    #[inline]
    #[must_use]
    pub const fn off_wrap(self) -> u16 {
        self.index | ((self.wrap as u16) << 15)
    }

    /// Reads the form that [`Self::off_wrap`] gives. Any value is valid input.
    #[inline]
    #[must_use]
    pub const fn from_off_wrap(off_wrap: u16) -> Self {
        Self {
            index: off_wrap & !Self::WRAP_BIT,
            wrap: off_wrap & Self::WRAP_BIT != 0,
        }
    }

    /// The position `count` descriptors later in a ring of `size`; `count` is at most `size`.
    ///
    /// ```
    /// use virtqueue::event::PackedIndex;
    ///
    /// let end = PackedIndex::START.advance(7, 10).advance(4, 10);
    /// assert_eq!(end, PackedIndex::new(1, false));
    /// ```
    #[inline]
    #[must_use]
    pub const fn advance(self, count: u16, size: u16) -> Self {
        // At most 2 * 32768 - 1, so this does not overflow 16 bits.
        let index = self.index.wrapping_add(count);
        if index >= size {
            Self {
                index: index.wrapping_sub(size),
                wrap: !self.wrap,
            }
        } else {
            Self {
                index,
                wrap: self.wrap,
            }
        }
    }
}
