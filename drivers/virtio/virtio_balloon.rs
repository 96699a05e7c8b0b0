// SPDX-License-Identifier: GPL-2.0

//! Memory balloon driver (specification 5.5).
//!
//! C source: `drivers/virtio/virtio_balloon.c`.
//!
//! A worker fills arrays with the numbers of pages, several at a time, and never waits: the device's
//! interrupt brings it back.  Pages go into the balloon, or to the kernel, when the device has used
//! their array.  The balloon outlives resets of the device; it is emptied before one that is asked
//! for.

#![forbid(unsafe_code)]

#[path = "virtio_balloon/exchange.rs"]
mod exchange;
#[path = "virtio_balloon/shared.rs"]
mod shared;
#[path = "virtio_balloon/statistics.rs"]
mod statistics;

use balloon::{
    Mover,
    OomNotifier,
    Task, //
};
use kernel::{
    new_mutex,
    prelude::*,
    seq_file::SeqFile,
    sync::{
        atomic::{
            AtomicFlag,
            Full, //
        },
        Arc,
        Mutex, //
    }, //
};
use shared::{
    Adjuster,
    Relief,
    Shared,
    SIZE,
    STATISTICS, //
};
use statistics::{
    Reporter,
    Statistics, //
};
use virtio::{
    device::Device,
    driver::Driver,
    lifecycle::{
        Configured,
        Init,
        Quiesced,
        Running, //
    },
    queue::{
        QueueSpec,
        Queues, //
    }, //
};
use virtio_spec::{
    balloon::{
        Balloon,
        DeflateOnOom,
        MustTellHost,
        PagePoison,
        StatsVq, //
    },
    Features,
    Status, //
};

virtio::module_virtio_driver! {
    type: VirtioBalloon,
    name: "virtio_balloon",
    authors: ["The rust-virtio authors"],
    description: "Virtio balloon driver",
    license: "GPL",
    alias: ["virtio:d00000005v*"],
}

/// Index of the queue for statistics, if there is one (section 5.5.2).
const STATS_QUEUE: usize = 2;

struct VirtioBalloon;

/// What the driver keeps of a device.
#[pin_data]
struct Data {
    // From the top: who asks, who works, what they work on.
    #[pin]
    oom: Mutex<Option<Pin<KBox<OomNotifier<Relief>>>>>,
    _mover: Mover,
    worker: Arc<Task<Adjuster>>,
    reporter: Option<Arc<Task<Reporter>>>,
    shared: Arc<Shared>,
    /// Workers are stopped.
    stopped: AtomicFlag,
    /// The device does not come back.
    leaving: AtomicFlag,
}

impl Data {
    /// Stops the workers, and waits for them.
    fn stop(&self) {
        if !self.stopped.xchg(true, Full) {
            self.worker.stop();
            if let Some(reporter) = &self.reporter {
                reporter.stop();
            }
        }
        self.shared.awake.end(SIZE | STATISTICS);
    }

    /// Lets them work again, and has them do what is due.
    fn go_on(&self, dev: &Device) {
        if self.stopped.xchg(false, Full) {
            self.worker.allow();
            if let Some(reporter) = &self.reporter {
                reporter.allow();
            }
        }
        self.shared.go_on(dev);
        self.schedule();
    }

    fn schedule(&self) {
        self.worker.schedule();
        if let Some(reporter) = &self.reporter {
            reporter.schedule();
        }
    }
}

impl Driver for VirtioBalloon {
    type Class = Balloon;
    type Data = Data;

    const FEATURES: Features = Features::EMPTY
        .with::<MustTellHost>()
        .with::<StatsVq>()
        .with::<DeflateOnOom>()
        .with::<PagePoison>();
    const KEEPS_DATA: bool = true;

    fn validate(_dev: &Device, features: Features) -> Features {
        balloon::free_pages().usable(features)
    }

    fn queues(dev: &Init<'_>) -> Result<KVec<QueueSpec>> {
        let mut specs = KVec::with_capacity(STATS_QUEUE + 1, GFP_KERNEL)?;
        let interrupt = true;
        for name in [c"inflate", c"deflate"] {
            specs.push(QueueSpec { name, interrupt }, GFP_KERNEL)?;
        }
        if dev.features().has::<StatsVq>() {
            let name = c"stats";
            specs.push(QueueSpec { name, interrupt }, GFP_KERNEL)?;
        }
        Ok(specs)
    }

    fn probe(dev: &Configured<'_>, queues: &mut Queues<'_>) -> Result<impl PinInit<Data, Error>> {
        let shared = Shared::new(dev, queues)?;
        let reporter = if dev.features().has::<StatsVq>() {
            let statistics = Statistics::new(dev, queues, STATS_QUEUE)?;
            Some(Task::new(Reporter(statistics, shared.awake.clone()))?)
        } else {
            None
        };
        Ok(try_pin_init!(Data {
            oom <- new_mutex!(None),
            _mover: Mover::new(shared.balloon(), shared.clone()),
            worker: Task::new(Adjuster(shared.clone()))?,
            reporter,
            shared,
            stopped: AtomicFlag::new(false),
            leaving: AtomicFlag::new(false),
        }))
    }

    fn ready(dev: &Running<'_>, data: Pin<&Data>) -> Result {
        if dev.features().has::<DeflateOnOom>() {
            let relief = Arc::new(Relief(data.worker.clone()), GFP_KERNEL)?;
            *data.oom.lock() = Some(OomNotifier::new(relief)?);
        }
        data.go_on(dev);
        Ok(())
    }

    fn used_buffers(data: Pin<&Data>, queue: u32) {
        if queue as usize == STATS_QUEUE {
            if let Some(reporter) = &data.reporter {
                data.shared.awake.begin(STATISTICS);
                reporter.schedule();
            }
        } else {
            data.shared.used.notify();
            data.worker.schedule();
        }
    }

    fn config_changed(_dev: &Running<'_>, data: Pin<&Data>) {
        // Until the worker has done what the device wants now.
        data.shared.awake.begin(SIZE);
    }

    fn reconfigure(dev: &Running<'_>, data: Pin<&Data>) {
        data.shared.read_target(dev);
        data.worker.schedule();
    }

    fn remove(data: Pin<&Data>) {
        data.leaving.xchg(true, Full);
        data.stop();
        let oom = data.oom.lock().take();
        drop(oom);
        data.shared.give_back();
    }

    fn pause(dev: &Device, data: Pin<&Data>) {
        data.stop();
        let status = dev.status();
        if status.is_all_ones() || status.contains(Status::DEVICE_NEEDS_RESET) {
            data.shared.close();
        } else {
            data.shared.give_back();
        }
    }

    fn quiesced(proof: &Quiesced<'_>, data: Pin<&Data>) {
        data.shared.quiesced(proof);
        if let Some(reporter) = &data.reporter {
            reporter.job().0.quiesced(proof);
        }
        if data.leaving.xchg(false, Full) {
            data.shared.balloon().empty(proof);
        }
    }

    fn resume(dev: &Configured<'_>, queues: &mut Queues<'_>, data: Pin<&Data>) -> Result {
        data.shared.resume(dev, queues)?;
        match &data.reporter {
            Some(reporter) => reporter.job().0.resume(dev, queues, STATS_QUEUE),
            None => Ok(()),
        }
    }

    fn resumed(dev: &Running<'_>, data: Pin<&Data>) {
        data.go_on(dev);
    }

    fn statistics(data: Pin<&Data>, file: &SeqFile) {
        data.shared.print_statistics(file);
    }
}
