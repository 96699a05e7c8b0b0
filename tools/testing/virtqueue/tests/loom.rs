// SPDX-License-Identifier: GPL-2.0

//! Every interleaving and every stale read of a driver and a device thread, on tiny rings.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p virtqueue-tests --test loom --release`.
//! The device is written out in each test, with the barriers that the specification asks of it. Each
//! barrier of the driver is shown to be needed by a test that leaves it out and must fail.
#![cfg(loom)]

use loom::{
    sync::{
        atomic::{fence, AtomicU16, AtomicU32, AtomicU64, Ordering},
        Arc,
    },
    thread,
};
use virtqueue::{
    event::{need_event, PackedIndex},
    Barriers, CbState, Config, Entry, Features, IndirectTables, Layout, LengthPolicy, PackedDesc,
    PackedMem, PackedUsed, QueueSize, Ring, RingMem, Segment, Shared, Slot, SplitDesc, SplitMem,
    SplitUsed,
};
use Ordering::Relaxed;

/// Which barrier of the driver is weakened.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Without {
    Nothing,
    Publish,
    Acquire,
    /// Only acquire and release are left of it: stores may pass loads.
    Full,
}

const AVAIL: u16 = 1 << 7;
const USED: u16 = 1 << 15;

#[derive(Default)]
struct Desc {
    addr: AtomicU64,
    len: AtomicU32,
    id: AtomicU16,
    flags: AtomicU16,
}

struct Mem {
    without: Without,
    shared: Shared,
    desc: [Desc; 2],
    avail_ring: [AtomicU16; 2],
    avail_idx: AtomicU16,
    /// `avail.flags`, or the packed driver event flags.
    driver_flags: AtomicU16,
    /// `used_event`, or the packed driver event offset.
    driver_event: AtomicU16,
    used_ring: [(AtomicU32, AtomicU32); 2],
    used_idx: AtomicU16,
    device_flags: AtomicU16,
    device_event: AtomicU16,
    /// What the buffers hold.
    data: AtomicU32,
}

impl Mem {
    fn new(without: Without) -> Arc<Self> {
        Arc::new(Self {
            without,
            shared: Shared::new(),
            desc: Default::default(),
            avail_ring: Default::default(),
            avail_idx: AtomicU16::new(0),
            driver_flags: AtomicU16::new(0),
            driver_event: AtomicU16::new(0),
            used_ring: Default::default(),
            used_idx: AtomicU16::new(0),
            device_flags: AtomicU16::new(0),
            device_event: AtomicU16::new(0),
            data: AtomicU32::new(0),
        })
    }
}

impl Barriers for Mem {
    fn publish(&self) {
        if self.without != Without::Publish {
            fence(Ordering::Release);
        }
    }
    fn acquire(&self) {
        if self.without != Without::Acquire {
            fence(Ordering::Acquire);
        }
    }
    fn full(&self) {
        if self.without == Without::Full {
            fence(Ordering::AcqRel);
        } else {
            fence(Ordering::SeqCst);
        }
    }
}

impl SplitMem for Mem {
    fn store_desc(&self, index: u16, desc: SplitDesc) {
        self.desc[usize::from(index)].addr.store(desc.addr, Relaxed);
    }
    fn store_avail_entry(&self, slot: u16, head: u16) {
        self.avail_ring[usize::from(slot)].store(head, Relaxed);
    }
    fn store_avail_idx(&self, idx: u16) {
        self.avail_idx.store(idx, Relaxed);
    }
    fn store_avail_flags(&self, flags: u16) {
        self.driver_flags.store(flags, Relaxed);
    }
    fn store_used_event(&self, idx: u16) {
        self.driver_event.store(idx, Relaxed);
    }
    fn load_used_idx(&self) -> u16 {
        self.used_idx.load(Relaxed)
    }
    fn load_used_elem(&self, slot: u16) -> SplitUsed {
        let (id, len) = &self.used_ring[usize::from(slot)];
        SplitUsed {
            id: id.load(Relaxed),
            len: len.load(Relaxed),
        }
    }
    fn load_used_flags(&self) -> u16 {
        self.device_flags.load(Relaxed)
    }
    fn load_avail_event(&self) -> u16 {
        self.device_event.load(Relaxed)
    }
    fn zero_used_area(&self) {
        unreachable!("no test resets")
    }
}

