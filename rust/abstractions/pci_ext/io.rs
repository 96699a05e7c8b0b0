// SPDX-License-Identifier: GPL-2.0

//! Windows into BARs, memory or port, with accesses that are checked at run time.

use crate::{
    Device,
    DeviceRef, //
};
use core::ptr::NonNull;
use kernel::{
    error::to_result,
    prelude::*,
    revocable::{
        Revocable,
        RevocableGuard, //
    },
    sync::Arc, //
};
use virtio_bindings as bindings;

/// A set of BARs that is reserved for a driver (`/proc/iomem`, `/proc/ioports`).
///
/// Released with the last window into it.
pub struct Bars {
    dev: DeviceRef,
    set: c_int,
}

impl Bars {
    /// Reserves the BARs whose bits are set in `set` for `owner`.
    ///
    /// # Errors
    ///
    /// `EBUSY` if one of them is reserved already, `ENOMEM`.
    pub fn request(dev: &Device, set: u8, owner: &'static CStr) -> Result<Arc<Self>> {
        let set = c_int::from(set);
        // SAFETY: The device is valid; the name is static.
        to_result(unsafe {
            bindings::pci_request_selected_regions(dev.as_raw(), set, owner.as_char_ptr())
        })?;
        let bars = Self {
            dev: dev.into(),
            set,
        };
        Ok(Arc::new(bars, GFP_KERNEL)?)
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        // SAFETY: The device is valid; `request` has reserved this set.
        unsafe { bindings::pci_release_selected_regions(self.dev.as_raw(), self.set) };
    }
}

/// An I/O mapping of part of a BAR.
///
/// # Invariants
///
/// `base` is what `pci_iomap_range` returned for the `len` bytes of the window.
struct Mapping {
    bars: Arc<Bars>,
    base: NonNull<c_void>,
}

// SAFETY: Mappings belong to no thread; concurrent accesses to registers are the device's affair.
unsafe impl Send for Mapping {}
// SAFETY: As above.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, `base` is a mapping; this is its only end.
        unsafe { bindings::pci_iounmap(self.bars.dev.as_raw(), self.base.as_ptr()) };
    }
}

/// Registers that a KUnit test plays.
#[cfg(CONFIG_KUNIT = "y")]
pub trait Model: Send + Sync {
    /// Reads `width` bytes at `offset`, both inside of the window.
    fn read(&self, offset: u64, width: u64) -> u32;

    /// Writes `width` bytes at `offset`, both inside of the window.
    fn write(&self, offset: u64, width: u64, value: u32);

    /// Where the register at `offset` lies, if it is memory.
    fn address(&self, _offset: u64) -> Option<NonNull<c_void>> {
        None
    }
}

/// What is behind a window.
enum Backing {
    Mapping(Pin<KBox<Revocable<Mapping>>>),
    #[cfg(CONFIG_KUNIT = "y")]
    Model(Pin<KBox<Revocable<KBox<dyn Model>>>>),
}

/// Part of a BAR.
///
/// Accesses are little-endian.  One that is misaligned, or not wholly inside of the window, or
/// that comes after [`Window::unmap`], does not happen: reading gives all ones, as from a device
/// that is gone, and writing does nothing.
///
/// # Invariants
///
/// The mapping has `len` bytes; its first byte has the alignment of `phase`.
pub struct Window {
    backing: Backing,
    len: u64,
    phase: u64,
}

impl Window {
    /// Maps `len` bytes at `offset` of a reserved BAR.  May sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the BAR is not reserved or does not hold that many bytes, `ENOMEM`.
    pub fn map(bars: &Arc<Bars>, bar: u8, offset: u64, len: u64) -> Result<Self> {
        let reserved = 1i32
            .checked_shl(bar.into())
            .is_some_and(|bit| bars.set & bit != 0);
        let bar_len = bars.dev.bar(bar.into()).ok_or(EINVAL)?.len;
        let end = offset.checked_add(len).ok_or(EINVAL)?;
        if !reserved || len == 0 || end > bar_len {
            return Err(EINVAL);
        }
        // SAFETY: The device is valid and the BAR exists.
        let base = unsafe {
            bindings::pci_iomap_range(
                bars.dev.as_raw(),
                bar.into(),
                c_ulong::try_from(offset)?,
                c_ulong::try_from(len)?,
            )
        };
        // INVARIANT: Mapped just now; `pci_iomap_range` maps `len` bytes since the BAR has them.
        let mapping = Mapping {
            bars: bars.clone(),
            base: NonNull::new(base).ok_or(ENOMEM)?,
        };
        // INVARIANT: BARs are aligned to their length, and are at least 4 bytes long; only
        // alignments up to 4 are asked about.
        Ok(Self {
            backing: Backing::Mapping(KBox::pin_init(Revocable::new(mapping), GFP_KERNEL)?),
            len,
            phase: offset,
        })
    }

