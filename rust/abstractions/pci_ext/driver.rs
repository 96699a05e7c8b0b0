// SPDX-License-Identifier: GPL-2.0

//! A PCI driver: `struct pci_driver` with power management, SR-IOV, reset and error callbacks.
//!
//! [`Driver`] is what the driver implements, [`Registration`] keeps it registered.

use crate::Device;
use core::{
    marker::PhantomData,
    ptr, //
};
use kernel::{
    error::{
        from_result,
        to_result, //
    },
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Release, //
    },
    types::{
        ForeignOwnable,
        Opaque, //
    },
    ThisModule, //
};
use virtio_bindings as bindings;

/// The functions that a driver may bind to.
#[repr(transparent)]
pub struct IdTable([bindings::pci_device_id; 2]);

// SAFETY: Plain numbers, never written.
unsafe impl Sync for IdTable {}

impl IdTable {
    /// Every function of a vendor.
    pub const fn of_vendor(vendor: u16) -> Self {
        const ANY: u32 = !0;
        const END: bindings::pci_device_id = bindings::pci_device_id {
            vendor: 0,
            device: 0,
            subvendor: 0,
            subdevice: 0,
            class: 0,
            class_mask: 0,
            driver_data: 0,
            override_only: 0,
        };
        Self([
            bindings::pci_device_id {
                vendor: vendor as u32,
                device: ANY,
                subvendor: ANY,
                subdevice: ANY,
                ..END
            },
            END,
        ])
    }
}

/// What an error left of the way to a function (C: `pci_channel_state_t`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ChannelState {
    /// It works.
    Normal,
    /// Accesses to registers may be blocked; the function is reset next.
    Frozen,
    /// There is none any more.
    PermanentFailure,
}

impl ChannelState {
    fn new(raw: bindings::pci_channel_state_t) -> Self {
        match raw {
            bindings::pci_channel_io_normal => Self::Normal,
            bindings::pci_channel_io_frozen => Self::Frozen,
            _ => Self::PermanentFailure,
        }
    }
}

/// What a driver makes of an error (C: `pci_ers_result_t`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ErrorResult {
    /// Nothing, the driver goes on.
    None,
    /// It has stopped, and goes on after a reset.
    NeedReset,
    /// It cannot go on.
    Disconnect,
    /// After a reset: it can go on.
    Recovered,
}

impl ErrorResult {
    fn raw(self) -> bindings::pci_ers_result_t {
        match self {
            Self::None => bindings::pci_ers_result_PCI_ERS_RESULT_NONE,
            Self::NeedReset => bindings::pci_ers_result_PCI_ERS_RESULT_NEED_RESET,
            Self::Disconnect => bindings::pci_ers_result_PCI_ERS_RESULT_DISCONNECT,
            Self::Recovered => bindings::pci_ers_result_PCI_ERS_RESULT_RECOVERED,
        }
    }
}

