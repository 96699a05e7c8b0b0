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
    revocable::Revocable,
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
    mapping: Pin<KBox<Revocable<Mapping>>>,
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
            mapping: KBox::pin_init(Revocable::new(mapping), GFP_KERNEL)?,
            len,
            phase: offset,
        })
    }

    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.len
    }

    /// The reserved BARs that the window lies in; `None` after [`Window::unmap`].
    pub fn bars(&self) -> Option<Arc<Bars>> {
        Some(self.mapping.try_access()?.bars.clone())
    }

    /// Ends the mapping; waits until no access is under way.  May sleep.
    pub fn unmap(&self) {
        self.mapping.revoke();
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
        let mapping = self.mapping.try_access()?;
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
        let mapping = self.mapping.try_access()?;
        // CAST: `offset` is below the length of a mapping, which the address space holds.
        Some(access(
            mapping.base.as_ptr().wrapping_byte_add(offset as usize),
        ))
    }
}

macro_rules! accessors {
    ($($read:ident, $ioread:ident, $write:ident, $iowrite:ident, $ty:ty, $width:literal;)*) => {
        impl Window {
            $(
                /// Reads a register at `offset` bytes.  Any context.
                pub fn $read(&self, offset: u64) -> $ty {
                    // CAST: The C function returns no more bits than its name says.
                    // SAFETY: The register lies inside of a mapping that is held meanwhile.
                    self.with_register(offset, $width, |register| unsafe {
                        bindings::$ioread(register) as $ty
                    })
                    .unwrap_or(<$ty>::MAX)
                }

                /// Writes a register at `offset` bytes.  Any context.
                pub fn $write(&self, offset: u64, value: $ty) {
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
