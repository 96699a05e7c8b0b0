// SPDX-License-Identifier: GPL-2.0

//! What a virtio driver implements, and the glue that makes a `struct virtio_driver` of it.
//!
//! C header: [`include/linux/virtio.h`](srctree/include/linux/virtio.h)
//!
//! The glue owns the order of things.  To bind: features, queues, [`Driver::probe`] (which may
//! fill the queues), DRIVER_OK, used buffers, [`Driver::ready`].  To unbind, freeze or recover:
//! [`Driver::remove`], break the queues, reset and read it back, wait for callbacks, drop the
//! driver's data, free unused buffers, delete the queues.  If the device does not acknowledge
//! the reset, what it may still write to is leaked, and said so.
//!
//! A driver may keep its data over a freeze or a recovery ([`Driver::KEEPS_DATA`]): then it is
//! [`Driver::pause`], reset, [`Driver::quiesced`], and later [`Driver::resume`], DRIVER_OK,
//! [`Driver::resumed`], or else [`Driver::abandoned`].  If the device can be suspended (see
//! [`crate::suspend`]) it is [`Driver::pause`] and [`Driver::resumed`] alone.

use crate::{
    bus,
    device::Device,
    lifecycle::{
        self,
        Configured,
        Init,
        Quiesced,
        Running, //
    },
    queue::{
        QueueSpec,
        Queues, //
    },
    recovery,
    suspend::Sleeper, //
};
use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    pin::Pin,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    driver,
    error::{
        from_result,
        to_result, //
    },
    ffi::c_int,
    interrupt::local_interrupt_disable,
    prelude::*,
    seq_file::SeqFile,
    str::CString,
    sync::barrier::{
        smp_mb,
        Full, //
    },
    types::Opaque,
    ThisModule, //
};
use virtio_bindings as bindings;
use virtio_ring::Vring;
use virtio_spec::{
    features::FEATURE_BITS,
    negotiate,
    transport,
    Class,
    DeviceType,
    Features, //
};

