// SPDX-License-Identifier: GPL-2.0

//! The vhost-user side: takes requests, lets the device serve them, and completes them with or without a lie.

use crate::{
    device::{
        self,
        Answer,
        Device, //
    },
    ring::{
        Chain,
        Layout,
        Ring, //
    },
    scenario::{
        hex,
        Id,
        Kind,
        Lie,
        NamedId,
        Scenario, //
    },
};
use std::{
    collections::{
        HashMap,
        VecDeque, //
    },
    error::Error,
    io,
    mem,
    process,
    thread,
    time::Duration, //
};
use vhost::vhost_user::message::{
    VhostUserProtocolFeatures,
    VhostUserVirtioFeatures, //
};
use vhost_user_backend::{
    VhostUserBackendMut,
    VringMutex,
    VringT, //
};
use virtio_bindings::bindings::{
    virtio_config::{
        VIRTIO_F_RING_PACKED,
        VIRTIO_F_VERSION_1, //
    },
    virtio_ring::{
        VIRTIO_RING_F_EVENT_IDX,
        VIRTIO_RING_F_INDIRECT_DESC, //
    },
};
use virtio_queue::QueueT;
use vm_memory::{
    GuestAddressSpace,
    GuestMemoryAtomic,
    GuestMemoryMmap, //
};
use vmm_sys_util::{
    epoll::EventSet,
    event::{
        new_event_consumer_and_notifier,
        EventConsumer,
        EventFlag,
        EventNotifier, //
    },
};

const QUEUE_SIZE: usize = 1024;
const INTERRUPT_GAP: Duration = Duration::from_micros(100);
/// Lines about one lie.
const MAX_LINES: u64 = 4;

/// What is known of a queue.
#[derive(Default)]
struct Queue {
    ring: Option<Ring>,
    /// Requests seen over the life of the backend.
    requests: u64,
    /// Buffers that wait for something to put into them.
    waiting: VecDeque<Chain>,
    /// Requests that are to be completed last one first.
    held: Vec<(Chain, u32)>,
    /// The id that was given back last.
    stale: u32,
    /// Interrupts that are due.
    interrupts: u32,
}

/// The device as a vhost-user backend.
pub struct Hostile {
    device: Device,
    scenario: Scenario,
    features: u64,
    config: Vec<u8>,
    acked: u64,
    memory: Option<GuestMemoryAtomic<GuestMemoryMmap>>,
    queues: Vec<Queue>,
    /// Block requests seen of each type.
    kinds: HashMap<u32, u64>,
}

impl Hostile {
    /// The device of `scenario`, with packed rings on offer if `packed`.
    ///
    /// # Errors
    ///
    /// A scenario with bytes that are none.
    pub fn new(scenario: Scenario, packed: bool) -> Result<Self, Box<dyn Error>> {
        let device = Device::new(&scenario);
        let mut features = device.features()
            | 1 << VIRTIO_F_VERSION_1
            | 1 << VIRTIO_RING_F_EVENT_IDX
            | 1 << VIRTIO_RING_F_INDIRECT_DESC
            | u64::from(packed) << VIRTIO_F_RING_PACKED
            | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        let bits = |bits: &[u8]| bits.iter().fold(0u64, |all, bit| all | 1 << (bit & 63));
        features = features & !bits(&scenario.features.clear) | bits(&scenario.features.set);
        let mut config = device.config();
        for patch in &scenario.config {
            let bytes = hex(&patch.bytes)?;
            config
                .get_mut(patch.at..patch.at + bytes.len())
                .ok_or("configuration bytes beyond the end")?
                .copy_from_slice(&bytes);
        }
        let queues = (0..device.queues()).map(|_| Queue::default()).collect();
        Ok(Self {
            device,
            scenario,
            features,
            config,
            acked: 0,
            memory: None,
            queues,
            kinds: HashMap::new(),
        })
    }

    /// Its configuration.
    pub fn config(&self) -> &[u8] {
        &self.config
    }

    /// Forgets the queues: the device was reset.
    pub fn stop(&mut self) {
        for queue in &mut self.queues {
            queue.ring = None;
            queue.waiting.clear();
            queue.held.clear();
        }
    }

    /// How far it has come with queue `index`; `None` if it does not use it.
    pub fn base(&self, index: usize) -> Option<u16> {
        let queue = self.queues.get(index)?;
        queue.ring.as_ref().map(Ring::base)
    }

