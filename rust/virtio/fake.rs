// SPDX-License-Identifier: GPL-2.0

//! A device that does what a test tells it, and a transport to reach it: for KUnit only.
//!
//! The device is on the real bus, with real rings.  Nothing of it runs by itself: the test is the
//! device, and its interrupts are calls of [`FakeDevice::interrupt`].

mod log;
mod requests;

use crate::{
    buffer::Buffer,
    commands::CommandQueue,
    device::{
        Device,
        ResetFailed, //
    },
    lifecycle,
    packets::PacketQueue,
    requests::RequestQueue,
    transport::{
        self,
        QueueRequest,
        Transport, //
    }, //
};
use core::{
    num::NonZeroU32,
    ptr::NonNull, //
};
use kernel::{
    ffi::{
        c_char,
        c_void, //
    },
    interrupt::local_interrupt_disable,
    new_mutex,
    new_spinlock,
    prelude::*,
    sync::{
        Arc,
        Mutex,
        SpinLock, //
    }, //
};
use virtio_bindings as bindings;
use virtio_ring::Params;
use virtio_spec::{
    transport::Version1,
    Features,
    Status, //
};

pub(crate) use log::{
    wait_until,
    Count,
    DriverLog, //
};
pub(crate) use requests::{
    DataPacket,
    DataRequest,
    PIECE, //
};

/// Descriptors of every queue, unless a test wants others.
pub(crate) const QUEUE_SIZE: u16 = 8;

/// Queues that the device can have.
const QUEUES: usize = 2;

/// Events that are remembered; what comes later is counted only.
const LOG_LEN: usize = 64;

/// What the device saw of its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The status field was written.
    Status(u8),
    /// A reset was asked for.
    Reset,
    /// The agreed features were written.
    Features(Features),
    /// That many queues were asked for.
    FindQueues(usize),
    /// The queues were deleted.
    DeleteQueues,
}

/// What the device does when DRIVER_OK is written, before it shows it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Early {
    Nothing,
    /// Uses a buffer, and interrupts.
    UseBuffer,
    /// Needs a reset, and interrupts.
    NeedReset,
}

/// What the device does when it is told to suspend, or to resume.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Obedience {
    /// What it is told.
    Obeys,
    /// Nothing.
    Ignores,
    /// Needs a reset.
    Fails,
}

/// The script.
#[derive(Clone, Copy)]
pub(crate) struct Behaviour {
    pub(crate) features: Features,
    /// Offered from the next acknowledged reset on.
    pub(crate) features_after_reset: Option<Features>,
    /// Every register reads as all ones.
    pub(crate) gone: bool,
    /// The status field does not change but by a reset.
    pub(crate) status_sticks: bool,
    /// FEATURES_OK is not taken.
    pub(crate) refuses_features: bool,
    /// A reset is never acknowledged.
    pub(crate) never_resets: bool,
    /// The configuration generation differs on each read.
    pub(crate) generation_storm: bool,
    /// Device configuration, and how much of it there is.
    pub(crate) config: [u8; 16],
    pub(crate) config_len: usize,
    /// Descriptors of every queue.
    pub(crate) queue_size: u16,
    /// Queues cannot be made.
    pub(crate) find_queues: Result,
    /// Queues are not deleted: the transport is slow to free its interrupts.
    pub(crate) keeps_queues: bool,
    /// Notifications do not get through.
    pub(crate) deaf: bool,
    pub(crate) on_driver_ok: Early,
    pub(crate) on_suspend: Obedience,
    pub(crate) on_resume: Obedience,
    /// What comes of resetting a queue alone, and of starting it again.
    pub(crate) queue_reset: Result,
    pub(crate) queue_restart: Result,
}

impl Behaviour {
    /// An honest device of the current specification.
    pub(crate) const HONEST: Self = Self {
        features: Features::EMPTY.with::<Version1>(),
        features_after_reset: None,
        gone: false,
        status_sticks: false,
        refuses_features: false,
        never_resets: false,
        generation_storm: false,
        config: [0; 16],
        config_len: 16,
        queue_size: QUEUE_SIZE,
        find_queues: Ok(()),
        keeps_queues: false,
        deaf: false,
        on_driver_ok: Early::Nothing,
        on_suspend: Obedience::Obeys,
        on_resume: Obedience::Obeys,
        queue_reset: Err(ENOENT),
        queue_restart: Ok(()),
    };
}

