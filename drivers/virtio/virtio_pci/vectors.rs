// SPDX-License-Identifier: GPL-2.0

//! Which interrupt goes with which queue (specification 4.1.5.1.2 and 4.1.5.5).
//!
//! C source: `vp_find_vqs` of `drivers/virtio/virtio_pci_common.c`.
//!
//! In this order: a vector for each queue and one for configuration changes; one for all queues
//! and one for configuration changes; the interrupt line for everything.  What an attempt took is
//! given back before the next.

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
        Queue, //
    },
};
use core::ptr;
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
    _config: Option<Assignment>,
    vectors: Option<Arc<Vectors>>,
}

/// What the attempts have in common.
struct Attempt<'a, 'r> {
    function: &'a Function,
    dev: &'a Device,
    requests: &'a [QueueRequest<'r>],
}

impl QueueSet {
    /// Sets up all queues that `requests` name, but for enabling them.  May sleep.
    ///
    /// # Errors
    ///
    /// Those of [`Queue::set_up`], or of the interrupts that nothing but the line could replace.
    pub(crate) fn find(
        function: &Function,
        dev: &Device,
        requests: &[QueueRequest<'_>],
        affinity: Option<bindings::irq_affinity>,
    ) -> Result<Self> {
        let attempt = Attempt {
            function,
            dev,
            requests,
        };
        let each = attempt.with_vector_each(affinity);
        let shared = match each {
            Err(Failed::Vectors(_)) => attempt.with_shared_vector(),
            other => other,
        };
        match shared {
            Err(Failed::Vectors(error)) => attempt.with_line().map_err(|failed| match failed {
                // There is no line: say why there are no vectors.
                Failed::Vectors(no_line) if no_line == ENXIO => error,
                Failed::Vectors(other) | Failed::Queue(other) => other,
            }),
            Err(Failed::Queue(error)) => Err(error),
            Ok(set) => Ok(set),
        }
    }

    /// Enables all queues, which has no way back but a reset.  May sleep.
    ///
    /// # Errors
    ///
    /// `EIO` if one does not read as enabled before the deadline.
    pub(crate) fn enable(&self, function: &Function) -> Result {
        for queue in &self.queues {
            queue.enable()?;
        }
        for queue in &self.queues {
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
        for queue in &self.queues {
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

    fn config_handler(&self) -> ConfigChanged {
        // SAFETY: The handler is kept by a `QueueSet`, which the transport keeps, which the device
        // embeds: it is freed before the device is.
        unsafe { ConfigChanged::new(self.dev) }
    }

    /// Allocates vectors, and gives the first to configuration changes.
    fn vectors(
        &self,
        count: usize,
        affinity: Option<bindings::irq_affinity>,
    ) -> Result<(Arc<Vectors>, Registration<ConfigChanged>, Assignment)> {
        let vectors = Vectors::allocate(&self.function.pci, u16::try_from(count)?, affinity)?;
        let name = self.irq_name(Some(c"config"))?;
        let handler =
            Registration::for_vector(&vectors, CONFIG_VECTOR, name, self.config_handler())?;
        let assignment = Assignment::config(&self.function.interface, CONFIG_VECTOR)?;
        Ok((vectors, handler, assignment))
    }

    /// Sets up the queues; `vector` says which vector one with a callback gets.
    fn queues(&self, mut vector: impl FnMut() -> Option<u16>) -> Result<KVec<Queue>, Failed> {
        let named = || {
            self.requests
                .iter()
                .filter(|request| request.name().is_some())
        };
        let mut queues = KVec::with_capacity(named().count(), GFP_KERNEL)
            .map_err(|error| Failed::Queue(error.into()))?;
        for (index, request) in (0..=u16::MAX).zip(named()) {
            let vector = request.callback().and_then(|_| vector());
            let queue = Queue::set_up(self.function, self.dev, index, request, vector)?;
            queues
                .push(queue, GFP_KERNEL)
                .map_err(|error| Failed::Queue(error.into()))?;
        }
        Ok(queues)
    }

    /// The queues that one handler looks after.
    ///
    /// # Safety
    ///
    /// The handler is freed before one of `queues` is dropped.
    unsafe fn for_shared_handler(queues: &KVec<Queue>) -> Result<SharedUsedBuffers> {
        let mut refs: KVec<QueueRef> = KVec::with_capacity(queues.len(), GFP_KERNEL)?;
        for queue in queues.iter().filter(|queue| queue.has_callback()) {
            // SAFETY: By the contract.
            refs.push(unsafe { queue.for_handler() }, GFP_KERNEL)?;
        }
        Ok(SharedUsedBuffers(refs))
    }

    fn with_vector_each(
        &self,
        affinity: Option<bindings::irq_affinity>,
    ) -> Result<QueueSet, Failed> {
        let interrupting = self
            .requests
            .iter()
            .filter(|request| request.name().is_some() && request.callback().is_some())
            .count();
        let affinity = affinity.map(|mut affinity| {
            // That of configuration changes is not spread.
            affinity.pre_vectors = affinity.pre_vectors.saturating_add(1);
            affinity
        });
        let (vectors, config, assignment) = self
            .vectors(interrupting.saturating_add(1), affinity)
            .map_err(Failed::Vectors)?;
        let mut free = QUEUE_VECTOR..;
        let mut set = QueueSet {
            shared: Shared::Vectors(config, None),
            queues: self.queues(|| free.next())?,
            _config: Some(assignment),
            vectors: Some(vectors.clone()),
        };
        let named = self
            .requests
            .iter()
            .filter(|request| request.name().is_some());
        for (queue, request) in set.queues.iter_mut().zip(named) {
            let Some(vector) = queue.vector() else {
                continue;
            };
            let irq = self
                .irq_name(queue_name(request))
                .and_then(|name| {
                    // SAFETY: The queue keeps the handler, and drops it first.
                    let handler = UsedBuffers(unsafe { queue.for_handler() });
                    Registration::for_vector(&vectors, vector, name, handler)
                })
                .map_err(Failed::Vectors)?;
            queue.set_irq(irq);
        }
        Ok(set)
    }

    fn with_shared_vector(&self) -> Result<QueueSet, Failed> {
        let (vectors, config, assignment) = self.vectors(2, None).map_err(Failed::Vectors)?;
        let mut set = QueueSet {
            shared: Shared::Vectors(config, None),
            queues: self.queues(|| Some(QUEUE_VECTOR))?,
            _config: Some(assignment),
            vectors: Some(vectors.clone()),
        };
        let irq = self
            .irq_name(Some(c"virtqueues"))
            .and_then(|name| {
                // SAFETY: `QueueSet` drops its shared handlers before its queues.
                let handler = unsafe { Self::for_shared_handler(&set.queues) }?;
                Registration::for_vector(&vectors, QUEUE_VECTOR, name, handler)
            })
            .map_err(Failed::Vectors)?;
        if let Shared::Vectors(_, queues) = &mut set.shared {
            *queues = Some(irq);
        }
        Ok(set)
    }

    fn with_line(&self) -> Result<QueueSet, Failed> {
        let queues = self.queues(|| None)?;
        let line = self
            .irq_name(None)
            .and_then(|name| {
                let handler = Line {
                    isr: self.function.isr.clone(),
                    config: self.config_handler(),
                    // SAFETY: `QueueSet` drops its shared handlers before its queues.
                    queues: unsafe { Self::for_shared_handler(&queues) }?,
                };
                Registration::for_line(&self.function.pci, name, handler)
            })
            .map_err(Failed::Vectors)?;
        Ok(QueueSet {
            shared: Shared::Line(line),
            queues,
            _config: None,
            vectors: None,
        })
    }
}

fn queue_name<'a>(request: &'a QueueRequest<'_>) -> Option<&'a CStr> {
    // SAFETY: Drivers name queues with C strings that outlive the request.
    request
        .name()
        .map(|name| unsafe { CStr::from_char_ptr(name.as_ptr()) })
}
