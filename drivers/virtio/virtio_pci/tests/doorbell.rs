// SPDX-License-Identifier: GPL-2.0

//! What a notification register is told (specification 2.9 and 4.1.5.2), by rings that are used.
//!
//! No device of QEMU 10.0 offers `VIRTIO_F_NOTIFICATION_DATA` or `VIRTIO_F_NOTIF_CONFIG_DATA`.

use super::{
    Registers,
    Script,
    NOTIFY_LEN, //
};
use crate::notify::Format;
use core::ptr::NonNull;
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
    types::Opaque, //
};
use pci_ext::io::Model;
use virtio_bindings as bindings;
use virtio_ring::{
    Params,
    Vring, //
};
use virtio_spec::{
    transport::{
        NotifConfigData,
        NotificationData,
        RingPacked,
        Version1, //
    },
    DeviceType,
    Features, //
};

/// The queue, its descriptors, and what the device calls it.
const QUEUE: u16 = 3;
const SIZE: u32 = 4;
const NUMBER: u16 = 0x1234;

/// What a register has that nothing was written to.
const UNTOUCHED: u32 = 0xa5a5_a5a5;

/// Notification registers that are memory: those who notify write to addresses.
pub(super) struct Region([Atomic<u32>; NOTIFY_LEN as usize / 4]);

impl Region {
    pub(super) fn new() -> Result<Arc<Self>> {
        let words = [const { Atomic::new(UNTOUCHED) }; NOTIFY_LEN as usize / 4];
        Ok(Arc::new(Self(words), GFP_KERNEL)?)
    }

    /// What they have, as the device reads it.
    fn words(&self) -> [u32; NOTIFY_LEN as usize / 4] {
        self.0
            .each_ref()
            .map(|word| u32::from_le(word.load(Relaxed)))
    }

    fn clear(&self) {
        for word in &self.0 {
            word.store(UNTOUCHED, Relaxed);
        }
    }
}

/// The region, as a window has it.
pub(super) struct Place(pub(super) Arc<Region>);

impl Model for Place {
    fn read(&self, _offset: u64, _width: u64) -> u32 {
        u32::MAX
    }

    fn write(&self, _offset: u64, _width: u64, _value: u32) {}

    fn address(&self, offset: u64) -> Option<NonNull<c_void>> {
        let word = self.0 .0.get(offset as usize / 4)?;
        // Within the word: a register of 16 bits may be its second half.
        let first = word.as_ptr().cast::<c_void>();
        NonNull::new(first.wrapping_byte_add(offset as usize % 4))
    }
}

/// A device with one queue, which is notified as `features` ask for.
struct Rig {
    vdev: KBox<Opaque<bindings::virtio_device>>,
    queue: NonNull<bindings::virtqueue>,
    memory: KBox<u64>,
}

/// The memory is the rig's.
extern "C" fn release(_dev: *mut bindings::device) {}

impl Rig {
    /// # Safety
    ///
    /// `cookie` is what the function of `format` wants, as long as the rig is there.
    unsafe fn new(features: Features, format: Format, cookie: NonNull<c_void>) -> Result<Self> {
        let vdev = KBox::new(Opaque::zeroed(), GFP_KERNEL)?;
        let raw: *mut bindings::virtio_device = vdev.get();
        // SAFETY: Initialised before anybody else knows it; the queue has its cookie before it is
        // notified.
        let queue = unsafe {
            (*raw).dev.init_name = c"fake".as_char_ptr();
            (*raw).dev.release = Some(release);
            bindings::device_initialize(&raw mut (*raw).dev);
            bindings::virtio_device_init_locks(raw);
            (*raw).id.device = DeviceType::NET.id();
            (*raw).__bindgen_anon_1.features_array = features.to_u64s();
            let params = Params {
                index: QUEUE.into(),
                size: SIZE,
                align: bindings::SMP_CACHE_BYTES,
                weak_barriers: true,
                may_reduce: false,
                context: false,
                notify: format.function(),
                callback: None,
                name: c"fake".as_char_ptr(),
            };
            let queue = virtio_ring::create(raw, &params)?;
            (*queue.as_ptr()).priv_ = cookie.as_ptr();
            queue
        };
        Ok(Self {
            vdev,
            queue,
            memory: KBox::new(0, GFP_KERNEL)?,
        })
    }

