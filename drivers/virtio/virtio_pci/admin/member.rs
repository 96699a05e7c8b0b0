// SPDX-License-Identifier: GPL-2.0

//! Commands about one virtual function: its legacy interface (specification 2.12.1.1), and its
//! state, which a migration moves.
//!
//! C source: `drivers/virtio/virtio_pci_admin_legacy_io.c`, and the end of
//! `drivers/virtio/virtio_pci_modern.c`.
//!
//! All sleep, at most for a minute.  Beside the errors that are named, all give `EOPNOTSUPP` if the
//! device does not have the command, those of `CommandQueue::execute`, and those of the device.

use crate::admin::{
    Admin,
    COMMAND_DEADLINE, //
};
use kernel::prelude::*;
use virtio::commands::{
    list_len,
    Answer,
    Memory, //
};
use virtio_bindings as bindings;
use virtio_spec::admin::{
    DevPartsObjectCreate,
    DevPartsQuery,
    DevPartsSize,
    GroupType,
    Header,
    LegacyRead,
    LegacyWrite,
    NotifyInfoResult,
    ObjectHead,
    Opcode,
    Opcodes,
    DEV_PARTS_OBJECT,
    GET_ALL,
    METADATA_SIZE, //
};
use zerocopy::IntoBytes;

/// Which half of a legacy configuration.
#[derive(Clone, Copy)]
pub(crate) enum LegacySpace {
    /// The part that all devices have.
    Common,
    /// The part of the device type.
    Device,
}

/// A virtual function, as seen by the administration of its owner.
pub(crate) struct Member<'a> {
    admin: &'a Admin,
    /// From 1.
    number: u64,
}

impl Admin {
    /// Whether the legacy interface of members can be used.
    pub(crate) fn has_legacy(&self) -> bool {
        self.agreed.lock().commands.contains(Opcodes::LEGACY)
    }

    /// Whether the state of members can be moved.
    pub(crate) fn has_dev_parts(&self) -> bool {
        let agreed = self.agreed.lock();
        agreed.commands.contains(Opcodes::DEV_PARTS) && agreed.objects.limit() != 0
    }

    /// Member number `index`, from 0.
    pub(crate) fn member(&self, index: u32) -> Member<'_> {
        Member {
            admin: self,
            number: u64::from(index) + 1,
        }
    }
}

