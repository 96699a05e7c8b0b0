// SPDX-License-Identifier: GPL-2.0

//! An interface: what is kept while its device comes and goes.
//!
//! C source: `virtnet_probe`, `virtnet_remove`, `virtnet_open`, `virtnet_close`,
//! `virtnet_freeze_down`, `virtnet_restore_up` in `drivers/net/virtio_net.c`.

use crate::{
    channels,
    coalescing::{
        Coalescer,
        Dim, //
    },
    config,
    control::Control,
    filters::{
        or_refused,
        Filters, //
    },
    offloads::{
        stack_features,
        tunnel_features, //
    },
    operations::Operations,
    receive::{
        self,
        Rx, //
    },
    statistics::{
        RxStatistics,
        TxStatistics, //
    },
    steering::Steering,
    transmit::{
        self,
        Tx,
        TxGuard,
        TxPoll, //
    },
    xdp::{
        self,
        XdpQueues, //
    },
    PAIR,
    RX,
    TX, //
};
use kernel::{
    device,
    new_mutex,
    new_spinlock,
    prelude::*,
    str::CString,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex,
        SpinLock, //
    }, //
};
use netdev::{
    feature,
    param,
    rtnl_lock,
    DeviceRef,
    LinkSettings,
    Napi,
    NewDevice,
    QueueType,
    Rings,
    Totals,
    ETH_ALEN,
    ETH_HLEN,
    MAX_MTU, //
};
use virtio::{
    device::Device,
    handle::Handle,
    lifecycle::{
        Configured,
        Quiesced,
        Running, //
    },
    queue::Queues, //
};
use virtio_spec::{
    net::{
        self,
        ctrl::CtrlHdr,
        header::Layout,
        offloads::GuestOffloads,
        payload::Order,
        Config, //
    },
    transport::{
        AnyLayout,
        Version1, //
    },
    Features, //
};

/// Bytes of a VLAN tag.
const VLAN_HLEN: u32 = 4;

/// Bytes of the longest packet that segments are put together to.
const MAX_GSO: u32 = 65535;

/// The MTU of an interface whose device has none, in bytes.
const DEFAULT_MTU: u32 = 1500;

/// A pair of queues.
pub(crate) struct Pair {
    pub(crate) rx: Pin<KBox<Napi<Operations, Rx>>>,
    pub(crate) tx: Pin<KBox<Napi<Operations, TxPoll>>>,
    pub(crate) rx_statistics: Arc<RxStatistics>,
    pub(crate) tx_statistics: Arc<TxStatistics>,
    pub(crate) dim: Option<Arc<Dim>>,
}

/// The interface itself.
enum Stage {
    /// Nobody sees it yet.
    New(NewDevice<Operations>),
    /// Everybody does.
    Registered(netdev::Device<Operations>),
    /// It is gone.
    Removed,
}

/// An interface.
#[pin_data]
pub(crate) struct Interface {
    pub(crate) device: ARef<device::Device>,
    pub(crate) handle: Handle,
    pub(crate) features: Features,
    pub(crate) order: Order,
    bus_name: CString,
    /// The MTU of the device in bytes, if it has one.
    max_mtu: Option<u32>,
    /// Of their virtqueues, when the device is new.
    pub(crate) first_rings: Rings,
    /// Descriptors of those to receive, and of those to send; they change under the RTNL lock.
    pub(crate) rx_size: Atomic<u32>,
    pub(crate) tx_size: Atomic<u32>,
    // Before the interface: its contexts know that.
    pub(crate) pairs: KVec<Pair>,
    /// Of those, the first ones.
    pub(crate) in_use: Atomic<u32>,
    /// Why programs cannot run, if so.
    pub(crate) xdp_obstacle: Option<xdp::Obstacle>,
    /// Change under the RTNL lock.
    pub(crate) xdp_queues: Arc<XdpQueues>,
    pub(crate) control: Option<Arc<Control>>,
    pub(crate) coalescer: Option<Arc<Coalescer>>,
    /// What the device counts, as it says; changes under the RTNL lock.
    pub(crate) counted: Atomic<u64>,
    #[pin]
    filters: Filters,
    pub(crate) steering: Option<Pin<KBox<Steering>>>,
    /// The device is reset, and perhaps comes back.
    #[pin]
    stage: Mutex<Stage>,
    #[pin]
    settings: SpinLock<LinkSettings>,
    link: Atomic<u32>,
}

