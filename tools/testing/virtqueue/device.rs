// SPDX-License-Identifier: GPL-2.0

//! The reference device: what both ring formats have in common.

use crate::{driver::Areas, guest::Guest, packed_device::PackedDevice, split_device::SplitDevice};
use std::rc::Rc;
use virtqueue::{Config, Segment};

/// A chain as the device sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Buffer id (split: head descriptor).
    pub id: u16,
    /// Ring descriptors it takes.
    pub ndescs: u16,
    /// Segments to read.
    pub readable: Vec<Segment>,
    /// Segments to write.
    pub writable: Vec<Segment>,
}

impl Chain {
    /// Bytes that can be written.
    pub fn room(&self) -> u32 {
        self.writable.iter().map(|segment| segment.len).sum()
    }

    /// Adds a segment; readable ones come first (virtio 1.4 section 2.7.4.2).
    pub fn push(&mut self, segment: Segment, write: bool) {
        if write {
            self.writable.push(segment);
        } else {
            assert!(
                self.writable.is_empty(),
                "readable segment after a writable one"
            );
            self.readable.push(segment);
        }
    }
}

/// Whether the device wants to be notified of new buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Do not notify.
    Nothing,
    /// Notify of the next chain.
    Next,
}

/// A device on one queue.
pub enum Device {
    /// Split ring.
    Split(SplitDevice),
    /// Packed ring.
    Packed(PackedDevice),
}

impl Device {
    /// Makes a device for a ring at `areas`.
    pub fn new(guest: &Rc<Guest>, config: &Config, areas: Areas) -> Self {
        if config.layout.is_packed() {
            Self::Packed(PackedDevice::new(guest, config, areas))
        } else {
            Self::Split(SplitDevice::new(guest, config, areas))
        }
    }

    /// Takes the next available chain.
    pub fn pop(&mut self) -> Option<Chain> {
        match self {
            Self::Split(device) => device.pop(),
            Self::Packed(device) => device.pop(),
        }
    }

    /// Uses one chain.
    pub fn complete(&mut self, chain: &Chain, written: u32) {
        self.complete_batch(std::slice::from_ref(chain), written);
    }

    /// Uses several chains with one used element for the last, as only an in-order device may
    /// (virtio 1.4 sections 2.7.9 and 2.8.8). `written` is that of the last.
    pub fn complete_batch(&mut self, chains: &[Chain], written: u32) {
        match self {
            Self::Split(device) => device.complete_batch(chains, written),
            Self::Packed(device) => device.complete_batch(chains, written),
        }
    }

    /// Tells whether the driver must be interrupted for what was used since the last call.
    pub fn interrupt(&mut self) -> bool {
        match self {
            Self::Split(device) => device.interrupt(),
            Self::Packed(device) => device.interrupt(),
        }
    }

    /// Tells the driver when to notify.
    pub fn wish(&mut self, wish: Wish) {
        match self {
            Self::Split(device) => device.wish(wish),
            Self::Packed(device) => device.wish(wish),
        }
    }
}
