// SPDX-License-Identifier: GPL-2.0

//! The memory that a ring shares with its device, as the pure rings want it.
//!
//! Specification: 2.7 (split), 2.8 (packed).  The barriers are explained in
//! `Documentation/virtio/memory-ordering.rst`.

use core::ptr::NonNull;
use kernel::{
    macros::kunit_tests,
    sync::Arc, //
};
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
    shared: Arc<Shared>,
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
        shared: Arc<Shared>,
    ) -> Self {
        // INVARIANT: By the contract.
        Self {
            desc,
            driver,
            device,
            size,
            weak_barriers,
            shared,
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

    /// The words that are used without serialisation.
    pub(crate) fn shared_words(&self) -> Arc<Shared> {
        self.shared.clone()
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
        let rest = u64::from(desc.len) | u64::from(desc.flags) << 32 | u64::from(desc.next) << 48;
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

/// What is written lies where C's structures of the specification have it, and back.
#[kunit_tests(virtio_ring_memory)]
mod tests {
    use super::*;
    use kernel::prelude::*;
    use virtqueue::{
        layout::SplitLayout,
        QueueSize, //
    };

    const SIZE: u16 = 8;

    /// Room for a ring of `SIZE` descriptors, aligned as one.
    #[repr(C, align(4096))]
    struct Block([u8; 4096]);

    fn block() -> Result<KBox<Block>> {
        Ok(KBox::new(Block([0; 4096]), GFP_KERNEL)?)
    }

    fn split(block: &mut KBox<Block>) -> Result<(Memory, SplitLayout)> {
        let size = QueueSize::new(u32::from(SIZE)).ok_or(EINVAL)?;
        let layout = SplitLayout::new(size, 64).ok_or(EINVAL)?;
        let start = NonNull::from(&mut block.0).cast::<u8>();
        // SAFETY: The block is larger than `layout.total`.
        let starts = unsafe { [start, start.add(layout.avail), start.add(layout.used)] };
        // SAFETY: Zeroed; the block outlives its user.
        Ok((
            unsafe { Memory::new(starts, SIZE, true, Arc::new(Shared::new(), GFP_KERNEL)?) },
            layout,
        ))
    }

    #[test]
    fn split_descriptor_is_vring_desc() -> Result {
        let mut block = block()?;
        let (memory, _) = split(&mut block)?;
        let desc = SplitDesc {
            addr: 0x1122_3344_5566_7788,
            len: 0x99aa_bbcc,
            flags: 0xddee,
            next: 0xff01,
        };
        memory.store_desc(SIZE - 1, desc);
        // SAFETY: Inside the block; the table is an array of `struct vring_desc`.
        let c = unsafe {
            memory
                .start()
                .cast::<bindings::vring_desc>()
                .add(usize::from(SIZE) - 1)
                .read()
        };
        assert_eq!(u64::from_le(c.addr), desc.addr);
        assert_eq!(u32::from_le(c.len), desc.len);
        assert_eq!(u16::from_le(c.flags), desc.flags);
        assert_eq!(u16::from_le(c.next), desc.next);
        Ok(())
    }

    #[test]
    fn split_rings_are_where_the_layout_says() -> Result {
        let mut block = block()?;
        let (memory, layout) = split(&mut block)?;
        memory.store_avail_flags(0x0102);
        memory.store_avail_idx(0x0304);
        memory.store_avail_entry(SIZE - 1, 0x0506);
        memory.store_used_event(0x0708);
        let at = |block: &Block, offset: usize| {
            u16::from_le_bytes([block.0[offset], block.0[offset + 1]])
        };
        assert_eq!(at(&block, layout.avail), 0x0102);
        assert_eq!(at(&block, layout.avail + 2), 0x0304);
        assert_eq!(at(&block, layout.avail_entry(SIZE - 1)), 0x0506);
        assert_eq!(at(&block, layout.used_event), 0x0708);

        block.0[layout.used] = 1;
        block.0[layout.used + 2] = 2;
        block.0[layout.used_elem(SIZE - 1)] = 3;
        block.0[layout.used_elem(SIZE - 1) + 4] = 4;
        block.0[layout.avail_event] = 5;
        assert_eq!(memory.load_used_flags(), 1);
        assert_eq!(memory.load_used_idx(), 2);
        assert_eq!(memory.load_used_elem(SIZE - 1), SplitUsed { id: 3, len: 4 });
        assert_eq!(memory.load_avail_event(), 5);
        memory.zero_used_area();
        assert_eq!(memory.load_used_idx(), 0);
        Ok(())
    }

    #[test]
    fn packed_descriptor_is_vring_packed_desc() -> Result {
        let mut block = block()?;
        let start = NonNull::from(&mut block.0).cast::<u8>();
        // SAFETY: Inside the block: the ring has 128 bytes.
        let starts = unsafe { [start, start.add(256), start.add(512)] };
        // SAFETY: As above; zeroed.
        let memory =
            unsafe { Memory::new(starts, SIZE, true, Arc::new(Shared::new(), GFP_KERNEL)?) };
        memory.store_desc_body(3, 0x1122_3344_5566_7788, 0x99aa_bbcc, 0xddee);
        memory.store_desc_flags(3, 0x8080);
        // SAFETY: Inside the block; the ring is an array of `struct vring_packed_desc`.
        let c = unsafe { start.cast::<bindings::vring_packed_desc>().add(3).read() };
        assert_eq!(u64::from_le(c.addr), 0x1122_3344_5566_7788);
        assert_eq!(u32::from_le(c.len), 0x99aa_bbcc);
        assert_eq!(u16::from_le(c.id), 0xddee);
        assert_eq!(u16::from_le(c.flags), 0x8080);
        assert_eq!(memory.load_desc_flags(3), 0x8080);
        let used = memory.load_used(3);
        assert_eq!((used.id, used.len), (0xddee, 0x99aa_bbcc));

        memory.store_driver_event_off_wrap(0x0102);
        memory.store_driver_event_flags(2);
        assert_eq!(block.0[256..260], [2, 1, 2, 0]);
        block.0[512..516].copy_from_slice(&[4, 3, 1, 0]);
        assert_eq!(memory.load_device_event_off_wrap(), 0x0304);
        assert_eq!(memory.load_device_event_flags(), 1);
        Ok(())
    }
}
