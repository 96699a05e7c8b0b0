// SPDX-License-Identifier: GPL-2.0

//! PCI as a transport driver needs it: what `kernel::pci` of 7.3 lacks.
//!
//! C header: [`include/linux/pci.h`](srctree/include/linux/pci.h)
//!
//! - [`driver`]: a driver with power management, SR-IOV, reset and error callbacks;
//! - [`io`]: windows into BARs, memory or port, whose accesses are checked at run time, since
//!   the device says where its registers are;
//! - [`irq`]: MSI-X vectors with affinity, INTx, and handlers with names made at run time.

use core::ptr::NonNull;
use kernel::{
    device,
    error::to_result,
    prelude::*,
    sync::aref::{
        ARef,
        AlwaysRefCounted, //
    },
    types::Opaque, //
};
use virtio_bindings as bindings;

#[path = "pci_ext/driver.rs"]
pub mod driver;
#[path = "pci_ext/io.rs"]
pub mod io;
#[path = "pci_ext/irq.rs"]
pub mod irq;

/// Number of BARs of a type 0 function.
pub const BARS: usize = bindings::PCI_STD_NUM_BARS as usize;

/// Length of the configuration space that every PCI function has, in bytes.
///
/// Capabilities of the original list lie in it; the extended space is not copied.
pub const CONFIG_SPACE_LEN: usize = bindings::PCI_CFG_SPACE_SIZE as usize;

/// A PCI function: `struct pci_dev`.
///
/// # Invariants
///
/// The C structure is initialised, and valid as long as there is a reference.
#[repr(transparent)]
pub struct Device(Opaque<bindings::pci_dev>);

// SAFETY: The reference count is atomic, so any thread may drop the last reference.
unsafe impl Send for Device {}
// SAFETY: What the methods read is constant while a driver is bound; what they change, the PCI
// core serialises.
unsafe impl Sync for Device {}

