// SPDX-License-Identifier: GPL-2.0

//! Parameters of the network driver's module, which may change at any time.
//!
//! C source: `drivers/net/virtio_net/param.c`.

use kernel::{
    ffi::c_int,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

extern "C" {
    static mut net_driver_csum: bool;
    static mut net_driver_gso: bool;
    static mut net_driver_napi_tx: bool;
    static mut net_driver_napi_weight: c_int;
}

fn read(flag: *mut bool) -> bool {
    // SAFETY: A parameter of the module's, which others write as one.
    unsafe { Atomic::from_ptr(flag) }.load(Relaxed)
}

/// Checksums of what is sent are left to the device, if it can.
pub fn csum() -> bool {
    read(&raw mut net_driver_csum)
}

/// Packets are cut into segments by the device, if it can.
pub fn gso() -> bool {
    read(&raw mut net_driver_gso)
}

/// The device interrupts when it has sent packets.
pub fn napi_tx() -> bool {
    read(&raw mut net_driver_napi_tx)
}

/// Packets that are taken by one poll at most, if that is a number of packets.
pub fn napi_weight() -> Option<u32> {
    // SAFETY: As in `read`.
    let weight = unsafe { Atomic::from_ptr(&raw mut net_driver_napi_weight) }.load(Relaxed);
    u32::try_from(weight).ok().filter(|weight| *weight != 0)
}
