// SPDX-License-Identifier: GPL-2.0

//! The bus `virtio`: matching, probing and removing through `struct virtio_driver`.
//!
//! C source: `drivers/virtio/virtio.c`.
//!
//! The callbacks here are the border to the driver core.  What they decide is in [`negotiate`]
//! and [`lifecycle`].
//!
//! [`negotiate`]: crate::negotiate
//! [`lifecycle`]: crate::lifecycle

#[cfg(CONFIG_DEBUG_FS)]
use crate::debugfs;
use crate::{
    device::Device,
    lifecycle,
    sysfs, //
};
use core::{
    mem::{
        offset_of,
        MaybeUninit, //
    },
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    error::{
        from_result,
        to_result, //
    },
    ffi::{
        c_int,
        c_uint, //
    },
    prelude::*,
    types::Opaque, //
};
use virtio_bindings as bindings;
use virtio_spec::Status;

/// Matches any device or vendor in an id table.
const ANY_ID: u32 = bindings::VIRTIO_DEV_ANY_ID;

#[repr(transparent)]
struct Bus(bindings::bus_type);

// SAFETY: Never written after its definition; the driver core keeps its state elsewhere.
unsafe impl Sync for Bus {}

static BUS: Bus = {
    // SAFETY: All zeroes are a valid `struct bus_type`: null pointers and absent callbacks.
    let mut bus: bindings::bus_type = unsafe { MaybeUninit::zeroed().assume_init() };
    bus.name = c"virtio".to_bytes_with_nul().as_ptr();
    bus.match_ = Some(bus_match);
    bus.dev_groups = sysfs::GROUPS.as_ptr();
    bus.uevent = Some(uevent);
    bus.probe = Some(probe);
    bus.remove = Some(remove);
    bus.irq_get_affinity = Some(irq_get_affinity);
    bus.shutdown = Some(shutdown);
    bus.num_vf = Some(num_vf);
    Bus(bus)
};

#[repr(transparent)]
struct IndexIda(Opaque<bindings::ida>);

// SAFETY: An `ida` has a lock of its own.
unsafe impl Sync for IndexIda {}

/// The numbers N of `virtioN`; initialised by [`Registration::new`].
static INDEX: IndexIda = IndexIda(Opaque::zeroed());

/// The registered bus; unregistered when dropped.
pub(crate) struct Registration(());

impl Registration {
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: `INDEX` is used only while the bus is registered, and has a static lifetime.
        unsafe { bindings::virtio_ida_init(INDEX.0.get()) };
        // SAFETY: `BUS` has a static lifetime and is registered once a module load.
        to_result(unsafe { bindings::bus_register(&raw const BUS.0) })?;
        #[cfg(CONFIG_DEBUG_FS)]
        debugfs::init();
        Ok(Self(()))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        #[cfg(CONFIG_DEBUG_FS)]
        debugfs::exit();
        // SAFETY: Registered by `new`; devices and drivers hold a reference to this module, so
        // none is left.
        unsafe {
            bindings::bus_unregister(&raw const BUS.0);
            bindings::ida_destroy(INDEX.0.get());
        }
    }
}

/// The virtio device that embeds `dev`.
pub(crate) fn to_virtio(dev: *const bindings::device) -> *mut bindings::virtio_device {
    dev.cast::<u8>()
        .wrapping_sub(offset_of!(bindings::virtio_device, dev))
        .cast_mut()
        .cast()
}

fn to_driver(driver: *const bindings::device_driver) -> *mut bindings::virtio_driver {
    driver
        .cast::<u8>()
        .wrapping_sub(offset_of!(bindings::virtio_driver, driver))
        .cast_mut()
        .cast()
}

/// The driver that `vdev` is bound to, or being bound to.
///
/// # Safety
///
/// `vdev` is registered; the device lock is held, or binding cannot change for another reason.
pub(crate) unsafe fn bound_driver<'a>(
    vdev: *mut bindings::virtio_device,
) -> Option<&'a bindings::virtio_driver> {
    // SAFETY: By the contract.
    unsafe {
        let driver = (*vdev).dev.driver;
        (!driver.is_null()).then(|| &*to_driver(driver))
    }
}

