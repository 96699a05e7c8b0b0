// SPDX-License-Identifier: GPL-2.0

//! Statistics of the device (section 5.1.9.5.11): which there are, how to ask for them, and what
//! came back, of which nothing is believed.
//!
//! C: the tables `virtnet_stats_*_desc`, `virtnet_get_hw_stats` and `virtnet_fill_stats` in
//! `drivers/net/virtio_net.c`, which takes length, queue and type of each reply as they come.

use core::mem::size_of;

use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, IntoBytes};

use super::ctrl::{QueueStats, StatsReplyHdr};
use super::payload::Queue;

/// Bytes of the head of a reply.
const HEADER_SIZE: usize = size_of::<StatsReplyHdr>();

/// Bytes of a counter.
const COUNTER_SIZE: usize = size_of::<U64>();

/// Bytes that ask for the statistics of one queue.
pub const REQUEST_SIZE: usize = size_of::<QueueStats>();

/// A counter of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    /// Its name in the specification, without `rx_` and `tx_`.
    pub name: &'static str,
    /// It is shown by `ethtool -S`, as `rx0_hw_NAME`, `tx0_hw_NAME` or `cq_hw_NAME`.
    pub ethtool: bool,
    /// Its name among the statistics of queues (C: `struct netdev_queue_stats_rx` and `_tx`), where
    /// it has one.
    pub queue_name: Option<&'static str>,
}

const fn shown(name: &'static str) -> Counter {
    Counter {
        name,
        ethtool: true,
        queue_name: None,
    }
}

const fn queue(name: &'static str, queue_name: &'static str) -> Counter {
    Counter {
        name,
        ethtool: false,
        queue_name: Some(queue_name),
    }
}

// The counters of each reply, in its order.
const CONTROL: &[Counter] = &[shown("command_num"), shown("ok_num")];
const RX_BASIC: &[Counter] = &[
    shown("notifications"),
    shown("packets"),
    shown("bytes"),
    shown("interrupts"),
    queue("drops", "hw_drops"),
    queue("drop_overruns", "hw_drop_overruns"),
];
const TX_BASIC: &[Counter] = &[
    shown("notifications"),
    shown("packets"),
    shown("bytes"),
    shown("interrupts"),
    queue("drops", "hw_drops"),
    queue("drop_malformed", "hw_drop_errors"),
];
const RX_CSUM: &[Counter] = &[
    queue("csum_valid", "csum_unnecessary"),
    shown("needs_csum"),
    queue("csum_none", "csum_none"),
    queue("csum_bad", "csum_bad"),
];
const TX_CSUM: &[Counter] = &[
    queue("csum_none", "csum_none"),
    queue("needs_csum", "needs_csum"),
];
const RX_GSO: &[Counter] = &[
    queue("gso_packets", "hw_gro_packets"),
    queue("gso_bytes", "hw_gro_bytes"),
    queue("gso_packets_coalesced", "hw_gro_wire_packets"),
    queue("gso_bytes_coalesced", "hw_gro_wire_bytes"),
];
const TX_GSO: &[Counter] = &[
    queue("gso_packets", "hw_gso_packets"),
    queue("gso_bytes", "hw_gso_bytes"),
    queue("gso_segments", "hw_gso_wire_packets"),
    queue("gso_segments_bytes", "hw_gso_wire_bytes"),
    shown("gso_packets_noseg"),
    shown("gso_bytes_noseg"),
];
const SPEED: &[Counter] = &[
    queue("ratelimit_packets", "hw_drop_ratelimits"),
    shown("ratelimit_bytes"),
];

