// SPDX-License-Identifier: GPL-2.0

//! Ethernet devices with several queues.
//!
//! C headers: [`include/linux/netdevice.h`](srctree/include/linux/netdevice.h),
//! [`include/linux/skbuff.h`](srctree/include/linux/skbuff.h),
//! [`include/net/page_pool/helpers.h`](srctree/include/net/page_pool/helpers.h).
//!
//! A driver implements [`Operations`], and makes a [`NewDevice`], which is a [`Device`] once it is
//! registered, until it is dropped.  A [`SkBuff`] is a value with one owner.  What a driver keeps of
//! a transmit queue is reached through a [`TxGuard`], which the stack's own lock is behind; what it
//! keeps of a receive queue is in a [`Napi`], which one poll at a time has.
//!
//! Upstream: `rust/kernel/net/`, which has none of it yet.

#[path = "netdev/bridge.rs"]
mod bridge;
#[path = "netdev/device.rs"]
mod device;
#[path = "netdev/ethtool.rs"]
mod ethtool;
#[path = "netdev/napi.rs"]
mod napi;
#[path = "netdev/operations.rs"]
mod operations;
#[path = "netdev/pool.rs"]
mod pool;
#[path = "netdev/rss.rs"]
mod rss;
#[path = "netdev/skb.rs"]
mod skb;
#[path = "netdev/statistics.rs"]
mod statistics;
#[cfg(CONFIG_KUNIT = "y")]
#[path = "netdev/tests.rs"]
mod tests;
#[path = "netdev/tx_queue.rs"]
mod tx_queue;

pub use bridge::{
    Outgoing,
    RxBuffer, //
};
pub use device::{
    feature,
    online_cpus,
    rtnl_lock,
    Device,
    DeviceRef,
    NewDevice,
    RtnlGuard,
    RxFilter,
    MAX_MTU,
    MIN_MTU, //
};
pub use ethtool::{
    Channels,
    LinkSettings,
    Rings, //
};
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

/// Bytes of an Ethernet header.
pub const ETH_HLEN: u32 = virtio_bindings::ETH_HLEN;

/// Bytes of a MAC address.
pub const ETH_ALEN: usize = virtio_bindings::ETH_ALEN as usize;
