// SPDX-License-Identifier: GPL-2.0

//! The C ABI of `virtio.ko`: what C drivers and C transports call.
//!
//! C headers: [`include/linux/virtio.h`](srctree/include/linux/virtio.h),
//! [`include/linux/virtio_config.h`](srctree/include/linux/virtio_config.h).
//!
//! Every function has C's contract: the pointers are valid, the context is the one that C asks
//! for.  That contract is what each `SAFETY` comment here means.

use crate::{
    bus,
    device::Device,
    lifecycle, //
};
use kernel::{
    ffi::{
        c_int,
        c_uint, //
    },
    prelude::*, //
};
use virtio_bindings as bindings;
use virtio_spec::Status;

/// Defines a C function, and checks its signature against the header's.
macro_rules! export {
    ($($(#[$attr:meta])* unsafe fn $name:ident($($arg:ident: $t:ty),* $(,)?) $(-> $r:ty)? $body:block)*) => {$(
        $(#[$attr])*
        const _: () = {
            if true { bindings::$name } else { $name };
        };
        /// # Safety
        ///
        /// C's contract, see the module.
        $(#[$attr])*
        #[no_mangle]
        unsafe extern "C" fn $name($($arg: $t),*) $(-> $r)? {
            // SAFETY: C's contract.
            unsafe { $body }
        }
    )*};
}

fn errno(result: Result) -> c_int {
    match result {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}

export! {
    unsafe fn __register_virtio_driver(
        drv: *mut bindings::virtio_driver,
        owner: *mut bindings::module,
    ) -> c_int {
        if (*drv).feature_table_size != 0 && (*drv).feature_table.is_null() {
            return EINVAL.to_errno();
        }
        bus::register_driver(drv, owner)
    }

    unsafe fn unregister_virtio_driver(drv: *mut bindings::virtio_driver) {
        bus::unregister_driver(drv);
    }

    unsafe fn register_virtio_device(dev: *mut bindings::virtio_device) -> c_int {
        bus::register_device(dev)
    }

    unsafe fn unregister_virtio_device(dev: *mut bindings::virtio_device) {
        bus::unregister_device(dev);
    }

    unsafe fn is_virtio_device(dev: *mut bindings::device) -> bool {
        bus::is_virtio_device(dev)
    }

    unsafe fn virtio_check_driver_offered_feature(
        vdev: *const bindings::virtio_device,
        fbit: c_uint,
    ) {
        let offered = bus::bound_driver(vdev.cast_mut()).is_some_and(|driver| {
            let has = |table: *const c_uint, count: c_uint| {
                (0..count as usize).any(|i| *table.add(i) == fbit)
            };
            has(driver.feature_table, driver.feature_table_size)
                || (!driver.feature_table_legacy.is_null()
                    && has(driver.feature_table_legacy, driver.feature_table_size_legacy))
        });
        if !offered {
            kernel::pr_warn_once!("driver asks for feature {}, which is not in its table\n", fbit);
        }
    }

    unsafe fn virtio_config_changed(dev: *mut bindings::virtio_device) {
        lifecycle::config_changed(Device::from_raw(dev));
    }

    unsafe fn virtio_config_driver_disable(dev: *mut bindings::virtio_device) {
        Device::from_raw(dev).set_driver_config_changes(false);
    }

    unsafe fn virtio_config_driver_enable(dev: *mut bindings::virtio_device) {
        Device::from_raw(dev).set_driver_config_changes(true);
    }

    unsafe fn virtio_add_status(dev: *mut bindings::virtio_device, status: c_uint) {
        Device::from_raw(dev).add_status(Status::from_bits(status as u8));
    }

    unsafe fn virtio_reset_device(dev: *mut bindings::virtio_device) {
        // C callers cannot be told; the transport has said it.
        let _ = Device::from_raw(dev).reset();
    }

    unsafe fn virtio_device_shutdown(dev: *mut bindings::virtio_device) {
        lifecycle::shutdown(Device::from_raw(dev));
    }

    #[cfg(CONFIG_PM_SLEEP)]
    unsafe fn virtio_device_freeze(dev: *mut bindings::virtio_device) -> c_int {
        errno(lifecycle::freeze(Device::from_raw(dev)))
    }

    #[cfg(CONFIG_PM_SLEEP)]
    unsafe fn virtio_device_restore(dev: *mut bindings::virtio_device) -> c_int {
        errno(lifecycle::restore(Device::from_raw(dev)))
    }

    unsafe fn virtio_device_reset_prepare(dev: *mut bindings::virtio_device) -> c_int {
        errno(lifecycle::reset_prepare(Device::from_raw(dev)))
    }

    unsafe fn virtio_device_reset_done(dev: *mut bindings::virtio_device) -> c_int {
        errno(lifecycle::reset_done(Device::from_raw(dev)))
    }
}