/// What a reply is about.  In the order of their bits, and of C's lists of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The packets of a receive queue.
    RxBasic = 0,
    /// Their checksums.
    RxCsum = 1,
    /// Their coalescing.
    RxGso = 2,
    /// Their limits.
    RxSpeed = 3,
    /// The packets of a transmit queue.
    TxBasic = 16,
    /// Their checksums.
    TxCsum = 17,
    /// Their segments.
    TxGso = 18,
    /// Their limits.
    TxSpeed = 19,
    /// The control queue.
    Control = 32,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::RxBasic,
        Self::RxCsum,
        Self::RxGso,
        Self::RxSpeed,
        Self::TxBasic,
        Self::TxCsum,
        Self::TxGso,
        Self::TxSpeed,
        Self::Control,
    ];

    fn from_wire(value: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == value)
    }

    /// Whether `queue` has such statistics.
    pub const fn is_of(self, queue: Queue) -> bool {
        match queue {
            Queue::Receive(_) => (self as u8) < Self::TxBasic as u8,
            Queue::Transmit(_) => {
                self as u8 >= Self::TxBasic as u8 && (self as u8) < Self::Control as u8
            }
            Queue::Control => self as u8 == Self::Control as u8,
        }
    }

    /// The counters of a reply, in the order in which it has them.
    pub const fn counters(self) -> &'static [Counter] {
        match self {
            Self::Control => CONTROL,
            Self::RxBasic => RX_BASIC,
            Self::TxBasic => TX_BASIC,
            Self::RxCsum => RX_CSUM,
            Self::TxCsum => TX_CSUM,
            Self::RxGso => RX_GSO,
            Self::TxGso => TX_GSO,
            Self::RxSpeed | Self::TxSpeed => SPEED,
        }
    }

    /// The counters that `ethtool -S` shows, in C's order, with their place in a reply.
    pub fn ethtool(self) -> impl Iterator<Item = (usize, &'static Counter)> {
        // C shows packets and bytes before notifications and interrupts.
        let order: &[usize] = match self {
            Self::RxBasic | Self::TxBasic => &[1, 2, 0, 3],
            _ => &[0, 1, 2, 3, 4, 5],
        };
        let counters = self.counters();
        order.iter().filter_map(move |at| {
            let counter = counters.get(*at)?;
            counter.ethtool.then_some((*at, counter))
        })
    }

    /// The counters that the statistics of queues have, with their place in a reply.
    pub fn queue_counters(self) -> impl Iterator<Item = (usize, &'static str)> {
        let counters = self.counters().iter().enumerate();
        counters.filter_map(|(at, counter)| Some((at, counter.queue_name?)))
    }

    /// Bytes of a reply, the head included.
    pub const fn reply_size(self) -> usize {
        HEADER_SIZE + self.counters().len() * COUNTER_SIZE
    }
}

/// A set of [`Kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kinds(u64);

impl Kinds {
    /// Nothing.
    pub const EMPTY: Self = Self(0);

    /// What the device said that it has, `supported_stats_types`, of what is known.
    pub fn of_device(supported: u64) -> Self {
        Kind::ALL
            .into_iter()
            .filter(|kind| supported & 1 << *kind as u8 != 0)
            .fold(Self::EMPTY, Self::with)
    }

    /// The set with `kind` added.
    #[must_use]
    pub fn with(self, kind: Kind) -> Self {
        Self(self.0 | 1 << kind as u8)
    }

    /// Whether `kind` is in the set.
    pub fn has(self, kind: Kind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that `queue` has.
    #[must_use]
    pub fn of_queue(self, queue: Queue) -> Self {
        self.iter()
            .filter(|kind| kind.is_of(queue))
            .fold(Self::EMPTY, Self::with)
    }

    /// Those that have something for `ethtool -S`.
    #[must_use]
    pub fn for_ethtool(self) -> Self {
        self.iter()
            .filter(|kind| kind.ethtool().next().is_some())
            .fold(Self::EMPTY, Self::with)
    }

    /// Those that have something for the statistics of queues.
    #[must_use]
    pub fn for_queues(self) -> Self {
        self.iter()
            .filter(|kind| kind.queue_counters().next().is_some())
            .fold(Self::EMPTY, Self::with)
    }

    /// How many counters of `ethtool -S` come before those of `kind`, of the same queue; `None` if
    /// `kind` is not in the set.
    pub fn ethtool_place(self, kind: Kind, queue: Queue) -> Option<usize> {
        let before = self.of_queue(queue).iter().take_while(|it| *it != kind);
        (self.has(kind) && kind.is_of(queue)).then(|| before.map(|it| it.ethtool().count()).sum())
    }

    /// All of them, in the order of their bits.
    pub fn iter(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(move |kind| self.has(*kind))
    }

    /// Bytes of the replies about one queue.
    pub fn reply_size(self) -> usize {
        self.iter().map(Kind::reply_size).sum()
    }
}

/// Asks for `kinds` of queue `index`, [`REQUEST_SIZE`] bytes of the data of `STATS_GET`.
pub fn request(index: u16, kinds: Kinds) -> [u8; REQUEST_SIZE] {
    let mut bytes = [0; REQUEST_SIZE];
    let stats = QueueStats {
        vq_index: index.into(),
        reserved: [U16::ZERO; 3],
        types_bitmap: kinds.0.into(),
    };
    bytes.copy_from_slice(stats.as_bytes());
    bytes
}

/// What a device answered about one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The queue, one of the device.
    pub queue: Queue,
    /// What it is about, which the queue has.
    pub kind: Kind,
    counters: &'a [u8],
}

