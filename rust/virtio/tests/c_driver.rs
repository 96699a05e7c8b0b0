// SPDX-License-Identifier: GPL-2.0

//! The core as a C driver sees it: a `struct virtio_driver` made by hand.

use super::{
    register,
    FEATURE_A,
    FEATURE_C, //
};
use crate::{
    bindings,
    device::Device,
    fake::{
        Behaviour,
        FakeDevice,
        FakeTransport, //
    },
    transport::Registration, //
};
use core::ptr;
use kernel::{
    error::{
        from_result,
        to_result, //
    },
    faux,
    ffi::{
        c_int,
        c_uint, //
    },
    module::this_module,
    prelude::*,
    sync::Arc,
    types::Opaque, //
};
use virtio_spec::{
    DeviceType,
    Status, //
};

/// Another type than that of the Rust driver, so that each device has one driver.
const DEVICE: DeviceType = DeviceType::new(0xfa4e_0002);

static IDS: [bindings::virtio_device_id; 2] = [
    bindings::virtio_device_id {
        device: DEVICE.id(),
        vendor: bindings::VIRTIO_DEV_ANY_ID,
    },
    bindings::virtio_device_id {
        device: 0,
        vendor: 0,
    },
];

static FEATURES: [c_uint; 2] = [FEATURE_A, 70];
static LEGACY_FEATURES: [c_uint; 2] = [FEATURE_C, 71];

/// The fake device behind one that the core passes.
///
/// # Safety
///
/// `vdev` is bound, or being bound, to the driver here.
unsafe fn device<'a>(vdev: *mut bindings::virtio_device) -> (&'a Device, &'a FakeDevice) {
    // SAFETY: By the contract; only fake devices have the type.
    unsafe {
        let dev: &'a Device = Device::from_raw(vdev);
        (dev, FakeDevice::behind(dev))
    }
}

extern "C" fn validate(vdev: *mut bindings::virtio_device) -> c_int {
    // SAFETY: Called by the core for the driver here.
    let (_, fake) = unsafe { device(vdev) };
    if fake.driver.fail_validate.get() != 0 {
        return EDOM.to_errno();
    }
    0
}

extern "C" fn probe(vdev: *mut bindings::virtio_device) -> c_int {
    // SAFETY: Called by the core for the driver here.
    let (dev, fake) = unsafe { device(vdev) };
    fake.driver.probe.add(1);
    from_result(|| {
        if fake.driver.fail_probe.get() != 0 {
            return Err(ENXIO);
        }
        let mut infos = [bindings::virtqueue_info {
            name: c"in".as_char_ptr(),
            callback: Some(used_buffers),
            ctx: false,
        }];
        dev.find_queues(&mut infos, &mut [ptr::null_mut()], false)?;
        Ok(0)
    })
}

extern "C" fn scan(vdev: *mut bindings::virtio_device) {
    // SAFETY: Called by the core for the driver here.
    let (_, fake) = unsafe { device(vdev) };
    if fake.status() & Status::DRIVER_OK.bits() != 0 {
        fake.driver.ready.add(1);
    }
}

extern "C" fn remove(vdev: *mut bindings::virtio_device) {
    // SAFETY: Called by the core for the driver here; its queues are not used.
    unsafe {
        let (dev, fake) = device(vdev);
        fake.driver.remove.add(1);
        let _ = dev.reset();
        dev.delete_queues();
    }
}

extern "C" fn config_changed(vdev: *mut bindings::virtio_device) {
    // SAFETY: Called by the core for the driver here.
    unsafe { device(vdev) }.1.driver.config_changed.add(1);
}

extern "C" fn freeze(vdev: *mut bindings::virtio_device) -> c_int {
    // SAFETY: Called by the core for the driver here.
    let (_, fake) = unsafe { device(vdev) };
    fake.driver.freeze.add(1);
    if fake.driver.fail_freeze.get() != 0 {
        return EBUSY.to_errno();
    }
    0
}

extern "C" fn shutdown(vdev: *mut bindings::virtio_device) {
    // SAFETY: Called by the core for the driver here.
    unsafe { device(vdev) }.1.driver.shutdown.add(1);
}

extern "C" fn used_buffers(vq: *mut bindings::virtqueue) {
    // SAFETY: Called by the ring for a queue of the driver here.
    let (_, fake) = unsafe { device((*vq).vdev) };
    fake.driver.used_buffers.add(1);
    if fake.status() & Status::DRIVER_OK.bits() == 0 {
        fake.driver.early.add(1);
    }
}