/// What is the same for all queues of a device.
struct QueueOptions {
    layout: Layout,
    little_endian: bool,
    any_layout: bool,
    longest: u32,
    node: i32,
}

impl QueueOptions {
    /// Of a device with an MTU of `max_mtu` bytes, if it has one.
    fn new(dev: &Device, features: Features, max_mtu: Option<u32>) -> Self {
        let merges_segments = features.has::<net::GuestTso4>()
            || features.has::<net::GuestTso6>()
            || features.has::<net::GuestUfo>()
            || (features.has::<net::GuestUso4>() && features.has::<net::GuestUso6>());
        let payload = match max_mtu {
            _ if merges_segments => MAX_GSO,
            Some(mtu) => mtu.max(DEFAULT_MTU),
            // Whatever it is set to; without merged buffers, no more than usual is asked for.
            None if features.has::<net::MrgRxbuf>() => MAX_MTU,
            None => DEFAULT_MTU,
        };
        Self {
            layout: Layout::new(features),
            little_endian: features.has::<Version1>(),
            any_layout: features.has::<AnyLayout>() || features.has::<Version1>(),
            longest: payload + ETH_HLEN + VLAN_HLEN,
            node: dev.numa_node(),
        }
    }
}

/// The virtqueues of pair `index`.
fn take(
    dev: &Configured<'_>,
    queues: &mut Queues<'_>,
    index: usize,
    options: &QueueOptions,
) -> Result<(receive::Queue, transmit::Queue)> {
    let pieces = receive::max_pieces(&options.layout, options.longest);
    let rx = queues.take_packets(dev, index * PAIR + RX, pieces)?;
    let tx = queues.take_packets(dev, index * PAIR + TX, transmit::MAX_PIECES)?;
    Ok((rx, tx))
}

