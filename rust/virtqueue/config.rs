// SPDX-License-Identifier: GPL-2.0

//! What a ring is made from.

/// Number of descriptors of a queue: 1 to 32768 (virtio 1.4 sections 2.7 and 2.8.10.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueueSize(u16);

impl QueueSize {
    /// The largest size.
    pub const MAX: QueueSize = QueueSize(32768);

    /// Checks a size. Split rings need a power of two on top, which
    /// [`Ring::new`](crate::Ring::new) checks.
    #[must_use]
    pub const fn new(size: u32) -> Option<Self> {
        if size >= 1 && size <= 32768 {
            // CAST: checked above.
            Some(Self(size as u16))
        } else {
            None
        }
    }

    /// The number of descriptors.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Tells whether a split ring may have this size.
    #[inline]
    #[must_use]
    pub const fn is_power_of_two(self) -> bool {
        self.0.is_power_of_two()
    }
}

/// The four ring layouts, fixed by `VIRTIO_F_RING_PACKED` and `VIRTIO_F_IN_ORDER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Split ring (virtio 1.4 section 2.7).
    Split,
    /// Split ring, buffers used in the order they were made available (section 2.7.9).
    SplitInOrder,
    /// Packed ring (section 2.8).
    Packed,
    /// Packed ring, buffers used in the order they were made available (section 2.8.8).
    PackedInOrder,
}

impl Layout {
    /// The layout that the two feature bits ask for.
    #[must_use]
    pub const fn from_features(packed: bool, in_order: bool) -> Self {
        match (packed, in_order) {
            (false, false) => Self::Split,
            (false, true) => Self::SplitInOrder,
            (true, false) => Self::Packed,
            (true, true) => Self::PackedInOrder,
        }
    }

    /// Tells whether the ring is packed.
    #[inline]
    #[must_use]
    pub const fn is_packed(self) -> bool {
        matches!(self, Self::Packed | Self::PackedInOrder)
    }

    /// Tells whether the device promised to use buffers in order.
    #[inline]
    #[must_use]
    pub const fn is_in_order(self) -> bool {
        matches!(self, Self::SplitInOrder | Self::PackedInOrder)
    }
}

/// Negotiated features that change how a ring works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// `VIRTIO_F_EVENT_IDX`.
    pub event_idx: bool,
    /// `VIRTIO_F_INDIRECT_DESC`, to use tables out of the ring's own arena.
    pub indirect: bool,
}

/// What to do with a used length above the writable bytes of the chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LengthPolicy {
    /// Break the ring with [`RingError::LengthTooLong`](crate::RingError::LengthTooLong).
    #[default]
    Reject,
    /// Cut it down. For legacy devices (virtio 1.4 section 2.7.8.1), and for device types whose implementations are known to write wrong lengths.
    Clamp,
}

/// Everything that is fixed for the life of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Ring layout.
    pub layout: Layout,
    /// Number of descriptors.
    pub size: QueueSize,
    /// Ring features.
    pub features: Features,
    /// Whether the queue has a callback. Without one, interrupts are switched off from the start.
    pub callbacks: bool,
    /// How to take used lengths that are too long.
    pub length_policy: LengthPolicy,
}
