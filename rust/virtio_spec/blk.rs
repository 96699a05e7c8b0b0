// SPDX-License-Identifier: GPL-2.0

//! Block device (section 5.2).

pub mod limits;
pub mod zone;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::config::{config_fields, Always};
use crate::device_type::DeviceType;
use crate::features::{feature_types, AppliesTo, Class, Features};
use crate::negotiate::Requirement;

/// The class of the block device.
#[derive(Debug, Clone, Copy)]
pub struct Blk;

impl AppliesTo<Self> for Blk {}

impl Class for Blk {
    const DEVICE: DeviceType = DeviceType::BLOCK;
    const DEFINED: Features = DEFINED;
    const REQUIREMENTS: &'static [Requirement] = REQUIREMENTS;
    const NAMES: &'static [(u32, &'static str)] = NAMES;
}

feature_types! {
    Blk;
    /// Legacy: the device supports request barriers.
    Barrier = 0, "VIRTIO_BLK_F_BARRIER", [];
    /// `size_max` is the largest size of a segment.
    SizeMax = 1, "VIRTIO_BLK_F_SIZE_MAX", [];
    /// `seg_max` is the largest number of segments in a request.
    SegMax = 2, "VIRTIO_BLK_F_SEG_MAX", [];
    /// `geometry` holds a disk geometry.
    Geometry = 4, "VIRTIO_BLK_F_GEOMETRY", [];
    /// The device is read-only.
    Ro = 5, "VIRTIO_BLK_F_RO", [];
    /// `blk_size` is the block size.
    BlkSize = 6, "VIRTIO_BLK_F_BLK_SIZE", [];
    /// Legacy: the device takes SCSI packet commands.
    Scsi = 7, "VIRTIO_BLK_F_SCSI", [];
    /// The device takes flush commands.
    Flush = 9, "VIRTIO_BLK_F_FLUSH", [];
    /// `topology` holds what is known about optimal I/O.
    Topology = 10, "VIRTIO_BLK_F_TOPOLOGY", [];
    /// The driver can switch the cache between write-back and write-through.
    ConfigWce = 11, "VIRTIO_BLK_F_CONFIG_WCE", [];
    /// The device has more than one request queue.
    Mq = 12, "VIRTIO_BLK_F_MQ", [];
    /// The device takes discard commands.
    Discard = 13, "VIRTIO_BLK_F_DISCARD", [];
    /// The device takes write zeroes commands.
    WriteZeroes = 14, "VIRTIO_BLK_F_WRITE_ZEROES", [];
    /// The device has a lifetime to report.
    Lifetime = 15, "VIRTIO_BLK_F_LIFETIME", [];
    /// The device takes secure erase commands.
    SecureErase = 16, "VIRTIO_BLK_F_SECURE_ERASE", [];
    /// The device is zoned.
    Zoned = 17, "VIRTIO_BLK_F_ZONED", [];
}

/// Size of a sector in every field of this device that counts sectors, in bytes.
pub const SECTOR_SIZE: u32 = 512;

/// Length of the identifier that [`RequestType::GetId`] returns, in bytes.
pub const ID_BYTES: usize = 20;

/// What [`RequestType::GetLifetime`] returns, `struct virtio_blk_lifetime` (section 5.2.6); the
/// numbers are those of eMMC.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct LifetimeReport {
    /// Reserved blocks that are used up: 1 is normal, 2 a warning (80 %), 3 urgent (90 %).
    pub pre_eol_info: U16,
    /// Lifetime of single-level cells that is used up: 1 to 10 for tenths begun, 11 for more.
    pub device_lifetime_est_typ_a: U16,
    /// The same of multi-level cells.
    pub device_lifetime_est_typ_b: U16,
}

/// Bytes of a [`LifetimeReport`].
pub const LIFETIME_BYTES: usize = core::mem::size_of::<LifetimeReport>();

const _: () = assert!(LIFETIME_BYTES == 6);

impl LifetimeReport {
    /// The report that these bytes are.
    pub fn from_bytes(bytes: [u8; LIFETIME_BYTES]) -> Self {
        zerocopy::transmute!(bytes)
    }
}