/// A queue, and how far the device is in it.
struct Queue {
    vq: NonNull<bindings::virtqueue>,
    size: u16,
    next_avail: u16,
    next_used: u16,
}

// SAFETY: `virtio_ring` may be called for a queue on any CPU.
unsafe impl Send for Queue {}

struct State {
    behaviour: Behaviour,
    status: Status,
    generation: u32,
    config_reads: u32,
    /// A reset was not acknowledged, and none was since.
    quarantined: bool,
    queues: [Option<Queue>; QUEUES],
    log: KVec<Event>,
}

impl State {
    /// Does what is written to the status field of a device that sleeps, or is told to (specification
    /// 3.4.2).  Its driver must have agreed on it.
    fn sleep_or_wake(&mut self, written: Status) {
        let (obedience, gained, lost) = if !self.status.is_suspended() {
            (
                self.behaviour.on_suspend,
                Status::SUSPEND,
                Status::DRIVER_OK,
            )
        } else if written.contains(Status::DRIVER_OK) {
            (self.behaviour.on_resume, Status::DRIVER_OK, Status::SUSPEND)
        } else {
            self.status.insert(written);
            return;
        };
        match obedience {
            Obedience::Obeys => self.status = self.status.union(gained).difference(lost),
            Obedience::Ignores => {}
            Obedience::Fails => self.status.insert(Status::DEVICE_NEEDS_RESET),
        }
    }
}

/// The device.
#[pin_data]
pub(crate) struct FakeDevice {
    #[pin]
    state: SpinLock<State>,
    pub(crate) notifications: Count,
    pub(crate) driver: DriverLog,
    /// The queue of a driver that leaves it to the test.
    #[pin]
    pub(crate) requests: Mutex<Option<RequestQueue<DataRequest>>>,
    /// The same, of commands.
    #[pin]
    pub(crate) commands: Mutex<Option<Arc<CommandQueue>>>,
    #[pin]
    pub(crate) packets: Mutex<Option<PacketQueue<DataPacket>>>,
}

