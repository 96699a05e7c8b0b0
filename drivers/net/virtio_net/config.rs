// SPDX-License-Identifier: GPL-2.0

//! The configuration of a device, each field read once an event and checked (specification 5.1.4).

use netdev::{
    LinkSettings,
    ETH_ALEN,
    MIN_MTU, //
};
use virtio::device::Device;
use virtio_spec::{
    net::{
        self,
        Config, //
    },
    Features, //
};

/// Reads so many bytes at `offset`; what does not hold still is `None`.
fn read<const N: usize>(dev: &Device, offset: usize) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    dev.read_config(offset as u32, &mut bytes).ok()?;
    Some(bytes)
}

/// The features to agree on, of those that both have: not what cannot be made use of.
pub(crate) fn validate(dev: &Device, agreed: Features) -> Features {
    let mut features = agreed;
    if features.has::<net::Mtu>() && mtu(dev, features).is_none() {
        features = features.without::<net::Mtu>();
    }
    features
}

/// The largest MTU in bytes, of a device that has one that can be.
pub(crate) fn mtu(dev: &Device, features: Features) -> Option<u32> {
    if !features.has::<net::Mtu>() {
        return None;
    }
    let mtu = u32::from(u16::from_le_bytes(read(dev, Config::MTU.offset())?));
    (mtu >= MIN_MTU).then_some(mtu)
}

/// The MAC address, if the device has one.
pub(crate) fn address(dev: &Device, features: Features) -> Option<[u8; ETH_ALEN]> {
    if !features.has::<net::Mac>() {
        return None;
    }
    read(dev, Config::MAC.offset())
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