impl PackedMem for Mem {
    fn store_desc_body(&self, index: u16, addr: u64, len: u32, id: u16) {
        let desc = &self.desc[usize::from(index)];
        desc.addr.store(addr, Relaxed);
        desc.len.store(len, Relaxed);
        desc.id.store(id, Relaxed);
    }
    fn store_desc_flags(&self, index: u16, flags: u16) {
        self.desc[usize::from(index)].flags.store(flags, Relaxed);
    }
    fn store_driver_event_off_wrap(&self, off_wrap: u16) {
        self.driver_event.store(off_wrap, Relaxed);
    }
    fn store_driver_event_flags(&self, flags: u16) {
        self.driver_flags.store(flags, Relaxed);
    }
    fn load_desc_flags(&self, index: u16) -> u16 {
        self.desc[usize::from(index)].flags.load(Relaxed)
    }
    fn load_used(&self, index: u16) -> PackedUsed {
        let desc = &self.desc[usize::from(index)];
        PackedUsed {
            id: desc.id.load(Relaxed),
            len: desc.len.load(Relaxed),
        }
    }
    fn load_device_event_off_wrap(&self) -> u16 {
        self.device_event.load(Relaxed)
    }
    fn load_device_event_flags(&self) -> u16 {
        self.device_flags.load(Relaxed)
    }
    fn zero_device_event(&self) {
        unreachable!("no test resets")
    }
}

impl IndirectTables for Mem {
    fn capacity(&self) -> u16 {
        0
    }
    fn addr(&self, _: u16) -> u64 {
        0
    }
    fn store_split(&self, _: u16, _: u16, _: SplitDesc) {}
    fn store_packed(&self, _: u16, _: u16, _: PackedDesc) {}
}

impl RingMem for Mem {
    fn shared(&self) -> &Shared {
        &self.shared
    }
}

type TestRing<'a> = Ring<&'a Mem, (Vec<Slot<u64>>, Vec<Entry>)>;

fn ring(mem: &Mem, layout: Layout, event_idx: bool) -> TestRing<'_> {
    let config = Config {
        layout,
        size: QueueSize::new(2).unwrap(),
        features: Features {
            event_idx,
            indirect: false,
        },
        callbacks: true,
        length_policy: LengthPolicy::Reject,
    };
    Ring::new(config, mem, (vec![Slot::EMPTY, Slot::EMPTY], Vec::new())).unwrap()
}

/// Adds chain number `n` of one segment.
fn add(ring: &mut TestRing<'_>, n: u64) {
    let segment = Segment {
        addr: 100 + n,
        len: 1,
    };
    ring.add(&[], &[segment], n).unwrap();
}

/// Uses chain `id` as entry `nth`, as a split device does.
fn use_split(mem: &Mem, nth: u16, id: u32) {
    let (at, len) = &mem.used_ring[usize::from(nth)];
    at.store(id, Relaxed);
    len.store(1, Relaxed);
    fence(Ordering::Release);
    mem.used_idx.store(nth + 1, Relaxed);
}

/// Uses chain `id` at descriptor `nth` in the first round, as a packed device does.
fn use_packed(mem: &Mem, nth: usize, id: u16) {
    mem.desc[nth].id.store(id, Relaxed);
    mem.desc[nth].len.store(1, Relaxed);
    fence(Ordering::Release);
    mem.desc[nth].flags.store(AVAIL | USED | 2, Relaxed);
}

// What is published is complete.

