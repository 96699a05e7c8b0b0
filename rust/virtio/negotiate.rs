// SPDX-License-Identifier: GPL-2.0

//! Feature negotiation of a device with a driver (specification 3.1.1, steps 4 to 6).
//!
//! C source: `virtio_dev_probe` and `virtio_features_ok` in `drivers/virtio/virtio.c`.

use crate::{
    device::Device,
    ops::DriverOps, //
};
use kernel::prelude::*;
use virtio_spec::{
    transport,
    Feature,
    Features,
    Status, //
};

/// What `driver` can do with a device that offers `offered`.
fn driver_features(driver: DriverOps<'_>, offered: Features) -> Features {
    let modern = driver.features();
    if offered.has::<transport::Version1>() {
        modern
    } else {
        // The legacy interface has no more bits.
        driver
            .legacy_features()
            .unwrap_or(modern)
            .intersection(Features::range(0, 63))
    }
}

/// Agrees on features and writes FEATURES_OK.  May sleep.
///
/// # Errors
///
/// What the transport or the driver's `validate` say, or `ENODEV` if the device does not accept
/// the features.
pub(crate) fn negotiate(dev: &Device, driver: DriverOps<'_>) -> Result {
    let offered = dev.offered_features();
    let agreed = driver_features(driver, offered).intersection(offered);
    #[cfg(CONFIG_VIRTIO_DEBUG)]
    let agreed = agreed.difference(dev.filter_features());
    // Transport features are the transport's to refuse.
    dev.set_features(agreed.union(offered.intersection(transport::RANGE)));
    dev.finalize_features()?;

    let before = dev.features();
    driver.validate(dev).unwrap_or(Ok(()))?;
    if dev.features() != before {
        dev.finalize_features()?;
    }
    features_ok(dev)
}

/// Writes FEATURES_OK and reads it back (C: `virtio_features_ok`).  May sleep.
///
/// # Errors
///
/// `ENODEV` if the device refuses, or lacks what restricted memory needs.
pub(crate) fn features_ok(dev: &Device) -> Result {
    let features = dev.features();
    if dev.has_restricted_memory() {
        for (bit, name) in [
            (transport::Version1::BIT, transport::Version1::NAME),
            (
                transport::AccessPlatform::BIT,
                transport::AccessPlatform::NAME,
            ),
        ] {
            if !features.has_bit(bit) {
                dev_warn!(dev.as_device(), "device must provide {}\n", name);
                return Err(ENODEV);
            }
        }
    }
    if !features.has::<transport::Version1>() {
        return Ok(());
    }
    dev.add_status(Status::FEATURES_OK);
    let status = dev.status();
    if !status.contains(Status::FEATURES_OK) || status.is_all_ones() {
        dev_err!(
            dev.as_device(),
            "device refuses features, status {:#x}\n",
            status.bits()
        );
        return Err(ENODEV);
    }
    Ok(())
}
