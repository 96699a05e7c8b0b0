// SPDX-License-Identifier: GPL-2.0

//! Commands of the network device's control queue (section 5.1.9.5).

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The answer of the device: the command was carried out.
pub const OK: u8 = 0;
/// The answer of the device: the command was not carried out.
pub const ERR: u8 = 1;
/// What the driver puts there before it hands the byte to the device; no device writes it.
pub const NOT_WRITTEN: u8 = 0xff;

/// The header of a command, `struct virtio_net_ctrl_hdr`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct CtrlHdr {
    /// The class of the command.
    pub class: u8,
    /// The command within the class.
    pub cmd: u8,
}

impl CtrlHdr {
    const fn new(class: u8, cmd: u8) -> Self {
        Self { class, cmd }
    }

    /// Promiscuous mode, with one byte on or off; needs [`super::CtrlRx`].
    pub const RX_PROMISC: Self = Self::new(0, 0);
    /// All multicast, with one byte on or off; needs [`super::CtrlRx`].
    pub const RX_ALLMULTI: Self = Self::new(0, 1);
    /// All unicast; needs [`super::CtrlRxExtra`].
    pub const RX_ALLUNI: Self = Self::new(0, 2);
    /// No multicast; needs [`super::CtrlRxExtra`].
    pub const RX_NOMULTI: Self = Self::new(0, 3);
    /// No unicast; needs [`super::CtrlRxExtra`].
    pub const RX_NOUNI: Self = Self::new(0, 4);
    /// No broadcast; needs [`super::CtrlRxExtra`].
    pub const RX_NOBCAST: Self = Self::new(0, 5);
    /// MAC filter: two tables, each a 32-bit count and that many addresses.
    pub const MAC_TABLE_SET: Self = Self::new(1, 0);
    /// MAC address; needs [`super::CtrlMacAddr`].
    pub const MAC_ADDR_SET: Self = Self::new(1, 1);
    /// Adds a VLAN id; needs [`super::CtrlVlan`].
    pub const VLAN_ADD: Self = Self::new(2, 0);
    /// Removes a VLAN id; needs [`super::CtrlVlan`].
    pub const VLAN_DEL: Self = Self::new(2, 1);
    /// Acknowledges an announcement; needs [`super::GuestAnnounce`].
    pub const ANNOUNCE_ACK: Self = Self::new(3, 0);
    /// Number of queue pairs, [`Mq`]; needs [`super::Mq`].
    pub const MQ_VQ_PAIRS_SET: Self = Self::new(4, 0);
    /// RSS parameters; needs [`super::Rss`].
    pub const MQ_RSS_CONFIG: Self = Self::new(4, 1);
    /// Hash parameters; needs [`super::HashReport`].
    pub const MQ_HASH_CONFIG: Self = Self::new(4, 2);
    /// Receive offloads, a 64-bit set; needs [`super::CtrlGuestOffloads`].
    pub const GUEST_OFFLOADS_SET: Self = Self::new(5, 0);
    /// Transmit coalescing, [`Coal`]; needs [`super::NotfCoal`].
    pub const NOTF_COAL_TX_SET: Self = Self::new(6, 0);
    /// Receive coalescing, [`Coal`]; needs [`super::NotfCoal`].
    pub const NOTF_COAL_RX_SET: Self = Self::new(6, 1);
    /// Coalescing of one queue, [`CoalVq`]; needs [`super::VqNotfCoal`].
    pub const NOTF_COAL_VQ_SET: Self = Self::new(6, 2);
    /// Asks for the coalescing of one queue; needs [`super::VqNotfCoal`].
    pub const NOTF_COAL_VQ_GET: Self = Self::new(6, 3);
    /// Asks which statistics there are; needs [`super::DeviceStats`].
    pub const STATS_QUERY: Self = Self::new(8, 0);
    /// Asks for statistics; needs [`super::DeviceStats`].
    pub const STATS_GET: Self = Self::new(8, 1);
}

/// `struct virtio_net_ctrl_mq`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Mq {
    /// Number of queue pairs to use.
    pub virtqueue_pairs: U16,
}

/// The fixed head of `struct virtio_net_rss_config`; the indirection table follows.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RssConfigHdr {
    /// [`super::hash_type`].
    pub hash_types: U32,
    /// Number of entries of the indirection table, minus one.
    pub indirection_table_mask: U16,
    /// Queue of the packets that are not hashed.
    pub unclassified_queue: U16,
}

/// What follows the indirection table; the key of `hash_key_length` bytes comes next.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RssConfigTrailer {
    /// Number of transmit queues.
    pub max_tx_vq: U16,
    /// Length of the key, in bytes.
    pub hash_key_length: u8,
}

/// The fixed head of `struct virtio_net_hash_config`; the key follows.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct HashConfigHdr {
    /// [`super::hash_type`].
    pub hash_types: U32,
    /// Zero, for the layout of [`RssConfigHdr`].
    pub reserved: [U16; 4],
    /// Length of the key, in bytes.
    pub hash_key_length: u8,
}

/// `struct virtio_net_ctrl_coal`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Coal {
    /// Most packets before a notification.
    pub max_packets: U32,
    /// Longest delay of a notification, in microseconds.
    pub max_usecs: U32,
}

/// `struct virtio_net_ctrl_coal_vq`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct CoalVq {
    /// Index of the queue.
    pub vqn: U16,
    /// Reserved.
    pub reserved: U16,
    /// The parameters.
    pub coal: Coal,
}

/// `struct virtio_net_stats_capabilities`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct StatsCapabilities {
    /// Set of the statistics that the device has.
    pub supported_stats_types: U64,
}

/// One entry of `struct virtio_net_ctrl_queue_stats`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct QueueStats {
    /// Index of the queue.
    pub vq_index: U16,
    /// Reserved.
    pub reserved: [U16; 3],
    /// Set of the statistics that are asked for.
    pub types_bitmap: U64,
}

/// `struct virtio_net_stats_reply_hdr`; `size` bytes, header included, make one reply.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct StatsReplyHdr {
    /// Which statistics.
    pub stats_type: u8,
    /// Reserved.
    pub reserved: u8,
    /// Index of the queue.
    pub vq_index: U16,
    /// Reserved.
    pub reserved1: U16,
    /// Length of the reply with this header, in bytes.
    pub size: U16,
}

const _: () = {
    assert!(core::mem::size_of::<CtrlHdr>() == 2);
    assert!(core::mem::size_of::<RssConfigHdr>() == 8);
    assert!(core::mem::size_of::<RssConfigTrailer>() == 3);
    assert!(core::mem::size_of::<HashConfigHdr>() == 13);
    assert!(core::mem::size_of::<CoalVq>() == 12);
    assert!(core::mem::size_of::<QueueStats>() == 16);
    assert!(core::mem::size_of::<StatsReplyHdr>() == 8);
};
