// SPDX-License-Identifier: GPL-2.0

//! One virtqueue: from its registers to its ring (specification 4.1.5.1.3).
//!
//! C source: `setup_vq`, `vp_active_vq`, `del_vq` of `drivers/virtio/virtio_pci_modern.c` and
//! `virtio_pci_legacy.c`.

use crate::{
    function::Function,
    interface::{
        Assignment,
        Interface, //
    },
    interrupts::{
        QueueRef,
        UsedBuffers, //
    },
    notify::{
        Doorbell,
        Format, //
    },
    quarantine::Quarantine,
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
use virtio_ring::{
    Addresses,
    Params, //
};
use virtio_spec::{
    pci::QUEUE_SIZE_MAX,
    transport::RingPacked, //
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
    interface: Arc<Interface>,
    quarantine: Arc<Quarantine>,
    index: u16,
}

impl Ring {
    /// Where the device finds it.
    fn addresses(&self) -> Addresses {
        // SAFETY: By the type invariants.
        unsafe { virtio_ring::addresses(self.queue) }
    }
}

// SAFETY: `virtio_ring` may delete a queue on any CPU.
unsafe impl Send for Ring {}
// SAFETY: What takes `&self` only reads what is constant.
unsafe impl Sync for Ring {}

impl Drop for Ring {
    fn drop(&mut self) {
        self.interface.release_queue(self.index);
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

/// Whether a ring can have `size` descriptors (specification 2.7, 2.8.10.1).
pub(crate) fn is_ring_size(size: u16, packed: bool) -> bool {
    (1..=QUEUE_SIZE_MAX).contains(&size) && (packed || size.is_power_of_two())
}

/// A queue that is to be set up.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    index: u16,
    /// Outlives the queue.
    name: Option<&'a CStr>,
    callback: bindings::vq_callback_t,
    has_context: bool,
    is_admin: bool,
}

impl<'a> Wanted<'a> {
    /// One that the driver asks for.
    pub(crate) fn of_driver(index: u16, request: &'a QueueRequest<'_>) -> Self {
        Self {
            index,
            // SAFETY: Drivers name queues with C strings that outlive the queue.
            name: request
                .name()
                .map(|name| unsafe { CStr::from_char_ptr(name.as_ptr()) }),
            callback: request.callback(),
            has_context: request.has_context(),
            is_admin: false,
        }
    }

    /// The administration queue, whose `name` outlives it.
    pub(crate) fn administration(
        index: u16,
        name: &'a CStr,
        callback: bindings::vq_callback_t,
    ) -> Self {
        Self {
            index,
            name: Some(name),
            callback,
            has_context: false,
            is_admin: true,
        }
    }

    pub(crate) fn name(&self) -> Option<&'a CStr> {
        self.name
    }

    /// Whether somebody wants to know of used buffers.
    pub(crate) fn has_callback(&self) -> bool {
        self.callback.is_some()
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
    has_callback: bool,
}

impl Queue {
    /// Sets a queue up, but for enabling it.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOENT` if the device does not have it, `EINVAL` if its size or its notification register
    /// are impossible, `ENOMEM`, `E2BIG` if the device has no room for its address; `EBUSY` if the
    /// device does not take the vector.
    pub(crate) fn set_up(
        function: &Function,
        dev: &Device,
        wanted: &Wanted<'_>,
        vector: Option<u16>,
    ) -> Result<Self, Failed> {
        let mut queue = Self::make(function, dev, wanted).map_err(Failed::Queue)?;
        if let Some(vector) = vector {
            let assignment = Assignment::queue(&function.interface, wanted.index, vector)
                .map_err(Failed::Vectors)?;
            queue.vector = Some((vector, assignment));
        }
        Ok(queue)
    }

    fn make(function: &Function, dev: &Device, wanted: &Wanted<'_>) -> Result<Self> {
        let interface = &function.interface;
        let index = wanted.index;
        let size = if wanted.is_admin {
            interface.size_of_unused(index)
        } else {
            interface.queue_size(index)
        }?;
        let features = dev.features();
        let packed = features.has::<RingPacked>();
        if !is_ring_size(size, packed) {
            dev_err!(
                dev.as_device(),
                "queue {} has {} entries, which no ring can have\n",
                index,
                size
            );
            return Err(EINVAL);
        }
        let format = Format::new(features);
        let doorbell = interface.doorbell(index, format).inspect_err(|_| {
            dev_err!(
                dev.as_device(),
                "queue {} has no usable notification register\n",
                index
            );
        })?;

        let rules = interface.ring_rules();
        let params = Params {
            index: index.into(),
            size: size.into(),
            align: rules.align,
            weak_barriers: true,
            may_reduce: rules.may_reduce,
            context: wanted.has_context,
            notify: format.function(),
            callback: wanted.callback,
            name: wanted.name.map_or(ptr::null(), CStr::as_char_ptr),
        };
        // INVARIANT: Made here, and not enabled yet.
        let ring = Ring {
            // SAFETY: Drivers ask for queues of their device after they agreed on features, and
            // it is the device that embeds the transport.  Before anybody can notify, `priv` is
            // set below.
            queue: unsafe { virtio_ring::create(dev.as_raw(), &params)? },
            interface: interface.clone(),
            quarantine: function.quarantine.clone(),
            index,
        };
        // SAFETY: Made just now, and nobody else has seen it.
        let chosen = unsafe {
            let queue = ring.queue.as_ptr();
            (*queue).num_max = size.into();
            (*queue).priv_ = doorbell.cookie().as_ptr();
            virtio_ring::size(ring.queue)
        };
        interface.place_queue(index, u16::try_from(chosen)?, &ring.addresses())?;
        Ok(Self {
            irq: None,
            vector: None,
            ring,
            _doorbell: doorbell,
            has_callback: wanted.has_callback(),
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
        self.ring.index
    }

    /// Hands the queue to the device, which has no way back but a reset.  May sleep.
    ///
    /// # Errors
    ///
    /// As [`Interface::enable_queue`].
    pub(crate) fn enable(&self) -> Result {
        let ring = &self.ring;
        ring.interface.enable_queue(ring.index, &ring.addresses())
    }

    /// Whether interrupts leave the queue alone, since it was reset alone.
    pub(crate) fn is_off(&self) -> bool {
        // SAFETY: Gone before `self` is.
        unsafe { self.for_handler() }.is_off()
    }

    /// Has interrupts leave the queue alone, or not.
    pub(crate) fn set_off(&self, off: bool) {
        // SAFETY: Gone before `self` is.
        unsafe { self.for_handler() }.set_off(off);
    }

    /// Tells a device that has reset the queue of its ring and its vector again, but for enabling
    /// it.  May sleep.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the device does not show the queue as reset, or does not take the vector.
    pub(crate) fn place_again(&self) -> Result {
        let Ring {
            queue,
            interface,
            index,
            ..
        } = &self.ring;
        if !interface.is_queue_reset(*index) {
            return Err(EBUSY);
        }
        // SAFETY: By the type invariants of `Ring`.
        let size = unsafe { virtio_ring::size(*queue) };
        interface.place_queue(*index, u16::try_from(size)?, &self.ring.addresses())?;
        match &self.vector {
            Some((vector, assignment)) => assignment.renew(*vector),
            None => Ok(()),
        }
    }

    /// Marks the queue as broken: adds, kicks and polls do nothing from now on.
    pub(crate) fn break_ring(&self) {
        // SAFETY: By the type invariants of `Ring`.
        unsafe { bindings::__virtqueue_break(self.ring.queue.as_ptr()) };
    }

    /// The queue as C knows it.
    pub(crate) fn as_raw(&self) -> NonNull<bindings::virtqueue> {
        self.ring.queue
    }

    /// Hands the queue to the driver that asked for it.
    pub(crate) fn provide(&self, request: &mut QueueRequest<'_>) {
        request.provide(self.ring.queue);
    }
}
