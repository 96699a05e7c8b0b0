// SPDX-License-Identifier: GPL-2.0

//! The buffer for statistics.

use core::ptr::NonNull;
use kernel::{
    ffi::c_void,
    prelude::*, //
};
use virtio::packets::{
    DataDirection,
    Packet,
    Place, //
};
use virtio_spec::balloon::stats::{
    Stats,
    STATS_SIZE, //
};

/// Statistics that a device reads, in memory of their own.
pub struct Report(KBox<Text>);

/// # Invariants
///
/// `len` is at most the length of `bytes`.
struct Text {
    bytes: [u8; STATS_SIZE],
    len: usize,
}

impl Report {
    /// Without statistics.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        let text = Text {
            bytes: [0; STATS_SIZE],
            len: 0,
        };
        Ok(Self(KBox::new(text, GFP_KERNEL)?))
    }

    /// Says `stats` from now on.
    pub fn set(&mut self, stats: &Stats) {
        let stats = stats.as_bytes();
        let text = &mut *self.0;
        if let Some(room) = text.bytes.get_mut(..stats.len()) {
            room.copy_from_slice(stats);
            // INVARIANT: They fit.
            text.len = stats.len();
        }
    }
}

// SAFETY: A `KBox` stays where it is, and nobody reaches it while it is apart; both conversions are
// its own.
unsafe impl Packet for Report {
    const DIRECTION: DataDirection = DataDirection::Readable;
    const MAPS_ITSELF: bool = false;

    fn pieces<E>(&self, mut f: impl FnMut(Place) -> Result<(), E>) -> Result<(), E> {
        let bytes = NonNull::from(&self.0.bytes).cast();
        f(Place::Linear(bytes, self.0.len as u32))
    }

    fn into_raw(self) -> (NonNull<c_void>, u16) {
        (NonNull::from(KBox::leak(self.0)).cast(), 0)
    }

    unsafe fn from_raw(data: NonNull<c_void>, _word: u16) -> Self {
        // SAFETY: By the contract.
        Self(unsafe { KBox::from_raw(data.as_ptr().cast()) })
    }
}
