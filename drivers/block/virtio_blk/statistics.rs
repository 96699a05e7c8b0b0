// SPDX-License-Identifier: GPL-2.0

//! What is counted of a hardware queue beside what its virtqueue counts.
//!
//! The virtqueue begins anew when the device is reset; these numbers go on.

use core::fmt;
use kernel::{
    macros::kunit_tests,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

/// A number that goes up, from 0.
pub(crate) struct Counter(Atomic<u64>);

impl Counter {
    fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Counts one more.  Any context.
    pub(crate) fn count(&self) {
        self.0.add(1, Relaxed);
    }
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.load(Relaxed).fmt(f)
    }
}

/// What has happened to a hardware queue since the disk was made.  All of it is rare.
pub(crate) struct Statistics {
    /// Requests that were not ended in time, each time that is noticed.
    pub(crate) timeouts: Counter,
    /// Resets of the device, for whatever reason, with the queue in use.
    pub(crate) resets: Counter,
    /// Requests that a reset took back, and that were started anew.
    pub(crate) requeues: Counter,
    /// Requests that a reset took back, and that ended with an error.
    pub(crate) failures: Counter,
    /// Times that requests had to wait, for the queue to have room or for the device to come back.
    pub(crate) stops: Counter,
}

/// The names of what [`Statistics`] shows, for the first line of a table of queues.
pub(crate) const HEADER: &str = "index timeouts resets requeues failures stops";

impl Statistics {
    pub(crate) fn new() -> Self {
        Self {
            timeouts: Counter::new(),
            resets: Counter::new(),
            requeues: Counter::new(),
            failures: Counter::new(),
            stops: Counter::new(),
        }
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {} {} {}",
            self.timeouts, self.resets, self.requeues, self.failures, self.stops
        )
    }
}

#[kunit_tests(virtio_blk_statistics)]
mod tests {
    use super::*;
    use kernel::{
        prelude::*,
        str::CString, //
    };

    #[test]
    fn each_number_is_under_its_name() -> Result {
        let statistics = Statistics::new();
        let counters = [
            &statistics.timeouts,
            &statistics.resets,
            &statistics.requeues,
            &statistics.failures,
            &statistics.stops,
        ];
        for (times, counter) in counters.iter().enumerate() {
            (0..=times).for_each(|_| counter.count());
        }
        let shown = CString::try_from_fmt(core::format_args!("{statistics}"))?;
        assert_eq!(shown.to_bytes(), b"1 2 3 4 5");
        // The first name is of the queue's number.
        assert_eq!(HEADER.split(' ').count(), 1 + counters.len());
        Ok(())
    }
}