/// A registered C driver.
struct CDriver(KBox<Opaque<bindings::virtio_driver>>);

impl CDriver {
    fn new() -> Result<Self> {
        let memory = KBox::new(Opaque::zeroed(), GFP_KERNEL)?;
        let driver: *mut bindings::virtio_driver = Opaque::get(&memory);
        // SAFETY: Just allocated; all zeroes are a driver without callbacks.
        unsafe {
            (*driver).driver.name = c"virtio_fake_c".as_char_ptr();
            (*driver).id_table = IDS.as_ptr();
            (*driver).feature_table = FEATURES.as_ptr();
            (*driver).feature_table_size = FEATURES.len() as c_uint;
            (*driver).feature_table_legacy = LEGACY_FEATURES.as_ptr();
            (*driver).feature_table_size_legacy = LEGACY_FEATURES.len() as c_uint;
            (*driver).validate = Some(validate);
            (*driver).probe = Some(probe);
            (*driver).scan = Some(scan);
            (*driver).remove = Some(remove);
            (*driver).config_changed = Some(config_changed);
            (*driver).freeze = Some(freeze);
            (*driver).shutdown = Some(shutdown);
        }
        let module = this_module::<crate::VirtioModule>().as_ptr();
        // SAFETY: Filled in above; unregistered before the memory goes.
        to_result(unsafe { bindings::__register_virtio_driver(driver, module) })?;
        Ok(Self(memory))
    }

    /// Binds the driver to `dev`, and says how it went.
    fn bind(&self, dev: &Device) -> Result {
        // SAFETY: Both are registered.
        to_result(unsafe {
            bindings::device_driver_attach(
                &raw const (*Opaque::get(&self.0)).driver,
                &raw mut (*dev.as_raw()).dev,
            )
        })
    }
}

impl Drop for CDriver {
    fn drop(&mut self) {
        // SAFETY: Registered by `new`.
        unsafe { bindings::unregister_virtio_driver(Opaque::get(&self.0)) };
    }
}

/// A fake device on the bus, and its driver.
struct Bench {
    // Dropped from the top, as devices and drivers go.
    registration: Registration<FakeTransport>,
    driver: CDriver,
    _parent: faux::Registration,
    device: Arc<FakeDevice>,
}

impl Bench {
    /// Makes a device that follows `behaviour`, and registers the driver for it.
    fn new(behaviour: Behaviour) -> Result<Self> {
        let device = FakeDevice::new(behaviour)?;
        let parent = faux::Registration::new(c"virtio_fake_c", None)?;
        let driver = CDriver::new()?;
        Ok(Self {
            registration: register(&parent, DEVICE, &device)?,
            driver,
            _parent: parent,
            device,
        })
    }

    fn dev(&self) -> &Device {
        self.registration.device()
    }

    fn bind(&self) -> Result {
        self.driver.bind(self.dev())
    }

    fn unbind(&self) {
        // SAFETY: The device is registered.
        unsafe { bindings::device_release_driver(&raw mut (*self.dev().as_raw()).dev) };
    }

    /// The C function of [`crate::lifecycle::shutdown`]'s place on the bus: for a driver with its
    /// own way, that.
    fn shut_down(&self) {
        // SAFETY: The device is registered, on the bus whose function it is.
        unsafe {
            let dev = &raw mut (*self.dev().as_raw()).dev;
            if let Some(shutdown) = (*(*dev).bus).shutdown {
                shutdown(dev);
            }
        }
    }
}

#[kunit_tests(virtio_fake_c_driver)]
mod suite {
    use super::Bench;
    use crate::{
        fake::{
            Behaviour,
            Early,
            Event, //
        },
        lifecycle,
        tests::{
            BOUND,
            FEATURE_A,
            FEATURE_C, //
        }, //
    };
    use kernel::prelude::*;
    use virtio_spec::{
        Features,
        Status, //
    };

    const FAILED: u8 = Status::FAILED.bits();
    const OFFERED: Features = Behaviour::HONEST
        .features
        .with_bit(FEATURE_A)
        .with_bit(FEATURE_C)
        .with_bit(70)
        .with_bit(71);

