// SPDX-License-Identifier: GPL-2.0

//! Memory balloon driver (specification 5.5).
//!
//! C source: `drivers/virtio/virtio_balloon.c`.
//!
//! A worker fills arrays with the numbers of pages, several at a time, and never waits: the device's
//! interrupt brings it back.  Pages go into the balloon, or to the kernel, when the device has used
//! their array.  The balloon outlives resets of the device; it is emptied before one that is asked
//! for.
//!
//! Beside it the device may be told of pages that are free and stay the guest's: reports, which the
//! kernel asks for, and hints, which the device does.

#![forbid(unsafe_code)]

#[path = "virtio_balloon/exchange.rs"]
mod exchange;
#[path = "virtio_balloon/hints.rs"]
mod hints;
#[path = "virtio_balloon/reporting.rs"]
mod reporting;
#[path = "virtio_balloon/shared.rs"]
mod shared;
#[path = "virtio_balloon/statistics.rs"]
mod statistics;

use balloon::{
    Mover,
    OomNotifier,
    PageReporting,
    Shrinker,
    Task, //
};
use hints::{
    Hinter,
    Hints, //
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
use reporting::Reporting;
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
        FreePageHint,
        MustTellHost,
        PagePoison,
        QueueIndices,
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

struct VirtioBalloon;

/// What the driver keeps of a device.
#[pin_data]
struct Data {
    // From the top: who asks, who works, what they work on.
    #[pin]
    oom: Mutex<Option<Pin<KBox<OomNotifier<Relief>>>>>,
    #[pin]
    page_reporting: Mutex<Option<Pin<KBox<PageReporting<Reporting>>>>>,
    _mover: Mover,
    _shrinker: Option<Shrinker<Hints>>,
    worker: Arc<Task<Adjuster>>,
    reporter: Option<Arc<Task<Reporter>>>,
    hinter: Option<Arc<Task<Hinter>>>,
    reporting: Option<Arc<Reporting>>,
    shared: Arc<Shared>,
    indices: QueueIndices,
    /// Workers are stopped.
    stopped: AtomicFlag,
    /// The device does not come back.
    leaving: AtomicFlag,
}

impl Data {
    /// Stops the workers, and waits for them.
    fn stop(&self) {
        let page_reporting = self.page_reporting.lock().take();
        drop(page_reporting);
        if !self.stopped.xchg(true, Full) {
            self.worker.stop();
            if let Some(reporter) = &self.reporter {
                reporter.stop();
            }
            if let Some(hinter) = &self.hinter {
                hinter.stop();
            }
        }
        if let Some(hints) = self.hints() {
            hints.free();
        }
        self.shared.awake.end(SIZE | STATISTICS);
    }

    /// Nobody asks any more when memory runs out.
    fn ignore_shortages(&self) {
        let oom = self.oom.lock().take();
        drop(oom);
    }

    fn hints(&self) -> Option<&Hints> {
        self.hinter.as_ref().map(|hinter| &*hinter.job().0)
    }

    /// Has the kernel say what is free.
    fn start_reporting(&self, dev: &Device) {
        let Some(reporting) = &self.reporting else {
            return;
        };
        match PageReporting::new(reporting.clone(), reporting.runs()) {
            Ok(page_reporting) => *self.page_reporting.lock() = Some(page_reporting),
            Err(error) => {
                dev_warn!(
                    dev.as_device(),
                    "free pages are not reported: {:?}\n",
                    error
                );
            }
        }
    }

    /// Reads what the device wants.
    fn read_config(&self, dev: &Device) {
        self.shared.read_target(dev);
        if let Some(hints) = self.hints() {
            hints.read_command(dev);
        }
    }

    /// Lets them work again, and has them do what is due.
    fn go_on(&self, dev: &Device) {
        if self.stopped.xchg(false, Full) {
            self.worker.allow();
            if let Some(reporter) = &self.reporter {
                reporter.allow();
            }
            if let Some(hinter) = &self.hinter {
                hinter.allow();
            }
        }
        self.shared.go_on(dev);
        self.read_config(dev);
        self.schedule();
        self.start_reporting(dev);
    }

    fn schedule(&self) {
        self.worker.schedule();
        if let Some(reporter) = &self.reporter {
            reporter.schedule();
        }
        if let Some(hinter) = &self.hinter {
            hinter.schedule();
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
        .with::<FreePageHint>()
        .with::<PagePoison>()
        .with::<virtio_spec::balloon::Reporting>();
    const KEEPS_DATA: bool = true;

    fn validate(_dev: &Device, features: Features) -> Features {
        balloon::free_pages().usable(features)
    }

    fn queues(dev: &Init<'_>) -> Result<KVec<QueueSpec>> {
        let mut specs = KVec::new();
        let QueueIndices {
            stats,
            free_page,
            reporting,
        } = QueueIndices::of(dev.features());
        for (name, exists, interrupt) in [
            (c"inflate", true, true),
            (c"deflate", true, true),
            (c"stats", stats.is_some(), true),
            (c"free_page_vq", free_page.is_some(), false),
            (c"reporting_vq", reporting.is_some(), true),
        ] {
            if exists {
                specs.push(QueueSpec { name, interrupt }, GFP_KERNEL)?;
            }
        }
        Ok(specs)
    }

    fn probe(dev: &Configured<'_>, queues: &mut Queues<'_>) -> Result<impl PinInit<Data, Error>> {
        let indices = QueueIndices::of(dev.features());
        let shared = Shared::new(dev, queues)?;
        let (mut reporter, mut hinter, mut shrinker, mut reporting) = (None, None, None, None);
        if let Some(index) = indices.stats {
            let statistics = Statistics::new(dev, queues, index)?;
            reporter = Some(Task::new(Reporter(statistics, shared.awake.clone()))?);
        }
        if let Some(index) = indices.free_page {
            let hints = Hints::new(dev, queues, index)?;
            shrinker = Some(Shrinker::new(c"virtio-balloon", hints.clone())?);
            hinter = Some(Task::new(Hinter(hints))?);
        }
        if let Some(index) = indices.reporting {
            reporting = Some(Reporting::new(dev, queues, index)?);
        }
        Ok(try_pin_init!(Data {
            oom <- new_mutex!(None),
            page_reporting <- new_mutex!(None),
            _mover: Mover::new(shared.balloon(), shared.clone()),
            _shrinker: shrinker,
            worker: Task::new(Adjuster(shared.clone()))?,
            reporter,
            hinter,
            reporting,
            shared,
            indices,
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
        let queue = Some(queue as usize);
        if queue == data.indices.stats {
            if let Some(reporter) = &data.reporter {
                data.shared.awake.begin(STATISTICS);
                reporter.schedule();
            }
        } else if queue == data.indices.reporting {
            if let Some(reporting) = &data.reporting {
                reporting.used.notify();
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
        data.read_config(dev);
        data.worker.schedule();
        if let Some(hinter) = &data.hinter {
            hinter.schedule();
        }
    }

    fn remove(data: Pin<&Data>) {
        data.leaving.xchg(true, Full);
        data.stop();
        data.ignore_shortages();
        data.shared.give_back();
    }

    fn shutdown(data: Pin<&Data>) {
        data.stop();
        data.ignore_shortages();
        data.shared.close();
    }

    fn pause(dev: &Device, data: Pin<&Data>) {
        let status = dev.status();
        let is_dead = status.is_all_ones()
            || status.contains(Status::DEVICE_NEEDS_RESET)
            || !data.shared.works();
        if let Some(reporting) = data.reporting.as_ref().filter(|_| is_dead) {
            reporting.abandon();
        }
        data.stop();
        if is_dead {
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
        if let Some(hints) = data.hints() {
            hints.quiesced(proof);
        }
        if let Some(reporting) = &data.reporting {
            reporting.quiesced(proof);
        }
        if data.leaving.xchg(false, Full) {
            data.shared.balloon().empty(proof);
        }
    }

    fn resume(dev: &Configured<'_>, queues: &mut Queues<'_>, data: Pin<&Data>) -> Result {
        data.shared.resume(dev, queues)?;
        // The same features, the same queues.
        if let (Some(reporter), Some(index)) = (&data.reporter, data.indices.stats) {
            reporter.job().0.resume(dev, queues, index)?;
        }
        if let (Some(hints), Some(index)) = (data.hints(), data.indices.free_page) {
            hints.resume(dev, queues, index)?;
        }
        if let (Some(reporting), Some(index)) = (&data.reporting, data.indices.reporting) {
            reporting.resume(dev, queues, index)?;
        }
        Ok(())
    }

    fn resumed(dev: &Running<'_>, data: Pin<&Data>) {
        data.go_on(dev);
    }

    fn statistics(data: Pin<&Data>, file: &SeqFile) {
        let reported = data.reporting.as_ref().map_or(0, |it| it.reported());
        let hinted = data.hints().map_or(0, Hints::hinted);
        data.shared.print_statistics(file, reported, hinted);
    }
}
