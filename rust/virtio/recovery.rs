// SPDX-License-Identifier: GPL-2.0

//! Recovery from DEVICE_NEEDS_RESET (specification 2.1.2), and from a device that broke a queue.
//!
//! For drivers that ask for it ([`enable`]), a configuration interrupt or a broken queue schedules
//! [`run`], which takes the device through the driver's `reset_prepare`, a reset, and `reset_done`.
//! A device that keeps needing it is given up.  C drivers are left alone, as by the C core: some of
//! them wait in `reset_prepare` for requests that such a device never completes.

use crate::{
    device::Device,
    handle::Handle,
    lifecycle,
    suspend::Sleeper, //
};
use core::ptr::{
    self,
    NonNull, //
};
use kernel::{
    prelude::*,
    sync::atomic::{
        AtomicFlag,
        Full,
        Relaxed, //
    },
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
    /// The bound driver wants to be recovered.
    enabled: AtomicFlag,
    /// A queue broke: recover whatever the status says.
    broken: AtomicFlag,
    /// The driver has not looked at its configuration since that changed.
    changed: AtomicFlag,
    /// Only [`run`] uses it, which never runs twice at a time.
    history: core::cell::UnsafeCell<History>,
    /// For what drivers leave behind that may outlive their binding.
    handle: Handle,
    /// What the bound driver wants to be told of; changed under the device lock.
    hooks: core::cell::Cell<Hooks>,
}

/// What a driver is told of with the device lock held.
#[derive(Clone, Copy)]
pub(crate) struct Hooks {
    /// The device does not come back, for which a driver waits that keeps its data.
    pub(crate) abandon: Option<fn(&Device)>,
    /// The configuration changed.
    pub(crate) reconfigure: Option<fn(&Device)>,
    /// The system sleeps, and the device is to keep its state.
    pub(crate) sleeper: Option<Sleeper>,
}

impl Hooks {
    /// Nothing.
    pub(crate) const NONE: Self = Self {
        abandon: None,
        reconfigure: None,
        sleeper: None,
    };
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
            enabled: AtomicFlag::new(false),
            broken: AtomicFlag::new(false),
            changed: AtomicFlag::new(false),
            history: core::cell::UnsafeCell::new(History {
                window: None,
                attempts: 0,
            }),
            handle: Handle::new()?,
            hooks: core::cell::Cell::new(Hooks::NONE),
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
/// `vdev` is off the bus, so that nothing schedules any more, and still allocated; the device lock
/// is not held.
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

fn state(dev: &Device) -> Option<&State> {
    // SAFETY: Set from before the device is on the bus until it is off it; drivers and interrupts
    // live in between.
    unsafe { (*dev.as_raw()).dev.platform_data.cast::<State>().as_ref() }
}

/// The handle of the device; open while a driver is bound.
pub(crate) fn handle(dev: &Device) -> Option<&Handle> {
    state(dev).map(|state| &state.handle)
}

/// Sets what the bound driver wants to be told of.  The device lock is held.
pub(crate) fn set_hooks(dev: &Device, hooks: Hooks) {
    if let Some(state) = state(dev) {
        state.hooks.set(hooks);
    }
}

/// What the bound driver does when the device is to sleep with its state.  The device lock is held.
pub(crate) fn sleeper(dev: &Device) -> Option<Sleeper> {
    state(dev)?.hooks.get().sleeper
}

/// Whether the driver keeps its data while the device is reset.
pub(crate) fn waits(dev: &Device) -> bool {
    state(dev).is_some_and(|state| state.hooks.get().abandon.is_some())
}

/// Tells the driver, if it waits for the device to come back, that it does not.  The device lock is
/// held, or the system is being suspended or resumed.
pub(crate) fn abandon(dev: &Device) {
    if let Some(callback) = state(dev).and_then(|state| state.hooks.get().abandon) {
        callback(dev);
    }
}

/// Switches recovery on while a driver is bound that wants it.
pub(crate) fn enable(dev: &Device, enabled: bool) {
    if let Some(state) = state(dev) {
        state.broken.store(false, Relaxed);
        state.enabled.store(enabled, Relaxed);
    }
}

/// Whether a driver is bound that wants to be recovered.
pub(crate) fn is_enabled(dev: &Device) -> bool {
    state(dev).is_some_and(|state| state.enabled.load(Relaxed))
}

fn queue_work(state: &State) {
    // SAFETY: Initialised by `attach`.
    unsafe { bindings::virtio_schedule_work(state.work.get()) };
}

/// Has the device looked at: it may need a reset.  Any context.
pub(crate) fn schedule(dev: &Device) {
    if let Some(state) = state(dev).filter(|state| state.enabled.load(Relaxed)) {
        queue_work(state);
    }
}

/// Has the device recovered: it broke a queue.  Any context.
pub(crate) fn schedule_broken(dev: &Device) {
    if let Some(state) = state(dev).filter(|state| state.enabled.load(Relaxed)) {
        state.broken.store(true, Relaxed);
        queue_work(state);
    }
}

/// Has the driver look at its configuration.  Any context.
pub(crate) fn schedule_reconfigure(dev: &Device) {
    if let Some(state) = state(dev).filter(|state| state.enabled.load(Relaxed)) {
        state.changed.store(true, Relaxed);
        queue_work(state);
    }
}

extern "C" fn work(work: *mut bindings::work_struct) {
    // SAFETY: `work` is the first field of a `State`, which outlives it.
    let state = unsafe { &*work.cast::<State>() };
    // SAFETY: By the type invariants of `State`.
    let dev = unsafe { Device::from_raw(state.vdev.as_ptr()) };
    dev.with_device_lock(|dev| {
        if dev.driver().is_some() && state.enabled.load(Relaxed) {
            // SAFETY: Works do not run twice at a time.
            run(dev, state, unsafe { &mut *state.history.get() });
            if state.enabled.load(Relaxed) && state.changed.xchg(false, Full) {
                if let Some(callback) = state.hooks.get().reconfigure {
                    callback(dev);
                }
            }
        }
    });
}

/// Recovers the device if it needs it, or gives it up.  The device lock is held.
fn run(dev: &Device, state: &State, history: &mut History) {
    let status = dev.status();
    let broken = state.broken.xchg(false, Full);
    if status.is_all_ones() || !(broken || status.contains(Status::DEVICE_NEEDS_RESET)) {
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
        // The driver stops, so that nobody waits for the device.
        let _ = lifecycle::reset_prepare_locked(dev);
        state.enabled.store(false, Relaxed);
        dev.add_status(Status::FAILED);
        abandon(dev);
        return;
    }
    history.attempts += 1;
    dev_warn!(
        dev.as_device(),
        "device needs reset (status {:#x})\n",
        status.bits()
    );
    let result =
        lifecycle::reset_prepare_locked(dev).and_then(|()| lifecycle::reset_done_locked(dev));
    match result {
        Ok(()) => dev_info!(dev.as_device(), "recovered\n"),
        Err(error) => {
            dev_err!(
                dev.as_device(),
                "cannot recover from DEVICE_NEEDS_RESET: {:?}\n",
                error
            );
        }
    }
}
