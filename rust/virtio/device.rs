// SPDX-License-Identifier: GPL-2.0

//! A virtio device, and the verbs of its transport.
//!
//! C header: [`include/linux/virtio_config.h`](srctree/include/linux/virtio_config.h)

use crate::{
    handle::Handle,
    ops::DriverOps, //
};
use core::{
    cell::Cell,
    ptr::NonNull, //
};
use kernel::{
    cpumask::Cpumask,
    device,
    error::to_result,
    interrupt::local_interrupt_disable,
    prelude::*,
    time::{
        delay::fsleep,
        Delta,
        Instant,
        Monotonic, //
    },
    types::Opaque, //
};
use virtio_bindings as bindings;
use virtio_ring::Vring;
use virtio_spec::{
    Features,
    Status, //
};

/// How often a config-space snapshot is tried again because the generation changed under it.
///
/// A device that changes its configuration on every read is broken or hostile (C tries for ever).
const GENERATION_RETRIES: u32 = 32;

/// How often the status is read until a reset is acknowledged, and for how long.
const RESET_POLL_INTERVAL: Delta = Delta::from_millis(1);
const RESET_DEADLINE: Delta = Delta::from_secs(1);

/// A virtio device: `struct virtio_device`.
///
/// # Invariants
///
/// The C structure is initialised, its `config` table is valid, and both outlive any reference.
#[repr(transparent)]
pub struct Device(Opaque<bindings::virtio_device>);

// SAFETY: What the methods touch is either constant after registration, or serialised by the
// device lock or by the transport.
unsafe impl Send for Device {}
// SAFETY: As above.
unsafe impl Sync for Device {}

/// The reset was not acknowledged: the device may still own every buffer and ring it was given.
#[derive(Debug)]
pub struct ResetFailed {
    /// The status that the device shows instead of 0.
    pub status: Status,
}

