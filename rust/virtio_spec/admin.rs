// SPDX-License-Identifier: GPL-2.0

//! Group administration commands (section 2.12), as an administration queue carries them (2.13).
//!
//! A command is a [`Header`] and data of its own, which the device reads, and a [`CommandStatus`]
//! and a result of its own, which the device writes.  Either side may stop early: what it leaves
//! out counts as zeroes.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Which command, `VIRTIO_ADMIN_CMD_*` in C.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Opcode {
    /// Asks which commands the device has for a group type.
    ListQuery = 0x0,
    /// Says which of them the driver is going to use.
    ListUse = 0x1,
    /// Writes a member's legacy common configuration.
    LegacyCommonCfgWrite = 0x2,
    /// Reads a member's legacy common configuration.
    LegacyCommonCfgRead = 0x3,
    /// Writes a member's legacy device configuration.
    LegacyDevCfgWrite = 0x4,
    /// Reads a member's legacy device configuration.
    LegacyDevCfgRead = 0x5,
    /// Asks where a member's legacy interface is notified.
    LegacyNotifyInfo = 0x6,
    /// Asks which capabilities the device has.
    CapIdListQuery = 0x7,
    /// Reads a capability.
    DeviceCapGet = 0x8,
    /// Says how much of a capability the driver is going to use.
    DriverCapSet = 0x9,
    /// Creates a resource object.
    ResourceObjCreate = 0xa,
    /// Destroys a resource object.
    ResourceObjDestroy = 0xd,
    /// Asks for the size of a member's device parts.
    DevPartsMetadataGet = 0xe,
    /// Reads a member's device parts.
    DevPartsGet = 0xf,
    /// Writes a member's device parts.
    DevPartsSet = 0x10,
    /// Stops a member, or lets it go on.
    DevModeSet = 0x11,
}

/// A set of commands, as [`Opcode::ListQuery`] and [`Opcode::ListUse`] tell it: those below 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Opcodes(u64);

impl Opcodes {
    /// No command.
    pub const EMPTY: Self = Self(0);

    /// What the legacy interface of a member needs: all of them, or none.
    pub const LEGACY: Self = Self::of(&[
        Opcode::LegacyCommonCfgWrite,
        Opcode::LegacyCommonCfgRead,
        Opcode::LegacyDevCfgWrite,
        Opcode::LegacyDevCfgRead,
        Opcode::LegacyNotifyInfo,
    ]);

    /// What moving a member's state needs: all of them, or none.
    pub const DEV_PARTS: Self = Self::of(&[
        Opcode::CapIdListQuery,
        Opcode::DriverCapSet,
        Opcode::DeviceCapGet,
        Opcode::ResourceObjCreate,
        Opcode::ResourceObjDestroy,
        Opcode::DevPartsMetadataGet,
        Opcode::DevPartsGet,
        Opcode::DevPartsSet,
        Opcode::DevModeSet,
    ]);

    /// The set of `opcodes`.
    pub const fn of(opcodes: &[Opcode]) -> Self {
        let mut bits = 0;
        let mut at = 0;
        while at < opcodes.len() {
            bits |= 1 << opcodes[at] as u16;
            at += 1;
        }
        Self(bits)
    }

    /// The set whose first 64 opcodes a device told.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The first 64 opcodes, a bit each.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// What is in `self` and in `other`.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in `self` or in `other`.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in `self`.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether `opcode` is in `self`.
    pub const fn has(self, opcode: Opcode) -> bool {
        self.contains(Self::of(&[opcode]))
    }
}

/// Whom a command is about, `VIRTIO_ADMIN_GROUP_TYPE_*` in C.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum GroupType {
    /// The device itself.
    SelfGroup = 0,
    /// Its virtual functions: the group member is the number of the function, from 1.
    SrIov = 1,
}

