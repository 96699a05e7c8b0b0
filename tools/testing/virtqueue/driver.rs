// SPDX-License-Identifier: GPL-2.0

//! The driver's side of the shared memory, with a log of what the ring did and faults to order.

use crate::guest::Guest;
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};
use virtqueue::{
    layout::{PackedLayout, SplitLayout, DESC_ALIGN},
    Barriers, IndirectTables, Layout, PackedDesc, PackedMem, PackedUsed, QueueSize, RingMem,
    Shared, SplitDesc, SplitMem, SplitUsed,
};

/// One access or barrier, as far as tests ask for the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Write barrier.
    Publish,
    /// Read barrier.
    Acquire,
    /// Full barrier.
    Full,
    /// Descriptor, or the body of a packed one.
    Desc(u16),
    /// Flags of a packed descriptor.
    Flags(u16),
    /// Available entry.
    AvailEntry,
    /// `avail.idx`.
    AvailIdx(u16),
    /// `used_event`, or the packed driver event offset.
    Event(u16),
    /// `avail.flags`, or the packed driver event flags.
    EventFlags(u16),
    /// Look at `used.idx`.
    LoadUsedIdx,
    /// Look at a used element, or at id and length of a packed descriptor.
    LoadUsed,
    /// Look at what the device wants to be told.
    LoadWish,
}

/// A bug put into the driver's memory accesses, to show that the device and the tests notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// None.
    #[default]
    None,
    /// The event word is never written.
    LostEvent,
    /// Available entries are not written.
    LostAvailEntry,
    /// The NEXT flag is left out.
    LostNext,
    /// The index or the head flags are published without being asked: every chain at once.
    LostPublication,
    /// The device's wish to be notified is read as "no".
    LostWish,
    /// The device area looks as if the last but one element were still there.
    StaleUsed,
}

/// Addresses of the three areas.
#[derive(Clone, Copy, Debug)]
pub struct Areas {
    /// Descriptor table or ring.
    pub desc: u64,
    /// Available ring or driver event area.
    pub driver: u64,
    /// Used ring or device event area.
    pub device: u64,
}

/// See [`Mem`].
pub struct Inner {
    guest: Rc<Guest>,
    areas: Areas,
    size: u16,
    tables: u64,
    capacity: u16,
    shared: Shared,
    log: RefCell<Vec<Op>>,
    /// The bug to show.
    pub fault: Cell<Fault>,
}

/// Driver's handle on a ring in guest memory.
#[derive(Clone)]
pub struct Mem(Rc<Inner>);

impl std::ops::Deref for Mem {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Mem {
    /// Allocates a ring and, for `capacity` above 0, a table of that many entries for each slot.
    pub fn new(guest: &Rc<Guest>, layout: Layout, size: QueueSize, capacity: u16) -> Self {
        let areas = if layout.is_packed() {
            let sizes = PackedLayout::new(size);
            Areas {
                desc: guest.alloc(sizes.desc_size, DESC_ALIGN as u64),
                driver: guest.alloc(sizes.driver_event_size, 4),
                device: guest.alloc(sizes.device_event_size, 4),
            }
        } else {
            let parts = SplitLayout::new(size, 4096).unwrap();
            let at = guest.alloc(parts.total, 4096);
            Areas {
                desc: at + parts.desc as u64,
                driver: at + parts.avail as u64,
                device: at + parts.used as u64,
            }
        };
        let bytes = usize::from(capacity) * usize::from(size.get()) * 16;
        Self(Rc::new(Inner {
            tables: guest.alloc(bytes, 16),
            guest: guest.clone(),
            areas,
            size: size.get(),
            capacity,
            shared: Shared::new(),
            log: RefCell::new(Vec::new()),
            fault: Cell::new(Fault::None),
        }))
    }
}

impl Inner {
    /// Where the areas are.
    pub fn areas(&self) -> Areas {
        self.areas
    }

    /// The memory the ring is in.
    pub fn guest(&self) -> &Rc<Guest> {
        &self.guest
    }

    /// Gives the log and starts a new one.
    pub fn take_log(&self) -> Vec<Op> {
        self.log.take()
    }

    fn note(&self, op: Op) {
        self.log.borrow_mut().push(op);
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault.get() == fault
    }

    fn desc_at(&self, index: u16) -> u64 {
        assert!(index < self.size, "descriptor index {index} out of range");
        self.areas.desc + 16 * u64::from(index)
    }

    fn table_at(&self, id: u16, entry: u16) -> u64 {
        assert!(id < self.size && entry < self.capacity);
        self.tables + 16 * (u64::from(id) * u64::from(self.capacity) + u64::from(entry))
    }

