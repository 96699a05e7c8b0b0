// SPDX-License-Identifier: GPL-2.0

//! Which interrupt goes with which queue (specification 4.1.5.1.2 and 4.1.5.5).
//!
//! C source: `vp_find_vqs` of `drivers/virtio/virtio_pci_common.c`.
//!
//! In this order: a vector for each queue and one for configuration changes; the same, but that
//! the administration queue shares that of configuration changes; one for all queues but that, and
//! one for configuration changes; the interrupt line for everything.  What an attempt took is given
//! back before the next.

use crate::{
    function::Function,
    interface::Assignment,
    interrupts::{
        ConfigChanged,
        Line,
        QueueRef,
        SharedUsedBuffers,
        UsedBuffers, //
    },
    queues::{
        Failed,
        Queue,
        Wanted, //
    },
};
use core::ptr::{
    self,
    NonNull, //
};
use kernel::{
    cpumask::Cpumask,
    prelude::*,
    str::CString,
    sync::Arc, //
};
use pci_ext::irq::{
    Registration,
    Vectors, //
};
use virtio::{
    device::Device,
    transport::QueueRequest, //
};
use virtio_bindings as bindings;

/// The vector for configuration changes.
const CONFIG_VECTOR: u16 = 0;
/// The first vector for queues, or the one that they share.
const QUEUE_VECTOR: u16 = 1;

/// The interrupts that are not of one queue alone.
enum Shared {
    /// The line has everything.
    Line(Registration<Line>),
    /// Vectors; that of the queues, if they share one.
    Vectors(
        Registration<ConfigChanged>,
        Option<Registration<SharedUsedBuffers>>,
    ),
}

/// The queues of a device, with their interrupts.
pub(crate) struct QueueSet {
    // Dropped from the top: handlers, queues, the device's way to call us, vectors.
    shared: Shared,
    queues: KVec<Queue>,
    admin: Option<Queue>,
    _config: Option<Assignment>,
    vectors: Option<Arc<Vectors>>,
    /// The name of `admin`.
    _admin_name: Option<CString>,
}

/// How queues share vectors.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Policy {
    /// Each has its own.
    Each,
    /// Each has its own, but the administration queue has that of configuration changes.
    SharedSlow,
    /// The driver's queues have one together, the administration queue as above.
    Shared,
}

/// What the attempts have in common.
struct Attempt<'a, 'r> {
    function: &'a Function,
    dev: &'a Device,
    requests: &'a [QueueRequest<'r>],
    admin: Option<Wanted<'a>>,
}