impl Device {
    /// Wraps a C pointer.
    ///
    /// # Safety
    ///
    /// - `ptr` points to an initialised `struct virtio_device` whose `config` is valid;
    /// - it stays so for `'a`.
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::virtio_device) -> &'a Self {
        // SAFETY: By the contract, `ptr` is valid for `'a`; `Device` is transparent.
        unsafe { &*ptr.cast() }
    }

    /// Returns the C structure.
    pub fn as_raw(&self) -> *mut bindings::virtio_device {
        self.0.get()
    }

    fn ops(&self) -> &bindings::virtio_config_ops {
        // SAFETY: By the type invariants, `config` points to a valid table.
        unsafe { &*(*self.as_raw()).config }
    }

    /// The driver core's device, for messages and for class devices' parents.
    pub fn as_device(&self) -> &device::Device {
        // SAFETY: By the type invariants, the embedded device is initialised and lives as long
        // as `self`.
        unsafe { device::Device::from_raw(&raw mut (*self.as_raw()).dev) }
    }

    /// The number N of `virtioN`.
    pub fn index(&self) -> i32 {
        // SAFETY: Constant after registration.
        unsafe { (*self.as_raw()).index }
    }

    /// Where the device is, as its transport says it (C: `virtio_bus_name`).
    pub fn bus_name(&self) -> &CStr {
        // SAFETY: By the type invariants, the device is initialised, and its transport says where it
        // is in a constant string.
        unsafe { CStr::from_char_ptr(bindings::virtio_bus_name(self.as_raw())) }
    }

    /// The device status field (specification 2.1).
    pub fn status(&self) -> Status {
        match self.ops().get_status {
            // SAFETY: By the type invariants, the callback belongs to this device.
            Some(get_status) => Status::from_bits(unsafe { get_status(self.as_raw()) }),
            None => Status::RESET,
        }
    }

    /// Writes the device status field.  May sleep.
    pub(crate) fn set_status(&self, status: Status) {
        if let Some(set_status) = self.ops().set_status {
            // SAFETY: By the type invariants, the callback belongs to this device.
            unsafe { set_status(self.as_raw(), status.bits()) };
        }
    }

    /// Sets bits of the device status field (C: `virtio_add_status`).  May sleep.
    pub fn add_status(&self, status: Status) {
        self.set_status(self.status().union(status));
    }

    /// Resets the device and reads back that it did (specification 2.4).  May sleep.
    ///
    /// # Errors
    ///
    /// [`ResetFailed`] if the status does not read 0 afterwards.  How long the transport waits is
    /// its own affair; ours has a deadline.
    pub fn reset(&self) -> Result<(), ResetFailed> {
        let begin = Instant::<Monotonic>::now();
        if let Some(reset) = self.ops().reset {
            // SAFETY: By the type invariants, the callback belongs to this device.
            unsafe { reset(self.as_raw()) };
        }
        // Some C transports only ask for the reset; ours has waited.
        let start = Instant::<Monotonic>::now();
        let mut status;
        loop {
            // The clock first: what is late because we did not run is not the device's fault.
            let expired = start.elapsed() >= RESET_DEADLINE;
            status = self.status();
            if status.is_reset() || status.is_all_ones() || expired {
                break;
            }
            fsleep(RESET_POLL_INTERVAL);
        }
        // SAFETY: By the type invariants, the device is initialised.
        unsafe { virtio_ring::device_reset(self.as_raw(), status.bits(), begin.elapsed()) };
        if status.is_reset() {
            Ok(())
        } else {
            Err(ResetFailed { status })
        }
    }

    /// The features that the device offers.
    pub fn offered_features(&self) -> Features {
        let ops = self.ops();
        let mut words = [0u64; bindings::VIRTIO_FEATURES_U64S as usize];
        if let Some(get) = ops.get_extended_features {
            // SAFETY: The callback writes VIRTIO_FEATURES_U64S words, as C does it.
            unsafe { get(self.as_raw(), words.as_mut_ptr()) };
        } else if let Some(get) = ops.get_features {
            // SAFETY: By the type invariants, the callback belongs to this device.
            words[0] = unsafe { get(self.as_raw()) };
        }
        Features::from_u64s(words)
    }

    /// The features that driver and device agreed on.
    pub fn features(&self) -> Features {
        // SAFETY: The array is changed only during negotiation, under the device lock.
        let words = unsafe { (*self.as_raw()).__bindgen_anon_1.features_array };
        Features::from_u64s(words)
    }

    /// Changes the agreed features, before FEATURES_OK.
    pub(crate) fn set_features(&self, features: Features) {
        // SAFETY: Only called during negotiation, under the device lock.
        unsafe { (*self.as_raw()).__bindgen_anon_1.features_array = features.to_u64s() };
    }

    /// Hands the agreed features to the transport, which may clear those it does not know.
    pub(crate) fn finalize_features(&self) -> Result {
        match self.ops().finalize_features {
            // SAFETY: By the type invariants, the callback belongs to this device.
            Some(finalize) => to_result(unsafe { finalize(self.as_raw()) }),
            None => Ok(()),
        }
    }

    /// Waits until no virtqueue or config callback runs any more (C: `virtio_synchronize_cbs`).
    pub fn synchronize_callbacks(&self) {
        // SAFETY: By the type invariants, the device is initialised.
        unsafe { bindings::virtio_synchronize_cbs(self.as_raw()) };
    }

    /// Marks every virtqueue broken: adds, kicks and polls stop (C: `virtio_break_device`).
    pub fn break_queues(&self) {
        // SAFETY: By the type invariants, the device is initialised.
        unsafe { bindings::virtio_break_device(self.as_raw()) };
    }

    /// Deletes every virtqueue and frees their interrupts.
    ///
    /// # Safety
    ///
    /// No virtqueue of the device is used any more.
    pub(crate) unsafe fn delete_queues(&self) {
        // Some C transports free interrupts that they did not request.
        // SAFETY: Initialised by `register_device`; changed under the device lock.
        let none = unsafe {
            let head = &raw mut (*self.as_raw()).vqs;
            core::ptr::eq((*head).next, head)
        };
        if none {
            return;
        }
        if let Some(del_vqs) = self.ops().del_vqs {
            // SAFETY: By the contract, nothing uses the queues.
            unsafe { del_vqs(self.as_raw()) };
        }
    }

    /// Reads device configuration at `offset` (specification 2.5.1).  May sleep.
    ///
    /// 1, 2 and 4 bytes are one access.  8 bytes are the transport's to split; any other length is
    /// read byte by byte: both again until the generation shows that nothing changed meanwhile.
    ///
    /// # Errors
    ///
    /// `EIO` if the configuration changed during each of 32 tries.
    pub fn read_config(&self, offset: u32, bytes: &mut [u8]) -> Result {
        if matches!(bytes.len(), 1 | 2 | 4) {
            self.read_config_once(offset, bytes);
            return Ok(());
        }
        let mut before = self.config_generation();
        for _ in 0..GENERATION_RETRIES {
            if bytes.len() == 8 {
                self.read_config_once(offset, bytes);
            } else {
                for (at, byte) in bytes.iter_mut().enumerate() {
                    self.read_config_once(offset + at as u32, core::slice::from_mut(byte));
                }
            }
            let after = self.config_generation();
            if after == before {
                return Ok(());
            }
            before = after;
        }
        kernel::do_once_lite! {
            dev_err!(
                self.as_device(),
                "configuration changed during each of {} reads\n",
                GENERATION_RETRIES
            )
        }
        Err(EIO)
    }

    fn read_config_once(&self, offset: u32, bytes: &mut [u8]) {
        if let Some(get) = self.ops().get {
            // SAFETY: The callback writes at most as many bytes as there are.
            unsafe {
                get(
                    self.as_raw(),
                    offset,
                    bytes.as_mut_ptr().cast(),
                    bytes.len() as u32,
                )
            };
        }
    }

    /// Writes device configuration at `offset`.  May sleep.
    ///
    /// 1, 2, 4 and 8 bytes are the transport's to write at once; any other length goes byte by byte.
    pub fn write_config(&self, offset: u32, bytes: &[u8]) {
        if !matches!(bytes.len(), 1 | 2 | 4 | 8) {
            for (at, byte) in bytes.iter().enumerate() {
                self.write_config(offset + at as u32, core::slice::from_ref(byte));
            }
            return;
        }
        if let Some(set) = self.ops().set {
            // SAFETY: The callback reads as many bytes as there are.
            unsafe {
                set(
                    self.as_raw(),
                    offset,
                    bytes.as_ptr().cast(),
                    bytes.len() as u32,
                )
            };
        }
    }

    fn config_generation(&self) -> u32 {
        match self.ops().generation {
            // SAFETY: By the type invariants, the callback belongs to this device.
            Some(generation) => unsafe { generation(self.as_raw()) },
            None => 0,
        }
    }
}