fn split_publish(without: Without) {
    loom::model(move || {
        let mem = Mem::new(without);
        let mut ring = ring(&mem, Layout::Split, false);
        let device = {
            let mem = mem.clone();
            thread::spawn(move || {
                if mem.avail_idx.load(Relaxed) == 0 {
                    return;
                }
                fence(Ordering::Acquire);
                // Both chains of the batch, and what is in the buffer.
                assert_eq!(mem.avail_ring[1].load(Relaxed), 1);
                assert_eq!(mem.desc[1].addr.load(Relaxed), 101);
                assert_eq!(mem.data.load(Relaxed), 7);
            })
        };
        mem.data.store(7, Relaxed);
        add(&mut ring, 0);
        add(&mut ring, 1);
        ring.publish();
        device.join().unwrap();
    });
}

#[test]
fn split_publish_is_complete() {
    split_publish(Without::Nothing);
}

#[test]
#[should_panic]
fn split_publish_needs_its_barrier() {
    split_publish(Without::Publish);
}

fn packed_publish(without: Without, chains: bool) {
    loom::model(move || {
        let mem = Mem::new(without);
        let mut ring = ring(&mem, Layout::Packed, false);
        let device = {
            let mem = mem.clone();
            thread::spawn(move || {
                let flags = mem.desc[0].flags.load(Relaxed);
                if flags & (AVAIL | USED) != AVAIL {
                    return;
                }
                fence(Ordering::Acquire);
                // The second chain of the batch, or the second descriptor of the chain.
                assert_eq!(flags & 1 != 0, chains);
                let flags = mem.desc[1].flags.load(Relaxed);
                assert_eq!(flags & (AVAIL | USED), AVAIL);
                assert_eq!(mem.desc[1].addr.load(Relaxed), 101);
                assert_eq!(mem.data.load(Relaxed), 7);
            })
        };
        mem.data.store(7, Relaxed);
        if chains {
            let segments = [100, 101].map(|addr| Segment { addr, len: 1 });
            ring.add(&segments, &[], 0).unwrap();
        } else {
            add(&mut ring, 0);
            add(&mut ring, 1);
        }
        ring.publish();
        device.join().unwrap();
    });
}

#[test]
fn packed_publish_is_complete() {
    packed_publish(Without::Nothing, false);
}

#[test]
fn packed_chain_is_complete() {
    packed_publish(Without::Nothing, true);
}

#[test]
#[should_panic]
fn packed_publish_needs_its_barrier() {
    packed_publish(Without::Publish, false);
}

#[test]
#[should_panic]
fn packed_chain_needs_its_barrier() {
    packed_publish(Without::Publish, true);
}

// What is taken back was really used.

fn consume(without: Without, layout: Layout) {
    loom::model(move || {
        let mem = Mem::new(without);
        let mut ring = ring(&mem, layout, false);
        add(&mut ring, 0);
        add(&mut ring, 1);
        ring.publish();
        let device = {
            let mem = mem.clone();
            thread::spawn(move || {
                // The second chain first, so that stale memory is wrong.
                mem.data.store(7, Relaxed);
                if layout.is_packed() {
                    use_packed(&mem, 0, 1);
                } else {
                    use_split(&mem, 0, 1);
                }
            })
        };
        if let Some(used) = ring.poll().unwrap() {
            assert_eq!((used.payload, used.written), (1, 1));
            assert_eq!(mem.data.load(Relaxed), 7);
        }
        device.join().unwrap();
    });
}

#[test]
fn split_consume_sees_what_was_used() {
    consume(Without::Nothing, Layout::Split);
}

#[test]
#[should_panic]
fn split_consume_needs_its_barrier() {
    consume(Without::Acquire, Layout::Split);
}

#[test]
fn packed_consume_sees_what_was_used() {
    consume(Without::Nothing, Layout::Packed);
}

#[test]
#[should_panic]
fn packed_consume_needs_its_barrier() {
    consume(Without::Acquire, Layout::Packed);
}

// Nobody sleeps while the other waits: used buffers.

/// Whether a split device interrupts after moving `used.idx` from `old` to `new`.
fn split_interrupts(mem: &Mem, event_idx: bool, new: u16, old: u16) -> bool {
    fence(Ordering::SeqCst);
    if event_idx {
        need_event(mem.driver_event.load(Relaxed), new, old)
    } else {
        mem.driver_flags.load(Relaxed) & 1 == 0
    }
}