/// Declares wire structures.
macro_rules! wire {
    ($($(#[$doc:meta])* pub struct $name:ident { $($(#[$field_doc:meta])* pub $field:ident: $t:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq,
            FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
        )]
        #[repr(C)]
        pub struct $name { $($(#[$field_doc])* pub $field: $t,)* }
    )*};
}

wire! {
    /// What every command begins with, `struct virtio_admin_cmd_hdr`.
    pub struct Header {
        /// [`Opcode`].
        pub opcode: U16,
        /// [`GroupType`].
        pub group_type: U16,
        /// 0.
        pub reserved: [u8; 12],
        /// Which member of the group; 0 if the command is about none.
        pub group_member_id: U64,
    }

    /// What every answer begins with, `struct virtio_admin_cmd_status`.
    pub struct CommandStatus {
        /// 0, or why not: numbers of Linux errors.
        pub status: U16,
        /// Details for messages.
        pub status_qualifier: U16,
        /// Reserved.
        pub reserved: [u8; 4],
    }

    /// Head of the data of the legacy writes; the bytes to write follow.
    pub struct LegacyWrite {
        /// Where, in bytes.
        pub offset: u8,
        /// 0.
        pub reserved: [u8; 7],
    }

    /// Data of the legacy reads; the result is the bytes that were read.
    pub struct LegacyRead {
        /// Where, in bytes.
        pub offset: u8,
    }

    /// One place where a member's legacy interface is notified.
    pub struct NotifyInfo {
        /// [`notify_owner`].
        pub flags: u8,
        /// Number of the BAR.
        pub bar: u8,
        /// 0.
        pub padding: [u8; 6],
        /// Where in the BAR, in bytes, even.
        pub offset: U64,
    }

    /// Result of [`Opcode::LegacyNotifyInfo`].
    pub struct NotifyInfoResult {
        /// The places, best first, up to one with [`notify_owner::END`].
        pub entries: [NotifyInfo; 4],
    }

    /// The capability [`DEV_PARTS_CAP`].
    pub struct DevPartsCap {
        /// How many objects to read device parts with there can be.
        pub get_parts_resource_objects_limit: u8,
        /// How many objects to write device parts with there can be.
        pub set_parts_resource_objects_limit: u8,
    }

    /// Data of [`Opcode::DeviceCapGet`], head of the data of [`Opcode::DriverCapSet`], which the
    /// capability follows.
    pub struct CapHead {
        /// The capability.
        pub id: U16,
        /// 0.
        pub reserved: [u8; 6],
    }

    /// Data of [`Opcode::DriverCapSet`] for [`DEV_PARTS_CAP`].
    pub struct DevPartsCapSet {
        /// Which capability.
        pub head: CapHead,
        /// What the driver is going to use of it.
        pub cap: DevPartsCap,
    }

    /// Which resource object, `struct virtio_admin_cmd_resource_obj_cmd_hdr`.
    pub struct ObjectHead {
        /// Its type.
        pub object_type: U16,
        /// 0.
        pub reserved: [u8; 2],
        /// Its number among those of its type.
        pub id: U32,
    }

    /// Data of [`Opcode::ResourceObjCreate`] for [`DEV_PARTS_OBJECT`].
    pub struct DevPartsObjectCreate {
        /// Which object.
        pub head: ObjectHead,
        /// 0.
        pub flags: U64,
        /// [`dev_parts_operation`].
        pub operation: u8,
        /// 0.
        pub reserved: [u8; 7],
    }

    /// Data of [`Opcode::DevPartsMetadataGet`], and of [`Opcode::DevPartsGet`] for all parts.
    pub struct DevPartsQuery {
        /// Which object.
        pub head: ObjectHead,
        /// [`METADATA_SIZE`] or [`GET_ALL`].
        pub query_type: u8,
        /// 0.
        pub reserved: [u8; 7],
    }

    /// Result of [`Opcode::DevPartsMetadataGet`] for [`METADATA_SIZE`].
    pub struct DevPartsSize {
        /// Length of all device parts, in bytes.
        pub size: U32,
        /// Reserved.
        pub reserved: [u8; 4],
    }
}

const _: () = {
    assert!(core::mem::size_of::<Header>() == 24);
    assert!(core::mem::size_of::<CommandStatus>() == 8);
    assert!(core::mem::size_of::<LegacyWrite>() == 8);
    assert!(core::mem::size_of::<LegacyRead>() == 1);
    assert!(core::mem::size_of::<NotifyInfoResult>() == 64);
    assert!(core::mem::size_of::<DevPartsCapSet>() == 10);
    assert!(core::mem::size_of::<ObjectHead>() == 8);
    assert!(core::mem::size_of::<DevPartsObjectCreate>() == 24);
    assert!(core::mem::size_of::<DevPartsQuery>() == 16);
    assert!(core::mem::size_of::<DevPartsSize>() == 8);
};

impl Header {
    /// The header of a command about member `member` of a group.
    pub fn new(opcode: Opcode, group: GroupType, member: u64) -> Self {
        Self {
            opcode: U16::new(opcode as u16),
            group_type: U16::new(group as u16),
            reserved: [0; 12],
            group_member_id: U64::new(member),
        }
    }
}

/// Why a device refused a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No such capability or object (6).
    NotFound,
    /// Later, perhaps (11).
    TryAgain,
    /// The device lacks resources (12).
    NoMemory,
    /// What is asked for is in use (16).
    Busy,
    /// The command is wrong (22), or the status has no meaning, which counts as that (2.12.1.3).
    Invalid,
    /// There is no room (28).
    NoSpace,
}

impl CommandStatus {
    /// Whether the command was carried out.
    ///
    /// # Errors
    ///
    /// Why not.
    pub const fn result(&self) -> Result<(), Refusal> {
        match self.status.get() {
            0 => Ok(()),
            6 => Err(Refusal::NotFound),
            11 => Err(Refusal::TryAgain),
            12 => Err(Refusal::NoMemory),
            16 => Err(Refusal::Busy),
            28 => Err(Refusal::NoSpace),
            _ => Err(Refusal::Invalid),
        }
    }

    /// What [`CommandStatus::status_qualifier`] says, for messages.
    pub const fn qualifier(&self) -> &'static str {
        match self.status_qualifier.get() {
            0 => "no details",
            1 => "invalid command",
            2 => "invalid opcode",
            3 => "invalid field",
            4 => "invalid group",
            5 => "invalid member",
            6 => "no resource",
            7 => "try again",
            _ => "reserved qualifier",
        }
    }
}