impl FakeDevice {
    /// Makes a device that follows `behaviour`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(behaviour: Behaviour) -> Result<Arc<Self>> {
        let log = KVec::with_capacity(LOG_LEN, GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Self {
                state <- new_spinlock!(State {
                    behaviour,
                    status: Status::RESET,
                    generation: 0,
                    config_reads: 0,
                    quarantined: false,
                    queues: [const { None }; QUEUES],
                    log,
                }),
                notifications: Count::new(),
                driver: DriverLog::new(),
                requests <- new_mutex!(None),
                commands <- new_mutex!(None),
                packets <- new_mutex!(None),
            }),
            GFP_KERNEL,
        )
    }

    /// The fake device behind `dev`.
    ///
    /// # Safety
    ///
    /// `dev` is a [`transport::Registration`] of [`FakeTransport`].
    pub(crate) unsafe fn behind(dev: &Device) -> &Arc<Self> {
        // SAFETY: By the contract.
        unsafe { &transport::embedding::<FakeTransport>(dev.as_raw()).0.device }
    }

    /// Changes the script.
    pub(crate) fn script(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.state.lock().behaviour);
    }

    /// What the device saw since the last call.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn take_log(&self) -> Result<KVec<Event>> {
        let fresh = KVec::with_capacity(LOG_LEN, GFP_KERNEL)?;
        Ok(core::mem::replace(&mut self.state.lock().log, fresh))
    }

    /// Reads of device configuration so far.
    pub(crate) fn config_reads(&self) -> u32 {
        self.state.lock().config_reads
    }

    /// The status field as the device has it.
    pub(crate) fn status(&self) -> u8 {
        self.state.lock().status.bits()
    }

    /// Sets bits of the status field, as the device.
    pub(crate) fn raise_status(&self, status: Status) {
        self.state.lock().status.insert(status);
    }

    /// Resets the device, without the driver having asked for it.
    pub(crate) fn lose_state(&self) {
        self.state.lock().status = Status::RESET;
    }

    /// Whether the queues exist.
    pub(crate) fn has_queues(&self) -> bool {
        self.state.lock().queues.iter().any(Option::is_some)
    }

    /// Breaks a queue, as a transport does.
    fn break_queue(&self, index: usize) {
        self.with_queue(index, |queue| {
            // SAFETY: The queue exists while the state is locked.
            unsafe { bindings::__virtqueue_break(queue.vq.as_ptr()) };
            true
        });
    }

    /// Uses the next available buffer of a queue, and says that `written` bytes were written to
    /// it.  No interrupt.  `false` if there is none.
    pub(crate) fn use_buffer(&self, index: usize, written: u32) -> bool {
        self.with_queue(index, |queue| {
            // SAFETY: The queue exists while the state is locked.
            unsafe {
                let Some(head) = queue.take_available() else {
                    return false;
                };
                queue.put_used(u32::from(head), written);
            }
            true
        })
    }

    /// How many chains the driver has made available so far, modulo 2^16; 0 if there is no such queue.
    pub(crate) fn available(&self, index: usize) -> u16 {
        let mut count = 0;
        self.with_queue(index, |queue| {
            // SAFETY: The queue exists while the state is locked.
            count = unsafe { (&raw const (*queue.ring().avail).idx).read_volatile() };
            true
        });
        u16::from_le(count)
    }

    /// Puts any element into the used ring.  No interrupt.  `false` if there is no such queue.
    pub(crate) fn put_used(&self, index: usize, id: u32, written: u32) -> bool {
        self.with_queue(index, |queue| {
            // SAFETY: The queue exists while the state is locked.
            unsafe { queue.put_used(id, written) };
            true
        })
    }

    fn with_queue(&self, index: usize, f: impl FnOnce(&mut Queue) -> bool) -> bool {
        let mut state = self.state.lock();
        state
            .queues
            .get_mut(index)
            .and_then(Option::as_mut)
            .is_some_and(f)
    }

    /// Interrupts for a queue, with interrupts off; whether it was the queue's.
    ///
    /// The test sees to it that nobody deletes the queue meanwhile.
    pub(crate) fn interrupt(&self, index: usize) -> bool {
        let vq = match self.state.lock().queues.get(index) {
            Some(Some(queue)) => queue.vq,
            _ => return false,
        };
        let _off = local_interrupt_disable();
        // SAFETY: Not deleted meanwhile, see above.
        unsafe { virtio_ring::interrupt(vq) }
    }

    /// Interrupts for a configuration change.
    pub(crate) fn config_interrupt(&self, dev: &Device) {
        let _off = local_interrupt_disable();
        lifecycle::config_changed(dev);
    }

    fn write_status(&self, status: Status) {
        let early = {
            let mut state = self.state.lock();
            let _ = state.log.push_within_capacity(Event::Status(status.bits()));
            let ready = status.difference(state.status).contains(Status::DRIVER_OK);
            if ready {
                state.behaviour.on_driver_ok
            } else {
                Early::Nothing
            }
        };
        match early {
            Early::Nothing => {}
            Early::UseBuffer => {
                // Of a driver that lends none, it uses one all the same.
                if !self.use_buffer(0, 1) {
                    self.put_used(0, 0, 1);
                }
                self.interrupt(0);
            }
            Early::NeedReset => {
                self.raise_status(Status::DEVICE_NEEDS_RESET);
                let queue = self.state.lock().queues.first().and_then(|queue| {
                    let queue = queue.as_ref()?;
                    Some(queue.vq)
                });
                if let Some(vq) = queue {
                    // SAFETY: DRIVER_OK is being written: nobody deletes the queue, whose device
                    // outlives it.
                    self.config_interrupt(unsafe { Device::from_raw((*vq.as_ptr()).vdev) });
                }
            }
        }
        let mut state = self.state.lock();
        if state.behaviour.status_sticks {
            return;
        }
        if state.status.is_suspended() || status.contains(Status::SUSPEND) {
            state.sleep_or_wake(status);
            return;
        }
        // A device keeps this one until it is reset.
        let needs_reset = state.status.contains(Status::DEVICE_NEEDS_RESET);
        state.status = if state.behaviour.refuses_features {
            status.difference(Status::FEATURES_OK)
        } else {
            status
        };
        if needs_reset {
            state.status.insert(Status::DEVICE_NEEDS_RESET);
        }
    }
}

impl Queue {
    fn ring(&self) -> &bindings::vring {
        // SAFETY: A split ring of `virtio_ring`, which has this view as long as it exists.
        unsafe { &*bindings::virtqueue_get_vring(self.vq.as_ptr()) }
    }

