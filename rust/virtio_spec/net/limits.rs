// SPDX-License-Identifier: GPL-2.0

//! What a network device says of itself, checked (section 5.1.4): every field of [`Config`] in one
//! place.
//!
//! C: `virtnet_validate`, `virtnet_probe`, `virtnet_update_settings` and
//! `virtnet_config_changed_work` in `drivers/net/virtio_net.c`.
//!
//! There is nothing that a network device cannot work without: what cannot be meant is left out or
//! cut down, and becomes a [`Note`](crate::notes::Note).

use super::rss::{HashTypes, MIN_KEY_SIZE};
use super::{
    Config, CtrlVq, HashReport, Mac, Mq, Mtu, Rss, SpeedDuplex, Standby, Status, STATUS_ANNOUNCE,
    STATUS_LINK_UP, VQ_PAIRS_MAX,
};
use crate::features::Features;
use crate::notes::Notes;

/// Smallest MTU that a network device can have, in bytes (C: `ETH_MIN_MTU`).
pub const MIN_MTU: u16 = 68;

/// Entries of an indirection table that is believed, at most: queues have fewer numbers.
pub const MAX_TABLE_LEN: u16 = 1 << 15;

/// What is known of the rest of the system.
#[derive(Debug, Clone, Copy)]
pub struct Environment {
    /// Queue pairs that the driver has a use for, at least 1.
    pub max_pairs: u16,
    /// Longest RSS key that the kernel keeps, in bytes (C: `NETDEV_RSS_KEY_LEN`).
    pub max_key_size: u16,
}

/// What the device can hash and steer by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hashing {
    /// Bytes of the key, at least [`MIN_KEY_SIZE`].
    pub key_size: u8,
    /// What can be hashed, of what the driver knows.
    pub types: HashTypes,
    /// Entries of the indirection table, a power of two; `None` if the device does not steer by the
    /// hash.
    pub table_len: Option<u16>,
    /// The device reports the hash with each packet.
    pub reports: bool,
}

/// What a network device is, as far as the driver wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The address of the device; one is made up without.
    pub mac: Option<[u8; 6]>,
    /// The device stands by for another one with its address.
    pub standby: bool,
    /// Queue pairs, at least 1, that the device has: the control queue comes behind them.
    pub pairs: u16,
    /// Queue pairs, at least 1, that the driver uses at most.
    pub used_pairs: u16,
    /// Largest MTU in bytes, at least [`MIN_MTU`]; it is the first one too.
    pub mtu: Option<u16>,
    /// What the device hashes, if it does.
    pub hashing: Option<Hashing>,
}

impl Limits {
    /// Reads `config`, of which `features` say what is there.
    pub fn read(config: &Config, features: Features, environment: &Environment) -> (Self, Notes) {
        let mut notes = Notes::default();
        let mac = mac(config, features, &mut notes);
        let pairs = pairs(config, features, &mut notes);
        let most = environment.max_pairs.max(1);
        let limits = Self {
            mac,
            standby: features.has::<Standby>() && mac.is_some(),
            pairs,
            used_pairs: pairs.min(most),
            mtu: mtu(config, features, &mut notes),
            hashing: hashing(config, features, environment, &mut notes),
        };
        (limits, notes)
    }
}

/// An address of a group, or of nobody, is not that of a device.
fn mac(config: &Config, features: Features, notes: &mut Notes) -> Option<[u8; 6]> {
    if !features.has::<Mac>() {
        return None;
    }
    let [a, b, c, d, e, f] = config.mac;
    let value = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
    if a & 1 != 0 || value == 0 {
        notes.without("mac", value);
        return None;
    }
    Some(config.mac)
}

/// As C has it: one where the field cannot be meant, or nobody could say how many are used.
fn pairs(config: &Config, features: Features, notes: &mut Notes) -> u16 {
    if !features.has::<Mq>() && !features.has::<Rss>() {
        return 1;
    }
    let pairs = config.max_virtqueue_pairs.get();
    if pairs == 0 || pairs > VQ_PAIRS_MAX || !features.has::<CtrlVq>() {
        notes.instead("max_virtqueue_pairs", pairs, 1_u16);
        return 1;
    }
    pairs
}

fn mtu(config: &Config, features: Features, notes: &mut Notes) -> Option<u16> {
    if !features.has::<Mtu>() {
        return None;
    }
    let mtu = config.mtu.get();
    if mtu < MIN_MTU {
        notes.without("mtu", mtu);
        return None;
    }
    Some(mtu)
}

fn hashing(
    config: &Config,
    features: Features,
    environment: &Environment,
    notes: &mut Notes,
) -> Option<Hashing> {
    let (steers, reports) = (features.has::<Rss>(), features.has::<HashReport>());
    if !steers && !reports {
        return None;
    }
    let says = config.rss_max_key_size;
    if says < MIN_KEY_SIZE {
        // Not even the addresses and ports of IPv6 can be hashed with it.
        notes.without("rss_max_key_size", says);
        return None;
    }
    // Not more than what has 8 bits.
    let key_size = notes.at_most(
        "rss_max_key_size",
        says.into(),
        environment.max_key_size.max(MIN_KEY_SIZE.into()).into(),
    ) as u8;
    let types = HashTypes::of_device(config.supported_hash_types.get());
    let table_len = if steers {
        table_len(config, notes)
    } else {
        None
    };
    if table_len.is_none() && !reports {
        return None;
    }
    Some(Hashing {
        key_size,
        types,
        table_len,
        reports,
    })
}

/// The mask of a table is its length less one: it must be a power of two (section 5.1.9.5.7.1).
fn table_len(config: &Config, notes: &mut Notes) -> Option<u16> {
    let says = config.rss_max_indirection_table_length.get();
    let len = match says.checked_ilog2() {
        Some(exponent) => MAX_TABLE_LEN.min(1 << exponent),
        None => {
            notes.without("rss_max_indirection_table_length", says);
            return None;
        }
    };
    if len != says {
        notes.instead("rss_max_indirection_table_length", says, len);
    }
    Some(len)
}

/// Whether a packet can go both ways at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duplex {
    /// It cannot.
    Half,
    /// It can.
    Full,
}

/// What the device says of its link, whenever it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The link is up, as it always is where the device does not say.
    pub is_up: bool,
    /// The driver is asked to announce itself.
    pub announce: bool,
    /// Speed in Mbit/s, at most `i32::MAX`; `None` if it is unknown.
    pub speed: Option<u32>,
    /// Duplex; `None` if it is unknown.
    pub duplex: Option<Duplex>,
}

impl Link {
    /// Reads `config`, of which `features` say what is there.
    pub fn read(config: &Config, features: Features) -> Self {
        // Bits that are not known are the future's.
        let status = if features.has::<Status>() {
            config.status.get()
        } else {
            STATUS_LINK_UP
        };
        let says_speed = features.has::<SpeedDuplex>();
        let speed = config.speed.get();
        Self {
            is_up: status & STATUS_LINK_UP != 0,
            announce: status & STATUS_ANNOUNCE != 0,
            speed: (says_speed && i32::try_from(speed).is_ok()).then_some(speed),
            duplex: match config.duplex {
                0 if says_speed => Some(Duplex::Half),
                1 if says_speed => Some(Duplex::Full),
                _ => None,
            },
        }
    }
}