/// The geometry in [`Config`].
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ConfigGeometry {
    /// Number of cylinders.
    pub cylinders: U16,
    /// Number of heads.
    pub heads: u8,
    /// Number of sectors in a track.
    pub sectors: u8,
}

/// The topology in [`Config`].
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ConfigTopology {
    /// Binary logarithm of the number of logical blocks in a physical one.
    pub physical_block_exp: u8,
    /// Offset of the first aligned logical block.
    pub alignment_offset: u8,
    /// Suggested minimum size of an I/O, in logical blocks.
    pub min_io_size: U16,
    /// Suggested maximum size of an I/O, in logical blocks.
    pub opt_io_size: U32,
}

/// The zone characteristics in [`Config`] (section 5.2.4).
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ConfigZoned {
    /// Sectors in a zone.
    pub zone_sectors: U32,
    /// Largest number of open zones, 0 for no limit.
    pub max_open_zones: U32,
    /// Largest number of active zones, 0 for no limit.
    pub max_active_zones: U32,
    /// Largest number of sectors in a zone append.
    pub max_append_sectors: U32,
    /// Granularity of writes to a sequential zone, in bytes.
    pub write_granularity: U32,
    /// Which zoned model, one of [`zone_model`].
    pub model: u8,
    /// Not used.
    pub unused2: [u8; 3],
}

/// `struct virtio_blk_config` (section 5.2.4).
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Config {
    /// Size of the device, in sectors of 512 bytes.
    pub capacity: U64,
    /// Largest size of a segment, in bytes.
    pub size_max: U32,
    /// Largest number of segments in a request.
    pub seg_max: U32,
    /// Disk geometry.
    pub geometry: ConfigGeometry,
    /// Block size, in bytes.
    pub blk_size: U32,
    /// What is known about optimal I/O.
    pub topology: ConfigTopology,
    /// Cache mode: 0 write-through, 1 write-back.
    pub writeback: u8,
    /// Not used.
    pub unused0: u8,
    /// Number of request queues.
    pub num_queues: U16,
    /// Largest number of sectors in a discard segment.
    pub max_discard_sectors: U32,
    /// Largest number of segments in a discard command.
    pub max_discard_seg: U32,
    /// Alignment of a discard, in sectors.
    pub discard_sector_alignment: U32,
    /// Largest number of sectors in a write zeroes segment.
    pub max_write_zeroes_sectors: U32,
    /// Largest number of segments in a write zeroes command.
    pub max_write_zeroes_seg: U32,
    /// Not 0 if write zeroes may deallocate.
    pub write_zeroes_may_unmap: u8,
    /// Not used.
    pub unused1: [u8; 3],
    /// Largest number of sectors in a secure erase segment.
    pub max_secure_erase_sectors: U32,
    /// Largest number of segments in a secure erase command.
    pub max_secure_erase_seg: U32,
    /// Alignment of a secure erase, in sectors.
    pub secure_erase_sector_alignment: U32,
    /// Zone characteristics.
    pub zoned: ConfigZoned,
}

const _: () = assert!(core::mem::size_of::<Config>() == 96);

impl Config {
    /// The configuration that these bytes are.
    pub fn from_bytes(bytes: [u8; 96]) -> Self {
        zerocopy::transmute!(bytes)
    }
}