/// Whether a packed device interrupts after it used the descriptor at `index` in the first round.
fn packed_interrupts(mem: &Mem, index: u16) -> bool {
    fence(Ordering::SeqCst);
    match mem.driver_flags.load(Relaxed) {
        0 => true,
        1 => false,
        _ => {
            fence(Ordering::Acquire);
            mem.driver_event.load(Relaxed) == PackedIndex::new(index, true).off_wrap()
        }
    }
}

fn enable_cb(without: Without, layout: Layout, event_idx: bool) {
    loom::model(move || {
        let mem = Mem::new(without);
        let mut ring = ring(&mem, layout, event_idx);
        add(&mut ring, 0);
        ring.publish();
        ring.disable_cb();
        let device = {
            let mem = mem.clone();
            thread::spawn(move || {
                if layout.is_packed() {
                    use_packed(&mem, 0, 0);
                    packed_interrupts(&mem, 0)
                } else {
                    use_split(&mem, 0, 0);
                    split_interrupts(&mem, event_idx, 1, 0)
                }
            })
        };
        let state = ring.enable_cb();
        let interrupted = device.join().unwrap();
        assert!(interrupted || state == CbState::MorePending, "lost wake-up");
    });
}

#[test]
fn split_enable_cb_loses_no_wakeup() {
    enable_cb(Without::Nothing, Layout::Split, false);
    enable_cb(Without::Nothing, Layout::Split, true);
}

#[test]
#[should_panic = "lost wake-up"]
fn split_enable_cb_needs_its_barrier() {
    enable_cb(Without::Full, Layout::Split, false);
}

#[test]
#[should_panic = "lost wake-up"]
fn split_enable_cb_with_event_idx_needs_its_barrier() {
    enable_cb(Without::Full, Layout::Split, true);
}

#[test]
fn packed_enable_cb_loses_no_wakeup() {
    enable_cb(Without::Nothing, Layout::Packed, false);
    enable_cb(Without::Nothing, Layout::Packed, true);
}

#[test]
#[should_panic = "lost wake-up"]
fn packed_enable_cb_needs_its_barrier() {
    enable_cb(Without::Full, Layout::Packed, false);
}

#[test]
#[should_panic = "lost wake-up"]
fn packed_enable_cb_with_event_idx_needs_its_barrier() {
    enable_cb(Without::Full, Layout::Packed, true);
}

fn enable_cb_delayed(without: Without, layout: Layout) {
    loom::model(move || {
        let mem = Mem::new(without);
        let mut ring = ring(&mem, layout, true);
        add(&mut ring, 0);
        add(&mut ring, 1);
        ring.publish();
        ring.disable_cb();
        let device = {
            let mem = mem.clone();
            thread::spawn(move || {
                // Three quarters of two is one: after the second, somebody must know.
                if layout.is_packed() {
                    use_packed(&mem, 0, 0);
                    use_packed(&mem, 1, 1);
                    packed_interrupts(&mem, 1)
                } else {
                    use_split(&mem, 0, 0);
                    use_split(&mem, 1, 1);
                    split_interrupts(&mem, true, 2, 0)
                }
            })
        };
        let state = ring.enable_cb_delayed();
        let interrupted = device.join().unwrap();
        assert!(interrupted || state == CbState::MorePending, "lost wake-up");
    });
}

#[test]
fn split_enable_cb_delayed_loses_no_wakeup() {
    enable_cb_delayed(Without::Nothing, Layout::Split);
}

#[test]
#[should_panic = "lost wake-up"]
fn split_enable_cb_delayed_needs_its_barrier() {
    enable_cb_delayed(Without::Full, Layout::Split);
}

#[test]
fn packed_enable_cb_delayed_loses_no_wakeup() {
    enable_cb_delayed(Without::Nothing, Layout::Packed);
}

#[test]
#[should_panic = "lost wake-up"]
fn packed_enable_cb_delayed_needs_its_barrier() {
    enable_cb_delayed(Without::Full, Layout::Packed);
}

