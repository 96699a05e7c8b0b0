// SPDX-License-Identifier: GPL-2.0

//! The device's side of a ring, split or packed (specification 2.7, 2.8), and the writes that no honest device does.

use crate::scenario::Rewrite;
use std::{
    io,
    sync::atomic::{
        fence,
        Ordering, //
    },
};
use virtio_bindings::bindings::virtio_ring::{
    VRING_DESC_F_INDIRECT,
    VRING_DESC_F_NEXT,
    VRING_DESC_F_WRITE,
    VRING_PACKED_DESC_F_AVAIL,
    VRING_PACKED_DESC_F_USED, //
};
use vm_memory::{
    Bytes,
    GuestAddress,
    GuestMemoryMmap, //
};

const NEXT: u16 = VRING_DESC_F_NEXT as u16;
const WRITE: u16 = VRING_DESC_F_WRITE as u16;
const INDIRECT: u16 = VRING_DESC_F_INDIRECT as u16;
const AVAIL: u16 = 1 << VRING_PACKED_DESC_F_AVAIL;
const USED: u16 = 1 << VRING_PACKED_DESC_F_USED;
const DESCRIPTOR: u64 = 16;
/// Longest chain that is followed; the guest may be as broken as the device.
const MAX_CHAIN: usize = 1024;

/// One piece of a buffer.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    pub addr: u64,
    pub len: u32,
    pub writable: bool,
}

/// A buffer that the driver made available.
#[derive(Clone, Debug)]
pub struct Chain {
    pub id: u16,
    /// Slots of the descriptor ring or table that it takes, first one first.
    pub slots: Vec<u16>,
    pub segments: Vec<Segment>,
}

/// Where a queue is, and how it works.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub desc: u64,
    pub driver: u64,
    pub device: u64,
    pub size: u16,
    pub packed: bool,
    pub event_idx: bool,
}

/// The state that the device keeps of a queue.
pub struct Ring {
    layout: Layout,
    next_avail: u16,
    avail_wrap: bool,
    used: u16,
    used_wrap: bool,
}

fn error(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}

fn get<T: vm_memory::ByteValued>(memory: &GuestMemoryMmap, at: u64) -> io::Result<T> {
    memory.read_obj(GuestAddress(at)).map_err(error)
}

fn put<T: vm_memory::ByteValued>(memory: &GuestMemoryMmap, at: u64, value: T) -> io::Result<()> {
    memory.write_obj(value, GuestAddress(at)).map_err(error)
}

fn load(memory: &GuestMemoryMmap, at: u64) -> io::Result<u16> {
    memory
        .load(GuestAddress(at), Ordering::Acquire)
        .map_err(error)
}

fn store(memory: &GuestMemoryMmap, at: u64, value: u16) -> io::Result<()> {
    memory
        .store(value, GuestAddress(at), Ordering::Release)
        .map_err(error)
}

impl Ring {
    /// A ring that continues at `base`, as the frontend gives it.
    ///
    /// # Errors
    ///
    /// Addresses outside of the guest's memory.
    pub fn new(layout: Layout, base: u16, memory: &GuestMemoryMmap) -> io::Result<Self> {
        let mut ring = Self {
            layout,
            next_avail: base,
            avail_wrap: true,
            used: base,
            used_wrap: true,
        };
        if layout.packed {
            ring.next_avail = base & 0x7fff;
            ring.avail_wrap = base >> 15 != 0;
            ring.used = ring.next_avail;
            ring.used_wrap = ring.avail_wrap;
        } else {
            ring.used = load(memory, layout.device + 2)?;
        }
        Ok(ring)
    }

    /// What the frontend is told when it asks where the queue stopped.
    pub fn base(&self) -> u16 {
        if self.layout.packed {
            self.next_avail | u16::from(self.avail_wrap) << 15
        } else {
            self.next_avail
        }
    }

    /// Entries of the queue.
    pub fn size(&self) -> u16 {
        self.layout.size
    }

    fn slot(&self, index: u16) -> u64 {
        self.layout.desc + DESCRIPTOR * u64::from(index)
    }

    /// The next buffer of the driver, if there is one.
    ///
    /// # Errors
    ///
    /// Addresses outside of the guest's memory, or a chain without end.
    pub fn pop(&mut self, memory: &GuestMemoryMmap) -> io::Result<Option<Chain>> {
        if self.layout.packed {
            self.pop_packed(memory)
        } else {
            self.pop_split(memory)
        }
    }

    fn pop_split(&mut self, memory: &GuestMemoryMmap) -> io::Result<Option<Chain>> {
        let layout = self.layout;
        if load(memory, layout.driver + 2)? == self.next_avail {
            if !layout.event_idx {
                return Ok(None);
            }
            // The next kick is asked for; what was added before that is looked for again.
            let event = layout.device + 4 + 8 * u64::from(layout.size);
            store(memory, event, self.next_avail)?;
            fence(Ordering::SeqCst);
            if load(memory, layout.driver + 2)? == self.next_avail {
                return Ok(None);
            }
        }
        let entry = u64::from(self.next_avail % layout.size);
        let head: u16 = get(memory, layout.driver + 4 + 2 * entry)?;
        self.next_avail = self.next_avail.wrapping_add(1);
        let mut chain = Chain {
            id: head,
            slots: Vec::new(),
            segments: Vec::new(),
        };
        let mut index = head;
        while chain.slots.len() < MAX_CHAIN {
            chain.slots.push(index);
            let at = self.slot(index);
            let flags: u16 = get(memory, at + 12)?;
            self.segment(memory, at, flags, &mut chain)?;
            if flags & NEXT == 0 {
                return Ok(Some(chain));
            }
            index = get(memory, at + 14)?;
        }
        Err(io::Error::other("a chain without end"))
    }

