// SPDX-License-Identifier: GPL-2.0

//! What a virtqueue counts, and its state as a line of text.
//!
//! Counting is a load, an addition and a store: each counter has one writer at a time.  Readers may see
//! counters that do not fit to each other.

use crate::vring::Vring;
use core::fmt;
use kernel::{
    macros::kunit_tests,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};
use virtqueue::Layout;

/// A number that one writer at a time counts up, and anybody reads.
pub(crate) struct Counter(Atomic<u64>);

impl Counter {
    const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Counts one more.  If two do so at once, one of them may be lost.
    #[inline]
    pub(crate) fn count(&self) {
        self.0.store(self.get().wrapping_add(1), Relaxed);
    }

    #[inline]
    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What the one user of a ring has done since the queue was made.
pub(crate) struct Counters {
    /// Buffers added.
    pub(crate) adds: Counter,
    /// Used buffers taken.
    pub(crate) used: Counter,
    /// Kicks, whether or not the device had to be told.
    pub(crate) kicks: Counter,
    /// Kicks, and rings found full, of which the device had to be told.
    pub(crate) notifications: Counter,
}

impl Counters {
    pub(crate) const fn new() -> Self {
        Self {
            adds: Counter::new(),
            used: Counter::new(),
            kicks: Counter::new(),
            notifications: Counter::new(),
        }
    }
}

/// Interrupts that found used buffers, in a cache line that the ring's user does not need.
#[repr(align(64))]
pub(crate) struct Interrupts(pub(crate) Counter);

impl Interrupts {
    pub(crate) const fn new() -> Self {
        Self(Counter::new())
    }
}

/// The names of what [`State`] shows, for the first line of a table of queues.
pub const STATE_HEADER: &str = "index name size num_free layout indirect event_idx broken adds \
     kicks notifications interrupts used";

/// The state of a queue as a line of words with single spaces between them, see [`STATE_HEADER`].
pub struct State<'a>(&'a Vring);

impl Vring {
    /// The state of the queue, to be printed.  Any context.
    pub fn state(&self) -> State<'_> {
        State(self)
    }
}

impl fmt::Display for State<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vring = self.0;
        let layout = match vring.config().layout {
            Layout::Split => "split",
            Layout::SplitInOrder => "split-in-order",
            Layout::Packed => "packed",
            Layout::PackedInOrder => "packed-in-order",
        };
        let counters = &vring.counters;
        write!(
            f,
            "{} {} {} {} {} {} {} {} {} {} {} {} {}",
            vring.index(),
            Word(vring.name()),
            vring.size(),
            vring.num_free(),
            layout,
            u8::from(vring.indirect),
            u8::from(vring.config().features.event_idx),
            u8::from(vring.shared().is_broken()),
            counters.adds.get(),
            counters.kicks.get(),
            counters.notifications.get(),
            vring.interrupts.0.get(),
            counters.used.get(),
        )
    }
}

/// A name as one word: what would not be seen in it, or would split it, is an underscore.
struct Word<'a>(Option<&'a CStr>);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.map(CStr::to_bytes).unwrap_or_default();
        if name.is_empty() {
            return f.write_str("-");
        }
        name.iter().try_for_each(|&byte| {
            let shown = if byte.is_ascii_graphic() { byte } else { b'_' };
            fmt::Write::write_char(f, char::from(shown))
        })
    }
}

#[kunit_tests(virtio_ring_counters)]
mod tests {
    use super::*;
    use kernel::str::CString;

    fn shown(name: Option<&CStr>) -> Result<CString> {
        Ok(CString::try_from_fmt(core::format_args!("{}", Word(name)))?)
    }

    #[test]
    fn a_counter_counts() {
        let counter = Counter::new();
        assert_eq!(counter.get(), 0);
        counter.count();
        counter.count();
        assert_eq!(counter.get(), 2);
    }

    #[test]
    fn a_name_is_one_word() -> Result {
        assert_eq!(shown(Some(c"input.0"))?.to_bytes(), b"input.0");
        assert_eq!(shown(Some(c"a b\n\xff"))?.to_bytes(), b"a_b__");
        assert_eq!(shown(Some(c""))?.to_bytes(), b"-");
        assert_eq!(shown(None)?.to_bytes(), b"-");
        Ok(())
    }
}