    #[test]
    fn core_writes_driver_ok_before_scan() -> Result {
        let bench = Bench::new(Behaviour::HONEST)?;
        check_eq!(bench.device.status(), BOUND);
        check_eq!(bench.device.driver.probe.get(), 1);
        check_eq!(bench.device.driver.ready.get(), 1);
        bench.unbind();
        check_eq!(bench.device.status(), 1);
        check!(!bench.device.has_queues());
        Ok(())
    }

    #[test]
    fn modern_device_gets_the_modern_table() -> Result {
        let mut behaviour = Behaviour::HONEST;
        behaviour.features = OFFERED;
        let bench = Bench::new(behaviour)?;
        let features = bench.dev().features();
        check!(features.has_bit(FEATURE_A));
        check!(features.has_bit(70));
        check!(!features.has_bit(FEATURE_C));
        check!(!features.has_bit(71));
        Ok(())
    }

    #[test]
    fn legacy_device_gets_64_bits_of_the_legacy_table() -> Result {
        let mut behaviour = Behaviour::HONEST;
        behaviour.features = OFFERED.without_bit(32);
        let bench = Bench::new(behaviour)?;
        let features = bench.dev().features();
        check!(features.has_bit(FEATURE_C));
        check!(!features.has_bit(FEATURE_A));
        check!(!features.has_bit(71));
        Ok(())
    }

    #[test]
    fn failure_of_probe_is_passed_on() -> Result {
        let bench = Bench::new(Behaviour::HONEST)?;
        bench.unbind();
        bench.device.driver.fail_probe.add(1);
        check_eq!(bench.bind(), Err(ENXIO));
        check_eq!(bench.device.status() & FAILED, FAILED);
        check_eq!(bench.device.driver.ready.get(), 1);
        Ok(())
    }

    #[test]
    fn failure_of_validate_ends_the_probe() -> Result {
        let bench = Bench::new(Behaviour::HONEST)?;
        bench.unbind();
        bench.device.driver.fail_validate.add(1);
        check_eq!(bench.bind(), Err(EDOM));
        check_eq!(bench.device.status(), 1 | 2 | FAILED);
        check_eq!(bench.device.driver.probe.get(), 1);
        Ok(())
    }

    #[test]
    fn interrupt_before_driver_ok_is_delivered_as_in_c() -> Result {
        let mut behaviour = Behaviour::HONEST;
        behaviour.on_driver_ok = Early::UseBuffer;
        let bench = Bench::new(behaviour)?;
        check_eq!(bench.device.driver.used_buffers.get(), 1);
        check_eq!(bench.device.driver.early.get(), 1);
        Ok(())
    }

    #[test]
    fn device_that_needs_a_reset_is_left_to_its_driver() -> Result {
        let bench = Bench::new(Behaviour::HONEST)?;
        bench.device.take_log()?;
        bench.device.raise_status(Status::DEVICE_NEEDS_RESET);
        bench.device.config_interrupt(bench.dev());
        check_eq!(bench.device.driver.config_changed.get(), 1);
        bench.unbind();
        let log = bench.device.take_log()?;
        check_eq!(
            log.as_slice(),
            [Event::Reset, Event::DeleteQueues, Event::Status(1)]
        );
        Ok(())
    }

    #[test]
    fn device_goes_on_if_its_driver_cannot_freeze() -> Result {
        let bench = Bench::new(Behaviour::HONEST)?;
        bench.device.driver.fail_freeze.add(1);
        bench.device.take_log()?;
        check_eq!(lifecycle::freeze(bench.dev()), Err(EBUSY));
        check_eq!(bench.device.driver.freeze.get(), 1);
        check!(bench.device.take_log()?.is_empty());
        check_eq!(bench.device.status(), BOUND);
        bench.device.config_interrupt(bench.dev());
        check_eq!(bench.device.driver.config_changed.get(), 1);
        Ok(())
    }

    #[test]
    fn reset_under_a_driver_that_cannot_is_not_supported() -> Result {
        let bench = Bench::new(Behaviour::HONEST)?;
        check_eq!(lifecycle::reset_prepare(bench.dev()), Err(EOPNOTSUPP));
        check_eq!(bench.device.status(), BOUND);
        Ok(())
    }

    #[test]
    fn shutdown_is_the_drivers_if_it_has_its_own() -> Result {
        let bench = Bench::new(Behaviour::HONEST)?;
        bench.device.take_log()?;
        bench.shut_down();
        check_eq!(bench.device.driver.shutdown.get(), 1);
        check!(bench.device.take_log()?.is_empty());
        Ok(())
    }
}