impl QueueSet {
    /// Sets up all queues that `requests` name, and the administration queue, whose used buffers
    /// `admin_used` is told of, but for enabling them.  May sleep.
    ///
    /// # Errors
    ///
    /// Those of [`Queue::set_up`] and [`Interface::admin_queue`], or of the interrupts that
    /// nothing but the line could replace.
    ///
    /// [`Interface::admin_queue`]: crate::interface::Interface::admin_queue
    pub(crate) fn find(
        function: &Function,
        dev: &Device,
        requests: &[QueueRequest<'_>],
        admin_used: bindings::vq_callback_t,
        affinity: Option<bindings::irq_affinity>,
    ) -> Result<Self> {
        let index = function.interface.admin_queue(dev.features())?;
        let name = index
            .map(|index| CString::try_from_fmt(fmt!("avq.{}", index)))
            .transpose()?;
        let attempt = Attempt {
            function,
            dev,
            requests,
            admin: index
                .zip(name.as_deref())
                .map(|(index, name)| Wanted::administration(index, name, admin_used)),
        };
        let mut set = attempt.best(affinity)?;
        set._admin_name = name;
        Ok(set)
    }

    /// Enables all queues, which has no way back but a reset.  May sleep.
    ///
    /// # Errors
    ///
    /// `EIO` if one does not read as enabled before the deadline.
    pub(crate) fn enable(&self, function: &Function) -> Result {
        for queue in self.all() {
            queue.enable()?;
        }
        for queue in self.all() {
            function
                .interface
                .await_enabled(queue.index())
                .inspect_err(|_| {
                    dev_err!(
                        (*function.pci).as_ref(),
                        "queue {} does not enable\n",
                        queue.index()
                    );
                })?;
        }
        Ok(())
    }

    /// The driver's queues, and the administration queue.
    fn all(&self) -> impl Iterator<Item = &Queue> {
        Iterator::chain(self.queues.iter(), &self.admin)
    }

    /// The administration queue, good as long as `self`.
    pub(crate) fn admin_queue(&self) -> Option<NonNull<bindings::virtqueue>> {
        self.admin.as_ref().map(Queue::as_raw)
    }

    /// Hands the queues to those that asked for them.
    pub(crate) fn provide(&self, requests: &mut [QueueRequest<'_>]) {
        let named = requests
            .iter_mut()
            .filter(|request| request.name().is_some());
        for (queue, request) in self.queues.iter().zip(named) {
            queue.provide(request);
        }
    }

    /// Waits until no handler runs.  May sleep.
    pub(crate) fn synchronize(&self) {
        match &self.shared {
            Shared::Line(line) => line.synchronize(),
            Shared::Vectors(config, queues) => {
                config.synchronize();
                if let Some(queues) = queues {
                    queues.synchronize();
                }
            }
        }
        for queue in self.all() {
            if let Some(irq) = queue.irq() {
                irq.synchronize();
            }
        }
    }

    /// The queue with number `index`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is none.
    pub(crate) fn queue(&self, index: u32) -> Result<&Queue> {
        self.queues.get(index as usize).ok_or(EINVAL)
    }

    /// Waits until no handler looks at `queue`.  May sleep.
    pub(crate) fn synchronize_queue(&self, queue: &Queue) {
        match (queue.irq(), &self.shared) {
            (Some(irq), _) => irq.synchronize(),
            (None, Shared::Vectors(_, Some(queues))) => queues.synchronize(),
            (None, Shared::Line(line)) => line.synchronize(),
            // It has no callback.
            (None, Shared::Vectors(_, None)) => {}
        }
    }

    /// Steers the interrupt of a queue: its own, or the one that it shares.  Nothing is done to
    /// the line.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such queue, or it has no interrupt; `ENOMEM`.
    pub(crate) fn set_affinity(&mut self, index: u32, mask: Option<&Cpumask>) -> Result {
        let queue = self.queues.get_mut(index as usize).ok_or(EINVAL)?;
        if !queue.has_callback() {
            return Err(EINVAL);
        }
        if let Some(irq) = queue.irq_mut() {
            return irq.set_affinity_hint(mask);
        }
        match &mut self.shared {
            Shared::Vectors(_, Some(irq)) => irq.set_affinity_hint(mask),
            _ => Ok(()),
        }
    }

    /// The processors that the interrupt of a queue goes to, if that is its own; else null.
    pub(crate) fn affinity(&self, index: u32) -> *const bindings::cpumask {
        let vector = self
            .queues
            .get(index as usize)
            .filter(|queue| queue.irq().is_some())
            .and_then(Queue::vector);
        match (&self.vectors, vector) {
            (Some(vectors), Some(vector)) => vectors.affinity(vector),
            _ => ptr::null(),
        }
    }
}

impl Attempt<'_, '_> {
    /// A name in `/proc/interrupts`: `virtio0`, or `virtio0-` and `what`.
    fn irq_name(&self, what: Option<&CStr>) -> Result<CString> {
        let device = self.dev.as_device().name();
        match what {
            Some(what) => CString::try_from_fmt(fmt!("{}-{}", device, what)),
            None => CString::try_from_fmt(fmt!("{}", device)),
        }
    }

    /// The handler of configuration changes, and of the administration queue if that has no
    /// other.
    ///
    /// # Safety
    ///
    /// It is freed before `slow` is dropped.
    unsafe fn config_handler(&self, slow: Option<&Queue>) -> ConfigChanged {
        // SAFETY: By the contract.
        let slow = slow.map(|queue| unsafe { queue.for_handler() });
        // SAFETY: The handler is kept by a `QueueSet`, which the transport keeps, which the device
        // embeds: it is freed before the device is.
        unsafe { ConfigChanged::new(self.dev, slow) }
    }

    /// The queues that the driver names.
    fn wanted(&self) -> impl Iterator<Item = Wanted<'_>> {
        let named = self
            .requests
            .iter()
            .filter(|request| request.name().is_some());
        (0..=u16::MAX)
            .zip(named)
            .map(|(index, request)| Wanted::of_driver(index, request))
    }

    /// Sets up the driver's queues; `vector` says which vector one with a callback gets.
    fn queues(&self, mut vector: impl FnMut() -> Option<u16>) -> Result<KVec<Queue>, Failed> {
        let mut queues = KVec::with_capacity(self.wanted().count(), GFP_KERNEL)
            .map_err(|error| Failed::Queue(error.into()))?;
        for wanted in self.wanted() {
            let vector = if wanted.has_callback() {
                vector()
            } else {
                None
            };
            let queue = Queue::set_up(self.function, self.dev, &wanted, vector)?;
            queues
                .push(queue, GFP_KERNEL)
                .map_err(|error| Failed::Queue(error.into()))?;
        }
        Ok(queues)
    }

    /// Sets up the administration queue, if there is one.
    fn admin(&self, vector: Option<u16>) -> Result<Option<Queue>, Failed> {
        self.admin
            .as_ref()
            .map(|wanted| Queue::set_up(self.function, self.dev, wanted, vector))
            .transpose()
    }

    /// The queues that one handler looks after.
    ///
    /// # Safety
    ///
    /// The handler is freed before one of `queues` is dropped.
    unsafe fn for_shared_handler<'q>(
        queues: impl Iterator<Item = &'q Queue> + Clone,
    ) -> Result<SharedUsedBuffers> {
        let mut refs: KVec<QueueRef> = KVec::with_capacity(queues.clone().count(), GFP_KERNEL)?;
        for queue in queues.filter(|queue| queue.has_callback()) {
            // SAFETY: By the contract.
            refs.push(unsafe { queue.for_handler() }, GFP_KERNEL)?;
        }
        Ok(SharedUsedBuffers(refs))
    }

