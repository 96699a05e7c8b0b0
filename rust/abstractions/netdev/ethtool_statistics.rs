// SPDX-License-Identifier: GPL-2.0

//! What is counted, as `ethtool -S` shows it.
//!
//! C header: [`include/linux/ethtool.h`](srctree/include/linux/ethtool.h).
//!
//! First come the totals of receive queues, and of transmit queues, then what is counted of the
//! control queue, then each receive queue's and each transmit queue's.

use crate::{
    ethtool::Callbacks,
    operations::Operations, //
};
use core::fmt::{
    self,
    Display,
    Write, //
};
use kernel::{
    ffi::c_int,
    prelude::*, //
};
use virtio_bindings as bindings;

/// Bytes of a name, with the zero that ends it.
const NAME_LEN: usize = bindings::ETH_GSTRING_LEN as usize;

/// What a queue is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueKind {
    /// To receive.
    Rx,
    /// To send.
    Tx,
    /// Commands.
    Control,
}

/// The name of a number that is counted of a queue: `hw_` comes before what the device counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatisticName {
    /// The device counts it, and not the driver.
    pub of_device: bool,
    /// The rest, of less than 18 bytes: what is longer is cut.
    pub name: &'static str,
}

impl Display for StatisticName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.of_device { "hw_" } else { "" })?;
        f.write_str(self.name)
    }
}

/// Text in a fixed room that ends with a zero; what does not fit is left out.
struct Text<'a> {
    room: &'a mut [u8],
    len: usize,
}

impl<'a> Text<'a> {
    fn new(room: &'a mut [u8]) -> Self {
        room.fill(0);
        Self { room, len: 0 }
    }
}

impl Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let last = self.room.len().saturating_sub(1);
        for byte in text.bytes() {
            if self.len >= last {
                break;
            }
            if let Some(room) = self.room.get_mut(self.len) {
                *room = byte;
            }
            self.len += 1;
        }
        Ok(())
    }
}

/// How many numbers there are of each queue, and how many pairs are in use.
#[derive(Clone, Copy)]
struct Counts {
    rx: usize,
    tx: usize,
    control: usize,
    queues: usize,
}

impl Counts {
    fn of<O: Operations>(data: &O::Data) -> Self {
        let count = |kind| O::statistic_names(data, kind).count();
        Self {
            rx: count(QueueKind::Rx),
            tx: count(QueueKind::Tx),
            control: count(QueueKind::Control),
            queues: O::channels(data).combined as usize,
        }
    }

    /// Of all, totals included.
    fn total(self) -> usize {
        (self.queues + 1) * (self.rx + self.tx) + self.control
    }
}

/// Numbers of all queues in use, each 0 at first.
pub struct Statistics<'a> {
    counts: Counts,
    control: &'a mut [u64],
    rx: &'a mut [u64],
    tx: &'a mut [u64],
}

/// Row `index` of a table whose rows have `len` elements; empty beyond the last one.
fn row(table: &mut [u64], index: usize, len: usize) -> &mut [u64] {
    let start = index.saturating_mul(len);
    table
        .get_mut(start..start.saturating_add(len))
        .unwrap_or_default()
}

impl Statistics<'_> {
    /// How many pairs of queues are in use.
    pub fn queues(&self) -> usize {
        self.counts.queues
    }

    /// Those of receive queue `index`; none if it is not in use.
    pub fn rx(&mut self, index: usize) -> &mut [u64] {
        row(self.rx, index, self.counts.rx)
    }

    /// Those of transmit queue `index`; none if it is not in use.
    pub fn tx(&mut self, index: usize) -> &mut [u64] {
        row(self.tx, index, self.counts.tx)
    }

    /// Those of the control queue.
    pub fn control(&mut self) -> &mut [u64] {
        self.control
    }
}