impl Interface {
    /// Makes the interface of a device that has its queues.  May sleep.
    ///
    /// # Errors
    ///
    /// Why there cannot be one.
    pub(crate) fn new(dev: &Configured<'_>, queues: &mut Queues<'_>) -> Result<Arc<Self>> {
        let features = dev.features();
        let (limits, notes) = config::limits(dev, features);
        for note in notes.iter() {
            dev_warn!(dev.as_device(), "{}\n", core::format_args!("{note}"));
        }
        let mtu = limits.mtu.map(u32::from);
        let options = QueueOptions::new(dev, features, mtu);
        let rings = rings(queues)?;
        // The control queue is behind them.
        let count = queues.count() / PAIR;
        let mut tx = KVec::with_capacity(count, GFP_KERNEL)?;
        let mut halves = KVec::with_capacity(count, GFP_KERNEL)?;
        for index in 0..count {
            let (rx_queue, tx_queue) = take(dev, queues, index, &options)?;
            let rx_statistics = Arc::new(RxStatistics::new(), GFP_KERNEL)?;
            let tx_statistics = Arc::new(TxStatistics::default(), GFP_KERNEL)?;
            let state = Tx::new(
                tx_queue,
                tx_statistics.clone(),
                param::napi_tx(),
                options.layout,
                options.any_layout,
            );
            tx.push(state, GFP_KERNEL)?;
            halves.push((rx_queue, rx_statistics, tx_statistics), GFP_KERNEL)?;
        }
        let is_big = receive::is_big(&options.layout, options.longest);
        let xdp_obstacle = xdp::obstacle(features, is_big, options.any_layout);
        let xdp_queues = Arc::new(XdpQueues::new(), GFP_KERNEL)?;
        let mut new = NewDevice::new(dev.as_device(), tx)?;
        if xdp_obstacle.is_none() {
            new.set_xdp(options.layout.merges());
        }
        if limits.hashing.is_some() {
            new.show_rx_hash();
        }
        let (on, changeable) = stack_features(features, param::csum(), param::gso());
        if features.has::<net::MrgRxbuf>() {
            new.show_rx_buffer_size();
        }
        new.set_features(on, changeable);
        new.set_tunnel_features(tunnel_features(changeable));
        new.set_mtu(mtu.unwrap_or(DEFAULT_MTU), mtu.unwrap_or(MAX_MTU));
        if options.any_layout {
            new.set_needed_headroom(options.layout.size() as u16);
        }
        let address = new.set_address(limits.mac.as_ref());
        if limits.mac.is_none() {
            dev_info!(
                dev.as_device(),
                "Assigned random MAC address {:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}\n",
                address[0],
                address[1],
                address[2],
                address[3],
                address[4],
                address[5]
            );
        }
        let control = if features.has::<net::CtrlVq>() {
            let control = Control::new(dev, queues, count * PAIR)?;
            Some(Arc::new(control, GFP_KERNEL)?)
        } else {
            None
        };
        let coalescer = Coalescer::new(features, control.as_ref(), count)?;
        let mut pairs = KVec::with_capacity(count, GFP_KERNEL)?;
        for (index, (rx_queue, rx_statistics, tx_statistics)) in halves.into_iter().enumerate() {
            let mut rx = Rx::new(
                rx_queue,
                index as u16,
                options.layout,
                options.little_endian,
                options.longest,
                xdp_queues.clone(),
                rx_statistics.clone(),
            );
            let mut dim = None;
            if let Some(coalescer) = coalescer.as_ref().filter(|it| it.can_adapt()) {
                let (made, sampler) = Dim::new(&new, index as u32, coalescer.clone())?;
                rx.set_sampler(sampler);
                dim = Some(made);
            }
            let rx = Napi::new(&new, QueueType::Rx, index as u32, rx)?;
            if let Some(weight) = param::napi_weight() {
                rx.set_weight(weight);
            }
            let tx = Napi::new(&new, QueueType::Tx, index as u32, TxPoll { index })?;
            set_pool(&rx, rings.rx, options.node)?;
            let pair = Pair {
                rx,
                tx,
                rx_statistics,
                tx_statistics,
                dim,
            };
            pairs.push(pair, GFP_KERNEL)?;
        }
        let order = Order::of(features);
        let bus_name = CString::try_from_fmt(fmt!("{}", dev.bus_name()))?;
        Arc::pin_init(
            try_pin_init!(Self {
                device: dev.as_device().into(),
                handle: dev.handle()?,
                features,
                order,
                bus_name,
                max_mtu: mtu,
                first_rings: rings,
                rx_size: Atomic::new(rings.rx),
                tx_size: Atomic::new(rings.tx),
                pairs,
                in_use: Atomic::new(channels::first_count(count)),
                xdp_obstacle,
                xdp_queues,
                control,
                coalescer,
                counted: Atomic::new(0),
                steering: Steering::new(limits.hashing)?,
                filters <- Filters::new(dev.features()),
                stage <- new_mutex!(Stage::New(new)),
                settings <- new_spinlock!(LinkSettings::UNKNOWN),
                link: Atomic::new(0),
            }),
            GFP_KERNEL,
        )
    }

    /// Shows the interface to everybody.  May sleep.
    ///
    /// # Errors
    ///
    /// Those of the stack.
    pub(crate) fn register(&self, this: &Arc<Self>, dev: &Running<'_>) -> Result {
        self.look_at_link(dev, config::status(dev, self.features));
        let stage = core::mem::replace(&mut *self.stage.lock(), Stage::Removed);
        if let Stage::New(new) = stage {
            self.set_up(dev, &new);
            // Not locked meanwhile: it may be opened at once.
            let registered = new.register(this.clone(), self.features.has::<net::Standby>())?;
            registered.set_carrier(self.link.load(Relaxed) != 0);
            *self.stage.lock() = Stage::Registered(registered);
        }
        Ok(())
    }

    /// Takes the interface off the system.  May sleep.
    pub(crate) fn remove(&self) {
        self.give_up_control();
        let stage = core::mem::replace(&mut *self.stage.lock(), Stage::Removed);
        // Not locked meanwhile: it is stopped first.
        drop(stage);
    }