    /// Takes what the driver has added to queue `index`, which is at `layout` if it was not known; says how
    /// many interrupts are due.
    ///
    /// # Errors
    ///
    /// Addresses outside of `memory`.
    pub fn run(
        &mut self,
        index: usize,
        layout: Layout,
        base: u16,
        memory: &GuestMemoryMmap,
    ) -> io::Result<u32> {
        let Some(queue) = self.queues.get_mut(index) else {
            return Ok(0);
        };
        if queue.ring.is_none() {
            queue.ring = Some(Ring::new(layout, base, memory)?);
        }
        self.take(index, memory)?;
        Ok(mem::take(&mut self.queues[index].interrupts))
    }

    /// The lie about the next request of `queue`, of type `kind`, which is counted.
    fn next_lie(&mut self, queue: usize, kind: Option<u32>) -> Option<Lie> {
        let number = {
            let queue = self.queues.get_mut(queue)?;
            queue.requests += 1;
            queue.requests
        };
        let of_kind = kind.map_or(number, |kind| {
            let count = self.kinds.entry(kind).or_default();
            *count += 1;
            *count
        });
        let counted = |lie: &Lie| {
            if lie.kind.is_some() {
                of_kind
            } else {
                number
            }
        };
        let mut lies = self.scenario.lies.iter();
        let lie = lies.find(|lie| lie.is_about(queue, counted(lie), kind))?;
        let (lie, number) = (lie.clone(), counted(lie));
        if number - lie.from < MAX_LINES {
            println!("lie: request {number} of queue {queue}");
        }
        Some(lie)
    }

    /// Takes what the driver has added to `queue`.
    fn take(&mut self, queue: usize, memory: &GuestMemoryMmap) -> io::Result<()> {
        loop {
            // All are read before the first is answered: what a lie overwrites, the device has behind it.
            let mut chains = Vec::new();
            while let Some(ring) = self.queues[queue].ring.as_mut() {
                let Some(chain) = ring.pop(memory)? else {
                    break;
                };
                chains.push(chain);
            }
            if chains.is_empty() {
                return Ok(());
            }
            for chain in chains {
                self.answer(queue, memory, chain)?;
            }
        }
    }

    fn answer(&mut self, queue: usize, memory: &GuestMemoryMmap, chain: Chain) -> io::Result<()> {
        // A buffer to receive into counts once there is something for it.
        if self.scenario.device == Kind::Net && queue == 0 {
            self.queues[queue].waiting.push_back(chain);
            return Ok(());
        }
        let kind = self.device.request_kind(memory, &chain);
        let lie = self.next_lie(queue, kind);
        match self.device.serve(memory, &chain, lie.as_ref())? {
            Answer::Done(len) => self.complete(queue, memory, chain, len, lie.as_ref())?,
            Answer::Forward(other, bytes) => {
                self.complete(queue, memory, chain, 0, lie.as_ref())?;
                self.deliver(other, memory, bytes)?;
            }
        }
        Ok(())
    }

    /// Gives `bytes` to the oldest waiting buffer of `queue`; without one they are lost.
    fn deliver(
        &mut self,
        queue: usize,
        memory: &GuestMemoryMmap,
        mut bytes: Vec<u8>,
    ) -> io::Result<()> {
        let Some(chain) = self.queues[queue].waiting.pop_front() else {
            return Ok(());
        };
        let lie = self.next_lie(queue, None);
        if let Some(header) = lie.as_ref().and_then(|lie| lie.header.as_deref()) {
            let header = hex(header).map_err(|error| io::Error::other(error.to_string()))?;
            for (place, byte) in bytes.iter_mut().zip(header) {
                *place = byte;
            }
        }
        if let Some(most) = lie.as_ref().and_then(|lie| lie.write) {
            bytes.truncate(most as usize);
        }
        let len = device::write(memory, &chain, &bytes)?;
        self.complete(queue, memory, chain, len, lie.as_ref())
    }

