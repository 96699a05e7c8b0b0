// SPDX-License-Identifier: GPL-2.0

//! Making a virtqueue.
//!
//! C source: `vring_create_virtqueue`, `vring_create_virtqueue_map` and `vring_new_virtqueue` in
//! `drivers/virtio/virtio_ring.c`.

use super::Vring;
use crate::{
    body::Body,
    counters::{
        Counters,
        Interrupts, //
    },
    mapper::{
        self,
        Mapper, //
    },
};
use core::{
    cell::UnsafeCell,
    ptr::NonNull, //
};
use kernel::{
    ffi::{
        c_char,
        c_uint, //
    },
    prelude::*,
    sync::{
        atomic::Atomic,
        Arc,
        Refcount, //
    },
    types::Opaque, //
};
use virtio_bindings as bindings;
use virtio_spec::{
    transport,
    DeviceType,
    Features, //
};
use virtqueue::{
    layout::{
        PackedLayout,
        SplitLayout, //
    },
    Config,
    Layout,
    LengthPolicy,
    QueueSize,
    Shared, //
};

/// What a transport asks for when it makes a queue.
pub struct Params {
    /// Number of the queue.
    pub index: u32,
    /// Number of descriptors, 1 to 32768.
    pub size: u32,
    /// Alignment of the used ring in bytes, a power of two.
    pub align: u32,
    /// The device is another CPU: `smp_*` barriers do.
    pub weak_barriers: bool,
    /// The queue may be made smaller if memory is short.
    pub may_reduce: bool,
    /// Buffers come with a context pointer: no indirect tables.
    pub context: bool,
    /// Notifies the device.
    pub notify: unsafe extern "C" fn(*mut bindings::virtqueue) -> bool,
    /// Told of used buffers; `None` for a queue without interrupts.
    pub callback: bindings::vq_callback_t,
    /// The queue's name; outlives the queue.
    pub name: *const c_char,
}

/// Types whose devices are known to report wrong used lengths: these are cut down, where for
/// others they break the queue.  All that we do not know well enough is among them; the balloon of
/// QEMU before 6.2 is.
fn length_policy(device: u32, features: &Features) -> LengthPolicy {
    const EXACT: [DeviceType; 3] = [DeviceType::NET, DeviceType::BLOCK, DeviceType::RNG];
    // What a legacy device says is to be ignored (specification 2.7.8.1).
    if features.has::<transport::Version1>() && EXACT.iter().any(|exact| exact.id() == device) {
        LengthPolicy::Reject
    } else {
        LengthPolicy::Clamp
    }
}

/// Makes a virtqueue, and puts it on the device's list (C: `vring_create_virtqueue`).  May sleep.
///
/// # Safety
///
/// - `vdev` is registered, its features are agreed, and it outlives the queue;
/// - `params.notify` and `params.callback` may be called with the queue while it exists.
///
/// # Errors
///
/// `EINVAL` for a size that no ring can have, `ENOMEM`.
pub unsafe fn create(
    vdev: *mut bindings::virtio_device,
    params: &Params,
) -> Result<NonNull<bindings::virtqueue>> {
    // SAFETY: By the contract.
    let token = unsafe { Mapper::default_token(vdev) };
    // SAFETY: As above.
    unsafe { create_mapped(vdev, params, token) }
}

/// As [`create`], with a mapping token of the queue's own (C: `vring_create_virtqueue_map`).
///
/// # Safety
///
/// As [`create`]; `token` is one of the device's, and outlives the queue.
///
/// # Errors
///
/// As [`create`].
pub(crate) unsafe fn create_mapped(
    vdev: *mut bindings::virtio_device,
    params: &Params,
    token: bindings::virtio_map,
) -> Result<NonNull<bindings::virtqueue>> {
    let vdev = NonNull::new(vdev).ok_or(EINVAL)?;
    // SAFETY: By the contract.
    let (features, mapper, device) = unsafe {
        (
            mapper::features(vdev.as_ptr()),
            Mapper::new(vdev, token),
            (*vdev.as_ptr()).id.device,
        )
    };
    let config = config(params, &features, device)?;
    let body = Body::allocate(
        &mapper,
        config,
        params.align,
        weak_barriers(params, &features),
        params.may_reduce,
        Arc::new(Shared::new(), GFP_KERNEL)?,
    )?;
    finish(vdev, params, mapper, config, body, &features)
}

