// SPDX-License-Identifier: GPL-2.0

//! What the tests of the `virtqueue` crate share: memory, and a device written from the specification.
//!
//! The device does not use the crate's own layout or event arithmetic: it reads and writes bytes where
//! the virtio 1.4 specification puts them, and panics when the driver breaks a rule.

pub mod device;
pub mod driver;
pub mod guest;
pub mod hostile;
pub mod packed_device;
pub mod rig;
pub mod split_device;
