// SPDX-License-Identifier: GPL-2.0

//! Packet headers (section 5.1.9): what a device says of a packet, checked, and what a driver says.
//!
//! C: `virtio_net_hdr_tnl_to_skb`, `virtio_net_handle_csum_offload` and
//! `virtio_net_hdr_tnl_from_skb` in `include/linux/virtio_net.h`; `receive_mergeable` and
//! `virtio_skb_set_hash` in `drivers/net/virtio_net.c`.
//!
//! A header is copied out of the buffer once, by [`Layout::read`].  What the copy says of the
//! packet is believed after [`Header::check`] alone, which knows the length of the packet, and
//! does not look at the packet itself.

use core::fmt;
use core::mem::size_of;
use core::num::NonZeroU16;

use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, IntoBytes};

use super::{
    gso_type, hash_report, hdr_flag, hdr_len, Csum, Gso as GsoLegacy, GuestUdpTunnelGso,
    GuestUdpTunnelGsoCsum, HashReport, Hdr, HdrHash, HdrHashTunnel, HdrLegacy, HostEcn, HostTso4,
    HostTso6, HostUdpTunnelGso, HostUdpTunnelGsoCsum, HostUso, MrgRxbuf,
};
use crate::features::Features;
use crate::transport::Version1;

/// Bytes of an Ethernet header, the least that a packet has.
pub const ETH_HLEN: u32 = 14;

/// Bytes of the longest header.
pub const MAX_SIZE: usize = size_of::<HdrHashTunnel>();

/// The start of a buffer, as much as the longest header has.
pub type Words = [u64; MAX_SIZE / size_of::<u64>()];

/// Segments of a UDP GSO packet at most (C: `UDP_MAX_SEGMENTS`).
const UDP_MAX_SEGMENTS: u32 = 128;

/// Least payload of a TCP segment, in bytes (C: `TCP_MIN_GSO_SIZE`).
const TCP_MIN_GSO_SIZE: u16 = 8;

/// What the kernel takes for something else than a size (C: `GSO_BY_FRAGS`).
const GSO_BY_FRAGS: u16 = 0xffff;

/// Bytes of a TCP header without options.
const TCP_HLEN: u32 = 20;

/// Bytes of a UDP header.
const UDP_HLEN: u32 = 8;

/// Where the checksum is in a TCP header, in bytes.
const TCP_CHECK: u16 = 16;

/// Where the checksum is in a UDP header, in bytes.
const UDP_CHECK: u16 = 6;

/// The versions of the Internet Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpVersion {
    /// Bytes of the shortest header.
    const fn min_len(self) -> u32 {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }
}

/// What kind of segments a packet is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GsoKind {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// Fragments of a UDP datagram.
    Udp,
    /// UDP datagrams.
    UdpL4,
}

impl GsoKind {
    /// The kind that a [`gso_type`] without its flags names.
    const fn from_wire(value: u8) -> Option<Self> {
        match value {
            gso_type::TCPV4 => Some(Self::TcpV4),
            gso_type::TCPV6 => Some(Self::TcpV6),
            gso_type::UDP => Some(Self::Udp),
            gso_type::UDP_L4 => Some(Self::UdpL4),
            _ => None,
        }
    }

    const fn to_wire(self) -> u8 {
        match self {
            Self::TcpV4 => gso_type::TCPV4,
            Self::TcpV6 => gso_type::TCPV6,
            Self::Udp => gso_type::UDP,
            Self::UdpL4 => gso_type::UDP_L4,
        }
    }

    /// Whether it is TCP, else UDP.
    pub const fn is_tcp(self) -> bool {
        matches!(self, Self::TcpV4 | Self::TcpV6)
    }

    /// Bytes of the shortest transport header.
    pub const fn min_transport_len(self) -> u32 {
        if self.is_tcp() {
            TCP_HLEN
        } else {
            UDP_HLEN
        }
    }

    /// The version of the Internet Protocol, where the kind says it.
    pub const fn ip_version(self) -> Option<IpVersion> {
        match self {
            Self::TcpV4 => Some(IpVersion::V4),
            Self::TcpV6 => Some(IpVersion::V6),
            Self::Udp | Self::UdpL4 => None,
        }
    }
}

