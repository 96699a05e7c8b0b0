// SPDX-License-Identifier: GPL-2.0

//! What a transport (virtio-pci ...) offers to the core.
//!
//! C header: [`include/linux/virtio_config.h`](srctree/include/linux/virtio_config.h)
//!
//! [`Transport`] is `struct virtio_config_ops` as a trait; [`Registration`] generates the table
//! and puts the device on the bus.

use crate::device::{
    Device,
    ResetFailed, //
};
use core::{
    marker::PhantomData,
    mem::offset_of,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    device,
    error::{
        from_result,
        to_result, //
    },
    ffi::{
        c_char,
        c_int,
        c_uint,
        c_void, //
    },
    prelude::*,
    types::Opaque, //
};
use virtio_bindings as bindings;
use virtio_spec::{
    Features,
    Status, //
};

/// One queue that a driver asks for: `struct virtqueue_info`.
pub struct QueueRequest<'a> {
    info: &'a bindings::virtqueue_info,
    slot: &'a mut *mut bindings::virtqueue,
}

impl QueueRequest<'_> {
    /// The queue's name; `None` for a queue that the driver does not use.
    pub fn name(&self) -> Option<NonNull<c_char>> {
        NonNull::new(self.info.name.cast_mut())
    }

    /// The used-buffer callback; `None` for a queue that needs no interrupt.
    pub fn callback(&self) -> bindings::vq_callback_t {
        self.info.callback
    }

    /// Whether the driver passes a context pointer with each buffer.
    pub fn has_context(&self) -> bool {
        self.info.ctx
    }

    /// Hands the driver its queue.
    pub fn provide(&mut self, queue: NonNull<bindings::virtqueue>) {
        *self.slot = queue.as_ptr();
    }
}

/// The verbs of a transport.
///
/// All may sleep unless they say otherwise.  `dev` is the device that embeds `self`.
pub trait Transport: Send + Sync + Sized + 'static {
    /// Reads device configuration; what lies outside of it reads as 0.
    fn read_config(&self, offset: u32, bytes: &mut [u8]);

    /// Writes device configuration; what lies outside of it is dropped.
    fn write_config(&self, offset: u32, bytes: &[u8]);

    /// The configuration generation; 0 where the transport has none.
    fn generation(&self) -> u32 {
        0
    }

    /// The device status field.  Called from interrupt context too.
    fn status(&self) -> Status;

    /// Writes the device status field; never 0, that is [`Transport::reset`].
    fn set_status(&self, status: Status);

    /// Resets the device, waits until it is done (with a deadline) and until its interrupts are.
    ///
    /// # Errors
    ///
    /// The device did not acknowledge before the deadline.  The transport says so in the log.
    fn reset(&self, dev: &Device) -> Result<(), ResetFailed>;

    /// The offered features.
    fn features(&self) -> Features;

    /// Tells the device which features were agreed on; returns those that the transport itself
    /// supports.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the device cannot be driven with them.
    fn finalize_features(&self, dev: &Device, features: Features) -> Result<Features>;

    /// Creates the queues, with interrupts, and hands each to its request.
    ///
    /// # Errors
    ///
    /// Those of allocation and of the device; then none is left behind.
    fn find_queues(
        &self,
        dev: &Device,
        requests: &mut [QueueRequest<'_>],
        affinity: Option<NonNull<bindings::irq_affinity>>,
    ) -> Result;

    /// Deletes all queues and frees their interrupts.  The device has been reset, or failed to:
    /// then the rings are leaked.
    fn delete_queues(&self, dev: &Device);

    /// Waits until no interrupt handler of the device runs.
    fn synchronize_callbacks(&self);

    /// The name of the device on its parent bus (`0000:00:03.0`).
    fn bus_name(&self) -> *const c_char;

    /// Resets queue `queue` alone (specification 2.6.1), which its driver leaves alone from before
    /// the call until [`Transport::enable_queue_after_reset`].  When it returns, the device does
    /// not use ring and buffers any more, and the queue's callback does not run.
    ///
    /// # Errors
    ///
    /// `ENOENT` if the device cannot, `EINVAL` if there is no such queue.  Others if the device
    /// did not do it in time: the queue is broken, and its memory still the device's.
    fn reset_queue(&self, _dev: &Device, _queue: u32) -> Result {
        Err(ENOENT)
    }

    /// Hands a queue that was reset to the device again; its ring may be another one.
    ///
    /// # Errors
    ///
    /// `ENOENT` if the device cannot, `EBUSY` if the queue was not reset.  Others if the device did
    /// not take it: the queue is broken.
    fn enable_queue_after_reset(&self, _dev: &Device, _queue: u32) -> Result {
        Err(ENOENT)
    }

    /// Steers the interrupt of a queue.  A hint: where it cannot be had, `Ok`.
    fn set_queue_affinity(&self, _queue: u32, _mask: *const bindings::cpumask) -> Result {
        Ok(())
    }

    /// The processors that the interrupt of a queue goes to; null where unknown.
    fn queue_affinity(&self, _queue: u32) -> *const bindings::cpumask {
        ptr::null()
    }

    /// Address and length of a shared memory region.
    fn shared_memory(&self, _id: u8) -> Option<(u64, u64)> {
        None
    }
}

