// SPDX-License-Identifier: GPL-2.0

//! What the stack and ethtool call.
//!
//! C source: `virtnet_netdev` and `virtnet_ethtool_ops` in `drivers/net/virtio_net.c`.

use crate::{
    interface::Interface,
    statistics::{
        RX_NAMES,
        TX_NAMES, //
    },
    transmit::{
        self,
        Tx,
        TxGuard, //
    },
};
use kernel::prelude::*;
use netdev::{
    Channels,
    DeviceRef,
    LinkSettings,
    Rings,
    RssSizes,
    SkBuff,
    Totals,
    TxOutcome,
    ETH_ALEN, //
};
use virtio_spec::net::rss::{
    Fields,
    Flow, //
};

/// The driver, as the stack sees it.
pub(crate) struct Operations;

impl netdev::Operations for Operations {
    type Data = Interface;
    type Tx = Tx;

    const NAME: &'static str = "virtio_net";
    const VERSION: &'static str = "1.0.0";
    const RX_STATISTICS: &'static [&'static str] = RX_NAMES;
    const TX_STATISTICS: &'static [&'static str] = TX_NAMES;

    fn open(dev: &DeviceRef<Self>, interface: &Interface) -> Result {
        interface.open(dev);
        Ok(())
    }

    fn stop(dev: &DeviceRef<Self>, interface: &Interface) {
        interface.stop(dev);
    }

    #[inline]
    fn start_xmit(
        interface: &Interface,
        tx: TxGuard<'_>,
        index: usize,
        skb: SkBuff,
        more: bool,
    ) -> TxOutcome {
        transmit::start_xmit(tx, skb, more, || interface.poll_tx(index))
    }

    fn totals(interface: &Interface) -> Totals {
        interface.totals()
    }

    fn set_mac_address(interface: &Interface, address: &[u8; ETH_ALEN]) -> Result {
        interface.set_address(address)
    }

    fn set_rx_mode(dev: &DeviceRef<Self>, interface: &Interface) -> Result {
        interface.set_rx_mode(dev)
    }

    fn add_vlan(interface: &Interface, id: u16) -> Result {
        interface.set_vlan(id, true)
    }

    fn remove_vlan(interface: &Interface, id: u16) -> Result {
        interface.set_vlan(id, false)
    }

    fn tx_timeout(dev: &DeviceRef<Self>, interface: &Interface, index: usize) {
        if let Some(tx) = dev.lock_tx(index) {
            interface.tx_timeout(tx, index);
        }
    }

    fn bus_name(interface: &Interface) -> &CStr {
        interface.bus_name()
    }

    fn rings(interface: &Interface) -> Rings {
        interface.rings()
    }

    fn channels(interface: &Interface) -> Channels {
        interface.channels()
    }

    fn set_channels(dev: &DeviceRef<Self>, interface: &Interface, combined: u32) -> Result {
        interface.set_channels(dev, combined)
    }

    fn set_features(interface: &Interface, now: u64, wanted: u64) -> Result {
        interface.set_features(now, wanted)
    }

    fn rss_sizes(interface: &Interface) -> RssSizes {
        interface.rss_sizes()
    }

    fn rss(interface: &Interface, table: &mut [u32], key: &mut [u8]) {
        interface.show_rss(table, key);
    }

    fn set_rss(interface: &Interface, table: Option<&[u32]>, key: Option<&[u8]>) -> Result {
        interface.set_rss(table, key)
    }

    fn rss_fields(interface: &Interface, flow: Flow) -> Fields {
        interface.rss_fields(flow)
    }

    fn set_rss_fields(interface: &Interface, flow: Flow, fields: Fields) -> Result {
        interface.set_rss_fields(flow, fields)
    }

    fn link_settings(interface: &Interface) -> LinkSettings {
        interface.link_settings()
    }

    fn set_link_settings(interface: &Interface, settings: LinkSettings) {
        interface.set_link_settings(settings);
    }

    fn rx_statistics(interface: &Interface, index: usize, values: &mut [u64]) {
        interface.show_rx(index, values);
    }

    fn tx_statistics(interface: &Interface, index: usize, values: &mut [u64]) {
        interface.show_tx(index, values);
    }
}
