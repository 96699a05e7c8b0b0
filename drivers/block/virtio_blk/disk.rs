// SPDX-License-Identifier: GPL-2.0

//! A disk: what it keeps while its device comes and goes.
//!
//! C source: `virtblk_probe`, `virtblk_remove`, `virtblk_freeze_priv`, `virtblk_restore_priv` in
//! `drivers/block/virtio_blk.c`.

use crate::{
    config::{
        self,
        Checked, //
    },
    counts::{
        Carrier,
        Counts, //
    },
    messages::{
        Messages,
        Topic, //
    },
    operations::{
        Disk,
        DiskRef, //
    },
    queue::Queue,
    statistics,
    MAJOR, //
};
use block_mq::{
    param,
    Expired,
    Geometry,
    Identity,
    Index,
    Limits,
    QueueOptions,
    Size,
    TagSet,
    MAX_DISKS, //
};
use kernel::{
    device,
    module::this_module,
    new_mutex,
    prelude::*,
    seq_file::SeqFile,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    },
    time::{
        delay::fsleep,
        Delta,
        Instant,
        Monotonic, //
    },
};
use virtio::{
    device::Device,
    handle::Handle,
    lifecycle::{
        Configured,
        Quiesced,
        Running, //
    },
    queue::Queues, //
};
#[cfg(CONFIG_BLK_DEV_ZONED)]
use virtio_spec::blk::{
    limits::Absurd,
    zone::Grid, //
};
use virtio_spec::{
    blk,
    transport,
    Features,
    Status, //
};

/// How long a device that works may take to end its requests before it is paused.
const DRAIN_DEADLINE: Delta = Delta::from_secs(5);
const DRAIN_INTERVAL: Delta = Delta::from_millis(1);

/// How long a request that timed out has from one measure to the next.
const PATIENCE: Delta = Delta::from_secs(5);

/// How often a request times out while the device is to be recovered, and is not.
const MAX_EXPIRATIONS: u32 = 6;

/// What is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The disk is being added: nobody can recover the device.
    Starting,
    /// The device works.
    Live,
    /// The device is reset, and comes back.
    Paused,
    /// The disk is being removed: nobody can recover the device.
    Removing,
    /// The device does not come back.
    Dead,
}

/// A disk.
#[pin_data]
pub(crate) struct Shared {
    index: Index,
    device: ARef<device::Device>,
    handle: Handle,
    features: Features,
    queues: KVec<Arc<Queue>>,
    options: QueueOptions,
    /// Descriptors of the smallest queue.
    queue_size: u16,
    geometry: Option<Geometry>,
    /// Sectors of a zone, 0 without zones.
    zone_sectors: u32,
    #[pin]
    state: Mutex<State>,
    /// `None` before it is made, and once it is being removed.
    #[pin]
    disk: Mutex<Option<Disk>>,
    /// What the block layer was told.
    #[pin]
    told: Mutex<Limits>,
    #[pin]
    messages: Messages,
    capacity: Atomic<u64>,
    write_cache: Atomic<u32>,
}

/// Numbers of queues, and descriptors of the smallest.
fn count(queues: &Queues<'_>) -> Result<(Counts, u16)> {
    let mut counts = Counts {
        default: 0,
        poll: 0,
    };
    let mut smallest = u16::MAX;
    for at in 0..queues.count() {
        if queues.has_interrupt(at) {
            counts.default += 1;
        } else {
            counts.poll += 1;
        }
        let size = queues.size(at).ok_or(EINVAL)?;
        smallest = smallest.min(u16::try_from(size).unwrap_or(u16::MAX));
    }
    Ok((counts, smallest))
}

