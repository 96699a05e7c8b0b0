// SPDX-License-Identifier: GPL-2.0

//! One virtqueue of the kernel: found again from its C pointer, used, and deleted.
//!
//! C source: `vring_del_virtqueue`, `vring_interrupt` and the queue operations in
//! `drivers/virtio/virtio_ring.c`.

mod create;

pub use create::{
    create,
    Params, //
};
pub(crate) use create::{
    create_in_place,
    create_mapped, //
};

use crate::{
    add::TableInFlight,
    body::{
        Area,
        Body,
        KernelRing, //
    },
    counters::{
        Counters,
        Interrupts, //
    },
    mapper::Mapper,
    memory::Memory,
    scatter,
    trace, //
};
use core::{
    cell::UnsafeCell,
    ptr::NonNull, //
};
use kernel::{
    device,
    ffi::{
        c_uint,
        c_void, //
    },
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Refcount, //
    },
    types::Opaque, //
};
use virtio_bindings as bindings;
use virtio_spec::{
    transport,
    Features, //
};
use virtqueue::{
    Config,
    Direction,
    Observer,
    QueueSize,
    RingError,
    Segment,
    Shared, //
};

/// What a buffer carries while it is in flight.
pub struct Token {
    /// The caller's buffer.
    pub data: NonNull<c_void>,
    /// The caller's context, or null.
    pub context: *mut c_void,
    /// The caller mapped the segments, and will unmap them.
    pub premapped: bool,
    /// The indirect table of this buffer, if it has one of its own.
    pub(crate) table: Option<TableInFlight>,
}

// SAFETY: Whoever hands a buffer over agrees to have it back on another CPU.
unsafe impl Send for Token {}

impl Token {
    /// A buffer without context, whose segments were mapped with the queue's [`Mapper`] and are
    /// unmapped when it comes back.
    pub fn mapped(data: NonNull<c_void>) -> Self {
        Self {
            data,
            context: core::ptr::null_mut(),
            premapped: false,
            table: None,
        }
    }
}

/// A virtqueue.
///
/// # Invariants
///
/// - `vq` is first, so that a pointer to it is a pointer to this;
/// - the ring is used by one caller at a time: C's contract of `struct virtqueue`, and exclusive
///   borrows in Rust.  What needs no serialisation goes through the observer;
/// - `body` is replaced only while the device and all callers leave the queue alone.
#[repr(C)]
pub struct Vring {
    vq: Opaque<bindings::virtqueue>,
    pub(crate) counters: Counters,
    body: UnsafeCell<Body>,
    mapper: Mapper,
    pub(crate) notify: unsafe extern "C" fn(*mut bindings::virtqueue) -> bool,
    pub(crate) indirect: bool,
    config: Config,
    align: u32,
    weak_barriers: bool,
    may_reduce: bool,
    /// The transport, and each handle of a driver.
    refs: Refcount,
    /// There was a handle: someone may be notifying under RCU.
    handled: Atomic<bool>,
    /// The device may still own ring and buffers: they are never freed.
    condemned: Atomic<bool>,
    reported: Atomic<bool>,
    /// The device is ready: it may be notified.
    started: Atomic<bool>,
    /// Outlives every body: looked at by those who do not serialise with a resize.
    shared: Arc<Shared>,
    /// Frees a buffer that comes back unused; set by the typed handle.
    release: UnsafeCell<Option<unsafe fn(Token)>>,
    /// What a typed handle shares with the device beside the ring.
    pub(crate) arena: UnsafeCell<KVec<Area>>,
    /// The number of descriptors; a copy for those who do not serialise with a resize.
    size: Atomic<u32>,
    pub(crate) interrupts: Interrupts,
}

// SAFETY: See the invariants: `ring` has one user at a time; all else is constant or atomic.
unsafe impl Send for Vring {}
// SAFETY: As above.
unsafe impl Sync for Vring {}

/// Where the device finds the areas of a ring.
pub struct Addresses {
    /// Descriptor table or descriptor ring.
    pub desc: u64,
    /// Available ring or driver event area.
    pub driver: u64,
    /// Used ring or device event area.
    pub device: u64,
}

