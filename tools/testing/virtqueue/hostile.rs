// SPDX-License-Identifier: GPL-2.0

//! A device that writes whatever it likes, steered by bytes: what property tests and the fuzzer run.

use crate::{
    device::{Chain, Device},
    rig::{config, pairs, Rig},
};
use std::collections::BTreeMap;
use virtqueue::{AddErrorKind, Direction, Layout, LengthPolicy, QueueSize, Segment};

/// Reads choices off a byte string; zeroes behind its end.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u16 {
        u16::from(self.byte()) << 8 | u16::from(self.byte())
    }

    fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }
}

/// What the test knows of a chain in flight.
struct Flight {
    segments: Vec<(Segment, Direction)>,
    writable: u32,
    ndescs: u16,
}

struct Hostile<'a> {
    rig: Rig,
    choices: Choices<'a>,
    size: u16,
    /// Chains that an honest device would still have to use.
    held: Vec<Chain>,
    flights: BTreeMap<u64, Flight>,
    next_payload: u64,
    broken: bool,
    poked: bool,
}

/// What came of a run, for telling whether runs reach anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Chains that came back.
    pub returned: usize,
    /// Whether the ring was broken by the device.
    pub broken: bool,
}

/// Runs one ring against the device that `bytes` describe. Panics when a guarantee does not hold.
pub fn run(bytes: &[u8]) -> Outcome {
    let mut choices = Choices(bytes);
    let layout = crate::rig::LAYOUTS[choices.below(4)];
    let size = if layout.is_packed() {
        1 + choices.below(9) as u32
    } else {
        1 << choices.below(4)
    };
    let mut config = config(layout, size);
    let features = choices.byte();
    config.features.event_idx = features & 1 != 0;
    config.features.indirect = features & 2 != 0;
    config.callbacks = features & 4 != 0;
    if features & 8 != 0 {
        config.length_policy = LengthPolicy::Clamp;
    }
    let capacity = if features & 2 != 0 { 3 } else { 0 };
    let mut hostile = Hostile {
        rig: Rig::with_tables(config, capacity),
        choices,
        size: QueueSize::new(size).unwrap().get(),
        held: Vec::new(),
        flights: BTreeMap::new(),
        next_payload: 0,
        broken: false,
        poked: false,
    };
    let mut outcome = Outcome::default();
    while !hostile.choices.0.is_empty() {
        outcome.returned += usize::from(hostile.step());
        hostile.check();
    }
    outcome.broken = hostile.broken;
    hostile.finish();
    outcome
}