impl Shared {
    /// Makes the disk of a device that has its queues.  May sleep.
    ///
    /// # Errors
    ///
    /// Why there cannot be one.
    pub(crate) fn new(dev: &Configured<'_>, queues: &mut Queues<'_>) -> Result<Arc<Self>> {
        let (Counts { default, poll }, queue_size) = count(queues)?;
        dev_info!(
            dev.as_device(),
            "{}/{}/{} default/read/poll queues\n",
            default,
            0,
            poll
        );
        let Checked { limits, geometry } = config::read(dev, queue_size, true)?;
        let features = dev.features();
        let depth = match param::queue_depth() {
            0 if features.has::<transport::IndirectDesc>() => queue_size.into(),
            // A request takes two descriptors at least.
            0 => u32::from(queue_size / 2),
            depth => depth,
        };
        let options = QueueOptions {
            default,
            poll,
            // As many as the block layer would cut it down to.
            depth: depth.clamp(1, block_mq::MAX_DEPTH),
            node: dev.numa_node(),
        };
        let zone_sectors = limits.zones.map_or(0, |zones| zones.sectors);
        let mut all = KVec::with_capacity(queues.count(), GFP_KERNEL)?;
        for at in 0..queues.count() {
            let queue = queues.take_requests(dev, at, options.depth as usize)?;
            let counts = features.has::<transport::Version1>();
            all.push(
                Arc::pin_init(Queue::new(queue, counts, zone_sectors), GFP_KERNEL)?,
                GFP_KERNEL,
            )?;
        }
        let block_limits = config::block_limits(&limits);
        let shared = Arc::pin_init(
            try_pin_init!(Self {
                index: Index::new(MAX_DISKS)?,
                device: dev.as_device().into(),
                handle: dev.handle()?,
                features,
                queues: all,
                options,
                queue_size,
                geometry,
                zone_sectors,
                state <- new_mutex!(State::Starting),
                disk <- new_mutex!(None),
                told <- new_mutex!(block_limits),
                messages <- Messages::new(),
                capacity: Atomic::new(limits.capacity),
                write_cache: Atomic::new(limits.write_cache.into()),
            }),
            GFP_KERNEL,
        )?;
        let tags = TagSet::new(options, dev.as_device().into(), shared.clone())?;
        let identity = Identity {
            prefix: b"vd",
            index: shared.index.get(),
            major: MAJOR.get(),
        };
        let disk = Disk::new(
            tags,
            &block_limits,
            &identity,
            this_module::<crate::LocalModule>(),
        )?;
        disk.set_read_only(limits.read_only);
        shared.set_max_zeroes(&limits);
        let size = Size::new(limits.capacity, limits.logical_block_size);
        dev_notice!(dev.as_device(), "[{}] {}\n", disk.name(), size);
        disk.set_capacity(limits.capacity);
        *shared.disk.lock() = Some(disk);
        Ok(shared)
    }

