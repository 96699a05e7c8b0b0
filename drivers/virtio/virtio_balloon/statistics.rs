// SPDX-License-Identifier: GPL-2.0

//! Memory statistics (specification 5.5.6.3): the device has one buffer of them, and gives it back
//! when it wants to know more.
//!
//! C source: `stats_request` and `stats_handle_request`.

use crate::shared::STATISTICS;
use balloon::{
    Again,
    Job,
    Report,
    WakeSource, //
};
use kernel::{
    new_mutex,
    page::PAGE_SHIFT,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    }, //
};
use virtio::{
    lifecycle::{
        Configured,
        Quiesced, //
    },
    packets::PacketQueue,
    queue::Queues, //
};
use virtio_spec::balloon::{
    stats::Stats,
    Wire, //
};

/// When the buffer is lent again that could not be, in milliseconds.
const RETRY_MS: u32 = 200;

/// The queue, and the buffer when the device does not have it.
struct State {
    queue: Option<PacketQueue<Report>>,
    spare: Option<Report>,
}

/// The statistics of a device.
#[pin_data]
pub(crate) struct Statistics {
    wire: Wire,
    #[pin]
    state: Mutex<State>,
}

impl Statistics {
    /// Takes queue `index`, and lends the first statistics to the device.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is no such queue; `ENOMEM`.
    pub(crate) fn new(
        dev: &Configured<'_>,
        queues: &mut Queues<'_>,
        index: usize,
    ) -> Result<Arc<Self>> {
        let spare = Some(Report::new()?);
        let this = Arc::pin_init(
            pin_init!(Self {
                wire: Wire::of(dev.features()),
                state <- new_mutex!(State { queue: None, spare }),
            }),
            GFP_KERNEL,
        )?;
        this.resume(dev, queues, index)?;
        Ok(this)
    }

    /// Takes the queue of a device that is back.  May sleep.
    ///
    /// # Errors
    ///
    /// As [`Statistics::new`].
    pub(crate) fn resume(
        &self,
        dev: &Configured<'_>,
        queues: &mut Queues<'_>,
        index: usize,
    ) -> Result {
        self.state.lock().queue = Some(queues.take_packets(dev, index, 1)?);
        // The device is told when it works.
        self.lend();
        Ok(())
    }

    /// Leaves the queue of a device that was reset.
    pub(crate) fn quiesced(&self, proof: &Quiesced<'_>) {
        let mut state = self.state.lock();
        if let Some(mut queue) = state.queue.take() {
            if let Some(report) = queue.drain(proof) {
                state.spare = Some(report);
            }
        }
    }

    /// Lends the buffer to the device, if that wants it.  False if it could not be lent.  May sleep.
    fn lend(&self) -> bool {
        let mut state = self.state.lock();
        let State { queue, spare } = &mut *state;
        let Some(queue) = queue else {
            return true;
        };
        let used = queue.get().map(|(report, _)| report);
        let Some(mut report) = used.or_else(|| spare.take()) else {
            return true;
        };
        report.set(&Stats::new(
            self.wire,
            PAGE_SHIFT as u32,
            &balloon::sample(),
        ));
        let result = queue.add(report);
        result.map_err(|error| *spare = Some(error.buffer)).is_ok()
    }

    /// Tells the device of the buffer that it was lent.
    fn kick(&self) {
        if let Some(queue) = &mut self.state.lock().queue {
            if let Some(notification) = queue.kick() {
                notification.send();
            }
        }
    }
}

/// Who fills the buffer.
pub(crate) struct Reporter(pub(crate) Arc<Statistics>, pub(crate) Arc<WakeSource>);

impl Job for Reporter {
    fn run(&self) -> Again {
        let lent = self.0.lend();
        self.0.kick();
        if lent {
            self.1.end(STATISTICS);
            Again::No
        } else {
            Again::After(RETRY_MS)
        }
    }
}
