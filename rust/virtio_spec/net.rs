// SPDX-License-Identifier: GPL-2.0

//! Network device (section 5.1): feature bits, configuration, packet headers.
//!
//! The commands of the control queue are in [`ctrl`], their data in [`payload`], [`rss`],
//! [`offloads`], [`coalescing`] and [`stats`].  What a header says of a packet is checked in [`header`], what the
//! configuration says in [`limits`].

use zerocopy::little_endian::{U16, U32};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::config::{config_fields, Unlocks};
use crate::device_type::DeviceType;
use crate::features::{feature_types, AppliesTo, Class, Features};
use crate::negotiate::{Has, Requirement};

pub mod coalescing;
#[path = "net_ctrl.rs"]
pub mod ctrl;
pub mod header;
pub mod limits;
pub mod offloads;
pub mod payload;
pub mod rss;
pub mod stats;

/// The class of the network device.
#[derive(Debug, Clone, Copy)]
pub struct Net;

impl AppliesTo<Self> for Net {}

impl Class for Net {
    const DEVICE: DeviceType = DeviceType::NET;
    const DEFINED: Features = DEFINED;
    const REQUIREMENTS: &'static [Requirement] = REQUIREMENTS;
    const NAMES: &'static [(u32, &'static str)] = NAMES;
}

// The requirements are those of section 5.1.3.1, and of the sections about the control queue.
feature_types! {
    Net;
    /// The device takes packets with partial checksum.
    Csum = 0, "VIRTIO_NET_F_CSUM", [];
    /// The driver takes packets with partial checksum.
    GuestCsum = 1, "VIRTIO_NET_F_GUEST_CSUM", [];
    /// Receive offloads can be changed through the control queue.
    CtrlGuestOffloads = 2, "VIRTIO_NET_F_CTRL_GUEST_OFFLOADS", [or CtrlVq];
    /// `mtu` is the largest MTU of the device.
    Mtu = 3, "VIRTIO_NET_F_MTU", [];
    /// `mac` is the MAC address.
    Mac = 5, "VIRTIO_NET_F_MAC", [];
    /// Legacy: the device takes packets of any GSO type.
    Gso = 6, "VIRTIO_NET_F_GSO", [];
    /// The driver takes TSO over IPv4.
    GuestTso4 = 7, "VIRTIO_NET_F_GUEST_TSO4", [or GuestCsum];
    /// The driver takes TSO over IPv6.
    GuestTso6 = 8, "VIRTIO_NET_F_GUEST_TSO6", [or GuestCsum];
    /// The driver takes TSO with ECN.
    GuestEcn = 9, "VIRTIO_NET_F_GUEST_ECN", [or GuestTso4 or GuestTso6];
    /// The driver takes UFO.
    GuestUfo = 10, "VIRTIO_NET_F_GUEST_UFO", [or GuestCsum];
    /// The device takes TSO over IPv4.
    HostTso4 = 11, "VIRTIO_NET_F_HOST_TSO4", [or Csum];
    /// The device takes TSO over IPv6.
    HostTso6 = 12, "VIRTIO_NET_F_HOST_TSO6", [or Csum];
    /// The device takes TSO with ECN.
    HostEcn = 13, "VIRTIO_NET_F_HOST_ECN", [or HostTso4 or HostTso6];
    /// The device takes UFO.
    HostUfo = 14, "VIRTIO_NET_F_HOST_UFO", [or Csum];
    /// The driver can merge receive buffers.
    MrgRxbuf = 15, "VIRTIO_NET_F_MRG_RXBUF", [];
    /// `status` is available.
    Status = 16, "VIRTIO_NET_F_STATUS", [];
    /// There is a control queue.
    CtrlVq = 17, "VIRTIO_NET_F_CTRL_VQ", [];
    /// The receive mode can be set through the control queue.
    CtrlRx = 18, "VIRTIO_NET_F_CTRL_RX", [or CtrlVq];
    /// VLANs can be filtered through the control queue.
    CtrlVlan = 19, "VIRTIO_NET_F_CTRL_VLAN", [or CtrlVq];
    /// More receive modes can be set through the control queue.
    CtrlRxExtra = 20, "VIRTIO_NET_F_CTRL_RX_EXTRA", [or CtrlVq];
    /// The driver can announce itself with gratuitous packets.
    GuestAnnounce = 21, "VIRTIO_NET_F_GUEST_ANNOUNCE", [or CtrlVq];
    /// The device has several queue pairs with automatic steering.
    Mq = 22, "VIRTIO_NET_F_MQ", [or CtrlVq];
    /// The MAC address can be set through the control queue.
    CtrlMacAddr = 23, "VIRTIO_NET_F_CTRL_MAC_ADDR", [or CtrlVq];
    /// The device can report statistics.
    DeviceStats = 50, "VIRTIO_NET_F_DEVICE_STATS", [or CtrlVq];
    /// The device can hash the inner header of an encapsulated packet.
    HashTunnel = 51, "VIRTIO_NET_F_HASH_TUNNEL", [or CtrlVq, or Rss or HashReport];
    /// Notifications can be coalesced for each queue.
    VqNotfCoal = 52, "VIRTIO_NET_F_VQ_NOTF_COAL", [or CtrlVq];
    /// Notifications can be coalesced.
    NotfCoal = 53, "VIRTIO_NET_F_NOTF_COAL", [or CtrlVq];
    /// The driver takes USO over IPv4.
    GuestUso4 = 54, "VIRTIO_NET_F_GUEST_USO4", [or GuestCsum];
    /// The driver takes USO over IPv6.
    GuestUso6 = 55, "VIRTIO_NET_F_GUEST_USO6", [or GuestCsum];
    /// The device takes USO.
    HostUso = 56, "VIRTIO_NET_F_HOST_USO", [or Csum];
    /// The device reports a hash with each packet.
    HashReport = 57, "VIRTIO_NET_F_HASH_REPORT", [or CtrlVq];
    /// The driver gives the exact header length.
    GuestHdrlen = 59, "VIRTIO_NET_F_GUEST_HDRLEN", [];
    /// The device can steer by a Toeplitz hash.
    Rss = 60, "VIRTIO_NET_F_RSS", [or CtrlVq];
    /// The device reports coalesced segments and duplicated acknowledgements.
    RscExt = 61, "VIRTIO_NET_F_RSC_EXT", [or HostTso4 or HostTso6];
    /// The device stands by for another one with the same MAC address, which it therefore needs
    /// (`virtnet_validate()`).
    Standby = 62, "VIRTIO_NET_F_STANDBY", [or Mac];
    /// `speed` and `duplex` are available.
    SpeedDuplex = 63, "VIRTIO_NET_F_SPEED_DUPLEX", [];
    /// The device has several RSS contexts.
    RssContext = 64, "VIRTIO_NET_F_RSS_CONTEXT", [or CtrlVq, or Rss];
    /// The driver takes GSO packets in a UDP tunnel.
    GuestUdpTunnelGso = 65, "VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO",
        [or GuestTso4, or GuestTso6, or GuestUso4, or GuestUso6];
    /// The driver takes partial checksums of the outer header of a UDP tunnel.
    GuestUdpTunnelGsoCsum = 66, "VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO_CSUM",
        [or GuestUdpTunnelGso];
    /// The device takes GSO packets in a UDP tunnel.
    HostUdpTunnelGso = 67, "VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO",
        [or HostTso4, or HostTso6, or HostUso];
    /// The device takes partial checksums of the outer header of a UDP tunnel.
    HostUdpTunnelGsoCsum = 68, "VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO_CSUM", [or HostUdpTunnelGso];
}

