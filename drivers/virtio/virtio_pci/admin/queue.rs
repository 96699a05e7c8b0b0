// SPDX-License-Identifier: GPL-2.0

//! The engine: puts commands into a ring, waits for answers, and gives up.
//!
//! C source: `virtqueue_exec_admin_cmd`, `vp_modern_avq_done` and `vp_modern_avq_cleanup` of
//! `drivers/virtio/virtio_pci_modern.c`.
//!
//! It knows the ring, and nothing of PCI.  A command has one reference from the ring, as long as
//! the device may use it, and one from who waits: when the deadline passes, the caller goes and
//! the memory stays, until the device answers after all or was reset.

use crate::admin::command::{
    Command,
    Outcome, //
};
use core::ptr::NonNull;
use kernel::{
    new_spinlock_irq,
    prelude::*,
    sync::{
        Arc,
        SpinLockIrq, //
    },
    time::{
        delay::fsleep,
        Delta,
        Instant,
        Monotonic, //
    }, //
};
use virtio_bindings as bindings;
use virtio_ring::{
    CbState,
    Vring, //
};

/// How often a full ring is looked at.
const FULL_INTERVAL: Delta = Delta::from_millis(1);

/// A ring whose tokens are commands.
///
/// # Invariants
///
/// Made by `virtio_ring`, not deleted as long as `self` exists; every token in it is the result of
/// `Arc::<Command>::into_raw`.
struct Ring(NonNull<bindings::virtqueue>);

// SAFETY: A ring belongs to no thread.
unsafe impl Send for Ring {}

impl Ring {
    fn vring(&self) -> &Vring {
        // SAFETY: By the type invariants.
        unsafe { Vring::from_raw(self.0.as_ptr()) }
    }

    fn is_broken(&self) -> bool {
        self.vring().observer().is_broken()
    }
}

/// What the lock protects.
struct State {
    ring: Option<Ring>,
    /// Commands may be added.
    open: bool,
    /// How many commands are with the device.
    in_flight: usize,
    /// Those whose callers wait.
    waiting: KVec<Arc<Command>>,
}

/// What came of adding a command.
enum Added {
    /// It is with the device.
    Yes,
    /// There is no room before another one is answered.
    Full,
}

impl State {
    /// Adds a command, and tells the device.
    ///
    /// # Errors
    ///
    /// `EIO` if the ring is broken or closed; `ENOMEM` if it was not added for lack of memory.
    fn add(
        &mut self,
        command: &Arc<Command>,
        lists: &mut [*mut bindings::scatterlist],
        readable: usize,
    ) -> Result<Added> {
        let ring = self.ring.as_ref().filter(|_| self.open).ok_or(EIO)?;
        if ring.is_broken() {
            return Err(EIO);
        }
        self.waiting.push(command.clone(), GFP_ATOMIC)?;
        let token = Arc::into_raw(command.clone());
        let writable = lists.len().saturating_sub(readable);
        // SAFETY: The lock is held, so nobody else uses the ring.  Each list has one entry and
        // points to memory of the command, of which the ring gets a reference.
        let result = unsafe {
            bindings::virtqueue_add_sgs(
                ring.0.as_ptr(),
                lists.as_mut_ptr(),
                readable as c_uint,
                writable as c_uint,
                token.cast_mut().cast(),
                bindings::GFP_ATOMIC,
            )
        };
        if result < 0 {
            // SAFETY: Taken apart above, and not added.
            drop(unsafe { Arc::from_raw(token) });
            self.waiting.pop();
            return match Error::from_errno(result) {
                error if error != ENOSPC => Err(error),
                // What does not fit into an empty ring never will, without an indirect table.
                _ if self.in_flight == 0 => Err(ENOMEM),
                _ => Ok(Added::Full),
            };
        }
        self.in_flight += 1;
        // SAFETY: The lock is held.
        if !unsafe { bindings::virtqueue_kick(ring.0.as_ptr()) } {
            // Not taken back: without a reset, the device may look at it all the same.
            self.abort();
        }
        Ok(Added::Yes)
    }

    /// Takes what the device has used; whether a queue that has become useless should be given up
    /// by those who wait is decided here too.
    fn drain(&mut self) {
        let Some(ring) = self.ring.as_ref() else {
            return;
        };
        let vring = ring.vring();
        loop {
            vring.observer().disable_cb();
            // SAFETY: The lock is held, so nobody else uses the ring.
            while let Some((token, written)) = unsafe { vring.get() } {
                // SAFETY: By the type invariants of `Ring`; a token comes back once.
                let command = unsafe { Arc::from_raw(token.data.as_ptr().cast::<Command>()) };
                command.finish(Outcome::Used(written));
                self.in_flight = self.in_flight.saturating_sub(1);
            }
            // SAFETY: As above.
            if ring.is_broken() || matches!(unsafe { vring.enable_callbacks() }, CbState::Armed) {
                break;
            }
        }
        if ring.is_broken() {
            self.abort();
        }
    }

