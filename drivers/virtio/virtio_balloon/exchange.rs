// SPDX-License-Identifier: GPL-2.0

//! The queues for pages, and what is on its way through them (specification 5.5.6).
//!
//! C source: `fill_balloon`, `leak_balloon` and `tell_host`, which have one array for all, and wait for
//! the device after each.

use balloon::{
    Acked,
    Balloon,
    Deflating,
    Idle,
    Inflating,
    Transfer,
    TransferQueue, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};
use virtio::{
    lifecycle::{
        Configured,
        Quiesced, //
    },
    queue::Queues, //
};
use virtio_spec::balloon::{
    DEFLATE_QUEUE,
    INFLATE_QUEUE, //
};

/// Arrays that the worker uses: so many are in flight at most.
const ARRAYS: usize = 8;

/// Arrays for who needs one at once: two for a page that is moved, one when memory runs out.
const RESERVE: usize = 3;

/// The queues of a device.
struct Pair {
    inflate: TransferQueue<Inflating>,
    deflate: TransferQueue<Deflating>,
}

impl Pair {
    fn new(dev: &Configured<'_>, queues: &mut Queues<'_>) -> Result<Self> {
        Ok(Self {
            inflate: TransferQueue::new(dev, queues, INFLATE_QUEUE)?,
            deflate: TransferQueue::new(dev, queues, DEFLATE_QUEUE)?,
        })
    }
}

/// A page that is being moved, as the device sees it.
#[derive(Default)]
pub(crate) struct Moved {
    pub(crate) inflated: Option<Acked<Inflating>>,
    pub(crate) deflated: Option<Acked<Deflating>>,
}

/// What is on its way.
pub(crate) struct Exchange {
    /// `None` while the device is away.
    pair: Option<Pair>,
    idle: KVec<Idle>,
    /// Pages that are to be in the balloon.
    pub(crate) target: u64,
    /// Pages on their way into it, and out of it.
    pub(crate) rising: u64,
    pub(crate) falling: u64,
    /// Pages that came out of it, ever.
    pub(crate) freed: u64,
    /// Pages of it that were moved, ever.
    pub(crate) migrations: u64,
    /// Where somebody waits for a page to be moved.
    pub(crate) moved: Option<Moved>,
    /// Nobody but who gives all back may add anything.
    pub(crate) closed: bool,
}

impl Exchange {
    /// Takes the queues, and makes arrays for pages of `balloon`.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there are no such queues; `ENOMEM`.
    pub(crate) fn new(
        dev: &Configured<'_>,
        queues: &mut Queues<'_>,
        balloon: &Arc<Balloon>,
    ) -> Result<Self> {
        let mut idle = KVec::with_capacity(ARRAYS + RESERVE, GFP_KERNEL)?;
        for _ in 0..ARRAYS + RESERVE {
            idle.push(Idle::new(balloon)?, GFP_KERNEL)?;
        }
        Ok(Self {
            pair: Some(Pair::new(dev, queues)?),
            idle,
            target: 0,
            rising: 0,
            falling: 0,
            freed: 0,
            migrations: 0,
            moved: None,
            closed: false,
        })
    }

    /// Takes the queues of a device that is back.  May sleep.
    ///
    /// # Errors
    ///
    /// As [`Exchange::new`].
    pub(crate) fn resume(&mut self, dev: &Configured<'_>, queues: &mut Queues<'_>) -> Result {
        self.pair = Some(Pair::new(dev, queues)?);
        Ok(())
    }

    /// Leaves the queues of a device that was reset: pages are where they were before.
    pub(crate) fn quiesced(&mut self, proof: &Quiesced<'_>) {
        let Some(mut pair) = self.pair.take() else {
            return;
        };
        while let Some(transfer) = pair.inflate.drain(proof) {
            self.put(transfer.cancel());
        }
        while let Some(transfer) = pair.deflate.drain(proof) {
            self.put(transfer.cancel());
        }
        (self.rising, self.falling) = (0, 0);
    }

