// SPDX-License-Identifier: GPL-2.0

//! One virtqueue: from its registers to its ring (specification 4.1.5.1.3).
//!
//! C source: `setup_vq`, `vp_active_vq`, `del_vq` of `drivers/virtio/virtio_pci_modern.c`.

use crate::{
    common::Assignment,
    interrupts::{
        QueueRef,
        UsedBuffers, //
    },
    modern::{
        Modern,
        Quarantine, //
    },
    notify::{
        Doorbell,
        Format, //
    },
};
use core::ptr::{
    self,
    NonNull, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};
use pci_ext::irq;
use virtio::{
    device::Device,
    transport::QueueRequest, //
};
use virtio_bindings as bindings;
use virtio_ring::Params;
use virtio_spec::{
    pci::QUEUE_SIZE_MAX,
    transport::{
        NotificationData,
        RingPacked, //
    }, //
};

/// Why a queue cannot be set up.
pub(crate) enum Failed {
    /// There are not enough interrupt vectors: with fewer it may work.
    Vectors(Error),
    /// Anything else.
    Queue(Error),
}

/// A ring; deleted when dropped, or leaked if the device may still use it.
///
/// # Invariants
///
/// - `queue` was made by `virtio_ring::create`, and `self` deletes it;
/// - the queue was not enabled since the last reset, or a failed reset put the device into
///   quarantine, when `self` is dropped.
struct Ring {
    queue: NonNull<bindings::virtqueue>,
    quarantine: Arc<Quarantine>,
}

// SAFETY: `virtio_ring` may delete a queue on any CPU.
unsafe impl Send for Ring {}
// SAFETY: What takes `&self` only reads what is constant.
unsafe impl Sync for Ring {}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; interrupts and users of the queue are gone.
        unsafe {
            if self.quarantine.is_active() {
                virtio_ring::leak(self.queue);
            } else {
                virtio_ring::delete(self.queue);
            }
        }
    }
}

/// A virtqueue of a device.
pub(crate) struct Queue {
    // Dropped from the top: the handler, the device's way to call it, the ring, and what the ring
    // is notified with.
    irq: Option<irq::Registration<UsedBuffers>>,
    vector: Option<(u16, Assignment)>,
    ring: Ring,
    _doorbell: Doorbell,
    index: u16,
    has_callback: bool,
}

impl Queue {
    /// Sets a queue up for `request`, but for enabling it.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOENT` if the device does not have it, `EINVAL` if its size or its notification register
    /// are impossible, `ENOMEM`; `EBUSY` if the device does not take the vector.
    pub(crate) fn set_up(
        modern: &Modern,
        dev: &Device,
        index: u16,
        request: &QueueRequest<'_>,
        vector: Option<u16>,
    ) -> Result<Self, Failed> {
        let mut queue = Self::make(modern, dev, index, request).map_err(Failed::Queue)?;
        if let Some(vector) = vector {
            let assignment =
                Assignment::queue(&modern.common, index, vector).map_err(Failed::Vectors)?;
            queue.vector = Some((vector, assignment));
        }
        Ok(queue)
    }

    fn make(modern: &Modern, dev: &Device, index: u16, request: &QueueRequest<'_>) -> Result<Self> {
        let registers = modern.common.queue(index);
        if index >= modern.common.num_queues() {
            return Err(EINVAL);
        }
        let size = registers.size();
        // Not there, or in use by somebody else.
        if size == 0 || registers.enabled() != 0 {
            return Err(ENOENT);
        }
        let features = dev.features();
        let packed = features.has::<RingPacked>();
        if size > QUEUE_SIZE_MAX || !(packed || size.is_power_of_two()) {
            dev_err!(
                dev.as_device(),
                "queue {} has {} entries, which no ring can have\n",
                index,
                size
            );
            return Err(EINVAL);
        }
        let format = if features.has::<NotificationData>() {
            Format::Data
        } else {
            Format::Index
        };
        let doorbell = modern
            .doorbell(registers.notify_off(), format)
            .inspect_err(|_| {
                dev_err!(
                    dev.as_device(),
                    "queue {} has no usable notification register\n",
                    index
                );
            })?;

        let params = Params {
            index: index.into(),
            size: size.into(),
            align: bindings::SMP_CACHE_BYTES,
            weak_barriers: true,
            may_reduce: true,
            context: request.has_context(),
            notify: format.function(),
            callback: request.callback(),
            name: request
                .name()
                .map_or(ptr::null(), |name| name.as_ptr().cast_const()),
        };
        // INVARIANT: Made here, and not enabled yet.
        let ring = Ring {
            // SAFETY: Drivers ask for queues of their device after they agreed on features, and
            // it is the device that embeds the transport.  Before anybody can notify, `priv` is
            // set below.
            queue: unsafe { virtio_ring::create(dev.as_raw(), &params)? },
            quarantine: modern.quarantine.clone(),
        };
        // SAFETY: Made just now, and nobody else has seen it.
        let (addresses, chosen) = unsafe {
            let queue = ring.queue.as_ptr();
            (*queue).num_max = size.into();
            (*queue).priv_ = doorbell.address().as_ptr();
            (
                virtio_ring::addresses(ring.queue),
                virtio_ring::size(ring.queue),
            )
        };
        registers.set_size(u16::try_from(chosen)?);
        registers.set_addresses(&addresses);
        Ok(Self {
            irq: None,
            vector: None,
            ring,
            _doorbell: doorbell,
            index,
            has_callback: request.callback().is_some(),
        })
    }

    /// The queue for its interrupt handler.
    ///
    /// # Safety
    ///
    /// The handler is freed before `self` is dropped.
    pub(crate) unsafe fn for_handler(&self) -> QueueRef {
        // SAFETY: By the type invariants of `Ring`, and by the contract.
        unsafe { QueueRef::new(self.ring.queue) }
    }

    /// Whether the driver wants to know of used buffers.
    pub(crate) fn has_callback(&self) -> bool {
        self.has_callback
    }

    /// Gives the queue a handler of its own, for the vector that it was set up with.
    pub(crate) fn set_irq(&mut self, irq: irq::Registration<UsedBuffers>) {
        self.irq = Some(irq);
    }

    /// The handler that is the queue's alone.
    pub(crate) fn irq(&self) -> Option<&irq::Registration<UsedBuffers>> {
        self.irq.as_ref()
    }

    /// As [`Queue::irq`], to change it.
    pub(crate) fn irq_mut(&mut self) -> Option<&mut irq::Registration<UsedBuffers>> {
        self.irq.as_mut()
    }

    /// The vector that the queue interrupts with.
    pub(crate) fn vector(&self) -> Option<u16> {
        self.vector.as_ref().map(|(vector, _)| *vector)
    }

    pub(crate) fn index(&self) -> u16 {
        self.index
    }

    /// Hands the queue to the driver that asked for it.
    pub(crate) fn provide(&self, request: &mut QueueRequest<'_>) {
        request.provide(self.ring.queue);
    }
}
