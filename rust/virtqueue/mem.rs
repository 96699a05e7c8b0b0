// SPDX-License-Identifier: GPL-2.0

//! What a ring asks of the memory it shares with the device.
//!
//! Every method is named after the field it touches and after the direction. What the driver
//! writes has a store and no load; what the device writes has a load and no store (apart from the
//! two `zero_*` methods, called only while the device is known not to run). So a ring cannot read
//! back its own descriptors from memory that the device may have changed: that does not type-check.
//!
//! Every `index`, `slot` and `id` handed to these traits is smaller than the queue size, and every
//! `entry` is smaller than [`IndirectTables::capacity`], whatever the device wrote.
//! A load reads shared memory exactly once.

use crate::Shared;

/// A descriptor of a split ring or of a split indirect table (`struct virtq_desc`, virtio 1.4
/// section 2.7.5), in CPU byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SplitDesc {
    /// Address of the segment, as the device sees it.
    pub addr: u64,
    /// Length of the segment in bytes.
    pub len: u32,
    /// `VIRTQ_DESC_F_*`, see [`crate::desc`].
    pub flags: u16,
    /// Index of the next descriptor of the chain, when `flags` has `NEXT`.
    pub next: u16,
}

/// A descriptor of a packed indirect table (`struct pvirtq_desc`, virtio 1.4 sections 2.8.7 and
/// 2.8.13), in CPU byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PackedDesc {
    /// Address of the segment, as the device sees it.
    pub addr: u64,
    /// Length of the segment in bytes.
    pub len: u32,
    /// Buffer id; reserved (0) in an indirect table.
    pub id: u16,
    /// `VIRTQ_DESC_F_*`; only `WRITE` has a meaning in an indirect table.
    pub flags: u16,
}

/// A used element of a split ring (`struct virtq_used_elem`, virtio 1.4 section 2.7.8). Untrusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitUsed {
    /// Claimed head descriptor of the chain.
    pub id: u32,
    /// Claimed number of bytes written.
    pub len: u32,
}

/// The part of a used packed descriptor that matters (virtio 1.4 section 2.8.4). Untrusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedUsed {
    /// Claimed buffer id.
    pub id: u16,
    /// Claimed number of bytes written.
    pub len: u32,
}

/// The three barriers of the ring protocol. The implementer knows whether the device is another
/// CPU (weak: `smp_*`) or hardware (strong: `dma_*`/`mb`), see `VIRTIO_F_ORDER_PLATFORM`.
pub trait Barriers {
    /// Orders earlier stores before later stores (C: `virtio_wmb`).
    fn publish(&self);
    /// Orders earlier loads before later loads (C: `virtio_rmb`).
    fn acquire(&self);
    /// Orders everything earlier before everything later, stores before loads included (C: `virtio_mb`).
    fn full(&self);
}

/// The three areas of a split ring (virtio 1.4 section 2.7).
pub trait SplitMem: Barriers {
    /// Writes descriptor `index` of the descriptor table.
    fn store_desc(&self, index: u16, desc: SplitDesc);
    /// Writes `avail.ring[slot] = head`.
    fn store_avail_entry(&self, slot: u16, head: u16);
    /// Writes `avail.idx`.
    fn store_avail_idx(&self, idx: u16);
    /// Writes `avail.flags`.
    fn store_avail_flags(&self, flags: u16);
    /// Writes `used_event`, the word behind the available ring.
    fn store_used_event(&self, idx: u16);

    /// Reads `used.idx`.
    fn load_used_idx(&self) -> u16;
    /// Reads `used.ring[slot]`, each half once.
    fn load_used_elem(&self, slot: u16) -> SplitUsed;
    /// Reads `used.flags`.
    fn load_used_flags(&self) -> u16;
    /// Reads `avail_event`, the word behind the used ring.
    fn load_avail_event(&self) -> u16;

    /// Sets `used.flags`, `used.idx` and `avail_event` to 0. Only called by
    /// [`Ring::reset`](crate::Ring::reset), when the device does not own the ring.
    fn zero_used_area(&self);
}

/// The descriptor ring and the two event suppression areas of a packed ring (virtio 1.4 section 2.8).
pub trait PackedMem: Barriers {
    /// Writes everything but the flags of descriptor `index`.
    fn store_desc_body(&self, index: u16, addr: u64, len: u32, id: u16);
    /// Writes the flags of descriptor `index`.
    fn store_desc_flags(&self, index: u16, flags: u16);
    /// Writes `desc_event_off_wrap` of the driver area.
    fn store_driver_event_off_wrap(&self, off_wrap: u16);
    /// Writes `desc_event_flags` of the driver area.
    fn store_driver_event_flags(&self, flags: u16);

    /// Reads the flags of descriptor `index`.
    fn load_desc_flags(&self, index: u16) -> u16;
    /// Reads id and length of the used descriptor at `index`, each once.
    fn load_used(&self, index: u16) -> PackedUsed;
    /// Reads `desc_event_off_wrap` of the device area.
    fn load_device_event_off_wrap(&self) -> u16;
    /// Reads `desc_event_flags` of the device area.
    fn load_device_event_flags(&self) -> u16;