    /// Wakes who waits for a command, perhaps with the RTNL lock: the device is about to be reset.
    fn give_up_control(&self) {
        if let Some(control) = &self.control {
            control.give_up();
        }
    }

    fn with_device(&self, f: impl FnOnce(&DeviceRef<Operations>)) {
        if let Stage::Registered(device) = &*self.stage.lock() {
            f(device);
        }
    }

    /// Lets the queues work.  Under the RTNL lock.
    pub(crate) fn open(&self, dev: &DeviceRef<Operations>) {
        self.enable(self.pairs_in_use());
        dev.set_carrier(self.link.load(Relaxed) != 0);
    }

    /// Lets the first `count` pairs work, if they do not yet.  Under the RTNL lock.
    pub(crate) fn enable(&self, count: u32) {
        let pairs = || self.pairs.iter().take(count as usize);
        for pair in pairs() {
            // If there is no memory now, the first poll tries again.
            pair.rx.with_disabled(|rx, memory| rx.fill(memory, true));
        }
        if self.steers() {
            for pair in pairs() {
                pair.rx.with_disabled(|rx, _| rx.renotify());
            }
        }
        for pair in pairs() {
            pair.rx.enable();
            pair.tx.enable();
        }
    }

    /// Stops the queues, also those that are in use no more.  Under the RTNL lock.
    pub(crate) fn stop(&self, dev: &DeviceRef<Operations>) {
        for pair in &self.pairs {
            pair.tx.disable();
            pair.rx.disable();
            if let Some(dim) = &pair.dim {
                dim.cancel();
            }
        }
        dev.set_carrier(false);
    }

    /// Takes the interface from the stack: the device is about to be reset, and to come back.  May
    /// sleep.
    pub(crate) fn pause(&self) {
        self.give_up_control();
        self.with_device(|device| {
            let _rtnl = rtnl_lock();
            device.detach();
            if device.is_running() {
                self.stop(device);
            }
        });
    }

    /// Takes back what a device that was reset had.  May sleep.
    pub(crate) fn take_all(&self, proof: &Quiesced<'_>) {
        for (index, pair) in self.pairs.iter().enumerate() {
            self.drain_pair(index, pair, proof);
            pair.rx.with_disabled(|rx, _| rx.replace(None));
            self.with_tx(index, |tx| tx.queue = None);
        }
        if let Some(control) = &self.control {
            control.quiesced(proof);
        }
    }

