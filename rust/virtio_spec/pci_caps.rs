// SPDX-License-Identifier: GPL-2.0

//! Virtio structure PCI capabilities (section 4.1.4), out of a private copy of PCI config space.
//!
//! The copy is read once; nothing here goes back to the device, which may answer otherwise.

use core::fmt;

use zerocopy::little_endian::{U16, U32};
use zerocopy::FromBytes as _;
use zerocopy_derive::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::common;
use crate::untrusted::Untrusted;

/// Length of the config space that can hold capabilities, in bytes.
pub const CONFIG_SPACE_LEN: usize = 256;
/// Length of the standard header, which no capability may overlap, in bytes.
const HEADER_LEN: usize = 64;
const STATUS: usize = 0x06;
const STATUS_CAP_LIST: u8 = 0x10;
const CAPABILITY_LIST: usize = 0x34;
const CAP_ID_VENDOR: u8 = 0x09;
/// A capability is aligned to four bytes, so no more than this many can be distinct.
const MAX_CAPABILITIES: usize = (CONFIG_SPACE_LEN - HEADER_LEN) / 4;

/// Number of shared memory regions that are kept: as many cap64 as fit without overlap.
pub const MAX_SHARED_MEMORY: usize = 8;
/// Number of vendor data capabilities that are kept; further ones are ignored.
pub const MAX_VENDOR_DATA: usize = 4;
/// Number of base address registers of a function.
pub const BARS: usize = 6;

/// The kind of address space behind a BAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarKind {
    /// I/O ports.
    Io,
    /// Memory.
    Mem,
}

/// What the bus, not the device, says about a BAR that is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarInfo {
    /// Length, in bytes.
    pub len: u64,
    /// Kind of address space.
    pub kind: BarKind,
}

/// A part of a BAR. It was checked to lie inside: `offset + length` is at most the BAR's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    bar: u8,
    offset: u64,
    length: u64,
}

impl Region {
    /// Number of the BAR, below [`BARS`].
    pub const fn bar(&self) -> u8 {
        self.bar
    }

    /// Offset into the BAR, in bytes.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Length, in bytes; never 0.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Whether an access of `width` bytes at `offset` from the start of the region stays inside.
    pub const fn holds(&self, offset: u64, width: u64) -> bool {
        match offset.checked_add(width) {
            Some(end) => end <= self.length,
            None => false,
        }
    }
}

/// The notification structure (section 4.1.4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotifyRegion {
    /// Where the notification addresses are.
    pub region: Region,
    /// `notify_off_multiplier`: distance between two of them, in bytes; 0 if all are one.
    pub multiplier: u32,
}

/// Why a queue cannot be notified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotifyError {
    /// The address lies outside the notification structure.
    OutOfRange,
    /// The address is not aligned to the width of the notification.
    Misaligned,
}

impl NotifyRegion {
    /// Where to notify the queue whose common configuration reads `queue_notify_off`.
    ///
    /// The offset is in bytes from the start of [`Self::region`]. `width` is that of the
    /// notification: 2 bytes, or 4 with `VIRTIO_F_NOTIFICATION_DATA` (section 4.1.5.2). The
    /// product is computed in 64 bits, where it cannot wrap.
    ///
    /// # Errors
    ///
    /// The device gave an address that is outside the structure or not aligned (section
    /// 4.1.4.4.1).
    pub fn offset_for(
        &self,
        queue_notify_off: Untrusted<u16>,
        width: u64,
    ) -> Result<u64, NotifyError> {
        let multiplier = u64::from(self.multiplier);
        let offset = queue_notify_off
            .validate(|off| u64::from(off).checked_mul(multiplier))
            .filter(|offset| self.region.holds(*offset, width))
            .ok_or(NotifyError::OutOfRange)?;
        // Both are inside the BAR, so the sum cannot wrap either.
        match self.region.offset.wrapping_add(offset).checked_rem(width) {
            Some(0) => Ok(offset),
            _ => Err(NotifyError::Misaligned),
        }
    }
}

/// A shared memory region (sections 2.10 and 4.1.4.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedMemory {
    /// `shmid`: which region; the device type gives it a meaning.
    pub id: u8,
    /// Where it is.
    pub region: Region,
}

/// A vendor data capability (section 4.1.4.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VendorData {
    /// PCI vendor id that defines the data.
    pub vendor: u16,
    /// Where in config space the capability starts, in bytes.
    pub position: u8,
    /// Length of the capability, in bytes.
    pub len: u8,
}

