// SPDX-License-Identifier: GPL-2.0

//! Free page hints (specification 5.5.6.5): while the guest moves to another host, that host need not
//! have what is in memory that nobody uses.
//!
//! C source: `report_free_page_func` and what it calls, which takes all memory that it can get, and
//! spins while the queue is full.  Here some blocks are with the device at a time, and the worker looks
//! now and then.  Blocks that the device has looked at are kept out of use, until it says that it is
//! done or somebody wants memory.

use balloon::{
    Again,
    Block,
    Blocks,
    Command,
    Hint,
    Job,
    Shrink,
    BLOCK_PAGES, //
};
use kernel::{
    device,
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    }, //
};
use virtio::{
    device::Device,
    handle::Handle,
    lifecycle::{
        Configured,
        Quiesced, //
    },
    packets::PacketQueue,
    queue::Queues, //
};
use virtio_spec::{
    balloon::{
        hint::{
            Hinting,
            Next,
            CMD_ID_STOP, //
        },
        Config,
        Wire, //
    },
    Untrusted, //
};

/// Blocks that the device has at most: they cannot be had back from it.
const IN_FLIGHT: u16 = 32;

/// Commands that the device has at most: the first and the last of a series.
const COMMANDS: usize = 2;

/// When the device is looked at that has something, in milliseconds, and for how long so often.
const POLL_MS: u32 = 2;
const BUSY_MS: u32 = 100;

/// When one is looked at, and told again, that has given nothing back for longer than that.
const SLOW_POLL_MS: u32 = 100;

/// How long a device may have blocks without giving any back, in milliseconds.
const DEADLINE_MS: u32 = 5000;

/// The queue, and how far it is.
struct State {
    queue: Option<PacketQueue<Hint>>,
    /// Those that the device does not have.
    commands: KVec<Command>,
    hinting: Hinting,
    /// For how long the device has given nothing back, in milliseconds in which we ran.
    silent: u32,
}

/// The hints to a device.
#[pin_data]
pub(crate) struct Hints {
    dev: ARef<device::Device>,
    handle: Handle,
    wire: Wire,
    #[pin]
    state: Mutex<State>,
    /// Blocks that the device has looked at.
    #[pin]
    kept: Blocks,
    /// Blocks that the device was told of, ever.
    hinted: Atomic<i64>,
}

impl Hints {
    /// Takes queue `index`.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is no such queue; `ENOMEM`.
    pub(crate) fn new(
        dev: &Configured<'_>,
        queues: &mut Queues<'_>,
        index: usize,
    ) -> Result<Arc<Self>> {
        let mut commands = KVec::with_capacity(COMMANDS, GFP_KERNEL)?;
        for _ in 0..COMMANDS {
            commands.push(Command::new()?, GFP_KERNEL)?;
        }
        let queue = Some(queues.take_packets(dev, index, 1)?);
        let handle = dev.handle()?;
        let wire = Wire::of(dev.features());
        Arc::pin_init(
            pin_init!(Self {
                dev: dev.as_device().into(),
                handle,
                wire,
                state <- new_mutex!(State {
                    queue,
                    commands,
                    hinting: Hinting::new(),
                    silent: 0,
                }),
                kept <- Blocks::new(),
                hinted: Atomic::new(0),
            }),
            GFP_KERNEL,
        )
    }

    /// Takes the queue of a device that is back.  May sleep.
    ///
    /// # Errors
    ///
    /// As [`Hints::new`].
    pub(crate) fn resume(
        &self,
        dev: &Configured<'_>,
        queues: &mut Queues<'_>,
        index: usize,
    ) -> Result {
        self.state.lock().queue = Some(queues.take_packets(dev, index, 1)?);
        Ok(())
    }

    /// Leaves the queue of a device that was reset, and forgets what it said: all blocks are free.
    pub(crate) fn quiesced(&self, proof: &Quiesced<'_>) {
        let mut state = self.state.lock();
        if let Some(mut queue) = state.queue.take() {
            while let Some(hint) = queue.drain(proof) {
                if let Hint::Command(command) = hint {
                    // It was there before: there is room.
                    let _ = state.commands.push_within_capacity(command);
                }
            }
        }
        state.hinting = Hinting::new();
        state.silent = 0;
        self.free();
    }

