// SPDX-License-Identifier: GPL-2.0

//! The callbacks of a bound `struct virtio_driver`, safe to call.
//!
//! C header: [`include/linux/virtio.h`](srctree/include/linux/virtio.h)

use crate::device::Device;
use kernel::{
    error::to_result,
    ffi::c_int,
    prelude::*, //
};
use virtio_bindings as bindings;
use virtio_spec::{
    features::FEATURE_BITS,
    Features, //
};

/// The driver that a device is bound to, or being bound to.
///
/// # Invariants
///
/// The structure is a registered driver's: its callbacks take devices that are bound to it, and
/// its tables are as long as it says.
#[derive(Clone, Copy)]
pub(crate) struct DriverOps<'a>(&'a bindings::virtio_driver);

/// One that takes a device and can fail.
type Fallible = unsafe extern "C" fn(*mut bindings::virtio_device) -> c_int;

/// One that takes a device.
type Simple = unsafe extern "C" fn(*mut bindings::virtio_device);

fn call(callback: Fallible, dev: &Device) -> Result {
    // SAFETY: By the invariants of `DriverOps`, from whom the callback comes.
    to_result(unsafe { callback(dev.as_raw()) })
}

fn run(callback: Option<Simple>, dev: &Device) {
    if let Some(callback) = callback {
        // SAFETY: By the invariants of `DriverOps`, from whom the callback comes.
        unsafe { callback(dev.as_raw()) };
    }
}

macro_rules! optional {
    ($($(#[$attr:meta])* $name:ident)*) => {$(
        $(#[$attr])*
        ///
        /// `None` if it has no such callback.
        pub(crate) fn $name(self, dev: &Device) -> Option<Result> {
            self.0.$name.map(|callback| call(callback, dev))
        }
    )*};
}

impl<'a> DriverOps<'a> {
    /// Wraps a C driver.
    ///
    /// # Safety
    ///
    /// As the type invariants.
    pub(crate) unsafe fn new(driver: &'a bindings::virtio_driver) -> Self {
        // INVARIANT: By the contract.
        Self(driver)
    }

    /// The features of its table.
    pub(crate) fn features(self) -> Features {
        // SAFETY: By the type invariants.
        unsafe { table(self.0.feature_table, self.0.feature_table_size) }
    }

    /// The features of its table for legacy devices, if it has one.
    pub(crate) fn legacy_features(self) -> Option<Features> {
        let legacy = self.0.feature_table_legacy;
        (!legacy.is_null()).then(|| {
            // SAFETY: By the type invariants.
            unsafe { table(legacy, self.0.feature_table_size_legacy) }
        })
    }

    /// Whether it has both callbacks that a reset under it needs.
    pub(crate) fn survives_reset(self) -> bool {
        self.0.reset_prepare.is_some() && self.0.reset_done.is_some()
    }

    optional! {
        /// Checks configuration and features, and may clear some.
        validate
        /// Binds.
        probe
        /// Quiesces before the system sleeps.
        freeze
        /// Resumes after the system slept.
        restore
        /// Quiesces before a reset.
        reset_prepare
        /// Resumes after a reset.
        reset_done
    }

    /// Unbinds.
    pub(crate) fn remove(self, dev: &Device) {
        run(self.0.remove, dev);
    }

    /// Goes on after DRIVER_OK.
    pub(crate) fn scan(self, dev: &Device) {
        run(self.0.scan, dev);
    }

    /// Hears of a configuration change; whether it listens.
    pub(crate) fn config_changed(self, dev: &Device) -> bool {
        run(self.0.config_changed, dev);
        self.0.config_changed.is_some()
    }

    /// Stops for a reboot; whether it has its own way.
    pub(crate) fn shutdown(self, dev: &Device) -> bool {
        run(self.0.shutdown, dev);
        self.0.shutdown.is_some()
    }
}

/// The bits of a feature table.
///
/// # Safety
///
/// `table` points to `count` elements, or `count` is 0.
unsafe fn table(table: *const u32, count: u32) -> Features {
    let mut features = Features::EMPTY;
    for i in 0..count as usize {
        // SAFETY: By the contract.
        let bit = unsafe { *table.add(i) };
        if bit < FEATURE_BITS {
            features = features.with_bit(bit);
        } else {
            kernel::pr_warn_once!(
                "driver asks for feature bit {}, which does not exist\n",
                bit
            );
        }
    }
    features
}