impl Vring {
    /// Wraps a C pointer.
    ///
    /// # Safety
    ///
    /// `vq` was made by [`create`], and is not freed during `'a`.
    #[inline]
    pub unsafe fn from_raw<'a>(vq: *const bindings::virtqueue) -> &'a Self {
        // SAFETY: By the contract and the type invariants.
        unsafe { &*vq.cast() }
    }

    /// Returns the C structure.
    #[inline]
    pub fn as_raw(&self) -> *mut bindings::virtqueue {
        self.vq.get()
    }

    /// The ring.
    ///
    /// # Safety
    ///
    /// Nobody else uses it meanwhile.
    #[inline]
    #[expect(clippy::mut_from_ref, reason = "exclusivity is the contract")]
    pub(crate) unsafe fn ring(&self) -> &mut KernelRing {
        // SAFETY: By the contract.
        unsafe { &mut *self.body().ring.get() }
    }

    #[inline]
    fn body(&self) -> &Body {
        // SAFETY: By the type invariants, not replaced meanwhile.
        unsafe { &*self.body.get() }
    }

    /// What may be done without serialisation: look for used buffers, disable callbacks, break.
    #[inline]
    pub fn observer(&self) -> &Observer<&'static Memory> {
        &self.body().observer
    }

    /// How buffers are mapped.
    #[inline]
    pub fn mapper(&self) -> &Mapper {
        &self.mapper
    }

    /// Whether the ring is packed.
    pub(crate) fn is_packed(&self) -> bool {
        self.config.layout.is_packed()
    }

    pub(crate) fn as_device(&self) -> &device::Device {
        // SAFETY: The device outlives its queues.
        unsafe { device::Device::from_raw(&raw mut (*(*self.as_raw()).vdev).dev) }
    }

    /// Where C drivers look for the number of free descriptors.
    #[inline]
    fn num_free_word(&self) -> &Atomic<u32> {
        // SAFETY: Aligned and alive; C only reads it.
        unsafe { Atomic::from_ptr(&raw mut (*self.as_raw()).num_free) }
    }

    /// Copies the number of free descriptors to where C drivers look.
    #[inline]
    pub(crate) fn sync_num_free(&self, ring: &KernelRing) {
        self.num_free_word()
            .store(c_uint::from(ring.num_free()), Relaxed);
    }

    /// The number of free descriptors after the last operation.
    #[inline]
    pub fn num_free(&self) -> u32 {
        self.num_free_word().load(Relaxed)
    }

    /// Whether the device interrupts once for what the ring says, and not again before it says more.
    pub fn has_event_idx(&self) -> bool {
        self.config.features.event_idx
    }

    /// The number of the queue.
    pub(crate) fn index(&self) -> u32 {
        // SAFETY: Constant.
        unsafe { (*self.as_raw()).index }
    }

    /// The name that the driver gave the queue.
    pub(crate) fn name(&self) -> Option<&CStr> {
        // SAFETY: Constant, and outlives the queue: `Params`.
        unsafe {
            let name = (*self.as_raw()).name;
            (!name.is_null()).then(|| CStr::from_char_ptr(name))
        }
    }

    /// What the ring was made from; the size may have changed since.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Says what the device did, once.
    #[cold]
    pub(crate) fn report(&self, error: RingError) {
        if self.reported.load(Relaxed) {
            return;
        }
        self.reported.store(true, Relaxed);
        dev_err!(
            self.as_device(),
            "virtqueue {}: {}: broken\n",
            self.index(),
            core::format_args!("{error}")
        );
    }

    /// Undoes the mappings of a buffer that came back.
    ///
    /// # Safety
    ///
    /// The device does not own the segment any more.
    #[inline]
    pub(crate) unsafe fn unmap_segment(&self, token: &Token, segment: Segment, dir: Direction) {
        if token.premapped && token.table.is_none() {
            return;
        }
        // SAFETY: By the contract; not premapped, so mapped by us.
        unsafe { self.mapper.unmap(segment.addr, segment.len as usize, dir) };
    }

    /// Takes the next used buffer: its token and the bytes written to it.
    ///
    /// # Safety
    ///
    /// Nobody else uses the ring meanwhile.
    #[inline]
    pub unsafe fn get(&self) -> Option<(Token, u32)> {
        // SAFETY: By the contract.
        let ring = unsafe { self.ring() };
        let result = if self.mapper.uses_api() {
            ring.poll_with(|token, segment, dir| {
                // SAFETY: The device gave the buffer back.
                unsafe { self.unmap_segment(token, segment, dir) }
            })
        } else {
            // Nothing was mapped: no walk over the segments.
            ring.poll()
        };
        self.sync_num_free(ring);
        match result {
            Ok(Some(used)) => {
                let mut token = used.payload;
                if let Some(table) = token.table.take() {
                    // SAFETY: The device gave the buffer back, and its table with it.
                    unsafe { table.into_table().free(self, token.premapped) };
                }
                self.counters.used.count();
                trace::got(self, token.data, used.written);
                Some((token, used.written))
            }
            Ok(None) => None,
            Err(error) => {
                self.report(error);
                None
            }
        }
    }

    /// Takes back a buffer that the device has not used.
    ///
    /// # Safety
    ///
    /// The device was reset (or this queue), and nobody else uses the ring meanwhile.
    pub unsafe fn detach(&self) -> Option<Token> {
        // SAFETY: By the contract.
        let ring = unsafe { self.ring() };
        let token = ring.drain_with(|token, segment, dir| {
            // SAFETY: By the contract, the device does not own the buffer any more.
            unsafe { self.unmap_segment(token, segment, dir) }
        });
        self.sync_num_free(ring);
        token.map(|mut token| {
            if let Some(table) = token.table.take() {
                // SAFETY: As above.
                unsafe { table.into_table().free(self, token.premapped) };
            }
            token
        })
    }

    /// Asks for interrupts again, and looks for what was used meanwhile (C:
    /// `virtqueue_enable_cb`).
    ///
    /// # Safety
    ///
    /// Nobody else uses the ring meanwhile.
    #[inline]
    pub unsafe fn enable_callbacks(&self) -> virtqueue::CbState {
        // SAFETY: By the contract.
        unsafe { self.ring() }.enable_cb()
    }

    /// Notifies the device, unless the queue is broken.  Need not be serialised.
    ///
    /// Returns whether the device can have heard it.
    #[inline]
    pub fn notify(&self) -> bool {
        if self.shared.is_broken() {
            return false;
        }
        // SAFETY: The transport's function, on a queue that it has not deleted: `delete` breaks
        // the queue first, and waits for those who saw it whole.
        if unsafe { (self.notify)(self.as_raw()) } {
            return true;
        }
        self.shared.break_ring();
        false
    }

    /// What needs no serialisation, not even with a resize.
    #[inline]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The device is ready to be notified.
    pub fn start(&self) {
        self.started.store(true, Relaxed);
    }

    /// Whether the device is ready to be notified.
    #[inline]
    pub fn is_started(&self) -> bool {
        self.started.load(Relaxed)
    }

    /// Marks ring and buffers as still owned by a device that did not acknowledge its reset:
    /// from now on nothing of them is freed.
    pub fn condemn(&self) {
        self.condemned.store(true, Relaxed);
        self.shared.break_ring();
    }

    /// Sets how a buffer that comes back unused is freed.
    ///
    /// # Safety
    ///
    /// All buffers of this queue can be freed so; nobody else uses the queue meanwhile.
    pub unsafe fn set_release(&self, release: unsafe fn(Token)) {
        // SAFETY: By the contract.
        unsafe { *self.release.get() = Some(release) };
    }

    /// Takes a reference for a handle.
    pub fn get_ref(&self) {
        self.handled.store(true, Relaxed);
        self.refs.inc();
    }

    /// Drops a reference.
    ///
    /// # Safety
    ///
    /// It is the caller's; `this` is not used afterwards.
    pub unsafe fn put_ref(this: NonNull<Self>) {
        // SAFETY: By the contract, alive.
        if unsafe { this.as_ref() }.refs.dec_and_test() {
            // SAFETY: The last reference; allocated by `create`.
            unsafe { Self::free(KBox::from_raw(this.as_ptr())) };
        }
    }

    /// # Safety
    ///
    /// The last reference is gone.
    unsafe fn free(this: KBox<Self>) {
        if this.condemned.load(Relaxed) {
            // The device may write to all of it.
            let leaked = KBox::into_raw(this);
            // SAFETY: Allocated, and never freed: leaked on purpose.
            unsafe { bindings::virtio_kmemleak_not_leak(leaked.cast()) };
            return;
        }
        let this = KBox::into_inner(this);
        // SAFETY: By the contract, and not condemned.
        unsafe { scatter::free(&this.arena.into_inner(), &this.mapper) };
        this.body.into_inner().free(&this.mapper);
    }

    /// The number of descriptors.  Any context.
    pub(crate) fn size(&self) -> u32 {
        self.size.load(Relaxed)
    }

    /// What `virtqueue_get_vring` shows.
    pub(crate) fn view(&self) -> *const bindings::vring {
        &raw const self.body().view
    }

    /// Whether the ring's memory is ours.
    pub(crate) fn owns_memory(&self) -> bool {
        !self.body().areas.is_empty()
    }

    /// Makes the ring as new, after its queue was reset and its buffers were taken back.
    ///
    /// # Safety
    ///
    /// The device and all callers leave the queue alone.
    ///
    /// # Errors
    ///
    /// `EBUSY` if buffers are left.
    pub(crate) unsafe fn reinit(&self) -> Result {
        // SAFETY: By the contract.
        let ring = unsafe { self.ring() };
        ring.reset().map_err(|_| EBUSY)?;
        self.sync_num_free(ring);
        Ok(())
    }

    /// Replaces the ring by one of `size` descriptors; keeps the old one if there is no memory.
    ///
    /// # Safety
    ///
    /// As [`Vring::reinit`]; no buffers are left.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a size that no ring can have, `ENOMEM`.
    pub(crate) unsafe fn resize(&self, size: u32) -> Result {
        let mut config = self.config;
        config.size = QueueSize::new(size).ok_or(EINVAL)?;
        let body = Body::allocate(
            &self.mapper,
            config,
            self.align,
            self.weak_barriers,
            self.may_reduce,
            self.shared.clone(),
        )?;
        // SAFETY: By the contract, nobody looks at the old body: who does not serialise looks at
        // `shared`, which stays.
        let old = unsafe { core::ptr::replace(self.body.get(), body) };
        old.free(&self.mapper);
        self.size.store(u32::from(self.body().size()), Relaxed);
        // SAFETY: By the contract.
        self.sync_num_free(unsafe { self.ring() });
        Ok(())
    }
}

