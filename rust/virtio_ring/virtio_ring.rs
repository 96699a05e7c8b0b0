// SPDX-License-Identifier: GPL-2.0

//! `virtio_ring.ko`: virtqueues of the kernel, on the pure rings of the crate `virtqueue`.
//!
//! C headers: [`include/linux/virtio.h`](srctree/include/linux/virtio.h),
//! [`include/linux/virtio_ring.h`](srctree/include/linux/virtio_ring.h).
//!
//! # Overview
//!
//! A [`Vring`] is one virtqueue: `struct virtqueue`, which C callers know, the ring, its memory
//! and the way buffers are mapped for the device.  Transports make it with [`create`]; drivers use
//! it through `virtio::queue::Virtqueue`, or through the C functions in `capi`.

use kernel::prelude::*;

#[doc(hidden)]
pub use virtio_bindings as bindings;

mod add;
mod body;
mod capi;
mod counters;
mod mapper;
mod memory;
mod packets;
mod restart;
mod scatter;
mod trace;
mod vring;

pub use counters::{
    State,
    STATE_HEADER, //
};
pub use mapper::{
    max_mapping_size,
    Mapper, //
};
pub use packets::UsedPair;
pub use restart::restart;
pub use scatter::{
    Broken,
    SharedMemory,
    Table,
    TableFormat, //
};
pub use trace::device_reset;
pub use virtqueue::{
    AddErrorKind,
    CbState,
    Direction,
    Segment, //
};
pub use vring::{
    accepted_transport_features,
    addresses,
    create,
    delete,
    drain,
    for_each,
    interrupt,
    leak,
    notification_data,
    size,
    Addresses,
    Params,
    Token,
    Vring, //
};

module! {
    type: VirtioRingModule,
    name: "virtio_ring",
    authors: ["The rust-virtio authors"],
    description: "Virtio ring implementation",
    license: "GPL",
}

struct VirtioRingModule;

impl kernel::Module for VirtioRingModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self)
    }
}