/// The virtio structures of a PCI function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Common configuration, at least [`common::MIN_LEN`] long.
    pub common: Region,
    /// Notifications.
    pub notify: NotifyRegion,
    /// ISR status.
    pub isr: Region,
    /// Device configuration; a device type without any need not have it (section 4.1.4.6).
    pub device: Option<Region>,
    /// Where in config space the PCI configuration access capability starts (section 4.1.4.9).
    pub pci_cfg: Option<u8>,
    shared_memory: [Option<SharedMemory>; MAX_SHARED_MEMORY],
    vendor_data: [Option<VendorData>; MAX_VENDOR_DATA],
}

impl Capabilities {
    /// The shared memory regions, in the order of the list, the first of each id.
    pub fn shared_memory(&self) -> impl Iterator<Item = &SharedMemory> {
        self.shared_memory.iter().flatten()
    }

    /// The region with id `id` (`get_shm_region()` in C).
    pub fn shared_memory_by_id(&self, id: u8) -> Option<&SharedMemory> {
        self.shared_memory().find(|memory| memory.id == id)
    }

    /// The vendor data capabilities, in the order of the list.
    pub fn vendor_data(&self) -> impl Iterator<Item = &VendorData> {
        self.vendor_data.iter().flatten()
    }

    /// The set of BARs that the structures lie in, bit 0 being BAR 0.
    ///
    /// Shared memory is left out: who maps it, claims it.
    pub fn bars(&self) -> u8 {
        [
            Some(self.common),
            Some(self.notify.region),
            Some(self.isr),
            self.device,
        ]
        .iter()
        .flatten()
        .fold(0, |set, region| set | 1_u8.wrapping_shl(region.bar.into()))
    }
}

/// The structures that have a location, `cfg_type` in the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CfgType {
    /// Common configuration.
    Common = 1,
    /// Notifications.
    Notify = 2,
    /// ISR status.
    Isr = 3,
    /// Device configuration.
    Device = 4,
    /// PCI configuration access.
    Pci = 5,
    /// Shared memory.
    SharedMemory = 8,
    /// Vendor data.
    Vendor = 9,
}

impl CfgType {
    fn from_raw(raw: u8) -> Option<Self> {
        Some(match raw {
            1 => Self::Common,
            2 => Self::Notify,
            3 => Self::Isr,
            4 => Self::Device,
            5 => Self::Pci,
            8 => Self::SharedMemory,
            9 => Self::Vendor,
            _ => return None,
        })
    }

    /// Length below which the structure is of no use, and alignment of its offset, in bytes.
    const fn bounds(self) -> (u64, u64) {
        match self {
            Self::Common => (common::MIN_LEN as u64, 4),
            Self::Notify => (2, 2),
            Self::Device => (1, 4),
            Self::Isr | Self::Pci | Self::SharedMemory | Self::Vendor => (1, 1),
        }
    }
}

/// Why one capability cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    /// It does not fit into config space, or is shorter than its type.
    CapabilityTruncated,
    /// It names a BAR that does not exist.
    BarReserved,
    /// It names a BAR that is not there or has no length.
    BarAbsent,
    /// `offset + length` wraps.
    Wraps,
    /// It lies outside its BAR.
    OutsideBar,
    /// The structure is too short for its type.
    TooShort,
    /// The offset is not aligned for its type.
    Misaligned,
}

/// Why a function cannot be driven through its capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CapError {
    /// The copy of config space is shorter than the standard header.
    ConfigSpaceTruncated,
    /// The capability list has a loop.
    ListLoops,
    /// There is no capability of that type. Without [`CfgType::Common`] the device has only the
    /// legacy interface, if any.
    Missing(CfgType),
    /// There is one of that type, but none that can be used; the reason is that of the first.
    Unusable(CfgType, Reject),
}

impl fmt::Display for CapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConfigSpaceTruncated => f.write_str("config space truncated"),
            Self::ListLoops => f.write_str("capability list loops"),
            Self::Missing(cfg_type) => write!(f, "no {cfg_type:?} capability"),
            Self::Unusable(cfg_type, reject) => {
                write!(f, "unusable {cfg_type:?} capability: {reject:?}")
            }
        }
    }
}

/// `struct virtio_pci_cap` (section 4.1.4).
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct VirtioPciCap {
    cap_vndr: u8,
    cap_next: u8,
    cap_len: u8,
    cfg_type: u8,
    bar: u8,
    id: u8,
    padding: [u8; 2],
    offset: U32,
    length: U32,
}

const CAP_LEN: usize = core::mem::size_of::<VirtioPciCap>();
const _: () = assert!(CAP_LEN == 16);