    fn pop_packed(&mut self, memory: &GuestMemoryMmap) -> io::Result<Option<Chain>> {
        let flags = load(memory, self.slot(self.next_avail) + 14)?;
        if (flags & AVAIL != 0) != self.avail_wrap || (flags & USED != 0) == self.avail_wrap {
            return Ok(None);
        }
        let mut chain = Chain {
            id: 0,
            slots: Vec::new(),
            segments: Vec::new(),
        };
        while chain.slots.len() < MAX_CHAIN {
            let at = self.slot(self.next_avail);
            chain.slots.push(self.next_avail);
            chain.id = get(memory, at + 12)?;
            let flags: u16 = get(memory, at + 14)?;
            self.segment(memory, at, flags, &mut chain)?;
            self.next_avail += 1;
            if self.next_avail == self.layout.size {
                self.next_avail = 0;
                self.avail_wrap = !self.avail_wrap;
            }
            if flags & NEXT == 0 {
                return Ok(Some(chain));
            }
        }
        Err(io::Error::other("a chain without end"))
    }

    /// Adds what the descriptor at `at` names to `chain`: a segment, or those of an indirect table.
    fn segment(
        &self,
        memory: &GuestMemoryMmap,
        at: u64,
        flags: u16,
        chain: &mut Chain,
    ) -> io::Result<()> {
        let addr: u64 = get(memory, at)?;
        let len: u32 = get(memory, at + 8)?;
        if flags & INDIRECT == 0 {
            chain.segments.push(Segment {
                addr,
                len,
                writable: flags & WRITE != 0,
            });
            return Ok(());
        }
        let mut index = 0;
        for _ in 0..(u64::from(len) / DESCRIPTOR).min(MAX_CHAIN as u64) {
            let entry = addr + DESCRIPTOR * index;
            let flags: u16 = get(memory, entry + if self.layout.packed { 14 } else { 12 })?;
            chain.segments.push(Segment {
                addr: get(memory, entry)?,
                len: get(memory, entry + 8)?,
                writable: flags & WRITE != 0,
            });
            if self.layout.packed {
                index += 1;
            } else if flags & NEXT == 0 {
                break;
            } else {
                index = u64::from(get::<u16>(memory, entry + 14)?);
            }
        }
        Ok(())
    }

    /// Writes a used entry; `slots` is how many descriptors it stands for (packed).
    ///
    /// # Errors
    ///
    /// Addresses outside of the guest's memory.
    pub fn push(
        &mut self,
        memory: &GuestMemoryMmap,
        id: u32,
        len: u32,
        slots: u16,
    ) -> io::Result<()> {
        if self.layout.packed {
            let at = self.slot(self.used);
            put(memory, at + 8, len)?;
            put(memory, at + 12, id as u16)?;
            let wrap = if self.used_wrap { AVAIL | USED } else { 0 };
            store(memory, at + 14, wrap | if len == 0 { 0 } else { WRITE })?;
            self.used += slots;
            if self.used >= self.layout.size {
                self.used -= self.layout.size;
                self.used_wrap = !self.used_wrap;
            }
            return Ok(());
        }
        let at = self.layout.device + 4 + 8 * u64::from(self.used % self.layout.size);
        put(memory, at, id)?;
        put(memory, at + 4, len)?;
        self.move_used(memory, 1)
    }

    /// Moves `used.idx` by `by` (split).
    ///
    /// # Errors
    ///
    /// An address outside of the guest's memory.
    pub fn move_used(&mut self, memory: &GuestMemoryMmap, by: i32) -> io::Result<()> {
        self.used = self.used.wrapping_add(by as u16);
        store(memory, self.layout.device + 2, self.used)
    }

    /// Overwrites with ones what the device has read of the available ring (split).
    ///
    /// What it has not read would be its own misfortune, not the driver's.
    ///
    /// # Errors
    ///
    /// An address outside of the guest's memory.
    pub fn overwrite_avail(&self, memory: &GuestMemoryMmap) -> io::Result<()> {
        let size = self.layout.size;
        let unread = load(memory, self.layout.driver + 2)?.wrapping_sub(self.next_avail);
        for behind in 1..=size.saturating_sub(unread) {
            let entry = self.next_avail.wrapping_sub(behind) % size;
            put(
                memory,
                self.layout.driver + 4 + 2 * u64::from(entry),
                0xffffu16,
            )?;
        }
        Ok(())
    }

    /// Overwrites descriptors, those of `chain` or all.
    ///
    /// # Errors
    ///
    /// An address outside of the guest's memory.
    pub fn rewrite(
        &self,
        memory: &GuestMemoryMmap,
        chain: &Chain,
        rewrite: &Rewrite,
    ) -> io::Result<()> {
        let all: Vec<u16> = (0..self.layout.size).collect();
        let (flags_at, next_at) = if self.layout.packed {
            (14, 12)
        } else {
            (12, 14)
        };
        for &slot in if rewrite.all { &all } else { &chain.slots } {
            let at = self.slot(slot);
            let flags: u16 = get(memory, at + flags_at)?;
            let flags = flags & !rewrite.clear_flags | rewrite.set_flags;
            put(memory, at + flags_at, flags)?;
            if rewrite.next_self {
                put(memory, at + next_at, slot)?;
            }
            if let Some(next) = rewrite.next {
                put(memory, at + next_at, next)?;
            }
            if let Some(addr) = rewrite.addr {
                put(memory, at, addr)?;
            }
            if let Some(len) = rewrite.len {
                put(memory, at + 8, len)?;
            }
        }
        Ok(())
    }
}
