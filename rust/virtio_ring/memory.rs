// SPDX-License-Identifier: GPL-2.0

//! The memory that a ring shares with its device, as the pure rings want it.
//!
//! Specification: 2.7 (split), 2.8 (packed).  The barriers are explained in
//! `Documentation/virtio/memory-ordering.rst`.

use core::ptr::NonNull;
use virtio_bindings as bindings;
use virtqueue::{
    layout::PackedLayout,
    Barriers,
    IndirectTables,
    PackedDesc,
    PackedMem,
    PackedUsed,
    RingMem,
    Shared,
    SplitDesc,
    SplitMem,
    SplitUsed, //
};

/// Offsets in the available and used rings: flags, index, entries.
const RING_FLAGS: usize = 0;
const RING_IDX: usize = 2;
const RING_ENTRIES: usize = 4;

/// Offsets in a packed descriptor.
const PACKED_LEN: usize = 8;
const PACKED_ID: usize = 12;
const PACKED_FLAGS: usize = 14;

/// The areas of one ring.
///
/// # Invariants
///
/// The areas are as large as `virtqueue::layout` says for `size` descriptors, mapped for as long
/// as this exists, aligned as the specification asks, and touched through this alone: by single
/// volatile accesses, never by reference, since the device writes to them at any time.
pub struct Memory {
    /// Descriptor table or descriptor ring.
    desc: NonNull<u8>,
    /// Available ring or driver event area.
    driver: NonNull<u8>,
    /// Used ring or device event area.
    device: NonNull<u8>,
    size: u16,
    weak_barriers: bool,
    shared: Shared,
}

// SAFETY: Plain memory; `Shared` is made for concurrent use.
unsafe impl Send for Memory {}
// SAFETY: As above: every access is a single volatile one.
unsafe impl Sync for Memory {}

impl Memory {
    /// Takes the three areas.
    ///
    /// # Safety
    ///
    /// They are as the type invariants say.
    pub(crate) unsafe fn new(
        [desc, driver, device]: [NonNull<u8>; 3],
        size: u16,
        weak_barriers: bool,
    ) -> Self {
        // INVARIANT: By the contract.
        Self {
            desc,
            driver,
            device,
            size,
            weak_barriers,
            shared: Shared::new(),
        }
    }

    /// Start of the descriptor area.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.desc
    }

    /// The number of descriptors.
    #[inline]
    pub(crate) fn size(&self) -> u16 {
        self.size
    }

    /// Lets the queue be used again (C: `__virtqueue_unbreak`).
    pub(crate) fn unbreak(&self) {
        self.shared.unbreak();
    }

    /// Writes the little-endian `value` at byte `offset` of `area`.
    ///
    /// # Safety
    ///
    /// `offset` is in bounds and aligned for `T`.
    #[inline(always)]
    unsafe fn write<T: Copy>(area: NonNull<u8>, offset: usize, value: T) {
        // SAFETY: By the contract and the type invariants.
        unsafe { area.add(offset).cast::<T>().write_volatile(value) };
    }

    /// Reads the little-endian value at byte `offset` of `area`, once.
    ///
    /// # Safety
    ///
    /// `offset` is in bounds and aligned for `T`.
    #[inline(always)]
    unsafe fn read<T: Copy>(area: NonNull<u8>, offset: usize) -> T {
        // SAFETY: By the contract and the type invariants.
        unsafe { area.add(offset).cast::<T>().read_volatile() }
    }

    /// Byte offset of a descriptor; `RingMem` promises indices below the size.
    #[inline(always)]
    fn desc_offset(&self, index: u16) -> usize {
        debug_assert!(index < self.size);
        usize::from(index) * 16
    }

    /// Byte offset of an element of the available or used ring.
    #[inline(always)]
    fn entry_offset(&self, slot: u16, element: usize) -> usize {
        debug_assert!(slot < self.size);
        RING_ENTRIES + usize::from(slot) * element
    }

    /// Byte offset of `used_event` or `avail_event`, behind the entries.
    #[inline(always)]
    fn event_offset(&self, element: usize) -> usize {
        RING_ENTRIES + usize::from(self.size) * element
    }
}

impl Barriers for Memory {
    #[inline(always)]
    fn publish(&self) {
        // SAFETY: A barrier can be executed anywhere.
        unsafe { bindings::virtio_wmb(self.weak_barriers) };
    }

    #[inline(always)]
    fn acquire(&self) {
        // SAFETY: As above.
        unsafe { bindings::virtio_rmb(self.weak_barriers) };
    }

    #[inline(always)]
    fn full(&self) {
        // SAFETY: As above.
        unsafe { bindings::virtio_mb(self.weak_barriers) };
    }
}

impl SplitMem for Memory {
    #[inline(always)]
    fn store_desc(&self, index: u16, desc: SplitDesc) {
        let at = self.desc_offset(index);
        let rest = u64::from(desc.len)
            | u64::from(desc.flags) << 32
            | u64::from(desc.next) << 48;
        // SAFETY: `index` is below the size; descriptors are 16 bytes, aligned to 16.
        unsafe {
            Self::write(self.desc, at, desc.addr.to_le());
            Self::write(self.desc, at + 8, rest.to_le());
        }
    }

    #[inline(always)]
    fn store_avail_entry(&self, slot: u16, head: u16) {
        // SAFETY: `slot` is below the size.
        unsafe { Self::write(self.driver, self.entry_offset(slot, 2), head.to_le()) };
    }

