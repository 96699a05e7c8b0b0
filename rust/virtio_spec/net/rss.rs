// SPDX-License-Identifier: GPL-2.0

//! Receive-side scaling and hash reports (sections 5.1.9.4.2 and 5.1.9.5.7): what is hashed, with
//! what key, and which queue a packet goes to.
//!
//! C: `virtnet_commit_rss_command`, `virtnet_get_hashflow`, `virtnet_set_hashflow` and
//! `virtnet_set_rxfh` in `drivers/net/virtio_net.c`.

use core::mem::size_of;

use zerocopy::little_endian::U16;
use zerocopy::IntoBytes;

use super::ctrl::{HashConfigHdr, RssConfigHdr, RssConfigTrailer};
use super::hash_type;

/// Bytes of the shortest key that is enough for the addresses and ports of IPv6, which every device
/// that hashes must take (section 5.1.4).
pub const MIN_KEY_SIZE: u8 = 40;

/// Kinds of packets that a user chooses the fields of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// TCP over IPv4 (C: `TCP_V4_FLOW`).
    TcpV4,
    /// UDP over IPv4 (C: `UDP_V4_FLOW`).
    UdpV4,
    /// Anything else over IPv4 (C: `IPV4_FLOW`).
    IpV4,
    /// TCP over IPv6 (C: `TCP_V6_FLOW`).
    TcpV6,
    /// UDP over IPv6 (C: `UDP_V6_FLOW`).
    UdpV6,
    /// Anything else over IPv6 (C: `IPV6_FLOW`).
    IpV6,
}

impl Flow {
    /// What hashes the addresses of such packets, and what hashes their ports too.
    const fn types(self) -> (u32, Option<u32>) {
        match self {
            Self::TcpV4 => (hash_type::IPV4, Some(hash_type::TCPV4)),
            Self::UdpV4 => (hash_type::IPV4, Some(hash_type::UDPV4)),
            Self::IpV4 => (hash_type::IPV4, None),
            Self::TcpV6 => (hash_type::IPV6, Some(hash_type::TCPV6)),
            Self::UdpV6 => (hash_type::IPV6, Some(hash_type::UDPV6)),
            Self::IpV6 => (hash_type::IPV6, None),
        }
    }
}

/// What of a packet is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fields {
    /// Nothing (C: `RXH_DISCARD` when set, 0 when asked for).
    Nothing,
    /// Source and destination address (C: `RXH_IP_SRC | RXH_IP_DST`).
    Addresses,
    /// The ports too (C: `RXH_L4_B_0_1 | RXH_L4_B_2_3` as well).
    AddressesAndPorts,
}

/// A set of [`hash_type`], of those that the driver knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HashTypes(u32);

impl HashTypes {
    /// Nothing is hashed.
    pub const EMPTY: Self = Self(0);

    /// All that the driver knows: not those with extension headers (as C).
    pub const ALL: Self = Self(
        hash_type::IPV4
            | hash_type::TCPV4
            | hash_type::UDPV4
            | hash_type::IPV6
            | hash_type::TCPV6
            | hash_type::UDPV6,
    );

    /// What `supported_hash_types` has, of what the driver knows.
    pub const fn of_device(supported: u32) -> Self {
        Self(supported & Self::ALL.0)
    }

    /// The set as commands have it.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether all of `self` are in `other`.
    pub const fn is_subset_of(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// What is hashed of packets of `flow`.
    pub const fn fields(self, flow: Flow) -> Fields {
        let (addresses, ports) = flow.types();
        match ports {
            Some(ports) if self.0 & ports != 0 => Fields::AddressesAndPorts,
            _ if self.0 & addresses != 0 => Fields::Addresses,
            _ => Fields::Nothing,
        }
    }

    /// The set with which `fields` of packets of `flow` are hashed, on a device that has
    /// `supported`.  `None` if it cannot.
    ///
    /// The addresses of all packets of a version of IP are hashed or not: other flows may change.
    /// (C clears all other flows too when that of plain packets is set: not copied.)
    pub fn with_fields(self, flow: Flow, fields: Fields, supported: Self) -> Option<Self> {
        let (addresses, ports) = flow.types();
        let rest = self.0 & !(addresses | ports.unwrap_or(0));
        let types = match fields {
            Fields::Nothing => rest,
            Fields::Addresses => rest | addresses,
            Fields::AddressesAndPorts => rest | addresses | ports?,
        };
        Some(Self(types)).filter(|types| types.is_subset_of(supported))
    }
}

/// Why a configuration is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadConfig {
    /// The table's length is not a power of two, or there is no entry.
    TableLen,
    /// An entry of the table, or the queue of packets that are not hashed, is not in use.
    Queue,
    /// The number of transmit queues is 0.
    Pairs,
    /// The key is longer than 255 bytes.
    KeyLen,
    /// There is no room for it.
    Room,
}

