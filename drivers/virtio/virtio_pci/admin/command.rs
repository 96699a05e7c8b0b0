// SPDX-License-Identifier: GPL-2.0

//! One command: its memory, and what became of it.

use crate::admin::memory::Memory;
use kernel::{
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Release, //
    },
    time::Delta,
    types::Opaque, //
};
use virtio_bindings as bindings;
use virtio_spec::admin::{
    CommandStatus,
    Header, //
};
use zerocopy::{
    FromBytes,
    IntoBytes, //
};

/// The device has not used the command yet.
const PENDING: i64 = -1;
/// It is not going to: reset, broken or gone.
const ABORTED: i64 = -2;

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing yet.
    Pending,
    /// The device used it, and says that it wrote so many bytes.
    Used(u32),
    /// The device is not going to use it.
    Aborted,
}

/// A command.  Those who wait have a reference, and the ring has one while the device may use the
/// memory: whoever is last frees it.
#[pin_data]
pub(crate) struct Command {
    header: Memory,
    data: Memory,
    status: Memory,
    result: Memory,
    outcome: Atomic<i64>,
    #[pin]
    done: Opaque<bindings::completion>,
}

// SAFETY: A completion may be used by any thread.
unsafe impl Send for Command {}
// SAFETY: As above, at any time.
unsafe impl Sync for Command {}

impl Command {
    /// A command with room for a result of `result_len` bytes.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(
        header: &Header,
        data: Memory,
        result_len: usize,
    ) -> Result<impl PinInit<Self>> {
        let header = Memory::of_bytes(header.as_bytes(), &[])?;
        let status = Memory::zeroed(size_of::<CommandStatus>())?;
        let result = Memory::zeroed(result_len)?;
        Ok(pin_init!(Self {
            header,
            data,
            status,
            result,
            outcome: Atomic::new(PENDING),
            done <- Opaque::ffi_init(|slot: *mut bindings::completion| {
                // SAFETY: `slot` is what is to be initialised.
                unsafe { bindings::init_completion(slot) };
            }),
        }))
    }

    /// Entries for what the device reads, then for what it writes, and how many the former are.
    /// In the order of C: header, data, status, result.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn entries(&self) -> Result<(KVec<bindings::scatterlist>, usize)> {
        let parts = [&self.header, &self.data, &self.status, &self.result];
        let count = parts.iter().map(|part| part.pieces()).sum();
        let mut entries = KVec::with_capacity(count, GFP_KERNEL)?;
        for part in parts {
            part.append_to(&mut entries)?;
        }
        Ok((entries, self.header.pieces() + self.data.pieces()))
    }

    /// Says what became of the command, unless that is known, and wakes who waits.  Any context;
    /// callers hold the lock of the queue.
    pub(crate) fn finish(&self, outcome: Outcome) {
        if self.outcome() != Outcome::Pending {
            return;
        }
        let encoded = match outcome {
            Outcome::Pending => return,
            Outcome::Used(written) => written.into(),
            Outcome::Aborted => ABORTED,
        };
        self.outcome.store(encoded, Release);
        // SAFETY: Initialised by `new`.
        unsafe { bindings::complete_all(self.done.get()) };
    }

    /// What became of the command.
    pub(crate) fn outcome(&self) -> Outcome {
        match self.outcome.load(Acquire) {
            ABORTED => Outcome::Aborted,
            encoded => u32::try_from(encoded).map_or(Outcome::Pending, Outcome::Used),
        }
    }

    /// Waits until it is known, at most for `time`.  Sleeps, whatever signals come: the caller
    /// may be on its way out, with a device to stop.
    pub(crate) fn wait(&self, time: Delta) {
        let millis = time.as_millis_ceil().clamp(1, i64::from(u32::MAX)) as u32;
        let jiffies = kernel::time::msecs_to_jiffies(millis);
        // SAFETY: Initialised by `new`.
        unsafe { bindings::wait_for_completion_timeout(self.done.get(), jiffies) };
    }

    /// What the device said, of a command of which it wrote `written` bytes.
    pub(crate) fn status(&self) -> CommandStatus {
        let mut bytes = [0; size_of::<CommandStatus>()];
        // Zeroed before: what was not written is 0, even if the device miscounts.
        self.status.copy_to(&mut bytes, usize::MAX);
        CommandStatus::read_from_bytes(&bytes).unwrap_or_default()
    }

    /// The result, and how many bytes of it there are, if the device wrote `written` in all.
    pub(crate) fn result(&self, written: u32) -> (&Memory, usize) {
        let len = (written as usize).saturating_sub(size_of::<CommandStatus>());
        (&self.result, len)
    }
}