impl Reply<'_> {
    /// Counter `at` of [`Kind::counters`]; `None` beyond them.
    pub fn counter(&self, at: usize) -> Option<u64> {
        let start = at.checked_mul(COUNTER_SIZE)?;
        let (value, _) = U64::read_from_prefix(self.counters.get(start..)?).ok()?;
        Some(value.get())
    }
}

/// The replies are not what they should be: those before can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// A reply is shorter than its head, or longer than what the device wrote.
    Size,
    /// A reply is about a queue that the device does not have.
    Queue,
    /// A reply is about what its queue does not have, or is too short for it.
    Kind,
}

/// The replies that are in what a device wrote.
///
/// Ends after the first that is malformed.  What is not known, and was not asked for, is left out.
#[derive(Debug, Clone)]
pub struct Replies<'a> {
    bytes: &'a [u8],
    pairs: u16,
}

impl<'a> Replies<'a> {
    /// The replies in `bytes`, as many as the device wrote; it has so many pairs of queues.
    pub const fn new(bytes: &'a [u8], pairs: u16) -> Self {
        Self { bytes, pairs }
    }

    /// The next reply, taken off the bytes; `None` if it is not known.
    fn take(&mut self) -> Result<Option<Reply<'a>>, Malformed> {
        let (hdr, _) = StatsReplyHdr::read_from_prefix(self.bytes).map_err(|_| Malformed::Size)?;
        let size = usize::from(hdr.size.get());
        // Not 0 above all: there would be no end.
        if size < HEADER_SIZE {
            return Err(Malformed::Size);
        }
        let (reply, rest) = self.bytes.split_at_checked(size).ok_or(Malformed::Size)?;
        self.bytes = rest;
        let Some(kind) = Kind::from_wire(hdr.stats_type) else {
            return Ok(None);
        };
        let queue = Queue::of_index(hdr.vq_index.get(), self.pairs).ok_or(Malformed::Queue)?;
        if !kind.is_of(queue) || size < kind.reply_size() {
            return Err(Malformed::Kind);
        }
        Ok(Some(Reply {
            queue,
            kind,
            counters: reply.get(HEADER_SIZE..).unwrap_or_default(),
        }))
    }
}

impl<'a> Iterator for Replies<'a> {
    type Item = Result<Reply<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        // Each turn takes at least a head off the bytes.
        while !self.bytes.is_empty() {
            match self.take() {
                Ok(Some(reply)) => return Some(Ok(reply)),
                Ok(None) => {}
                Err(malformed) => {
                    self.bytes = &[];
                    return Some(Err(malformed));
                }
            }
        }
        None
    }
}

/// What the driver counts for each receive queue, as `ethtool -S` names it (C:
/// `virtnet_rq_stats_desc`).
pub const RECEIVE_NAMES: [&str; 6] = [
    "drops",
    "xdp_packets",
    "xdp_tx",
    "xdp_redirects",
    "xdp_drops",
    "kicks",
];

/// The same of transmit queues (C: `virtnet_sq_stats_desc`).
pub const TRANSMIT_NAMES: [&str; 4] = ["xdp_tx", "xdp_tx_drops", "kicks", "tx_timeouts"];
