// SPDX-License-Identifier: GPL-2.0

//! Network driver: `ethX` from a virtio device (specification 5.1).
//!
//! C source: `drivers/net/virtio_net.c`.
//!
//! A pair of virtqueues is a receive queue and a transmit queue of the stack, each with a NAPI
//! context.  The receive queue belongs to its context, the transmit queue is under the stack's own
//! lock.  The interface outlives resets of the device: over a freeze or a recovery it is taken from
//! the stack, and what the device had is dropped.

#![forbid(unsafe_code)]

#[path = "virtio_net/average.rs"]
mod average;
#[path = "virtio_net/channels.rs"]
mod channels;
#[path = "virtio_net/coalescing.rs"]
mod coalescing;
#[path = "virtio_net/config.rs"]
mod config;
#[path = "virtio_net/control.rs"]
mod control;
#[path = "virtio_net/filters.rs"]
mod filters;
#[path = "virtio_net/interface.rs"]
mod interface;
#[path = "virtio_net/offloads.rs"]
mod offloads;
#[path = "virtio_net/operations.rs"]
mod operations;
#[path = "virtio_net/receive.rs"]
mod receive;
#[path = "virtio_net/receive_xdp.rs"]
mod receive_xdp;
#[path = "virtio_net/receive_xsk.rs"]
mod receive_xsk;
#[path = "virtio_net/rings.rs"]
mod rings;
#[path = "virtio_net/statistics.rs"]
mod statistics;
#[path = "virtio_net/steering.rs"]
mod steering;
#[path = "virtio_net/transmit.rs"]
mod transmit;
#[path = "virtio_net/transmit_xsk.rs"]
mod transmit_xsk;
#[path = "virtio_net/xdp.rs"]
mod xdp;
#[path = "virtio_net/xsk.rs"]
mod xsk;

use core::ops::Deref;
use interface::Interface;
use kernel::{
    driver,
    prelude::*,
    sync::Arc,
    InPlaceModule,
    ModuleMetadata, //
};
use netdev::CpuStates;
use virtio::{
    device::Device,
    driver::{
        Adapter,
        Driver, //
    },
    lifecycle::{
        Configured,
        Init,
        Quiesced,
        Running, //
    },
    queue::{
        QueueSpec,
        Queues, //
    }, //
};
use virtio_spec::{
    net::{
        self,
        Net, //
    },
    transport,
    Features, //
};

/// The module.
#[pin_data]
struct NetModule {
    // Interfaces go before what tells them of processors does.
    #[pin]
    _driver: driver::Registration<Adapter<VirtioNet>>,
    _cpus: CpuStates,
}

impl InPlaceModule for NetModule {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _cpus: CpuStates::new(c"virtio/net:online", c"virtio/net:dead")?,
            _driver <- driver::Registration::new(<Self as ModuleMetadata>::NAME, module),
        })
    }
}

module! {
    type: NetModule,
    name: "virtio_net",
    authors: ["The rust-virtio authors"],
    description: "Virtio network driver",
    license: "GPL",
    alias: ["virtio:d00000001v*"],
}

struct VirtioNet;

/// What the driver keeps of a device.
#[pin_data]
struct Data {
    interface: Owner,
}

/// The interface, which the stack has too: it goes when its device does.
struct Owner(Arc<Interface>);

impl Deref for Owner {
    type Target = Interface;

    fn deref(&self) -> &Interface {
        &self.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.remove();
    }
}