    fn put_split(&self, at: u64, desc: SplitDesc) {
        let flags = if self.has(Fault::LostNext) {
            desc.flags & !1
        } else {
            desc.flags
        };
        self.guest.set_u64(at, desc.addr);
        self.guest.set_u32(at + 8, desc.len);
        self.guest.set_u16(at + 12, flags);
        self.guest.set_u16(at + 14, desc.next);
    }
}

impl Barriers for Mem {
    fn publish(&self) {
        self.note(Op::Publish);
    }
    fn acquire(&self) {
        self.note(Op::Acquire);
    }
    fn full(&self) {
        self.note(Op::Full);
    }
}

impl SplitMem for Mem {
    fn store_desc(&self, index: u16, desc: SplitDesc) {
        self.note(Op::Desc(index));
        self.put_split(self.desc_at(index), desc);
    }
    fn store_avail_entry(&self, slot: u16, head: u16) {
        assert!(slot < self.size);
        self.note(Op::AvailEntry);
        if !self.has(Fault::LostAvailEntry) {
            self.guest
                .set_u16(self.areas.driver + 4 + 2 * u64::from(slot), head);
        }
    }
    fn store_avail_idx(&self, idx: u16) {
        self.note(Op::AvailIdx(idx));
        if !self.has(Fault::LostPublication) {
            self.guest.set_u16(self.areas.driver + 2, idx);
        }
    }
    fn store_avail_flags(&self, flags: u16) {
        self.note(Op::EventFlags(flags));
        if !self.has(Fault::LostEvent) {
            self.guest.set_u16(self.areas.driver, flags);
        }
    }
    fn store_used_event(&self, idx: u16) {
        self.note(Op::Event(idx));
        if !self.has(Fault::LostEvent) {
            self.guest
                .set_u16(self.areas.driver + 4 + 2 * u64::from(self.size), idx);
        }
    }
    fn load_used_idx(&self) -> u16 {
        self.note(Op::LoadUsedIdx);
        self.guest.u16(self.areas.device + 2)
    }
    fn load_used_elem(&self, slot: u16) -> SplitUsed {
        assert!(slot < self.size);
        self.note(Op::LoadUsed);
        let slot = if self.has(Fault::StaleUsed) {
            slot.wrapping_sub(1) & (self.size - 1)
        } else {
            slot
        };
        let at = self.areas.device + 4 + 8 * u64::from(slot);
        SplitUsed {
            id: self.guest.u32(at),
            len: self.guest.u32(at + 4),
        }
    }
    fn load_used_flags(&self) -> u16 {
        self.note(Op::LoadWish);
        if self.has(Fault::LostWish) {
            return 1;
        }
        self.guest.u16(self.areas.device)
    }
    fn load_avail_event(&self) -> u16 {
        self.note(Op::LoadWish);
        let at = self.areas.device + 4 + 8 * u64::from(self.size);
        if self.has(Fault::LostWish) {
            return self.guest.u16(self.areas.driver + 2).wrapping_add(1);
        }
        self.guest.u16(at)
    }
    fn zero_used_area(&self) {
        self.guest.set_u32(self.areas.device, 0);
        self.guest
            .set_u16(self.areas.device + 4 + 8 * u64::from(self.size), 0);
    }
}

impl PackedMem for Mem {
    fn store_desc_body(&self, index: u16, addr: u64, len: u32, id: u16) {
        self.note(Op::Desc(index));
        let at = self.desc_at(index);
        self.guest.set_u64(at, addr);
        self.guest.set_u32(at + 8, len);
        self.guest.set_u16(at + 12, id);
    }
    fn store_desc_flags(&self, index: u16, flags: u16) {
        self.note(Op::Flags(index));
        let flags = if self.has(Fault::LostNext) {
            flags & !1
        } else {
            flags
        };
        if !self.has(Fault::LostPublication) {
            self.guest.set_u16(self.desc_at(index) + 14, flags);
        }
    }
    fn store_driver_event_off_wrap(&self, off_wrap: u16) {
        self.note(Op::Event(off_wrap));
        if !self.has(Fault::LostEvent) {
            self.guest.set_u16(self.areas.driver, off_wrap);
        }
    }
    fn store_driver_event_flags(&self, flags: u16) {
        self.note(Op::EventFlags(flags));
        if !self.has(Fault::LostEvent) || flags == 1 {
            self.guest.set_u16(self.areas.driver + 2, flags);
        }
    }
    fn load_desc_flags(&self, index: u16) -> u16 {
        self.note(Op::LoadUsedIdx);
        self.guest.u16(self.desc_at(index) + 14)
    }
    fn load_used(&self, index: u16) -> PackedUsed {
        self.note(Op::LoadUsed);
        let index = if self.has(Fault::StaleUsed) {
            (index + self.size - 1) % self.size
        } else {
            index
        };
        let at = self.desc_at(index);
        PackedUsed {
            id: self.guest.u16(at + 12),
            len: self.guest.u32(at + 8),
        }
    }
    fn load_device_event_off_wrap(&self) -> u16 {
        self.note(Op::LoadWish);
        self.guest.u16(self.areas.device)
    }
    fn load_device_event_flags(&self) -> u16 {
        self.note(Op::LoadWish);
        if self.has(Fault::LostWish) {
            return 1;
        }
        self.guest.u16(self.areas.device + 2)
    }
    fn zero_device_event(&self) {
        self.guest.set_u32(self.areas.device, 0);
    }
}

impl IndirectTables for Mem {
    fn capacity(&self) -> u16 {
        self.capacity
    }
    fn addr(&self, id: u16) -> u64 {
        self.table_at(id, 0)
    }
    fn store_split(&self, id: u16, entry: u16, desc: SplitDesc) {
        self.put_split(self.table_at(id, entry), desc);
    }
    fn store_packed(&self, id: u16, entry: u16, desc: PackedDesc) {
        let at = self.table_at(id, entry);
        self.guest.set_u64(at, desc.addr);
        self.guest.set_u32(at + 8, desc.len);
        self.guest.set_u16(at + 12, desc.id);
        self.guest.set_u16(at + 14, desc.flags);
    }
}

impl RingMem for Mem {
    fn shared(&self) -> &Shared {
        &self.0.shared
    }
}