    /// A window of `len` bytes that a test plays.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[cfg(CONFIG_KUNIT = "y")]
    pub fn model(len: u64, model: KBox<dyn Model>) -> Result<Self> {
        Ok(Self {
            backing: Backing::Model(KBox::pin_init(Revocable::new(model), GFP_KERNEL)?),
            len,
            phase: 0,
        })
    }

    fn mapping(&self) -> Option<RevocableGuard<'_, Mapping>> {
        match &self.backing {
            Backing::Mapping(mapping) => mapping.try_access(),
            #[cfg(CONFIG_KUNIT = "y")]
            Backing::Model(_) => None,
        }
    }

    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.len
    }

    /// The reserved BARs that the window lies in; `None` after [`Window::unmap`].
    pub fn bars(&self) -> Option<Arc<Bars>> {
        Some(self.mapping()?.bars.clone())
    }

    /// Ends the mapping; waits until no access is under way.  May sleep.
    pub fn unmap(&self) {
        match &self.backing {
            Backing::Mapping(mapping) => {
                mapping.revoke();
            }
            #[cfg(CONFIG_KUNIT = "y")]
            Backing::Model(model) => {
                model.revoke();
            }
        }
    }

    fn holds(&self, offset: u64, width: u64) -> bool {
        offset.checked_add(width).is_some_and(|end| end <= self.len)
            && self.phase.wrapping_add(offset) & width.wrapping_sub(1) == 0
    }

    /// The mapped address of a register, for code that cannot call the accessors; `None` where
    /// they would do nothing.  Good until the window is unmapped or dropped.
    pub fn address(&self, offset: u64, width: u64) -> Option<NonNull<c_void>> {
        if !self.holds(offset, width) {
            return None;
        }
        #[cfg(CONFIG_KUNIT = "y")]
        if let Some(address) = self.with_model(None, |model| model.address(offset)) {
            return address;
        }
        let mapping = self.mapping()?;
        // CAST: `offset` is below the length of a mapping, which the address space holds.
        NonNull::new(mapping.base.as_ptr().wrapping_byte_add(offset as usize))
    }

    fn with_register<R>(
        &self,
        offset: u64,
        width: u64,
        access: impl FnOnce(*mut c_void) -> R,
    ) -> Option<R> {
        if !self.holds(offset, width) {
            return None;
        }
        let mapping = self.mapping()?;
        // CAST: `offset` is below the length of a mapping, which the address space holds.
        Some(access(
            mapping.base.as_ptr().wrapping_byte_add(offset as usize),
        ))
    }
}

/// Accesses to a window that a test plays; `None` if it is a mapping.
#[cfg(CONFIG_KUNIT = "y")]
impl Window {
    fn with_model<R>(&self, absent: R, access: impl FnOnce(&dyn Model) -> R) -> Option<R> {
        let Backing::Model(model) = &self.backing else {
            return None;
        };
        Some(match model.try_access() {
            Some(model) => access(&**model),
            None => absent,
        })
    }

    fn read_model(&self, offset: u64, width: u64) -> Option<u32> {
        self.with_model(u32::MAX, |model| {
            if self.holds(offset, width) {
                model.read(offset, width)
            } else {
                u32::MAX
            }
        })
    }

    fn write_model(&self, offset: u64, width: u64, value: u32) -> Option<()> {
        self.with_model((), |model| {
            if self.holds(offset, width) {
                model.write(offset, width, value);
            }
        })
    }
}

macro_rules! accessors {
    ($($read:ident, $ioread:ident, $write:ident, $iowrite:ident, $ty:ty, $width:literal;)*) => {
        impl Window {
            $(
                /// Reads a register at `offset` bytes.  Any context.
                pub fn $read(&self, offset: u64) -> $ty {
                    #[cfg(CONFIG_KUNIT = "y")]
                    if let Some(value) = self.read_model(offset, $width) {
                        return value as $ty;
                    }
                    // CAST: The C function returns no more bits than its name says.
                    // SAFETY: The register lies inside of a mapping that is held meanwhile.
                    self.with_register(offset, $width, |register| unsafe {
                        bindings::$ioread(register) as $ty
                    })
                    .unwrap_or(<$ty>::MAX)
                }

                /// Writes a register at `offset` bytes.  Any context.
                pub fn $write(&self, offset: u64, value: $ty) {
                    #[cfg(CONFIG_KUNIT = "y")]
                    if self.write_model(offset, $width, value.into()).is_some() {
                        return;
                    }
                    self.with_register(offset, $width, |register| {
                        // SAFETY: The register lies inside of a mapping that is held meanwhile.
                        unsafe { bindings::$iowrite(value, register) }
                    });
                }
            )*
        }
    };
}

accessors! {
    read8, ioread8, write8, iowrite8, u8, 1;
    read16, ioread16, write16, iowrite16, u16, 2;
    read32, ioread32, write32, iowrite32, u32, 4;
}