/// A checksum that is to be completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partial {
    /// Where the sum begins: the transport header, in bytes from the start of the packet.
    pub start: u16,
    /// Where to put it, in bytes from `start`.
    pub offset: u16,
}

/// What is known of the checksum of a received packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// Nothing.
    Unknown,
    /// The device has validated it.
    Valid {
        /// Whether that of the packet in a UDP tunnel was validated too (C: `csum_level`).
        in_tunnel: bool,
    },
    /// It is not complete: the packet comes from this host, or from another guest.
    Partial(Partial),
}

/// A packet that is to be cut into segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gso {
    /// What it is made of.
    pub kind: GsoKind,
    /// TCP with ECN.
    pub ecn: bool,
    /// Bytes of a segment after its headers: neither 0 nor `GSO_BY_FRAGS`.
    pub size: u16,
}

impl Gso {
    /// Whether a packet of `len` bytes with its transport header at `transport` has more than one
    /// segment.  The kernel must not take it for a GSO packet else.
    ///
    /// # Errors
    ///
    /// There is no room for the transport header, or there are more segments than there may be.
    pub fn has_segments(&self, transport: u32, len: u32) -> Result<bool, Malformed> {
        let headers = transport.saturating_add(self.kind.min_transport_len());
        let payload = len.checked_sub(headers).ok_or(Malformed::GsoType)?;
        let size = u32::from(self.size);
        match self.kind {
            GsoKind::UdpL4 if payload > size * UDP_MAX_SEGMENTS => Err(Malformed::GsoSize),
            // The transport header may be part of the first fragment.
            GsoKind::Udp => Ok(len - transport > size),
            _ => Ok(payload > size),
        }
    }
}

/// A packet in a UDP tunnel.  Offsets are in bytes from the start of the packet; the transport
/// header of the inner packet is where its checksum starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tunnel {
    /// What the tunnel runs over.
    pub outer: IpVersion,
    /// Offset of the outer transport header.
    pub outer_transport: u16,
    /// Offset of the inner network header.
    pub inner_network: u16,
    /// The outer header has a checksum.
    pub checksum: bool,
}

impl Tunnel {
    /// The inner network protocol of a packet of `kind`, whose transport header is at `transport`
    /// and whose inner network header begins with `first`.
    ///
    /// # Errors
    ///
    /// The inner network header has no room.
    pub fn inner(&self, kind: GsoKind, transport: u16, first: u8) -> Result<IpVersion, Malformed> {
        let version = kind.ip_version().unwrap_or(match first >> 4 {
            6 => IpVersion::V6,
            _ => IpVersion::V4,
        });
        let end = u32::from(self.inner_network) + version.min_len();
        if u32::from(transport) < end {
            return Err(Malformed::Tunnel);
        }
        Ok(version)
    }
}

/// What was hashed (section 5.1.9.4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hashed {
    /// The addresses of the network header (C: `PKT_HASH_TYPE_L3`).
    Network(IpVersion),
    /// The ports too, of TCP (C: `PKT_HASH_TYPE_L4`).
    Tcp(IpVersion),
    /// The ports too, of UDP (C: `PKT_HASH_TYPE_L4`).
    Udp(IpVersion),
}

/// The hash of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hash {
    /// The hash.
    pub value: u32,
    /// What was hashed.
    pub of: Hashed,
    /// The addresses are those of extension headers.
    pub extended: bool,
}

/// What a device says of a packet, as far as it can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// The checksum.
    pub checksum: Checksum,
    /// The packet is to be cut into segments.
    ///
    /// Where `checksum` is partial, its transport header is where the checksum starts, and there
    /// is more than one segment.  Else the caller must find the header in the packet (C:
    /// `skb_flow_dissect_flow_keys_basic`), check that it is of this kind, and ask
    /// [`Gso::has_segments`].
    pub gso: Option<Gso>,
    /// The packet is in a tunnel; it has a partial checksum then.  Its inner network protocol is
    /// to be asked for, [`Tunnel::inner`].
    pub tunnel: Option<Tunnel>,
}

/// Why a packet cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// There are not as many bytes as a header and an Ethernet header have.
    TooShort,
    /// `num_buffers` is 0, or more than there can be.
    NumBuffers,
    /// `gso_type` is unknown, or not what the packet is.
    GsoType,
    /// `gso_size` cannot be.
    GsoSize,
    /// `csum_start` and `csum_offset` are not in the packet, or not where its headers have it.
    Checksum,
    /// The tunnel was not agreed on, or its headers do not follow each other.
    Tunnel,
}

