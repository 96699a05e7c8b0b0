// SPDX-License-Identifier: GPL-2.0

//! Ethernet devices with several queues.
//!
//! C headers: [`include/linux/netdevice.h`](srctree/include/linux/netdevice.h),
//! [`include/linux/skbuff.h`](srctree/include/linux/skbuff.h),
//! [`include/net/page_pool/helpers.h`](srctree/include/net/page_pool/helpers.h),
//! [`include/net/xdp.h`](srctree/include/net/xdp.h),
//! [`include/net/xdp_sock_drv.h`](srctree/include/net/xdp_sock_drv.h).
//!
//! A driver implements [`Operations`], and makes a [`NewDevice`], which is a [`Device`] once it is
//! registered, until it is dropped.  A [`SkBuff`] is a value with one owner.  What a driver keeps of
//! a transmit queue is reached through a [`TxGuard`], which the stack's own lock is behind; what it
//! keeps of a receive queue is in a [`Napi`], which one poll at a time has.
//!
//! Upstream: `rust/kernel/net/`, which has none of it yet.

#[path = "netdev/bridge.rs"]
mod bridge;
#[path = "netdev/coalescing.rs"]
mod coalescing;
#[path = "netdev/device.rs"]
mod device;
#[path = "netdev/dim.rs"]
mod dim;
#[path = "netdev/ethtool.rs"]
mod ethtool;
#[path = "netdev/ethtool_statistics.rs"]
mod ethtool_statistics;
#[path = "netdev/failover.rs"]
mod failover;
#[path = "netdev/hotplug.rs"]
mod hotplug;
#[path = "netdev/metadata.rs"]
mod metadata;
#[path = "netdev/napi.rs"]
mod napi;
#[path = "netdev/operations.rs"]
mod operations;
#[path = "netdev/param.rs"]
pub mod param;
#[path = "netdev/pool.rs"]
mod pool;
#[path = "netdev/queue_statistics.rs"]
mod queue_statistics;
#[path = "netdev/rss.rs"]
mod rss;
#[path = "netdev/skb.rs"]
mod skb;
#[path = "netdev/statistics.rs"]
mod statistics;
#[path = "netdev/sysfs.rs"]
mod sysfs;
#[cfg(CONFIG_KUNIT = "y")]
#[path = "netdev/tests.rs"]
mod tests;
#[path = "netdev/tx_queue.rs"]
mod tx_queue;
#[path = "netdev/xdp.rs"]
mod xdp;
#[path = "netdev/xdp_frame.rs"]
mod xdp_frame;
#[cfg(CONFIG_KUNIT = "y")]
#[path = "netdev/xdp_tests.rs"]
mod xdp_tests;
#[path = "netdev/xsk.rs"]
mod xsk;

pub use bridge::{
    Outgoing,
    RxBuffer,
    Sent, //
};
pub use device::{
    feature,
    online_cpus,
    rtnl_lock,
    synchronize_net,
    Device,
    DeviceRef,
    NewDevice,
    RtnlGuard,
    RxFilter,
    MAX_MTU,
    MIN_MTU, //
};
pub use dim::{
    Dim,
    Moderator,
    Sampler, //
};
pub use ethtool::{
    Channels,
    LinkSettings,
    Rings, //
};
pub use ethtool_statistics::{
    QueueKind,
    StatisticName,
    Statistics, //
};
pub use hotplug::CpuStates;
pub use napi::{
    Napi,
    Poll,
    Polled,
    Polling,
    QueueType,
    Suppress, //
};
pub use operations::{
    Operations,
    TxOutcome, //
};
pub use pool::{
    Memory,
    PoolBuffer,
    PoolBuffers,
    IP_ALIGN,
    RX_PAD,
    SHARED_INFO_ROOM, //
};
pub use queue_statistics::{
    RxQueueStatistics,
    TxQueueStatistics, //
};
pub use rss::{
    rss_key,
    RssSizes, //
};
pub use skb::{
    Assembly,
    SkBuff,
    MAX_FRAGS, //
};
pub use statistics::{
    Counter,
    Totals, //
};
pub use tx_queue::TxGuard;
pub use xdp::{
    Extack,
    Program,
    Verdict,
    XdpBuff,
    XDP_HEADROOM,
    XDP_ROOM, //
};
pub use xdp_frame::{
    XdpFrame,
    XdpFrames, //
};
pub use xsk::{
    Refill,
    XskBuff,
    XskBuffer,
    XskFrame,
    XskPool,
    XskRx,
    XskTx, //
};

/// Bytes of an Ethernet header.
pub const ETH_HLEN: u32 = virtio_bindings::ETH_HLEN;

/// Bytes of a MAC address.
pub const ETH_ALEN: usize = virtio_bindings::ETH_ALEN as usize;
