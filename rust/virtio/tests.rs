// SPDX-License-Identifier: GPL-2.0

//! KUnit tests of the core: a driver, and a bench that binds it to a fake device.
//!
//! They use `check!` where others use `assert!`: it returns an error, so that the device is taken off
//! the bus, where KUnit's would end the thread without dropping anything.

/// Ends the test, with an error, if the condition does not hold.
macro_rules! check {
    ($condition:expr $(,)?) => {
        if !$condition {
            pr_err!(
                "{}:{}: expected {}\n",
                core::module_path!(),
                core::line!(),
                core::stringify!($condition)
            );
            return Err(EINVAL);
        }
    };
}

/// Ends the test, with an error, unless the values are equal.
macro_rules! check_eq {
    ($left:expr, $right:expr $(,)?) => {
        match (&$left, &$right) {
            (left, right) => {
                if *left != *right {
                    pr_err!(
                        "{}:{}: {} is {:?}, expected {:?}\n",
                        core::module_path!(),
                        core::line!(),
                        core::stringify!($left),
                        left,
                        right
                    );
                    return Err(EINVAL);
                }
            }
        }
    };
}

mod binding;
mod c_driver;
mod commands;
mod config;
mod packets;
mod power;
mod queues;
mod recovery;
mod requests;
mod suspend;

use crate::{
    device::Device,
    driver::{
        Adapter,
        Driver, //
    },
    fake::{
        Behaviour,
        Counted,
        FakeDevice,
        FakeTransport, //
    },
    lifecycle::{
        Configured,
        Init,
        Running, //
    },
    queue::{
        QueueSpec,
        Queues,
        Virtqueue, //
    },
    transport::Registration, //
};
use kernel::{
    device,
    driver,
    error::to_result,
    faux,
    module::this_module,
    new_spinlock_irq,
    prelude::*,
    sync::{
        Arc,
        SpinLockIrq, //
    },
    time::{
        Delta,
        Instant,
        Monotonic, //
    }, //
};
use virtio_bindings as bindings;
use virtio_spec::{
    features::Class,
    negotiate::Requirement,
    DeviceType,
    Features,
    Status, //
};

/// The device type of the tests, which no transport can report: PCI has 16 bits for it.
const DEVICE: DeviceType = DeviceType::new(0xfa4e_0001);
const VENDOR: u32 = 0xfa4e;

/// Features of the class: `B` needs `A`.
const FEATURE_A: u32 = 1;
const FEATURE_B: u32 = 2;
const FEATURE_C: u32 = 5;

/// The buffers that the driver lends.
const BUFFERS: i32 = 3;

/// The status field of a device with a driver.
const BOUND: u8 = Status::ACKNOWLEDGE
    .union(Status::DRIVER)
    .union(Status::FEATURES_OK)
    .union(Status::DRIVER_OK)
    .bits();

/// More than a reset that is never acknowledged takes, far less than for ever.
const PROMPTLY: Delta = Delta::from_secs(10);

/// The class of the tests' devices.
struct TestClass;

impl Class for TestClass {
    const DEVICE: DeviceType = DEVICE;
    const DEFINED: Features = Features::of(&[FEATURE_A, FEATURE_B, FEATURE_C]);
    const REQUIREMENTS: &'static [Requirement] = &[Requirement::new(
        FEATURE_B,
        "B",
        &[Features::of(&[FEATURE_A])],
    )];
    const NAMES: &'static [(u32, &'static str)] = &[];
}

/// A driver that lends buffers and counts what happens.
struct TestDriver;

#[pin_data(PinnedDrop)]
struct Data {
    device: Arc<FakeDevice>,
    #[pin]
    queue: SpinLockIrq<Virtqueue<Counted>>,
}

#[pinned_drop]
impl PinnedDrop for Data {
    fn drop(self: Pin<&mut Self>) {
        self.device.driver.data.add(-1);
    }
}

fn device_of(dev: &Device) -> Arc<FakeDevice> {
    // SAFETY: The ids of the tests' classes are those of fake devices alone.
    unsafe { FakeDevice::behind(dev) }.clone()
}

impl Driver for TestDriver {
    type Class = TestClass;
    type Data = Data;

    const FEATURES: Features = TestClass::DEFINED;

    fn queues(dev: &Init<'_>) -> Result<KVec<QueueSpec>> {
        let log = &device_of(dev).driver;
        log.queues.add(1);
        if log.fail_queues.get() != 0 {
            return Err(ENXIO);
        }
        let mut specs = KVec::new();
        specs.push(
            QueueSpec {
                name: c"in",
                interrupt: true,
            },
            GFP_KERNEL,
        )?;
        Ok(specs)
    }

    fn probe(dev: &Configured<'_>, queues: &mut Queues<'_>) -> Result<impl PinInit<Data, Error>> {
        let device = device_of(dev);
        device.driver.probe.add(1);
        let mut queue = queues.take::<Counted>(dev, 0)?;
        for _ in 0..BUFFERS {
            queue
                .add(Counted::new(&device)?)
                .map_err(|_not_added| ENOSPC)?;
        }
        if device.driver.fail_probe.get() != 0 {
            return Err(ENXIO);
        }
        device.driver.data.add(1);
        Ok(try_pin_init!(Data {
            device,
            queue <- new_spinlock_irq!(queue),
        }))
    }