    #[inline(always)]
    fn store_avail_idx(&self, idx: u16) {
        // SAFETY: A field of the area.
        unsafe { Self::write(self.driver, RING_IDX, idx.to_le()) };
    }

    #[inline(always)]
    fn store_avail_flags(&self, flags: u16) {
        // SAFETY: A field of the area.
        unsafe { Self::write(self.driver, RING_FLAGS, flags.to_le()) };
    }

    #[inline(always)]
    fn store_used_event(&self, idx: u16) {
        // SAFETY: A field of the area, behind the entries.
        unsafe { Self::write(self.driver, self.event_offset(2), idx.to_le()) };
    }

    #[inline(always)]
    fn load_used_idx(&self) -> u16 {
        // SAFETY: A field of the area.
        u16::from_le(unsafe { Self::read(self.device, RING_IDX) })
    }

    #[inline(always)]
    fn load_used_elem(&self, slot: u16) -> SplitUsed {
        let at = self.entry_offset(slot, 8);
        // SAFETY: `slot` is below the size; elements are two words, aligned to 4.
        unsafe {
            SplitUsed {
                id: u32::from_le(Self::read(self.device, at)),
                len: u32::from_le(Self::read(self.device, at + 4)),
            }
        }
    }

    #[inline(always)]
    fn load_used_flags(&self) -> u16 {
        // SAFETY: A field of the area.
        u16::from_le(unsafe { Self::read(self.device, RING_FLAGS) })
    }

    #[inline(always)]
    fn load_avail_event(&self) -> u16 {
        // SAFETY: A field of the area, behind the entries.
        u16::from_le(unsafe { Self::read(self.device, self.event_offset(8)) })
    }

    fn zero_used_area(&self) {
        // SAFETY: Fields of the area.
        unsafe {
            Self::write(self.device, RING_FLAGS, 0u16);
            Self::write(self.device, RING_IDX, 0u16);
            Self::write(self.device, self.event_offset(8), 0u16);
        }
    }
}

impl PackedMem for Memory {
    #[inline(always)]
    fn store_desc_body(&self, index: u16, addr: u64, len: u32, id: u16) {
        let at = self.desc_offset(index);
        // SAFETY: `index` is below the size.
        unsafe {
            Self::write(self.desc, at, addr.to_le());
            Self::write(self.desc, at + PACKED_LEN, len.to_le());
            Self::write(self.desc, at + PACKED_ID, id.to_le());
        }
    }

    #[inline(always)]
    fn store_desc_flags(&self, index: u16, flags: u16) {
        let at = self.desc_offset(index) + PACKED_FLAGS;
        // SAFETY: `index` is below the size.
        unsafe { Self::write(self.desc, at, flags.to_le()) };
    }

    #[inline(always)]
    fn store_driver_event_off_wrap(&self, off_wrap: u16) {
        // SAFETY: A field of the area.
        unsafe { Self::write(self.driver, PackedLayout::EVENT_OFF_WRAP, off_wrap.to_le()) };
    }

    #[inline(always)]
    fn store_driver_event_flags(&self, flags: u16) {
        // SAFETY: A field of the area.
        unsafe { Self::write(self.driver, PackedLayout::EVENT_FLAGS, flags.to_le()) };
    }

    #[inline(always)]
    fn load_desc_flags(&self, index: u16) -> u16 {
        let at = self.desc_offset(index) + PACKED_FLAGS;
        // SAFETY: `index` is below the size.
        u16::from_le(unsafe { Self::read(self.desc, at) })
    }

    #[inline(always)]
    fn load_used(&self, index: u16) -> PackedUsed {
        let at = self.desc_offset(index);
        // SAFETY: `index` is below the size.
        unsafe {
            PackedUsed {
                id: u16::from_le(Self::read(self.desc, at + PACKED_ID)),
                len: u32::from_le(Self::read(self.desc, at + PACKED_LEN)),
            }
        }
    }

    #[inline(always)]
    fn load_device_event_off_wrap(&self) -> u16 {
        // SAFETY: A field of the area.
        u16::from_le(unsafe { Self::read(self.device, PackedLayout::EVENT_OFF_WRAP) })
    }

    #[inline(always)]
    fn load_device_event_flags(&self) -> u16 {
        // SAFETY: A field of the area.
        u16::from_le(unsafe { Self::read(self.device, PackedLayout::EVENT_FLAGS) })
    }

    fn zero_device_event(&self) {
        // SAFETY: Fields of the area.
        unsafe {
            Self::write(self.device, PackedLayout::EVENT_OFF_WRAP, 0u16);
            Self::write(self.device, PackedLayout::EVENT_FLAGS, 0u16);
        }
    }
}

/// No tables of the ring's own: drivers that want them have one per request, and C callers get
/// one per buffer (`add`).
impl IndirectTables for Memory {
    #[inline(always)]
    fn capacity(&self) -> u16 {
        0
    }

    fn addr(&self, _id: u16) -> u64 {
        0
    }

    fn store_split(&self, _id: u16, _entry: u16, _desc: SplitDesc) {}

    fn store_packed(&self, _id: u16, _entry: u16, _desc: PackedDesc) {}
}

impl RingMem for Memory {
    #[inline(always)]
    fn shared(&self) -> &Shared {
        &self.shared
    }
}