    /// The head of the next chain that the driver made available.
    ///
    /// # Safety
    ///
    /// The queue exists.
    unsafe fn take_available(&mut self) -> Option<u16> {
        let avail = self.ring().avail;
        let slot = usize::from(self.next_avail % self.size);
        // SAFETY: By the contract; the ring has `size` entries.
        let head = unsafe {
            if u16::from_le((&raw const (*avail).idx).read_volatile()) == self.next_avail {
                return None;
            }
            let entries = (&raw const (*avail).ring).cast::<u16>();
            u16::from_le(entries.add(slot).read_volatile())
        };
        self.next_avail = self.next_avail.wrapping_add(1);
        Some(head)
    }

    /// # Safety
    ///
    /// The queue exists.
    unsafe fn put_used(&mut self, id: u32, len: u32) {
        let used = self.ring().used;
        let slot = usize::from(self.next_used % self.size);
        self.next_used = self.next_used.wrapping_add(1);
        let element = bindings::vring_used_elem {
            id: id.to_le(),
            len: len.to_le(),
        };
        // SAFETY: By the contract; the ring has `size` entries.
        unsafe {
            let entries = (&raw mut (*used).ring).cast::<bindings::vring_used_elem>();
            entries.add(slot).write_volatile(element);
            bindings::virtio_wmb(true);
            (&raw mut (*used).idx).write_volatile(self.next_used.to_le());
        }
    }
}

/// The transport of a [`FakeDevice`].
pub(crate) struct FakeTransport {
    device: Arc<FakeDevice>,
}

impl FakeTransport {
    pub(crate) fn new(device: &Arc<FakeDevice>) -> Self {
        Self {
            device: device.clone(),
        }
    }

    fn record(&self, event: Event) {
        let _ = self.device.state.lock().log.push_within_capacity(event);
    }
}

impl Drop for FakeTransport {
    fn drop(&mut self) {
        self.device.driver.transport_dropped.add(1);
    }
}

impl Transport for FakeTransport {
    fn read_config(&self, offset: u32, bytes: &mut [u8]) {
        let mut state = self.device.state.lock();
        state.config_reads += 1;
        let behaviour = state.behaviour;
        let config = behaviour.config.iter().take(behaviour.config_len);
        for (to, from) in bytes.iter_mut().zip(config.skip(offset as usize)) {
            *to = *from;
        }
    }

    fn write_config(&self, offset: u32, bytes: &[u8]) {
        let mut state = self.device.state.lock();
        let len = state.behaviour.config_len;
        let config = state.behaviour.config.iter_mut().take(len);
        for (to, from) in config.skip(offset as usize).zip(bytes) {
            *to = *from;
        }
    }

    fn generation(&self) -> u32 {
        let mut state = self.device.state.lock();
        if state.behaviour.generation_storm {
            state.generation = state.generation.wrapping_add(1);
        }
        state.generation
    }

    fn status(&self) -> Status {
        let state = self.device.state.lock();
        if state.behaviour.gone {
            Status::from_bits(u8::MAX)
        } else {
            state.status
        }
    }

    fn set_status(&self, status: Status) {
        self.device.write_status(status);
    }

    fn reset(&self, _dev: &Device) -> Result<(), ResetFailed> {
        self.record(Event::Reset);
        let mut state = self.device.state.lock();
        if state.behaviour.never_resets || state.behaviour.gone {
            state.quarantined = true;
            let status = state.status;
            return Err(ResetFailed { status });
        }
        state.quarantined = false;
        state.status = Status::RESET;
        if let Some(features) = state.behaviour.features_after_reset.take() {
            state.behaviour.features = features;
        }
        Ok(())
    }

    fn features(&self) -> Features {
        self.device.state.lock().behaviour.features
    }

    fn finalize_features(&self, _dev: &Device, features: Features) -> Result<Features> {
        let accepted = virtio_ring::accepted_transport_features(features);
        self.record(Event::Features(accepted));
        Ok(accepted)
    }