/// The features that the driver can use.
const FEATURES: Features = Features::EMPTY
    .with::<net::Csum>()
    .with::<net::GuestCsum>()
    .with::<net::Mtu>()
    .with::<net::Mac>()
    .with::<net::GuestTso4>()
    .with::<net::GuestTso6>()
    .with::<net::GuestEcn>()
    .with::<net::GuestUfo>()
    .with::<net::HostTso4>()
    .with::<net::HostTso6>()
    .with::<net::HostEcn>()
    .with::<net::HostUfo>()
    .with::<net::HostUso>()
    .with::<net::MrgRxbuf>()
    .with::<net::Status>()
    .with::<net::GuestUso4>()
    .with::<net::GuestUso6>()
    .with::<net::GuestHdrlen>()
    .with::<net::SpeedDuplex>()
    .with::<net::CtrlVq>()
    .with::<net::CtrlRx>()
    .with::<net::CtrlVlan>()
    .with::<net::GuestAnnounce>()
    .with::<net::CtrlMacAddr>()
    .with::<net::Mq>()
    .with::<net::DeviceStats>()
    .with::<net::VqNotfCoal>()
    .with::<net::NotfCoal>()
    .with::<net::Rss>()
    .with::<net::HashReport>()
    .with::<net::CtrlGuestOffloads>()
    .with::<net::CtrlRxExtra>()
    .with::<net::Standby>()
    .with::<net::GuestUdpTunnelGso>()
    .with::<net::GuestUdpTunnelGsoCsum>()
    .with::<net::HostUdpTunnelGso>()
    .with::<net::HostUdpTunnelGsoCsum>();

/// Queues of a pair, and where they are in it.
const PAIR: usize = 2;
const RX: usize = 0;
const TX: usize = 1;

/// The queues of a device with so many pairs (section 5.1.2): the control queue comes behind them.
fn queues(pairs: u16, features: Features) -> Result<KVec<QueueSpec>> {
    let interrupt = true;
    let mut specs = KVec::with_capacity(usize::from(pairs) * PAIR + 1, GFP_KERNEL)?;
    for _ in 0..pairs {
        for name in [c"input", c"output"] {
            specs.push(QueueSpec { name, interrupt }, GFP_KERNEL)?;
        }
    }
    if features.has::<net::CtrlVq>() {
        let name = CONTROL;
        specs.push(QueueSpec { name, interrupt }, GFP_KERNEL)?;
    }
    Ok(specs)
}

/// The name of the control queue, which has no number.
const CONTROL: &CStr = c"control";

impl Driver for VirtioNet {
    type Class = Net;
    type Data = Data;

    const FEATURES: Features = FEATURES;
    const LEGACY_FEATURES: Features = FEATURES.with::<net::Gso>().with::<transport::AnyLayout>();
    const KEEPS_DATA: bool = true;
    const DEFERS_BUFFERS: bool = true;

    fn validate(dev: &Device, agreed: Features) -> Features {
        config::validate(dev, agreed)
    }

    fn queues(dev: &Init<'_>) -> Result<KVec<QueueSpec>> {
        queues(config::limits(dev, dev.features()).0.pairs, dev.features())
    }

    fn queue_number(spec: &QueueSpec, index: usize) -> Option<usize> {
        (spec.name != CONTROL).then_some(index / PAIR)
    }

    fn probe(dev: &Configured<'_>, queues: &mut Queues<'_>) -> Result<impl PinInit<Data, Error>> {
        let interface = Owner(Interface::new(dev, queues)?);
        Ok(try_pin_init!(Data { interface }))
    }

    fn ready(dev: &Running<'_>, data: Pin<&Data>) -> Result {
        data.interface.register(&data.interface.0, dev)
    }

    fn used_buffers(data: Pin<&Data>, queue: u32) {
        data.interface.used_buffers(queue as usize);
    }

    fn reconfigure(dev: &Running<'_>, data: Pin<&Data>) {
        data.interface.reconfigure(dev);
    }

    fn remove(data: Pin<&Data>) {
        data.interface.remove();
    }

    fn pause(_dev: &Device, data: Pin<&Data>) {
        data.interface.pause();
    }

    fn quiesced(proof: &Quiesced<'_>, data: Pin<&Data>) {
        data.interface.take_all(proof);
    }

    fn queues_again(dev: &Init<'_>, data: Pin<&Data>) -> Result<KVec<QueueSpec>> {
        // Where the control queue is depends on it.
        data.interface.check_pairs(dev)?;
        Self::queues(dev)
    }

    fn resume(dev: &Configured<'_>, queues: &mut Queues<'_>, data: Pin<&Data>) -> Result {
        data.interface.resume(dev, queues)
    }

    fn resumed(dev: &Running<'_>, data: Pin<&Data>) {
        data.interface.go_on(dev);
    }
}