config_fields! {
    Config;
    /// Size of the device, in sectors of 512 bytes.
    CAPACITY: u64 = capacity, ReadOnly, Always, 0;
    /// Largest size of a segment, in bytes.
    SIZE_MAX: u32 = size_max, ReadOnly, SizeMax, 8;
    /// Largest number of segments in a request.
    SEG_MAX: u32 = seg_max, ReadOnly, SegMax, 12;
    /// Number of cylinders.
    GEOMETRY_CYLINDERS: u16 = geometry.cylinders in ConfigGeometry, ReadOnly, Geometry, 16;
    /// Number of heads.
    GEOMETRY_HEADS: u8 = geometry.heads in ConfigGeometry, ReadOnly, Geometry, 18;
    /// Number of sectors in a track.
    GEOMETRY_SECTORS: u8 = geometry.sectors in ConfigGeometry, ReadOnly, Geometry, 19;
    /// Block size, in bytes.
    BLK_SIZE: u32 = blk_size, ReadOnly, BlkSize, 20;
    /// Binary logarithm of the number of logical blocks in a physical one.
    PHYSICAL_BLOCK_EXP: u8 =
        topology.physical_block_exp in ConfigTopology, ReadOnly, Topology, 24;
    /// Offset of the first aligned logical block.
    ALIGNMENT_OFFSET: u8 = topology.alignment_offset in ConfigTopology, ReadOnly, Topology, 25;
    /// Suggested minimum size of an I/O, in logical blocks.
    MIN_IO_SIZE: u16 = topology.min_io_size in ConfigTopology, ReadOnly, Topology, 26;
    /// Suggested maximum size of an I/O, in logical blocks.
    OPT_IO_SIZE: u32 = topology.opt_io_size in ConfigTopology, ReadOnly, Topology, 28;
    /// Cache mode: 0 write-through, 1 write-back.
    WRITEBACK: u8 = writeback, ReadWrite, ConfigWce, 32;
    /// Number of request queues.
    NUM_QUEUES: u16 = num_queues, ReadOnly, Mq, 34;
    /// Largest number of sectors in a discard segment.
    MAX_DISCARD_SECTORS: u32 = max_discard_sectors, ReadOnly, Discard, 36;
    /// Largest number of segments in a discard command.
    MAX_DISCARD_SEG: u32 = max_discard_seg, ReadOnly, Discard, 40;
    /// Alignment of a discard, in sectors.
    DISCARD_SECTOR_ALIGNMENT: u32 = discard_sector_alignment, ReadOnly, Discard, 44;
    /// Largest number of sectors in a write zeroes segment.
    MAX_WRITE_ZEROES_SECTORS: u32 = max_write_zeroes_sectors, ReadOnly, WriteZeroes, 48;
    /// Largest number of segments in a write zeroes command.
    MAX_WRITE_ZEROES_SEG: u32 = max_write_zeroes_seg, ReadOnly, WriteZeroes, 52;
    /// Not 0 if write zeroes may deallocate.
    WRITE_ZEROES_MAY_UNMAP: u8 = write_zeroes_may_unmap, ReadOnly, WriteZeroes, 56;
    /// Largest number of sectors in a secure erase segment.
    MAX_SECURE_ERASE_SECTORS: u32 = max_secure_erase_sectors, ReadOnly, SecureErase, 60;
    /// Largest number of segments in a secure erase command.
    MAX_SECURE_ERASE_SEG: u32 = max_secure_erase_seg, ReadOnly, SecureErase, 64;
    /// Alignment of a secure erase, in sectors.
    SECURE_ERASE_SECTOR_ALIGNMENT: u32 =
        secure_erase_sector_alignment, ReadOnly, SecureErase, 68;
    /// Sectors in a zone.
    ZONE_SECTORS: u32 = zoned.zone_sectors in ConfigZoned, ReadOnly, Zoned, 72;
    /// Largest number of open zones, 0 for no limit.
    MAX_OPEN_ZONES: u32 = zoned.max_open_zones in ConfigZoned, ReadOnly, Zoned, 76;
    /// Largest number of active zones, 0 for no limit.
    MAX_ACTIVE_ZONES: u32 = zoned.max_active_zones in ConfigZoned, ReadOnly, Zoned, 80;
    /// Largest number of sectors in a zone append.
    MAX_APPEND_SECTORS: u32 = zoned.max_append_sectors in ConfigZoned, ReadOnly, Zoned, 84;
    /// Granularity of writes to a sequential zone, in bytes.
    WRITE_GRANULARITY: u32 = zoned.write_granularity in ConfigZoned, ReadOnly, Zoned, 88;
    /// Which zoned model, one of [`zone_model`].
    ZONED_MODEL: u8 = zoned.model in ConfigZoned, ReadOnly, Zoned, 92;
}

/// Zoned models (section 5.2.4).
pub mod zone_model {
    /// Not a zoned device.
    pub const NONE: u8 = 0;
    /// Host-managed zoned device.
    pub const HOST_MANAGED: u8 = 1;
    /// Host-aware zoned device.
    pub const HOST_AWARE: u8 = 2;
}

