// SPDX-License-Identifier: GPL-2.0

//! A transmit queue, while its lock is held.
//!
//! C header: [`include/linux/netdevice.h`](srctree/include/linux/netdevice.h).

use crate::operations::Operations;
use core::{
    ops::{
        Deref,
        DerefMut, //
    },
    ptr::NonNull, //
};
use virtio_bindings as bindings;

/// Whose the lock of a queue is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lock {
    /// The stack's.
    Stack,
    /// Ours.
    Ours,
    /// Ours, and bottom halves were switched off for it.
    OursAndBottomHalves,
}

/// A transmit queue whose lock is held, with what the driver keeps of it.
///
/// # Invariants
///
/// `queue` is a queue of a device of `O`, whose lock is held during `'a`, by whom `lock` says, and
/// `tx` belongs to it.
pub struct TxGuard<'a, O: Operations> {
    queue: NonNull<bindings::netdev_queue>,
    tx: &'a mut O::Tx,
    lock: Lock,
}

impl<'a, O: Operations> TxGuard<'a, O> {
    /// # Safety
    ///
    /// As the type invariants.
    #[inline]
    pub(crate) unsafe fn new(
        queue: NonNull<bindings::netdev_queue>,
        tx: &'a mut O::Tx,
        lock: Lock,
    ) -> Self {
        // INVARIANT: By the contract.
        Self { queue, tx, lock }
    }

    /// Tells the stack that `bytes` are on their way, for its limit of what may be; `more` packets
    /// come at once.  Whether the device should be told now (C: `__netdev_tx_sent_queue`).
    #[inline]
    pub fn sent(&mut self, bytes: u32, more: bool) -> bool {
        // SAFETY: By the type invariants.
        unsafe { bindings::virtio_netdev_tx_sent(self.queue.as_ptr(), bytes, more) }
    }

    /// Tells the stack what has been sent (C: `netdev_tx_completed_queue`).
    #[inline]
    pub fn completed(&mut self, packets: u32, bytes: u32) {
        // SAFETY: By the type invariants.
        unsafe { bindings::virtio_netdev_tx_completed(self.queue.as_ptr(), packets, bytes) };
    }

    /// Tells the stack that nothing is on its way any more (C: `netdev_tx_reset_queue`).
    pub fn reset(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::virtio_netdev_tx_reset(self.queue.as_ptr()) };
    }

    /// Has the stack hold packets back.
    pub fn stop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::virtio_netif_tx_queue_stop(self.queue.as_ptr()) };
    }

    /// Tells the stack's watchdog that something was sent just now (C: `txq_trans_cond_update`).
    pub fn touch(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::virtio_netif_tx_queue_touch(self.queue.as_ptr()) };
    }

    /// Has the stack go on if it was stopped, and says whether it was.
    #[inline]
    pub fn wake(&mut self) -> bool {
        // SAFETY: By the type invariants.
        unsafe {
            let stopped = bindings::virtio_netif_tx_queue_stopped(self.queue.as_ptr());
            if stopped {
                bindings::netif_tx_wake_queue(self.queue.as_ptr());
            }
            stopped
        }
    }
}

impl<O: Operations> Deref for TxGuard<'_, O> {
    type Target = O::Tx;

    #[inline]
    fn deref(&self) -> &O::Tx {
        self.tx
    }
}

impl<O: Operations> DerefMut for TxGuard<'_, O> {
    #[inline]
    fn deref_mut(&mut self) -> &mut O::Tx {
        self.tx
    }
}

impl<O: Operations> Drop for TxGuard<'_, O> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe {
            if self.lock != Lock::Stack {
                bindings::virtio_netif_tx_queue_unlock(self.queue.as_ptr());
            }
            if self.lock == Lock::OursAndBottomHalves {
                bindings::virtio_local_bh_enable();
            }
        }
    }
}
