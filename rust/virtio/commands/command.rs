// SPDX-License-Identifier: GPL-2.0

//! One command: its memory, and what became of it.

use super::{
    memory::Memory,
    Parts, //
};
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

/// The device has not used the command yet.
const PENDING: i64 = -1;
/// It is not going to: reset, broken or gone.
const ABORTED: i64 = -2;

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
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
pub(super) struct Command {
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
    /// A command.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(parts: Parts<'_>) -> Result<impl PinInit<Self>> {
        let header = Memory::of_bytes(parts.header, &[])?;
        let status = Memory::of_bytes(parts.status, &[])?;
        let result = Memory::zeroed(parts.result_len)?;
        let data = parts.data;
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
    pub(super) fn entries(&self) -> Result<(KVec<bindings::scatterlist>, usize)> {
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
    pub(super) fn finish(&self, outcome: Outcome) {
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
    pub(super) fn outcome(&self) -> Outcome {
        match self.outcome.load(Acquire) {
            ABORTED => Outcome::Aborted,
            encoded => u32::try_from(encoded).map_or(Outcome::Pending, Outcome::Used),
        }
    }

    /// Waits until it is known, at most for `time`.  Sleeps, whatever signals come: the caller
    /// may be on its way out, with a device to stop.
    pub(super) fn wait(&self, time: Delta) {
        let millis = time.as_millis_ceil().clamp(1, i64::from(u32::MAX)) as u32;
        let jiffies = kernel::time::msecs_to_jiffies(millis);
        // SAFETY: Initialised by `new`.
        unsafe { bindings::wait_for_completion_timeout(self.done.get(), jiffies) };
    }

    /// The status, whatever the device says that it wrote: some miscount, and what it did not write
    /// is as it was before.
    pub(super) fn status(&self) -> &Memory {
        &self.status
    }

    /// The result, and how many bytes of it there are, if the device wrote `written` in all.
    pub(super) fn result(&self, written: u32) -> (&Memory, usize) {
        let len = (written as usize).saturating_sub(self.status.len());
        (&self.result, len.min(self.result.len()))
    }
}

#[kunit_tests(virtio_commands_command)]
mod tests {
    use super::*;
    use kernel::sync::Arc;

    fn command(header: &[u8], status: &[u8]) -> Result<Arc<Command>> {
        let parts = Parts {
            header,
            data: Memory::zeroed(0)?,
            status,
            result_len: 8,
        };
        Arc::pin_init(Command::new(parts)?, GFP_KERNEL)
    }

    #[test]
    fn the_memory_goes_with_the_last_reference() -> Result {
        let command = command(&[0; 24], &[0; 8])?;
        let (entries, readable) = command.entries()?;
        assert_eq!((entries.len(), readable), (3, 1));
        Ok(())
    }

    #[test]
    fn a_result_is_what_comes_after_the_status() -> Result {
        let command = command(&[1, 2], &[0xff])?;
        for (written, len) in [(0, 0), (1, 0), (2, 1), (9, 8), (10, 8), (u32::MAX, 8)] {
            assert_eq!(command.result(written).1, len);
        }
        Ok(())
    }
}