    fn ready(_dev: &Running<'_>, data: Pin<&Data>) -> Result {
        let log = &data.device.driver;
        if log.fail_ready.get() != 0 {
            return Err(ENXIO);
        }
        let notification = data.queue.lock().kick();
        if let Some(notification) = notification {
            notification.send();
        }
        log.ready.add(1);
        Ok(())
    }

    fn used_buffers(data: Pin<&Data>, _queue: u32) {
        let log = &data.device.driver;
        log.used_buffers.add(1);
        if data.device.status() & Status::DRIVER_OK.bits() == 0 {
            log.early.add(1);
        }
        while let Some(completed) = data.queue.lock().get_buf() {
            log.completed.add(1);
            log.bytes.add(completed.written() as i32);
        }
    }

    fn config_changed(_dev: &Running<'_>, data: Pin<&Data>) {
        data.device.driver.config_changed.add(1);
    }

    fn remove(data: Pin<&Data>) {
        data.device.driver.remove.add(1);
    }
}

/// A fake device on the bus, and its driver.
struct Bench<D: Driver = TestDriver> {
    // Dropped from the top, as devices and drivers go.
    registration: Registration<FakeTransport>,
    _driver: Pin<KBox<driver::Registration<Adapter<D>>>>,
    _parent: faux::Registration,
    device: Arc<FakeDevice>,
    /// The driver as the driver core knows it.
    raw_driver: *const bindings::device_driver,
}

/// Puts a fake device on the bus, below `parent`.
fn register(
    parent: &faux::Registration,
    id: DeviceType,
    device: &Arc<FakeDevice>,
) -> Result<Registration<FakeTransport>> {
    let parent: &faux::Device<device::Bound> = parent.as_ref();
    let parent: &device::Device<device::Bound> = parent.as_ref();
    Registration::new(parent, (id.id(), VENDOR), FakeTransport::new(device))
}

impl Bench {
    /// Binds the driver to an honest device; what the device saw meanwhile is forgotten.
    ///
    /// # Errors
    ///
    /// `ENODEV` if it was not bound.
    fn new() -> Result<Self> {
        Self::with_features(Behaviour::HONEST.features)
    }

    /// As [`Bench::new`], with a device that offers `features`.
    fn with_features(features: Features) -> Result<Self> {
        let mut behaviour = Behaviour::HONEST;
        behaviour.features = features;
        Self::with_behaviour(behaviour)
    }
}

impl<D: Driver> Bench<D> {
    /// As [`Bench::new`], with a device that follows `behaviour`.
    fn with_behaviour(behaviour: Behaviour) -> Result<Self> {
        let device = FakeDevice::new(behaviour)?;
        let parent = faux::Registration::new(c"virtio_fake", None)?;
        let driver = KBox::pin_init(
            driver::Registration::new(c"virtio_fake", this_module::<crate::VirtioModule>()),
            GFP_KERNEL,
        )?;
        let registration = register(&parent, D::Class::DEVICE, &device)?;
        // SAFETY: Registered just now; nobody else binds or unbinds it.
        let raw_driver = unsafe { (*registration.device().as_raw()).dev.driver };
        if raw_driver.is_null() {
            return Err(ENODEV);
        }
        device.take_log()?;
        Ok(Self {
            registration,
            _driver: driver,
            _parent: parent,
            device,
            raw_driver,
        })
    }

    fn dev(&self) -> &Device {
        self.registration.device()
    }

    /// Binds the driver, and says how it went.
    fn bind(&self) -> Result {
        // SAFETY: Both are registered.
        to_result(unsafe {
            bindings::device_driver_attach(self.raw_driver, &raw mut (*self.dev().as_raw()).dev)
        })
    }

    /// Unbinds the driver.
    fn unbind(&self) {
        // SAFETY: The device is registered.
        unsafe { bindings::device_release_driver(&raw mut (*self.dev().as_raw()).dev) };
    }

    /// Deletes the queues that the transport kept.
    fn delete_queues(&self) {
        // SAFETY: No driver is bound.
        unsafe { self.dev().delete_queues() };
    }

    fn is_bound(&self) -> bool {
        // SAFETY: The device is registered; the test alone binds and unbinds.
        !unsafe { (*self.dev().as_raw()).dev.driver }.is_null()
    }

    /// Nothing of the driver is allocated, and no queue exists.
    fn is_clean(&self) -> bool {
        let log = &self.device.driver;
        log.data.get() == 0 && log.buffers.get() == 0 && !self.device.has_queues()
    }
}

/// What `f` gives, and whether it took less than [`PROMPTLY`].
fn timed<R>(f: impl FnOnce() -> R) -> (R, bool) {
    let start = Instant::<Monotonic>::now();
    let result = f();
    (result, start.elapsed() < PROMPTLY)
}
