// SPDX-License-Identifier: GPL-2.0

//! Pools of sockets (AF_XDP without copies): how they come and go.
//!
//! C source: `virtnet_xsk_pool_enable`, `virtnet_xsk_pool_disable`, `virtnet_xsk_wakeup` in
//! `drivers/net/virtio_net.c`.  There a reset of the device forgets the pool, and a queue that does not
//! reset keeps its buffers.

use crate::{
    interface::{
        Interface,
        Pair, //
    },
    operations::Operations,
    receive::Mode,
    receive_xsk::give_back,
    transmit::{
        forget,
        go_on,
        hold_back,
        Queue,
        TxGuard, //
    },
    transmit_xsk::dispose, //
};
use kernel::{
    prelude::*,
    time::{
        delay::fsleep,
        Delta, //
    }, //
};
use netdev::{
    DeviceRef,
    QueueType,
    XskPool, //
};
use virtio::lifecycle::Quiesced;

/// How long is waited for who resets the device, which takes no longer.
const PATIENCE: Delta = Delta::from_secs(15);

/// How often it is looked whether it was.
const LOOK: Delta = Delta::from_millis(10);

impl Interface {
    /// Has a pair of queues receive into buffers of sockets, and send their frames.  Under the RTNL
    /// lock; sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the pair is not in use, or the pool has no room for headers, or addresses are not
    /// mapped; `ENOENT` if packets are received into lists of pages, or queues cannot be reset alone;
    /// `ENODEV` while the device is reset; `ENOMEM`.
    pub(crate) fn bind_xsk(
        &self,
        device: &DeviceRef<Operations>,
        index: usize,
        pool: XskPool<'_>,
    ) -> Result {
        let pair = self.pairs.get(index).ok_or(EINVAL)?;
        if index >= self.pairs_in_use() as usize {
            return Err(EINVAL);
        }
        if !device.is_present() {
            return Err(ENODEV);
        }
        let of_rx = pair.rx.with_paused(|rx, _| {
            let is_big = matches!(rx.mode, Mode::Big { .. });
            (is_big, rx.header_len(), rx.dma_device())
        });
        let (is_big, header_len, dma_device) = of_rx.ok_or(EBUSY)?;
        if is_big {
            return Err(ENOENT);
        }
        let (rx_half, tx_half) = pool.bind(&*dma_device.ok_or(EINVAL)?, &pair.rx, header_len)?;
        // Nobody sends through it yet.
        self.reset_tx(index, pair, |_| ())?;
        let reset = pair.rx.with_paused(|rx, _| {
            let queue = rx.queue.as_mut().ok_or(ENODEV)?;
            queue.reset(drop)?;
            rx.xsk = Some(rx_half);
            Ok(())
        });
        reset.unwrap_or(Err(EBUSY)).inspect_err(|error| {
            self.complain("rx", index, *error);
        })?;
        self.with_tx(index, |tx| tx.xsk = Some(tx_half));
        self.tell_both_again(index);
        Ok(())
    }

    /// Undoes it, whatever the device does.  Under the RTNL lock; sleeps.
    pub(crate) fn unbind_xsk(&self, index: usize) {
        let Some(pair) = self.pairs.get(index) else {
            return;
        };
        // Before the queues work again, so that nothing more of it is put into them.
        let reset_tx = self.reset_tx(index, pair, |tx| tx.xsk = None);
        let reset_rx = pair.rx.with_paused(|rx, _| {
            let xsk = &mut rx.xsk;
            if let Some(queue) = &mut rx.queue {
                queue.reset(|buffer| give_back(xsk, buffer))?;
            }
            rx.xsk = None;
            Ok(())
        });
        let reset_rx = reset_rx.unwrap_or(Err(EBUSY)).inspect_err(|error| {
            self.complain("rx", index, *error);
        });
        if reset_tx.and(reset_rx).is_ok() {
            self.tell_both_again(index);
            return;
        }
        self.take_back(index, pair);
        pair.rx.with_disabled(|rx, _| rx.xsk = None);
        self.with_tx(index, |tx| tx.xsk = None);
    }

