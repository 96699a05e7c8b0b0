// SPDX-License-Identifier: GPL-2.0

//! What the balloon of a device is made to hold, and by whom: the device says how much, a worker
//! does it, others want some back at once.
//!
//! C source: `update_balloon_size_func`, `virtio_balloon_oom_notify`, `virtballoon_migratepage` and
//! `remove_common`.  Nobody waits here for the device without a deadline, and the worker not at all.

use crate::exchange::{
    Exchange,
    Moved, //
};
use balloon::{
    Again,
    Balloon,
    Event,
    Idle,
    Migrate,
    Migration,
    Transfer,
    WakeSource, //
};
use kernel::{
    device,
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
    time::Delta, //
};
use virtio::{
    device::Device,
    handle::Handle,
    lifecycle::{
        Configured,
        Quiesced, //
    },
    queue::Queues, //
};
use virtio_spec::{
    balloon::{
        target::Backoff,
        Config,
        DeflateOnOom,
        PagePoison,
        Wire, //
    },
    Untrusted, //
};

/// Pages of the device that are given back when memory runs out (C: `VIRTIO_BALLOON_OOM_NR_PAGES`).
const OOM_PAGES: u64 = 256;

/// How long somebody waits for the device who wants memory, or a page moved.
const AT_ONCE_DEADLINE: Delta = Delta::from_secs(1);

/// How long a device may take to give any page back while the balloon is emptied.
const EMPTY_DEADLINE: Delta = Delta::from_secs(5);

/// When pages are looked for again that are being moved, in milliseconds.
const MOVED_INTERVAL_MS: u32 = 10;

/// When the device is looked at that does not interrupt, in milliseconds.
const SILENT_INTERVAL_MS: u32 = 1000;

/// Why the system stays awake: the size of the balloon, and the statistics.
pub(crate) const SIZE: u32 = 1;
pub(crate) const STATISTICS: u32 = 2;

/// More than fits into a balloon whose pages have numbers, with the reserve.
const UNKNOWN: u32 = u32::MAX;

/// The balloon of a device.
#[pin_data]
pub(crate) struct Shared {
    dev: ARef<device::Device>,
    handle: Handle,
    balloon: Arc<Balloon>,
    wire: Wire,
    #[pin]
    exchange: Mutex<Exchange>,
    /// The device has used arrays.
    #[pin]
    pub(crate) used: Event,
    /// What the device was told last that is in the balloon, or [`UNKNOWN`].
    actual: Atomic<u32>,
    #[pin]
    backoff: Mutex<Backoff>,
    /// As long as the device is to have, or to be told, something.
    pub(crate) awake: Arc<WakeSource>,
    /// How often memory was missing.
    shortages: Atomic<i64>,
}

impl Shared {
    /// Takes the queues of a device for an empty balloon.  May sleep.
    ///
    /// # Errors
    ///
    /// Why the device cannot be driven.
    pub(crate) fn new(dev: &Configured<'_>, queues: &mut Queues<'_>) -> Result<Arc<Self>> {
        let features = dev.features();
        // What comes back when memory runs out is still the guest's.
        let balloon = Balloon::new(!features.has::<DeflateOnOom>())?;
        let exchange = Exchange::new(dev, queues, &balloon)?;
        let handle = dev.handle()?;
        let awake = WakeSource::new(dev.as_device())?;
        Arc::pin_init(
            try_pin_init!(Self {
                dev: dev.as_device().into(),
                handle,
                balloon,
                wire: Wire::of(features),
                exchange <- new_mutex!(exchange),
                used <- Event::new(),
                actual: Atomic::new(UNKNOWN),
                backoff <- new_mutex!(Backoff::new()),
                awake,
                shortages: Atomic::new(0),
            }),
            GFP_KERNEL,
        )
    }

    /// The pages.
    pub(crate) fn balloon(&self) -> &Arc<Balloon> {
        &self.balloon
    }

    /// Reads what the device wants (specification 5.5.6).  May sleep.
    pub(crate) fn read_target(&self, dev: &Device) {
        let mut bytes = [0; 4];
        let offset = Config::NUM_PAGES.offset() as u32;
        if dev.read_config(offset, &mut bytes).is_err() {
            return;
        }
        // Little-endian with the legacy interface, too (section 5.5.4.0.0.1).
        let num_pages = Untrusted::new(u32::from_le_bytes(bytes));
        let memory = balloon::memory(self.balloon.uncounted());
        let (target, notes) = memory.target(self.balloon.units(), num_pages);
        for note in notes.iter() {
            kernel::do_once_lite! {
                dev_warn!(&*self.dev, "{}\n", core::format_args!("{note}"))
            }
        }
        self.exchange.lock().target = target;
        self.backoff.lock().worked();
    }