impl Malformed {
    /// What is wrong.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooShort => "too short",
            Self::NumBuffers => "num_buffers",
            Self::GsoType => "gso_type",
            Self::GsoSize => "gso_size",
            Self::Checksum => "checksum offsets",
            Self::Tunnel => "UDP tunnel",
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a driver says of a packet that it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Transmit {
    /// The device is to complete the checksum.
    pub checksum: Option<Partial>,
    /// The device is to cut it into segments, for which it completes the checksum too.
    pub gso: Option<Gso>,
    /// Bytes of all headers of a GSO packet: exactly with [`super::GuestHdrlen`], else how much of
    /// the packet is contiguous.
    pub header_len: u16,
    /// The packet is in a tunnel: `checksum` and `gso` are about the inner one.
    pub tunnel: Option<Tunnel>,
}

/// The packet asks for what was not agreed on, or for segments without a checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

/// What the negotiated features make of packet headers.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    features: Features,
    size: usize,
}

impl Layout {
    /// The layout with the negotiated `features`.
    pub const fn new(features: Features) -> Self {
        Self {
            features,
            size: hdr_len(features),
        }
    }

    /// Bytes of a header: 10, 12, 20 or 24.
    pub const fn size(&self) -> usize {
        self.size
    }

    /// Whether a packet may have several buffers.
    pub const fn merges(&self) -> bool {
        self.features.has::<MrgRxbuf>()
    }

    /// Copies a header from `head`, the start of the first buffer, of which the device wrote
    /// `written` bytes.
    ///
    /// # Errors
    ///
    /// [`Malformed::TooShort`] without room for header and Ethernet header.
    pub fn read(&self, head: &[u8], written: u32) -> Result<Header, Malformed> {
        if !self.fits(written) {
            return Err(Malformed::TooShort);
        }
        Ok(Header {
            wire: self.copy(head).ok_or(Malformed::TooShort)?,
            layout: *self,
        })
    }

    /// What [`Header::check`] says of the checksum, of a header that says nothing else: the usual one.
    /// `None` for all others.  `head` was read by the caller, each word once, of a packet that is
    /// [long enough](Layout::fits), in one buffer.
    #[inline(always)]
    pub fn plain(&self, head: &Words) -> Option<Checksum> {
        let wire: HdrHashTunnel = zerocopy::transmute!(*head);
        let hdr = wire.hash_hdr.hdr;
        if self.size != size_of::<Hdr>()
            || hdr.gso_type != gso_type::NONE
            || (self.merges() && self.of_wire(hdr.num_buffers) != 1)
        {
            return None;
        }
        match hdr.flags {
            0 => Some(Checksum::Unknown),
            hdr_flag::DATA_VALID => Some(Checksum::Valid { in_tunnel: false }),
            _ => None,
        }
    }