/// The callbacks of a PCI driver.  All may sleep; the driver core holds the device lock, so none
/// runs beside another for the same device, and all but `probe` only between `probe` and `remove`.
pub trait Driver: 'static {
    /// What `probe` makes of a device.
    type Data: Send + Sync + 'static;

    /// Name in `/sys/bus/pci/drivers`.
    const NAME: &'static CStr;

    /// The functions that the driver may bind to.
    const ID_TABLE: &'static IdTable;

    /// Binds a device.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the device is not for this driver, which the driver core reports to nobody;
    /// others as they come.
    fn probe(dev: &Device) -> Result<KBox<Self::Data>>;

    /// Before a device is unbound: removes its virtual functions, whose drivers may look at the
    /// data ([`Registered::data_of_owner`]) until this returns.
    fn release_functions(dev: &Device, data: &Self::Data);

    /// Unbinds a device.
    fn remove(dev: &Device, data: KBox<Self::Data>);

    /// Before the system suspends to RAM.
    ///
    /// # Errors
    ///
    /// Any ends the suspension.
    fn suspend(dev: &Device, data: &Self::Data) -> Result;

    /// After the system was suspended to RAM and the function works again, but before there are
    /// interrupts: no handler runs.  May sleep.
    fn resume_noirq(dev: &Device, data: &Self::Data);

    /// After the system was suspended to RAM.
    ///
    /// # Errors
    ///
    /// Reported by the driver core.
    fn resume(dev: &Device, data: &Self::Data) -> Result;

    /// Before a hibernation image is made, and before the system is powered off with it.
    ///
    /// # Errors
    ///
    /// Any ends the hibernation.
    fn freeze(dev: &Device, data: &Self::Data) -> Result;

    /// After a hibernation image was made, or was restored.
    ///
    /// # Errors
    ///
    /// Reported by the driver core.
    fn restore(dev: &Device, data: &Self::Data) -> Result;

    /// Sets the number of virtual functions; 0 removes them.  Returns how many there are now.
    ///
    /// # Errors
    ///
    /// As the writer of `sriov_numvfs` will see them.
    #[cfg(CONFIG_PCI_IOV)]
    fn sriov_configure(dev: &Device, data: &Self::Data, count: c_int) -> Result<c_int>;

    /// Before the function is reset.
    fn reset_prepare(dev: &Device, data: &Self::Data);

    /// After the function was reset.
    fn reset_done(dev: &Device, data: &Self::Data);

    /// The function, or another one behind the same port, had an error that the hardware could not
    /// correct (`Documentation/PCI/pci-error-recovery.rst` of the kernel).
    fn error_detected(dev: &Device, data: &Self::Data, state: ChannelState) -> ErrorResult;

    /// The function was reset because of an error; its configuration space is as after power-on.
    fn slot_reset(dev: &Device, data: &Self::Data) -> ErrorResult;

    /// All drivers behind the port have recovered from the error.
    fn error_resume(dev: &Device, data: &Self::Data);
}

/// Where the registration of `D` can be found: a static of the module.
///
/// # Invariants
///
/// Null, or the structure of a [`Registration`] of `D`.
pub struct Registered<D: Driver> {
    driver: Atomic<*mut bindings::pci_driver>,
    _driver: PhantomData<fn() -> D>,
}

impl<D: Driver> Registered<D> {
    /// No registration yet.
    pub const fn new() -> Self {
        Self {
            driver: Atomic::new(ptr::null_mut()),
            _driver: PhantomData,
        }
    }

    /// The data of the device that `function` is a virtual function of, if that is bound to `D`
    /// (C: `pci_iov_get_pf_drvdata`).  Any context.
    ///
    /// # Safety
    ///
    /// A driver is bound to `function`, and stays so for `'a`: then the owner stays bound too.
    pub unsafe fn data_of_owner<'a>(&self, function: &'a Device) -> Option<&'a D::Data> {
        let driver = self.driver.load(Acquire);
        if driver.is_null() {
            return None;
        }
        // SAFETY: The data of a device that is bound to `D`, or null while it is being bound; by
        // the contract, it stays.
        unsafe { function.owner_data(driver).cast::<D::Data>().as_ref() }
    }
}

impl<D: Driver> Default for Registered<D> {
    fn default() -> Self {
        Self::new()
    }
}

/// A registered driver; unregistered, and unbound from all devices, when dropped.
///
/// # Invariants
///
/// `driver` is registered.
pub struct Registration<D: Driver> {
    driver: Pin<KBox<Opaque<bindings::pci_driver>>>,
    registered: &'static Registered<D>,
}

// SAFETY: The driver core locks what it keeps in the structure; nothing else touches it.
unsafe impl<D: Driver> Send for Registration<D> {}
// SAFETY: There is no method that takes `&self`.
unsafe impl<D: Driver> Sync for Registration<D> {}

