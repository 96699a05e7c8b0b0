// SPDX-License-Identifier: GPL-2.0

//! The administration queue of a device (specification 2.12 and 2.13): what was agreed on with the
//! device, and commands.
//!
//! C source: `vp_modern_admin_cmd_exec` and `vp_modern_avq_activate` of
//! `drivers/virtio/virtio_pci_modern.c`.
//!
//! # Overview
//!
//! - [`virtio::commands`]: the engine, which knows a ring and nothing else;
//! - here: which commands the device takes, and errors;
//! - [`member`]: the commands about virtual functions, which `capi` exports.
//!
//! Every command has a deadline.  A command that the device does not answer keeps its memory, and
//! its number if it was to create an object, until the device answers or is reset.

use core::pin::Pin;
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
    },
    time::Delta, //
};
use virtio::commands::{
    Answer,
    CommandQueue,
    Memory,
    Parts,
    Silence, //
};
use virtio_bindings as bindings;
use virtio_spec::admin::{
    has_dev_parts_cap,
    CapHead,
    CommandStatus,
    DevPartsCap,
    DevPartsCapSet,
    GroupType,
    Header,
    ObjectIds,
    Opcode,
    Opcodes,
    Refusal,
    DEV_PARTS_CAP, //
};
use zerocopy::{
    little_endian::U64,
    IntoBytes, //
};

mod member;
#[cfg(CONFIG_KUNIT = "y")]
mod tests;

pub(crate) use member::{
    LegacySpace,
    Member, //
};

/// How long a command of a caller may take.
///
/// Reading or writing the state of a member may be long, and failing it loses a migration; but it
/// is half of the time after which the kernel reports a hung task, so that a caller that sends a
/// second command to stop gets through without one.
const COMMAND_DEADLINE: Delta = Delta::from_secs(60);

/// How long a command may take while the device is being bound, which waits for it: they ask for
/// constants.  As long as a reset.
const ACTIVATION_DEADLINE: Delta = Delta::from_secs(10);

/// How many failed commands are reported between two resets.
const COMPLAINTS: i32 = 10;

/// The commands that the driver knows (C: `VIRTIO_ADMIN_CMD_BITMAP`).
const KNOWN: Opcodes = if cfg!(CONFIG_VIRTIO_PCI_ADMIN_LEGACY) {
    Opcodes::LEGACY.union(Opcodes::DEV_PARTS)
} else {
    Opcodes::DEV_PARTS
};

/// What was agreed on since the last reset.
struct Agreed {
    /// There has been a queue.
    started: bool,
    /// Asking has begun.
    activated: bool,
    commands: Opcodes,
    objects: ObjectIds,
    /// How many resets there have been.
    epoch: u64,
}

/// The administration of a device, which has a queue for it or has not.
#[pin_data]
pub(crate) struct Admin {
    dev: ARef<device::Device>,
    queue: Arc<CommandQueue>,
    #[pin]
    agreed: Mutex<Agreed>,
    complaints: Atomic<i32>,
}

impl Admin {
    /// The administration of `dev`, without a queue yet.
    pub(crate) fn new(dev: &device::Device) -> Result<Pin<KBox<Self>>> {
        let queue = CommandQueue::new(Silence::IsTried)?;
        KBox::pin_init(
            pin_init!(Self {
                dev: dev.into(),
                queue,
                agreed <- new_mutex!(
                    Agreed {
                        started: false,
                        activated: false,
                        commands: Opcodes::EMPTY,
                        objects: ObjectIds::new(0),
                        epoch: 0,
                    },
                    "virtio_pci::admin::Admin::agreed"
                ),
                complaints: Atomic::new(COMPLAINTS),
            }),
            GFP_KERNEL,
        )
    }

    /// The queue, for its callback and for the end of its life.
    pub(crate) fn queue(&self) -> &CommandQueue {
        &self.queue
    }

    /// Starts to use a ring.  May sleep.
    ///
    /// # Safety
    ///
    /// As [`CommandQueue::start`].
    pub(crate) unsafe fn start(&self, queue: core::ptr::NonNull<bindings::virtqueue>) {
        self.agreed.lock().started = true;
        self.complaints.store(COMPLAINTS, Relaxed);
        // SAFETY: By the contract.
        unsafe { self.queue.start(queue) };
    }

    /// Forgets what was agreed on, and leaves the ring.  May sleep.
    ///
    /// # Safety
    ///
    /// As [`CommandQueue::stop`].
    pub(crate) unsafe fn stop(&self, reset: bool) {
        {
            let mut agreed = self.agreed.lock();
            agreed.activated = false;
            agreed.commands = Opcodes::EMPTY;
            agreed.objects = ObjectIds::new(0);
            agreed.epoch += 1;
        }
        // SAFETY: By the contract.
        unsafe { self.queue.stop(reset) };
    }