/// The transport features that the ring knows (C: `vring_transport_features`).
pub fn accepted_transport_features(offered: Features) -> Features {
    offered.intersection(transport::ring_features(Features::EMPTY))
}

/// Deletes a virtqueue (C: `vring_del_virtqueue`).  May sleep.
///
/// The ring memory goes with the last reference, or never if the queue was condemned.
///
/// # Safety
///
/// `vq` was made by [`create`]; the transport does not use it afterwards; the device was reset, or
/// the queue condemned.
pub unsafe fn delete(vq: NonNull<bindings::virtqueue>) {
    // SAFETY: By the contract.
    let vring = unsafe { Vring::from_raw(vq.as_ptr()) };
    // SAFETY: On the list since `create`.
    unsafe {
        let lock = &raw mut (*(*vq.as_ptr()).vdev).vqs_list_lock;
        let flags = bindings::virtio_spin_lock_irqsave(lock);
        bindings::virtio_list_del(&raw mut (*vq.as_ptr()).list);
        bindings::virtio_spin_unlock_irqrestore(lock, flags);
    }
    vring.shared.break_ring();
    if vring.handled.load(Relaxed) {
        // Whoever saw the queue whole may still be notifying.
        // SAFETY: May sleep, by the contract.
        unsafe { bindings::synchronize_rcu_expedited() };
    }
    if vring.refs.as_atomic().load(Relaxed) > 1 {
        // When the handle goes, the device, which freeing needs, may be gone.
        vring.condemn();
    }
    // SAFETY: The transport's reference.
    unsafe { Vring::put_ref(NonNull::from(vring)) };
}

