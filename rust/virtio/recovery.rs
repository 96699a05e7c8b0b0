// SPDX-License-Identifier: GPL-2.0

//! Recovery from DEVICE_NEEDS_RESET (specification 2.1.2).
//!
//! The interrupt that tells of it schedules [`run`], which takes the device through the driver's
//! `reset_prepare`, a reset, and `reset_done`.  A device that keeps asking is given up.

use crate::{
    device::Device,
    lifecycle, //
};
use core::ptr::{
    self,
    NonNull, //
};
use kernel::{
    prelude::*,
    time::{
        Delta,
        Instant,
        Monotonic, //
    },
    types::Opaque, //
};
use virtio_bindings as bindings;
use virtio_spec::Status;

/// Recoveries that a device is granted in [`WINDOW`].
const ATTEMPTS: u32 = 5;
const WINDOW: Delta = Delta::from_secs(60);

/// The core's own state of a device: `dev.platform_data`, which nobody else uses on this bus.
///
/// # Invariants
///
/// `vdev` is registered, and outlives the work: [`detach`] cancels it.
#[repr(C)]
struct State {
    work: Opaque<bindings::work_struct>,
    vdev: NonNull<bindings::virtio_device>,
    /// Only [`run`] uses it, which never runs twice at a time.
    history: core::cell::UnsafeCell<History>,
}

struct History {
    window: Option<Instant<Monotonic>>,
    attempts: u32,
}

/// Gives a device its state.
///
/// # Safety
///
/// `vdev` is being registered: nobody else knows it yet.
///
/// # Errors
///
/// `ENOMEM`.
pub(crate) unsafe fn attach(vdev: NonNull<bindings::virtio_device>) -> Result {
    let state = KBox::new(
        State {
            work: Opaque::zeroed(),
            vdev,
            history: core::cell::UnsafeCell::new(History {
                window: None,
                attempts: 0,
            }),
        },
        GFP_KERNEL,
    )?;
    let state = KBox::into_raw(state);
    // SAFETY: By the contract; the work is initialised before anybody can queue it.
    unsafe {
        bindings::virtio_init_work((*state).work.get(), Some(work));
        (*vdev.as_ptr()).dev.platform_data = state.cast();
    }
    Ok(())
}

/// Takes the state back; waits for a recovery that runs.  May sleep.
///
/// # Safety
///
/// `vdev` is off the bus, so that no interrupt schedules any more, and still allocated; the device
/// lock is not held.
pub(crate) unsafe fn detach(vdev: NonNull<bindings::virtio_device>) {
    // SAFETY: By the contract; set by `attach`.
    unsafe {
        let state = (*vdev.as_ptr()).dev.platform_data.cast::<State>();
        if !state.is_null() {
            bindings::cancel_work_sync((*state).work.get());
            (*vdev.as_ptr()).dev.platform_data = ptr::null_mut();
            drop(KBox::from_raw(state));
        }
    }
}

/// Schedules a recovery.  Any context.
pub(crate) fn schedule(dev: &Device) {
    // SAFETY: Set for as long as the device has interrupts.
    unsafe {
        let state = (*dev.as_raw()).dev.platform_data.cast::<State>();
        if !state.is_null() {
            bindings::virtio_schedule_work((*state).work.get());
        }
    }
}

extern "C" fn work(work: *mut bindings::work_struct) {
    // SAFETY: `work` is the first field of a `State`, which outlives it.
    let state = unsafe { &*work.cast::<State>() };
    let vdev = state.vdev.as_ptr();
    // SAFETY: By the type invariants of `State`; the history has one user.
    unsafe {
        bindings::virtio_device_lock(&raw mut (*vdev).dev);
        let dev = Device::from_raw(vdev);
        if dev.driver().is_some() {
            run(dev, &mut *state.history.get());
        }
        bindings::virtio_device_unlock(&raw mut (*vdev).dev);
    }
}

/// Recovers the device, or gives it up.  The device lock is held.
fn run(dev: &Device, history: &mut History) {
    if !dev.status().contains(Status::DEVICE_NEEDS_RESET) {
        return;
    }
    let now = Instant::<Monotonic>::now();
    if !matches!(history.window, Some(start) if now - start < WINDOW) {
        history.window = Some(now);
        history.attempts = 0;
    }
    if history.attempts == ATTEMPTS {
        dev_err!(
            dev.as_device(),
            "device needed {} resets within {} s: given up\n",
            ATTEMPTS,
            WINDOW.as_nanos() / 1_000_000_000
        );
        history.attempts += 1;
    }
    if history.attempts > ATTEMPTS {
        dev.break_queues();
        return;
    }
    history.attempts += 1;
    dev_warn!(dev.as_device(), "device needs reset\n");
    let result = lifecycle::reset_prepare(dev).and_then(|()| lifecycle::reset_done(dev));
    match result {
        Ok(()) => dev_info!(dev.as_device(), "recovered\n"),
        Err(error) => {
            dev.break_queues();
            dev_err!(
                dev.as_device(),
                "cannot recover from DEVICE_NEEDS_RESET: {:?}\n",
                error
            );
        }
    }
}