    /// Numbers of hardware queues.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            default: self.options.default,
            poll: self.options.poll,
        }
    }

    /// The hardware queue `index`.
    #[inline]
    pub(crate) fn queue(&self, index: usize) -> Option<&Arc<Queue>> {
        self.queues.get(index)
    }

    /// The geometry: what the device says, or else some standard values, as `sd` has them.
    pub(crate) fn geometry(&self) -> Option<Geometry> {
        if *self.state.lock() == State::Removing {
            return None;
        }
        Some(self.geometry.unwrap_or(Geometry {
            heads: 1 << 6,
            sectors: 1 << 5,
            cylinders: (self.capacity.load(Relaxed) >> 11) as u16,
        }))
    }

    /// Whether the device tells how worn it is.
    pub(crate) fn has_lifetime(&self) -> bool {
        self.features.has::<blk::Lifetime>()
    }

    /// Where the zones of the disk are, if it has any and `capacity` sectors.
    #[cfg(CONFIG_BLK_DEV_ZONED)]
    pub(crate) fn grid(&self, capacity: u64) -> Option<Grid> {
        (self.zone_sectors != 0).then_some(Grid {
            zone_sectors: self.zone_sectors,
            capacity,
        })
    }

    /// Logs what the device says of the zone at `start`, and cannot be.
    #[cfg(CONFIG_BLK_DEV_ZONED)]
    pub(crate) fn complain_of(&self, start: u64, absurd: &Absurd) {
        if self.messages.may_speak(Topic::Zone) {
            let absurd = core::format_args!("{absurd}");
            dev_err!(self.device, "zone at {}: {}\n", start, absurd);
        }
    }

    /// Has the block layer look at the zones of a disk that has some.  May sleep.
    #[cfg_attr(not(CONFIG_BLK_DEV_ZONED), expect(unused_variables))]
    fn revalidate_zones(&self, disk: &DiskRef) -> Result {
        #[cfg(CONFIG_BLK_DEV_ZONED)]
        if self.zone_sectors != 0 {
            disk.revalidate_zones()?;
        }
        Ok(())
    }

    /// Whether the device lets the driver choose whether it has a volatile cache.
    pub(crate) fn can_switch_cache(&self) -> bool {
        self.features.has::<blk::ConfigWce>()
    }

    /// Whether there is a volatile cache.
    pub(crate) fn has_cache(&self) -> bool {
        self.write_cache.load(Relaxed) != 0
    }

    /// Switches the volatile cache, and says what the device made of it.  May sleep.
    ///
    /// # Errors
    ///
    /// `EACCES` if the device does not let us, `ENODEV` without a device.
    pub(crate) fn switch_cache(&self, on: bool) -> Result<bool> {
        if !self.can_switch_cache() {
            return Err(EACCES);
        }
        let offset = blk::Config::WRITEBACK.offset() as u32;
        let read = self.handle.with(|dev| {
            dev.write_config(offset, &[on.into()]);
            let mut byte = [0];
            dev.read_config(offset, &mut byte).map(|()| byte != [0])
        });
        let on = read.ok_or(ENODEV)??;
        self.write_cache.store(on.into(), Relaxed);
        self.told.lock().write_cache = on;
        Ok(on)
    }

    /// Changes what is going on, and returns what it was.
    fn enter(&self, state: State) -> State {
        let old = core::mem::replace(&mut *self.state.lock(), state);
        // Somebody recovers the device then.
        let waits = matches!(state, State::Live | State::Paused);
        for queue in &self.queues {
            queue.set_waits(waits);
        }
        old
    }

    /// Shows the disk to everybody.  May sleep.
    ///
    /// # Errors
    ///
    /// Those of the driver core.
    pub(crate) fn add_disk(&self, dev: &Running<'_>) -> Result {
        // Not locked meanwhile: who adds it waits for requests.
        let mut disk = self.disk.lock().take().ok_or(ENODEV)?;
        let added = self
            .revalidate_zones(&disk)
            .and_then(|()| disk.add(dev.as_device()));
        *self.disk.lock() = Some(disk);
        added?;
        if *self.state.lock() == State::Starting {
            self.enter(State::Live);
            self.with_disk(|disk| disk.kick_requeued());
        }
        Ok(())
    }

    fn with_disk(&self, f: impl FnOnce(&Disk)) {
        if let Some(disk) = &*self.disk.lock() {
            f(disk);
        }
    }

    /// Takes the disk off the system, with all its requests ended.  May sleep.
    pub(crate) fn remove_disk(&self) {
        let before = self.enter(State::Removing);
        let Some(disk) = self.disk.lock().take() else {
            return;
        };
        if self.queues.iter().any(|queue| !queue.is_whole()) {
            // Nobody will answer: whoever waits is told so now.
            self.halt();
            disk.mark_dead();
        }
        if before == State::Paused {
            disk.unquiesce();
        }
        disk.kick_requeued();
        drop(disk);
    }

    /// Resets the device and ends all its requests, without the device lock.  May sleep.
    fn halt(&self) {
        self.handle.halt(|proof| {
            for queue in &self.queues {
                queue.take_all(proof, false);
            }
        });
    }

    /// Holds requests back.  Of a device that works, waits a little for those that it has.  May sleep.
    pub(crate) fn pause(&self, dev: &Device) {
        self.with_disk(|disk| disk.quiesce());
        self.enter(State::Paused);
        let start = Instant::<Monotonic>::now();
        while start.elapsed() < DRAIN_DEADLINE && self.is_busy(dev) {
            fsleep(DRAIN_INTERVAL);
        }
    }

    /// Whether a device that works still has requests.
    fn is_busy(&self, dev: &Device) -> bool {
        let status = dev.status();
        !status.is_all_ones()
            && !status.contains(Status::DEVICE_NEEDS_RESET)
            && self.queues.iter().all(|queue| queue.is_whole())
            && self.queues.iter().any(|queue| {
                queue.interrupt();
                queue.in_flight() != 0
            })
    }

    /// Takes back what a device that was reset had.  May sleep.
    pub(crate) fn take_all(&self, proof: &Quiesced<'_>) {
        let anew = *self.state.lock() == State::Paused;
        for queue in &self.queues {
            queue.take_all(proof, anew);
        }
    }

    /// Takes the queues of a device that is back.  Where it has fewer than it had, hardware queues of
    /// the block layer share one.  May sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` if they are more than they were, or shorter.
    pub(crate) fn resume(&self, dev: &Configured<'_>, queues: &mut Queues<'_>) -> Result {
        let (given, size) = count(queues)?;
        let before = self.counts();
        if size < self.queue_size {
            dev_err!(
                dev.as_device(),
                "came back with queues of {}, not {}\n",
                size,
                self.queue_size
            );
            return Err(EINVAL);
        }
        for (at, queue) in self.queues.iter().enumerate() {
            match given.carrier(before, at).ok_or(EINVAL)? {
                Carrier::Own(own) => {
                    let depth = self.options.depth as usize;
                    queue.replace(queues.take_requests(dev, own, depth)?);
                }
                Carrier::Other(other) => queue.share(self.queue(other).ok_or(EINVAL)?.clone()),
            }
        }
        if given != before {
            dev_warn!(
                dev.as_device(),
                "came back with {} queues, and {} to be polled: they are shared\n",
                given.default,
                given.poll
            );
        }
        Ok(())
    }

    /// Lets requests go on: to a device that is back, or to their end.
    pub(crate) fn go_on(&self, state: State) {
        let before = self.enter(state);
        self.with_disk(|disk| {
            if before == State::Paused {
                disk.unquiesce();
            }
            disk.kick_requeued();
        });
    }

    /// Looks at a configuration that may have changed.  May sleep.
    pub(crate) fn reconfigure(&self, dev: &Running<'_>) {
        let Ok(Checked { limits, .. }) = config::read(dev, self.queue_size, false) else {
            self.complain(
                Topic::Configuration,
                c"the configuration is absurd now, and not used",
            );
            return;
        };
        if limits.zones.map_or(0, |zones| zones.sectors) != self.zone_sectors {
            self.complain(
                Topic::Zone,
                c"the zones are not what they were: the configuration is not used",
            );
            return;
        }
        self.with_disk(|disk| {
            let before = disk.capacity();
            if before != limits.capacity {
                let size = Size::new(limits.capacity, limits.logical_block_size);
                if self.messages.may_speak(Topic::Size) {
                    dev_notice!(dev.as_device(), "[{}] new size: {}\n", disk.name(), size);
                }
                self.capacity.store(limits.capacity, Relaxed);
                disk.set_capacity(limits.capacity);
                if self.revalidate_zones(disk).is_err() {
                    self.complain(Topic::Zone, c"the zones of the new size cannot be used");
                }
            }
            self.change_limits(disk, config::block_limits(&limits));
        });
        self.set_max_zeroes(&limits);
    }

    /// Tells the block layer of limits that changed, but not of another block: who uses the disk has
    /// reckoned with that one.
    fn change_limits(&self, disk: &Disk, limits: Limits) {
        let mut known = self.told.lock();
        let limits = Limits {
            logical_block_size: known.logical_block_size,
            physical_block_size: known.physical_block_size,
            alignment_offset: known.alignment_offset,
            zones: known.zones,
            ..limits
        };
        if limits == *known {
            return;
        }
        match disk.change_limits(|update| update.set(&limits)) {
            Ok(()) => {
                self.write_cache.store(limits.write_cache.into(), Relaxed);
                *known = limits;
            }
            Err(_) => self.complain(
                Topic::Configuration,
                c"the block layer does not take the new limits",
            ),
        }
    }

    /// Tells the queues how many sectors a range of zeroes may have.
    fn set_max_zeroes(&self, limits: &virtio_spec::blk::limits::Limits) {
        let most = limits
            .write_zeroes
            .map_or(u32::MAX, |ranges| ranges.max_sectors);
        for queue in &self.queues {
            queue.set_max_zeroes(most);
        }
    }

    /// A request timed out.  Says how long to wait for it now.  Context of a work item.
    pub(crate) fn timeout(&self, queue: &Queue, expired: Expired) -> Delta {
        let carrier = queue.carrier();
        let queue = carrier.as_deref().unwrap_or(queue);
        queue.statistics.timeouts.count();
        let whole = queue.is_whole();
        if expired.times == 1 && expired.requeues == 0 && whole {
            self.complain(
                Topic::Nudge,
                c"a request timed out: the device is told again",
            );
            queue.nudge();
            return PATIENCE;
        }
        let state = *self.state.lock();
        match state {
            // Somebody resets the device already.
            State::Paused => {}
            State::Live if whole => {
                self.complain(Topic::Reset, c"a request timed out: the device is reset");
                queue.give_up();
            }
            // Somebody is about to.
            State::Live if expired.times < MAX_EXPIRATIONS => {}
            // Nobody does, or comes to it: who has the device may wait for this very request.
            _ => {
                self.complain(
                    Topic::Death,
                    c"a request timed out: the device is taken out of service",
                );
                if self.leave(state) {
                    self.halt();
                }
            }
        }
        PATIENCE
    }

    /// Prints what the queues count.
    pub(crate) fn print_statistics(&self, file: &SeqFile) {
        file.call_printf(core::format_args!("{}\n", statistics::HEADER));
        for (index, queue) in self.queues.iter().enumerate() {
            file.call_printf(core::format_args!("{} {}\n", index, queue.statistics));
        }
    }

    /// Has requests fail from now on, unless the state is not `from` any more.
    fn leave(&self, from: State) -> bool {
        {
            let mut state = self.state.lock();
            if *state != from {
                return false;
            }
            if from != State::Removing {
                *state = State::Dead;
            }
        }
        for queue in &self.queues {
            queue.set_waits(false);
        }
        true
    }

    /// Logs an error of which a device can cause many.
    fn complain(&self, topic: Topic, message: &CStr) {
        self.messages.complain(&self.device, topic, message);
    }
}