/// Entry `index` of a table that spreads packets over `pairs` queues (C:
/// `ethtool_rxfh_indir_default`); 0 without any.
pub const fn default_entry(index: u16, pairs: u16) -> u16 {
    match index.checked_rem(pairs) {
        Some(queue) => queue,
        None => 0,
    }
}

/// How packets are steered, `VIRTIO_NET_CTRL_MQ_RSS_CONFIG`.
#[derive(Debug, Clone, Copy)]
pub struct RssConfig<'a> {
    /// What is hashed.
    pub types: HashTypes,
    /// Receive queues, by their pair; a power of two of them.
    pub table: &'a [u16],
    /// Receive queue, by its pair, of packets that are not hashed.
    pub unclassified: u16,
    /// Queue pairs in use, at least 1.
    pub pairs: u16,
    /// The key.
    pub key: &'a [u8],
}

impl RssConfig<'_> {
    /// Bytes of the data of the command, with a table of `table_len` entries and a key of
    /// `key_len` bytes.
    pub const fn size(table_len: u16, key_len: u8) -> usize {
        size_of::<RssConfigHdr>()
            + table_len as usize * size_of::<u16>()
            + size_of::<RssConfigTrailer>()
            + key_len as usize
    }

    /// Writes the data of the command to the start of `out`; returns how many bytes it has.
    ///
    /// # Errors
    ///
    /// What is wrong with the configuration; nothing of `out` means anything then.
    pub fn write(&self, out: &mut [u8]) -> Result<usize, BadConfig> {
        let len = u16::try_from(self.table.len()).map_err(|_| BadConfig::TableLen)?;
        if !len.is_power_of_two() {
            return Err(BadConfig::TableLen);
        }
        if self.pairs == 0 {
            return Err(BadConfig::Pairs);
        }
        if self.unclassified >= self.pairs || self.table.iter().any(|queue| *queue >= self.pairs) {
            return Err(BadConfig::Queue);
        }
        let hdr = RssConfigHdr {
            hash_types: self.types.bits().into(),
            indirection_table_mask: (len - 1).into(),
            unclassified_queue: self.unclassified.into(),
        };
        let trailer = RssConfigTrailer {
            max_tx_vq: self.pairs.into(),
            hash_key_length: u8::try_from(self.key.len()).map_err(|_| BadConfig::KeyLen)?,
        };
        let mut writer = Writer::new(out);
        writer.put(hdr.as_bytes())?;
        for queue in self.table {
            writer.put(U16::new(*queue).as_bytes())?;
        }
        writer.put(trailer.as_bytes())?;
        writer.put(self.key)?;
        Ok(writer.len)
    }
}

/// What is hashed for reports alone, `VIRTIO_NET_CTRL_MQ_HASH_CONFIG`.
#[derive(Debug, Clone, Copy)]
pub struct HashConfig<'a> {
    /// What is hashed.
    pub types: HashTypes,
    /// The key.
    pub key: &'a [u8],
}

impl HashConfig<'_> {
    /// Bytes of the data of the command, with a key of `key_len` bytes.
    pub const fn size(key_len: u8) -> usize {
        size_of::<HashConfigHdr>() + key_len as usize
    }

    /// Writes the data of the command to the start of `out`; returns how many bytes it has.
    ///
    /// # Errors
    ///
    /// [`BadConfig::KeyLen`] and [`BadConfig::Room`].
    pub fn write(&self, out: &mut [u8]) -> Result<usize, BadConfig> {
        let hdr = HashConfigHdr {
            hash_types: self.types.bits().into(),
            reserved: [U16::ZERO; 4],
            hash_key_length: u8::try_from(self.key.len()).map_err(|_| BadConfig::KeyLen)?,
        };
        let mut writer = Writer::new(out);
        writer.put(hdr.as_bytes())?;
        writer.put(self.key)?;
        Ok(writer.len)
    }
}

/// Writes one piece behind the other.
struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    fn new(out: &'a mut [u8]) -> Self {
        Self { out, len: 0 }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), BadConfig> {
        let end = self.len + bytes.len();
        let room = self.out.get_mut(self.len..end).ok_or(BadConfig::Room)?;
        room.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }
}
