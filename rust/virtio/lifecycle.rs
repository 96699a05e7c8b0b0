// SPDX-License-Identifier: GPL-2.0

//! The life of a device: probe, ready, remove, freeze, restore, reset, shutdown.
//!
//! C source: `drivers/virtio/virtio.c`.  Specification: 3.1 (initialisation), 3.3 (cleanup).
//!
//! The states that a Rust driver sees are types: [`Init`] and [`Configured`] here,
//! [`Running`] after DRIVER_OK.  The end has no type a driver could hold: the glue in
//! [`crate::driver`] walks through it.

use crate::{
    device::Device,
    negotiate,
    ops::DriverOps,
    recovery, //
};
use core::ops::Deref;
use kernel::prelude::*;
use virtio_spec::Status;

macro_rules! state {
    ($(#[$attr:meta])* $name:ident) => {
        $(#[$attr])*
        pub struct $name<'a>(pub(crate) &'a Device);

        impl Deref for $name<'_> {
            type Target = Device;

            fn deref(&self) -> &Device {
                self.0
            }
        }
    };
}

state! {
    /// Features are agreed and FEATURES_OK was read back: the configuration may be read.
    Init
}

state! {
    /// The queues are found: buffers may be added, but not kicked.
    Configured
}

state! {
    /// DRIVER_OK is written: the device works.
    Running
}

state! {
    /// The device was reset and no callback runs any more: it does not own its buffers, or, if it did
    /// not acknowledge the reset, its transport keeps it from them as well as it can.
    Quiesced
}

/// Binds `driver` to `dev` (C: `virtio_dev_probe`).  May sleep; the device lock is held.
pub(crate) fn probe(dev: &Device, driver: DriverOps<'_>) -> Result {
    if dev.status().contains(Status::FAILED) {
        // Somebody gave up on it: it has to start anew (specification 2.1.1).
        reset(dev)?;
        dev.add_status(Status::ACKNOWLEDGE);
    }
    dev.add_status(Status::DRIVER);
    negotiate::negotiate(dev, driver)?;
    driver.probe(dev).unwrap_or(Err(EINVAL))?;
    make_ready(dev);
    driver.scan(dev);
    dev.set_core_config_changes(true);
    Ok(())
}

/// Writes DRIVER_OK unless the driver already did.
fn make_ready(dev: &Device) {
    if !dev.status().contains(Status::DRIVER_OK) {
        ready(dev);
    }
}

/// Writes DRIVER_OK (C: `virtio_device_ready`).  May sleep.
pub(crate) fn ready(dev: &Device) {
    dev.add_status(Status::DRIVER_OK);
}

/// Unbinds the driver (C: `virtio_dev_remove`).  May sleep; the device lock is held.
pub(crate) fn remove(dev: &Device, driver: DriverOps<'_>) {
    dev.set_core_config_changes(false);
    driver.remove(dev);
    // The driver has reset the device, or tried to: a dead one keeps its status.
    if dev.status().is_reset() {
        dev.add_status(Status::ACKNOWLEDGE);
    }
}

/// Stops the device for a reboot or kexec (C: `virtio_device_shutdown`).  May sleep.
pub fn shutdown(dev: &Device) {
    // Some devices get wedged if they are kicked after their reset, others if the IOMMU is
    // switched off under them: break, then reset.
    dev.break_queues();
    dev.synchronize_callbacks();
    if let Err(failed) = dev.reset() {
        dev_warn!(
            dev.as_device(),
            "shutdown: device did not reset, status {:#x}\n",
            failed.status.bits()
        );
    }
}

/// Runs what quiesces the driver, with config changes held back.  The device lock is held.
pub(crate) fn pause(dev: &Device, quiesce: impl FnOnce() -> Result) -> Result {
    dev.set_core_config_changes(false);
    dev.remember_failed();
    quiesce().inspect_err(|_| dev.set_core_config_changes(true))
}

/// Resets the device, or says that it does not.
fn reset(dev: &Device) -> Result {
    dev.reset().map_err(|failed| {
        dev_err!(
            dev.as_device(),
            "device does not reset, status {:#x}\n",
            failed.status.bits()
        );
        EIO
    })
}