/// DMA, and who outlives a driver's binding.
impl Device {
    /// The NUMA node of the device that does the DMA, or -1.
    pub fn numa_node(&self) -> i32 {
        // SAFETY: By the type invariants, the device is initialised; the parent outlives it.
        unsafe {
            let parent = (*self.as_raw()).dev.parent;
            if parent.is_null() {
                return bindings::NUMA_NO_NODE;
            }
            bindings::virtio_dev_to_node(parent)
        }
    }

    /// A handle for what may outlive the binding of the driver.
    ///
    /// # Errors
    ///
    /// `ENODEV` for a device that is not on the bus.
    pub fn handle(&self) -> Result<Handle> {
        crate::recovery::handle(self).cloned().ok_or(ENODEV)
    }

    /// The largest mapping in bytes (C: `virtio_max_dma_size`).
    pub fn max_dma_size(&self) -> usize {
        // SAFETY: By the type invariants, the device is initialised.
        unsafe { virtio_ring::max_mapping_size(self.as_raw()) }
    }
}

/// Serialisation.
impl Device {
    /// Runs `f` with the device lock held: no driver is bound or unbound meanwhile.  May sleep.
    pub(crate) fn with_device_lock<R>(&self, f: impl FnOnce(&Self) -> R) -> R {
        // SAFETY: The device is initialised, and unlocked by `run_locked`.
        unsafe { bindings::virtio_device_lock(&raw mut (*self.as_raw()).dev) };
        // SAFETY: Locked above.
        unsafe { self.run_locked(f) }
    }

    /// As [`Device::with_device_lock`], for who may be interrupted by a signal: a probe that hangs
    /// has the lock.
    ///
    /// # Errors
    ///
    /// `EINTR` if a signal came first; then `f` did not run.
    #[cfg(CONFIG_VIRTIO_DEBUG)]
    pub(crate) fn with_device_lock_interruptible<R>(
        &self,
        f: impl FnOnce(&Self) -> R,
    ) -> Result<R> {
        // SAFETY: The device is initialised, and unlocked by `run_locked`.
        to_result(unsafe {
            bindings::virtio_device_lock_interruptible(&raw mut (*self.as_raw()).dev)
        })?;
        // SAFETY: Locked above.
        Ok(unsafe { self.run_locked(f) })
    }