extern "C" fn bus_match(
    dev: *mut bindings::device,
    driver: *const bindings::device_driver,
) -> c_int {
    // SAFETY: The driver core asks about a device and a driver of this bus; the id table ends
    // with an entry whose device is 0.
    unsafe {
        let id = (*to_virtio(dev)).id;
        let mut entry = (*to_driver(driver)).id_table;
        while !entry.is_null() && (*entry).device != 0 {
            let device = (*entry).device;
            let vendor = (*entry).vendor;
            if (device == id.device || device == ANY_ID)
                && (vendor == id.vendor || vendor == ANY_ID)
            {
                return 1;
            }
            entry = entry.add(1);
        }
    }
    0
}

extern "C" fn uevent(dev: *const bindings::device, env: *mut bindings::kobj_uevent_env) -> c_int {
    // SAFETY: The driver core passes a device of this bus, and a valid environment.
    unsafe {
        let id = (*to_virtio(dev)).id;
        bindings::virtio_add_modalias(env, id.device, id.vendor)
    }
}

extern "C" fn probe(dev: *mut bindings::device) -> c_int {
    // SAFETY: The driver core passes a device of this bus, being bound, with its lock held.
    let device = unsafe { Device::from_raw(to_virtio(dev)) };
    from_result(|| {
        let driver = device.driver().ok_or(ENODEV)?;
        lifecycle::probe(device, driver).inspect_err(|_| device.add_status(Status::FAILED))?;
        Ok(0)
    })
}

extern "C" fn remove(dev: *mut bindings::device) {
    // SAFETY: The driver core passes a bound device of this bus, with its lock held.
    let device = unsafe { Device::from_raw(to_virtio(dev)) };
    if let Some(driver) = device.driver() {
        lifecycle::remove(device, driver);
    }
}

extern "C" fn shutdown(dev: *mut bindings::device) {
    // SAFETY: The driver core passes a device of this bus, with its lock held.
    let device = unsafe { Device::from_raw(to_virtio(dev)) };
    if let Some(driver) = device.driver() {
        if !driver.shutdown(device) {
            lifecycle::shutdown(device);
        }
    }
}

extern "C" fn irq_get_affinity(
    dev: *mut bindings::device,
    vector: c_uint,
) -> *const bindings::cpumask {
    let vdev = to_virtio(dev);
    // SAFETY: The driver core passes a device of this bus, whose `config` is valid.
    unsafe {
        match (*(*vdev).config).get_vq_affinity {
            Some(get) => get(vdev, vector as c_int),
            None => ptr::null(),
        }
    }
}

extern "C" fn num_vf(dev: *mut bindings::device) -> c_int {
    // SAFETY: A virtio device has a parent, see `register_device`.
    unsafe { bindings::virtio_dev_num_vf((*dev).parent) }
}

/// Puts a device on the bus (C: `register_virtio_device`).
///
/// # Safety
///
/// - `vdev` points to a zeroed `struct virtio_device` but for `dev.parent`, `dev.release`, `id`,
///   `config`, `map` and `vmap`, which are valid;
/// - on failure the caller calls `put_device`, as in C.
pub(crate) unsafe fn register_device(vdev: *mut bindings::virtio_device) -> c_int {
    // SAFETY: By the contract; everything is initialised before the first use.
    unsafe {
        let dev = &raw mut (*vdev).dev;
        (*dev).bus = &raw const BUS.0;
        bindings::device_initialize(dev);
        bindings::virtio_device_init_locks(vdev);
    }
    // SAFETY: Initialised just now.
    let device = unsafe { Device::from_raw(vdev) };

    // SAFETY: `INDEX` is initialised while the bus is registered.
    let index = unsafe {
        bindings::ida_alloc_range(INDEX.0.get(), 0, c_int::MAX as c_uint, bindings::GFP_KERNEL)
    };
    if index < 0 {
        device.add_status(Status::FAILED);
        return index;
    }
    // SAFETY: By the contract, nobody else knows the device yet.
    let result = unsafe {
        (*vdev).index = index;
        add_device(vdev, device, index)
    };
    if result != 0 {
        // SAFETY: Allocated above.
        unsafe { bindings::ida_free(INDEX.0.get(), index as c_uint) };
        device.add_status(Status::FAILED);
    }
    result
}