/// Gate of what exists with [`Mq`] or with [`Rss`].
#[derive(Debug, Clone, Copy)]
pub enum MqOrRss {}
impl Unlocks<MqOrRss> for Has<Mq> {}
impl Unlocks<MqOrRss> for Has<Rss> {}

/// Gate of what exists with [`Rss`] or with [`HashReport`].
#[derive(Debug, Clone, Copy)]
pub enum RssOrHashReport {}
impl Unlocks<RssOrHashReport> for Has<Rss> {}
impl Unlocks<RssOrHashReport> for Has<HashReport> {}

/// `struct virtio_net_config` (section 5.1.4).
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Config {
    /// MAC address.
    pub mac: [u8; 6],
    /// [`STATUS_LINK_UP`] and [`STATUS_ANNOUNCE`].
    pub status: U16,
    /// Number of queue pairs.
    pub max_virtqueue_pairs: U16,
    /// Largest MTU, in bytes.
    pub mtu: U16,
    /// Speed, in Mbit/s.
    pub speed: U32,
    /// 0 half, 1 full duplex.
    pub duplex: u8,
    /// Longest RSS key, in bytes.
    pub rss_max_key_size: u8,
    /// Largest number of entries of the RSS indirection table.
    pub rss_max_indirection_table_length: U16,
    /// Hash types that the device supports.
    pub supported_hash_types: U32,
    /// Encapsulations whose inner header the device can hash.
    pub supported_tunnel_types: U32,
}