    /// Sets both words of the device area to 0. Only called by [`Ring::reset`](crate::Ring::reset),
    /// when the device does not own the ring.
    fn zero_device_event(&self);
}

/// Preallocated indirect tables, one for each slot id.
///
/// A chain must not be longer than the queue size, wherever its descriptors are (virtio 1.4 section
/// 2.7.5.3.1), so more entries than that are only for devices known to take them.
pub trait IndirectTables {
    /// Entries of each table; 0 when there are no tables.
    fn capacity(&self) -> u16;
    /// Address of the table of slot `id`, as the device sees it.
    fn addr(&self, id: u16) -> u64;
    /// Writes entry `entry` of the table of slot `id` in split format.
    fn store_split(&self, id: u16, entry: u16, desc: SplitDesc);
    /// Writes entry `entry` of the table of slot `id` in packed format.
    fn store_packed(&self, id: u16, entry: u16, desc: PackedDesc);
}

/// Everything that one queue shares with the device and with lockless readers.
///
/// One type serves all layouts; the half that does not belong to the layout is never called.
pub trait RingMem: SplitMem + PackedMem + IndirectTables {
    /// The words that [`Observer`](crate::Observer) reads without the queue's lock.
    fn shared(&self) -> &Shared;
}

impl<M: Barriers + ?Sized> Barriers for &M {
    #[inline]
    fn publish(&self) {
        (**self).publish()
    }
    #[inline]
    fn acquire(&self) {
        (**self).acquire()
    }
    #[inline]
    fn full(&self) {
        (**self).full()
    }
}

impl<M: SplitMem + ?Sized> SplitMem for &M {
    #[inline]
    fn store_desc(&self, index: u16, desc: SplitDesc) {
        (**self).store_desc(index, desc)
    }
    #[inline]
    fn store_avail_entry(&self, slot: u16, head: u16) {
        (**self).store_avail_entry(slot, head)
    }
    #[inline]
    fn store_avail_idx(&self, idx: u16) {
        (**self).store_avail_idx(idx)
    }
    #[inline]
    fn store_avail_flags(&self, flags: u16) {
        (**self).store_avail_flags(flags)
    }
    #[inline]
    fn store_used_event(&self, idx: u16) {
        (**self).store_used_event(idx)
    }
    #[inline]
    fn load_used_idx(&self) -> u16 {
        (**self).load_used_idx()
    }
    #[inline]
    fn load_used_elem(&self, slot: u16) -> SplitUsed {
        (**self).load_used_elem(slot)
    }
    #[inline]
    fn load_used_flags(&self) -> u16 {
        (**self).load_used_flags()
    }
    #[inline]
    fn load_avail_event(&self) -> u16 {
        (**self).load_avail_event()
    }
    #[inline]
    fn zero_used_area(&self) {
        (**self).zero_used_area()
    }
}

impl<M: PackedMem + ?Sized> PackedMem for &M {
    #[inline]
    fn store_desc_body(&self, index: u16, addr: u64, len: u32, id: u16) {
        (**self).store_desc_body(index, addr, len, id)
    }
    #[inline]
    fn store_desc_flags(&self, index: u16, flags: u16) {
        (**self).store_desc_flags(index, flags)
    }
    #[inline]
    fn store_driver_event_off_wrap(&self, off_wrap: u16) {
        (**self).store_driver_event_off_wrap(off_wrap)
    }
    #[inline]
    fn store_driver_event_flags(&self, flags: u16) {
        (**self).store_driver_event_flags(flags)
    }
    #[inline]
    fn load_desc_flags(&self, index: u16) -> u16 {
        (**self).load_desc_flags(index)
    }
    #[inline]
    fn load_used(&self, index: u16) -> PackedUsed {
        (**self).load_used(index)
    }
    #[inline]
    fn load_device_event_off_wrap(&self) -> u16 {
        (**self).load_device_event_off_wrap()
    }
    #[inline]
    fn load_device_event_flags(&self) -> u16 {
        (**self).load_device_event_flags()
    }
    #[inline]
    fn zero_device_event(&self) {
        (**self).zero_device_event()
    }
}

impl<M: IndirectTables + ?Sized> IndirectTables for &M {
    #[inline]
    fn capacity(&self) -> u16 {
        (**self).capacity()
    }
    #[inline]
    fn addr(&self, id: u16) -> u64 {
        (**self).addr(id)
    }
    #[inline]
    fn store_split(&self, id: u16, entry: u16, desc: SplitDesc) {
        (**self).store_split(id, entry, desc)
    }
    #[inline]
    fn store_packed(&self, id: u16, entry: u16, desc: PackedDesc) {
        (**self).store_packed(id, entry, desc)
    }
}

impl<M: RingMem + ?Sized> RingMem for &M {
    #[inline]
    fn shared(&self) -> &Shared {
        (**self).shared()
    }
}
