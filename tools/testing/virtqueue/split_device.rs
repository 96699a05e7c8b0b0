// SPDX-License-Identifier: GPL-2.0

//! The device's side of a split ring, from virtio 1.4 section 2.7.

use crate::{
    device::{Chain, Wish},
    driver::Areas,
    guest::Guest,
};
use std::{collections::BTreeSet, rc::Rc};
use virtqueue::{Config, Segment};

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// See the module.
pub struct SplitDevice {
    guest: Rc<Guest>,
    areas: Areas,
    size: u16,
    event_idx: bool,
    indirect: bool,
    in_order: bool,
    next_avail: u16,
    used_idx: u16,
    /// `used.idx` at the last interrupt decision.
    told: u16,
    /// Heads that the device owns, oldest first.
    owned: Vec<u16>,
}

impl SplitDevice {
    /// Makes a device that has seen nothing.
    pub fn new(guest: &Rc<Guest>, config: &Config, areas: Areas) -> Self {
        Self {
            guest: guest.clone(),
            areas,
            size: config.size.get(),
            event_idx: config.features.event_idx,
            indirect: config.features.indirect,
            in_order: config.layout.is_in_order(),
            next_avail: 0,
            used_idx: 0,
            told: 0,
            owned: Vec::new(),
        }
    }

    /// Takes the next available chain (section 2.7.6).
    pub fn pop(&mut self) -> Option<Chain> {
        let idx = self.guest.u16(self.areas.driver + 2);
        let new = idx.wrapping_sub(self.next_avail);
        assert!(new <= self.size, "avail.idx jumped by {new}");
        if new == 0 {
            return None;
        }
        let slot = self.next_avail % self.size;
        let head = self.guest.u16(self.areas.driver + 4 + 2 * u64::from(slot));
        self.next_avail = self.next_avail.wrapping_add(1);
        assert!(head < self.size, "head {head} out of range");
        assert!(!self.owned.contains(&head), "head {head} offered twice");

        let mut chain = Chain {
            id: head,
            ndescs: 0,
            readable: Vec::new(),
            writable: Vec::new(),
        };
        let mut index = head;
        let mut seen = BTreeSet::new();
        loop {
            assert!(index < self.size, "next {index} out of range");
            assert!(seen.insert(index), "descriptor chain loops");
            chain.ndescs += 1;
            let at = self.areas.desc + 16 * u64::from(index);
            let (segment, flags, next) = self.desc(at);
            if flags & INDIRECT != 0 {
                // Section 2.7.5.3.1.
                assert!(self.indirect, "indirect was not negotiated");
                assert_eq!(flags & NEXT, 0, "INDIRECT and NEXT");
                self.table(segment, &mut chain);
            } else {
                chain.push(segment, flags & WRITE != 0);
            }
            if flags & NEXT == 0 {
                break;
            }
            if self.in_order {
                // Section 2.7.9: descriptors in order, so that the device need not read next.
                assert_eq!(next, (index + 1) % self.size, "in-order chain jumps");
            }
            index = next;
        }
        self.owned.push(head);
        Some(chain)
    }

    fn desc(&self, at: u64) -> (Segment, u16, u16) {
        let segment = Segment {
            addr: self.guest.u64(at),
            len: self.guest.u32(at + 8),
        };
        (segment, self.guest.u16(at + 12), self.guest.u16(at + 14))
    }

    fn table(&self, table: Segment, chain: &mut Chain) {
        assert!(table.len.is_multiple_of(16) && table.len != 0);
        let entries = table.len / 16;
        let mut entry = 0;
        for _ in 0..entries {
            assert!(entry < entries, "next beyond the table");
            let (segment, flags, next) = self.desc(table.addr + 16 * u64::from(entry));
            assert_eq!(flags & INDIRECT, 0, "table in a table");
            chain.push(segment, flags & WRITE != 0);
            if flags & NEXT == 0 {
                return;
            }
            entry = u32::from(next);
        }
        panic!("table without an end");
    }

    /// Writes one used element for the last chain and advances by all of them (sections 2.7.8, 2.7.9).
    pub fn complete_batch(&mut self, chains: &[Chain], written: u32) {
        let last = chains.last().unwrap();
        for chain in chains {
            let at = self.owned.iter().position(|id| *id == chain.id).unwrap();
            if self.in_order {
                assert_eq!(at, 0, "test bug: out of order");
            } else {
                assert_eq!(chains.len(), 1, "test bug: batch without IN_ORDER");
            }
            self.owned.remove(at);
        }
        let at = self.areas.device + 4 + 8 * u64::from(self.used_idx % self.size);
        self.guest.set_u32(at, u32::from(last.id));
        self.guest.set_u32(at + 4, written);
        self.used_idx = self.used_idx.wrapping_add(chains.len() as u16);
        self.guest.set_u16(self.areas.device + 2, self.used_idx);
    }

    /// Section 2.7.7.2.
    pub fn interrupt(&mut self) -> bool {
        let old = std::mem::replace(&mut self.told, self.used_idx);
        if old == self.used_idx {
            return false;
        }
        if !self.event_idx {
            return self.guest.u16(self.areas.driver) & 1 == 0;
        }
        let event = self
            .guest
            .u16(self.areas.driver + 4 + 2 * u64::from(self.size));
        // "When the device writes a used descriptor at index used_event": was it one of these?
        let mut idx = old;
        while idx != self.used_idx {
            if idx == event {
                return true;
            }
            idx = idx.wrapping_add(1);
        }
        false
    }

    /// Section 2.7.10.
    pub fn wish(&mut self, wish: Wish) {
        if !self.event_idx {
            let flags = u16::from(wish == Wish::Nothing);
            self.guest.set_u16(self.areas.device, flags);
        } else {
            let event = match wish {
                Wish::Next => self.next_avail,
                Wish::Nothing => self.next_avail.wrapping_sub(1),
            };
            let at = self.areas.device + 4 + 8 * u64::from(self.size);
            self.guest.set_u16(at, event);
        }
    }
}
