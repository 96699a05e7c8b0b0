// SPDX-License-Identifier: GPL-2.0

//! A hardware queue: requests on their way to the device and back.
//!
//! C source: `virtio_queue_rq`, `virtblk_done`, `virtblk_poll` in `drivers/block/virtio_blk.c`.

use crate::{
    command::{
        self,
        Refused, //
    },
    operations::{
        Operations,
        Request, //
    },
    statistics::Statistics, //
};
use block_mq::{
    Batch,
    HwQueue,
    Op,
    Operations as _,
    QueueResult,
    RequestList,
    Requests,
    Status, //
};
use kernel::{
    new_spinlock_irq,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        SpinLockIrq, //
    },
    time::Delta, //
};
use virtio::{
    lifecycle::Quiesced,
    queue::CbState,
    requests::RequestQueue, //
};

/// How often a request is started anew before it ends with an error, if others made the device be
/// reset; one that timed out itself is started anew once.
const MAX_REQUEUES: u32 = 3;

/// How long a device that was reset for a request may then take for it.
const SECOND_PATIENCE: Delta = Delta::from_secs(15);

pub(crate) type Virtqueue = RequestQueue<Request>;

/// A hardware queue of the block layer, and its virtqueue.
#[pin_data]
pub(crate) struct Queue {
    pub(crate) statistics: Statistics,
    /// There is a carrier.
    shares: Atomic<bool>,
    #[pin]
    inner: SpinLockIrq<Inner>,
}

struct Inner {
    /// `None` while the device is reset, and if it came back with fewer.
    queue: Option<Virtqueue>,
    /// Whose virtqueue takes the requests instead, of a device that came back with fewer.  That one has
    /// its own.
    carrier: Option<Arc<Queue>>,
    /// It takes requests of others, too: who comes back may be one of theirs, and restart another hardware
    /// queue than the one that was stopped.  So none is stopped for a full virtqueue.
    carries: bool,
    /// The block layer was told to wait.
    stopped: bool,
    /// A queue that takes nothing will be recovered: until then, requests wait.
    waits: bool,
    /// The device says how much it wrote (not so a legacy one, specification 2.7.8.1).
    counts: bool,
    /// Sectors of a range of zeroes at most.
    max_zeroes: u32,
    /// Sectors of a zone, 0 without zones.
    zone_sectors: u32,
}

impl Queue {
    /// A queue for which requests do not wait yet.
    pub(crate) fn new(queue: Virtqueue, counts: bool, zone_sectors: u32) -> impl PinInit<Self> {
        pin_init!(Self {
            statistics: Statistics::new(),
            shares: Atomic::new(false),
            inner <- new_spinlock_irq!(Inner {
                queue: Some(queue),
                carrier: None,
                carries: false,
                stopped: false,
                waits: false,
                counts,
                max_zeroes: u32::MAX,
                zone_sectors,
            }),
        })
    }

    /// Puts the virtqueue of a device that is back in place.
    pub(crate) fn replace(&self, queue: Virtqueue) {
        self.shares.store(false, Relaxed);
        let mut inner = self.inner.lock();
        inner.queue = Some(queue);
        inner.carries = false;
    }

    /// Has requests go through another hardware queue's virtqueue, which is in place: the device has none
    /// for this one now.
    pub(crate) fn share(&self, carrier: Arc<Self>) {
        carrier.inner.lock().carries = true;
        self.inner.lock().carrier = Some(carrier);
        self.shares.store(true, Relaxed);
    }

    /// Whose virtqueue takes the requests instead of an own one.
    pub(crate) fn carrier(&self) -> Option<Arc<Self>> {
        self.inner.lock().carrier.clone()
    }

    /// Whether requests are to wait for a device that does not take them.
    pub(crate) fn set_waits(&self, waits: bool) {
        self.inner.lock().waits = waits;
    }

    /// Sets how many sectors a range of zeroes may have.
    pub(crate) fn set_max_zeroes(&self, sectors: u32) {
        self.inner.lock().max_zeroes = sectors;
    }

