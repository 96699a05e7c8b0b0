// SPDX-License-Identifier: GPL-2.0

//! The virtio specification as types: ids, status, features, configuration and wire layouts.
//!
//! Everything here is pure: safe code, no I/O, no allocation, no kernel crate. Kbuild and cargo
//! compile the same files, so the host can test, fuzz and prove what the kernel runs.
//! Section numbers refer to the OASIS specification, virtio 1.4.
//!
//! A value that a device wrote is an [`Untrusted`] until it has been validated; what a device and
//! a driver agreed on is a [`Negotiated`] set whose bits are witnessed by [`Has`].

// (Kbuild passes it for modules.)
#![cfg_attr(not(MODULE), no_std)]
#![forbid(unsafe_code)]

pub mod admin;
pub mod balloon;
pub mod blk;
pub mod config;
pub mod device_type;
pub mod features;
pub mod negotiate;
pub mod net;
pub mod notes;
pub mod pci;
pub mod rng;
pub mod status;
pub mod transport;
pub mod untrusted;

pub use device_type::DeviceType;
pub use features::{Class, Feature, Features};
pub use negotiate::{Has, Negotiated, Offered, Requirement};
pub use status::Status;
pub use untrusted::Untrusted;