/// # Safety
///
/// As [`register_device`], which has initialised `vdev`.
unsafe fn add_device(vdev: *mut bindings::virtio_device, device: &Device, index: c_int) -> c_int {
    // SAFETY: By the contract.
    unsafe {
        let dev = &raw mut (*vdev).dev;
        let mut result = bindings::virtio_dev_set_name(dev, index as c_uint);
        if result == 0 {
            result = bindings::virtio_device_of_init(vdev);
        }
        if result != 0 {
            return result;
        }
        let attached = crate::recovery::attach(NonNull::new_unchecked(vdev));
        if let Err(error) = attached {
            bindings::virtio_of_node_put(dev);
            return error.to_errno();
        }
        // A previous driver may have left anything behind.
        if let Err(failed) = device.reset() {
            dev_err!(
                device.as_device(),
                "device does not reset (status {:#x}): not used\n",
                failed.status.bits()
            );
            result = EIO.to_errno();
        } else {
            device.add_status(Status::ACKNOWLEDGE);
            #[cfg(CONFIG_DEBUG_FS)]
            debugfs::device_init(device);
            result = bindings::device_add(dev);
            #[cfg(CONFIG_DEBUG_FS)]
            if result != 0 {
                debugfs::device_exit(device);
            }
        }
        if result != 0 {
            crate::recovery::detach(NonNull::new_unchecked(vdev));
            bindings::virtio_of_node_put(dev);
        }
        result
    }
}

/// Takes a device off the bus and drops the registration's reference (C:
/// `unregister_virtio_device`).
///
/// # Safety
///
/// `vdev` was registered by [`register_device`], and is unregistered once.
pub(crate) unsafe fn unregister_device(vdev: *mut bindings::virtio_device) {
    // SAFETY: By the contract; the index is read before the device may go.
    unsafe {
        let index = (*vdev).index;
        let dev = &raw mut (*vdev).dev;
        #[cfg(CONFIG_DEBUG_FS)]
        debugfs::device_exit(Device::from_raw(vdev));
        bindings::device_del(dev);
        crate::recovery::detach(NonNull::new_unchecked(vdev));
        bindings::virtio_of_node_put(dev);
        bindings::put_device(dev);
        bindings::ida_free(INDEX.0.get(), index as c_uint);
    }
}

/// Registers a driver (C: `__register_virtio_driver`).
///
/// # Safety
///
/// `driver` is valid, and stays so until it is unregistered.
pub(crate) unsafe fn register_driver(
    driver: *mut bindings::virtio_driver,
    owner: *mut bindings::module,
) -> c_int {
    // SAFETY: By the contract.
    unsafe {
        (*driver).driver.bus = &raw const BUS.0;
        (*driver).driver.owner = owner;
        bindings::driver_register(&raw mut (*driver).driver)
    }
}

/// Unregisters a driver; its devices are removed first (C: `unregister_virtio_driver`).
///
/// # Safety
///
/// `driver` was registered by [`register_driver`].
pub(crate) unsafe fn unregister_driver(driver: *mut bindings::virtio_driver) {
    // SAFETY: By the contract.
    unsafe { bindings::driver_unregister(&raw mut (*driver).driver) };
}

/// Whether `dev` is on this bus (C: `is_virtio_device`).
///
/// # Safety
///
/// `dev` is valid.
pub(crate) unsafe fn is_virtio_device(dev: *const bindings::device) -> bool {
    // SAFETY: By the contract.
    unsafe { ptr::eq((*dev).bus, &raw const BUS.0) }
}