impl Member<'_> {
    fn execute(&self, opcode: Opcode, data: Memory, result_len: usize) -> Result<Answer> {
        {
            let agreed = self.admin.agreed.lock();
            if agreed.started && !self.admin.queue.is_open() {
                return Err(EIO);
            }
            if !agreed.commands.has(opcode) {
                return Err(EOPNOTSUPP);
            }
        }
        let header = Header::new(opcode, GroupType::SrIov, self.number);
        self.admin
            .execute(&header, data, result_len, COMMAND_DEADLINE)
    }

    /// Writes to the legacy configuration, at `offset`.
    pub(crate) fn legacy_write(&self, space: LegacySpace, offset: u8, bytes: &[u8]) -> Result {
        let opcode = match space {
            LegacySpace::Common => Opcode::LegacyCommonCfgWrite,
            LegacySpace::Device => Opcode::LegacyDevCfgWrite,
        };
        let head = LegacyWrite {
            offset,
            ..LegacyWrite::default()
        };
        self.execute(opcode, Memory::of_bytes(head.as_bytes(), bytes)?, 0)?;
        Ok(())
    }

    /// Reads the legacy configuration, at `offset`.
    pub(crate) fn legacy_read(&self, space: LegacySpace, offset: u8, out: &mut [u8]) -> Result {
        let opcode = match space {
            LegacySpace::Common => Opcode::LegacyCommonCfgRead,
            LegacySpace::Device => Opcode::LegacyDevCfgRead,
        };
        let data = Memory::of_bytes(LegacyRead { offset }.as_bytes(), &[])?;
        self.execute(opcode, data, out.len())?.copy_to(out);
        Ok(())
    }

    /// BAR and offset where the legacy interface is notified, of the function that `owner` says;
    /// `bar_len` tells the length of its BARs in bytes.
    ///
    /// # Errors
    ///
    /// `ENOENT` if the device names none that exists.
    pub(crate) fn notify_info(
        &self,
        owner: u8,
        bar_len: impl Fn(u8) -> Option<u64>,
    ) -> Result<(u8, u64)> {
        let none = Memory::zeroed(0)?;
        let result: NotifyInfoResult = self
            .execute(
                Opcode::LegacyNotifyInfo,
                none,
                size_of::<NotifyInfoResult>(),
            )?
            .value();
        let place = result
            .of_owner(owner)
            .find_map(|entry| entry.place(&bar_len));
        place.ok_or(ENOENT)
    }

    /// Stops the member, or lets it go on.
    pub(crate) fn set_mode(&self, flags: u8) -> Result {
        self.execute(Opcode::DevModeSet, Memory::of_bytes(&[flags], &[])?, 0)?;
        Ok(())
    }

    /// Creates an object to read or write the state with, and returns its number.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if there are as many as there may be.
    pub(crate) fn create_object(&self, operation: u8) -> Result<u32> {
        let (id, epoch) = {
            let mut agreed = self.admin.agreed.lock();
            if agreed.objects.limit() == 0 {
                return Err(EOPNOTSUPP);
            }
            (agreed.objects.take().ok_or(ENOSPC)?, agreed.epoch)
        };
        let data = DevPartsObjectCreate {
            head: object(DEV_PARTS_OBJECT, id.into()),
            operation,
            ..DevPartsObjectCreate::default()
        };
        let result = Memory::of_bytes(data.as_bytes(), &[])
            .and_then(|data| self.execute(Opcode::ResourceObjCreate, data, 0));
        match result {
            Ok(_) => Ok(id.into()),
            Err(error) => {
                // Without an answer, the object may exist: the number is lost until a reset.
                if error != ETIMEDOUT && error != EIO {
                    self.give_back(id.into(), epoch);
                }
                Err(error)
            }
        }
    }

    /// Destroys an object.
    pub(crate) fn destroy_object(&self, id: u32) -> Result {
        let epoch = self.admin.agreed.lock().epoch;
        let data = object(DEV_PARTS_OBJECT, id);
        let data = Memory::of_bytes(data.as_bytes(), &[])?;
        self.execute(Opcode::ResourceObjDestroy, data, 0)?;
        self.give_back(id, epoch);
        Ok(())
    }

    /// Gives a number back, unless a reset has destroyed all objects since `epoch`.
    fn give_back(&self, id: u32, epoch: u64) {
        let mut agreed = self.admin.agreed.lock();
        if agreed.epoch == epoch {
            agreed.objects.give_back(id);
        }
    }

    /// How long the state is, in bytes.
    pub(crate) fn parts_size(&self, object_type: u16, id: u32) -> Result<u32> {
        let data = query(object_type, id, METADATA_SIZE)?;
        let result: DevPartsSize = self
            .execute(Opcode::DevPartsMetadataGet, data, size_of::<DevPartsSize>())?
            .value();
        Ok(result.size.get())
    }

    /// Reads the state to where a list points, and returns its length in bytes.
    ///
    /// # Safety
    ///
    /// `list` is a valid scatterlist, terminated, whose memory nobody else uses meanwhile.
    pub(crate) unsafe fn read_parts(
        &self,
        object_type: u16,
        id: u32,
        list: *mut bindings::scatterlist,
    ) -> Result<u32> {
        // SAFETY: By the contract.
        let room = unsafe { list_len(list) }?;
        let answer = self.execute(Opcode::DevPartsGet, query(object_type, id, GET_ALL)?, room)?;
        // SAFETY: By the contract.
        Ok(u32::try_from(unsafe { answer.copy_to_list(list) }?)?)
    }

    /// Writes the state that a list points to.
    ///
    /// # Safety
    ///
    /// `list` is a valid scatterlist, terminated, and nobody writes to its memory meanwhile.
    pub(crate) unsafe fn write_parts(&self, list: *mut bindings::scatterlist) -> Result {
        // SAFETY: By the contract.
        let data = unsafe { Memory::of_list(list) }?;
        self.execute(Opcode::DevPartsSet, data, 0)?;
        Ok(())
    }
}

fn object(object_type: u16, id: u32) -> ObjectHead {
    ObjectHead {
        object_type: object_type.into(),
        reserved: [0; 2],
        id: id.into(),
    }
}

fn query(object_type: u16, id: u32, query_type: u8) -> Result<Memory> {
    let data = DevPartsQuery {
        head: object(object_type, id),
        query_type,
        reserved: [0; 7],
    };
    Memory::of_bytes(data.as_bytes(), &[])
}