    /// Runs `f` on a transmit queue, of whatever stage.
    pub(crate) fn with_tx(&self, index: usize, f: impl FnOnce(&mut TxGuard<'_>)) {
        let Some(pair) = self.pairs.get(index) else {
            return;
        };
        if let Some(mut tx) = pair.tx.device().lock_tx(index) {
            f(&mut tx);
        }
    }

    /// Looks whether a device that is back has as many pairs as it had.
    ///
    /// # Errors
    ///
    /// `EINVAL` if not.
    pub(crate) fn check_pairs(&self, dev: &Device) -> Result {
        let (limits, _) = config::limits(dev, self.features);
        if usize::from(limits.pairs) != self.pairs.len() {
            dev_err!(
                dev.as_device(),
                "came back with {} pairs of queues\n",
                limits.pairs
            );
            return Err(EINVAL);
        }
        Ok(())
    }

    /// Takes the queues of a device that is back.  May sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` if they are not what they were, `ENOMEM`.
    pub(crate) fn resume(&self, dev: &Configured<'_>, queues: &mut Queues<'_>) -> Result {
        if rings(queues)? != self.first_rings {
            dev_err!(dev.as_device(), "came back with queues of another size\n");
            return Err(EINVAL);
        }
        let options = QueueOptions::new(dev, self.features, self.max_mtu);
        for (index, pair) in self.pairs.iter().enumerate() {
            let (rx, tx) = take(dev, queues, index, &options)?;
            pair.rx.with_disabled(|state, _| state.replace(Some(rx)));
            set_pool(&pair.rx, self.first_rings.rx, dev.numa_node())?;
            self.with_tx(index, |state| state.queue = Some(tx));
        }
        if let Some(control) = &self.control {
            control.resume(dev, queues, self.pairs.len() * PAIR)?;
        }
        Ok(())
    }

    /// Gives the interface back to the stack: the device works again.  May sleep.
    pub(crate) fn go_on(&self, dev: &Running<'_>) {
        if let Some(control) = &self.control {
            control.go_on();
        }
        self.look_at_link(dev, config::status(dev, self.features));
        self.with_device(|device| {
            let _rtnl = rtnl_lock();
            self.replay_rings();
            self.set_up(dev, device);
            if device.is_running() {
                self.open(device);
            }
            device.attach();
        });
    }

    /// Tells a device that is new, or was reset, what it is to do; what it refuses it does not do.
    /// Nobody else sends commands; sleeps.
    fn set_up(&self, dev: &Running<'_>, device: &DeviceRef<Operations>) {
        let Some(control) = &self.control else {
            return;
        };
        if let Err(error) = self.replay(dev, device, control) {
            dev_err!(dev.as_device(), "could not be set up: {:?}\n", error);
        }
    }

    /// Sends all that a reset makes a device forget.
    fn replay(
        &self,
        dev: &Running<'_>,
        device: &DeviceRef<Operations>,
        control: &Control,
    ) -> Result {
        let features = self.features;
        self.replay_pairs(dev, device, control)
            .or_else(or_refused)?;
        let address = device.address();
        let its_own = config::limits(dev, features).0.mac;
        if features.has::<net::CtrlMacAddr>() && its_own != Some(address) {
            control
                .run(CtrlHdr::MAC_ADDR_SET, &address)
                .or_else(or_refused)?;
        }
        // After a reset all are on.
        let offloads = self.wanted_offloads(device);
        if offloads != GuestOffloads::of_features(features) {
            self.set_offloads(offloads).or_else(or_refused)?;
        }
        if device.features() & feature::RXHASH != 0 {
            self.set_reports(control, true).or_else(or_refused)?;
        }
        if features.has::<net::CtrlVlan>() {
            self.filters.replay_vlans(control)?;
        }
        if let Some(coalescer) = &self.coalescer {
            coalescer.replay().or_else(or_refused)?;
        }
        if features.has::<net::DeviceStats>() {
            self.look_at_statistics(control).or_else(or_refused)?;
        }
        // Else the stack asks for it when the interface is brought up.
        if device.is_running() {
            self.set_rx_mode(device)?;
        }
        Ok(())
    }

    /// Tells the device what to let through.  Under the RTNL lock; sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and those of the control queue.
    pub(crate) fn set_rx_mode(&self, device: &DeviceRef<Operations>) -> Result {
        match &self.control {
            Some(control) if self.features.has::<net::CtrlRx>() => {
                let told = self.filters.set_rx_mode(control, &device.rx_filter()?);
                // A device that is being reset hears of it when it is back.
                told.or_else(|error| {
                    if control.is_open() {
                        Err(error)
                    } else {
                        Ok(())
                    }
                })
            }
            _ => Ok(()),
        }
    }

    /// Has the device let packets of a VLAN through, or not any more.  Under the RTNL lock; sleeps.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if it has no filter, and those of the control queue.
    pub(crate) fn set_vlan(&self, id: u16, present: bool) -> Result {
        let control = self.control.as_ref().ok_or(EOPNOTSUPP)?;
        self.filters.set_vlan(control, id, present)
    }

    /// Tells everybody on the wire where the interface is, as the device asks for, and the device that
    /// it was done.
    fn announce(&self, device: &DeviceRef<Operations>) {
        device.notify_peers();
        if let Some(control) = &self.control {
            // What failed was said; the device asks again if it wants to.
            let _ = control.run(CtrlHdr::ANNOUNCE_ACK, &[]);
        }
    }

    /// Looks at a configuration that may have changed.  May sleep.
    pub(crate) fn reconfigure(&self, dev: &Running<'_>) {
        self.with_device(|device| {
            let status = config::status(dev, self.features);
            if self.features.has::<net::GuestAnnounce>() && status & net::STATUS_ANNOUNCE != 0 {
                self.announce(device);
            }
            let _rtnl = rtnl_lock();
            let before = self.link.load(Relaxed) != 0;
            let now = self.look_at_link(dev, status);
            if now != before && device.is_running() {
                device.set_carrier(now);
                device.set_transmitting(now);
            }
        });
    }

    /// Looks whether `status` says that there is a link, and if so how fast it is.
    fn look_at_link(&self, dev: &Device, status: u16) -> bool {
        let up = status & net::STATUS_LINK_UP != 0;
        if up && self.features.has::<net::SpeedDuplex>() {
            *self.settings.lock() = config::link_settings(dev, self.features);
        }
        self.link.store(up.into(), Relaxed);
        up
    }

    /// Has a queue polled, or takes answers to commands.  Interrupt context.
    pub(crate) fn used_buffers(&self, queue: usize) {
        if let Some(pair) = self.pairs.get(queue / PAIR) {
            if queue % PAIR == RX {
                if let Some(dim) = &pair.dim {
                    dim.count_event();
                }
                pair.rx.schedule();
            } else {
                pair.tx.schedule();
            }
        } else if let Some(control) = &self.control {
            control.used();
        }
    }

    /// Nothing was sent for too long: the device is given up, and recovered.
    pub(crate) fn tx_timeout(&self, mut tx: TxGuard<'_>, index: usize) {
        tx.statistics.timeouts.add(1);
        // At most one for each time that it takes.
        dev_err!(
            self.device,
            "TX timeout on queue {}: the device is reset\n",
            index
        );
        if let Some(queue) = &mut tx.queue {
            queue.give_up();
        }
    }

    /// Changes the address of a device that lets it be changed.  Sleeps.
    ///
    /// # Errors
    ///
    /// Those of the control queue; `ENODEV` if the device is gone.
    pub(crate) fn set_address(&self, address: &[u8; ETH_ALEN]) -> Result {
        if self.features.has::<net::CtrlMacAddr>() {
            let control = self.control.as_ref().ok_or(EOPNOTSUPP)?;
            return control.run(CtrlHdr::MAC_ADDR_SET, address);
        }
        // Others take any packet, or are not asked (section 5.1.4).
        if self.features.has::<net::Mac>() && !self.features.has::<Version1>() {
            let offset = Config::MAC_LEGACY.offset() as u32;
            self.handle
                .with(|dev| dev.write_config(offset, address))
                .ok_or(ENODEV)?;
        }
        Ok(())
    }

    /// What is counted of all queues.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for Pair {
            rx_statistics: rx,
            tx_statistics: tx,
            ..
        } in &self.pairs
        {
            totals.rx_packets += rx.packets.get();
            totals.rx_bytes += rx.bytes.get();
            totals.rx_dropped += rx.drops.get();
            totals.rx_length_errors += rx.length_errors.get();
            totals.rx_frame_errors += rx.frame_errors.get();
            totals.tx_packets += tx.packets.get();
            totals.tx_bytes += tx.bytes.get();
            totals.tx_errors += tx.timeouts.get();
            totals.tx_dropped += tx.drops.get();
            totals.tx_fifo_errors += tx.fifo_errors.get();
        }
        totals
    }

    pub(crate) fn bus_name(&self) -> &CStr {
        &self.bus_name
    }

    pub(crate) fn link_settings(&self) -> LinkSettings {
        *self.settings.lock()
    }

    pub(crate) fn set_link_settings(&self, settings: LinkSettings) {
        *self.settings.lock() = settings;
    }
}

/// Gives a receive queue the pool that its buffers come from.
fn set_pool(rx: &Napi<Operations, Rx>, size: u32, node: i32) -> Result {
    let device = rx.with_disabled(|rx, _| rx.dma_device()).flatten();
    rx.set_pool(size, node, device.as_deref())
}

/// How long the queues are.
fn rings(queues: &Queues<'_>) -> Result<Rings> {
    let rx = queues.size(RX).ok_or(EINVAL)?;
    let tx = queues.size(TX).ok_or(EINVAL)?;
    Ok(Rings {
        rx,
        tx,
        rx_max: rx,
        tx_max: tx,
    })
}
