// SPDX-License-Identifier: GPL-2.0

//! Sizes and offsets of the ring areas: arithmetic only, no memory is touched.

use crate::QueueSize;

/// Alignment of the descriptor table, of indirect tables and of the packed descriptor ring, in
/// bytes (virtio 1.4 sections 2.7 and 2.8.10.1).
pub const DESC_ALIGN: usize = 16;

/// Alignment of the available ring in bytes (virtio 1.4 section 2.7).
pub const AVAIL_ALIGN: usize = 2;

/// Alignment of the used ring and of the packed event areas in bytes (virtio 1.4 section 2.7).
pub const USED_ALIGN: usize = 4;

/// Size of one descriptor in bytes; the same in both formats.
pub const DESC_SIZE: usize = 16;

/// Where the parts of a split ring lie when it is allocated as one block, as legacy devices need
/// (virtio 1.4 section 2.7.2, C: `vring_init` and `vring_size`). All in bytes from the start.
///
/// ```
/// use virtqueue::{layout::SplitLayout, QueueSize};
///
/// let ring = QueueSize::new(256).and_then(|size| SplitLayout::new(size, 4096));
/// let offsets = ring.map(|ring| (ring.avail, ring.used, ring.total));
/// assert_eq!(offsets, Some((4096, 8192, 10246)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitLayout {
    /// Offset of the descriptor table: always 0.
    pub desc: usize,
    /// Size of the descriptor table.
    pub desc_size: usize,
    /// Offset of the available ring.
    pub avail: usize,
    /// Size of the available ring, `used_event` included.
    pub avail_size: usize,
    /// Offset of the used ring.
    pub used: usize,
    /// Size of the used ring, `avail_event` included.
    pub used_size: usize,
    /// Offset of `used_event`, the last word of the available ring.
    pub used_event: usize,
    /// Offset of `avail_event`, the last word of the used ring.
    pub avail_event: usize,
    /// Size of the whole block.
    pub total: usize,
}

impl SplitLayout {
    /// Computes the layout for `size` entries with the used ring aligned to `align` bytes.
    ///
    /// Returns [`None`] when `size` or `align` is not a power of two, or `align` is below 4.
    #[must_use]
    pub const fn new(size: QueueSize, align: usize) -> Option<Self> {
        if !size.is_power_of_two() || !align.is_power_of_two() || align < USED_ALIGN {
            return None;
        }
        let num = size.get() as usize;
        let desc_size = DESC_SIZE * num;
        // flags, idx, the ring, used_event
        let avail_size = 2 + 2 + 2 * num + 2;
        let used = match (desc_size + avail_size).checked_next_multiple_of(align) {
            Some(used) => used,
            None => return None,
        };
        // flags, idx, the ring, avail_event
        let used_size = 2 + 2 + 8 * num + 2;
        let total = match used.checked_add(used_size) {
            Some(total) => total,
            None => return None,
        };
        Some(Self {
            desc: 0,
            desc_size,
            avail: desc_size,
            avail_size,
            used,
            used_size,
            used_event: desc_size + avail_size - 2,
            avail_event: used + used_size - 2,
            total,
        })
    }

    /// Offset of `avail.ring[slot]`.
    #[inline]
    #[must_use]
    pub const fn avail_entry(&self, slot: u16) -> usize {
        self.avail + 4 + 2 * slot as usize
    }

    /// Offset of `used.ring[slot]`.
    #[inline]
    #[must_use]
    pub const fn used_elem(&self, slot: u16) -> usize {
        self.used + 4 + 8 * slot as usize
    }
}

/// Sizes of the three areas of a packed ring in bytes; they are allocated separately (virtio 1.4
/// section 2.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedLayout {
    /// Size of the descriptor ring.
    pub desc_size: usize,
    /// Size of the driver event suppression area.
    pub driver_event_size: usize,
    /// Size of the device event suppression area.
    pub device_event_size: usize,
}

impl PackedLayout {
    /// Offset of `desc_event_off_wrap` in either event area.
    pub const EVENT_OFF_WRAP: usize = 0;
    /// Offset of `desc_event_flags` in either event area.
    pub const EVENT_FLAGS: usize = 2;

    /// Computes the layout for `size` descriptors.
    #[must_use]
    pub const fn new(size: QueueSize) -> Self {
        Self {
            desc_size: DESC_SIZE * size.get() as usize,
            driver_event_size: 4,
            device_event_size: 4,
        }
    }

    /// Offset of descriptor `index` in the descriptor ring.
    #[inline]
    #[must_use]
    pub const fn desc(&self, index: u16) -> usize {
        DESC_SIZE * index as usize
    }
}