const _: () = assert!(core::mem::size_of::<Config>() == 28);

config_fields! {
    Config;
    /// MAC address; readable without [`Mac`], but meaningless then.
    MAC: [u8; 6] = mac, ReadOnly, Mac, 0;
    /// MAC address through the legacy interface, which lets the driver write it (section 5.1.4.3).
    MAC_LEGACY: [u8; 6] = mac, ReadWrite, Mac, 0;
    /// [`STATUS_LINK_UP`] and [`STATUS_ANNOUNCE`].
    STATUS: u16 = status, ReadOnly, Status, 6;
    /// Number of queue pairs, 1 to 0x8000.
    MAX_VIRTQUEUE_PAIRS: u16 = max_virtqueue_pairs, ReadOnly, MqOrRss, 8;
    /// Largest MTU, in bytes, at least 68.
    MTU: u16 = mtu, ReadOnly, Mtu, 10;
    /// Speed in Mbit/s; above 0x7fff_ffff it is unknown.
    SPEED: u32 = speed, ReadOnly, SpeedDuplex, 12;
    /// 0 half duplex, 1 full duplex, anything else unknown.
    DUPLEX: u8 = duplex, ReadOnly, SpeedDuplex, 16;
    /// Longest RSS key, in bytes, at least 40.
    RSS_MAX_KEY_SIZE: u8 = rss_max_key_size, ReadOnly, RssOrHashReport, 17;
    /// Largest number of entries of the RSS indirection table, at least 128.
    RSS_MAX_INDIRECTION_TABLE_LENGTH: u16 =
        rss_max_indirection_table_length, ReadOnly, Rss, 18;
    /// Hash types that the device supports, [`hash_type`].
    SUPPORTED_HASH_TYPES: u32 = supported_hash_types, ReadOnly, RssOrHashReport, 20;
    /// Encapsulations whose inner header the device can hash.
    SUPPORTED_TUNNEL_TYPES: u32 = supported_tunnel_types, ReadOnly, HashTunnel, 24;
}

/// Bit of `status`: the link is up.
pub const STATUS_LINK_UP: u16 = 1;
/// Bit of `status`: the driver is asked to announce itself.
pub const STATUS_ANNOUNCE: u16 = 2;

/// Smallest legal `max_virtqueue_pairs`.
pub const VQ_PAIRS_MIN: u16 = 1;
/// Largest legal `max_virtqueue_pairs`.
pub const VQ_PAIRS_MAX: u16 = 0x8000;

/// Hash types (section 5.1.9.4.4.1), `VIRTIO_NET_RSS_HASH_TYPE_*` in C.
pub mod hash_type {
    /// IPv4.
    pub const IPV4: u32 = 1 << 0;
    /// TCP over IPv4.
    pub const TCPV4: u32 = 1 << 1;
    /// UDP over IPv4.
    pub const UDPV4: u32 = 1 << 2;
    /// IPv6.
    pub const IPV6: u32 = 1 << 3;
    /// TCP over IPv6.
    pub const TCPV6: u32 = 1 << 4;
    /// UDP over IPv6.
    pub const UDPV6: u32 = 1 << 5;
    /// IPv6 with extension headers.
    pub const IP_EX: u32 = 1 << 6;
    /// TCP over IPv6 with extension headers.
    pub const TCP_EX: u32 = 1 << 7;
    /// UDP over IPv6 with extension headers.
    pub const UDP_EX: u32 = 1 << 8;
}

/// Bits of [`Hdr::flags`] (section 5.1.9).
pub mod hdr_flag {
    /// `csum_start` and `csum_offset` say where a checksum is to be put.
    pub const NEEDS_CSUM: u8 = 1;
    /// The checksum of the packet was validated.
    pub const DATA_VALID: u8 = 2;
    /// `csum_start` and `csum_offset` hold the number of segments and of duplicated ACKs.
    pub const RSC_INFO: u8 = 4;
    /// The outer header of the UDP tunnel has a checksum.
    pub const UDP_TUNNEL_CSUM: u8 = 8;
}

/// Values of [`Hdr::gso_type`] (section 5.1.9).
pub mod gso_type {
    /// Not a GSO packet.
    pub const NONE: u8 = 0;
    /// TCP over IPv4.
    pub const TCPV4: u8 = 1;
    /// UDP fragmentation.
    pub const UDP: u8 = 3;
    /// TCP over IPv6.
    pub const TCPV6: u8 = 4;
    /// UDP segmentation.
    pub const UDP_L4: u8 = 5;
    /// Flag: in a UDP tunnel over IPv4.
    pub const UDP_TUNNEL_IPV4: u8 = 0x20;
    /// Flag: in a UDP tunnel over IPv6.
    pub const UDP_TUNNEL_IPV6: u8 = 0x40;
    /// Flag: TCP with ECN.
    pub const ECN: u8 = 0x80;
}

