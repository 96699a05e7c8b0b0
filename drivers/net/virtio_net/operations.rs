// SPDX-License-Identifier: GPL-2.0

//! What the stack and ethtool call.
//!
//! C source: `virtnet_netdev` and `virtnet_ethtool_ops` in `drivers/net/virtio_net.c`.

use crate::{
    coalescing::Coalescer,
    interface::Interface,
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
    Extack,
    LinkSettings,
    Program,
    QueueKind,
    QueueType,
    Rings,
    RssSizes,
    RxQueueStatistics,
    SkBuff,
    StatisticName,
    Statistics,
    Totals,
    TxOutcome,
    TxQueueStatistics,
    XdpFrames,
    XskPool,
    ETH_ALEN, //
};
use virtio_spec::net::{
    coalescing::Settings,
    rss::{
        Fields,
        Flow, //
    }, //
};

/// The driver, as the stack sees it.
pub(crate) struct Operations;

impl netdev::Operations for Operations {
    type Data = Interface;
    type Tx = Tx;
    type Moderator = Coalescer;

    const NAME: &'static str = "virtio_net";
    const VERSION: &'static str = "1.0.0";

    fn open(dev: &DeviceRef<Self>, interface: &Interface) -> Result {
        interface.open(dev);
        Ok(())
    }

    fn stop(dev: &DeviceRef<Self>, interface: &Interface) {
        interface.stop(dev);
    }

    #[inline]
    fn start_xmit(
        _interface: &Interface,
        tx: TxGuard<'_>,
        _index: usize,
        skb: SkBuff,
        more: bool,
    ) -> TxOutcome {
        transmit::start_xmit(tx, skb, more)
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

    fn set_rings(interface: &Interface, rx: u32, tx: u32) -> Result {
        interface.set_rings(rx, tx)
    }

    fn rx_buffer_size(interface: &Interface, index: usize) -> u32 {
        interface.rx_buffer_size(index)
    }

    fn channels(interface: &Interface) -> Channels {
        interface.channels()
    }

    fn set_channels(dev: &DeviceRef<Self>, interface: &Interface, combined: u32) -> Result {
        interface.set_channels(dev, combined)
    }

    fn cpus_changed(dev: &DeviceRef<Self>, interface: &Interface) {
        interface.follow_cpus(dev);
    }

    fn set_features(interface: &Interface, now: u64, wanted: u64) -> Result {
        interface.set_features(now, wanted)
    }

    fn coalescing(interface: &Interface) -> Settings {
        interface.coalescing()
    }

    fn set_coalescing(interface: &Interface, settings: Settings) -> Result {
        interface.set_coalescing(settings)
    }

    fn queue_coalescing(interface: &Interface, index: usize) -> Result<Settings> {
        interface.queue_coalescing(index)
    }

    fn set_queue_coalescing(interface: &Interface, index: usize, settings: Settings) -> Result {
        interface.set_queue_coalescing(index, settings)
    }

    fn set_xdp(
        dev: &DeviceRef<Self>,
        interface: &Interface,
        program: Option<Program>,
        extack: &mut Extack<'_>,
    ) -> Result {
        interface.set_xdp(dev, program, extack)
    }

    fn xdp_queue(interface: &Interface) -> Option<usize> {
        interface.xdp_queues.redirect_index()
    }

    fn xdp_xmit(tx: TxGuard<'_>, frames: &mut XdpFrames<'_>, flush: bool) {
        transmit::send_frames(tx, frames, flush);
    }

    fn bind_xsk(
        dev: &DeviceRef<Self>,
        interface: &Interface,
        index: usize,
        pool: XskPool<'_>,
    ) -> Result {
        interface.bind_xsk(dev, index, pool)
    }

    fn unbind_xsk(_dev: &DeviceRef<Self>, interface: &Interface, index: usize) {
        interface.unbind_xsk(index);
    }

    fn xsk_wakeup(interface: &Interface, index: usize, kind: QueueType) -> Result {
        interface.wake_for_xsk(index, kind)
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

    fn statistic_names(
        interface: &Interface,
        kind: QueueKind,
    ) -> impl Iterator<Item = StatisticName> {
        interface.statistic_names(kind)
    }

    fn statistics(interface: &Interface, numbers: &mut Statistics<'_>) {
        interface.show_statistics(numbers);
    }

    fn rx_queue_statistics(interface: &Interface, index: usize, numbers: &mut RxQueueStatistics) {
        interface.show_rx_queue(index, numbers);
    }

    fn tx_queue_statistics(interface: &Interface, index: usize, numbers: &mut TxQueueStatistics) {
        interface.show_tx_queue(index, numbers);
    }

    fn base_statistics(
        interface: &Interface,
        rx: &mut RxQueueStatistics,
        tx: &mut TxQueueStatistics,
    ) {
        interface.show_base(rx, tx);
    }
}