    /// The first policy for which there are vectors; else the line.
    fn best(&self, affinity: Option<bindings::irq_affinity>) -> Result<QueueSet> {
        let mut reason = ENOSPC;
        for policy in [Policy::Each, Policy::SharedSlow, Policy::Shared] {
            if policy == Policy::SharedSlow && self.admin.is_none() {
                // The same as before.
                continue;
            }
            match self.with_vectors(policy, affinity) {
                Ok(set) => return Ok(set),
                Err(Failed::Queue(error)) => return Err(error),
                Err(Failed::Vectors(error)) => reason = error,
            }
        }
        self.with_line().map_err(|failed| match failed {
            // There is no line: say why there are no vectors.
            Failed::Vectors(no_line) if no_line == ENXIO => reason,
            Failed::Vectors(other) | Failed::Queue(other) => other,
        })
    }

    /// How many vectors a policy takes.
    fn count(&self, policy: Policy) -> usize {
        let interrupting = self.wanted().filter(Wanted::has_callback).count();
        let admin = usize::from(self.admin.is_some());
        match policy {
            Policy::Each => interrupting + admin + 1,
            Policy::SharedSlow => interrupting + 1,
            Policy::Shared => 2,
        }
    }

    fn with_vectors(
        &self,
        policy: Policy,
        affinity: Option<bindings::irq_affinity>,
    ) -> Result<QueueSet, Failed> {
        let affinity = affinity
            .filter(|_| policy != Policy::Shared)
            .map(|mut affinity| {
                // That of configuration changes is not spread.
                affinity.pre_vectors = affinity.pre_vectors.saturating_add(1);
                affinity
            });
        let vectors = u16::try_from(self.count(policy))
            .map_err(Error::from)
            .and_then(|count| Vectors::allocate(&self.function.pci, count, affinity))
            .map_err(Failed::Vectors)?;
        let mut free = QUEUE_VECTOR..;
        let queues = self.queues(|| match policy {
            Policy::Shared => Some(QUEUE_VECTOR),
            Policy::Each | Policy::SharedSlow => free.next(),
        })?;
        let admin = self.admin(match policy {
            Policy::Each => free.next(),
            Policy::SharedSlow | Policy::Shared => Some(CONFIG_VECTOR),
        })?;
        let slow = admin.as_ref().filter(|_| policy != Policy::Each);
        let config = self
            .irq_name(Some(c"config"))
            .and_then(|name| {
                // SAFETY: `QueueSet` drops its shared handlers before its queues, and so does this
                // function, whose variables go in the reverse order.
                let handler = unsafe { self.config_handler(slow) };
                Registration::for_vector(&vectors, CONFIG_VECTOR, name, handler)
            })
            .map_err(Failed::Vectors)?;
        let assignment =
            Assignment::config(&self.function.interface, CONFIG_VECTOR).map_err(Failed::Vectors)?;
        let mut set = QueueSet {
            shared: Shared::Vectors(config, None),
            queues,
            admin,
            _config: Some(assignment),
            vectors: Some(vectors.clone()),
            _admin_name: None,
        };
        if policy == Policy::Shared {
            self.share_vector(&mut set, &vectors)
        } else {
            self.give_each_its_handler(&mut set, &vectors)
        }
        .map_err(Failed::Vectors)?;
        Ok(set)
    }