/// Fills `room` with the numbers that `fill` puts where they belong, and their totals.
fn fill(room: &mut [u64], counts: Counts, fill: impl FnOnce(&mut Statistics<'_>)) {
    room.fill(0);
    let mut rest = room;
    let mut take = |len: usize| {
        let (taken, left) = core::mem::take(&mut rest).split_at_mut_checked(len)?;
        rest = left;
        Some(taken)
    };
    let mut part = |len| take(len).unwrap_or_default();
    let (rx_totals, tx_totals) = (part(counts.rx), part(counts.tx));
    let control = part(counts.control);
    let (rx, tx) = (
        part(counts.rx * counts.queues),
        part(counts.tx * counts.queues),
    );
    let mut numbers = Statistics {
        counts,
        control,
        rx,
        tx,
    };
    fill(&mut numbers);
    for index in 0..counts.queues {
        add(rx_totals, numbers.rx(index));
        add(tx_totals, numbers.tx(index));
    }
}

fn add(totals: &mut [u64], values: &[u64]) {
    for (total, value) in totals.iter_mut().zip(values) {
        *total = total.wrapping_add(*value);
    }
}

impl<O: Operations> Callbacks<O> {
    pub(crate) extern "C" fn get_sset_count(
        dev: *mut kernel::bindings::net_device,
        set: c_int,
    ) -> c_int {
        if set as u32 != bindings::ethtool_stringset_ETH_SS_STATS {
            return EOPNOTSUPP.to_errno();
        }
        // SAFETY: ethtool passes a registered device of ours.
        Counts::of::<O>(unsafe { Self::data(dev) }).total() as c_int
    }

    pub(crate) extern "C" fn get_strings(
        dev: *mut kernel::bindings::net_device,
        set: u32,
        to: *mut u8,
    ) {
        if set != bindings::ethtool_stringset_ETH_SS_STATS {
            return;
        }
        // SAFETY: As above; there is room for as many names as `get_sset_count` said, under the same
        // lock.
        let (data, counts, room) = unsafe {
            let data = Self::data(dev);
            let counts = Counts::of::<O>(data);
            let size = counts.total() * NAME_LEN;
            (data, counts, core::slice::from_raw_parts_mut(to, size))
        };
        let mut rooms = room.chunks_exact_mut(NAME_LEN);
        for (kind, way) in [
            (QueueKind::Rx, "rx"),
            (QueueKind::Tx, "tx"),
            (QueueKind::Control, "cq"),
        ] {
            for (name, room) in O::statistic_names(data, kind).zip(&mut rooms) {
                let _ = write!(Text::new(room), "{way}_{name}");
            }
        }
        for (kind, way) in [(QueueKind::Rx, "rx"), (QueueKind::Tx, "tx")] {
            for queue in 0..counts.queues {
                for (name, room) in O::statistic_names(data, kind).zip(&mut rooms) {
                    let _ = write!(Text::new(room), "{way}{queue}_{name}");
                }
            }
        }
    }

    pub(crate) extern "C" fn get_ethtool_stats(
        dev: *mut kernel::bindings::net_device,
        _stats: *mut bindings::ethtool_stats,
        to: *mut u64,
    ) {
        // SAFETY: As `get_strings`.
        let (data, counts, room) = unsafe {
            let data = Self::data(dev);
            let counts = Counts::of::<O>(data);
            let room = core::slice::from_raw_parts_mut(to, counts.total());
            (data, counts, room)
        };
        fill(room, counts, |numbers| O::statistics(data, numbers));
    }
}

#[kunit_tests(virtio_netdev_ethtool_statistics)]
mod tests {
    use super::*;

    #[test]
    fn text_ends_with_a_zero_and_is_cut() {
        let mut room = [0xff; 6];
        assert!(write!(Text::new(&mut room), "rx{}_kicks", 1).is_ok());
        assert!(room == *b"rx1_k\0");
        assert!(write!(Text::new(&mut room), "tx").is_ok());
        assert!(room == *b"tx\0\0\0\0");
    }

    #[test]
    fn what_the_device_counts_is_told_apart() {
        let mut room = [0xff; 16];
        for (of_device, expected) in [(true, b"cq_hw_num\0"), (false, b"cq_num\0\0\0\0")] {
            let name = StatisticName {
                of_device,
                name: "num",
            };
            assert!(write!(Text::new(&mut room), "cq_{name}").is_ok());
            assert!(room.get(..10) == Some(expected));
        }
    }

    #[test]
    fn numbers_are_where_they_belong_and_totals_are_of_all() {
        let counts = Counts {
            rx: 2,
            tx: 1,
            control: 1,
            queues: 2,
        };
        let mut room = [u64::MAX; 10];
        assert_eq!(counts.total(), room.len());
        fill(&mut room, counts, |numbers| {
            assert!(numbers.rx(2).is_empty() && numbers.tx(usize::MAX).is_empty());
            numbers.rx(1).copy_from_slice(&[4, 5]);
            numbers.rx(0).copy_from_slice(&[1, 2]);
            numbers.tx(1).copy_from_slice(&[7]);
            numbers.control().copy_from_slice(&[9]);
        });
        assert!(room == [5, 7, 7, 9, 1, 2, 4, 5, 0, 7]);
    }
}
