// SPDX-License-Identifier: GPL-2.0

//! Numbers of block devices: majors, and which disk of its kind one is.

use kernel::{
    error::to_result,
    ffi::c_int,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};
use virtio_bindings as bindings;

/// A major number, registered under a name; given back when dropped.
pub struct Major {
    name: &'static CStr,
    number: u32,
}

impl Major {
    /// Registers a number that is free.  May sleep.
    ///
    /// # Errors
    ///
    /// `EBUSY` if there is none.
    pub fn new(name: &'static CStr) -> Result<Self> {
        // SAFETY: The name lives for ever; there is no probe function.
        let number = unsafe { bindings::__register_blkdev(0, name.as_char_ptr(), None) };
        to_result(number.min(0))?;
        Ok(Self {
            name,
            number: number.unsigned_abs(),
        })
    }

    /// The number.
    pub fn number(&self) -> u32 {
        self.number
    }
}

impl Drop for Major {
    fn drop(&mut self) {
        // SAFETY: Registered by `new`.
        unsafe { bindings::unregister_blkdev(self.number, self.name.as_char_ptr()) };
    }
}

/// The major number of a module, for those who cannot be handed it.
pub struct MajorNumber(Atomic<u32>);

impl MajorNumber {
    /// None yet.
    pub const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Remembers the number.
    pub fn set(&self, major: &Major) {
        self.0.store(major.number, Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u32 {
        self.0.load(Relaxed)
    }
}

impl Default for MajorNumber {
    fn default() -> Self {
        Self::new()
    }
}

extern "C" {
    /// Which numbers are taken: in the C file of the module.
    static mut block_driver_ida: bindings::ida;
}

/// The number of a disk among those of its driver, the lowest that is free; given back when dropped.
pub struct Index(u32);

impl Index {
    /// Takes the lowest number below `end` that is free.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if there is none, `ENOMEM`.
    pub fn new(end: u32) -> Result<Self> {
        // SAFETY: Initialised by C, which also locks.
        let index = unsafe {
            bindings::ida_alloc_range(
                &raw mut block_driver_ida,
                0,
                end.saturating_sub(1),
                bindings::GFP_KERNEL,
            )
        };
        to_result(index.min(0))?;
        Ok(Self(index.unsigned_abs()))
    }

    /// The number.
    pub fn get(&self) -> u32 {
        self.0
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        // SAFETY: Taken by `new`.
        unsafe { bindings::ida_free(&raw mut block_driver_ida, self.0) };
    }
}

/// Parameters of the module, which may change at any time.
pub mod param {
    use kernel::{
        ffi::c_uint,
        sync::atomic::{
            Atomic,
            Relaxed, //
        }, //
    };

    extern "C" {
        static mut block_driver_num_request_queues: c_uint;
        static mut block_driver_poll_queues: c_uint;
        static mut block_driver_queue_depth: c_uint;
    }

    fn read(word: *mut c_uint) -> u32 {
        // SAFETY: A word of the module's, which others write as one.
        unsafe { Atomic::from_ptr(word) }.load(Relaxed)
    }

    /// Queues at most, or 0.
    pub fn num_request_queues() -> u32 {
        read(&raw mut block_driver_num_request_queues)
    }

    /// Of these, queues to be polled.
    pub fn poll_queues() -> u32 {
        read(&raw mut block_driver_poll_queues)
    }

    /// Requests of a queue, or 0.
    pub fn queue_depth() -> u32 {
        read(&raw mut block_driver_queue_depth)
    }
}

/// So many queues at most have a processor to use them (C: `blk_mq_num_possible_queues`).
pub fn num_possible_queues(most: u32) -> u32 {
    // SAFETY: No preconditions.
    unsafe { bindings::blk_mq_num_possible_queues(most) }
}

const _: () = assert!(size_of::<c_int>() == size_of::<u32>());