impl Hostile<'_> {
    /// One operation of one side. True when a chain came back.
    fn step(&mut self) -> bool {
        match self.choices.below(12) {
            0..=2 => self.add(),
            3 => self.rig.ring.publish(),
            4 => {
                let _ = self.rig.ring.kick_prepare();
            }
            5 => {
                let _ = match self.choices.below(4) {
                    0 => self.rig.ring.enable_cb(),
                    1 => self.rig.ring.enable_cb_delayed(),
                    _ => {
                        self.rig.ring.note_interrupt();
                        self.rig.ring.disable_cb();
                        let _ = self.rig.ring.observer().more_used();
                        return false;
                    }
                };
            }
            6 | 7 => return self.poll(),
            8 => self.honest(),
            _ => self.poke(),
        }
        false
    }

    fn add(&mut self) {
        let how = self.choices.byte();
        let (readable, writable) = (usize::from(how & 3), usize::from(how >> 2 & 3));
        let len = u32::from(self.choices.byte());
        let segments = |n: usize, base: u64| -> Vec<Segment> {
            (0..n)
                .map(|i| Segment {
                    addr: base + 256 * i as u64,
                    len: len + i as u32,
                })
                .collect()
        };
        let r = segments(readable, self.rig.data);
        let w = segments(writable, self.rig.data + 4096);
        let payload = self.next_payload;
        self.next_payload += 1;
        let free = self.rig.ring.num_free();
        let result = match how >> 4 & 3 {
            0 | 1 => self.rig.ring.add(&r, &w, payload),
            2 => self.rig.ring.add_direct(&r, &w, payload),
            _ => match self.rig.ring.begin(r.len() + w.len()) {
                Err(kind) => Err(virtqueue::AddError { kind, payload }),
                Ok(mut builder) => {
                    let all = pairs(&r, &w);
                    let give_up = self.choices.below(8);
                    for (n, (segment, direction)) in all.iter().enumerate() {
                        if n == give_up {
                            let mut pushed = Vec::new();
                            builder.for_each(|s, d| pushed.push((s, d)));
                            assert_eq!(pushed, all[..n]);
                            return;
                        }
                        match direction {
                            Direction::Readable => builder.readable(*segment).unwrap(),
                            Direction::Writable => builder.writable(*segment).unwrap(),
                        }
                    }
                    builder.commit(payload)
                }
            },
        };
        match result {
            Ok(()) => {
                assert!(!self.broken);
                let ndescs = free - self.rig.ring.num_free();
                let flight = Flight {
                    segments: pairs(&r, &w),
                    writable: w.iter().map(|segment| segment.len).sum(),
                    ndescs,
                };
                self.flights.insert(payload, flight);
            }
            Err(error) => {
                assert_eq!(error.payload, payload);
                assert_eq!(self.broken, error.kind == AddErrorKind::Broken);
            }
        }
    }

    fn poll(&mut self) -> bool {
        let mut unmapped = Vec::new();
        let result = self
            .rig
            .ring
            .poll_with(|_, segment, direction| unmapped.push((segment, direction)));
        match result {
            Ok(Some(used)) => {
                assert!(!self.broken);
                // Not in flight any more means: returned twice, or never given.
                let flight = self.flights.remove(&used.payload).unwrap();
                assert!(used.written <= flight.writable);
                assert_eq!(unmapped, flight.segments);
                true
            }
            Ok(None) => {
                assert!(unmapped.is_empty());
                false
            }
            Err(_) => {
                assert!(!self.broken, "reported twice");
                assert!(unmapped.is_empty());
                self.broken = true;
                false
            }
        }
    }

    /// Does what an honest device would, as long as it has not lied: its rules are for honest rings.
    fn honest(&mut self) {
        if self.poked {
            return;
        }
        self.held.extend(self.rig.device.pop());
        if self.held.is_empty() {
            return;
        }
        let which = if self.rig.ring.layout().is_in_order() {
            0
        } else {
            self.choices.below(self.held.len())
        };
        let chain = self.held.remove(which);
        let written = u32::from(self.choices.byte()) % (chain.room().saturating_add(2)).max(1);
        self.rig.device.complete(&chain, written);
    }

    /// Writes to shared memory: mostly where the driver looks next, and mostly something plausible.
    fn poke(&mut self) {
        self.poked = true;
        let areas = self.rig.mem.areas();
        let guest = &self.rig.guest;
        let size = u64::from(self.size);
        let used = self.rig.ring.used_index();
        let value = match self.choices.below(6) {
            0 => u16::from(self.choices.byte()) % (2 * self.size),
            1 => used.wrapping_add(u16::from(self.choices.byte()) % 4),
            2 => self.choices.word(),
            3 => 0x8080,
            4 => 0x8082,
            _ => 0,
        };
        let place = self.choices.byte();
        let at = u64::from(place >> 3);
        if self.rig.ring.layout() == Layout::Split || self.rig.ring.layout() == Layout::SplitInOrder
        {
            let slot = u64::from(used) % size;
            match place & 7 {
                0 | 1 => guest.set_u16(areas.device + 2, value),
                2 => guest.set_u16(areas.device + 4 + 8 * slot, value),
                3 => guest.set_u32(areas.device + 4 + 8 * slot, u32::from(value) << 16),
                4 => guest.set_u32(areas.device + 8 + 8 * slot, u32::from(value)),
                5 => guest.set_u16(areas.device + 2 * (at % (2 + 4 * size)), value),
                6 => guest.set_u16(areas.driver + 2 * (at % (3 + size)), value),
                _ => guest.set_u16(areas.desc + 2 * (at % (8 * size)), value),
            }
        } else {
            let slot = u64::from(used & 0x7fff) % size;
            let here = areas.desc + 16 * slot;
            match place & 7 {
                0 | 1 => guest.set_u16(here + 14, value),
                2 => guest.set_u16(here + 12, value),
                3 => guest.set_u32(here + 8, u32::from(value)),
                4 => guest.set_u16(areas.device + 2 * (at % 2), value),
                5 => guest.set_u16(areas.driver + 2 * (at % 2), value),
                _ => guest.set_u16(areas.desc + 2 * (at % (8 * size)), value),
            }
        }
    }

    /// What holds after every step.
    fn check(&self) {
        let ring = &self.rig.ring;
        let taken: u16 = self.flights.values().map(|flight| flight.ndescs).sum();
        assert_eq!(
            ring.num_free(),
            self.size - taken,
            "descriptors lost or gained"
        );
        assert_eq!(usize::from(ring.in_flight()), self.flights.len());
        assert_eq!(ring.is_broken(), self.broken);
        let work = self.rig.mem.take_log().len();
        assert!(
            work <= 16 + 3 * usize::from(self.size),
            "unbounded work: {work}"
        );
    }

    /// Everything comes back once, and the ring works again after a reset.
    fn finish(mut self) {
        let drained = self.rig.restart();
        assert_eq!(drained.len(), self.flights.len());
        for payload in drained {
            assert!(self.flights.remove(&payload).is_some());
        }
        self.rig.device = Device::new(
            &self.rig.guest,
            self.rig.ring.config(),
            self.rig.mem.areas(),
        );
        for turn in 0..2 * u64::from(self.size) {
            self.rig.add(1, 0, turn).unwrap();
            let _ = self.rig.ring.kick_prepare();
            let chain = self.rig.device.pop().unwrap();
            self.rig.device.complete(&chain, 0);
            assert_eq!(self.rig.poll(), Some((turn, 0)));
        }
    }
}