    /// Gives all blocks that are kept to the kernel.
    pub(crate) fn free(&self) {
        self.kept.free(usize::MAX);
    }

    /// Reads what the device wants.  May sleep.
    pub(crate) fn read_command(&self, dev: &Device) {
        let mut bytes = [0; 4];
        let offset = Config::FREE_PAGE_HINT_CMD_ID.offset() as u32;
        // Little-endian with the legacy interface, too (section 5.5.4.0.0.1).
        if dev.read_config(offset, &mut bytes).is_ok() {
            let cmd_id = Untrusted::new(u32::from_le_bytes(bytes));
            self.state.lock().hinting.receive(cmd_id);
        }
    }

    /// Pages of blocks that the device was told of, ever.
    pub(crate) fn hinted(&self) -> i64 {
        self.hinted.load(Relaxed) * BLOCK_PAGES as i64
    }

    /// Does what the device wants, as far as that goes without waiting for it.
    fn step(&self) -> Again {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let Some(queue) = &mut state.queue else {
            return Again::No;
        };
        let mut silent = true;
        while let Some((hint, _)) = queue.get() {
            silent = false;
            match hint {
                Hint::Command(command) => {
                    // It was there before: there is room.
                    let _ = state.commands.push_within_capacity(command);
                }
                Hint::Block(block) if state.hinting.keeps() => self.kept.keep(block),
                Hint::Block(_) => {}
            }
        }
        if queue.is_broken() {
            return Again::No;
        }
        if !state.hinting.keeps() {
            self.free();
        }
        while self.tell(queue, &mut state.commands, &mut state.hinting) {}
        if let Some(notification) = queue.kick() {
            notification.send();
        }
        if queue.in_flight() == 0 {
            return match state.hinting.next() {
                Next::Nothing => Again::No,
                _ => Again::After(SLOW_POLL_MS),
            };
        }
        if !silent {
            state.silent = 0;
        }
        let pause = if state.silent < BUSY_MS {
            POLL_MS
        } else {
            // It may have come here from another host, where nobody had to tell it.
            queue.renotify().send();
            SLOW_POLL_MS
        };
        state.silent += pause;
        if state.silent < DEADLINE_MS {
            return Again::After(pause);
        }
        drop(guard);
        kernel::do_once_lite! {
            dev_warn!(&*self.dev, "the device does not give hinted pages back: reset\n")
        }
        self.handle.halt(|proof| self.quiesced(proof));
        Again::No
    }

    /// Puts the next word to the device into the queue; false if there is none, or no room.
    fn tell(
        &self,
        queue: &mut PacketQueue<Hint>,
        commands: &mut KVec<Command>,
        hinting: &mut Hinting,
    ) -> bool {
        let next = hinting.next();
        match next {
            Next::Nothing => false,
            Next::Hint => {
                let in_flight = queue.in_flight();
                // A descriptor is left for the end.
                let room = in_flight < IN_FLIGHT && queue.num_free() > 1;
                if !room && in_flight != 0 {
                    return false;
                }
                let block = if room { Block::new() } else { None };
                let added = block.is_some_and(|block| queue.add(Hint::Block(block)).is_ok());
                if added {
                    self.hinted.add(1, Relaxed);
                } else {
                    hinting.exhaust();
                }
                true
            }
            Next::Begin(_) | Next::End => {
                let Some(command) = commands.pop() else {
                    return false;
                };
                let id = match next {
                    Next::Begin(id) => id,
                    _ => CMD_ID_STOP,
                };
                if let Err(error) = queue.add(Hint::Command(command.with(self.wire, id))) {
                    if let Hint::Command(command) = error.buffer {
                        let _ = commands.push_within_capacity(command);
                    }
                    return false;
                }
                match next {
                    Next::Begin(id) => hinting.begin(id),
                    _ => hinting.end(),
                }
                true
            }
        }
    }
}

impl Shrink for Hints {
    fn count(&self) -> usize {
        self.kept.count() * BLOCK_PAGES
    }

    fn scan(&self, pages: usize) -> usize {
        self.kept.free(pages.div_ceil(BLOCK_PAGES)) * BLOCK_PAGES
    }
}

/// Who gives hints.
pub(crate) struct Hinter(pub(crate) Arc<Hints>);

impl Job for Hinter {
    fn run(&self) -> Again {
        self.0.step()
    }
}