impl<D: Driver> Registration<D> {
    /// Registers the driver, which can be found at `registered` from then on; devices may be probed
    /// before it returns.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or those of the driver core.
    pub fn new(
        module: &'static ThisModule,
        module_name: &'static CStr,
        registered: &'static Registered<D>,
    ) -> Result<Self> {
        let driver = KBox::pin(Opaque::<bindings::pci_driver>::zeroed(), GFP_KERNEL)?;
        let raw = driver.get();
        // SAFETY: Not registered yet, so nobody else uses the structure.  What it points to is
        // static, and the callbacks are those of `D`.
        unsafe {
            (*raw).name = D::NAME.as_char_ptr();
            (*raw).id_table = D::ID_TABLE.0.as_ptr();
            (*raw).probe = Some(Callbacks::<D>::probe);
            (*raw).remove = Some(Callbacks::<D>::remove);
            (*raw).err_handler = Callbacks::<D>::ERROR_HANDLERS;
            (*raw).driver.pm = Callbacks::<D>::PM_OPS;
        }
        #[cfg(CONFIG_PCI_IOV)]
        // SAFETY: As above.
        unsafe {
            (*raw).sriov_configure = Some(Callbacks::<D>::sriov_configure);
        }
        // SAFETY: `driver` is pinned and stays until `drop` unregisters it.
        to_result(unsafe {
            bindings::__pci_register_driver(raw, module.as_ptr(), module_name.as_char_ptr())
        })?;
        // INVARIANT: Registered just now; taken back in `drop`.
        registered.driver.store(raw, Release);
        Ok(Self { driver, registered })
    }
}

impl<D: Driver> Drop for Registration<D> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, the driver is registered.
        unsafe { bindings::pci_unregister_driver(self.driver.get()) };
        self.registered.driver.store(ptr::null_mut(), Release);
    }
}

/// The functions and tables that the driver core gets for `D`.
struct Callbacks<D>(PhantomData<D>);