    /// Goes a step towards the target: as many arrays as there are, and one notification.
    fn adjust(&self) -> Again {
        let again = self.fill_arrays();
        let is_still = {
            let mut exchange = self.exchange.lock();
            exchange.kick();
            exchange.is_still()
        };
        self.write_actual();
        if is_still {
            // Reached, or not to be reached soon.
            self.awake.end(SIZE);
        }
        again
    }

    fn fill_arrays(&self) -> Again {
        let mut spare = None;
        loop {
            let mut exchange = self.exchange.lock();
            exchange.collect();
            if exchange.closed || !exchange.works() {
                return Again::No;
            }
            let (target, expected) = (exchange.target, self.expected(&exchange));
            // Its interrupt brings us back.
            let when_used = if exchange.is_still() {
                Again::No
            } else {
                Again::After(SILENT_INTERVAL_MS)
            };
            if target == expected {
                self.backoff.lock().worked();
                return when_used;
            }
            let Some(idle) = exchange.take() else {
                // The device has all.
                return when_used;
            };
            // Memory is not allocated under the lock: who frees some wants it.
            drop(exchange);
            let again = if target < expected {
                self.deflate(idle, expected - target)
            } else {
                self.inflate(idle, target - expected, &mut spare)
            };
            if let Some(again) = again {
                return again;
            }
        }
    }

    /// How many pages are in the balloon when the device has said yes to all: those that leave it are
    /// not in it any more.
    fn expected(&self, exchange: &Exchange) -> u64 {
        self.balloon.held() + exchange.rising
    }