    /// As [`Layout::read`], of words that were each read once.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn read_words(&self, head: &Words, written: u32) -> Result<Header, Malformed> {
        self.read(head.as_bytes(), written)
    }

    /// Whether `written` bytes have room for a header and an Ethernet header.
    #[inline]
    pub fn fits(&self, written: u32) -> bool {
        u64::from(written) >= self.size as u64 + u64::from(ETH_HLEN)
    }

    /// What there is of a header; the rest of the longest one is 0.
    fn copy(&self, head: &[u8]) -> Option<HdrHashTunnel> {
        let mut wire = HdrHashTunnel::default();
        if self.size == size_of::<HdrLegacy>() {
            let (hdr, _) = HdrLegacy::read_from_prefix(head).ok()?;
            wire.hash_hdr.hdr = Hdr {
                flags: hdr.flags,
                gso_type: hdr.gso_type,
                hdr_len: hdr.hdr_len,
                gso_size: hdr.gso_size,
                csum_start: hdr.csum_start,
                csum_offset: hdr.csum_offset,
                num_buffers: U16::ZERO,
            };
        } else if self.size == size_of::<Hdr>() {
            (wire.hash_hdr.hdr, _) = Hdr::read_from_prefix(head).ok()?;
        } else if self.size == size_of::<HdrHash>() {
            (wire.hash_hdr, _) = HdrHash::read_from_prefix(head).ok()?;
        } else {
            (wire, _) = HdrHashTunnel::read_from_prefix(head).ok()?;
        }
        Some(wire)
    }

    /// The header of a packet that is sent.
    ///
    /// # Errors
    ///
    /// [`Refused`] if it asks for what was not negotiated.
    #[inline]
    pub fn write(&self, packet: &Transmit) -> Result<Header, Refused> {
        let mut wire = HdrHashTunnel::default();
        if packet.gso.is_none() && packet.checksum.is_none() && packet.tunnel.is_none() {
            return Ok(Header {
                wire,
                layout: *self,
            });
        }
        let hdr = &mut wire.hash_hdr.hdr;
        if let Some(checksum) = packet.checksum {
            require(self.features.has::<Csum>())?;
            hdr.flags |= hdr_flag::NEEDS_CSUM;
            hdr.csum_start = self.to_wire(checksum.start);
            hdr.csum_offset = self.to_wire(checksum.offset);
        }
        if let Some(gso) = packet.gso {
            require(self.may_send(&gso) && packet.checksum.is_some())?;
            hdr.gso_type |= gso.kind.to_wire();
            if gso.ecn {
                hdr.gso_type |= gso_type::ECN;
            }
            hdr.gso_size = self.to_wire(gso.size);
            hdr.hdr_len = self.to_wire(packet.header_len);
        }
        if let Some(tunnel) = packet.tunnel {
            require(self.features.has::<HostUdpTunnelGso>() && packet.gso.is_some())?;
            hdr.gso_type |= match tunnel.outer {
                IpVersion::V4 => gso_type::UDP_TUNNEL_IPV4,
                IpVersion::V6 => gso_type::UDP_TUNNEL_IPV6,
            };
            if tunnel.checksum {
                require(self.features.has::<HostUdpTunnelGsoCsum>())?;
                hdr.flags |= hdr_flag::UDP_TUNNEL_CSUM;
            }
            wire.outer_th_offset.set(tunnel.outer_transport);
            wire.inner_nh_offset.set(tunnel.inner_network);
        }
        Ok(Header {
            wire,
            layout: *self,
        })
    }

    /// Whether the device takes such packets.  UDP fragments are not sent: as C, which acknowledges
    /// the feature without making use of it.
    fn may_send(&self, gso: &Gso) -> bool {
        let features = self.features;
        let any_tcp = features.has::<GsoLegacy>();
        let kind = match gso.kind {
            GsoKind::TcpV4 => any_tcp || features.has::<HostTso4>(),
            GsoKind::TcpV6 => any_tcp || features.has::<HostTso6>(),
            GsoKind::Udp => false,
            GsoKind::UdpL4 => features.has::<HostUso>(),
        };
        kind && (!gso.ecn || (gso.kind.is_tcp() && (any_tcp || features.has::<HostEcn>())))
    }

    /// A field as the CPU has it; native through the legacy interface (section 5.1.9.1).
    #[inline]
    fn of_wire(&self, field: U16) -> u16 {
        if self.features.has::<Version1>() {
            field.get()
        } else {
            u16::from_ne_bytes(field.to_bytes())
        }
    }

    /// Undoes [`Layout::of_wire`].
    #[inline]
    fn to_wire(self, value: u16) -> U16 {
        if self.features.has::<Version1>() {
            U16::new(value)
        } else {
            U16::from_bytes(value.to_ne_bytes())
        }
    }
}

const fn require(agreed: bool) -> Result<(), Refused> {
    if agreed {
        Ok(())
    } else {
        Err(Refused)
    }
}

/// A header: our own copy, which no device changes after it was checked.
#[derive(Clone, Copy)]
pub struct Header {
    wire: HdrHashTunnel,
    layout: Layout,
}