/// What the transport allocates for a device: the C structure first, then its own state.
#[repr(C)]
struct Embedding<T> {
    vdev: Opaque<bindings::virtio_device>,
    transport: T,
}

/// A device of transport `T` on the virtio bus, until dropped.
///
/// # Invariants
///
/// `device` points to an `Embedding<T>` that is registered, and to which we own a reference.
pub struct Registration<T: Transport> {
    device: NonNull<Embedding<T>>,
    _owned: PhantomData<Embedding<T>>,
}

// SAFETY: The embedding is `Send` and `Sync` (`T` is, and `Device` is).
unsafe impl<T: Transport> Send for Registration<T> {}
// SAFETY: As above.
unsafe impl<T: Transport> Sync for Registration<T> {}

impl<T: Transport> Registration<T> {
    /// Registers a device of type `id` under `parent`, whose DMA it does.  May sleep; drivers may
    /// be probed before it returns (C: `register_virtio_device`).
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or why the device could not be added.
    pub fn new(parent: &device::Device, id: (u32, u32), transport: T) -> Result<Self> {
        let embedding = KBox::new(
            Embedding {
                vdev: Opaque::zeroed(),
                transport,
            },
            GFP_KERNEL,
        )?;
        let device = NonNull::from(KBox::leak(embedding));
        // SAFETY: Just allocated, not shared yet; `&Device` is transparent over `struct device`.
        let vdev = unsafe {
            let vdev = (*device.as_ptr()).vdev.get();
            let parent: *mut bindings::device = ptr::from_ref(parent).cast_mut().cast();
            (*vdev).dev.parent = parent;
            (*vdev).dev.release = Some(release::<T>);
            (*vdev).id.device = id.0;
            (*vdev).id.vendor = id.1;
            (*vdev).config = Ops::<T>::TABLE;
            (*vdev).vmap.dma_dev = parent;
            vdev
        };
        // SAFETY: Initialised above as `register_virtio_device` asks for.
        let result = to_result(unsafe { crate::bus::register_device(vdev) });
        if let Err(error) = result {
            // SAFETY: On failure too, `register_device` has initialised the reference count.
            unsafe { bindings::put_device(&raw mut (*vdev).dev) };
            return Err(error);
        }
        Ok(Self {
            device,
            _owned: PhantomData,
        })
    }

    /// The registered device.
    pub fn device(&self) -> &Device {
        // SAFETY: By the type invariants.
        unsafe { Device::from_raw((*self.device.as_ptr()).vdev.get()) }
    }

    /// The transport's own state.
    pub fn transport(&self) -> &T {
        // SAFETY: By the type invariants.
        unsafe { &(*self.device.as_ptr()).transport }
    }
}

impl<T: Transport> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; the reference that we own goes with it.
        unsafe { crate::bus::unregister_device((*self.device.as_ptr()).vdev.get()) };
    }
}

extern "C" fn release<T: Transport>(dev: *mut bindings::device) {
    let vdev = dev
        .cast::<u8>()
        .wrapping_sub(offset_of!(bindings::virtio_device, dev))
        .cast::<Embedding<T>>();
    // SAFETY: The last reference is gone; allocated by `Registration::new`, whose `vdev` is first.
    drop(unsafe { KBox::from_raw(vdev) });
}

/// The generated operations table.
struct Ops<T>(PhantomData<T>);