/// Finds the first usable capability of each type (section 4.1.4.2).
///
/// `cfg` is a private copy of PCI config space, of which the first [`CONFIG_SPACE_LEN`] bytes are
/// looked at; `bars` is what the bus found, `None` for a BAR that is not there. Types that are
/// reserved or not known are skipped. A structure that starts inside its BAR and ends outside is
/// cut off at the end of the BAR, shared memory excepted, which must lie inside as a whole.
///
/// The walk takes at most one step for each aligned position of a capability.
///
/// # Errors
///
/// [`CapError::Missing`] of [`CfgType::Common`] if the device has no modern interface, anything
/// else if it has one that cannot be driven.
pub fn parse_capabilities(
    cfg: &[u8],
    bars: &[Option<BarInfo>; BARS],
) -> Result<Capabilities, CapError> {
    let cfg = cfg.get(..CONFIG_SPACE_LEN).unwrap_or(cfg);
    if cfg.len() < HEADER_LEN {
        return Err(CapError::ConfigSpaceTruncated);
    }
    let mut found = Found::default();
    let mut position = first_capability(cfg);
    for _ in 0..MAX_CAPABILITIES {
        let Some(&[id, next]) = cfg.get(position..).and_then(|rest| rest.first_chunk()) else {
            return found.finish();
        };
        if position < HEADER_LEN || id == u8::MAX {
            return found.finish();
        }
        if id == CAP_ID_VENDOR {
            found.visit(cfg, position, bars);
        }
        position = usize::from(next & !3);
    }
    // Every position was visited, so one more was visited twice.
    if position < HEADER_LEN {
        return found.finish();
    }
    Err(CapError::ListLoops)
}

/// Where the list starts; 0 if the function has none.
fn first_capability(cfg: &[u8]) -> usize {
    match (cfg.get(STATUS), cfg.get(CAPABILITY_LIST)) {
        (Some(status), Some(first)) if status & STATUS_CAP_LIST != 0 => usize::from(first & !3),
        _ => 0,
    }
}

/// One type's first usable capability, or why the first one was not.
#[derive(Clone, Copy)]
enum Slot<T> {
    Missing,
    Unusable(Reject),
    Usable(T),
}

impl<T> Slot<T> {
    fn offer(&mut self, candidate: Result<T, Reject>) {
        match (&self, candidate) {
            (Self::Usable(_), _) | (Self::Unusable(_), Err(_)) => {}
            (_, Ok(usable)) => *self = Self::Usable(usable),
            (Self::Missing, Err(reject)) => *self = Self::Unusable(reject),
        }
    }

    fn required(self, cfg_type: CfgType) -> Result<T, CapError> {
        match self {
            Self::Usable(usable) => Ok(usable),
            Self::Missing => Err(CapError::Missing(cfg_type)),
            Self::Unusable(reject) => Err(CapError::Unusable(cfg_type, reject)),
        }
    }

    fn optional(self, cfg_type: CfgType) -> Result<Option<T>, CapError> {
        match self {
            Self::Missing => Ok(None),
            other => other.required(cfg_type).map(Some),
        }
    }
}

/// What the walk has found so far.
struct Found {
    common: Slot<Region>,
    notify: Slot<NotifyRegion>,
    isr: Slot<Region>,
    device: Slot<Region>,
    pci_cfg: Option<u8>,
    shared_memory: [Option<SharedMemory>; MAX_SHARED_MEMORY],
    vendor_data: [Option<VendorData>; MAX_VENDOR_DATA],
}

impl Default for Found {
    fn default() -> Self {
        Self {
            common: Slot::Missing,
            notify: Slot::Missing,
            isr: Slot::Missing,
            device: Slot::Missing,
            pci_cfg: None,
            shared_memory: [None; MAX_SHARED_MEMORY],
            vendor_data: [None; MAX_VENDOR_DATA],
        }
    }
}

impl Found {
    fn visit(&mut self, cfg: &[u8], position: usize, bars: &[Option<BarInfo>; BARS]) {
        let Some(bytes) = cfg.get(position..) else {
            return;
        };
        let Some(&[_, _, cap_len, raw_type]) = bytes.first_chunk() else {
            return;
        };
        // The capability by its own length, as far as config space goes.
        let bytes = bytes.get(..usize::from(cap_len)).unwrap_or(bytes);
        let Some(cfg_type) = CfgType::from_raw(raw_type) else {
            return;
        };
        match cfg_type {
            CfgType::Common => self.common.offer(locate(cfg_type, bytes, bars)),
            CfgType::Isr => self.isr.offer(locate(cfg_type, bytes, bars)),
            CfgType::Device => self.device.offer(locate(cfg_type, bytes, bars)),
            CfgType::Notify => self.notify.offer(locate_notify(bytes, bars)),
            CfgType::SharedMemory => self.keep_shared_memory(bytes, bars),
            CfgType::Pci => {
                // struct virtio_pci_cfg_cap: the capability and a window of four bytes.
                if self.pci_cfg.is_none() && bytes.len() >= CAP_LEN + 4 {
                    self.pci_cfg = u8::try_from(position).ok();
                }
            }
            CfgType::Vendor => self.keep_vendor_data(position, bytes),
        }
    }

