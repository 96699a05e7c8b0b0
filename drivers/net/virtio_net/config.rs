// SPDX-License-Identifier: GPL-2.0

//! The configuration of a device, each field read once an event and checked (specification 5.1.4).

use netdev::LinkSettings;
use virtio::device::Device;
use virtio_spec::{
    net::{
        self,
        limits::{
            Environment,
            Limits, //
        },
        Config, //
    },
    notes::Notes,
    Features, //
};
use zerocopy::{
    little_endian::{
        U16,
        U32, //
    },
    FromZeros, //
};

/// Reads so many bytes at `offset`; what does not hold still is `None`.
fn read<const N: usize>(dev: &Device, offset: usize) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    dev.read_config(offset as u32, &mut bytes).ok()?;
    Some(bytes)
}

/// Queue pairs that the driver has a use for: all, since the control queue comes behind them.
const MAX_PAIRS: u16 = net::VQ_PAIRS_MAX;

/// Bytes of the longest RSS key: the kernel keeps more than its length has bits for.
const MAX_KEY_SIZE: u16 = u8::MAX as u16;

/// The features to agree on, of those that both have: not what cannot be made use of.
pub(crate) fn validate(dev: &Device, agreed: Features) -> Features {
    let mut features = agreed;
    let (limits, _) = limits(dev, features);
    if limits.mtu.is_none() {
        features = features.without::<net::Mtu>();
    }
    if limits.hashing.and_then(|it| it.table_len).is_none() {
        features = features.without::<net::Rss>();
    }
    if limits.hashing.is_none() {
        features = features.without::<net::HashReport>();
    }
    features
}

/// What the device says of itself, and what of that cannot be meant.
pub(crate) fn limits(dev: &Device, features: Features) -> (Limits, Notes) {
    let mut config = Config::new_zeroed();
    if features.has::<net::Mac>() {
        config.mac = read(dev, Config::MAC.offset()).unwrap_or_default();
    }
    if features.has::<net::Mq>() || features.has::<net::Rss>() {
        let pairs = read(dev, Config::MAX_VIRTQUEUE_PAIRS.offset()).unwrap_or_default();
        config.max_virtqueue_pairs = U16::from_bytes(pairs);
    }
    if features.has::<net::Mtu>() {
        config.mtu = U16::from_bytes(read(dev, Config::MTU.offset()).unwrap_or_default());
    }
    if features.has::<net::Rss>() {
        let table_len = read(dev, Config::RSS_MAX_INDIRECTION_TABLE_LENGTH.offset());
        config.rss_max_indirection_table_length = U16::from_bytes(table_len.unwrap_or_default());
    }
    if features.has::<net::Rss>() || features.has::<net::HashReport>() {
        let types = read(dev, Config::SUPPORTED_HASH_TYPES.offset());
        let [key_size] = read(dev, Config::RSS_MAX_KEY_SIZE.offset()).unwrap_or_default();
        config.rss_max_key_size = key_size;
        config.supported_hash_types = U32::from_bytes(types.unwrap_or_default());
    }
    let environment = Environment {
        max_pairs: MAX_PAIRS,
        max_key_size: MAX_KEY_SIZE,
    };
    Limits::read(&config, features, &environment)
}

/// The status field: whether there is a link, and whether the device is to be announced.
pub(crate) fn status(dev: &Device, features: Features) -> u16 {
    if !features.has::<net::Status>() {
        return net::STATUS_LINK_UP;
    }
    read(dev, Config::STATUS.offset()).map_or(0, u16::from_le_bytes)
}

/// How fast the link is.
pub(crate) fn link_settings(dev: &Device, features: Features) -> LinkSettings {
    if !features.has::<net::SpeedDuplex>() {
        return LinkSettings::UNKNOWN;
    }
    let speed = read(dev, Config::SPEED.offset()).map_or(u32::MAX, u32::from_le_bytes);
    let duplex = read(dev, Config::DUPLEX.offset()).map_or(u8::MAX, |[duplex]| duplex);
    LinkSettings::checked(speed, duplex)
}