    /// Whether the virtqueue is there, and whole; who has none does not know of another's.
    pub(crate) fn is_whole(&self) -> bool {
        let inner = self.inner.lock();
        match &inner.queue {
            Some(queue) => !queue.is_broken(),
            None => inner.carrier.is_some(),
        }
    }

    /// How many requests the device has.
    pub(crate) fn in_flight(&self) -> u16 {
        let mut inner = self.inner.lock();
        inner.queue.as_mut().map_or(0, |queue| queue.in_flight())
    }

    /// Queues one request.
    #[inline(always)]
    pub(crate) fn queue_rq(
        &self,
        hw: &HwQueue<'_, Operations>,
        request: Request,
        last: bool,
    ) -> QueueResult<Operations> {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        let Some(queue) = &mut inner.queue else {
            if let Some(carrier) = inner.carrier.clone() {
                drop(guard);
                return carrier.carry(request);
            }
            return self.refuse(inner, hw, request);
        };
        let result = command::submit(queue, request, inner.max_zeroes);
        // Who could not be queued waits for those before.
        let notification = if last || result.is_err() {
            queue.kick()
        } else {
            None
        };
        let result = match result {
            Ok(()) => QueueResult::Queued,
            Err(Refused::NoMemory(request)) => QueueResult::Busy(request),
            Err(Refused::Full(request)) => {
                if !inner.carries {
                    self.stop(inner, hw);
                }
                QueueResult::Busy(request)
            }
            Err(Refused::Broken(request)) => self.refuse(inner, hw, request),
            // A request of another hardware queue, which this one carries, has the same tag.
            Err(Refused::Taken(request)) => QueueResult::Busy(request),
            Err(Refused::Never(request, status)) => QueueResult::Fail(request, status),
        };
        drop(guard);
        if let Some(notification) = notification {
            notification.send();
        }
        result
    }

    /// Queues one request of another hardware queue.  Who cannot be queued is tried again by the block
    /// layer, a little later: what ends here does not wake other hardware queues.
    #[cold]
    fn carry(&self, request: Request) -> QueueResult<Operations> {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        let Some(queue) = &mut inner.queue else {
            return inner.put_off(request);
        };
        let result = command::submit(queue, request, inner.max_zeroes);
        let notification = queue.kick();
        let result = match result {
            Ok(()) => QueueResult::Queued,
            // The slot of a request has its tag, which a request of this hardware queue may have too.
            Err(Refused::NoMemory(request) | Refused::Full(request) | Refused::Taken(request)) => {
                QueueResult::Busy(request)
            }
            Err(Refused::Broken(request)) => inner.put_off(request),
            Err(Refused::Never(request, status)) => QueueResult::Fail(request, status),
        };
        drop(guard);
        if let Some(notification) = notification {
            notification.send();
        }
        result
    }