    /// Whether the device takes arrays.
    pub(crate) fn works(&self) -> bool {
        self.pair
            .as_ref()
            .is_some_and(|pair| !pair.inflate.is_broken() && !pair.deflate.is_broken())
    }

    /// Whether nothing is on its way.
    pub(crate) fn is_still(&self) -> bool {
        self.rising == 0 && self.falling == 0
    }

    /// An array for the worker.
    pub(crate) fn take(&mut self) -> Option<Idle> {
        if self.idle.len() > RESERVE {
            self.idle.pop()
        } else {
            None
        }
    }

    /// An array for who needs one at once.
    pub(crate) fn take_reserved(&mut self) -> Option<Idle> {
        self.idle.pop()
    }

    /// Takes an array back.
    pub(crate) fn put(&mut self, idle: Idle) {
        // It was there before: there is room.
        let _ = self.idle.push_within_capacity(idle);
    }

    /// Lends `transfer` to the device.  False if that was not possible: then nothing has changed.
    pub(crate) fn inflate(&mut self, transfer: Inflating) -> bool {
        let pages = transfer.pages() as u64;
        let added = self.add_inflating(transfer);
        if added {
            self.rising += pages;
        }
        added
    }

    /// As [`Exchange::inflate`].
    pub(crate) fn deflate(&mut self, transfer: Deflating) -> bool {
        let pages = transfer.pages() as u64;
        let added = self.add_deflating(transfer);
        if added {
            self.falling += pages;
        }
        added
    }

    /// As [`Exchange::inflate`], without counting it.
    pub(crate) fn add_inflating(&mut self, transfer: Inflating) -> bool {
        let left = match &mut self.pair {
            Some(pair) => pair.inflate.add(transfer).map_err(|error| error.buffer),
            None => Err(transfer),
        };
        left.map_err(|transfer| self.put(transfer.cancel())).is_ok()
    }

    /// As [`Exchange::deflate`], without counting it.
    pub(crate) fn add_deflating(&mut self, transfer: Deflating) -> bool {
        let left = match &mut self.pair {
            Some(pair) => pair.deflate.add(transfer).map_err(|error| error.buffer),
            None => Err(transfer),
        };
        left.map_err(|transfer| self.put(transfer.cancel())).is_ok()
    }

    /// Tells the device of what was added.
    pub(crate) fn kick(&mut self) {
        if let Some(pair) = &mut self.pair {
            if let Some(notification) = pair.inflate.kick() {
                notification.send();
            }
            if let Some(notification) = pair.deflate.kick() {
                notification.send();
            }
        }
    }

    /// Takes what the device has used: pages go into the balloon, or to the kernel.
    pub(crate) fn collect(&mut self) {
        let Some(mut pair) = self.pair.take() else {
            return;
        };
        while let Some(acked) = pair.inflate.get() {
            self.inflated(acked);
        }
        while let Some(acked) = pair.deflate.get() {
            self.deflated(acked);
        }
        self.pair = Some(pair);
    }

    fn inflated(&mut self, acked: Acked<Inflating>) {
        if !acked.is_migration() {
            self.rising = self.rising.saturating_sub(acked.pages() as u64);
        } else if let Some(Moved {
            inflated: none @ None,
            ..
        }) = &mut self.moved
        {
            *none = Some(acked);
            return;
        }
        self.put(acked.finish());
    }

    fn deflated(&mut self, acked: Acked<Deflating>) {
        if !acked.is_migration() {
            self.falling = self.falling.saturating_sub(acked.pages() as u64);
            self.freed += acked.pages() as u64;
        } else if let Some(Moved {
            deflated: none @ None,
            ..
        }) = &mut self.moved
        {
            *none = Some(acked);
            return;
        }
        self.put(acked.finish());
    }
}