/// Deletes a virtqueue whose device did not acknowledge its reset: its memory is never freed.
///
/// # Safety
///
/// As [`delete`], but for the reset.
pub unsafe fn leak(vq: NonNull<bindings::virtqueue>) {
    // SAFETY: By the contract; condemned first.
    unsafe {
        Vring::from_raw(vq.as_ptr()).condemn();
        delete(vq);
    }
}

/// Frees the buffers that the device has not used, of a queue whose typed handle is gone.  If it is
/// not, whoever has it may be using the queue: then they are leaked.  May sleep.
///
/// # Safety
///
/// The device was reset; but for a typed handle, nobody uses the queue.
pub unsafe fn drain(vq: NonNull<bindings::virtqueue>) {
    // SAFETY: By the contract.
    unsafe {
        let vring = Vring::from_raw(vq.as_ptr());
        if vring.refs.as_atomic().load(Relaxed) > 1 {
            vring.condemn();
            return;
        }
        if let Some(release) = *vring.release.get() {
            while let Some(token) = vring.detach() {
                release(token);
            }
        }
    }
}

/// Runs `f` on every queue of the device, with the list locked and interrupts off.
///
/// # Safety
///
/// `vdev` is registered.
pub unsafe fn for_each(vdev: *mut bindings::virtio_device, mut f: impl FnMut(&Vring)) {
    // SAFETY: By the contract; the list holds our queues, whose `list` is their first field.
    unsafe {
        let lock = &raw mut (*vdev).vqs_list_lock;
        let flags = bindings::virtio_spin_lock_irqsave(lock);
        let head = &raw mut (*vdev).vqs;
        let mut entry = (*head).next;
        while !core::ptr::eq(entry, head) {
            f(Vring::from_raw(entry.cast()));
            entry = (*entry).next;
        }
        bindings::virtio_spin_unlock_irqrestore(lock, flags);
    }
}