    /// Runs `f`, and unlocks the device.
    ///
    /// # Safety
    ///
    /// The caller has locked it, and does not unlock it.
    unsafe fn run_locked<R>(&self, f: impl FnOnce(&Self) -> R) -> R {
        let result = f(self);
        // SAFETY: By the contract.
        unsafe { bindings::virtio_device_unlock(&raw mut (*self.as_raw()).dev) };
        result
    }
}

/// Delivery of configuration changes: held back by the core (probe, remove, freeze) or by the
/// driver, remembered while held back.
impl Device {
    /// Type and vendor.
    pub fn id(&self) -> (u32, u32) {
        // SAFETY: Constant after registration.
        let id = unsafe { (*self.as_raw()).id };
        (id.device, id.vendor)
    }

    /// Runs `f` with the config lock held and interrupts off.
    pub(crate) fn with_config_lock<R>(&self, f: impl FnOnce(&Self) -> R) -> R {
        // SAFETY: Initialised by `register_device`.
        let lock = unsafe { &raw mut (*self.as_raw()).config_lock };
        // SAFETY: As above; the flags go back to the same lock.
        let flags = unsafe { bindings::virtio_spin_lock_irqsave(lock) };
        let result = f(self);
        // SAFETY: Locked above.
        unsafe { bindings::virtio_spin_unlock_irqrestore(lock, flags) };
        result
    }

    /// Tells the driver of a change, or remembers it.  The config lock is held.
    pub(crate) fn deliver_config_change(&self) {
        let vdev = self.as_raw();
        // SAFETY: The fields are protected by the config lock.
        let held_back = unsafe { !(*vdev).config_core_enabled || (*vdev).config_driver_disabled };
        // A driver that could be unbound has its changes held back first.
        let delivered = !held_back
            && self
                .driver()
                .is_some_and(|driver| driver.config_changed(self));
        if held_back || delivered {
            // SAFETY: As above.
            unsafe { (*vdev).config_change_pending = held_back };
        }
    }

    fn deliver_pending(&self) {
        // SAFETY: Protected by the config lock, which callers hold.
        if unsafe { (*self.as_raw()).config_change_pending } {
            self.deliver_config_change();
        }
    }

    /// Lets the core deliver changes, what is pending first, or hold them back.
    pub(crate) fn set_core_config_changes(&self, enabled: bool) {
        self.with_config_lock(|dev| {
            // SAFETY: Protected by the config lock.
            unsafe { (*dev.as_raw()).config_core_enabled = enabled };
            if enabled {
                dev.deliver_pending();
            }
        });
    }

    /// Lets the driver receive changes, what is pending first, or hold them back (C:
    /// `virtio_config_driver_enable`, `virtio_config_driver_disable`; does not nest).
    pub fn set_driver_config_changes(&self, enabled: bool) {
        self.with_config_lock(|dev| {
            // SAFETY: Protected by the config lock.
            unsafe { (*dev.as_raw()).config_driver_disabled = !enabled };
            if enabled {
                dev.deliver_pending();
            }
        });
    }
}

/// The driver.
impl Device {
    /// The driver that the device is bound to, or being bound to.
    ///
    /// Callers hold the device lock, or know for another reason that it is not unbound meanwhile:
    /// suspending, or config changes enabled, which unbinding first disables.
    pub(crate) fn driver(&self) -> Option<DriverOps<'_>> {
        // SAFETY: As above: a bound driver is registered.
        unsafe { crate::bus::bound_driver(self.as_raw()).map(|driver| DriverOps::new(driver)) }
    }

    /// Remembers over a reset that the driver had failed.  Under the device lock, or suspending.
    pub(crate) fn remember_failed(&self) {
        let failed = self.status().contains(Status::FAILED);
        // SAFETY: Written only here, by one caller at a time.
        unsafe { (*self.as_raw()).failed = failed };
    }

    /// What [`Device::remember_failed`] remembered.
    pub(crate) fn had_failed(&self) -> bool {
        // SAFETY: As there.
        unsafe { (*self.as_raw()).failed }
    }

    /// Whether the platform lets devices see only memory that was shared with them.
    pub(crate) fn has_restricted_memory(&self) -> bool {
        // SAFETY: The device is valid; the callback is the platform's.
        unsafe { bindings::virtio_check_memory_access(self.as_raw()) }
    }
}