    /// Adds a buffer of one descriptor, and notifies.
    fn add_and_kick(&mut self) -> Result {
        let mut list = bindings::scatterlist::default();
        let mut lists = [&raw mut list];
        let memory: *mut u64 = &raw mut *self.memory;
        // SAFETY: Nobody else uses the queue; the memory is mapped linearly, and outlives it.
        unsafe {
            bindings::sg_init_one(&mut list, memory.cast(), 8);
            let added = bindings::virtqueue_add_sgs(
                self.queue.as_ptr(),
                lists.as_mut_ptr(),
                1,
                0,
                memory.cast(),
                bindings::GFP_KERNEL,
            );
            kernel::error::to_result(added)?;
            if bindings::virtqueue_kick(self.queue.as_ptr()) {
                Ok(())
            } else {
                Err(EIO)
            }
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // SAFETY: Made by `new`, and nobody's any more; a token is an address that is not followed.
        unsafe {
            while Vring::from_raw(self.queue.as_ptr()).detach().is_some() {}
            virtio_ring::delete(self.queue);
            bindings::put_device(&raw mut (*self.vdev.get()).dev);
        }
    }
}

/// What the registers have after each buffer, as long as there is room.
fn told(more: Features, notify_off: u16) -> Result<KVec<[u32; NOTIFY_LEN as usize / 4]>> {
    let features = Features::EMPTY.with::<Version1>().union(more);
    let format = Format::new(features);
    let mut script = Script::HONEST;
    script.notify_off = notify_off;
    script.notify_data = NUMBER;
    let region = Region::new()?;
    let device = Registers::new(script)?.device_notified_at(Some(Place(region.clone())))?;
    let doorbell = device.doorbell(QUEUE, format)?;
    // SAFETY: Made for this format, and dropped after the rig.
    let mut rig = unsafe { Rig::new(features, format, doorbell.cookie()) }?;
    let mut told = KVec::new();
    for _ in 0..SIZE {
        region.clear();
        rig.add_and_kick()?;
        told.push(region.words(), GFP_KERNEL)?;
    }
    Ok(told)
}

#[kunit_tests(virtio_pci_doorbell)]
mod suite {
    use super::*;

    /// Registers of which the one at `at` has `value`, and nobody has touched the others.
    fn only(at: usize, value: u32) -> [u32; NOTIFY_LEN as usize / 4] {
        core::array::from_fn(|word| if word == at { value } else { UNTOUCHED })
    }

    #[test]
    fn number_of_the_queue_in_16_bits() -> Result {
        for at in 0..4 {
            let told = told(Features::EMPTY, at)?;
            assert_eq!(told.as_slice(), [only(at.into(), 0xa5a5_0003); 4]);
        }
        Ok(())
    }

    #[test]
    fn number_that_the_device_gave_in_16_bits() -> Result {
        let told = told(Features::EMPTY.with::<NotifConfigData>(), 2)?;
        assert_eq!(told.as_slice(), [only(2, 0xa5a5_1234); 4]);
        Ok(())
    }

    #[test]
    fn data_of_a_split_ring_is_the_next_available_index() -> Result {
        let data = Features::EMPTY.with::<NotificationData>();
        let expected = [0x0001_0003, 0x0002_0003, 0x0003_0003, 0x0004_0003];
        assert_eq!(
            told(data, 1)?.as_slice(),
            expected.map(|value| only(1, value))
        );
        let expected = expected.map(|value| only(1, value & !0xffff | 0x1234));
        assert_eq!(
            told(data.with::<NotifConfigData>(), 1)?.as_slice(),
            expected
        );
        Ok(())
    }

    #[test]
    fn data_of_a_packed_ring_is_the_next_offset_and_the_wrap_counter() -> Result {
        let data = Features::EMPTY
            .with::<NotificationData>()
            .with::<RingPacked>();
        // The last one fills the ring: it begins anew, and the counter is 0.
        let expected = [0x8001_0003, 0x8002_0003, 0x8003_0003, 0x0000_0003];
        assert_eq!(
            told(data, 3)?.as_slice(),
            expected.map(|value| only(3, value))
        );
        let expected = expected.map(|value| only(3, value & !0xffff | 0x1234));
        assert_eq!(
            told(data.with::<NotifConfigData>(), 3)?.as_slice(),
            expected
        );
        Ok(())
    }
}
