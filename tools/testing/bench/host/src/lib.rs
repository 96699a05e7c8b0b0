// SPDX-License-Identifier: GPL-2.0

//! A ring on plain memory, and a device that uses whatever it gets.
//!
//! Functions whose names begin with `bench_` are not the ring's: what is counted leaves them out.

mod memory;

use memory::Memory;
use virtqueue::{
    CbState,
    Config,
    Entry,
    Features,
    Layout,
    LengthPolicy,
    QueueSize,
    Ring,
    Segment,
    Slot, //
};

const SIZE: u16 = 256;
const SEGMENTS: u16 = 3;

type Store = (Vec<Slot<usize>>, Vec<Entry>);

/// A ring, its memory, and where its device stands.
pub struct Bench {
    ring: Ring<&'static Memory, Store>,
    memory: &'static Memory,
    packed: bool,
    indirect: bool,
    at: u16,
    wrap: bool,
}

impl Bench {
    /// Makes a ring of 256 descriptors; with `indirect`, with tables of its own.
    pub fn new(packed: bool, indirect: bool) -> Self {
        // Lives as long as the process.
        let memory: &'static Memory = Box::leak(Box::new(Memory::new(SIZE, SEGMENTS)));
        let config = Config {
            layout: Layout::from_features(packed, false),
            size: QueueSize::new(u32::from(SIZE)).expect("256 is a queue size"),
            features: Features {
                event_idx: true,
                indirect,
            },
            callbacks: true,
            length_policy: LengthPolicy::Reject,
        };
        let slots = (0..SIZE).map(|_| Slot::EMPTY).collect();
        let ring = Ring::new(config, memory, (slots, Vec::new())).expect("a valid ring");
        Self {
            ring,
            memory,
            packed,
            indirect,
            at: 0,
            wrap: true,
        }
    }

    /// Adds `batch` chains of three segments, has the device use them, and takes them back.
    #[inline(never)]
    pub fn round(&mut self, batch: u16) {
        let readable = [Segment {
            addr: 0x1000,
            len: 16,
        }];
        let writable = [
            Segment {
                addr: 0x2000,
                len: 4096,
            },
            Segment {
                addr: 0x3000,
                len: 1,
            },
        ];
        for _ in 0..batch {
            self.add(&readable, &writable);
        }
        self.kick();
        self.bench_use(batch);
        let mut taken = 0;
        loop {
            self.ring.disable_cb();
            while self.take() {
                taken += 1;
            }
            if self.ring.enable_cb() == CbState::Armed {
                break;
            }
        }
        assert_eq!(taken, batch);
    }

    // As C callers find the ring: a call for each operation, and visible at once.
    #[inline(never)]
    fn add(&mut self, readable: &[Segment], writable: &[Segment]) {
        assert!(self.ring.add(readable, writable, 1).is_ok());
        self.ring.publish();
    }

    #[inline(never)]
    fn kick(&mut self) -> bool {
        self.ring.kick_prepare()
    }

    #[inline(never)]
    fn take(&mut self) -> bool {
        matches!(self.ring.poll(), Ok(Some(_)))
    }

    #[inline(never)]
    fn bench_use(&mut self, count: u16) {
        if !self.packed {
            self.memory.bench_use_split(self.at, count);
            self.at = self.at.wrapping_add(count);
            return;
        }
        let length = if self.indirect { 1 } else { SEGMENTS };
        for _ in 0..count {
            self.memory.bench_use_packed(self.at, length, self.wrap);
            self.at += length;
            if self.at >= SIZE {
                self.at -= SIZE;
                self.wrap = !self.wrap;
            }
        }
    }
}