    /// Takes back what the device has not used.
    ///
    /// # Safety
    ///
    /// The device was reset, and its interrupt handlers do not run.
    unsafe fn take_back(&mut self) {
        if let Some(ring) = &self.ring {
            // SAFETY: By the contract, and since the lock is held.
            while let Some(token) = unsafe { ring.vring().detach() } {
                // SAFETY: By the type invariants of `Ring`; a token comes back once.
                drop(unsafe { Arc::from_raw(token.data.as_ptr().cast::<Command>()) });
            }
        }
        self.in_flight = 0;
    }

    /// Wakes all who wait: there will be no answer.
    fn abort(&mut self) {
        for command in &self.waiting {
            command.finish(Outcome::Aborted);
        }
    }

    fn forget(&mut self, command: &Arc<Command>) {
        self.waiting.retain(|other| !Arc::ptr_eq(other, command));
    }
}

/// A queue for commands; without a ring at first.
#[pin_data]
pub(crate) struct CommandQueue {
    #[pin]
    state: SpinLockIrq<State>,
}

impl CommandQueue {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            state <- new_spinlock_irq!(
                State {
                    ring: None,
                    open: false,
                    in_flight: 0,
                    waiting: KVec::new(),
                },
                "virtio_pci::admin::CommandQueue"
            ),
        })
    }

    /// Starts to use a ring.
    ///
    /// # Safety
    ///
    /// - `queue` was made by `virtio_ring`, is empty, and nobody else adds to it or takes from it;
    /// - it is not deleted before [`CommandQueue::leave`], or [`CommandQueue::stop`] after a reset.
    pub(crate) unsafe fn start(&self, queue: NonNull<bindings::virtqueue>) {
        let mut state = self.state.lock();
        // INVARIANT: By the contract; what is added is added here.
        state.ring = Some(Ring(queue));
        state.open = true;
        state.in_flight = 0;
    }

    /// Whether there is a ring that takes commands.
    pub(crate) fn is_open(&self) -> bool {
        self.state.lock().open
    }

    /// Takes no more commands: the device is about to be reset.  Any context.
    pub(crate) fn close(&self) {
        self.state.lock().open = false;
    }

    /// Takes no more commands, and wakes those who wait: the device is gone.  Any context.
    pub(crate) fn give_up(&self) {
        let mut state = self.state.lock();
        state.open = false;
        state.abort();
    }

    /// Takes no more commands, and wakes those who wait.  What is with a device that was `reset` is
    /// taken back, and the ring left; else it stays in the ring.  Any context.
    ///
    /// # Safety
    ///
    /// If `reset`, then the device was reset, and its interrupt handlers do not run any more.
    pub(crate) unsafe fn stop(&self, reset: bool) {
        let mut state = self.state.lock();
        state.open = false;
        if reset {
            // SAFETY: By the contract.
            unsafe { state.take_back() };
            state.ring = None;
        }
        state.abort();
    }

    /// Leaves the ring, with what is in it.  Any context.
    pub(crate) fn leave(&self) {
        self.state.lock().ring = None;
    }

    /// The callback of the ring: the device has used commands.  Any context.
    pub(crate) fn used(&self) {
        self.state.lock().drain();
    }

    /// How many commands are with the device.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn in_flight(&self) -> usize {
        self.state.lock().in_flight
    }

    /// Has the device carry out a command; returns the bytes that it wrote.  Sleeps, no longer than
    /// for `deadline`, whatever signals come.
    ///
    /// # Errors
    ///
    /// `EIO` if there is no ring, or it broke, or the device was reset meanwhile; `ETIMEDOUT` if
    /// the device did not answer, or made no room, before the deadline; `ENOMEM`.
    pub(crate) fn execute(&self, command: &Arc<Command>, deadline: Delta) -> Result<u32> {
        let start = Instant::<Monotonic>::now();
        let (mut entries, readable) = command.entries()?;
        let mut lists = KVec::with_capacity(entries.len(), GFP_KERNEL)?;
        for entry in &mut entries {
            lists.push(core::ptr::from_mut(entry), GFP_KERNEL)?;
        }
        loop {
            let added = self.state.lock().add(command, &mut lists, readable)?;
            match added {
                Added::Yes => break,
                Added::Full if start.elapsed() >= deadline => return Err(ETIMEDOUT),
                Added::Full => fsleep(FULL_INTERVAL),
            }
        }
        command.wait(deadline - start.elapsed());
        {
            let mut state = self.state.lock();
            if command.outcome() == Outcome::Pending {
                // Perhaps the interrupt got lost.
                state.drain();
            }
            state.forget(command);
        }
        match command.outcome() {
            Outcome::Used(written) => Ok(written),
            Outcome::Aborted => Err(EIO),
            Outcome::Pending => Err(ETIMEDOUT),
        }
    }
}
