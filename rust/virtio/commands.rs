// SPDX-License-Identifier: GPL-2.0

//! Queues of commands that somebody sleeps for: control and administration.
//!
//! C source: `virtnet_send_command_reply` of `drivers/net/virtio_net.c`, which spins for the
//! answer; `virtqueue_exec_admin_cmd`, `vp_modern_avq_done` and `vp_modern_avq_cleanup` of
//! `drivers/virtio/virtio_pci_modern.c`, which wait without end.
//!
//! A command is read by the device as a header and data, and answered with a status and a result.
//! It has one reference from the ring, as long as the device may use it, and one from who waits:
//! when the deadline passes, the caller goes and the memory stays, until the device answers after
//! all or was reset.  An answer that comes late is that of its own command and of no other.
//!
//! Commands get into the ring in the order in which callers came, several at a time.

mod command;
mod memory;

use crate::{
    device::Device,
    lifecycle::{
        Configured,
        Quiesced, //
    },
    queue::Queues,
    recovery, //
};
use command::{
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
    Token,
    Vring, //
};
use zerocopy::{
    FromBytes,
    Immutable,
    IntoBytes, //
};

pub use memory::{
    list_len,
    Memory, //
};

/// How often a full ring is looked at.
const FULL_INTERVAL: Delta = Delta::from_millis(1);

/// How often one who waits looks at the ring: interrupts get lost, and nobody tells of a ring that
/// is broken because the device is gone.
const LOOK_INTERVAL: Delta = Delta::from_millis(100);

/// What becomes of commands while the device has not answered one in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// They are tried, each with a deadline of its own: they are the business of different callers.
    IsTried,
    /// They fail at once, so that a silent device costs one deadline, whatever callers want of it.
    FailsFast,
}

/// What a command is made of.
pub struct Parts<'a> {
    /// What the device reads first.
    pub header: &'a [u8],
    /// What it reads then; may be empty.
    pub data: Memory,
    /// What is where it writes its status, before it does.
    pub status: &'a [u8],
    /// Room for its result, in bytes; may be 0.
    pub result_len: usize,
}

/// A ring whose tokens are commands.
///
/// # Invariants
///
/// Made by `virtio_ring`, not deleted as long as `self` exists, unless there is a reference; every
/// token in it is the result of `Arc::<Command>::into_raw`.
struct Ring {
    queue: NonNull<bindings::virtqueue>,
    /// There is a reference: the queue is a driver's, who may not notify before DRIVER_OK.
    driver: bool,
}

// SAFETY: A ring belongs to no thread.
unsafe impl Send for Ring {}

impl Ring {
    fn vring(&self) -> &Vring {
        // SAFETY: By the type invariants.
        unsafe { Vring::from_raw(self.queue.as_ptr()) }
    }

    fn is_broken(&self) -> bool {
        self.vring().observer().is_broken()
    }

    /// Whether the device takes commands.
    fn is_open(&self) -> bool {
        !self.is_broken() && (!self.driver || self.vring().is_started())
    }

    /// The device broke the ring of a driver: it is recovered, see [`crate::recovery`].
    fn recover(&self) {
        if self.driver {
            // SAFETY: A queue that was whole is of a device that is bound.
            unsafe { recovery::schedule_broken(Device::from_raw((*self.queue.as_ptr()).vdev)) };
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.driver {
            // SAFETY: The reference of `Queues::take_commands`.
            unsafe { Vring::put_ref(NonNull::from(self.vring())) };
        }
    }
}

/// One who has come with a command, and not left yet.
struct Caller {
    command: Arc<Command>,
    /// The command was added.
    added: bool,
}

/// What the lock protects.
struct State {
    ring: Option<Ring>,
    /// Commands may be added.
    open: bool,
    silence: Silence,
    /// A command was not answered in time, and the device has answered nothing since.
    silent: bool,
    /// How many commands the device has answered.
    answers: u64,
    /// How many commands are with the device.
    in_flight: usize,
    /// In the order in which they came.
    callers: KVec<Caller>,
}

/// What came of adding a command.
enum Added {
    /// It is with the device.
    Yes,
    /// There is no room before another one is answered.
    Full,
}

impl State {
    /// Lets a caller in, who [leaves](State::leave) in the end; returns the number of answers so
    /// far.
    ///
    /// # Errors
    ///
    /// `EIO` if the ring is closed, or the device silent; `ENOMEM`.
    fn enter(&mut self, command: &Arc<Command>) -> Result<u64> {
        if self.silent && self.silence == Silence::FailsFast {
            // Perhaps the interrupt got lost.
            self.drain();
            if self.silent {
                return Err(EIO);
            }
        }
        if !self.open {
            return Err(EIO);
        }
        let caller = Caller {
            command: command.clone(),
            added: false,
        };
        self.callers.push(caller, GFP_ATOMIC)?;
        Ok(self.answers)
    }

