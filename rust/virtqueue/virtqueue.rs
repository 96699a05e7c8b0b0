// SPDX-License-Identifier: GPL-2.0

//! The driver side of virtio virtqueues: split, packed and in-order rings.
//!
//! Pure: safe code without allocation, dependencies, or anything of the kernel. The memory that
//! is shared with the device is reached through [`RingMem`], private state lives in a [`Store`] of
//! the caller's. The same files are built into `virtio_ring.ko` and, on the host, into the tests.
//!
//! # Life of a buffer
//!
//! [`Ring::add`] (or [`Ring::begin`], segment by segment) writes descriptors and takes the payload;
//! [`Ring::publish`] makes everything added visible to the device at once; [`Ring::kick_prepare`]
//! does so and tells whether to notify the device; [`Ring::poll`] gives the payload back.
//!
//! ```
//! use virtqueue::{CbState, Ring, RingError, RingMem, Segment, Store};
//!
//! /// Offers a buffer to the device. True: notify it.
//! fn send<M: RingMem, S: Store<Payload = u64>>(ring: &mut Ring<M, S>, buffer: Segment) -> bool {
//!     match ring.add(&[buffer], &[], 7) {
//!         Ok(()) => ring.kick_prepare(),
//!         Err(error) => {
//!             assert_eq!(error.payload, 7); // Nothing is lost.
//!             false
//!         }
//!     }
//! }
//!
//! /// Takes back what the device has used, and sleeps when that is all.
//! fn receive<M: RingMem, S: Store<Payload = u64>>(ring: &mut Ring<M, S>) -> Result<(), RingError> {
//!     loop {
//!         ring.disable_cb();
//!         while let Some(used) = ring.poll()? {
//!             println!("{}: {} bytes", used.payload, used.written);
//!         }
//!         if ring.enable_cb() == CbState::Armed {
//!             return Ok(());
//!         }
//!     }
//! }
//! ```
//!
//! # What a device cannot do
//!
//! Whatever it writes, a payload comes back at most once and only after it was published,
//! `written` is at most the writable length of the chain, no index leaves the ring, no loop runs
//! longer than the ring is, nothing panics, and the first nonsense breaks the ring for good.

// (Kbuild passes it for modules.)
#![cfg_attr(not(MODULE), no_std)]
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![deny(unreachable_pub)]
#![deny(rust_2018_idioms)]

mod chain;
mod config;
mod error;
mod mem;
mod packed;
mod ring;
mod shared;
mod slot;
mod slots;
mod split;

pub mod event;
pub mod layout;

pub use crate::chain::Builder;
pub use crate::config::{
    Config,   //
    Features, //
    Layout,
    LengthPolicy,
    QueueSize,
};
pub use crate::error::{
    AddError,     //
    AddErrorKind, //
    NewError,
    NotDrained,
    RingError,
};
pub use crate::mem::{
    Barriers,       //
    IndirectTables, //
    PackedDesc,
    PackedMem,
    PackedUsed,
    RingMem,
    SplitDesc,
    SplitMem,
    SplitUsed,
};
pub use crate::ring::{
    CbState, //
    Ring,
};
pub use crate::shared::{
    CbToken,  //
    Observer, //
    Shared,
};
pub use crate::slot::{
    Direction, //
    Entry,     //
    Segment,
    Slot,
    Store,
    Used,
};

/// Descriptor flags (virtio 1.4 sections 2.7.5 and 2.8.13).
pub mod desc {
    /// The chain goes on with another descriptor.
    pub const NEXT: u16 = 1;
    /// The device writes the segment; otherwise it reads it.
    pub const WRITE: u16 = 2;
    /// The segment is a table of descriptors.
    pub const INDIRECT: u16 = 4;
    /// Packed: the AVAIL bit.
    pub const AVAIL: u16 = 1 << 7;
    /// Packed: the USED bit.
    pub const USED: u16 = 1 << 15;
}