    fn keep_shared_memory(&mut self, bytes: &[u8], bars: &[Option<BarInfo>; BARS]) {
        let Ok(memory) = locate_shared_memory(bytes, bars) else {
            return;
        };
        if self
            .shared_memory
            .iter()
            .flatten()
            .any(|known| known.id == memory.id)
        {
            return;
        }
        if let Some(free) = self.shared_memory.iter_mut().find(|slot| slot.is_none()) {
            *free = Some(memory);
        }
    }

    fn keep_vendor_data(&mut self, position: usize, bytes: &[u8]) {
        // struct virtio_pci_vndr_data: the vendor id follows the first four bytes.
        let Some((vendor, _)) = bytes
            .get(4..)
            .and_then(|rest| U16::read_from_prefix(rest).ok())
        else {
            return;
        };
        let (Ok(position), Ok(len)) = (u8::try_from(position), u8::try_from(bytes.len())) else {
            return;
        };
        if let Some(free) = self.vendor_data.iter_mut().find(|slot| slot.is_none()) {
            *free = Some(VendorData {
                vendor: vendor.get(),
                position,
                len,
            });
        }
    }

    fn finish(self) -> Result<Capabilities, CapError> {
        Ok(Capabilities {
            common: self.common.required(CfgType::Common)?,
            notify: self.notify.required(CfgType::Notify)?,
            isr: self.isr.required(CfgType::Isr)?,
            device: self.device.optional(CfgType::Device)?,
            pci_cfg: self.pci_cfg,
            shared_memory: self.shared_memory,
            vendor_data: self.vendor_data,
        })
    }
}

fn read_cap(bytes: &[u8]) -> Result<(VirtioPciCap, &[u8]), Reject> {
    VirtioPciCap::read_from_prefix(bytes).map_err(|_| Reject::CapabilityTruncated)
}

/// The length of the BAR that a capability names.
fn bar_len(bar: u8, bars: &[Option<BarInfo>; BARS]) -> Result<u64, Reject> {
    let bar = bars.get(usize::from(bar)).ok_or(Reject::BarReserved)?;
    match bar {
        Some(info) if info.len != 0 => Ok(info.len),
        _ => Err(Reject::BarAbsent),
    }
}

fn locate(
    cfg_type: CfgType,
    bytes: &[u8],
    bars: &[Option<BarInfo>; BARS],
) -> Result<Region, Reject> {
    let (cap, _) = read_cap(bytes)?;
    let bar_len = bar_len(cap.bar, bars)?;
    let (offset, length) = (cap.offset.get(), cap.length.get());
    offset.checked_add(length).ok_or(Reject::Wraps)?;
    let (min_len, align) = cfg_type.bounds();
    let offset = u64::from(offset);
    if offset & (align - 1) != 0 {
        return Err(Reject::Misaligned);
    }
    let room = bar_len.checked_sub(offset).ok_or(Reject::OutsideBar)?;
    if u64::from(length) < min_len {
        return Err(Reject::TooShort);
    }
    let length = u64::from(length).min(room);
    if length < min_len {
        return Err(Reject::OutsideBar);
    }
    Ok(Region {
        bar: cap.bar,
        offset,
        length,
    })
}

fn locate_notify(bytes: &[u8], bars: &[Option<BarInfo>; BARS]) -> Result<NotifyRegion, Reject> {
    let region = locate(CfgType::Notify, bytes, bars)?;
    let (_, rest) = read_cap(bytes)?;
    let (multiplier, _) = U32::read_from_prefix(rest).map_err(|_| Reject::CapabilityTruncated)?;
    Ok(NotifyRegion {
        region,
        multiplier: multiplier.get(),
    })
}

fn locate_shared_memory(
    bytes: &[u8],
    bars: &[Option<BarInfo>; BARS],
) -> Result<SharedMemory, Reject> {
    let (cap, rest) = read_cap(bytes)?;
    // struct virtio_pci_cap64: the upper halves of offset and length follow.
    let ([offset_high, length_high], _) =
        <[U32; 2]>::read_from_prefix(rest).map_err(|_| Reject::CapabilityTruncated)?;
    let offset = join(offset_high, cap.offset);
    let length = join(length_high, cap.length);
    let end = offset.checked_add(length).ok_or(Reject::Wraps)?;
    if length == 0 {
        return Err(Reject::TooShort);
    }
    if end > bar_len(cap.bar, bars)? {
        return Err(Reject::OutsideBar);
    }
    Ok(SharedMemory {
        id: cap.id,
        region: Region {
            bar: cap.bar,
            offset,
            length,
        },
    })
}

fn join(high: U32, low: U32) -> u64 {
    u64::from(high.get()) << 32 | u64::from(low.get())
}
