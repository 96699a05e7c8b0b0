// SPDX-License-Identifier: GPL-2.0

//! The device's side of a packed ring, from virtio 1.4 section 2.8.

use crate::{
    device::{Chain, Wish},
    driver::Areas,
    guest::Guest,
};
use std::rc::Rc;
use virtqueue::{Config, Segment};

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const AVAIL: u16 = 1 << 7;
const USED: u16 = 1 << 15;

/// A place in the ring with the wrap counter (section 2.8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    index: u16,
    wrap: bool,
}

impl Place {
    const START: Self = Self {
        index: 0,
        wrap: true,
    };

    fn step(&mut self, size: u16) {
        self.index += 1;
        if self.index == size {
            self.index = 0;
            self.wrap = !self.wrap;
        }
    }

    fn off_wrap(self) -> u16 {
        self.index | u16::from(self.wrap) << 15
    }
}

/// See the module.
pub struct PackedDevice {
    guest: Rc<Guest>,
    areas: Areas,
    size: u16,
    event_idx: bool,
    indirect: bool,
    in_order: bool,
    next_avail: Place,
    next_used: Place,
    /// `next_used` at the last interrupt decision.
    told: Place,
    owned: Vec<u16>,
    /// Descriptors of the chains in `owned`.
    owned_descs: u16,
}

impl PackedDevice {
    /// Makes a device that has seen nothing.
    pub fn new(guest: &Rc<Guest>, config: &Config, areas: Areas) -> Self {
        Self {
            guest: guest.clone(),
            areas,
            size: config.size.get(),
            event_idx: config.features.event_idx,
            indirect: config.features.indirect,
            in_order: config.layout.is_in_order(),
            next_avail: Place::START,
            next_used: Place::START,
            told: Place::START,
            owned: Vec::new(),
            owned_descs: 0,
        }
    }

    fn at(&self, place: Place) -> u64 {
        self.areas.desc + 16 * u64::from(place.index)
    }

    fn flags(&self, place: Place) -> u16 {
        self.guest.u16(self.at(place) + 14)
    }

    /// Section 2.8.1: AVAIL differs from USED and is the wrap counter.
    fn is_available(&self, place: Place) -> bool {
        let flags = self.flags(place);
        let (avail, used) = (flags & AVAIL != 0, flags & USED != 0);
        avail != used && avail == place.wrap
    }

    /// Takes the next available chain (section 2.8.6).
    pub fn pop(&mut self) -> Option<Chain> {
        if !self.is_available(self.next_avail) {
            return None;
        }
        let mut chain = Chain {
            id: 0,
            ndescs: 0,
            readable: Vec::new(),
            writable: Vec::new(),
        };
        loop {
            let at = self.at(self.next_avail);
            let flags = self.flags(self.next_avail);
            assert!(
                self.is_available(self.next_avail),
                "descriptor {} of a chain is not available",
                self.next_avail.index
            );
            let segment = self.segment(at);
            chain.ndescs += 1;
            assert!(
                self.owned_descs + chain.ndescs <= self.size,
                "more available than the ring holds"
            );
            // Section 2.8.6: the id is in the last descriptor of the list.
            chain.id = self.guest.u16(at + 12);
            self.next_avail.step(self.size);
            if flags & INDIRECT != 0 {
                // Section 2.8.7.
                assert!(self.indirect, "indirect was not negotiated");
                assert_eq!(flags & (NEXT | WRITE), 0, "INDIRECT with NEXT or WRITE");
                assert!(segment.len.is_multiple_of(16) && segment.len != 0);
                for entry in 0..segment.len / 16 {
                    let at = segment.addr + 16 * u64::from(entry);
                    let flags = self.guest.u16(at + 14);
                    assert_eq!(flags & !WRITE, 0, "flags in a table");
                    chain.push(self.segment(at), flags & WRITE != 0);
                }
            } else {
                chain.push(segment, flags & WRITE != 0);
            }
            if flags & NEXT == 0 {
                break;
            }
        }
        assert!(
            !self.owned.contains(&chain.id),
            "id {} offered twice",
            chain.id
        );
        self.owned.push(chain.id);
        self.owned_descs += chain.ndescs;
        Some(chain)
    }

    fn segment(&self, at: u64) -> Segment {
        Segment {
            addr: self.guest.u64(at),
            len: self.guest.u32(at + 8),
        }
    }

    /// Writes one used descriptor for the last chain and skips all of them (sections 2.8.6, 2.8.8).
    pub fn complete_batch(&mut self, chains: &[Chain], written: u32) {
        let last = chains.last().unwrap();
        let at = self.at(self.next_used);
        self.guest.set_u32(at + 8, written);
        self.guest.set_u16(at + 12, last.id);
        let both = if self.next_used.wrap { AVAIL | USED } else { 0 };
        let write = if written != 0 { WRITE } else { 0 };
        self.guest.set_u16(at + 14, both | write);
        for chain in chains {
            let at = self.owned.iter().position(|id| *id == chain.id).unwrap();
            if self.in_order {
                assert_eq!(at, 0, "test bug: out of order");
            } else {
                assert_eq!(chains.len(), 1, "test bug: batch without IN_ORDER");
            }
            self.owned.remove(at);
            self.owned_descs -= chain.ndescs;
            for _ in 0..chain.ndescs {
                self.next_used.step(self.size);
            }
        }
    }

    /// Section 2.8.10.
    pub fn interrupt(&mut self) -> bool {
        let mut place = std::mem::replace(&mut self.told, self.next_used);
        if place == self.next_used {
            return false;
        }
        let off_wrap = self.guest.u16(self.areas.driver);
        match self.guest.u16(self.areas.driver + 2) & 3 {
            0 => true,
            1 => false,
            2 => {
                assert!(self.event_idx, "DESC without EVENT_IDX");
                // Was the descriptor asked for one of these?
                while place != self.next_used {
                    if place.off_wrap() == off_wrap {
                        return true;
                    }
                    place.step(self.size);
                }
                false
            }
            _ => panic!("reserved event flags"),
        }
    }

    /// Section 2.8.10.
    pub fn wish(&mut self, wish: Wish) {
        let flags = match wish {
            Wish::Nothing => 1,
            Wish::Next if self.event_idx => {
                self.guest
                    .set_u16(self.areas.device, self.next_avail.off_wrap());
                2
            }
            Wish::Next => 0,
        };
        self.guest.set_u16(self.areas.device + 2, flags);
    }
}