    /// Agrees with the device on commands and capabilities, once after DRIVER_OK.  Sleeps, at most
    /// for [`ACTIVATION_DEADLINE`] if the device does not answer at all.
    ///
    /// Without an agreement, the device works but for administration.
    pub(crate) fn activate(&self) {
        if !self.queue.is_open() {
            return;
        }
        if core::mem::replace(&mut self.agreed.lock().activated, true) {
            return;
        }
        let result = self.agree_on_commands().and_then(|commands| {
            self.agreed.lock().commands = commands;
            if commands.has(Opcode::CapIdListQuery) {
                self.agree_on_objects(commands)?;
            }
            Ok(())
        });
        if let Err(error) = result {
            dev_warn!(&*self.dev, "administration is not available: {:?}\n", error);
        }
    }

    fn agree_on_commands(&self) -> Result<Opcodes> {
        let ask = |opcode, data, result_len| {
            self.execute(
                &Header::new(opcode, GroupType::SrIov, 0),
                data,
                result_len,
                ACTIVATION_DEADLINE,
            )
        };
        let offered = ask(Opcode::ListQuery, Memory::zeroed(0)?, size_of::<U64>())?;
        let commands = Opcodes::from_bits(offered.value::<U64>().get()).intersection(KNOWN);
        let list = U64::new(commands.bits());
        ask(Opcode::ListUse, Memory::of_bytes(list.as_bytes(), &[])?, 0)?;
        Ok(commands)
    }

    fn agree_on_objects(&self, commands: Opcodes) -> Result {
        let ask = |opcode, data, result_len| {
            if !commands.has(opcode) {
                return Err(EOPNOTSUPP);
            }
            self.execute(
                &Header::new(opcode, GroupType::SelfGroup, 0),
                data,
                result_len,
                ACTIVATION_DEADLINE,
            )
        };
        let none = Memory::zeroed(0)?;
        let capabilities = ask(Opcode::CapIdListQuery, none, size_of::<U64>())?.value::<U64>();
        if !has_dev_parts_cap(capabilities.get()) {
            return Ok(());
        }
        let head = CapHead {
            id: DEV_PARTS_CAP.into(),
            ..CapHead::default()
        };
        let data = Memory::of_bytes(head.as_bytes(), &[])?;
        let cap: DevPartsCap = ask(Opcode::DeviceCapGet, data, size_of::<DevPartsCap>())?.value();
        // Numbers are those of the device, whatever an object is for: one limit for both.
        let limit = cap.objects_limit();
        let set = DevPartsCapSet {
            head,
            cap: DevPartsCap {
                get_parts_resource_objects_limit: limit,
                set_parts_resource_objects_limit: limit,
            },
        };
        ask(
            Opcode::DriverCapSet,
            Memory::of_bytes(set.as_bytes(), &[])?,
            0,
        )?;
        self.agreed.lock().objects = ObjectIds::new(limit);
        Ok(())
    }

    /// Has the device carry out a command.  Sleeps, at most for `deadline`.
    ///
    /// # Errors
    ///
    /// As [`CommandQueue::execute`], and the device's own as errors of Linux.
    fn execute(
        &self,
        header: &Header,
        data: Memory,
        result_len: usize,
        deadline: Delta,
    ) -> Result<Answer> {
        let opcode = header.opcode.get();
        let parts = Parts {
            header: header.as_bytes(),
            data,
            status: &[0; size_of::<CommandStatus>()],
            result_len,
        };
        let answer = self.queue.execute(parts, deadline).inspect_err(|error| {
            if self.may_complain() {
                dev_err!(
                    &*self.dev,
                    "administration command {:#x} failed: {:?}\n",
                    opcode,
                    *error
                );
            }
        })?;
        let mut status = CommandStatus::default();
        answer.copy_status(status.as_mut_bytes());
        status.result().map_err(|refusal| {
            if self.may_complain() {
                self.complain(opcode, &status);
            }
            errno(refusal)
        })?;
        Ok(answer)
    }

    fn complain(&self, opcode: u16, status: &CommandStatus) {
        dev_err!(
            &*self.dev,
            "administration command {:#x} refused: status {:#x}, {} ({:#x})\n",
            opcode,
            status.status.get(),
            status.qualifier(),
            status.status_qualifier.get()
        );
    }

    /// Devices and those who use members can make commands fail as often as they like.
    fn may_complain(&self) -> bool {
        let left = self.complaints.load(Relaxed);
        if left > 0 {
            self.complaints.store(left - 1, Relaxed);
        }
        left > 0
    }
}

/// The error of Linux that C has for a status.
fn errno(refusal: Refusal) -> Error {
    match refusal {
        Refusal::NotFound => ENXIO,
        Refusal::TryAgain => EAGAIN,
        Refusal::NoMemory => ENOMEM,
        Refusal::Busy => EBUSY,
        Refusal::Invalid => EINVAL,
        Refusal::NoSpace => ENOSPC,
    }
}