/// As [`create`], in zeroed memory of the caller's (C: `vring_new_virtqueue`): a split ring as one
/// block, or a packed ring with its event areas behind the descriptors.
///
/// # Safety
///
/// As [`create`]; `pages` is large enough, aligned to a page, and outlives the queue.
///
/// # Errors
///
/// As [`create`].
pub(crate) unsafe fn create_in_place(
    vdev: *mut bindings::virtio_device,
    params: &Params,
    pages: NonNull<u8>,
) -> Result<NonNull<bindings::virtqueue>> {
    let vdev = NonNull::new(vdev).ok_or(EINVAL)?;
    // SAFETY: By the contract.
    let (features, mapper, device) = unsafe {
        (
            mapper::features(vdev.as_ptr()),
            Mapper::new(vdev, Mapper::default_token(vdev.as_ptr())),
            (*vdev.as_ptr()).id.device,
        )
    };
    let config = config(params, &features, device)?;
    let offsets = if config.layout.is_packed() {
        let layout = PackedLayout::new(config.size);
        [
            0,
            layout.desc_size,
            layout.desc_size + layout.driver_event_size,
        ]
    } else {
        let layout = SplitLayout::new(config.size, params.align as usize).ok_or(EINVAL)?;
        [0, layout.avail, layout.used]
    };
    // SAFETY: By the contract, the offsets lie inside.
    let body = unsafe {
        Body::on_memory(
            offsets.map(|offset| pages.add(offset)),
            &config,
            params.align,
            weak_barriers(params, &features),
            Arc::new(Shared::new(), GFP_KERNEL)?,
        )?
    };
    finish(vdev, params, mapper, config, body, &features)
}

/// Whether `smp_*` barriers do: the device is another CPU, and does not say that it is ordered as
/// the platform orders real devices (specification 6, VIRTIO_F_ORDER_PLATFORM).
fn weak_barriers(params: &Params, features: &Features) -> bool {
    params.weak_barriers && !features.has::<transport::OrderPlatform>()
}

fn config(params: &Params, features: &Features, device: u32) -> Result<Config> {
    Ok(Config {
        layout: Layout::from_features(
            features.has::<transport::RingPacked>(),
            features.has::<transport::InOrder>(),
        ),
        size: QueueSize::new(params.size).ok_or(EINVAL)?,
        features: virtqueue::Features {
            event_idx: features.has::<transport::EventIdx>(),
            // Callers' tables, see `add`.
            indirect: false,
        },
        callbacks: params.callback.is_some(),
        length_policy: length_policy(device, features),
    })
}

/// Puts the parts together, and the queue on its device's list.
fn finish(
    vdev: NonNull<bindings::virtio_device>,
    params: &Params,
    mapper: Mapper,
    config: Config,
    body: Body,
    features: &Features,
) -> Result<NonNull<bindings::virtqueue>> {
    let shared = body.shared();
    let Ok(room) = KBox::<Vring>::new_uninit(GFP_KERNEL) else {
        body.free(&mapper);
        return Err(ENOMEM);
    };
    let size = c_uint::from(body.size());
    // SAFETY: All zeroes are a valid `struct virtqueue` to start from.
    let mut vq: bindings::virtqueue = unsafe { core::mem::zeroed() };
    vq.callback = params.callback;
    vq.name = params.name;
    vq.vdev = vdev.as_ptr();
    vq.index = params.index;
    vq.num_free = size;
    vq.num_max = size;
    let vring = KBox::write(
        room,
        Vring {
            vq: Opaque::new(vq),
            counters: Counters::new(),
            body: UnsafeCell::new(body),
            mapper,
            notify: params.notify,
            indirect: features.has::<transport::IndirectDesc>() && !params.context,
            config,
            align: params.align,
            weak_barriers: weak_barriers(params, features),
            may_reduce: params.may_reduce,
            refs: Refcount::new(1),
            handled: Atomic::new(false),
            condemned: Atomic::new(false),
            reported: Atomic::new(false),
            started: Atomic::new(false),
            shared,
            release: UnsafeCell::new(None),
            arena: UnsafeCell::new(KVec::new()),
            size: Atomic::new(size),
            interrupts: Interrupts::new(),
        },
    );
    let vq = NonNull::from(KBox::leak(vring)).cast::<bindings::virtqueue>();
    // SAFETY: `create`'s contract: the device is registered; the queue was just made.
    unsafe {
        let lock = &raw mut (*vdev.as_ptr()).vqs_list_lock;
        let flags = bindings::virtio_spin_lock_irqsave(lock);
        bindings::virtio_list_add_tail(&raw mut (*vq.as_ptr()).list, &raw mut (*vdev.as_ptr()).vqs);
        bindings::virtio_spin_unlock_irqrestore(lock, flags);
    }
    Ok(vq)
}
