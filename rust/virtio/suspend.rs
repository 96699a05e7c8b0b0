// SPDX-License-Identifier: GPL-2.0

//! A device that sleeps without losing its state: `VIRTIO_F_SUSPEND` (specification 3.4).
//!
//! The C core of 7.3 has none of it.  A driver that keeps its data leaves its queues alone, SUSPEND
//! is written, and the device uses what it has and stops.  Later DRIVER_OK is written, and both go on
//! with the queues as they are.  Every other driver and device, and a device that does not do what
//! it is told, is reset instead: [`lifecycle::freeze`] and [`lifecycle::restore`].

use crate::{
    device::Device,
    lifecycle,
    recovery, //
};
use kernel::{
    prelude::*,
    time::{
        delay::fsleep,
        Delta,
        Instant,
        Monotonic, //
    }, //
};
use virtio_spec::{
    transport,
    Status, //
};

/// How long a device may take to suspend, or to resume: it finishes its requests first.
const DEADLINE: Delta = Delta::from_secs(5);
const POLL_INTERVAL: Delta = Delta::from_millis(1);

/// What a driver does that can leave its queues alone.  The device lock is held; may sleep.
#[derive(Clone, Copy)]
pub(crate) struct Sleeper {
    /// Stops who uses the queues: nothing is added, and the device not notified.
    pub(crate) pause: fn(&Device),
    /// Lets them go on.
    pub(crate) go_on: fn(&Device),
    /// Resets the device under the paused driver, as freezing does after pausing.
    pub(crate) stop: fn(&Device),
}

/// How a device went to sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asleep {
    /// With its state, as long as nobody resets it: [`resume`] wakes it.
    Suspended,
    /// Reset, as by [`lifecycle::freeze`]: [`lifecycle::restore`] wakes it.
    Frozen,
}

/// The driver's part, if driver and device agreed on suspending, and nothing is wrong with either.
fn sleeper(dev: &Device) -> Option<Sleeper> {
    if !dev.features().has::<transport::Suspend>() {
        return None;
    }
    let status = dev.status();
    let fine = status.is_running() && !is_failed(status) && !dev.has_broken_queue();
    recovery::sleeper(dev).filter(|_| fine)
}

fn is_failed(status: Status) -> bool {
    status.is_all_ones()
        || status.contains(Status::DEVICE_NEEDS_RESET)
        || status.contains(Status::FAILED)
}

/// Sets `bit` of the status field, and waits until the status is what the specification wants then
/// (section 3.4.1).  May sleep.
///
/// # Errors
///
/// The status that the device shows instead, when it says that it failed or the deadline is over.
fn request(dev: &Device, bit: Status, done: fn(Status) -> bool) -> Result<(), Status> {
    dev.add_status(bit);
    let start = Instant::<Monotonic>::now();
    loop {
        // The clock first: what is late because we did not run is not the device's fault.
        let expired = start.elapsed() >= DEADLINE;
        let status = dev.status();
        if is_failed(status) {
            return Err(status);
        }
        if done(status) {
            return Ok(());
        }
        if expired {
            return Err(status);
        }
        fsleep(POLL_INTERVAL);
    }
}

/// Has the device sleep: suspended if it can be, else frozen.  May sleep.
///
/// # Errors
///
/// Those of the driver as it is frozen; then the device goes on as before.
pub fn suspend(dev: &Device) -> Result<Asleep> {
    dev.with_device_lock(|dev| {
        let Some(sleeper) = sleeper(dev) else {
            return lifecycle::freeze_locked(dev).map(|()| Asleep::Frozen);
        };
        lifecycle::pause(dev, || {
            (sleeper.pause)(dev);
            Ok(())
        })?;
        match request(dev, Status::SUSPEND, Status::is_suspended) {
            Ok(()) => {
                // Of what the device used at last, the driver has heard when this returns.
                dev.synchronize_callbacks();
                Ok(Asleep::Suspended)
            }
            Err(status) => {
                dev_warn!(
                    dev.as_device(),
                    "device does not suspend (status {:#x}): reset instead\n",
                    status.bits()
                );
                (sleeper.stop)(dev);
                Ok(Asleep::Frozen)
            }
        }
    })
}

/// Wakes a device that is [`Asleep::Suspended`]; one that does not come back, or lost its state
/// meanwhile, is reset, and comes back as by [`lifecycle::restore`].  May sleep.
///
/// # Errors
///
/// As [`lifecycle::restore`].
pub fn resume(dev: &Device) -> Result {
    dev.with_device_lock(|dev| {
        let Some(sleeper) = recovery::sleeper(dev) else {
            // The driver was unbound meanwhile, which reset the device.
            return Ok(());
        };
        let status = dev.status();
        let woken = if status.is_suspended() && !is_failed(status) && !dev.has_broken_queue() {
            request(dev, Status::DRIVER_OK, Status::is_running)
        } else {
            Err(status)
        };
        match woken {
            Ok(()) => {
                (sleeper.go_on)(dev);
                dev.set_core_config_changes(true);
                Ok(())
            }
            Err(status) => {
                dev_warn!(
                    dev.as_device(),
                    "device does not resume (status {:#x}): reset instead\n",
                    status.bits()
                );
                (sleeper.stop)(dev);
                lifecycle::restore_locked(dev)
            }
        }
    })
}