    /// Queues the requests of a list, and tells the device once.
    pub(crate) fn queue_rqs(&self, list: &mut RequestList<'_, Operations>) {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        let Some(queue) = inner.queue.as_mut().filter(|queue| !queue.is_broken()) else {
            return;
        };
        let mut refused = None;
        while let Some(request) = list.next() {
            if let Err(error) = command::submit(queue, request, inner.max_zeroes) {
                // Tried again by itself, and the rest too.
                refused = Some(error.into_request());
                break;
            }
        }
        let notification = queue.kick();
        drop(guard);
        if let Some(notification) = notification {
            notification.send();
        }
        if let Some(request) = refused {
            request.requeue_now();
        }
    }

    /// Tells the device of what was queued.
    pub(crate) fn commit(&self) {
        let mut guard = self.inner.lock();
        let notification = guard.queue.as_mut().and_then(Virtqueue::kick);
        drop(guard);
        if let Some(notification) = notification {
            notification.send();
        }
    }

    /// Ends what the device has done.  Interrupt context, or any other.
    pub(crate) fn interrupt(&self) {
        Batch::with(|batch| {
            self.finish(batch, true);
        });
    }

    /// Ends what the device has done on a queue without interrupts, and says how much it was.
    pub(crate) fn poll(&self, batch: &mut Batch<'_>) -> u32 {
        if self.shares.load(Relaxed) {
            return self
                .carrier()
                .map_or(0, |carrier| carrier.finish(batch, false));
        }
        self.finish(batch, false)
    }

    /// Takes what the device has done, and says how much it was.  What ended well goes to `batch`, or
    /// to the processor that it came from; the rest is ended here, not under the lock.  With
    /// `interrupts`, the next one comes only for what was not taken.
    // One function for both, into which all of it is inlined.
    fn finish(&self, batch: &mut Batch<'_>, interrupts: bool) -> u32 {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        let mut rest = Requests::new();
        let (counts, zone_sectors, stopped) = (inner.counts, inner.zone_sectors, inner.stopped);
        let mut restart = stopped;
        let mut count: u32 = 0;
        if let Some(queue) = &mut inner.queue {
            loop {
                if interrupts {
                    queue.pause_callbacks();
                }
                while let Some(done) = queue.get_buf(|request| request.data_mut().reply()) {
                    let (request, good) = command::finish(done, counts, zone_sectors);
                    if core::mem::take(&mut restart) {
                        request.restart_queue();
                    }
                    // Those of a batch do not wake who could not be queued.
                    if let Some(request) = batch.complete(request, good && !stopped) {
                        rest.push(request);
                    }
                    count = count.wrapping_add(1);
                }
                if !interrupts || queue.resume_callbacks() == CbState::Armed {
                    break;
                }
            }
        }
        inner.stopped &= count == 0;
        drop(guard);
        end(rest);
        count
    }

    /// Tells the device again of what it has, and looks whether its answer was missed.
    pub(crate) fn nudge(&self) {
        let notification = self.inner.lock().queue.as_mut().map(Virtqueue::renotify);
        if let Some(notification) = notification {
            notification.send();
        }
        self.interrupt();
    }

    /// Gives the virtqueue up, and has the device recovered.
    pub(crate) fn give_up(&self) {
        if let Some(queue) = &mut self.inner.lock().queue {
            queue.give_up();
        }
    }

    /// Takes back what a device that was reset had: to be started anew, or to end with an error.
    pub(crate) fn take_all(&self, proof: &Quiesced<'_>, anew: bool) {
        let mut queue = {
            let mut inner = self.inner.lock();
            inner.carrier = None;
            inner.queue.take()
        };
        if queue.is_some() {
            self.statistics.resets.count();
        }
        while let Some(mut request) = queue.as_mut().and_then(|queue| queue.drain(proof)) {
            request.set_payload(KVec::new());
            if core::mem::take(&mut self.inner.lock().stopped) {
                request.restart_queue();
            }
            let (most, patience) = match request.expirations() {
                0 => (MAX_REQUEUES, None),
                _ => (1, Some(SECOND_PATIENCE)),
            };
            // What went to a zone must not go there twice.
            if anew && request.op() != Op::ZoneAppend && request.requeues() < most {
                self.statistics.requeues.count();
                request.requeue(patience);
            } else {
                self.statistics.failures.count();
                request.end(Status::IoError);
            }
        }
    }

    /// Has the block layer wait until something comes back.
    fn stop(&self, inner: &mut Inner, hw: &HwQueue<'_, Operations>) {
        inner.stopped = true;
        self.statistics.stops.count();
        hw.stop();
    }

    /// Does with a request what is to be done while there is no device to take it.
    fn refuse(
        &self,
        inner: &mut Inner,
        hw: &HwQueue<'_, Operations>,
        request: Request,
    ) -> QueueResult<Operations> {
        if inner.waits {
            self.stop(inner, hw);
        }
        inner.put_off(request)
    }
}

impl Inner {
    /// What a request hears of a device that takes none.
    fn put_off(&self, request: Request) -> QueueResult<Operations> {
        if self.waits {
            QueueResult::Busy(request)
        } else {
            QueueResult::Fail(request, Status::IoError)
        }
    }
}

/// Ends requests.
#[inline]
fn end(mut requests: Requests<Operations>) {
    while let Some(request) = requests.pop() {
        Operations::complete(request);
    }
}
