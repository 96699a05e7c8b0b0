// SPDX-License-Identifier: GPL-2.0

//! `virtio_pci.ko`: virtio devices on the PCI bus (specification 4.1).
//!
//! C source: `drivers/virtio/virtio_pci_common.c`, `virtio_pci_modern.c`,
//! `virtio_pci_modern_dev.c`, `virtio_pci_legacy.c`, `virtio_pci_legacy_dev.c`.
//!
//! # Overview
//!
//! - [`function`]: finding the interface of a device, and its reset;
//! - [`quarantine`]: what is done if it does not reset;
//! - [`interface`]: the registers, of whichever interface;
//! - [`modern`], [`common`]: those of specification 1.0 and later;
//! - [`legacy`]: those of before;
//! - [`config`]: device configuration space;
//! - [`notify`]: where and how a queue is notified;
//! - [`vectors`]: which interrupt goes with which queue;
//! - [`interrupts`]: the handlers;
//! - [`queues`]: one virtqueue, from its registers to its ring;
//! - [`admin`]: the administration queue, and commands;
//! - [`transport`]: all of that as [`virtio::transport::Transport`];
//! - `capi`: what the drivers of virtual functions call.
//!
//! What the device says is read once and checked; every wait has a deadline.

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            AtomicFlag,
            Full,
            Relaxed, //
        },
        Arc, //
    },
    ThisModule, //
};
use pci_ext::driver::{
    ChannelState,
    Driver,
    ErrorResult,
    IdTable,
    Registered,
    Registration, //
};
use virtio::{
    lifecycle,
    suspend::{
        self,
        Asleep, //
    }, //
};
use virtio_spec::{
    pci::VENDOR_ID,
    transport::Suspend,
    Status, //
};

mod admin;
mod capi;
mod common;
mod config;
mod function;
mod interface;
mod interrupts;
mod legacy;
mod modern;
mod notify;
mod quarantine;
mod queues;
#[cfg(CONFIG_KUNIT = "y")]
mod tests;
mod transport;
mod vectors;

use function::Function;
use transport::PciTransport;

module! {
    type: VirtioPciModule,
    name: "virtio_pci",
    authors: ["The rust-virtio authors"],
    description: "virtio-pci",
    license: "GPL",
    alias: ["pci:v00001AF4d*sv*sd*bc*sc*i*"],
}

extern "C" {
    /// The module parameter `force_legacy`, see `param.c`; read-only once the module is loaded.
    static virtio_pci_force_legacy: bool;
}

/// Whether transitional devices are to be driven through their legacy interface.
fn force_legacy() -> bool {
    // SAFETY: Set before the module is initialised, and constant from then on.
    unsafe { virtio_pci_force_legacy }
}

struct VirtioPciModule {
    _driver: Registration<VirtioPci>,
}

impl kernel::Module for VirtioPciModule {
    fn init(module: &'static ThisModule) -> Result<Self> {
        Ok(Self {
            _driver: Registration::new(module, c"virtio_pci", &DRIVER)?,
        })
    }
}

/// The PCI driver.
struct VirtioPci;

/// Where the drivers of virtual functions find it.
static DRIVER: Registered<VirtioPci> = Registered::new();

/// A bound device.
struct Bound {
    device: virtio::transport::Registration<PciTransport>,
    function: Arc<Function>,
    /// The driver was stopped because of a PCI error, and not started again yet.
    stopped: AtomicFlag,
    /// What there is to do when the system resumes: the device was left alone, suspended, or frozen.
    left_alone: AtomicFlag,
    suspended: AtomicFlag,
    frozen: AtomicFlag,
}

impl Driver for VirtioPci {
    type Data = Bound;

    const NAME: &'static CStr = c"virtio-pci";
    const ID_TABLE: &'static IdTable = &IdTable::of_vendor(VENDOR_ID);

    fn probe(dev: &pci_ext::Device) -> Result<KBox<Bound>> {
        dev.enable()?;
        bind(dev).inspect_err(|_| dev.disable())
    }

    fn release_functions(dev: &pci_ext::Device, data: &Bound) {
        if dev.is_gone() {
            // Nobody is going to use a buffer any more: whoever waits for one must give up.
            data.device.device().break_queues();
            data.device.transport().admin().queue().give_up();
        }
        dev.disable_sriov();
    }

    fn remove(dev: &pci_ext::Device, data: KBox<Bound>) {
        let Bound {
            device, function, ..
        } = KBox::into_inner(data);
        drop(device);
        function.close();
        // Not, after a reset or an error that it did not come back from.
        if dev.is_enabled() {
            dev.disable();
        }
    }

    fn suspend(dev: &pci_ext::Device, data: &Bound) -> Result {
        let device = data.device.device();
        if !device.features().has::<Suspend>() && dev.keeps_state_in_d3() {
            data.left_alone.store(true, Relaxed);
            return Ok(());
        }
        match suspend::suspend(device)? {
            Asleep::Suspended => data.suspended.store(true, Relaxed),
            Asleep::Frozen => {
                dev.disable();
                data.frozen.store(true, Relaxed);
            }
        }
        Ok(())
    }