// SAFETY: `pci_dev_get` and `pci_dev_put` count the references to a `struct pci_dev`.
unsafe impl AlwaysRefCounted for Device {
    fn inc_ref(&self) {
        // SAFETY: The existence of `&self` shows that the count is not zero.
        unsafe { bindings::pci_dev_get(self.as_raw()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: By the contract, the caller gives up a reference of its own.
        unsafe { bindings::pci_dev_put(obj.cast().as_ptr()) };
    }
}

impl AsRef<device::Device> for Device {
    fn as_ref(&self) -> &device::Device {
        // SAFETY: By the type invariants, the embedded device is initialised and lives as long as
        // `self`.
        unsafe { device::Device::from_raw(&raw mut (*self.as_raw()).dev) }
    }
}

/// Identity of a function, from its configuration header.
#[derive(Clone, Copy)]
pub struct Ids {
    /// Device id.
    pub device: u16,
    /// Revision.
    pub revision: u8,
    /// Subsystem vendor id.
    pub subsystem_vendor: u16,
    /// Subsystem id.
    pub subsystem_device: u16,
}

/// What a BAR decodes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum BarKind {
    /// I/O ports.
    Port,
    /// Memory.
    Memory,
}

/// A BAR that the PCI core has assigned.
#[derive(Clone, Copy)]
pub struct Bar {
    /// Bus address as the CPU sees it.
    pub start: u64,
    /// Length in bytes, not 0.
    pub len: u64,
    /// What it decodes.
    pub kind: BarKind,
}

impl Device {
    /// Wraps a C pointer.
    ///
    /// # Safety
    ///
    /// `ptr` points to an initialised `struct pci_dev` that stays valid for `'a`.
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::pci_dev) -> &'a Self {
        // SAFETY: By the contract, `ptr` is valid for `'a`; `Device` is transparent.
        unsafe { &*ptr.cast() }
    }

    /// Returns the C structure.
    pub fn as_raw(&self) -> *mut bindings::pci_dev {
        self.0.get()
    }

    /// The name on the bus, `0000:00:03.0`.
    pub fn name(&self) -> &CStr {
        self.as_ref().name()
    }

    /// Identity of the function, as the PCI core read it when it found the function.
    pub fn ids(&self) -> Ids {
        // SAFETY: By the type invariants; these fields are constant.
        let pdev = unsafe { &*self.as_raw() };
        Ids {
            device: pdev.device,
            revision: pdev.revision,
            subsystem_vendor: pdev.subsystem_vendor,
            subsystem_device: pdev.subsystem_device,
        }
    }

    /// The BAR `index`; `None` if it does not exist, is not assigned or is of length 0.
    pub fn bar(&self, index: usize) -> Option<Bar> {
        // SAFETY: By the type invariants; resources are constant while a driver is bound.
        let resource = unsafe {
            (*self.as_raw())
                .resource
                .get(index)
                .filter(|_| index < BARS)?
        };
        // CAST: BAR numbers are below 6.
        // SAFETY: As above; `index` is that of a BAR.
        let len = unsafe { bindings::pci_resource_len(self.as_raw(), index as c_int) };
        // CAST: No narrower than 32 bits.
        let kind = if resource.flags & bindings::IORESOURCE_IO as c_ulong != 0 {
            BarKind::Port
        } else if resource.flags & bindings::IORESOURCE_MEM as c_ulong != 0 {
            BarKind::Memory
        } else {
            return None;
        };
        (len != 0).then_some(Bar {
            start: resource.start,
            len,
            kind,
        })
    }

    /// A private copy of the configuration space, each byte read once.  What cannot be read is
    /// all ones.
    pub fn copy_config_space(&self) -> [u8; CONFIG_SPACE_LEN] {
        let mut copy = [0; CONFIG_SPACE_LEN];
        for (index, chunk) in copy.chunks_exact_mut(4).enumerate() {
            let mut dword = u32::MAX;
            // CAST: Offsets are below 256.
            // SAFETY: By the type invariants; `dword` is writable.  On failure it is all ones.
            unsafe {
                bindings::pci_read_config_dword(self.as_raw(), (index * 4) as c_int, &mut dword)
            };
            chunk.copy_from_slice(&dword.to_le_bytes());
        }
        copy
    }

    /// Wakes the function up and enables its I/O and memory decoding.  Counted: each call wants
    /// its [`Device::disable`].  May sleep (C: `pci_enable_device`).
    ///
    /// # Errors
    ///
    /// Those of the PCI core, for instance `EINVAL` if a BAR could not be assigned.
    pub fn enable(&self) -> Result {
        // SAFETY: By the type invariants.
        to_result(unsafe { bindings::pci_enable_device(self.as_raw()) })
    }

    /// Undoes one [`Device::enable`]; the last one stops DMA too (C: `pci_disable_device`).
    pub fn disable(&self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::pci_disable_device(self.as_raw()) };
    }

    /// Whether the function is enabled (C: `pci_is_enabled`).
    pub fn is_enabled(&self) -> bool {
        // SAFETY: By the type invariants; an atomic counter, read once.
        unsafe { (&raw const (*self.as_raw()).enable_cnt.counter).read_volatile() > 0 }
    }

    /// Writes the configuration space as the PCI core has saved it last, at the latest when it
    /// found the function (C: `pci_restore_state`).  May sleep.
    pub fn restore_state(&self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::pci_restore_state(self.as_raw()) };
    }

    /// Lets the function do DMA and send message signalled interrupts (C: `pci_set_master`).
    pub fn set_master(&self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::pci_set_master(self.as_raw()) };
    }

    /// Keeps the function from doing DMA (C: `pci_clear_master`).
    pub fn clear_master(&self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::pci_clear_master(self.as_raw()) };
    }

    /// Sets how many address bits the function can do DMA with.
    ///
    /// # Errors
    ///
    /// `EIO` if the platform cannot do it.
    ///
    /// # Safety
    ///
    /// Nothing is mapped or allocated for DMA of this function at the same time.
    pub unsafe fn set_dma_mask(&self, bits: u32) -> Result {
        // SAFETY: By the type invariants, the device is valid; by the contract, nothing reads the
        // mask meanwhile.
        to_result(unsafe {
            bindings::dma_set_mask_and_coherent(&raw mut (*self.as_raw()).dev, dma_mask(bits))
        })
    }

    /// As [`Device::set_dma_mask`], for coherent memory alone.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Safety
    ///
    /// As there.
    pub unsafe fn set_coherent_dma_mask(&self, bits: u32) -> Result {
        // SAFETY: As there.
        to_result(unsafe {
            bindings::dma_set_coherent_mask(&raw mut (*self.as_raw()).dev, dma_mask(bits))
        })
    }

    /// Whether the PCI core has switched MSI-X on for the function.
    pub fn has_msix_enabled(&self) -> bool {
        // SAFETY: By the type invariants; changed only by allocating and freeing vectors.
        unsafe { (*self.as_raw()).msix_enabled() != 0 }
    }

    /// Whether the function no longer answers (C: `pci_device_is_present`): then it can do no DMA.
    pub fn is_gone(&self) -> bool {
        // SAFETY: By the type invariants.
        !unsafe { bindings::pci_device_is_present(self.as_raw()) }
    }

    /// Whether the function keeps its state in D3hot (No_Soft_Reset in its power management
    /// capability), so that suspending to RAM needs no reset.
    pub fn keeps_state_in_d3(&self) -> bool {
        // SAFETY: By the type invariants; constant.
        let pm_cap = unsafe { (*self.as_raw()).pm_cap };
        if pm_cap == 0 {
            return false;
        }
        let mut pmcsr = u16::MAX;
        // SAFETY: By the type invariants; `pmcsr` is writable.
        unsafe {
            bindings::pci_read_config_word(
                self.as_raw(),
                c_int::from(pm_cap) + bindings::PCI_PM_CTRL as c_int,
                &mut pmcsr,
            )
        };
        if pmcsr == u16::MAX {
            dev_err!(self.as_ref(), "unable to query pmcsr\n");
            return false;
        }
        u32::from(pmcsr) & bindings::PCI_PM_CTRL_NO_SOFT_RESET != 0
    }

    /// Whether the function has an SR-IOV capability.
    pub fn has_sriov(&self) -> bool {
        // SAFETY: By the type invariants.
        let position = unsafe {
            bindings::pci_find_ext_capability(
                self.as_raw(),
                bindings::PCI_EXT_CAP_ID_SRIOV as c_int,
            )
        };
        position != 0
    }

    /// Whether virtual functions are assigned to guests.
    #[cfg(CONFIG_PCI_IOV)]
    pub fn has_assigned_vfs(&self) -> bool {
        // SAFETY: By the type invariants.
        unsafe { bindings::pci_vfs_assigned(self.as_raw()) != 0 }
    }

    /// Creates `count` virtual functions.  May sleep.
    ///
    /// # Errors
    ///
    /// Those of the PCI core.
    #[cfg(CONFIG_PCI_IOV)]
    pub fn enable_sriov(&self, count: c_int) -> Result {
        // SAFETY: By the type invariants.
        to_result(unsafe { bindings::pci_enable_sriov(self.as_raw(), count) })
    }

    /// The number of a virtual function among those of its owner, from 0 (C: `pci_iov_vf_id`).
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is none, `ENOSYS` without SR-IOV.
    pub fn vf_id(&self) -> Result<u32> {
        #[cfg(CONFIG_PCI_IOV)]
        // SAFETY: By the type invariants.
        let id = unsafe { bindings::pci_iov_vf_id(self.as_raw()) };
        #[cfg(not(CONFIG_PCI_IOV))]
        let id = ENOSYS.to_errno();
        to_result(id)?;
        Ok(u32::try_from(id)?)
    }

    /// The function that a virtual function belongs to; `None` if it is not virtual.
    pub fn owner(&self) -> Option<&Self> {
        #[cfg(CONFIG_PCI_IOV)]
        // SAFETY: By the type invariants; a virtual function keeps a reference to its owner.
        unsafe {
            if (*self.as_raw()).is_virtfn() != 0 {
                return Some(Self::from_raw((*self.as_raw()).__bindgen_anon_1.physfn));
            }
        }
        None
    }

    /// The driver data of the owner, if that is bound to `driver`; else null.
    pub(crate) fn owner_data(&self, driver: *mut bindings::pci_driver) -> *mut c_void {
        #[cfg(CONFIG_PCI_IOV)]
        {
            // SAFETY: By the type invariants; `driver` is only compared.
            let data = unsafe { bindings::pci_iov_get_pf_drvdata(self.as_raw(), driver) };
            kernel::error::from_err_ptr(data).unwrap_or(core::ptr::null_mut())
        }
        #[cfg(not(CONFIG_PCI_IOV))]
        {
            let _ = driver;
            core::ptr::null_mut()
        }
    }

    /// Removes all virtual functions.  May sleep.
    pub fn disable_sriov(&self) {
        #[cfg(CONFIG_PCI_IOV)]
        // SAFETY: By the type invariants.
        unsafe {
            bindings::pci_disable_sriov(self.as_raw())
        };
    }
}

#[cfg(CONFIG_KUNIT = "y")]
impl Device {
    /// Any function of the machine, for messages in tests.
    pub fn any() -> Option<DeviceRef> {
        // SAFETY: From the start of the list; a function comes with a reference.
        let pdev =
            unsafe { bindings::pci_get_device(c_uint::MAX, c_uint::MAX, core::ptr::null_mut()) };
        let device = NonNull::new(pdev)?.cast::<Self>();
        // SAFETY: As above; `Device` is transparent.
        Some(unsafe { ARef::from_raw(device) })
    }
}

/// The lowest `bits` bits.
fn dma_mask(bits: u32) -> u64 {
    u64::MAX
        .checked_shr(u64::BITS.saturating_sub(bits))
        .unwrap_or(0)
}

/// A reference that keeps a [`Device`].
pub type DeviceRef = ARef<Device>;
