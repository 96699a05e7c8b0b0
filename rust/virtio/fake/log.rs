// SPDX-License-Identifier: GPL-2.0

//! What the driver of a fake device did.

use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    time::{
        delay::fsleep,
        Delta,
        Instant,
        Monotonic, //
    }, //
};

/// How long a test waits for work that runs elsewhere.
const PATIENCE: Delta = Delta::from_secs(20);

/// A number that callbacks count up.
pub(crate) struct Count(Atomic<i32>);

impl Count {
    pub(crate) const fn new() -> Self {
        Self(Atomic::new(0))
    }

    pub(crate) fn add(&self, by: i32) {
        let _ = self.0.fetch_add(by, Relaxed);
    }

    pub(crate) fn get(&self) -> i32 {
        self.0.load(Relaxed)
    }

    /// Waits until the number is `value`, for as long as a test has patience; whether it is.
    pub(crate) fn becomes(&self, value: i32) -> bool {
        wait_until(|| self.get() == value)
    }
}

/// Waits until `condition` holds, for as long as a test has patience; whether it does.
pub(crate) fn wait_until(condition: impl Fn() -> bool) -> bool {
    let start = Instant::<Monotonic>::now();
    while start.elapsed() < PATIENCE {
        if condition() {
            return true;
        }
        fsleep(Delta::from_millis(1));
    }
    condition()
}

/// What the driver of the device did, and what a test wants it to do.
pub(crate) struct DriverLog {
    /// Calls of each function.
    pub(crate) queues: Count,
    pub(crate) probe: Count,
    pub(crate) ready: Count,
    pub(crate) used_buffers: Count,
    pub(crate) config_changed: Count,
    pub(crate) remove: Count,
    pub(crate) pause: Count,
    pub(crate) quiesced: Count,
    pub(crate) resume: Count,
    pub(crate) resumed: Count,
    pub(crate) freeze: Count,
    pub(crate) shutdown: Count,
    /// Calls of `used_buffers` before the device showed DRIVER_OK.
    pub(crate) early: Count,
    /// Buffers that came back, and the bytes in them.
    pub(crate) completed: Count,
    pub(crate) bytes: Count,
    /// What is allocated: data of the driver, and buffers.
    pub(crate) data: Count,
    pub(crate) buffers: Count,
    /// The transport is not allocated any more.
    pub(crate) transport_dropped: Count,
    /// If not 0, the function fails.
    pub(crate) fail_queues: Count,
    pub(crate) fail_probe: Count,
    pub(crate) fail_ready: Count,
    pub(crate) fail_validate: Count,
    pub(crate) fail_freeze: Count,
}

impl DriverLog {
    pub(super) const fn new() -> Self {
        Self {
            queues: Count::new(),
            probe: Count::new(),
            ready: Count::new(),
            used_buffers: Count::new(),
            config_changed: Count::new(),
            remove: Count::new(),
            pause: Count::new(),
            quiesced: Count::new(),
            resume: Count::new(),
            resumed: Count::new(),
            freeze: Count::new(),
            shutdown: Count::new(),
            early: Count::new(),
            completed: Count::new(),
            bytes: Count::new(),
            data: Count::new(),
            buffers: Count::new(),
            transport_dropped: Count::new(),
            fail_queues: Count::new(),
            fail_probe: Count::new(),
            fail_ready: Count::new(),
            fail_validate: Count::new(),
            fail_freeze: Count::new(),
        }
    }
}
