// SPDX-License-Identifier: GPL-2.0

//! A driver, a device, and the memory between them.

use crate::{
    device::Device,
    driver::{Fault, Mem},
    guest::Guest,
};
use std::rc::Rc;
use virtqueue::{
    AddErrorKind, Config, Direction, Entry, Features, Layout, LengthPolicy, QueueSize, Ring,
    Segment, Slot,
};

/// All layouts.
pub const LAYOUTS: [Layout; 4] = [
    Layout::Split,
    Layout::SplitInOrder,
    Layout::Packed,
    Layout::PackedInOrder,
];

/// A ring on the host, with numbers as payloads.
pub type TestRing = Ring<Mem, (Vec<Slot<u64>>, Vec<Entry>)>;

/// See the module.
pub struct Rig {
    /// Driver side.
    pub ring: TestRing,
    /// Device side.
    pub device: Device,
    /// What is shared.
    pub mem: Mem,
    /// All memory.
    pub guest: Rc<Guest>,
    /// Data buffers come from here.
    pub data: u64,
}

/// What most tests want.
pub fn config(layout: Layout, size: u32) -> Config {
    Config {
        layout,
        size: QueueSize::new(size).unwrap(),
        features: Features {
            event_idx: false,
            indirect: false,
        },
        callbacks: true,
        length_policy: LengthPolicy::Reject,
    }
}

/// The same with event indices.
pub fn event_config(layout: Layout, size: u32) -> Config {
    let mut config = config(layout, size);
    config.features.event_idx = true;
    config
}

/// The same with indirect tables.
pub fn indirect_config(layout: Layout, size: u32) -> Config {
    let mut config = config(layout, size);
    config.features.indirect = true;
    config
}

/// Size of the data area in bytes.
pub const DATA: usize = 1 << 16;

impl Rig {
    /// Makes a ring without tables.
    pub fn new(config: Config) -> Self {
        Self::with_tables(config, 0)
    }

    /// Makes a ring whose slots have tables of `capacity` entries.
    pub fn with_tables(config: Config, capacity: u16) -> Self {
        let size = usize::from(config.size.get());
        let guest = Rc::new(Guest::new(
            size * (40 + 16 * usize::from(capacity)) + 3 * 4096 + DATA,
        ));
        let data = guest.alloc(DATA, 8);
        let mem = Mem::new(&guest, config.layout, config.size, capacity);
        let slots = (0..size).map(|_| Slot::EMPTY).collect();
        let entries = vec![Entry::EMPTY; size * usize::from(capacity)];
        let ring = Ring::new(config, mem.clone(), (slots, entries)).unwrap();
        let device = Device::new(&guest, &config, mem.areas());
        Self {
            ring,
            device,
            mem,
            guest,
            data,
        }
    }

    /// A segment of the data area.
    pub fn segment(&self, offset: u64, len: u32) -> Segment {
        Segment {
            addr: self.data + offset,
            len,
        }
    }

    /// Adds a chain of `readable` and `writable` segments of 8 bytes.
    pub fn add(
        &mut self,
        readable: usize,
        writable: usize,
        payload: u64,
    ) -> Result<(), AddErrorKind> {
        let segment = self.segment(0, 8);
        self.ring
            .add(&vec![segment; readable], &vec![segment; writable], payload)
            .map_err(|error| {
                assert_eq!(error.payload, payload);
                error.kind
            })
    }

    /// Takes the next payload and length.
    pub fn poll(&mut self) -> Option<(u64, u32)> {
        self.ring
            .poll()
            .unwrap()
            .map(|used| (used.payload, used.written))
    }

    /// Puts a bug into the driver's accesses.
    pub fn break_with(&self, fault: Fault) {
        self.mem.fault.set(fault);
    }

    /// Takes everything back, resets the ring, and puts a fresh device behind it.
    pub fn restart(&mut self) -> Vec<u64> {
        let drained: Vec<_> = std::iter::from_fn(|| self.ring.drain()).collect();
        self.ring.reset().unwrap();
        self.ring.unbreak();
        self.device = Device::new(&self.guest, self.ring.config(), self.mem.areas());
        drained
    }
}

/// Collects segments for comparing.
pub fn pairs(readable: &[Segment], writable: &[Segment]) -> Vec<(Segment, Direction)> {
    let r = readable.iter().map(|s| (*s, Direction::Readable));
    r.chain(writable.iter().map(|s| (*s, Direction::Writable)))
        .collect()
}