/// The packet header without `num_buffers`: the legacy interface without [`MrgRxbuf`].
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct HdrLegacy {
    /// [`hdr_flag`].
    pub flags: u8,
    /// [`gso_type`].
    pub gso_type: u8,
    /// Length of the headers, in bytes.
    pub hdr_len: U16,
    /// Payload of each segment, in bytes.
    pub gso_size: U16,
    /// Where to start the checksum, in bytes from the start of the packet.
    pub csum_start: U16,
    /// Where to put it, in bytes from `csum_start`.
    pub csum_offset: U16,
}

const _: () = assert!(core::mem::size_of::<HdrLegacy>() == 10);

/// The packet header, `struct virtio_net_hdr_v1` in C (section 5.1.9).
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Hdr {
    /// [`hdr_flag`].
    pub flags: u8,
    /// [`gso_type`].
    pub gso_type: u8,
    /// Length of the headers, in bytes.
    pub hdr_len: U16,
    /// Payload of each segment, in bytes.
    pub gso_size: U16,
    /// Where to start the checksum, in bytes; the number of segments with `RSC_INFO`.
    pub csum_start: U16,
    /// Where to put it, in bytes; the number of duplicated ACKs with `RSC_INFO`.
    pub csum_offset: U16,
    /// Number of merged receive buffers; 1 without [`MrgRxbuf`], 0 when sent by the driver.
    pub num_buffers: U16,
}

const _: () = assert!(core::mem::size_of::<Hdr>() == 12);

/// The packet header with [`HashReport`], `struct virtio_net_hdr_v1_hash` in C.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct HdrHash {
    /// The header itself.
    pub hdr: Hdr,
    /// The hash.
    pub hash_value: U32,
    /// What was hashed, [`hash_report`].
    pub hash_report: U16,
    /// Reserved.
    pub padding: U16,
}

const _: () = assert!(core::mem::size_of::<HdrHash>() == 20);

/// The packet header with UDP tunnel offload, `struct virtio_net_hdr_v1_hash_tunnel` in C.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct HdrHashTunnel {
    /// The header with a hash.
    pub hash_hdr: HdrHash,
    /// Offset of the outer transport header, in bytes.
    pub outer_th_offset: U16,
    /// Offset of the inner network header, in bytes.
    pub inner_nh_offset: U16,
}

const _: () = assert!(core::mem::size_of::<HdrHashTunnel>() == 24);

/// Length of the packet header that `features` ask for, in bytes (section 5.1.9).
///
/// ```
/// use virtio_spec::{net, transport, Features};
/// assert_eq!(net::hdr_len(Features::EMPTY), 10);
/// assert_eq!(net::hdr_len(Features::EMPTY.with::<transport::Version1>()), 12);
/// assert_eq!(net::hdr_len(Features::EMPTY.with::<net::HashReport>()), 20);
/// ```
pub const fn hdr_len(features: Features) -> usize {
    if features.has::<GuestUdpTunnelGso>() || features.has::<HostUdpTunnelGso>() {
        core::mem::size_of::<HdrHashTunnel>()
    } else if features.has::<HashReport>() {
        core::mem::size_of::<HdrHash>()
    } else if features.has::<MrgRxbuf>() || features.has::<crate::transport::Version1>() {
        core::mem::size_of::<Hdr>()
    } else {
        core::mem::size_of::<HdrLegacy>()
    }
}

/// Values of [`HdrHash::hash_report`] (section 5.1.9.4.4).
pub mod hash_report {
    /// No hash.
    pub const NONE: u16 = 0;
    /// IPv4.
    pub const IPV4: u16 = 1;
    /// TCP over IPv4.
    pub const TCPV4: u16 = 2;
    /// UDP over IPv4.
    pub const UDPV4: u16 = 3;
    /// IPv6.
    pub const IPV6: u16 = 4;
    /// TCP over IPv6.
    pub const TCPV6: u16 = 5;
    /// UDP over IPv6.
    pub const UDPV6: u16 = 6;
    /// IPv6 with extension headers.
    pub const IPV6_EX: u16 = 7;
    /// TCP over IPv6 with extension headers.
    pub const TCPV6_EX: u16 = 8;
    /// UDP over IPv6 with extension headers.
    pub const UDPV6_EX: u16 = 9;
}