    fn resume_noirq(_dev: &pci_ext::Device, data: &Bound) {
        // The driver did not hear that the system slept, and a function in D3hot cannot interrupt,
        // nor be notified.
        if data.left_alone.load(Relaxed) {
            lifecycle::catch_up(data.device.device());
        }
    }

    fn resume(dev: &pci_ext::Device, data: &Bound) -> Result {
        if data.suspended.xchg(false, Full) {
            suspend::resume(data.device.device())
        } else if data.frozen.xchg(false, Full) {
            Self::restore(dev, data)
        } else {
            data.left_alone.store(false, Relaxed);
            Ok(())
        }
    }

    fn freeze(dev: &pci_ext::Device, data: &Bound) -> Result {
        lifecycle::freeze(data.device.device())?;
        dev.disable();
        Ok(())
    }

    fn restore(dev: &pci_ext::Device, data: &Bound) -> Result {
        dev.enable()?;
        data.function.set_master();
        lifecycle::restore(data.device.device())
    }

    #[cfg(CONFIG_PCI_IOV)]
    fn sriov_configure(dev: &pci_ext::Device, data: &Bound, count: c_int) -> Result<c_int> {
        let device = data.device.device();
        if !device.status().contains(Status::DRIVER_OK) {
            return Err(EBUSY);
        }
        if !device.features().has::<virtio_spec::transport::SrIov>() {
            return Err(EINVAL);
        }
        if dev.has_assigned_vfs() {
            return Err(EPERM);
        }
        if count == 0 {
            dev.disable_sriov();
        } else {
            dev.enable_sriov(count)?;
        }
        Ok(count)
    }

    fn reset_prepare(dev: &pci_ext::Device, data: &Bound) {
        match lifecycle::reset_prepare(data.device.device()) {
            Ok(()) if dev.is_enabled() => dev.disable(),
            Ok(()) => {}
            Err(error) if error == EOPNOTSUPP => {}
            Err(error) => dev_warn!(dev.as_ref(), "reset prepare failure: {:?}\n", error),
        }
    }

    fn reset_done(dev: &pci_ext::Device, data: &Bound) {
        if dev.is_enabled() {
            return;
        }
        let result = dev.enable().and_then(|()| {
            data.function.set_master();
            lifecycle::reset_done(data.device.device())
        });
        match result {
            Err(error) if error != EOPNOTSUPP => {
                dev_warn!(dev.as_ref(), "reset done failure: {:?}\n", error);
            }
            _ => {}
        }
    }

    fn error_detected(dev: &pci_ext::Device, data: &Bound, state: ChannelState) -> ErrorResult {
        let device = data.device.device();
        if state == ChannelState::PermanentFailure {
            // Whoever waits for a buffer must give up.
            device.break_queues();
            return ErrorResult::Disconnect;
        }
        if data.stopped.load(Relaxed) {
            return ErrorResult::NeedReset;
        }
        let recoverable = lifecycle::is_recoverable(device);
        if recoverable && lifecycle::reset_prepare(device).is_ok() {
            data.stopped.store(true, Relaxed);
            if dev.is_enabled() {
                dev.disable();
            }
            return ErrorResult::NeedReset;
        }
        if !recoverable && state == ChannelState::Normal {
            // The driver may not be able to stop, but nobody resets the function under it.
            return ErrorResult::None;
        }
        device.break_queues();
        ErrorResult::Disconnect
    }

    fn slot_reset(dev: &pci_ext::Device, data: &Bound) -> ErrorResult {
        if !data.stopped.load(Relaxed) {
            // Reset for the sake of a neighbour, under a driver that did not stop.
            data.device.device().break_queues();
            return ErrorResult::None;
        }
        dev.restore_state();
        match dev.enable() {
            Ok(()) => ErrorResult::Recovered,
            Err(error) => {
                dev_err!(dev.as_ref(), "cannot enable after an error: {:?}\n", error);
                ErrorResult::Disconnect
            }
        }
    }

    fn error_resume(dev: &pci_ext::Device, data: &Bound) {
        if !data.stopped.xchg(false, Full) {
            return;
        }
        data.function.set_master();
        if let Err(error) = lifecycle::reset_done(data.device.device()) {
            dev_err!(dev.as_ref(), "cannot go on after an error: {:?}\n", error);
        }
    }
}

/// Puts the virtio device of an enabled function on the virtio bus.
fn bind(dev: &pci_ext::Device) -> Result<KBox<Bound>> {
    let function = Function::probe(dev)?;
    let bound = register(dev, &function);
    if bound.is_err() {
        function.close();
    }
    bound
}

fn register(dev: &pci_ext::Device, function: &Arc<Function>) -> Result<KBox<Bound>> {
    // Allocated before the device is there, since it could not be taken back without a driver
    // having seen it.
    let memory = KBox::<Bound>::new_uninit(GFP_KERNEL)?;
    let transport = PciTransport::new(function.clone())?;
    function.set_master();
    let device =
        virtio::transport::Registration::new(dev.as_ref(), function.virtio_id(), transport)?;
    Ok(KBox::write(
        memory,
        Bound {
            device,
            function: function.clone(),
            stopped: AtomicFlag::new(false),
            left_alone: AtomicFlag::new(false),
            suspended: AtomicFlag::new(false),
            frozen: AtomicFlag::new(false),
        },
    ))
}