    /// Adds the command of a caller, unless others came before, and tells the device.
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
        // Who was woken is not to come in again, even if the device is back meanwhile.
        if !ring.is_open() || command.outcome() != Outcome::Pending {
            return Err(EIO);
        }
        let mut callers = self.callers.iter_mut();
        let caller = match callers.find(|caller| !caller.added) {
            Some(first) if Arc::ptr_eq(&first.command, command) => first,
            _ => return Ok(Added::Full),
        };
        let token = Arc::into_raw(command.clone());
        let writable = lists.len().saturating_sub(readable);
        // SAFETY: The lock is held, so nobody else uses the ring.  Each list has one entry and
        // points to memory of the command, of which the ring gets a reference.
        let result = unsafe {
            bindings::virtqueue_add_sgs(
                ring.queue.as_ptr(),
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
            return match Error::from_errno(result) {
                error if error != ENOSPC => Err(error),
                // What does not fit into an empty ring never will, without an indirect table.
                _ if self.in_flight == 0 => Err(ENOMEM),
                _ => Ok(Added::Full),
            };
        }
        caller.added = true;
        self.in_flight += 1;
        // SAFETY: The lock is held.
        if !unsafe { bindings::virtqueue_kick(ring.queue.as_ptr()) } {
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
        let was_whole = !ring.is_broken();
        loop {
            vring.observer().disable_cb();
            // SAFETY: The lock is held, so nobody else uses the ring.
            while let Some((token, written)) = unsafe { vring.get() } {
                // SAFETY: By the type invariants of `Ring`; a token comes back once.
                let command = unsafe { Arc::from_raw(token.data.as_ptr().cast::<Command>()) };
                command.finish(Outcome::Used(written));
                self.in_flight = self.in_flight.saturating_sub(1);
                self.answers = self.answers.wrapping_add(1);
                self.silent = false;
            }
            // SAFETY: As above.
            if ring.is_broken() || matches!(unsafe { vring.enable_callbacks() }, CbState::Armed) {
                break;
            }
        }
        if ring.is_broken() {
            if was_whole {
                ring.recover();
            }
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

    /// Starts with a ring that has nothing in it.
    fn start(&mut self, ring: Ring) {
        self.ring = Some(ring);
        self.open = true;
        self.silent = false;
        self.in_flight = 0;
    }

    /// Wakes all who wait: there will be no answer.
    fn abort(&mut self) {
        for caller in &self.callers {
            caller.command.finish(Outcome::Aborted);
        }
    }

    /// The caller goes, who came when there had been `answers`; whether the device was silent since.
    fn leave(&mut self, command: &Arc<Command>, timed_out: bool, answers: u64) {
        if timed_out && self.answers == answers {
            self.silent = true;
        }
        self.callers
            .retain(|caller| !Arc::ptr_eq(&caller.command, command));
    }
}

/// What the device answered.
pub struct Answer {
    command: Arc<Command>,
    written: u32,
}

impl Answer {
    /// How many bytes the device says that it wrote, status included; no more than there was room
    /// for.
    pub fn written(&self) -> u32 {
        self.written
    }

    /// Copies the status; it is as it was before where the device did not write it.  The rest of
    /// `out` is 0.
    pub fn copy_status(&self, out: &mut [u8]) {
        self.command.status().copy_to(out, usize::MAX);
    }

    /// How many bytes of result the device wrote.
    pub fn result_len(&self) -> usize {
        self.command.result(self.written).1
    }

    /// Copies the result; what the device did not write is 0.
    pub fn copy_to(&self, out: &mut [u8]) {
        let (result, len) = self.command.result(self.written);
        result.copy_to(out, len);
    }

    /// The result; what the device did not write is 0 (specification 2.13).
    pub fn value<T: FromBytes + IntoBytes + Immutable + Default>(&self) -> T {
        let mut value = T::default();
        self.copy_to(value.as_mut_bytes());
        value
    }

    /// Copies the result to where a list points, and returns its length.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the list is too long to be true.
    ///
    /// # Safety
    ///
    /// `list` is a valid scatterlist, terminated, whose memory nobody else uses meanwhile.
    pub unsafe fn copy_to_list(&self, list: *mut bindings::scatterlist) -> Result<usize> {
        let (result, len) = self.command.result(self.written);
        // SAFETY: By the contract.
        unsafe { result.copy_to_list(list, len) }
    }
}

/// A queue for commands; without a ring at first.
#[pin_data]
pub struct CommandQueue {
    #[pin]
    state: SpinLockIrq<State>,
}

impl Queues<'_> {
    /// Takes queue `index` for `commands`, which [leaves](CommandQueue::leave_ring) it in the end.
    /// Commands can be executed once the device is ready.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is no such queue, or it was taken before; `EBUSY` if `commands` has one.
    pub fn take_commands(
        &mut self,
        _dev: &Configured<'_>,
        index: usize,
        commands: &CommandQueue,
    ) -> Result {
        let mut state = commands.state.lock();
        if state.ring.is_some() {
            return Err(EBUSY);
        }
        let queue = self.take_raw(index)?;
        // SAFETY: Found by the core, and handed out once.
        let vring = unsafe { Vring::from_raw(queue.as_ptr()) };
        // SAFETY: Every buffer of the queue is a command; nobody else uses it yet.
        unsafe { vring.set_release(release) };
        vring.get_ref();
        // INVARIANT: Handed out once, with a reference; what is added is added here.
        state.start(Ring {
            queue,
            driver: true,
        });
        Ok(())
    }
}

/// # Safety
///
/// The token is a command's.
unsafe fn release(token: Token) {
    // SAFETY: By the contract; every token comes back once.
    drop(unsafe { Arc::from_raw(token.data.as_ptr().cast::<Command>()) });
}

impl CommandQueue {
    /// A queue without a ring.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    // Here and not in the crates that use it, where the name of the lock would be another string,
    // which lockdep takes for another class.
    #[inline(never)]
    pub fn new(silence: Silence) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                state <- new_spinlock_irq!(
                    State {
                        ring: None,
                        open: false,
                        silence,
                        silent: false,
                        answers: 0,
                        in_flight: 0,
                        callers: KVec::new(),
                    },
                    "virtio::commands::CommandQueue"
                ),
            }),
            GFP_KERNEL,
        )
    }

    /// Starts to use a ring, of a transport.
    ///
    /// # Safety
    ///
    /// - `queue` was made by `virtio_ring`, is empty, and nobody else adds to it or takes from it;
    /// - it is not deleted before [`CommandQueue::leave`], or [`CommandQueue::stop`] after a reset.
    pub unsafe fn start(&self, queue: NonNull<bindings::virtqueue>) {
        // INVARIANT: By the contract; what is added is added here.
        self.state.lock().start(Ring {
            queue,
            driver: false,
        });
    }

    /// Whether there is a ring that takes commands.
    pub fn is_open(&self) -> bool {
        self.state.lock().open
    }

    /// Takes no more commands: the device is about to be reset.  Any context.
    pub fn close(&self) {
        self.state.lock().open = false;
    }

    /// Takes no more commands, and wakes those who wait: the device is gone, or is about to be
    /// reset.  Any context.
    pub fn give_up(&self) {
        let mut state = self.state.lock();
        state.open = false;
        state.abort();
    }

    /// Takes commands again after [`CommandQueue::give_up`], of a device that was not reset.  Any
    /// context.
    pub fn reopen(&self) {
        let mut state = self.state.lock();
        state.open = state.ring.is_some();
    }

    /// Takes no more commands, and wakes those who wait.  What is with a device that was `reset` is
    /// taken back, and the ring left; else it stays in the ring.  Any context.
    ///
    /// # Safety
    ///
    /// If `reset`, then the device was reset, and its interrupt handlers do not run any more.
    pub unsafe fn stop(&self, reset: bool) {
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
    pub fn leave(&self) {
        self.state.lock().ring = None;
    }

    /// Leaves the ring of a driver, and wakes those who wait: to be called by
    /// [`Driver::quiesced`](crate::driver::Driver::quiesced).  What is in the ring is freed by the
    /// core, if the device was reset.  May sleep.
    pub fn leave_ring(&self, _proof: &Quiesced<'_>) {
        self.give_up();
        let ring = self.state.lock().ring.take();
        // Not under the lock: its memory may go with it.
        drop(ring);
    }

    /// The callback of the ring: the device has used commands.  Any context.
    pub fn used(&self) {
        self.state.lock().drain();
    }

    /// How many commands are with the device.
    #[cfg(CONFIG_KUNIT = "y")]
    pub fn in_flight(&self) -> usize {
        self.state.lock().in_flight
    }

    /// How many callers have not left yet.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn callers(&self) -> usize {
        self.state.lock().callers.len()
    }

    /// Has the device carry out a command.  Sleeps, no longer than for `deadline`, whatever signals
    /// come.
    ///
    /// # Errors
    ///
    /// `EIO` if there is no ring, or it broke, or the device was reset meanwhile, or is silent and
    /// commands [fail fast](Silence::FailsFast); `ETIMEDOUT` if the device did not answer, or made no
    /// room, before the deadline; `ENOMEM`.
    pub fn execute(&self, parts: Parts<'_>, deadline: Delta) -> Result<Answer> {
        let command = Arc::pin_init(Command::new(parts)?, GFP_KERNEL)?;
        let (mut entries, readable) = command.entries()?;
        let mut lists = KVec::with_capacity(entries.len(), GFP_KERNEL)?;
        for entry in &mut entries {
            lists.push(core::ptr::from_mut(entry), GFP_KERNEL)?;
        }
        let answers = self.state.lock().enter(&command)?;
        let start = Instant::<Monotonic>::now();
        let added = self.add(&command, &mut lists, readable, start, deadline);
        if added.is_ok() {
            self.wait(&command, start, deadline);
        }
        let result = added.and_then(|()| match command.outcome() {
            Outcome::Used(written) => Ok(written),
            Outcome::Aborted => Err(EIO),
            Outcome::Pending => Err(ETIMEDOUT),
        });
        let timed_out = matches!(result, Err(error) if error == ETIMEDOUT);
        self.state.lock().leave(&command, timed_out, answers);
        result.map(|written| Answer { command, written })
    }

    /// Adds a command when it is its turn and there is room.
    fn add(
        &self,
        command: &Arc<Command>,
        lists: &mut [*mut bindings::scatterlist],
        readable: usize,
        start: Instant<Monotonic>,
        deadline: Delta,
    ) -> Result {
        loop {
            let added = self.state.lock().add(command, lists, readable)?;
            match added {
                Added::Yes => return Ok(()),
                Added::Full if start.elapsed() >= deadline => return Err(ETIMEDOUT),
                Added::Full => fsleep(FULL_INTERVAL),
            }
        }
    }

    /// Waits until it is known what became of a command, or the deadline passes.
    fn wait(&self, command: &Command, start: Instant<Monotonic>, deadline: Delta) {
        loop {
            let left = deadline - start.elapsed();
            command.wait(if left < LOOK_INTERVAL {
                left
            } else {
                LOOK_INTERVAL
            });
            if command.outcome() != Outcome::Pending {
                return;
            }
            self.state.lock().drain();
            if start.elapsed() >= deadline {
                return;
            }
        }
    }
}
