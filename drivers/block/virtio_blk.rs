// SPDX-License-Identifier: GPL-2.0

//! Block driver: `/dev/vdX` from a virtio device (specification 5.2).
//!
//! C source: `drivers/block/virtio_blk.c`.
//!
//! Each virtqueue is a hardware queue of the block layer.  Requests go into it under its lock, are
//! taken out under it in one go, and are ended outside of it.  The disk outlives resets of the
//! device: over a freeze or a recovery the block layer holds its requests back, and those that the
//! device had are queued again.

#![forbid(unsafe_code)]

#[path = "virtio_blk/attributes.rs"]
mod attributes;
#[path = "virtio_blk/command.rs"]
mod command;
#[path = "virtio_blk/config.rs"]
mod config;
#[path = "virtio_blk/counts.rs"]
mod counts;
#[path = "virtio_blk/disk.rs"]
mod disk;
#[path = "virtio_blk/messages.rs"]
mod messages;
#[path = "virtio_blk/operations.rs"]
mod operations;
#[path = "virtio_blk/queue.rs"]
mod queue;
#[path = "virtio_blk/statistics.rs"]
mod statistics;
#[cfg(CONFIG_BLK_DEV_ZONED)]
#[path = "virtio_blk/zones.rs"]
mod zones;

use block_mq::{
    num_possible_queues,
    param,
    Major,
    MajorNumber, //
};
use core::ops::Deref;
use counts::Counts;
use disk::{
    Shared,
    State, //
};
use kernel::{
    driver,
    prelude::*,
    seq_file::SeqFile,
    sync::Arc,
    InPlaceModule,
    ModuleMetadata, //
};
use virtio::{
    device::Device,
    driver::{
        Adapter,
        Driver, //
    },
    lifecycle::{
        Configured,
        Init,
        Quiesced,
        Running, //
    },
    queue::{
        QueueSpec,
        Queues, //
    },
};
use virtio_spec::{
    blk::{
        self,
        Blk, //
    },
    Features, //
};

/// The major number of all disks.
static MAJOR: MajorNumber = MajorNumber::new();

#[pin_data]
struct BlkModule {
    // Disks go before their number does.
    #[pin]
    _driver: driver::Registration<Adapter<VirtioBlk>>,
    _major: Major,
}

impl InPlaceModule for BlkModule {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _major: {
                let major = Major::new(c"virtblk")?;
                MAJOR.set(&major);
                major
            },
            _driver <- driver::Registration::new(<Self as ModuleMetadata>::NAME, module),
        })
    }
}

module! {
    type: BlkModule,
    name: "virtio_blk",
    authors: ["The rust-virtio authors"],
    description: "Virtio block driver",
    license: "GPL",
    alias: ["virtio:d00000002v*"],
}

struct VirtioBlk;

/// What the driver keeps of a device.
#[pin_data]
struct Data {
    shared: Owner,
}

/// The disk, which the block layer has too: it goes when its device does.
struct Owner(Arc<Shared>);

impl Deref for Owner {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.remove_disk();
    }
}

/// How many queues the device has.
fn most_queues(dev: &Init<'_>) -> Result<u32> {
    if !dev.features().has::<blk::Mq>() {
        return Ok(1);
    }
    let mut bytes = [0; 2];
    dev.read_config(blk::Config::NUM_QUEUES.offset() as u32, &mut bytes)?;
    match u16::from_le_bytes(bytes) {
        0 => {
            dev_err!(dev.as_device(), "MQ advertised but zero queues reported\n");
            Err(EINVAL)
        }
        most => Ok(most.into()),
    }
}

/// How many queues there are to be.
fn wanted_counts(dev: &Init<'_>) -> Result<Counts> {
    let most = most_queues(dev)?;
    let wanted = param::num_request_queues();
    let count = num_possible_queues(if wanted == 0 { most } else { most.min(wanted) });
    let poll = param::poll_queues().min(count.saturating_sub(1));
    Ok(Counts {
        default: count - poll,
        poll,
    })
}

fn specs(counts: Counts) -> Result<KVec<QueueSpec>> {
    let mut specs = KVec::new();
    for (name, count, interrupt) in [
        (c"req", counts.default, true),
        (c"req_poll", counts.poll, false),
    ] {
        for _ in 0..count {
            specs.push(QueueSpec { name, interrupt }, GFP_KERNEL)?;
        }
    }
    Ok(specs)
}

/// The features that the driver can use; zones only if the kernel knows what they are: a device that
/// cannot do without must be refused before FEATURES_OK.
const FEATURES: Features = {
    let features = Features::EMPTY
        .with::<blk::SizeMax>()
        .with::<blk::SegMax>()
        .with::<blk::Geometry>()
        .with::<blk::Ro>()
        .with::<blk::BlkSize>()
        .with::<blk::Flush>()
        .with::<blk::Topology>()
        .with::<blk::ConfigWce>()
        .with::<blk::Mq>()
        .with::<blk::Discard>()
        .with::<blk::WriteZeroes>()
        .with::<blk::Lifetime>()
        .with::<blk::SecureErase>();
    if cfg!(CONFIG_BLK_DEV_ZONED) {
        features.with::<blk::Zoned>()
    } else {
        features
    }
};

impl Driver for VirtioBlk {
    type Class = Blk;
    type Data = Data;

    const FEATURES: Features = FEATURES;
    const KEEPS_DATA: bool = true;
    const SPREADS_QUEUES: bool = true;

    fn queues(dev: &Init<'_>) -> Result<KVec<QueueSpec>> {
        specs(wanted_counts(dev)?)
    }

    fn queues_again(dev: &Init<'_>, data: Pin<&Data>) -> Result<KVec<QueueSpec>> {
        // The block layer's queues stay as many as they are, and share those that there are now.
        specs(data.shared.counts().at_most(most_queues(dev)?))
    }

    fn probe(dev: &Configured<'_>, queues: &mut Queues<'_>) -> Result<impl PinInit<Data, Error>> {
        let shared = Owner(Shared::new(dev, queues)?);
        Ok(try_pin_init!(Data { shared }))
    }

    fn ready(dev: &Running<'_>, data: Pin<&Data>) -> Result {
        data.shared.add_disk(dev)
    }

    fn used_buffers(data: Pin<&Data>, queue: u32) {
        if let Some(queue) = data.shared.queue(queue as usize) {
            queue.interrupt();
        }
    }

    fn reconfigure(dev: &Running<'_>, data: Pin<&Data>) {
        data.shared.reconfigure(dev);
    }

    fn remove(data: Pin<&Data>) {
        data.shared.remove_disk();
    }

    fn pause(dev: &Device, data: Pin<&Data>) {
        data.shared.pause(dev);
    }

    fn quiesced(proof: &Quiesced<'_>, data: Pin<&Data>) {
        data.shared.take_all(proof);
    }

    fn resume(dev: &Configured<'_>, queues: &mut Queues<'_>, data: Pin<&Data>) -> Result {
        data.shared.resume(dev, queues)
    }

    fn resumed(dev: &Running<'_>, data: Pin<&Data>) {
        data.shared.go_on(State::Live);
        data.shared.reconfigure(dev);
    }

    fn abandoned(data: Pin<&Data>) {
        data.shared.go_on(State::Dead);
    }

    fn statistics(data: Pin<&Data>, file: &SeqFile) {
        data.shared.print_statistics(file);
    }
}