    fn find_queues(
        &self,
        dev: &Device,
        requests: &mut [QueueRequest<'_>],
        _affinity: Option<NonNull<bindings::irq_affinity>>,
    ) -> Result {
        self.record(Event::FindQueues(requests.len()));
        let behaviour = self.device.state.lock().behaviour;
        behaviour.find_queues?;
        for (index, request) in requests.iter_mut().take(QUEUES).enumerate() {
            let params = Params {
                index: index as u32,
                size: behaviour.queue_size.into(),
                align: bindings::SMP_CACHE_BYTES,
                weak_barriers: true,
                may_reduce: false,
                context: request.has_context(),
                notify,
                callback: request.callback(),
                name: c"fake".as_char_ptr(),
            };
            // SAFETY: The features are agreed, and `self` is in the embedding of `dev`; `notify`
            // finds what it wants in `priv` before anybody can call it.
            let made = unsafe {
                virtio_ring::create(dev.as_raw(), &params).inspect(|vq| {
                    let device: *const FakeDevice = &*self.device;
                    (*vq.as_ptr()).priv_ = device.cast_mut().cast();
                })
            };
            let vq = made.inspect_err(|_| self.delete_queues(dev))?;
            request.provide(vq);
            if let Some(slot) = self.device.state.lock().queues.get_mut(index) {
                *slot = Some(Queue {
                    vq,
                    size: behaviour.queue_size,
                    next_avail: 0,
                    next_used: 0,
                });
            }
        }
        Ok(())
    }

    fn delete_queues(&self, _dev: &Device) {
        self.record(Event::DeleteQueues);
        let (queues, quarantined) = {
            let mut state = self.device.state.lock();
            if state.behaviour.keeps_queues {
                return;
            }
            let none = [const { None }; QUEUES];
            (
                core::mem::replace(&mut state.queues, none),
                state.quarantined,
            )
        };
        for queue in queues.into_iter().flatten() {
            // SAFETY: Made by `find_queues`; callers are done with it, and the device was reset if
            // it is not in quarantine.
            unsafe {
                if quarantined {
                    virtio_ring::leak(queue.vq);
                } else {
                    virtio_ring::delete(queue.vq);
                }
            }
        }
    }

    fn synchronize_callbacks(&self) {}

    fn reset_queue(&self, _dev: &Device, queue: u32) -> Result {
        let result = self.device.state.lock().behaviour.queue_reset;
        if result.is_err_and(|error| error != ENOENT) {
            self.device.break_queue(queue as usize);
        }
        result
    }

    fn enable_queue_after_reset(&self, _dev: &Device, queue: u32) -> Result {
        let result = self.device.state.lock().behaviour.queue_restart;
        if result.is_err() {
            self.device.break_queue(queue as usize);
        }
        self.device.with_queue(queue as usize, |queue| {
            // SAFETY: The queue exists while the state is locked.
            queue.size = unsafe { virtio_ring::size(queue.vq) } as u16;
            (queue.next_avail, queue.next_used) = (0, 0);
            true
        });
        result
    }

    fn bus_name(&self) -> *const c_char {
        c"fake".as_char_ptr()
    }
}

/// # Safety
///
/// `vq` was made by [`FakeTransport::find_queues`].
unsafe extern "C" fn notify(vq: *mut bindings::virtqueue) -> bool {
    // SAFETY: By the contract; the transport, which is there, keeps the device.
    let device = unsafe { &*(*vq).priv_.cast::<FakeDevice>() };
    device.notifications.add(1);
    !device.state.lock().behaviour.deaf
}

/// A buffer of 64 bytes that is counted while it is allocated.
pub(crate) struct Counted(KBox<Inner>);

#[repr(C, align(64))]
struct Inner {
    bytes: [u8; 64],
    device: Arc<FakeDevice>,
}

impl Counted {
    /// Makes a buffer that `device` counts.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(device: &Arc<FakeDevice>) -> Result<Self> {
        let inner = Inner {
            bytes: [0; 64],
            device: device.clone(),
        };
        let buffer = Self(KBox::new(inner, GFP_KERNEL)?);
        device.driver.buffers.add(1);
        Ok(buffer)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.device.driver.buffers.add(-1);
    }
}

// SAFETY: A `KBox` stays where it is; both conversions are its own.
unsafe impl Buffer for Counted {
    fn memory(&self) -> (NonNull<u8>, NonZeroU32) {
        (
            NonNull::from(&self.0.bytes).cast(),
            NonZeroU32::MIN.saturating_add(63),
        )
    }

    fn into_raw(self) -> NonNull<c_void> {
        NonNull::from(KBox::leak(self.0)).cast()
    }

    unsafe fn from_raw(raw: NonNull<c_void>) -> Self {
        // SAFETY: By the contract.
        Self(unsafe { KBox::from_raw(raw.as_ptr().cast()) })
    }
}