/// Whose BAR a [`NotifyInfo`] is about.
pub mod notify_owner {
    /// Nobody's: the list ends.
    pub const END: u8 = 0;
    /// That of the owner of the group.
    pub const OWNER: u8 = 1;
    /// That of the member.
    pub const MEMBER: u8 = 2;
}

impl NotifyInfo {
    /// BAR and offset, if the notification register of 2 bytes, which has to be at an even offset,
    /// lies in the BAR (section 2.12.1.1.7); `bar_len` tells the length of a BAR in bytes.
    pub fn place(&self, bar_len: impl FnOnce(u8) -> Option<u64>) -> Option<(u8, u64)> {
        let offset = self.offset.get();
        let end = offset.checked_add(2)?;
        let fits = offset & 1 == 0 && bar_len(self.bar)? >= end;
        fits.then_some((self.bar, offset))
    }
}

impl NotifyInfoResult {
    /// The places whose [`NotifyInfo::flags`] are `owner`, best first.
    pub fn of_owner(&self, owner: u8) -> impl Iterator<Item = &NotifyInfo> {
        self.entries
            .iter()
            .take_while(|entry| entry.flags != notify_owner::END)
            .filter(move |entry| entry.flags == owner)
    }
}

/// The capability to read and write device parts.
pub const DEV_PARTS_CAP: u16 = 0;
/// The resource object that reads or writes device parts.
pub const DEV_PARTS_OBJECT: u16 = 0;
/// Asks for the size of all device parts.
pub const METADATA_SIZE: u8 = 0;
/// Asks for all device parts.
pub const GET_ALL: u8 = 1;

/// What an object of type [`DEV_PARTS_OBJECT`] is for.
pub mod dev_parts_operation {
    /// Reading.
    pub const GET: u8 = 0;
    /// Writing.
    pub const SET: u8 = 1;
}

impl DevPartsCap {
    /// How many objects there can be, whatever they are for: their numbers are of one space.
    pub const fn objects_limit(self) -> u8 {
        if self.get_parts_resource_objects_limit < self.set_parts_resource_objects_limit {
            self.get_parts_resource_objects_limit
        } else {
            self.set_parts_resource_objects_limit
        }
    }
}

/// Whether [`DEV_PARTS_CAP`] is in the first 64 capabilities of [`Opcode::CapIdListQuery`].
pub const fn has_dev_parts_cap(capabilities: u64) -> bool {
    capabilities & 1 << DEV_PARTS_CAP != 0
}

/// The numbers of the objects that exist, below a limit.
#[derive(Debug, Clone, Default)]
pub struct ObjectIds {
    limit: u8,
    used: [u64; 4],
}

impl ObjectIds {
    /// None exists; `limit` of them may.
    pub const fn new(limit: u8) -> Self {
        Self {
            limit,
            used: [0; 4],
        }
    }

    /// How many may exist.
    pub const fn limit(&self) -> u8 {
        self.limit
    }

    /// Takes the lowest free number; `None` if all are in use.
    pub fn take(&mut self) -> Option<u8> {
        let (word, index) = self
            .used
            .iter_mut()
            .zip(0..)
            .find(|(word, _)| **word != !0)?;
        let bit = word.trailing_ones();
        let id = u8::try_from(index * u64::BITS + bit).ok()?;
        if id >= self.limit {
            return None;
        }
        *word |= 1 << bit;
        Some(id)
    }

    /// Gives a number back; one that is not in use is none.
    pub fn give_back(&mut self, id: u32) {
        if let Some(word) = self.used.get_mut((id / u64::BITS) as usize) {
            *word &= !(1 << (id % u64::BITS));
        }
    }
}