/// A driver that leaves callbacks on and polls until nothing is left.
fn poll_arms(without: Without, layout: Layout) {
    loom::model(move || {
        let mem = Mem::new(without);
        let mut ring = ring(&mem, layout, true);
        ring.disable_cb();
        let _ = ring.enable_cb_prepare();
        add(&mut ring, 0);
        add(&mut ring, 1);
        ring.publish();
        if layout.is_packed() {
            use_packed(&mem, 0, 0);
        } else {
            use_split(&mem, 0, 0);
        }
        let device = {
            let mem = mem.clone();
            thread::spawn(move || {
                if layout.is_packed() {
                    use_packed(&mem, 1, 1);
                    packed_interrupts(&mem, 1)
                } else {
                    use_split(&mem, 1, 1);
                    split_interrupts(&mem, true, 2, 1)
                }
            })
        };
        assert_eq!(ring.poll().unwrap().unwrap().payload, 0);
        let second = ring.poll().unwrap();
        let interrupted = device.join().unwrap();
        assert!(interrupted || second.is_some(), "lost wake-up");
    });
}

#[test]
fn split_poll_arms_the_next_interrupt() {
    poll_arms(Without::Nothing, Layout::Split);
}

#[test]
#[should_panic = "lost wake-up"]
fn split_poll_needs_its_barrier() {
    poll_arms(Without::Full, Layout::Split);
}

#[test]
fn packed_poll_arms_the_next_interrupt() {
    poll_arms(Without::Nothing, Layout::Packed);
}

#[test]
#[should_panic = "lost wake-up"]
fn packed_poll_needs_its_barrier() {
    poll_arms(Without::Full, Layout::Packed);
}

// Nobody sleeps while the other waits: available buffers.

fn kick(without: Without, layout: Layout, event_idx: bool) {
    loom::model(move || {
        let mem = Mem::new(without);
        // The device did not want to be told.
        if layout.is_packed() || !event_idx {
            mem.device_flags.store(1, Relaxed);
        }
        mem.device_event.store(0xffff, Relaxed);
        let mut ring = ring(&mem, layout, event_idx);
        let device = {
            let mem = mem.clone();
            thread::spawn(move || {
                // It does now, and looks again.
                if layout.is_packed() && event_idx {
                    let start = PackedIndex::START.off_wrap();
                    mem.device_event.store(start, Relaxed);
                    fence(Ordering::Release);
                    mem.device_flags.store(2, Relaxed);
                } else if event_idx {
                    mem.device_event.store(0, Relaxed);
                } else {
                    mem.device_flags.store(0, Relaxed);
                }
                fence(Ordering::SeqCst);
                if layout.is_packed() {
                    mem.desc[0].flags.load(Relaxed) & (AVAIL | USED) == AVAIL
                } else {
                    mem.avail_idx.load(Relaxed) == 1
                }
            })
        };
        add(&mut ring, 0);
        let kicked = ring.kick_prepare();
        let saw = device.join().unwrap();
        assert!(kicked || saw, "lost kick");
    });
}

#[test]
fn split_kick_is_not_lost() {
    kick(Without::Nothing, Layout::Split, false);
    kick(Without::Nothing, Layout::Split, true);
}

#[test]
#[should_panic = "lost kick"]
fn split_kick_needs_its_barrier() {
    kick(Without::Full, Layout::Split, false);
}

#[test]
#[should_panic = "lost kick"]
fn split_kick_with_event_idx_needs_its_barrier() {
    kick(Without::Full, Layout::Split, true);
}

#[test]
fn packed_kick_is_not_lost() {
    kick(Without::Nothing, Layout::Packed, false);
    kick(Without::Nothing, Layout::Packed, true);
}

#[test]
#[should_panic = "lost kick"]
fn packed_kick_needs_its_barrier() {
    kick(Without::Full, Layout::Packed, false);
}

#[test]
#[should_panic = "lost kick"]
fn packed_kick_with_event_idx_needs_its_barrier() {
    kick(Without::Full, Layout::Packed, true);
}
