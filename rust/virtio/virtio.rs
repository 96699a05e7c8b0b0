// SPDX-License-Identifier: GPL-2.0

//! `virtio.ko`: the virtio bus, its devices, drivers and transports.
//!
//! C headers: [`include/linux/virtio.h`](srctree/include/linux/virtio.h),
//! [`include/linux/virtio_config.h`](srctree/include/linux/virtio_config.h).
//!
//! # Overview
//!
//! [`driver::Driver`] is what a leaf driver implements, [`transport::Transport`] what a transport
//! does.  Both meet at `struct virtio_device`, the ABI of the C stack: a Rust driver runs on a C
//! transport, and a C driver on a Rust transport.
//!
//! A device goes through the states of [`lifecycle`], each a type: `Init` (features agreed),
//! `Configured` (queues found, may be filled), `Running` (DRIVER_OK, may be kicked).  Its end is
//! `Quiesced` (reset acknowledged, callbacks synchronised), which gives unused buffers back, or
//! dead: then nothing that the device may still own is freed.

use kernel::prelude::*;

#[doc(hidden)]
pub use virtio_bindings as bindings;

pub mod buffer;
mod bus;
mod capi;
pub mod commands;
pub mod config;
#[cfg(CONFIG_DEBUG_FS)]
mod debugfs;
pub mod device;
pub mod driver;
#[cfg(CONFIG_KUNIT = "y")]
mod fake;
#[cfg(CONFIG_VIRTIO_DEBUG)]
mod feature_filter;
pub mod handle;
pub mod lifecycle;
mod negotiate;
mod ops;
pub mod packets;
pub mod queue;
mod recovery;
pub mod requests;
pub mod suspend;
mod sysfs;
#[cfg(CONFIG_KUNIT = "y")]
mod tests;
pub mod transport;

pub use virtio_spec::DeviceType;

module! {
    type: VirtioModule,
    name: "virtio",
    authors: ["The rust-virtio authors"],
    description: "Virtio core interface",
    license: "GPL",
}

struct VirtioModule {
    _bus: bus::Registration,
}

impl kernel::Module for VirtioModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self {
            _bus: bus::Registration::new()?,
        })
    }
}