impl<D: Driver> Callbacks<D> {
    const ERROR_HANDLERS: &'static bindings::pci_error_handlers = &bindings::pci_error_handlers {
        error_detected: Some(Self::error_detected),
        mmio_enabled: None,
        slot_reset: Some(Self::slot_reset),
        reset_prepare: Some(Self::reset_prepare),
        reset_done: Some(Self::reset_done),
        resume: Some(Self::error_resume),
        cor_error_detected: None,
    };

    #[cfg(CONFIG_PM_SLEEP)]
    const PM_OPS: &'static bindings::dev_pm_ops = &bindings::dev_pm_ops {
        suspend: Some(Self::suspend),
        resume: Some(Self::resume),
        freeze: Some(Self::freeze),
        thaw: Some(Self::restore),
        poweroff: Some(Self::freeze),
        restore: Some(Self::restore),
        resume_noirq: Some(Self::resume_noirq),
        ..pin_init::zeroed()
    };
    #[cfg(not(CONFIG_PM_SLEEP))]
    const PM_OPS: *const bindings::dev_pm_ops = ptr::null();

    /// # Safety
    ///
    /// The driver core calls this for a device that is to be bound to this driver.
    unsafe extern "C" fn probe(
        pdev: *mut bindings::pci_dev,
        _id: *const bindings::pci_device_id,
    ) -> c_int {
        // SAFETY: By the contract, a valid device.
        let dev = unsafe { Device::from_raw(pdev) };
        from_result(|| {
            let data = D::probe(dev)?;
            // SAFETY: While the device is bound to this driver, its data is ours.
            unsafe { (*pdev).dev.driver_data = data.into_foreign() };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// The driver core calls this once for a device that [`Self::probe`] has bound.
    unsafe extern "C" fn remove(pdev: *mut bindings::pci_dev) {
        // SAFETY: By the contract.
        unsafe { Self::with_data(pdev, D::release_functions) };
        // SAFETY: By the contract, the data is that of `probe`, and nobody else uses it any more.
        let (dev, data) = unsafe {
            let data = ptr::replace(&raw mut (*pdev).dev.driver_data, ptr::null_mut());
            (Device::from_raw(pdev), KBox::from_foreign(data))
        };
        D::remove(dev, data);
    }

    /// Calls `callback` with the device and its data.
    ///
    /// # Safety
    ///
    /// `pdev` is bound to this driver and stays so until the function returns.
    unsafe fn with_data<R>(
        pdev: *mut bindings::pci_dev,
        callback: impl FnOnce(&Device, &D::Data) -> R,
    ) -> R {
        // SAFETY: By the contract, `probe` has succeeded and `remove` has not begun.
        let (dev, data) = unsafe {
            (
                Device::from_raw(pdev),
                &*(*pdev).dev.driver_data.cast::<D::Data>(),
            )
        };
        callback(dev, data)
    }

    /// # Safety
    ///
    /// The PCI core calls this for a device that is bound to this driver, and holds its lock.
    #[cfg(CONFIG_PCI_IOV)]
    unsafe extern "C" fn sriov_configure(pdev: *mut bindings::pci_dev, count: c_int) -> c_int {
        // SAFETY: By the contract; the lock keeps the device bound.
        from_result(|| unsafe {
            Self::with_data(pdev, |dev, data| D::sriov_configure(dev, data, count))
        })
    }

    /// # Safety
    ///
    /// As [`Callbacks::with_data`].
    unsafe extern "C" fn reset_prepare(pdev: *mut bindings::pci_dev) {
        // SAFETY: By the contract.
        unsafe { Self::with_data(pdev, D::reset_prepare) };
    }

    /// # Safety
    ///
    /// As [`Callbacks::with_data`].
    unsafe extern "C" fn reset_done(pdev: *mut bindings::pci_dev) {
        // SAFETY: By the contract.
        unsafe { Self::with_data(pdev, D::reset_done) };
    }

    /// # Safety
    ///
    /// As [`Callbacks::with_data`].
    unsafe extern "C" fn error_detected(
        pdev: *mut bindings::pci_dev,
        state: bindings::pci_channel_state_t,
    ) -> bindings::pci_ers_result_t {
        let state = ChannelState::new(state);
        // SAFETY: By the contract.
        unsafe { Self::with_data(pdev, |dev, data| D::error_detected(dev, data, state)) }.raw()
    }

    /// # Safety
    ///
    /// As [`Callbacks::with_data`].
    unsafe extern "C" fn slot_reset(pdev: *mut bindings::pci_dev) -> bindings::pci_ers_result_t {
        // SAFETY: By the contract.
        unsafe { Self::with_data(pdev, D::slot_reset) }.raw()
    }

    /// # Safety
    ///
    /// As [`Callbacks::with_data`].
    unsafe extern "C" fn error_resume(pdev: *mut bindings::pci_dev) {
        // SAFETY: By the contract.
        unsafe { Self::with_data(pdev, D::error_resume) };
    }
}

#[cfg(CONFIG_PM_SLEEP)]
impl<D: Driver> Callbacks<D> {
    /// Calls `callback` for the PCI device that embeds `dev`.
    ///
    /// # Safety
    ///
    /// `dev` is embedded by a PCI device that is bound to this driver and stays so until the
    /// function returns.
    unsafe fn sleep(
        dev: *mut bindings::device,
        callback: fn(&Device, &D::Data) -> Result,
    ) -> c_int {
        let pdev = dev
            .cast::<u8>()
            .wrapping_sub(core::mem::offset_of!(bindings::pci_dev, dev))
            .cast();
        // SAFETY: By the contract.
        from_result(|| unsafe { Self::with_data(pdev, callback) }.map(|()| 0))
    }

    /// # Safety
    ///
    /// As [`Callbacks::sleep`].
    unsafe extern "C" fn suspend(dev: *mut bindings::device) -> c_int {
        // SAFETY: By the contract.
        unsafe { Self::sleep(dev, D::suspend) }
    }

    /// # Safety
    ///
    /// As [`Callbacks::sleep`].
    unsafe extern "C" fn resume_noirq(dev: *mut bindings::device) -> c_int {
        // SAFETY: By the contract.
        unsafe {
            Self::sleep(dev, |dev, data| {
                D::resume_noirq(dev, data);
                Ok(())
            })
        }
    }

    /// # Safety
    ///
    /// As [`Callbacks::sleep`].
    unsafe extern "C" fn resume(dev: *mut bindings::device) -> c_int {
        // SAFETY: By the contract.
        unsafe { Self::sleep(dev, D::resume) }
    }

    /// # Safety
    ///
    /// As [`Callbacks::sleep`].
    unsafe extern "C" fn freeze(dev: *mut bindings::device) -> c_int {
        // SAFETY: By the contract.
        unsafe { Self::sleep(dev, D::freeze) }
    }

    /// # Safety
    ///
    /// As [`Callbacks::sleep`].
    unsafe extern "C" fn restore(dev: *mut bindings::device) -> c_int {
        // SAFETY: By the contract.
        unsafe { Self::sleep(dev, D::restore) }
    }
}