impl Header {
    /// As it is on the wire, [`Layout::size`] bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        let bytes = self.wire.as_bytes();
        bytes.get(..self.layout.size).unwrap_or(bytes)
    }

    fn hdr(&self) -> &Hdr {
        &self.wire.hash_hdr.hdr
    }

    /// In how many buffers a received packet is, of which the driver has `most` with the device
    /// and in hand.
    ///
    /// # Errors
    ///
    /// [`Malformed::NumBuffers`] if it is in none, or in more than there are.  After a 0, this
    /// buffer alone is lost; after too many, what the next ones are is not known.
    #[inline]
    pub fn num_buffers(&self, most: u16) -> Result<NonZeroU16, Malformed> {
        if !self.layout.merges() {
            return Ok(NonZeroU16::MIN);
        }
        NonZeroU16::new(self.layout.of_wire(self.hdr().num_buffers))
            .filter(|count| count.get() <= most.max(1))
            .ok_or(Malformed::NumBuffers)
    }

    /// The hash of the packet, if there is one.
    #[inline]
    pub fn hash(&self) -> Option<Hash> {
        if !self.layout.features.has::<HashReport>() {
            return None;
        }
        let (of, extended) = hashed(self.wire.hash_hdr.hash_report.get())?;
        Some(Hash {
            value: self.wire.hash_hdr.hash_value.get(),
            of,
            extended,
        })
    }

    /// What the header says of a packet of `len` bytes, without the header.
    ///
    /// # Errors
    ///
    /// Why the packet is to be dropped.
    #[inline]
    pub fn check(&self, len: u32) -> Result<Received, Malformed> {
        let hdr = self.hdr();
        if hdr.gso_type == gso_type::NONE && hdr.flags & hdr_flag::NEEDS_CSUM == 0 {
            return Ok(Received {
                checksum: self.validated()?,
                gso: None,
                tunnel: None,
            });
        }
        self.check_offload(len)
    }

    fn check_offload(&self, len: u32) -> Result<Received, Malformed> {
        let hdr = self.hdr();
        let gso = self.gso()?;
        let tunnel = self.tunnel(gso)?;
        if hdr.flags & hdr_flag::NEEDS_CSUM == 0 {
            return match gso.map(|gso| gso.kind) {
                // Without the checksum's place, only the packet tells where the payload begins.
                Some(GsoKind::UdpL4) => Err(Malformed::Checksum),
                _ => Ok(Received {
                    checksum: self.validated()?,
                    gso,
                    tunnel,
                }),
            };
        }
        let partial = self.partial(gso, len)?;
        let start = u32::from(partial.start);
        let gso = match gso {
            Some(gso) if gso.has_segments(start, len)? => Some(gso),
            _ => None,
        };
        Ok(Received {
            checksum: Checksum::Partial(partial),
            gso,
            tunnel,
        })
    }

    /// The checksum of a packet that has it complete, which devices may validate without
    /// [`super::GuestCsum`] too.
    #[inline]
    fn validated(&self) -> Result<Checksum, Malformed> {
        let flags = self.hdr().flags;
        if flags & hdr_flag::DATA_VALID == 0 {
            return Ok(Checksum::Unknown);
        }
        let in_tunnel = flags & hdr_flag::UDP_TUNNEL_CSUM != 0;
        if in_tunnel && !self.layout.features.has::<GuestUdpTunnelGsoCsum>() {
            return Err(Malformed::Tunnel);
        }
        Ok(Checksum::Valid { in_tunnel })
    }

    /// What the packet is made of, if it is not one segment.
    fn gso(&self) -> Result<Option<Gso>, Malformed> {
        let hdr = self.hdr();
        let tunnels = gso_type::UDP_TUNNEL_IPV4 | gso_type::UDP_TUNNEL_IPV6;
        let bits = hdr.gso_type & !tunnels;
        if bits == gso_type::NONE {
            return Ok(None);
        }
        let kind = GsoKind::from_wire(bits & !gso_type::ECN).ok_or(Malformed::GsoType)?;
        let ecn = bits & gso_type::ECN != 0;
        if ecn && !kind.is_tcp() {
            return Err(Malformed::GsoType);
        }
        let mut size = self.layout.of_wire(hdr.gso_size);
        if size == 0 || size == GSO_BY_FRAGS {
            return Err(Malformed::GsoSize);
        }
        if kind.is_tcp() {
            size = size.max(TCP_MIN_GSO_SIZE);
        }
        Ok(Some(Gso { kind, ecn, size }))
    }

    /// The tunnel that the packet is in, one with segments.
    fn tunnel(&self, gso: Option<Gso>) -> Result<Option<Tunnel>, Malformed> {
        let hdr = self.hdr();
        let outer = match hdr.gso_type & (gso_type::UDP_TUNNEL_IPV4 | gso_type::UDP_TUNNEL_IPV6) {
            0 => return Ok(None),
            gso_type::UDP_TUNNEL_IPV4 => IpVersion::V4,
            gso_type::UDP_TUNNEL_IPV6 => IpVersion::V6,
            _ => return Err(Malformed::Tunnel),
        };
        let features = self.layout.features;
        let checksum = hdr.flags & hdr_flag::UDP_TUNNEL_CSUM != 0;
        let agreed = features.has::<GuestUdpTunnelGso>()
            && (!checksum || features.has::<GuestUdpTunnelGsoCsum>());
        let needs = hdr.flags & (hdr_flag::NEEDS_CSUM | hdr_flag::DATA_VALID);
        let kind = match gso {
            Some(gso) if gso.kind != GsoKind::Udp => gso.kind,
            _ => return Err(Malformed::Tunnel),
        };
        let outer_transport = self.wire.outer_th_offset.get();
        let inner_network = self.wire.inner_nh_offset.get();
        let inner = kind.ip_version().unwrap_or(IpVersion::V4);
        let inner_transport = u32::from(self.layout.of_wire(hdr.csum_start));
        if !agreed
            || needs != hdr_flag::NEEDS_CSUM
            || u32::from(outer_transport) < ETH_HLEN + outer.min_len()
            || u32::from(inner_network) < u32::from(outer_transport) + UDP_HLEN
            || inner_transport < u32::from(inner_network) + inner.min_len()
        {
            return Err(Malformed::Tunnel);
        }
        Ok(Some(Tunnel {
            outer,
            outer_transport,
            inner_network,
            checksum,
        }))
    }

    /// The place of a checksum that is to be completed, in a packet of `len` bytes.
    fn partial(&self, gso: Option<Gso>, len: u32) -> Result<Partial, Malformed> {
        let partial = Partial {
            start: self.layout.of_wire(self.hdr().csum_start),
            offset: self.layout.of_wire(self.hdr().csum_offset),
        };
        let (network_len, transport_len, place) = match gso.map(|gso| gso.kind) {
            None => (IpVersion::V4.min_len(), 0, None),
            Some(kind) => (
                kind.ip_version().unwrap_or(IpVersion::V4).min_len(),
                kind.min_transport_len(),
                match kind {
                    GsoKind::TcpV4 | GsoKind::TcpV6 => Some(TCP_CHECK),
                    GsoKind::UdpL4 => Some(UDP_CHECK),
                    GsoKind::Udp => None,
                },
            ),
        };
        let start = u32::from(partial.start);
        let needed = start + transport_len.max(u32::from(partial.offset) + 2);
        if start < ETH_HLEN + network_len
            || needed > len
            || place.is_some_and(|place| partial.offset != place)
        {
            return Err(Malformed::Checksum);
        }
        Ok(partial)
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hdr = self.hdr();
        let field = |field| self.layout.of_wire(field);
        write!(
            f,
            "flags {:#x}, gso_type {:#x}, hdr_len {}, gso_size {}, csum {}+{}, num_buffers {}",
            hdr.flags,
            hdr.gso_type,
            field(hdr.hdr_len),
            field(hdr.gso_size),
            field(hdr.csum_start),
            field(hdr.csum_offset),
            field(hdr.num_buffers),
        )
    }
}

/// What a [`hash_report`] stands for, and whether extension headers were used.
const fn hashed(report: u16) -> Option<(Hashed, bool)> {
    Some(match report {
        hash_report::IPV4 => (Hashed::Network(IpVersion::V4), false),
        hash_report::TCPV4 => (Hashed::Tcp(IpVersion::V4), false),
        hash_report::UDPV4 => (Hashed::Udp(IpVersion::V4), false),
        hash_report::IPV6 => (Hashed::Network(IpVersion::V6), false),
        hash_report::TCPV6 => (Hashed::Tcp(IpVersion::V6), false),
        hash_report::UDPV6 => (Hashed::Udp(IpVersion::V6), false),
        hash_report::IPV6_EX => (Hashed::Network(IpVersion::V6), true),
        hash_report::TCPV6_EX => (Hashed::Tcp(IpVersion::V6), true),
        hash_report::UDPV6_EX => (Hashed::Udp(IpVersion::V6), true),
        _ => return None,
    })
}
