// SPDX-License-Identifier: GPL-2.0

//! Reports of free pages (specification 5.5.6.7): the device may take away what is in them.
//!
//! C source: `virtballoon_free_page_report`, which waits for the device as long as that takes.  Here it
//! has a deadline.  Pages of which a device was told may be emptied by it at any time after that: they
//! are the kernel's again when it has used their buffer, or was reset.

use balloon::{
    Event,
    FreePages,
    Reporter,
    REPORT_LEN, //
};
use kernel::{
    device,
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            AtomicFlag,
            Relaxed, //
        },
        Arc,
        Mutex, //
    },
    time::Delta, //
};
use virtio::{
    handle::Handle,
    lifecycle::{
        Configured,
        Quiesced, //
    },
    packets::PacketQueue,
    queue::Queues, //
};

/// How long a device may take for a report.
const DEADLINE: Delta = Delta::from_secs(5);

/// The queue, and what came of the pages that were in it: there is one report at a time.
struct State {
    queue: Option<PacketQueue<FreePages>>,
    back: Option<FreePages>,
}

/// What becomes of a report.
enum Seen {
    /// The device has used it.
    Used(FreePages),
    /// It never will.
    Hopeless,
}

/// The reports to a device.
#[pin_data]
pub(crate) struct Reporting {
    dev: ARef<device::Device>,
    handle: Handle,
    #[pin]
    state: Mutex<State>,
    /// The device has used a report.
    #[pin]
    pub(crate) used: Event,
    /// Nobody waits for the device any more.
    abandoned: AtomicFlag,
    /// Runs of pages in a report at most.
    runs: u16,
    /// Pages that the device was told of, ever.
    reported: Atomic<i64>,
}

impl Reporting {
    /// Takes queue `index`.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is no such queue; `ENOMEM`.
    pub(crate) fn new(
        dev: &Configured<'_>,
        queues: &mut Queues<'_>,
        index: usize,
    ) -> Result<Arc<Self>> {
        let size = queues.size(index).ok_or(ENOENT)?;
        let runs = size.min(REPORT_LEN.into()) as u16;
        let queue = Some(queues.take_packets(dev, index, runs)?);
        let handle = dev.handle()?;
        Arc::pin_init(
            pin_init!(Self {
                dev: dev.as_device().into(),
                handle,
                state <- new_mutex!(State { queue, back: None }),
                used <- Event::new(),
                abandoned: AtomicFlag::new(false),
                runs,
                reported: Atomic::new(0),
            }),
            GFP_KERNEL,
        )
    }

    /// Takes the queue of a device that is back.  May sleep.
    ///
    /// # Errors
    ///
    /// As [`Reporting::new`]; `EINVAL` if the queue is shorter than it was.
    pub(crate) fn resume(
        &self,
        dev: &Configured<'_>,
        queues: &mut Queues<'_>,
        index: usize,
    ) -> Result {
        self.state.lock().queue = Some(queues.take_packets(dev, index, self.runs)?);
        self.abandoned.store(false, Relaxed);
        Ok(())
    }

    /// Has nobody wait for the device any more, which is to be reset.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Relaxed);
        self.used.notify();
    }

    /// Leaves the queue of a device that was reset.
    pub(crate) fn quiesced(&self, proof: &Quiesced<'_>) {
        let mut state = self.state.lock();
        if let Some(mut queue) = state.queue.take() {
            if let Some(pages) = queue.drain(proof) {
                state.back = Some(pages);
            }
        }
    }

    /// Runs of pages in a report at most.
    pub(crate) fn runs(&self) -> u16 {
        self.runs
    }

    /// Pages that the device was told of, ever.
    pub(crate) fn reported(&self) -> i64 {
        self.reported.load(Relaxed)
    }

    fn add(&self, pages: FreePages) -> Result<(), FreePages> {
        let mut state = self.state.lock();
        let Some(queue) = &mut state.queue else {
            return Err(pages);
        };
        queue.add(pages).map_err(|error| error.buffer)?;
        if let Some(notification) = queue.kick() {
            notification.send();
        }
        Ok(())
    }

    fn look(&self) -> Option<Seen> {
        let mut state = self.state.lock();
        let queue = state.queue.as_mut();
        if let Some((pages, _)) = queue.and_then(PacketQueue::get) {
            return Some(Seen::Used(pages));
        }
        let works = state.queue.as_ref().is_some_and(|queue| !queue.is_broken());
        (!works || self.abandoned.load(Relaxed)).then_some(Seen::Hopeless)
    }

    /// Takes pages back from a device that does not give them: it is reset for it.
    fn take_back(&self) -> FreePages {
        kernel::do_once_lite! {
            dev_warn!(&*self.dev, "the device does not take free pages: reset\n")
        }
        // Again and again, each time with a deadline: pages that a device still has cannot be given up.
        loop {
            self.handle.halt(|proof| self.quiesced(proof));
            // Unless who unbinds the driver has done it.
            let back = self
                .used
                .wait_for(DEADLINE, || self.state.lock().back.take());
            if let Some(pages) = back {
                return pages;
            }
        }
    }
}

impl Reporter for Reporting {
    fn report(&self, pages: FreePages) -> Result<FreePages, FreePages> {
        let count = pages.pages();
        self.add(pages)?;
        match self.used.wait_for(DEADLINE, || self.look()) {
            Some(Seen::Used(pages)) => {
                self.reported.add(count as i64, Relaxed);
                Ok(pages)
            }
            Some(Seen::Hopeless) | None => Err(self.take_back()),
        }
    }
}