    /// Gives `chain` back with `len` bytes, or does to it what `lie` says.
    fn complete(
        &mut self,
        queue: usize,
        memory: &GuestMemoryMmap,
        chain: Chain,
        len: u32,
        lie: Option<&Lie>,
    ) -> io::Result<()> {
        let Queue {
            ring: Some(ring),
            held,
            stale,
            interrupts,
            ..
        } = &mut self.queues[queue]
        else {
            return Ok(());
        };
        let slots = chain.slots.len() as u16;
        let Some(lie) = lie else {
            ring.push(memory, chain.id.into(), len, slots)?;
            *stale = chain.id.into();
            *interrupts += 1;
            return Ok(());
        };
        if lie.exit {
            process::exit(0);
        }
        if lie.silent {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(lie.delay));
        for rewrite in &lie.descriptors {
            ring.rewrite(memory, &chain, rewrite)?;
        }
        if lie.avail {
            ring.overwrite_avail(memory)?;
        }
        let claimed = lie.len.unwrap_or(len);
        if let Some(count) = lie.reverse {
            held.push((chain, claimed));
            if held.len() >= count {
                for (chain, len) in held.drain(..).rev() {
                    ring.push(memory, chain.id.into(), len, chain.slots.len() as u16)?;
                }
                *interrupts += 1;
            }
            return Ok(());
        }
        let id = match &lie.id {
            None => chain.id.into(),
            Some(Id::Number(id)) => *id,
            Some(Id::Named(NamedId::Stale)) => *stale,
            Some(Id::Named(NamedId::Middle)) => {
                chain.slots.get(1).copied().unwrap_or(chain.id).into()
            }
            Some(Id::Named(NamedId::Free)) => (ring.size() - 1).into(),
            Some(Id::Named(NamedId::Wide)) => u32::from(chain.id) | 1 << 16,
        };
        ring.push(memory, id, claimed, slots)?;
        for _ in 0..lie.repeat {
            ring.push(memory, id, claimed, 1)?;
        }
        if let Some(by) = lie.index {
            ring.move_used(memory, by)?;
        }
        for _ in 0..lie.ahead.unwrap_or(0) {
            ring.push(memory, id, claimed, 1)?;
        }
        *stale = chain.id.into();
        *interrupts += lie.interrupts + u32::from(!lie.quiet);
        Ok(())
    }
}

impl VhostUserBackendMut for Hostile {
    type Bitmap = ();
    type Vring = VringMutex;

    fn num_queues(&self) -> usize {
        self.queues.len()
    }

    fn max_queue_size(&self) -> usize {
        QUEUE_SIZE
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn acked_features(&mut self, features: u64) {
        self.acked = features;
        for queue in &mut self.queues {
            queue.ring = None;
        }
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        let features = VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::REPLY_ACK;
        if self.scenario.device == Kind::Blk {
            features | VhostUserProtocolFeatures::CONFIG
        } else {
            features
        }
    }

    fn set_event_idx(&mut self, _enabled: bool) {}

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.config.iter().skip(offset as usize).copied().collect();
        bytes.resize(size as usize, 0);
        bytes
    }

    fn update_memory(&mut self, memory: GuestMemoryAtomic<GuestMemoryMmap>) -> io::Result<()> {
        self.memory = Some(memory);
        Ok(())
    }

    fn exit_event(&self, _thread: usize) -> Option<(EventConsumer, EventNotifier)> {
        new_event_consumer_and_notifier(EventFlag::NONBLOCK).ok()
    }

    fn stop_vring(&mut self, queue: u32) -> io::Result<()> {
        if let Some(queue) = self.queues.get_mut(queue as usize) {
            queue.ring = None;
            queue.waiting.clear();
            queue.held.clear();
        }
        Ok(())
    }

    fn handle_event(
        &mut self,
        event: u16,
        _events: EventSet,
        vrings: &[VringMutex],
        _thread: usize,
    ) -> io::Result<()> {
        let index = usize::from(event);
        let (Some(memory), Some(vring)) = (self.memory.clone(), vrings.get(index)) else {
            return Ok(());
        };
        let memory = memory.memory();
        let Some(queue) = self.queues.get_mut(index) else {
            return Ok(());
        };
        if queue.ring.is_none() {
            let state = vring.get_ref();
            let place = state.get_queue();
            let layout = Layout {
                desc: place.desc_table(),
                driver: place.avail_ring(),
                device: place.used_ring(),
                size: place.size(),
                packed: self.acked >> VIRTIO_F_RING_PACKED & 1 != 0,
                event_idx: self.acked >> VIRTIO_RING_F_EVENT_IDX & 1 != 0,
            };
            queue.ring = Some(Ring::new(layout, place.next_avail(), &memory)?);
        }
        if let Err(error) = self.take(index, &memory) {
            // The guest, or a lie told to it, made the ring unreadable: wait for a reset.
            println!("queue {index}: {error}");
        }
        for (queue, vring) in self.queues.iter_mut().zip(vrings) {
            if let Some(ring) = &queue.ring {
                vring.get_mut().get_queue_mut().set_next_avail(ring.base());
            }
            for count in 0..queue.interrupts {
                // Two that follow each other at once would be one.
                thread::sleep(INTERRUPT_GAP * count.min(1));
                vring.signal_used_queue()?;
            }
            queue.interrupts = 0;
        }
        Ok(())
    }
}