    /// Has at most `count` pages given back; `None` if that can go on.
    fn deflate(&self, idle: Idle, count: u64) -> Option<Again> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let result = idle.deflate(self.wire, count);
        let mut exchange = self.exchange.lock();
        match result {
            Ok(transfer) => {
                if exchange.deflate(transfer) {
                    None
                } else {
                    Some(Again::After(self.backoff.lock().failed()))
                }
            }
            Err(idle) => {
                exchange.put(idle);
                // What there is is on its way, or is being moved.
                Some(Again::After(if exchange.is_still() {
                    MOVED_INTERVAL_MS
                } else {
                    SILENT_INTERVAL_MS
                }))
            }
        }
    }

    /// Has at most `count` pages taken, of those that the guest can `spare`; `None` if that can go on.
    fn inflate(&self, idle: Idle, count: u64, spare: &mut Option<u64>) -> Option<Again> {
        let units = self.balloon.units();
        let left =
            *spare.get_or_insert_with(|| balloon::memory(self.balloon.uncounted()).spare(units));
        let wanted = count.min(units.pages_per_array() as u64);
        let count = wanted.min(left);
        let result = if count == 0 {
            Err(idle)
        } else {
            idle.inflate(self.wire, count as usize)
        };
        let mut exchange = self.exchange.lock();
        match result {
            Ok(transfer) => {
                let got = transfer.pages() as u64;
                *spare = Some(left.saturating_sub(got));
                if exchange.inflate(transfer) && got == wanted {
                    self.backoff.lock().worked();
                    return None;
                }
            }
            Err(idle) => exchange.put(idle),
        }
        Some(self.short_of_memory())
    }

    fn short_of_memory(&self) -> Again {
        self.shortages.fetch_add(1, Relaxed);
        kernel::do_once_lite! {
            dev_info!(
                &*self.dev,
                "no memory left that the host could have: trying again later\n"
            )
        }
        Again::After(self.backoff.lock().failed())
    }

    /// How many pages the device has: what leaves the balloon is the device's until it has said yes.
    fn lent(&self) -> u64 {
        self.balloon.held() + self.exchange.lock().falling
    }

    /// Tells the device how much is in the balloon, if it does not know.  May sleep.
    fn write_actual(&self) {
        let actual = self.balloon.units().balloon_pages(self.lent());
        if self.actual.load(Relaxed) == actual {
            return;
        }
        let told = self.handle.with(|dev| {
            dev.write_config(Config::ACTUAL.offset() as u32, &actual.to_le_bytes());
        });
        if told.is_some() {
            self.actual.store(actual, Relaxed);
        }
    }

    /// Looks at the queues until `found` finds something, at most for `deadline`; `None` then, and if
    /// the device takes no arrays any more.  Sleeps.
    fn wait_for<R>(
        &self,
        deadline: Delta,
        mut found: impl FnMut(&mut Exchange) -> Option<R>,
    ) -> Option<R> {
        let seen = self.used.wait_for(deadline, || {
            let mut exchange = self.exchange.lock();
            exchange.collect();
            let what = found(&mut exchange);
            (what.is_some() || !exchange.works()).then_some(what)
        });
        seen.flatten()
    }

    /// Gives all pages back that the device lets go, and lets nobody add any.  Sleeps; the worker is
    /// stopped.
    pub(crate) fn give_back(&self) {
        self.close();
        let mut freed = self.exchange.lock().freed;
        let done = loop {
            // As long as it gives some, it may take its time for the others.
            let result = self.wait_for(EMPTY_DEADLINE, |exchange| {
                self.deflate_all(exchange);
                let done = exchange.is_still() && self.balloon.held() == 0;
                (done || exchange.freed != freed).then_some((done, exchange.freed))
            });
            match result {
                Some((false, now)) => freed = now,
                Some((true, _)) => break true,
                None => break false,
            }
        };
        if !done {
            dev_warn!(
                &*self.dev,
                "the device does not give {} pages back\n",
                self.lent()
            );
        }
        self.write_actual();
    }

    /// Has as many pages given back as there are arrays for.
    fn deflate_all(&self, exchange: &mut Exchange) {
        while self.balloon.held() != 0 {
            let Some(idle) = exchange.take_reserved() else {
                break;
            };
            match idle.deflate(self.wire, usize::MAX) {
                Ok(transfer) => {
                    if !exchange.deflate(transfer) {
                        break;
                    }
                }
                // They are being moved.
                Err(idle) => {
                    exchange.put(idle);
                    break;
                }
            }
        }
        exchange.kick();
    }

    /// Whether the device takes arrays.
    pub(crate) fn works(&self) -> bool {
        self.exchange.lock().works()
    }

    /// Nobody may add anything any more, and what the device has stays with it.
    pub(crate) fn close(&self) {
        self.exchange.lock().closed = true;
    }

    /// The device was reset: leaves the queues.  May sleep.
    pub(crate) fn quiesced(&self, proof: &Quiesced<'_>) {
        self.exchange.lock().quiesced(proof);
    }

    /// The device is back.  May sleep.
    ///
    /// # Errors
    ///
    /// As [`Shared::new`].
    pub(crate) fn resume(&self, dev: &Configured<'_>, queues: &mut Queues<'_>) -> Result {
        self.exchange.lock().resume(dev, queues)
    }

    /// The device works, for the first time or again.  May sleep.
    pub(crate) fn go_on(&self, dev: &Device) {
        self.exchange.lock().closed = false;
        // It may have forgotten.
        self.actual.store(UNKNOWN, Relaxed);
        write_poison(dev);
    }

    /// Gives some pages to the kernel, which needs them: how many.  Sleeps.
    fn relieve(&self) -> u64 {
        let units = self.balloon.units();
        let before = {
            let mut exchange = self.exchange.lock();
            exchange.collect();
            if exchange.closed || !exchange.works() {
                return 0;
            }
            let Some(idle) = exchange.take_reserved() else {
                return 0;
            };
            let before = exchange.freed;
            match idle.deflate(self.wire, units.pages(OOM_PAGES as u32) as usize) {
                Ok(transfer) => {
                    if !exchange.deflate(transfer) {
                        return 0;
                    }
                }
                Err(idle) => {
                    exchange.put(idle);
                    return 0;
                }
            }
            // Not to be taken again before the device says so.
            exchange.target = exchange.target.min(self.expected(&exchange));
            exchange.kick();
            before
        };
        let freed = self.wait_for(AT_ONCE_DEADLINE, |exchange| {
            (exchange.freed > before).then_some(exchange.freed - before)
        });
        freed.unwrap_or(0)
    }

    /// Has the device take and give the pages of `migration`, as far as it says yes in time.
    fn exchange_pages(&self, migration: &Migration) -> Result {
        {
            let mut exchange = self.exchange.try_lock().ok_or(EAGAIN)?;
            exchange.collect();
            if exchange.closed || exchange.moved.is_some() || !exchange.works() {
                return Err(EAGAIN);
            }
            let idle = exchange.take_reserved().ok_or(EAGAIN)?;
            let new = match migration.inflate(idle, self.wire) {
                Ok(transfer) => transfer,
                Err(idle) => {
                    exchange.put(idle);
                    return Err(EAGAIN);
                }
            };
            let Some(idle) = exchange.take_reserved() else {
                exchange.put(new.cancel());
                return Err(EAGAIN);
            };
            let old = match migration.deflate(idle, self.wire) {
                Ok(transfer) => transfer,
                Err(idle) => {
                    exchange.put(idle);
                    exchange.put(new.cancel());
                    return Err(EAGAIN);
                }
            };
            if !exchange.add_inflating(new) {
                exchange.put(old.cancel());
                return Err(EAGAIN);
            }
            exchange.moved = Some(Moved::default());
            // Without it, it is as if the device did not answer.
            exchange.add_deflating(old);
            exchange.kick();
        }
        // What is not there in time is not: the device may take the new page yet, see
        // `balloon::Migration`.
        let _ = self.wait_for(AT_ONCE_DEADLINE, |exchange| {
            let moved = exchange.moved.as_ref()?;
            (moved.inflated.is_some() && moved.deflated.is_some()).then_some(())
        });
        let mut exchange = self.exchange.lock();
        let moved = exchange.moved.take().unwrap_or_default();
        let (inflated, deflated) = match (moved.inflated, moved.deflated) {
            (Some(inflated), Some(deflated)) => match migration.finish(inflated, deflated) {
                Ok((one, other)) => {
                    exchange.migrations += 1;
                    exchange.put(one);
                    exchange.put(other);
                    return Ok(());
                }
                Err((inflated, deflated)) => (Some(inflated), Some(deflated)),
            },
            others => others,
        };
        // The new page is in the balloon, beside the old one.
        if let Some(inflated) = inflated {
            exchange.put(inflated.finish());
        }
        if let Some(deflated) = deflated {
            exchange.put(deflated.finish());
        }
        Err(EBUSY)
    }
}

