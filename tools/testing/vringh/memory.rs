// SPDX-License-Identifier: GPL-2.0

//! A split ring in memory that another process, or `vringh.c` in this one, reads and writes too.

use core::cell::Cell;
use core::sync::atomic::{
    fence,
    AtomicU16,
    AtomicU32,
    AtomicU64,
    Ordering::{self, Relaxed}, //
};

use virtqueue::{
    layout::{SplitLayout, DESC_SIZE},
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

#[cfg(not(target_endian = "little"))]
compile_error!("a legacy ring has the byte order of the machine, a modern one is little-endian");

const NOT_PACKED: &str = "the ring is split";

/// The memory of one ring.
pub(crate) struct Memory {
    pages: *mut u8,
    layout: SplitLayout,
    shared: Shared,
    /// Longest indirect table in entries, 0 for none.
    capacity: u16,
    /// Where the chain that is being added may put its indirect table, and how many entries it holds.
    table: Cell<(*mut u8, usize)>,
}

impl Memory {
    /// # Safety
    ///
    /// `pages` is aligned to 16 bytes and valid for `layout` as long as the value lives.
    pub(crate) unsafe fn new(pages: *mut u8, layout: SplitLayout, capacity: u16) -> Self {
        assert!(pages.addr().is_multiple_of(DESC_SIZE));
        Self {
            pages,
            layout,
            shared: Shared::new(),
            capacity,
            table: Cell::new((core::ptr::null_mut(), 0)),
        }
    }

    /// Gives room for the indirect table of the chain that is added next.
    ///
    /// # Safety
    ///
    /// `table` is null, or aligned to 8 bytes and valid for `entries` descriptors until that chain
    /// has come back.
    pub(crate) unsafe fn set_table(&self, table: *mut u8, entries: usize) {
        self.table
            .set((table, if table.is_null() { 0 } else { entries }));
    }

    fn at<T>(&self, offset: usize) -> *mut T {
        assert!(offset + size_of::<T>() <= self.layout.total);
        let place: *mut T = self.pages.wrapping_add(offset).cast();
        assert!(place.is_aligned());
        place
    }

    fn word(&self, offset: usize) -> &AtomicU16 {
        // SAFETY: inside the ring, aligned, and everybody else's accesses are atomic: READ_ONCE and
        // WRITE_ONCE of vringh.c.
        unsafe { AtomicU16::from_ptr(self.at(offset)) }
    }

    fn double_word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: as in `word`.
        unsafe { AtomicU32::from_ptr(self.at(offset)) }
    }
}

/// Writes a descriptor.
///
/// # Safety
///
/// `at` is valid for a descriptor and aligned to 8 bytes.
unsafe fn put(at: *mut u8, desc: SplitDesc) {
    // SAFETY: `struct vring_desc` is 16 bytes: address, length, flags, next, each aligned to its size.
    let (addr, len, flags, next) = unsafe {
        (
            AtomicU64::from_ptr(at.cast()),
            AtomicU32::from_ptr(at.add(8).cast()),
            AtomicU16::from_ptr(at.add(12).cast()),
            AtomicU16::from_ptr(at.add(14).cast()),
        )
    };
    addr.store(desc.addr, Relaxed);
    len.store(desc.len, Relaxed);
    flags.store(desc.flags, Relaxed);
    next.store(desc.next, Relaxed);
}

impl Barriers for Memory {
    fn publish(&self) {
        fence(Ordering::Release);
    }
    fn acquire(&self) {
        fence(Ordering::Acquire);
    }
    fn full(&self) {
        fence(Ordering::SeqCst);
    }
}

impl SplitMem for Memory {
    fn store_desc(&self, index: u16, desc: SplitDesc) {
        let place: *mut [u64; 2] = self.at(self.layout.desc + DESC_SIZE * usize::from(index));
        // SAFETY: inside the ring and aligned, as `at` has checked.
        unsafe { put(place.cast(), desc) };
    }
    fn store_avail_entry(&self, slot: u16, head: u16) {
        self.word(self.layout.avail_entry(slot))
            .store(head, Relaxed);
    }
    fn store_avail_idx(&self, idx: u16) {
        self.word(self.layout.avail + 2).store(idx, Relaxed);
    }
    fn store_avail_flags(&self, flags: u16) {
        self.word(self.layout.avail).store(flags, Relaxed);
    }
    fn store_used_event(&self, idx: u16) {
        self.word(self.layout.used_event).store(idx, Relaxed);
    }
    fn load_used_idx(&self) -> u16 {
        self.word(self.layout.used + 2).load(Relaxed)
    }
    fn load_used_elem(&self, slot: u16) -> SplitUsed {
        let offset = self.layout.used_elem(slot);
        SplitUsed {
            id: self.double_word(offset).load(Relaxed),
            len: self.double_word(offset + 4).load(Relaxed),
        }
    }
    fn load_used_flags(&self) -> u16 {
        self.word(self.layout.used).load(Relaxed)
    }
    fn load_avail_event(&self) -> u16 {
        self.word(self.layout.avail_event).load(Relaxed)
    }
    fn zero_used_area(&self) {
        for offset in [
            self.layout.used,
            self.layout.used + 2,
            self.layout.avail_event,
        ] {
            self.word(offset).store(0, Relaxed);
        }
    }
}

impl IndirectTables for Memory {
    fn capacity(&self) -> u16 {
        self.capacity
    }
    fn addr(&self, _id: u16) -> u64 {
        self.table.get().0.addr() as u64
    }
    fn store_split(&self, _id: u16, entry: u16, desc: SplitDesc) {
        let (table, entries) = self.table.get();
        assert!(usize::from(entry) < entries);
        // SAFETY: `set_table` was promised so many entries.
        unsafe { put(table.add(DESC_SIZE * usize::from(entry)), desc) };
    }
    fn store_packed(&self, _id: u16, _entry: u16, _desc: PackedDesc) {
        unreachable!("{NOT_PACKED}");
    }
}

impl PackedMem for Memory {
    fn store_desc_body(&self, _index: u16, _addr: u64, _len: u32, _id: u16) {
        unreachable!("{NOT_PACKED}");
    }
    fn store_desc_flags(&self, _index: u16, _flags: u16) {
        unreachable!("{NOT_PACKED}");
    }
    fn store_driver_event_off_wrap(&self, _off_wrap: u16) {
        unreachable!("{NOT_PACKED}");
    }
    fn store_driver_event_flags(&self, _flags: u16) {
        unreachable!("{NOT_PACKED}");
    }
    fn load_desc_flags(&self, _index: u16) -> u16 {
        unreachable!("{NOT_PACKED}");
    }
    fn load_used(&self, _index: u16) -> PackedUsed {
        unreachable!("{NOT_PACKED}");
    }
    fn load_device_event_off_wrap(&self) -> u16 {
        unreachable!("{NOT_PACKED}");
    }
    fn load_device_event_flags(&self) -> u16 {
        unreachable!("{NOT_PACKED}");
    }
    fn zero_device_event(&self) {
        unreachable!("{NOT_PACKED}");
    }
}

impl RingMem for Memory {
    fn shared(&self) -> &Shared {
        &self.shared
    }
}