/// The features that `crate::feature_filter` hides from drivers.
#[cfg(CONFIG_VIRTIO_DEBUG)]
impl Device {
    /// The filter as it is.  Any context.
    pub(crate) fn filter_features(&self) -> Features {
        self.with_config_lock(|dev| {
            // SAFETY: Protected by the config lock.
            Features::from_u64s(unsafe { (*dev.as_raw()).debugfs_filter_features })
        })
    }

    /// Changes the filter.  Any context.
    pub(crate) fn change_filter_features(&self, change: impl FnOnce(Features) -> Features) {
        self.with_config_lock(|dev| {
            // SAFETY: Protected by the config lock.
            unsafe {
                let filter = &raw mut (*dev.as_raw()).debugfs_filter_features;
                filter.write(change(Features::from_u64s(filter.read())).to_u64s());
            }
        });
    }
}

/// Queues.
impl Device {
    /// Has the transport make the queues that `infos` describe, and their interrupts, which with
    /// `spread` are bound to processors of their own.  May sleep.
    ///
    /// # Errors
    ///
    /// Those of the transport; then there are none.
    pub(crate) fn find_queues(
        &self,
        infos: &mut [bindings::virtqueue_info],
        queues: &mut [*mut bindings::virtqueue],
        spread: bool,
    ) -> Result {
        let find = self.ops().find_vqs.ok_or(EINVAL)?;
        let count = infos.len().min(queues.len()) as u32;
        // None are set apart: all vectors are spread over the processors.
        let mut affinity = bindings::irq_affinity::default();
        let affinity = if spread {
            &raw mut affinity
        } else {
            core::ptr::null_mut()
        };
        // SAFETY: Both arrays have `count` elements; the affinity outlives the call.
        to_result(unsafe {
            find(
                self.as_raw(),
                count,
                queues.as_mut_ptr(),
                infos.as_mut_ptr(),
                affinity,
            )
        })
    }

    /// Whether a queue is broken.  The device lock is held.
    pub(crate) fn has_broken_queue(&self) -> bool {
        let broken = Cell::new(false);
        self.for_each_queue(|queue| {
            // SAFETY: A queue of `virtio_ring`, which exists while the device lock is held.
            if unsafe { Vring::from_raw(queue.as_ptr()) }
                .observer()
                .is_broken()
            {
                broken.set(true);
            }
        });
        broken.get()
    }

    /// Has the interrupt of queue `index` go to `cpus`: a hint, which a queue without one of its own
    /// does without.  May sleep.
    pub fn set_queue_affinity(&self, index: u32, cpus: &Cpumask) {
        let Some(set) = self.ops().set_vq_affinity else {
            return;
        };
        self.for_each_queue(|queue| {
            // SAFETY: A queue of this device, which exists while the driver is bound and has the device;
            // the callback is the transport's own, and copies the mask.
            unsafe {
                if (*queue.as_ptr()).index == index {
                    set(queue.as_ptr(), cpus.as_raw());
                }
            }
        });
    }

    /// Has the driver look for used buffers, and the device for available ones, in every queue.  The
    /// device lock is held, and no interrupt handler of the device runs.
    pub(crate) fn look_at_queues(&self) {
        self.for_each_queue(|queue| {
            {
                let _off = local_interrupt_disable();
                // SAFETY: A queue of `virtio_ring`, which exists while the device lock is held;
                // interrupts are off, as in a handler, and none runs.
                unsafe { virtio_ring::interrupt(queue) };
            }
            // SAFETY: As above.
            unsafe { Vring::from_raw(queue.as_ptr()) }.notify();
        });
    }

    /// Runs `f` on every queue.  The device lock keeps the list as it is.
    pub(crate) fn for_each_queue(&self, f: impl Fn(NonNull<bindings::virtqueue>)) {
        // SAFETY: Initialised by `register_device`; queues come and go under the device lock.
        unsafe {
            let head = &raw mut (*self.as_raw()).vqs;
            let mut entry = (*head).next;
            while !core::ptr::eq(entry, head) {
                let next = (*entry).next;
                // `list` is the first field of `struct virtqueue`.
                f(NonNull::new_unchecked(entry.cast()));
                entry = next;
            }
        }
    }
}

pub use crate::lifecycle::config_changed;