/// A virtio driver.
pub trait Driver: Sized + 'static {
    /// The class of devices that it serves.
    type Class: Class;

    /// The features of the class that it can use.  The transport's come by themselves.
    const FEATURES: Features = Features::EMPTY;

    /// The same of a legacy device.
    const LEGACY_FEATURES: Features = Self::FEATURES;

    /// Whether its data outlives a reset of the device.
    const KEEPS_DATA: bool = false;

    /// Whether its queues are one like the other: their names are numbered, and their interrupts
    /// bound to processors of their own.
    const SPREADS_QUEUES: bool = false;

    /// Whether [`Driver::used_buffers`] only has the queue looked at later, until when its callbacks
    /// are disabled.
    const DEFERS_BUFFERS: bool = false;

    /// What it keeps of a device.
    type Data: Send + Sync;

    /// Looks at the features that device and driver have before they are agreed on, and says which
    /// ones it can use.  May sleep.
    fn validate(_dev: &Device, features: Features) -> Features {
        features
    }

    /// The queues that it wants.  May sleep.
    ///
    /// # Errors
    ///
    /// Why the device cannot be driven.
    fn queues(dev: &Init<'_>) -> Result<KVec<QueueSpec>>;

    /// The number that is part of the name of queue `index`, if one is.
    fn queue_number(_spec: &QueueSpec, index: usize) -> Option<usize> {
        Self::SPREADS_QUEUES.then_some(index)
    }

    /// Takes the queues and may fill them.  May sleep.
    ///
    /// # Errors
    ///
    /// Why the device cannot be driven.
    fn probe(
        dev: &Configured<'_>,
        queues: &mut Queues<'_>,
    ) -> Result<impl PinInit<Self::Data, Error>>;

    /// The device works: kick, and register with the class.  May sleep.
    ///
    /// # Errors
    ///
    /// Why the device cannot be driven; [`Driver::remove`] is called.
    fn ready(_dev: &Running<'_>, _data: Pin<&Self::Data>) -> Result {
        Ok(())
    }

    /// The device has used buffers of queue `queue`.  Interrupt context; may be spurious.  Not
    /// before DRIVER_OK, but perhaps before [`Driver::ready`].
    fn used_buffers(data: Pin<&Self::Data>, queue: u32);

    /// The device configuration changed.  Interrupt context.
    fn config_changed(_dev: &Running<'_>, _data: Pin<&Self::Data>) {}

    /// The device configuration changed, a while ago.  May sleep; nothing else happens to the binding
    /// meanwhile.
    fn reconfigure(_dev: &Running<'_>, _data: Pin<&Self::Data>) {}

    /// The device is about to be reset: whoever uses it must be stopped when this returns.  May
    /// sleep.
    fn remove(data: Pin<&Self::Data>);

    /// The system goes down, or another kernel is started: whoever uses the device must be stopped when
    /// this returns, and nothing but a reset comes after it.  May sleep.
    fn shutdown(_data: Pin<&Self::Data>) {}

    /// As [`Driver::remove`], but the device is to come back: until then nothing is added to a queue
    /// and no configuration written.  Only with [`Driver::KEEPS_DATA`], as all that follows.
    fn pause(_dev: &Device, _data: Pin<&Self::Data>) {}

    /// The device was reset and no callback runs: time to take buffers back, and to drop the queues.
    /// May sleep.
    fn quiesced(_proof: &Quiesced<'_>, _data: Pin<&Self::Data>) {}

    /// The queues that it wants when the device is back, as [`Driver::queues`].
    ///
    /// # Errors
    ///
    /// As there.
    fn queues_again(dev: &Init<'_>, _data: Pin<&Self::Data>) -> Result<KVec<QueueSpec>> {
        Self::queues(dev)
    }

    /// The device is back: takes the queues and may fill them.  May sleep.
    ///
    /// # Errors
    ///
    /// Why the device cannot be driven any more; [`Driver::abandoned`] is called.
    fn resume(_dev: &Configured<'_>, _queues: &mut Queues<'_>, _data: Pin<&Self::Data>) -> Result {
        Err(EOPNOTSUPP)
    }

    /// The device works again, with new queues or, if it was suspended, with those that it had: kick,
    /// and go on.  May sleep.
    fn resumed(_dev: &Running<'_>, _data: Pin<&Self::Data>) {}

    /// The device does not come back: nobody may wait for it.  May sleep.
    fn abandoned(_data: Pin<&Self::Data>) {}

    /// Prints what it counts and the core does not, for `statistics` in debugfs: a line of names,
    /// then lines of numbers.  May sleep.
    fn statistics(_data: Pin<&Self::Data>, _file: &SeqFile) {}
}

/// The feature bits of a set, as C's table wants them.
const fn feature_table(features: Features) -> ([u32; FEATURE_BITS as usize], u32) {
    let mut table = [0; FEATURE_BITS as usize];
    let mut count = 0;
    let mut bit = 0;
    while bit < FEATURE_BITS {
        if features.has_bit(bit) {
            table[count as usize] = bit;
            count += 1;
        }
        bit += 1;
    }
    (table, count)
}

/// The ids of a class, with the entry of zeroes that ends them.
const fn id_table(class: DeviceType) -> [bindings::virtio_device_id; 2] {
    [
        bindings::virtio_device_id {
            device: class.id(),
            vendor: bindings::VIRTIO_DEV_ANY_ID,
        },
        bindings::virtio_device_id {
            device: 0,
            vendor: 0,
        },
    ]
}

/// What the glue keeps of a bound device: `vdev.priv`.
struct Bound<T: Driver> {
    data: Pin<KBox<T::Data>>,
    /// Those of the queues; changed under the device lock, while there are no queues.
    names: UnsafeCell<KVec<CString>>,
}

/// The queues of a device, just found, and their names.
struct Found {
    queues: KVec<Option<NonNull<bindings::virtqueue>>>,
    names: KVec<CString>,
}

/// Makes a `struct virtio_driver` of a [`Driver`].
pub struct Adapter<T: Driver>(PhantomData<T>);

// SAFETY: `struct virtio_driver` is `repr(C)`, with its `device_driver` at that offset; the core's
// drvdata is not used, so its type does not matter.
unsafe impl<T: Driver> driver::DriverLayout for Adapter<T> {
    type DriverType = bindings::virtio_driver;
    type DriverData<'bound> = ();
    const DEVICE_DRIVER_OFFSET: usize = core::mem::offset_of!(Self::DriverType, driver);
}

// SAFETY: `register` fails, or else `unregister` undoes it.
unsafe impl<T: Driver> driver::RegistrationOps for Adapter<T> {
    unsafe fn register(
        drv: &Opaque<bindings::virtio_driver>,
        name: &'static CStr,
        module: &'static ThisModule,
    ) -> Result {
        let drv = drv.get();
        // SAFETY: By the contract, valid and pinned until `unregister`.
        unsafe {
            (*drv).driver.name = name.as_char_ptr();
            (*drv).id_table = Self::IDS.as_ptr();
            (*drv).feature_table = Self::FEATURES.0.as_ptr();
            (*drv).feature_table_size = Self::FEATURES.1;
            (*drv).feature_table_legacy = Self::LEGACY_FEATURES.0.as_ptr();
            (*drv).feature_table_size_legacy = Self::LEGACY_FEATURES.1;
            (*drv).validate = Some(Self::validate);
            (*drv).probe = Some(Self::probe);
            (*drv).remove = Some(Self::remove);
            (*drv).shutdown = Some(Self::shutdown);
            (*drv).config_changed = Some(Self::config_changed);
            (*drv).freeze = Some(Self::pause);
            (*drv).restore = Some(Self::resume);
            (*drv).reset_prepare = Some(Self::pause);
            (*drv).reset_done = Some(Self::resume);
            to_result(bus::register_driver(drv, module.as_ptr()))
        }
    }

    unsafe fn unregister(drv: &Opaque<bindings::virtio_driver>) {
        // SAFETY: By the contract.
        unsafe { bus::unregister_driver(drv.get()) };
    }
}

impl<T: Driver> Adapter<T> {
    const IDS: &'static [bindings::virtio_device_id; 2] = &id_table(T::Class::DEVICE);
    const FEATURES: &'static ([u32; FEATURE_BITS as usize], u32) =
        &feature_table(if T::KEEPS_DATA {
            T::FEATURES.with::<transport::Suspend>()
        } else {
            T::FEATURES
        });
    const LEGACY_FEATURES: &'static ([u32; FEATURE_BITS as usize], u32) =
        &feature_table(T::LEGACY_FEATURES);
    const SLEEPER: Sleeper = Sleeper {
        pause: Self::sleep,
        go_on: Self::wake,
        stop: |dev| Self::stop(dev, |_| ()),
    };

    /// Clears the features whose requirements are not met (specification 2.2, 5.*.3.1).
    extern "C" fn validate(vdev: *mut bindings::virtio_device) -> c_int {
        // SAFETY: The core passes a valid device.
        let dev = unsafe { Device::from_raw(vdev) };
        let agreed = T::validate(dev, dev.features());
        dev.set_features(negotiate::resolve(
            agreed,
            agreed,
            &negotiate::Policy {
                accepted: Features::ALL,
                requirements: &[transport::REQUIREMENTS, T::Class::REQUIREMENTS],
            },
        ));
        0
    }

    extern "C" fn probe(vdev: *mut bindings::virtio_device) -> c_int {
        // SAFETY: The core passes a valid device, being bound.
        let dev = unsafe { Device::from_raw(vdev) };
        from_result(|| Self::bind(dev).map(|()| 0))
    }

    extern "C" fn remove(vdev: *mut bindings::virtio_device) {
        // SAFETY: The core passes a valid device, bound to this driver.
        Self::unbind(unsafe { Device::from_raw(vdev) });
    }

    extern "C" fn shutdown(vdev: *mut bindings::virtio_device) {
        // SAFETY: The core passes a valid device, bound to this driver.
        let dev = unsafe { Device::from_raw(vdev) };
        // A device that is reset now stays so.
        recovery::enable(dev, false);
        // SAFETY: Bound to this driver.
        if let Some(data) = unsafe { Self::data(vdev) } {
            T::shutdown(data);
        }
        lifecycle::shutdown(dev);
    }

    extern "C" fn pause(vdev: *mut bindings::virtio_device) -> c_int {
        // SAFETY: The core passes a valid device, bound to this driver.
        let dev = unsafe { Device::from_raw(vdev) };
        if T::KEEPS_DATA {
            Self::stop(dev, |data| T::pause(dev, data));
        } else {
            Self::unbind(dev);
        }
        0
    }

    extern "C" fn resume(vdev: *mut bindings::virtio_device) -> c_int {
        // SAFETY: The core passes a valid device, bound to this driver.
        let dev = unsafe { Device::from_raw(vdev) };
        from_result(|| {
            if T::KEEPS_DATA {
                Self::rebind(dev)?;
            } else {
                Self::bind(dev)?;
            }
            Ok(0)
        })
    }

    extern "C" fn config_changed(vdev: *mut bindings::virtio_device) {
        // SAFETY: The core passes a valid device, bound to this driver.
        unsafe {
            if let Some(data) = Self::data(vdev) {
                T::config_changed(&Running(Device::from_raw(vdev)), data);
                recovery::schedule_reconfigure(Device::from_raw(vdev));
            }
        }
    }

    extern "C" fn used_buffers(vq: *mut bindings::virtqueue) {
        // SAFETY: The ring passes a queue of a device that this driver is bound to.
        unsafe {
            // Before DRIVER_OK a device must not use a buffer (specification 2.1.2): if it did, the
            // driver hears of it from `start`.
            if !Vring::from_raw(vq).is_started() {
                // What was used was read before: either `start` finds it, or we find the queue
                // started.  Pairs with the barrier there.
                smp_mb(Full);
                if !Vring::from_raw(vq).is_started() {
                    return;
                }
            }
            if let Some(data) = Self::data((*vq).vdev) {
                if T::DEFERS_BUFFERS {
                    // Before the driver is told: it may be done with the queue before we return.
                    Vring::from_raw(vq).observer().disable_cb();
                }
                T::used_buffers(data, (*vq).index);
            }
        }
    }

    /// The driver's data of a device; `None` before it is made and after it is dropped.
    ///
    /// # Safety
    ///
    /// `vdev` is bound to this driver; in callbacks, which are synchronised before the data goes.
    unsafe fn data<'a>(vdev: *mut bindings::virtio_device) -> Option<Pin<&'a T::Data>> {
        // SAFETY: By the contract; written as one word.
        unsafe {
            let bound = ptr::read_volatile(&raw const (*vdev).priv_).cast::<Bound<T>>();
            bound.as_ref().map(|bound| bound.data.as_ref())
        }
    }

    fn bind(dev: &'static Device) -> Result {
        // A C driver may have left its own pointer behind.
        // SAFETY: One word, and no callback of ours runs yet.
        unsafe { ptr::write_volatile(&raw mut (*dev.as_raw()).priv_, ptr::null_mut()) };
        let mut found = Self::find_queues(dev, &T::queues(&Init(dev))?)?;
        let mut make = || -> Result<KBox<Bound<T>>> {
            let configured = Configured(dev);
            let mut queues = Queues {
                found: &mut found.queues,
            };
            let data = KBox::pin_init(T::probe(&configured, &mut queues)?, GFP_KERNEL)?;
            let names = UnsafeCell::new(core::mem::take(&mut found.names));
            Ok(KBox::new(Bound { data, names }, GFP_KERNEL)?)
        };
        match make() {
            // SAFETY: Nobody reads it before DRIVER_OK is written, which orders it.
            Ok(bound) => unsafe {
                ptr::write_volatile(&raw mut (*dev.as_raw()).priv_, KBox::into_raw(bound).cast());
            },
            Err(error) => {
                Self::unbind(dev);
                return Err(error);
            }
        }
        let hooks = recovery::Hooks {
            abandon: T::KEEPS_DATA.then_some(Self::abandon),
            reconfigure: Some(Self::reconfigure),
            sleeper: T::KEEPS_DATA.then_some(Self::SLEEPER),
        };
        recovery::set_hooks(dev, hooks);
        // SAFETY: Set just now; dropped by `unbind` alone.
        let Some(data) = (unsafe { Self::data(dev.as_raw()) }) else {
            return Ok(());
        };
        Self::run(dev);
        T::ready(&Running(dev), data).inspect_err(|_| Self::unbind(dev))
    }

    /// Makes the device work again for a driver that kept its data.
    fn rebind(dev: &'static Device) -> Result {
        // SAFETY: Bound to this driver.
        let data = unsafe { Self::data(dev.as_raw()) }.ok_or(ENODEV)?;
        let mut found = Self::find_queues(dev, &T::queues_again(&Init(dev), data)?)?;
        // SAFETY: `data` has found it there; the old queues are gone, and the device lock is held.
        unsafe {
            let bound = (*dev.as_raw()).priv_.cast::<Bound<T>>();
            *(*bound).names.get() = found.names;
        }
        let mut queues = Queues {
            found: &mut found.queues,
        };
        T::resume(&Configured(dev), &mut queues, data).inspect_err(|_| Self::stop(dev, |_| ()))?;
        Self::run(dev);
        T::resumed(&Running(dev), data);
        Ok(())
    }

    /// Writes DRIVER_OK, and lets everybody in.
    fn run(dev: &'static Device) {
        // From the first moment that it can break a queue; whoever recovers it wants the device
        // lock, which is held.
        recovery::enable(dev, true);
        if let Some(handle) = recovery::handle(dev) {
            handle.open(dev, Self::statistics);
        }
        lifecycle::ready(dev);
        Self::start(dev);
    }

    /// Tells a driver that kept its data that the device does not come back.
    fn abandon(dev: &Device) {
        // SAFETY: Bound to this driver: `unbind` takes the callback back.
        if let Some(data) = unsafe { Self::data(dev.as_raw()) } {
            T::abandoned(data);
        }
    }

    /// Stops a driver that keeps data and queues, for the device to be suspended.
    fn sleep(dev: &Device) {
        // Nobody but who suspends and resumes may reset the device.
        recovery::enable(dev, false);
        // SAFETY: Bound to this driver: `unbind` takes the callback back.
        if let Some(data) = unsafe { Self::data(dev.as_raw()) } {
            T::pause(dev, data);
        }
    }

    /// Lets it go on, with the same queues.
    fn wake(dev: &Device) {
        recovery::enable(dev, true);
        // SAFETY: As above.
        if let Some(data) = unsafe { Self::data(dev.as_raw()) } {
            T::resumed(&Running(dev), data);
        }
        // What the device said meanwhile was not listened to.
        recovery::schedule(dev);
    }

    fn statistics(dev: &Device, file: &SeqFile) {
        // SAFETY: Bound to this driver: `stop` closes the handle, and waits for us, before the data
        // goes.
        if let Some(data) = unsafe { Self::data(dev.as_raw()) } {
            T::statistics(data, file);
        }
    }

    fn reconfigure(dev: &Device) {
        // SAFETY: Bound to this driver: `unbind` takes the callback back.
        if let Some(data) = unsafe { Self::data(dev.as_raw()) } {
            T::reconfigure(&Running(dev), data);
        }
    }

    /// Lets the driver hear of used buffers, first of those that came too early.
    fn start(dev: &Device) {
        // SAFETY: Queues of this device, which exist until `delete_queues`.
        dev.for_each_queue(|queue| unsafe { Vring::from_raw(queue.as_ptr()).start() });
        // Before the rings are looked at; pairs with the barrier in `used_buffers`.
        smp_mb(Full);
        dev.for_each_queue(|queue| {
            let _off = local_interrupt_disable();
            // SAFETY: As above; interrupts are off, as in a handler.
            unsafe { virtio_ring::interrupt(queue) };
        });
    }

    fn find_queues(dev: &Device, specs: &[QueueSpec]) -> Result<Found> {
        let mut names = KVec::with_capacity(specs.len(), GFP_KERNEL)?;
        for (at, spec) in specs.iter().enumerate() {
            let name = match T::queue_number(spec, at) {
                Some(number) => CString::try_from_fmt(fmt!("{}.{}", spec.name, number))?,
                None => CString::try_from_fmt(fmt!("{}", spec.name))?,
            };
            names.push(name, GFP_KERNEL)?;
        }
        let mut infos = KVec::with_capacity(specs.len(), GFP_KERNEL)?;
        let mut queues = KVec::with_capacity(specs.len(), GFP_KERNEL)?;
        for (at, spec) in specs.iter().enumerate() {
            let callback: bindings::vq_callback_t = if spec.interrupt {
                Some(Self::used_buffers)
            } else {
                None
            };
            infos.push(
                bindings::virtqueue_info {
                    name: names
                        .get(at)
                        .map_or(spec.name, |name| &**name)
                        .as_char_ptr(),
                    callback,
                    ctx: false,
                },
                GFP_KERNEL,
            )?;
            queues.push(ptr::null_mut(), GFP_KERNEL)?;
        }
        let mut found = KVec::from_elem(None, specs.len(), GFP_KERNEL)?;
        dev.find_queues(&mut infos, &mut queues, T::SPREADS_QUEUES)?;
        for (found, queue) in found.iter_mut().zip(queues.iter()) {
            *found = NonNull::new(*queue);
        }
        Ok(Found {
            queues: found,
            names,
        })
    }

    /// Ends the driver's use of the device, in the order that the module explains.
    fn unbind(dev: &Device) {
        recovery::set_hooks(dev, recovery::Hooks::NONE);
        Self::stop(dev, T::remove);
    }

    /// Stops the device: `leave` stops those who use it.  Unless the driver keeps its data for the
    /// device to come back, the data goes.
    fn stop(dev: &Device, leave: impl FnOnce(Pin<&T::Data>)) {
        let vdev = dev.as_raw();
        let keep = T::KEEPS_DATA && recovery::waits(dev);
        recovery::enable(dev, false);
        // SAFETY: Bound to this driver.
        let data = unsafe { Self::data(vdev) };
        if let Some(data) = data {
            leave(data);
        }
        if let Some(handle) = recovery::handle(dev) {
            handle.close();
        }
        dev.break_queues();
        let quiesced = dev.reset();
        let mut bound = ptr::null_mut();
        if !keep {
            // SAFETY: One word; only this function takes it.
            unsafe {
                bound = ptr::read_volatile(&raw const (*vdev).priv_).cast::<Bound<T>>();
                ptr::write_volatile(&raw mut (*vdev).priv_, ptr::null_mut());
            }
        }
        dev.synchronize_callbacks();
        if let Some(data) = data {
            T::quiesced(&Quiesced(dev), data);
        }
        // The queues have their names until they are deleted.
        let mut names = KVec::new();
        if !bound.is_null() {
            // SAFETY: Made by `bind`; no callback sees it any more.
            let bound = KBox::into_inner(unsafe { KBox::from_raw(bound) });
            names = bound.names.into_inner();
            drop(bound.data);
        }
        match quiesced {
            // SAFETY: Reset, callbacks done, and the driver's handles dropped with its data.
            Ok(()) => dev.for_each_queue(|queue| unsafe { virtio_ring::drain(queue) }),
            Err(failed) => {
                dev_err!(
                    dev.as_device(),
                    "device may still own its buffers (status {:#x}): leaked\n",
                    failed.status.bits()
                );
                // SAFETY: Queues of this device, which exist until `delete_queues`.
                dev.for_each_queue(|queue| unsafe { Vring::from_raw(queue.as_ptr()).condemn() });
            }
        }
        // SAFETY: As above; what handles are left hold references of their own.
        unsafe { dev.delete_queues() };
        drop(names);
    }
}

/// Declares a module that is one virtio driver.
///
/// ```ignore
/// virtio::module_virtio_driver! {
///     type: MyDriver,
///     name: "my_driver",
///     authors: ["Me"],
///     description: "My virtio driver",
///     license: "GPL",
///     alias: ["virtio:d0000002Av*"],
/// }
/// ```
#[macro_export]
macro_rules! module_virtio_driver {
    ($($f:tt)*) => {
        ::kernel::module_driver!(<T>, $crate::driver::Adapter<T>, { $($f)* });
    };
}

#[kunit_tests(virtio_driver)]
mod tests {
    use super::*;

    #[test]
    fn feature_table_lists_every_bit_once() {
        let features = Features::of(&[0, 5, 63, 64, 127]);
        let (table, count) = feature_table(features);
        assert_eq!(table[..count as usize], [0, 5, 63, 64, 127]);
        assert_eq!(feature_table(Features::EMPTY).1, 0);
        assert_eq!(feature_table(Features::ALL).1, FEATURE_BITS);
    }

    #[test]
    fn id_table_ends_with_zeroes() {
        let [entry, end] = id_table(DeviceType::RNG);
        assert_eq!(entry.device, 4);
        assert_eq!(entry.vendor, bindings::VIRTIO_DEV_ANY_ID);
        assert_eq!((end.device, end.vendor), (0, 0));
    }
}