/// What the numbers of [`Shared::print_statistics`] are, see Documentation/ABI/testing/debugfs-virtio.
const HEADER: &str = "held target rising falling freed moved shortages reported hinted";

impl Shared {
    /// Prints where the pages are, and how many were `reported` and `hinted`.  May sleep.
    pub(crate) fn print_statistics(&self, file: &SeqFile, reported: i64, hinted: i64) {
        let exchange = self.exchange.lock();
        kernel::seq_print!(
            file,
            "{}\n{} {} {} {} {} {} {} {} {}\n",
            HEADER,
            self.balloon.held(),
            exchange.target,
            exchange.rising,
            exchange.falling,
            exchange.freed,
            exchange.migrations,
            self.shortages.load(Relaxed),
            reported,
            hinted
        );
    }
}

/// Tells the device what is in free pages (specification 5.5.6.6), if it wants to know.  May sleep.
fn write_poison(dev: &Device) {
    if dev.features().has::<PagePoison>() {
        if let Some(value) = balloon::free_pages().poison_val() {
            let offset = Config::POISON_VAL.offset() as u32;
            dev.write_config(offset, &value.to_le_bytes());
        }
    }
}

impl Migrate for Shared {
    fn migrate(&self, migration: &Migration) -> Result {
        self.exchange_pages(migration)
    }
}

/// The worker.
pub(crate) struct Adjuster(pub(crate) Arc<Shared>);

impl balloon::Job for Adjuster {
    fn run(&self) -> Again {
        self.0.adjust()
    }
}

/// Who is asked when memory runs out.
pub(crate) struct Relief(pub(crate) Arc<balloon::Task<Adjuster>>);

impl balloon::OutOfMemory for Relief {
    fn out_of_memory(&self) -> usize {
        let freed = self.0.job().0.relieve();
        if freed != 0 {
            // To tell the device, for which locks are needed that may be held by who asks.
            self.0.schedule();
        }
        usize::try_from(freed).unwrap_or(usize::MAX)
    }
}