/// Brings the device back to work: reset, status, the same features, then `restart`.
fn resume(dev: &Device, restart: Option<impl FnOnce() -> Result>) -> Result {
    // A previous driver may have left anything behind.
    reset(dev).inspect_err(|_| {
        dev.add_status(Status::FAILED);
        recovery::abandon(dev);
    })?;
    dev.add_status(Status::ACKNOWLEDGE);
    if dev.had_failed() {
        dev.add_status(Status::FAILED);
    }
    let Some(restart) = restart else {
        return Ok(());
    };
    let run = || {
        dev.add_status(Status::DRIVER);
        let wanted = dev.features();
        dev.finalize_features()?;
        if !dev.offered_features().contains(wanted) {
            dev_err!(dev.as_device(), "device came back with fewer features\n");
            return Err(ENODEV);
        }
        negotiate::features_ok(dev)?;
        restart()?;
        make_ready(dev);
        dev.set_core_config_changes(true);
        Ok(())
    };
    run().inspect_err(|_| {
        dev.add_status(Status::FAILED);
        recovery::abandon(dev);
    })
}

/// Quiesces the device before the system sleeps (C: `virtio_device_freeze`).  May sleep.
///
/// # Errors
///
/// Those of the driver; then the device goes on as before.
pub fn freeze(dev: &Device) -> Result {
    dev.with_device_lock(freeze_locked)
}

/// As [`freeze`], for those who hold the device lock.
pub(crate) fn freeze_locked(dev: &Device) -> Result {
    pause(dev, || match dev.driver() {
        Some(driver) => driver.freeze(dev).unwrap_or(Ok(())),
        None => Ok(()),
    })
}

/// Brings the device back after the system slept (C: `virtio_device_restore`).  May sleep.
///
/// # Errors
///
/// `EIO` if it does not reset, `ENODEV` if its features changed, or those of the driver; then its
/// status is FAILED.
pub fn restore(dev: &Device) -> Result {
    dev.with_device_lock(restore_locked)
}

/// As [`restore`], for those who hold the device lock.
pub(crate) fn restore_locked(dev: &Device) -> Result {
    let driver = dev.driver();
    resume(
        dev,
        driver.map(|driver| move || driver.restore(dev).unwrap_or(Ok(()))),
    )
}

/// Quiesces the device before a reset (C: `virtio_device_reset_prepare`).  May sleep.
///
/// # Errors
///
/// `EOPNOTSUPP` without a driver that can, or its own.
pub fn reset_prepare(dev: &Device) -> Result {
    dev.with_device_lock(reset_prepare_locked)
}

/// As [`reset_prepare`], for those who hold the device lock.
pub(crate) fn reset_prepare_locked(dev: &Device) -> Result {
    let driver = dev.driver().filter(|driver| driver.survives_reset());
    let driver = driver.ok_or(EOPNOTSUPP)?;
    pause(dev, || driver.reset_prepare(dev).unwrap_or(Err(EOPNOTSUPP)))
}

/// Whether the driver wants to be recovered from failures of its device: [`reset_prepare`] of such
/// a one does not wait for what the device may never do.  Any context.
pub fn is_recoverable(dev: &Device) -> bool {
    recovery::is_enabled(dev)
}

/// Brings the device back after a reset (C: `virtio_device_reset_done`).  May sleep.
///
/// # Errors
///
/// As [`restore`], and `EOPNOTSUPP` without a driver that can.
pub fn reset_done(dev: &Device) -> Result {
    dev.with_device_lock(reset_done_locked)
}

/// As [`reset_done`], for those who hold the device lock.
pub(crate) fn reset_done_locked(dev: &Device) -> Result {
    let driver = dev.driver().filter(|driver| driver.survives_reset());
    let driver = driver.ok_or(EOPNOTSUPP)?;
    resume(
        dev,
        Some(|| driver.reset_done(dev).unwrap_or(Err(EOPNOTSUPP))),
    )
}

/// Makes up for what device and driver may have told each other in vain, while the function of the
/// device slept with its state: it could neither interrupt nor be notified.  May sleep; no interrupt
/// handler of the device runs.
pub fn catch_up(dev: &Device) {
    dev.with_device_lock(|dev| {
        if dev.driver().is_some() {
            dev.look_at_queues();
            config_changed(dev);
        }
    });
}

/// Handles a configuration change interrupt (C: `virtio_config_changed`).  Any context.
///
/// While the core or the driver hold changes back, it is remembered and delivered later.  It is
/// how a device tells of DEVICE_NEEDS_RESET too (specification 2.1.2), for which see [`recovery`].
pub fn config_changed(dev: &Device) {
    recovery::schedule(dev);
    dev.with_config_lock(|dev| dev.deliver_config_change());
}
