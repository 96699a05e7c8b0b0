// SPDX-License-Identifier: GPL-2.0

//! Trace events: one test of a static key, a no-op in the code, where nobody listens.
//!
//! The events are defined in `trace.h`.  `kernel::tracepoint::declare_trace` is for events that
//! `kernel::bindings` knows, so this does by hand what it does.

use crate::{
    body::KernelRing,
    vring::{
        Vring, //
    }, //
};
use core::ptr::NonNull;
use kernel::{
    ffi::c_void,
    time::Delta, //
};
use virtio_bindings as bindings;
use virtqueue::Segment;

/// Whether somebody listens to an event.
macro_rules! listened_to {
    ($tracepoint:ident) => {{
        #[cfg(CONFIG_TRACEPOINTS)]
        {
            // SAFETY: `trace.c` defines it, and this module outlives who looks at it.
            unsafe {
                kernel::jump_label::static_branch_unlikely!(
                    bindings::$tracepoint,
                    bindings::tracepoint,
                    key
                )
            }
        }
        #[cfg(not(CONFIG_TRACEPOINTS))]
        {
            false
        }
    }};
}

/// Emits an event.
macro_rules! emit {
    ($event:ident($($arg:expr),* $(,)?)) => {{
        #[cfg(CONFIG_TRACEPOINTS)]
        // SAFETY: Queue and device are alive; any context.
        unsafe {
            bindings::$event($($arg),*)
        };
        #[cfg(not(CONFIG_TRACEPOINTS))]
        {
            $(let _ = $arg;)*
        }
    }};
}

/// The bytes of `segments` together.
pub(crate) fn bytes(segments: &[Segment]) -> u64 {
    segments.iter().map(|segment| u64::from(segment.len)).sum()
}

/// A buffer was added: `free` descriptors are left, and the queue's own number is still the old one.
/// `bytes` gives what the device may read, and what it may write.
#[inline(always)]
pub(crate) fn added(
    vring: &Vring,
    token: NonNull<c_void>,
    free: u16,
    bytes: impl FnOnce() -> (u64, u64),
) {
    if listened_to!(__tracepoint_virtio_add) {
        let (readable, writable) = bytes();
        emit_add(vring, token, free, readable, writable);
    }
}

#[cold]
#[inline(never)]
fn emit_add(vring: &Vring, token: NonNull<c_void>, free: u16, readable: u64, writable: u64) {
    let descriptors = vring.num_free().wrapping_sub(u32::from(free));
    emit!(rust_do_trace_virtio_add(
        vring.as_raw(),
        token.as_ptr(),
        descriptors,
        readable,
        writable,
    ));
}

/// Whether somebody listens to kicks: then [`kick`] is to be called in place of the ring's.
#[inline(always)]
pub(crate) fn kicks() -> bool {
    listened_to!(__tracepoint_virtio_kick)
}

/// Kicks, and says so.
#[cold]
#[inline(never)]
pub(crate) fn kick(vring: &Vring, ring: &mut KernelRing) -> bool {
    let num_added = ring.num_added();
    let notify = ring.kick_prepare();
    emit!(rust_do_trace_virtio_kick(vring.as_raw(), num_added, notify));
    notify
}

/// An interrupt came.
#[inline(always)]
pub(crate) fn interrupted(vring: &Vring, handled: bool) {
    if listened_to!(__tracepoint_virtio_interrupt) {
        emit!(rust_do_trace_virtio_interrupt(vring.as_raw(), handled));
    }
}

/// A used buffer was taken.
#[inline(always)]
pub(crate) fn got(vring: &Vring, data: NonNull<c_void>, written: u32) {
    if listened_to!(__tracepoint_virtio_get) {
        emit_get(vring, data, written);
    }
}

#[cold]
#[inline(never)]
fn emit_get(vring: &Vring, token: NonNull<c_void>, written: u32) {
    emit!(rust_do_trace_virtio_get(
        vring.as_raw(),
        token.as_ptr(),
        written,
    ));
}

/// A device was reset and shows `status`, `after` it was asked to.  Any context.
///
/// # Safety
///
/// `vdev` is registered.
pub unsafe fn device_reset(vdev: *mut bindings::virtio_device, status: u8, after: Delta) {
    if listened_to!(__tracepoint_virtio_reset) {
        // CAST: time does not go backwards.
        emit!(rust_do_trace_virtio_reset(
            vdev,
            status,
            after.as_nanos() as u64
        ));
    }
}
