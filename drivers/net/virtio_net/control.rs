// SPDX-License-Identifier: GPL-2.0

//! The control queue (specification 5.1.9.5): commands, and what the device says to them.
//!
//! C source: `virtnet_send_command_reply`, which spins for the answer, with the rtnl lock held,
//! until it comes or the queue breaks.  Here the caller sleeps, no longer than for [`DEADLINE`];
//! after a command without an answer the next ones fail at once, until the device answers or is
//! reset.

use kernel::{
    device,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
    time::Delta, //
};
use virtio::{
    commands::{
        Answer,
        CommandQueue,
        Memory,
        Parts,
        Silence, //
    },
    lifecycle::{
        Configured,
        Quiesced, //
    },
    queue::Queues, //
};
use virtio_spec::net::ctrl::{
    CtrlHdr,
    ERR,
    NOT_WRITTEN,
    OK, //
};
use zerocopy::IntoBytes;

/// How long a command may take, for which others wait that want the rtnl lock.  As long as a reset.
const DEADLINE: Delta = Delta::from_secs(10);

/// How many failed commands are reported between two resets.
const COMPLAINTS: i32 = 10;

/// The control queue of a device.
pub(crate) struct Control {
    dev: ARef<device::Device>,
    commands: Arc<CommandQueue>,
    complaints: Atomic<i32>,
}

impl Control {
    /// Takes queue `index` for control.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is no such queue, or it was taken before; `ENOMEM`.
    pub(crate) fn new(dev: &Configured<'_>, queues: &mut Queues<'_>, index: usize) -> Result<Self> {
        let commands = CommandQueue::new(Silence::FailsFast)?;
        queues.take_commands(dev, index, &commands)?;
        Ok(Self {
            dev: dev.as_device().into(),
            commands,
            complaints: Atomic::new(COMPLAINTS),
        })
    }

    /// The device is back: takes the queue again, after [`Control::quiesced`].  May sleep.
    ///
    /// # Errors
    ///
    /// As [`Control::new`].
    pub(crate) fn resume(
        &self,
        dev: &Configured<'_>,
        queues: &mut Queues<'_>,
        index: usize,
    ) -> Result {
        queues.take_commands(dev, index, &self.commands)?;
        self.complaints.store(COMPLAINTS, Relaxed);
        Ok(())
    }

    /// The device has used commands.  Any context.
    pub(crate) fn used(&self) {
        self.commands.used();
    }

    /// The device is about to be reset: wakes those who wait, and lets nobody in.  Any context.
    pub(crate) fn give_up(&self) {
        self.commands.give_up();
    }

    /// The device works, again or still: lets callers in.  Any context.
    pub(crate) fn go_on(&self) {
        self.commands.reopen();
    }

    /// Whether there is a device that takes commands, or may do so soon.
    pub(crate) fn is_open(&self) -> bool {
        self.commands.is_open()
    }

    /// The device was reset: leaves the queue.  May sleep.
    pub(crate) fn quiesced(&self, proof: &Quiesced<'_>) {
        self.commands.leave_ring(proof);
    }

    /// Has the device carry out a command with data `payload`.  Sleeps, at most for [`DEADLINE`].
    ///
    /// # Errors
    ///
    /// `EINVAL` if the device refuses it (as C); `ETIMEDOUT` if it does not answer in time; `EIO`
    /// if it did not answer another one before, or says what is no answer, or is being reset or
    /// gone; `ENOMEM`.
    pub(crate) fn run(&self, command: CtrlHdr, payload: &[u8]) -> Result {
        self.execute(command, payload, 0).map(drop)
    }

    /// As [`Control::run`], and copies what the device answers to `room`: returns how many bytes that is.
    ///
    /// # Errors
    ///
    /// As there.
    pub(crate) fn ask(&self, command: CtrlHdr, payload: &[u8], room: &mut [u8]) -> Result<usize> {
        let answer = self.execute(command, payload, room.len())?;
        answer.copy_to(room);
        Ok(answer.result_len().min(room.len()))
    }

    /// Says that the answer to a command cannot be meant.
    pub(crate) fn complain(&self, command: CtrlHdr) {
        if self.may_complain() {
            dev_warn!(
                &*self.dev,
                "control command {}/{}: the answer cannot be\n",
                command.class,
                command.cmd
            );
        }
    }

    fn execute(&self, command: CtrlHdr, payload: &[u8], result_len: usize) -> Result<Answer> {
        let parts = Parts {
            header: command.as_bytes(),
            data: Memory::of_bytes(payload, &[])?,
            status: &[NOT_WRITTEN],
            result_len,
        };
        let answer = self
            .commands
            .execute(parts, DEADLINE)
            .inspect_err(|error| {
                // Those that come after it fail for the same reason.
                if *error == ETIMEDOUT && self.may_complain() {
                    dev_warn!(
                        &*self.dev,
                        "control command {}/{}: no answer within {} s\n",
                        command.class,
                        command.cmd,
                        DEADLINE.as_nanos() / 1_000_000_000
                    );
                }
            })?;
        let mut status = [NOT_WRITTEN];
        answer.copy_status(&mut status);
        match status {
            [OK] => Ok(answer),
            [status] => {
                if self.may_complain() {
                    dev_warn!(
                        &*self.dev,
                        "control command {}/{} refused: status {:#x}\n",
                        command.class,
                        command.cmd,
                        status
                    );
                }
                Err(if status == ERR { EINVAL } else { EIO })
            }
        }
    }

    /// Devices and users can make commands fail as often as they like.
    fn may_complain(&self) -> bool {
        let left = self.complaints.load(Relaxed);
        if left > 0 {
            self.complaints.store(left - 1, Relaxed);
        }
        left > 0
    }
}