/// The type of a request (section 5.2.6), `VIRTIO_BLK_T_*` in C.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum RequestType {
    /// Read.
    In = 0,
    /// Write.
    Out = 1,
    /// Flush the cache.
    Flush = 4,
    /// Get the identifier of the device, [`ID_BYTES`] long.
    GetId = 8,
    /// Get the lifetime.
    GetLifetime = 10,
    /// Discard.
    Discard = 11,
    /// Write zeroes.
    WriteZeroes = 13,
    /// Secure erase.
    SecureErase = 14,
    /// Append to a zone.
    ZoneAppend = 15,
    /// Report zones.
    ZoneReport = 16,
    /// Open a zone.
    ZoneOpen = 18,
    /// Close a zone.
    ZoneClose = 20,
    /// Finish a zone.
    ZoneFinish = 22,
    /// Reset a zone.
    ZoneReset = 24,
    /// Reset every zone.
    ZoneResetAll = 26,
}

/// The status byte of a request (section 5.2.6), `VIRTIO_BLK_S_*` in C.
pub mod request_status {
    /// The request succeeded.
    pub const OK: u8 = 0;
    /// The device or the driver erred.
    pub const IOERR: u8 = 1;
    /// The device does not support the request.
    pub const UNSUPP: u8 = 2;
    /// The zone command is invalid.
    pub const ZONE_INVALID_CMD: u8 = 3;
    /// The write is not at the write pointer of the zone.
    pub const ZONE_UNALIGNED_WP: u8 = 4;
    /// Too many open zones.
    pub const ZONE_OPEN_RESOURCE: u8 = 5;
    /// Too many active zones.
    pub const ZONE_ACTIVE_RESOURCE: u8 = 6;
    /// What the driver puts there before it hands the byte to the device; no device writes it.
    pub const NOT_WRITTEN: u8 = 0xff;
}

/// The header of a request, `struct virtio_blk_outhdr` in C (section 5.2.6).
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RequestHeader {
    /// One of [`RequestType`].
    pub request_type: U32,
    /// Reserved; the I/O priority in C and in the legacy interface.
    pub ioprio: U32,
    /// First sector of 512 bytes, 0 where the request has none.
    pub sector: U64,
}

const _: () = assert!(core::mem::size_of::<RequestHeader>() == 16);

impl RequestHeader {
    /// A header of `request_type` for `sector`, with I/O priority `ioprio`.
    pub const fn new(request_type: RequestType, ioprio: u32, sector: u64) -> Self {
        Self {
            request_type: U32::new(request_type as u32),
            ioprio: U32::new(ioprio),
            sector: U64::new(sector),
        }
    }
}

/// A range to discard, zero or erase, `struct virtio_blk_discard_write_zeroes` in C.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct DiscardWriteZeroes {
    /// First sector.
    pub sector: U64,
    /// Number of sectors.
    pub num_sectors: U32,
    /// Bit 0, [`WRITE_ZEROES_FLAG_UNMAP`]: the range may be deallocated.
    pub flags: U32,
}

const _: () = assert!(core::mem::size_of::<DiscardWriteZeroes>() == 16);

/// Flag of [`DiscardWriteZeroes`]: the range may be deallocated; only for write zeroes.
pub const WRITE_ZEROES_FLAG_UNMAP: u32 = 1;

/// Descriptor of a zone, `struct virtio_blk_zone_descriptor` (section 5.2.6).
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ZoneDescriptor {
    /// Sectors of the zone that can be used.
    pub z_cap: U64,
    /// First sector of the zone.
    pub z_start: U64,
    /// Sector of the write pointer.
    pub z_wp: U64,
    /// Type of the zone: 1 conventional, 2 sequential write required, 3 preferred.
    pub z_type: u8,
    /// State of the zone.
    pub z_state: u8,
    /// Reserved.
    pub reserved: [u8; 38],
}

const _: () = assert!(core::mem::size_of::<ZoneDescriptor>() == 64);

/// What precedes the descriptors of a zone report, `struct virtio_blk_zone_report`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ZoneReportHeader {
    /// Number of descriptors that follow.
    pub nr_zones: U64,
    /// Reserved.
    pub reserved: [u8; 56],
}

const _: () = assert!(core::mem::size_of::<ZoneReportHeader>() == 64);