    /// Registers a handler for each queue that has a vector of its own.
    fn give_each_its_handler(&self, set: &mut QueueSet, vectors: &Arc<Vectors>) -> Result {
        let wanted = Iterator::chain(self.wanted(), self.admin);
        for (queue, wanted) in Iterator::chain(set.queues.iter_mut(), &mut set.admin).zip(wanted) {
            let Some(vector) = queue.vector().filter(|vector| *vector != CONFIG_VECTOR) else {
                continue;
            };
            let name = self.irq_name(wanted.name())?;
            // SAFETY: The queue keeps the handler, and drops it first.
            let handler = UsedBuffers(unsafe { queue.for_handler() });
            queue.set_irq(Registration::for_vector(vectors, vector, name, handler)?);
        }
        Ok(())
    }

    /// Registers the handler that the driver's queues have together.
    fn share_vector(&self, set: &mut QueueSet, vectors: &Arc<Vectors>) -> Result {
        let name = self.irq_name(Some(c"virtqueues"))?;
        // SAFETY: `QueueSet` drops its shared handlers before its queues.
        let handler = unsafe { Self::for_shared_handler(set.queues.iter()) }?;
        let irq = Registration::for_vector(vectors, QUEUE_VECTOR, name, handler)?;
        if let Shared::Vectors(_, queues) = &mut set.shared {
            *queues = Some(irq);
        }
        Ok(())
    }

    fn with_line(&self) -> Result<QueueSet, Failed> {
        let queues = self.queues(|| None)?;
        let admin = self.admin(None)?;
        let line = self
            .irq_name(None)
            .and_then(|name| {
                // SAFETY: `QueueSet` drops its shared handlers before its queues, and so does this
                // function, whose variables go in the reverse order.
                let (config, queues) = unsafe {
                    (
                        self.config_handler(None),
                        Self::for_shared_handler(Iterator::chain(queues.iter(), &admin)),
                    )
                };
                let handler = Line {
                    isr: self.function.isr.clone(),
                    config,
                    queues: queues?,
                };
                Registration::for_line(&self.function.pci, name, handler)
            })
            .map_err(Failed::Vectors)?;
        Ok(QueueSet {
            shared: Shared::Line(line),
            queues,
            admin,
            _config: None,
            vectors: None,
            _admin_name: None,
        })
    }
}