/// # Safety
///
/// `vdev` is the first field of a live `Embedding<T>`.
pub(crate) unsafe fn embedding<'a, T: Transport>(
    vdev: *mut bindings::virtio_device,
) -> (&'a T, &'a Device) {
    // SAFETY: By the contract.
    unsafe {
        (
            &(*vdev.cast::<Embedding<T>>()).transport,
            Device::from_raw(vdev),
        )
    }
}

/// The transport of a device.  Any context.
///
/// # Safety
///
/// `vdev` is registered by a [`Registration`] of `T`, or was, and is alive.
pub unsafe fn of<'a, T: Transport>(vdev: *mut bindings::virtio_device) -> &'a T {
    // SAFETY: By the contract.
    unsafe { embedding(vdev) }.0
}

impl<T: Transport> Ops<T> {
    const TABLE: &'static bindings::virtio_config_ops = &bindings::virtio_config_ops {
        get: Some(Self::get),
        set: Some(Self::set),
        generation: Some(Self::generation),
        get_status: Some(Self::get_status),
        set_status: Some(Self::set_status),
        reset: Some(Self::reset),
        find_vqs: Some(Self::find_vqs),
        del_vqs: Some(Self::del_vqs),
        synchronize_cbs: Some(Self::synchronize_cbs),
        get_features: Some(Self::get_features),
        get_extended_features: Some(Self::get_extended_features),
        finalize_features: Some(Self::finalize_features),
        bus_name: Some(Self::bus_name),
        set_vq_affinity: Some(Self::set_vq_affinity),
        get_vq_affinity: Some(Self::get_vq_affinity),
        get_shm_region: Some(Self::get_shm_region),
        disable_vq_and_reset: Some(Self::disable_vq_and_reset),
        enable_vq_after_reset: Some(Self::enable_vq_after_reset),
    };

    extern "C" fn get(
        vdev: *mut bindings::virtio_device,
        offset: c_uint,
        buf: *mut c_void,
        len: c_uint,
    ) {
        // SAFETY: The table belongs to embeddings of `T`; callers give `len` writable bytes.
        let ((transport, _), bytes) = unsafe {
            ptr::write_bytes(buf.cast::<u8>(), 0, len as usize);
            (
                embedding::<T>(vdev),
                core::slice::from_raw_parts_mut(buf.cast::<u8>(), len as usize),
            )
        };
        transport.read_config(offset, bytes);
    }

    extern "C" fn set(
        vdev: *mut bindings::virtio_device,
        offset: c_uint,
        buf: *const c_void,
        len: c_uint,
    ) {
        // SAFETY: The table belongs to embeddings of `T`; callers give `len` readable bytes.
        let ((transport, _), bytes) = unsafe {
            (
                embedding::<T>(vdev),
                core::slice::from_raw_parts(buf.cast::<u8>(), len as usize),
            )
        };
        transport.write_config(offset, bytes);
    }

    extern "C" fn generation(vdev: *mut bindings::virtio_device) -> u32 {
        // SAFETY: The table belongs to embeddings of `T`.
        unsafe { embedding::<T>(vdev) }.0.generation()
    }

    extern "C" fn get_status(vdev: *mut bindings::virtio_device) -> u8 {
        // SAFETY: The table belongs to embeddings of `T`.
        unsafe { embedding::<T>(vdev) }.0.status().bits()
    }

    extern "C" fn set_status(vdev: *mut bindings::virtio_device, status: u8) {
        // SAFETY: The table belongs to embeddings of `T`.
        let (transport, dev) = unsafe { embedding::<T>(vdev) };
        if status == 0 {
            dev_err!(dev.as_device(), "status 0 is a reset: not written\n");
            return;
        }
        transport.set_status(Status::from_bits(status));
    }

    extern "C" fn reset(vdev: *mut bindings::virtio_device) {
        // SAFETY: The table belongs to embeddings of `T`.
        let (transport, dev) = unsafe { embedding::<T>(vdev) };
        // Callers look at the status.
        let _ = transport.reset(dev);
    }

    extern "C" fn find_vqs(
        vdev: *mut bindings::virtio_device,
        count: c_uint,
        vqs: *mut *mut bindings::virtqueue,
        infos: *mut bindings::virtqueue_info,
        affinity: *mut bindings::irq_affinity,
    ) -> c_int {
        from_result(|| {
            // SAFETY: The table belongs to embeddings of `T`.
            let (transport, dev) = unsafe { embedding::<T>(vdev) };
            let mut requests = KVec::with_capacity(count as usize, GFP_KERNEL)?;
            for i in 0..count as usize {
                // SAFETY: Both arrays have `count` elements, by the callers' contract.
                let (info, slot) = unsafe { (&*infos.add(i), &mut *vqs.add(i)) };
                *slot = ptr::null_mut();
                requests.push(QueueRequest { info, slot }, GFP_KERNEL)?;
            }
            transport.find_queues(dev, &mut requests, NonNull::new(affinity))?;
            Ok(0)
        })
    }

    extern "C" fn del_vqs(vdev: *mut bindings::virtio_device) {
        // SAFETY: The table belongs to embeddings of `T`.
        let (transport, dev) = unsafe { embedding::<T>(vdev) };
        transport.delete_queues(dev);
    }

    extern "C" fn synchronize_cbs(vdev: *mut bindings::virtio_device) {
        // SAFETY: The table belongs to embeddings of `T`.
        unsafe { embedding::<T>(vdev) }.0.synchronize_callbacks();
    }

    extern "C" fn get_features(vdev: *mut bindings::virtio_device) -> u64 {
        // SAFETY: The table belongs to embeddings of `T`.
        unsafe { embedding::<T>(vdev) }.0.features().to_u64s()[0]
    }

    extern "C" fn get_extended_features(vdev: *mut bindings::virtio_device, features: *mut u64) {
        // SAFETY: The table belongs to embeddings of `T`; callers give room for all words.
        unsafe {
            let words = embedding::<T>(vdev).0.features().to_u64s();
            ptr::copy_nonoverlapping(words.as_ptr(), features, words.len());
        }
    }

    extern "C" fn finalize_features(vdev: *mut bindings::virtio_device) -> c_int {
        from_result(|| {
            // SAFETY: The table belongs to embeddings of `T`.
            let (transport, dev) = unsafe { embedding::<T>(vdev) };
            dev.set_features(transport.finalize_features(dev, dev.features())?);
            Ok(0)
        })
    }

    extern "C" fn bus_name(vdev: *mut bindings::virtio_device) -> *const c_char {
        // SAFETY: The table belongs to embeddings of `T`.
        unsafe { embedding::<T>(vdev) }.0.bus_name()
    }

    extern "C" fn disable_vq_and_reset(vq: *mut bindings::virtqueue) -> c_int {
        from_result(|| {
            // SAFETY: Callers pass a queue of such a device.
            let (index, (transport, dev)) = unsafe { ((*vq).index, embedding::<T>((*vq).vdev)) };
            transport.reset_queue(dev, index)?;
            Ok(0)
        })
    }

    extern "C" fn enable_vq_after_reset(vq: *mut bindings::virtqueue) -> c_int {
        from_result(|| {
            // SAFETY: Callers pass a queue of such a device.
            let (index, (transport, dev)) = unsafe { ((*vq).index, embedding::<T>((*vq).vdev)) };
            transport.enable_queue_after_reset(dev, index)?;
            Ok(0)
        })
    }

    extern "C" fn set_vq_affinity(
        vq: *mut bindings::virtqueue,
        mask: *const bindings::cpumask,
    ) -> c_int {
        from_result(|| {
            // SAFETY: Callers pass a queue of such a device.
            let (index, (transport, _)) = unsafe { ((*vq).index, embedding::<T>((*vq).vdev)) };
            transport.set_queue_affinity(index, mask)?;
            Ok(0)
        })
    }

    extern "C" fn get_vq_affinity(
        vdev: *mut bindings::virtio_device,
        index: c_int,
    ) -> *const bindings::cpumask {
        // SAFETY: The table belongs to embeddings of `T`.
        unsafe { embedding::<T>(vdev) }
            .0
            .queue_affinity(index as u32)
    }

    extern "C" fn get_shm_region(
        vdev: *mut bindings::virtio_device,
        region: *mut bindings::virtio_shm_region,
        id: u8,
    ) -> bool {
        // SAFETY: The table belongs to embeddings of `T`.
        match unsafe { embedding::<T>(vdev) }.0.shared_memory(id) {
            Some((addr, len)) => {
                // SAFETY: Callers pass a writable region.
                unsafe { *region = bindings::virtio_shm_region { addr, len } };
                true
            }
            None => false,
        }
    }
}
