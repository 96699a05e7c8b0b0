// SPDX-License-Identifier: GPL-2.0

//! Ring memory of a process, laid out as in `rust/virtio_ring/memory.rs`.

use std::sync::atomic::{fence, Ordering};
use virtqueue::{
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

const DESC: usize = 16;
const PAGE: usize = 4096;

/// One block for all areas, and the tables.
pub(crate) struct Memory {
    desc: *mut u8,
    driver: *mut u8,
    device: *mut u8,
    tables: *mut u8,
    size: u16,
    capacity: u16,
    shared: Shared,
}

/// A block of zeroes that is never freed.
fn block(pages: usize) -> *mut u8 {
    #[derive(Clone)]
    #[repr(align(4096))]
    struct Page(#[allow(dead_code, reason = "only its address is used")] [u8; PAGE]);
    Box::leak(vec![Page([0; PAGE]); pages].into_boxed_slice())
        .as_mut_ptr()
        .cast()
}

impl Memory {
    /// Areas for `size` descriptors, and a table of `capacity` entries for each.
    pub(crate) fn new(size: u16, capacity: u16) -> Self {
        let table_bytes = usize::from(size) * usize::from(capacity) * DESC;
        Self {
            desc: block((usize::from(size) * DESC).div_ceil(PAGE)),
            driver: block(1),
            device: block(1),
            tables: block(table_bytes.div_ceil(PAGE)),
            size,
            capacity,
            shared: Shared::new(),
        }
    }

    #[inline(always)]
    fn write<T: Copy>(area: *mut u8, offset: usize, value: T) {
        // SAFETY: The ring's indices are below the size, which the areas have room for.
        unsafe { area.add(offset).cast::<T>().write_volatile(value) };
    }

    #[inline(always)]
    fn read<T: Copy>(area: *mut u8, offset: usize) -> T {
        // SAFETY: As above.
        unsafe { area.add(offset).cast::<T>().read_volatile() }
    }

    #[inline(always)]
    fn table_entry(&self, id: u16, entry: u16) -> usize {
        (usize::from(id) * usize::from(self.capacity) + usize::from(entry)) * DESC
    }

    /// A device's part of a split ring: `count` chains from avail index `at` on are used.
    pub(crate) fn bench_use_split(&self, at: u16, count: u16) {
        for index in 0..count {
            let slot = usize::from(at.wrapping_add(index) % self.size);
            let id: u16 = Self::read(self.driver, 4 + 2 * slot);
            Self::write(self.device, 4 + 8 * slot, u32::from(id));
            Self::write(self.device, 8 + 8 * slot, 1u32);
        }
        Self::write(self.device, 2, at.wrapping_add(count));
    }

    /// A device's part of a packed ring: the chain of `length` descriptors at `at` is used.
    pub(crate) fn bench_use_packed(&self, at: u16, length: u16, wrap: bool) {
        let last = usize::from((at + length - 1) % self.size) * DESC;
        let head = usize::from(at) * DESC;
        let id: u16 = Self::read(self.desc, last + 12);
        Self::write(self.desc, head + 12, id);
        Self::write(self.desc, head + 8, 1u32);
        Self::write(self.desc, head + 14, if wrap { 0x8080u16 } else { 0 });
    }
}

impl Barriers for Memory {
    #[inline(always)]
    fn publish(&self) {
        fence(Ordering::Release);
    }
    #[inline(always)]
    fn acquire(&self) {
        fence(Ordering::Acquire);
    }
    #[inline(always)]
    fn full(&self) {
        fence(Ordering::SeqCst);
    }
}

impl SplitMem for Memory {
    #[inline(always)]
    fn store_desc(&self, index: u16, desc: SplitDesc) {
        let at = usize::from(index) * DESC;
        let rest = u64::from(desc.len) | u64::from(desc.flags) << 32 | u64::from(desc.next) << 48;
        Self::write(self.desc, at, desc.addr);
        Self::write(self.desc, at + 8, rest);
    }
    #[inline(always)]
    fn store_avail_entry(&self, slot: u16, head: u16) {
        Self::write(self.driver, 4 + 2 * usize::from(slot), head);
    }
    #[inline(always)]
    fn store_avail_idx(&self, idx: u16) {
        Self::write(self.driver, 2, idx);
    }
    #[inline(always)]
    fn store_avail_flags(&self, flags: u16) {
        Self::write(self.driver, 0, flags);
    }
    #[inline(always)]
    fn store_used_event(&self, idx: u16) {
        Self::write(self.driver, 4 + 2 * usize::from(self.size), idx);
    }
    #[inline(always)]
    fn load_used_idx(&self) -> u16 {
        Self::read(self.device, 2)
    }
    #[inline(always)]
    fn load_used_elem(&self, slot: u16) -> SplitUsed {
        let at = 4 + 8 * usize::from(slot);
        SplitUsed {
            id: Self::read(self.device, at),
            len: Self::read(self.device, at + 4),
        }
    }
    #[inline(always)]
    fn load_used_flags(&self) -> u16 {
        Self::read(self.device, 0)
    }
    #[inline(always)]
    fn load_avail_event(&self) -> u16 {
        Self::read(self.device, 4 + 8 * usize::from(self.size))
    }
    fn zero_used_area(&self) {
        Self::write(self.device, 0, 0u32);
        Self::write(self.device, 4 + 8 * usize::from(self.size), 0u16);
    }
}

impl PackedMem for Memory {
    #[inline(always)]
    fn store_desc_body(&self, index: u16, addr: u64, len: u32, id: u16) {
        let at = usize::from(index) * DESC;
        Self::write(self.desc, at, addr);
        Self::write(self.desc, at + 8, len);
        Self::write(self.desc, at + 12, id);
    }
    #[inline(always)]
    fn store_desc_flags(&self, index: u16, flags: u16) {
        Self::write(self.desc, usize::from(index) * DESC + 14, flags);
    }
    #[inline(always)]
    fn store_driver_event_off_wrap(&self, off_wrap: u16) {
        Self::write(self.driver, 0, off_wrap);
    }
    #[inline(always)]
    fn store_driver_event_flags(&self, flags: u16) {
        Self::write(self.driver, 2, flags);
    }
    #[inline(always)]
    fn load_desc_flags(&self, index: u16) -> u16 {
        Self::read(self.desc, usize::from(index) * DESC + 14)
    }
    #[inline(always)]
    fn load_used(&self, index: u16) -> PackedUsed {
        let at = usize::from(index) * DESC;
        PackedUsed {
            id: Self::read(self.desc, at + 12),
            len: Self::read(self.desc, at + 8),
        }
    }
    #[inline(always)]
    fn load_device_event_off_wrap(&self) -> u16 {
        Self::read(self.device, 0)
    }
    #[inline(always)]
    fn load_device_event_flags(&self) -> u16 {
        Self::read(self.device, 2)
    }
    fn zero_device_event(&self) {
        Self::write(self.device, 0, 0u32);
    }
}

impl IndirectTables for Memory {
    #[inline(always)]
    fn capacity(&self) -> u16 {
        self.capacity
    }
    #[inline(always)]
    fn addr(&self, id: u16) -> u64 {
        self.tables as u64 + self.table_entry(id, 0) as u64
    }
    #[inline(always)]
    fn store_split(&self, id: u16, entry: u16, desc: SplitDesc) {
        let at = self.table_entry(id, entry);
        let rest = u64::from(desc.len) | u64::from(desc.flags) << 32 | u64::from(desc.next) << 48;
        Self::write(self.tables, at, desc.addr);
        Self::write(self.tables, at + 8, rest);
    }
    #[inline(always)]
    fn store_packed(&self, id: u16, entry: u16, desc: PackedDesc) {
        let at = self.table_entry(id, entry);
        let rest = u64::from(desc.len) | u64::from(desc.id) << 32 | u64::from(desc.flags) << 48;
        Self::write(self.tables, at, desc.addr);
        Self::write(self.tables, at + 8, rest);
    }
}

impl RingMem for Memory {
    #[inline(always)]
    fn shared(&self) -> &Shared {
        &self.shared
    }
}