/// Where the device finds the ring.
///
/// # Safety
///
/// `vq` was made by [`create`].
pub unsafe fn addresses(vq: NonNull<bindings::virtqueue>) -> Addresses {
    // SAFETY: By the contract.
    let vring = unsafe { Vring::from_raw(vq.as_ptr()) };
    match vring.body().areas.as_slice() {
        [desc, driver, device] => Addresses {
            desc: desc.address,
            driver: driver.address,
            device: device.address,
        },
        areas => {
            let view = &vring.body().view;
            let start = areas.first().map_or(0, |area| area.address);
            let offset = |to: usize| start + to.wrapping_sub(view.desc.addr()) as u64;
            Addresses {
                desc: start,
                driver: offset(view.avail.addr()),
                device: offset(view.used.addr()),
            }
        }
    }
}

/// The number of descriptors.
///
/// # Safety
///
/// `vq` was made by [`create`].
pub unsafe fn size(vq: NonNull<bindings::virtqueue>) -> u32 {
    // SAFETY: By the contract.
    unsafe { Vring::from_raw(vq.as_ptr()) }.size()
}

/// Handles the queue's interrupt (C: `vring_interrupt`).  Interrupt context.
///
/// Returns whether it was this queue's.
///
/// # Safety
///
/// `vq` was made by [`create`] and is not deleted meanwhile.
pub unsafe fn interrupt(vq: NonNull<bindings::virtqueue>) -> bool {
    // SAFETY: By the contract.
    let vring = unsafe { Vring::from_raw(vq.as_ptr()) };
    let handled = vring.observer().more_used();
    trace::interrupted(vring, handled);
    if !handled {
        return false;
    }
    vring.interrupts.0.count();
    if vring.observer().is_broken() {
        return true;
    }
    vring.observer().note_interrupt();
    // SAFETY: The callback is the queue's, and constant.
    unsafe {
        if let Some(callback) = (*vq.as_ptr()).callback {
            callback(vq.as_ptr());
        }
    }
    true
}

/// What VIRTIO_F_NOTIFICATION_DATA writes to the notification register (specification 2.9; C:
/// `vring_notification_data`).
///
/// # Safety
///
/// `vq` was made by [`create`].  Racing with an add gives the value before or after it.
pub unsafe fn notification_data(vq: NonNull<bindings::virtqueue>) -> u32 {
    // SAFETY: By the contract; the index is constant.
    let (vring, index) = unsafe { (Vring::from_raw(vq.as_ptr()), (*vq.as_ptr()).index) };
    u32::from(vring.shared().next_avail()) << 16 | index
}