    /// Has the device let go of what a pair of queues has of sockets: it is reset, by us or by who does
    /// so already, and recovered.
    fn take_back(&self, index: usize, pair: &Pair) {
        pair.tx.disable();
        pair.rx.disable();
        let halted = self
            .handle
            .halt(|proof| self.drain_pair(index, pair, proof));
        if halted.is_some() {
            return;
        }
        let mut waited = Delta::ZERO;
        while waited < PATIENCE && pair.rx.with_disabled(|rx, _| rx.queue.is_some()) == Some(true) {
            fsleep(LOOK);
            waited += LOOK;
        }
    }

    /// Takes back what a device that was reset had of a pair of queues.
    pub(crate) fn drain_pair(&self, index: usize, pair: &Pair, proof: &Quiesced<'_>) {
        pair.rx.with_disabled(|rx, _| {
            if let Some(queue) = &mut rx.queue {
                while let Some(buffer) = queue.drain(proof) {
                    give_back(&mut rx.xsk, buffer);
                }
            }
        });
        self.with_tx(index, |tx| {
            let mut frames = 0;
            if let Some(queue) = &mut tx.queue {
                let mut dispose = dispose(&mut frames);
                while let Some(outgoing) = queue.drain(proof) {
                    dispose(outgoing);
                }
            }
            tx.give_back(frames);
            forget(tx);
        });
    }

    /// Resets a transmit queue, of which packets are lost, and runs `after` before others come.  That of a
    /// device that is reset has none.
    fn reset_tx(&self, index: usize, pair: &Pair, after: impl FnOnce(&mut TxGuard<'_>)) -> Result {
        let reset = self.with_tx_apart(
            index,
            pair,
            |queue, frames| queue.reset(dispose(frames)),
            |tx, reset| {
                if reset.is_ok() || reset == Err(ENODEV) {
                    after(tx);
                }
            },
        );
        if reset == Err(ENODEV) {
            return Ok(());
        }
        reset.inspect_err(|error| self.complain("tx", index, *error))
    }

    /// Runs `f` on a transmit queue through which nothing is sent meanwhile, and which counts frames of
    /// sockets that it takes back; and `after`, with what came of it, before anything is.
    ///
    /// # Errors
    ///
    /// Those of `f`; `ENODEV` while the device is reset.
    pub(crate) fn with_tx_apart(
        &self,
        index: usize,
        pair: &Pair,
        f: impl FnOnce(&mut Queue, &mut u32) -> Result,
        after: impl FnOnce(&mut TxGuard<'_>, Result),
    ) -> Result {
        let done = pair.tx.with_paused(|_, _| {
            let mut queue = None;
            self.with_tx(index, |tx| {
                hold_back(tx);
                queue = tx.queue.take();
            });
            let mut frames = 0;
            let done = queue
                .as_mut()
                .map_or(Err(ENODEV), |queue| f(queue, &mut frames));
            self.with_tx(index, |tx| {
                tx.queue = queue.take();
                tx.give_back(frames);
                if tx.queue.as_mut().is_some_and(|it| it.in_flight() == 0) {
                    forget(tx);
                }
                after(tx, done);
                go_on(tx);
            });
            done
        });
        done.unwrap_or(Err(EBUSY))
    }

    /// Sockets have something again.  Any context but interrupts.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the pair is not in use.
    pub(crate) fn wake_for_xsk(&self, index: usize, kind: QueueType) -> Result {
        let pair = self.pairs.get(index).ok_or(EINVAL)?;
        if index >= self.pairs_in_use() as usize {
            return Err(EINVAL);
        }
        match kind {
            QueueType::Rx => pair.rx.wake(),
            QueueType::Tx => pair.tx.wake(),
        }
        Ok(())
    }
}
