// SPDX-License-Identifier: GPL-2.0

//! What a network driver implements, and the table that C calls it by.
//!
//! C header: [`include/linux/netdevice.h`](srctree/include/linux/netdevice.h)
//! (`struct net_device_ops`).

use crate::{
    coalescing::refused,
    device::DeviceRef,
    dim::Moderator,
    ethtool::{
        Channels,
        LinkSettings,
        Rings, //
    },
    ethtool_statistics::{
        QueueKind,
        StatisticName,
        Statistics, //
    },
    napi::QueueType,
    queue_statistics::{
        RxQueueStatistics,
        TxQueueStatistics, //
    },
    rss::RssSizes,
    skb::SkBuff,
    statistics::Totals,
    tx_queue::TxGuard,
    xdp::{
        Extack,
        Program, //
    },
    xdp_frame::XdpFrames,
    xsk::{
        Bound,
        XskPool, //
    },
    ETH_ALEN, //
};
use core::{
    marker::PhantomData,
    mem::MaybeUninit,
    ptr::NonNull, //
};
use kernel::{
    error::{
        from_result,
        to_result, //
    },
    ffi::{
        c_char,
        c_int,
        c_uint,
        c_void, //
    },
    prelude::*, //
};
use virtio_bindings as bindings;
use virtio_spec::net::{
    coalescing::Settings,
    rss::{
        Fields,
        Flow, //
    }, //
};

/// A network driver.
///
/// Unless something else is said, functions are called with the RTNL lock held, and may sleep.
pub trait Operations: Sized + Send + Sync + 'static {
    /// What it keeps of a device.
    type Data: Send + Sync;

    /// What it keeps of a transmit queue, under the lock of that queue.
    type Tx: Send;

    /// What adapts coalescing.
    type Moderator: Moderator;

    /// The name of the driver, for ethtool: less than 32 bytes.
    const NAME: &'static str;

    /// Its version, as that.
    const VERSION: &'static str;

    /// The device is brought up.
    ///
    /// # Errors
    ///
    /// Why it cannot be.
    fn open(dev: &DeviceRef<Self>, data: &Self::Data) -> Result;

    /// The device is brought down: nobody polls it when this returns.
    fn stop(dev: &DeviceRef<Self>, data: &Self::Data);

    /// Sends a packet through queue `index`; `more` of them come at once.  The queue's lock is held.
    /// Does not sleep.
    fn start_xmit(
        data: &Self::Data,
        tx: TxGuard<'_, Self>,
        index: usize,
        skb: SkBuff,
        more: bool,
    ) -> TxOutcome;

    /// What is counted.  Any context, the RTNL lock is perhaps not held.
    fn totals(data: &Self::Data) -> Totals;

    /// Changes the MAC address of the device; it was checked, and is the interface's afterwards.
    ///
    /// # Errors
    ///
    /// Why it cannot be.
    fn set_mac_address(data: &Self::Data, address: &[u8; ETH_ALEN]) -> Result;

    /// What the device is to let through has changed, see [`DeviceRef::rx_filter`]; it is up.
    ///
    /// # Errors
    ///
    /// Why the device could not be told: the stack tries again, a few times.
    fn set_rx_mode(_dev: &DeviceRef<Self>, _data: &Self::Data) -> Result {
        Ok(())
    }

    /// Packets of VLAN `id` are to be let through, for a device with
    /// [`feature::HW_VLAN_CTAG_FILTER`](crate::feature::HW_VLAN_CTAG_FILTER).
    ///
    /// # Errors
    ///
    /// Why they are not.
    fn add_vlan(_data: &Self::Data, _id: u16) -> Result {
        Err(EOPNOTSUPP)
    }

    /// Packets of VLAN `id` are to be let through no more, as [`Operations::add_vlan`].
    ///
    /// # Errors
    ///
    /// Why they still are.
    fn remove_vlan(_data: &Self::Data, _id: u16) -> Result {
        Err(EOPNOTSUPP)
    }

    /// Nothing was sent for some time through a queue that should.  Does not sleep; without the RTNL
    /// lock.
    fn tx_timeout(dev: &DeviceRef<Self>, data: &Self::Data, index: usize);

    /// Where the device is, as the bus says it: less than 32 bytes are shown.
    fn bus_name(data: &Self::Data) -> &CStr;

    /// Descriptors of the queues.
    fn rings(data: &Self::Data) -> Rings;

    /// Has each queue to receive have `rx` descriptors, and each one to send `tx`: no more than
    /// [`Operations::rings`] says.
    ///
    /// # Errors
    ///
    /// Why nothing changes.
    fn set_rings(_data: &Self::Data, _rx: u32, _tx: u32) -> Result {
        Err(EOPNOTSUPP)
    }

    /// Bytes of a buffer of receive queue `index`.  Any context, without the RTNL lock.
    fn rx_buffer_size(_data: &Self::Data, _index: usize) -> u32 {
        0
    }

    /// Pairs of queues.
    fn channels(data: &Self::Data) -> Channels;

    /// Uses so many pairs of queues.
    ///
    /// # Errors
    ///
    /// Why it does not.
    fn set_channels(_dev: &DeviceRef<Self>, _data: &Self::Data, _combined: u32) -> Result {
        Err(EOPNOTSUPP)
    }

    /// When the device notifies, by all queues.
    fn coalescing(_data: &Self::Data) -> Settings {
        Settings::PLAIN
    }

    /// Changes that.
    ///
    /// # Errors
    ///
    /// Why nothing changes.
    fn set_coalescing(_data: &Self::Data, settings: Settings) -> Result {
        refused(settings.check_plain())
    }

    /// When pair `index` of queues notifies.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is none.
    fn queue_coalescing(data: &Self::Data, _index: usize) -> Result<Settings> {
        Ok(Self::coalescing(data))
    }

    /// Changes that.
    ///
    /// # Errors
    ///
    /// As [`Operations::set_coalescing`], `EINVAL` if there is none.
    fn set_queue_coalescing(_data: &Self::Data, _index: usize, settings: Settings) -> Result {
        refused(settings.check_plain())
    }

    /// A processor has come or gone, of a module that has [`CpuStates`](crate::CpuStates).
    fn cpus_changed(_dev: &DeviceRef<Self>, _data: &Self::Data) {}

    /// What the device does for the stack changes from `now` to `wanted`
    /// (see [`feature`](crate::feature)), of what may be switched.
    ///
    /// # Errors
    ///
    /// Why nothing changes.
    fn set_features(_data: &Self::Data, _now: u64, _wanted: u64) -> Result {
        Ok(())
    }

    /// Runs `program` on each packet that is received, instead of the one that was there; or none.
    ///
    /// # Errors
    ///
    /// Why not, which `extack` says too; nothing has changed then.  To have none never fails.
    fn set_xdp(
        _dev: &DeviceRef<Self>,
        _data: &Self::Data,
        _program: Option<Program>,
        _extack: &mut Extack<'_>,
    ) -> Result {
        Err(EOPNOTSUPP)
    }

    /// The transmit queue for packets that programs redirect to the device from this processor; `None`
    /// if it takes none now.  Bottom half, without the RTNL lock.
    fn xdp_queue(_data: &Self::Data) -> Option<usize> {
        None
    }

    /// Sends packets that programs have redirected, through that queue, and tells the device of them if
    /// it is to `flush`.  The queue's lock is held.  Does not sleep.
    fn xdp_xmit(_tx: TxGuard<'_, Self>, _frames: &mut XdpFrames<'_>, _flush: bool) {}

    /// Has pair `index` of queues receive into buffers of sockets, and send what they want to have sent.
    ///
    /// # Errors
    ///
    /// Why not; nothing of the pool is kept then.
    fn bind_xsk(
        _dev: &DeviceRef<Self>,
        _data: &Self::Data,
        _index: usize,
        _pool: XskPool<'_>,
    ) -> Result {
        Err(EOPNOTSUPP)
    }

    /// Takes back what the device has of the pool of pair `index`, and drops both halves of it, for which
    /// the caller waits.
    fn unbind_xsk(_dev: &DeviceRef<Self>, _data: &Self::Data, _index: usize) {}

    /// Sockets have buffers or frames again for a queue of pair `index`.  Any context but interrupts,
    /// without the RTNL lock; does not sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such pair in use.
    fn xsk_wakeup(_data: &Self::Data, _index: usize, _kind: QueueType) -> Result {
        Err(EOPNOTSUPP)
    }

    /// What the device has for receive-side scaling: by default, nothing.
    fn rss_sizes(_data: &Self::Data) -> RssSizes {
        RssSizes::default()
    }

    /// Fills `table` and `key` with those in use, of the lengths of [`Operations::rss_sizes`] or empty.
    fn rss(_data: &Self::Data, _table: &mut [u32], _key: &mut [u8]) {}

    /// Changes the table, whose entries are queues in use, or the key; of those lengths.
    ///
    /// # Errors
    ///
    /// Why not.
    fn set_rss(_data: &Self::Data, _table: Option<&[u32]>, _key: Option<&[u8]>) -> Result {
        Err(EOPNOTSUPP)
    }

    /// What of packets of `flow` is hashed.
    fn rss_fields(_data: &Self::Data, _flow: Flow) -> Fields {
        Fields::Nothing
    }

    /// Changes what of packets of `flow` is hashed.
    ///
    /// # Errors
    ///
    /// Why not.
    fn set_rss_fields(_data: &Self::Data, _flow: Flow, _fields: Fields) -> Result {
        Err(EOPNOTSUPP)
    }

    /// Speed and duplex.
    fn link_settings(data: &Self::Data) -> LinkSettings;

    /// Sets speed and duplex, for who asks.
    fn set_link_settings(data: &Self::Data, settings: LinkSettings);

    /// The names of what is counted of each queue of a kind: as many as its [`Statistics`] have room for
    /// numbers, in the same order.
    fn statistic_names(data: &Self::Data, kind: QueueKind) -> impl Iterator<Item = StatisticName>;

    /// Fills in what is counted, as [`Operations::statistic_names`] says.
    fn statistics(data: &Self::Data, numbers: &mut Statistics<'_>);

    /// Says what is counted of receive queue `index`, in use or not.
    fn rx_queue_statistics(data: &Self::Data, index: usize, numbers: &mut RxQueueStatistics);

    /// The same of transmit queue `index`.
    fn tx_queue_statistics(data: &Self::Data, index: usize, numbers: &mut TxQueueStatistics);

    /// Says what was counted apart from all queues that there are, be it nothing: of the whole device,
    /// only what is said here is shown.
    fn base_statistics(data: &Self::Data, rx: &mut RxQueueStatistics, tx: &mut TxQueueStatistics);
}

/// What became of a packet.
pub enum TxOutcome {
    /// The driver has it.
    Sent,
    /// It was dropped, and counted.
    Dropped,
    /// It cannot be taken now; the queue is stopped.  The stack tries again.
    Busy(SkBuff),
}

/// Writes what is counted where C wants it: in a netlink message, where nothing is aligned to eight bytes.
///
/// # Safety
///
/// `to` has room for the numbers, all of which are there.
pub(crate) unsafe fn write_totals(totals: Totals, to: *mut bindings::rtnl_link_stats64) {
    let Totals {
        rx_packets,
        tx_packets,
        rx_bytes,
        tx_bytes,
        tx_errors,
        rx_dropped,
        tx_dropped,
        rx_length_errors,
        rx_frame_errors,
        tx_fifo_errors,
    } = totals;
    // SAFETY: By the contract.
    unsafe {
        let others = to.read_unaligned();
        to.write_unaligned(bindings::rtnl_link_stats64 {
            rx_packets,
            tx_packets,
            rx_bytes,
            tx_bytes,
            tx_errors,
            rx_dropped,
            tx_dropped,
            rx_length_errors,
            rx_frame_errors,
            tx_fifo_errors,
            ..others
        });
    }
}

/// The callbacks of a driver.
pub(crate) struct Callbacks<O: Operations>(PhantomData<O>);

impl<O: Operations> Callbacks<O> {
    /// As C wants them.
    pub(crate) const TABLE: &'static bindings::net_device_ops = &bindings::net_device_ops {
        ndo_open: Some(Self::open),
        ndo_stop: Some(Self::stop),
        ndo_start_xmit: Some(Self::start_xmit),
        ndo_validate_addr: Some(bindings::eth_validate_addr),
        ndo_set_mac_address: Some(Self::set_mac_address),
        ndo_set_rx_mode_async: Some(Self::set_rx_mode),
        ndo_vlan_rx_add_vid: Some(Self::add_vlan),
        ndo_vlan_rx_kill_vid: Some(Self::remove_vlan),
        ndo_set_features: Some(Self::set_features),
        ndo_get_stats64: Some(Self::get_stats64),
        ndo_tx_timeout: Some(Self::tx_timeout),
        ndo_get_phys_port_name: Some(get_phys_port_name),
        ndo_bpf: Some(Self::bpf),
        ndo_xdp_xmit: Some(Self::xdp_xmit),
        ndo_xsk_wakeup: Some(Self::xsk_wakeup),
        // SAFETY: All that is left is optional functions.
        ..unsafe { MaybeUninit::zeroed().assume_init() }
    };

    extern "C" fn open(dev: *mut bindings::net_device) -> c_int {
        from_result(|| {
            // SAFETY: The stack passes a registered device of ours.
            let (dev, data) = unsafe { DeviceRef::<O>::with_data(dev) };
            O::open(dev, data).map(|()| 0)
        })
    }

    extern "C" fn stop(dev: *mut bindings::net_device) -> c_int {
        // SAFETY: The stack passes a registered device of ours.
        let (dev, data) = unsafe { DeviceRef::<O>::with_data(dev) };
        O::stop(dev, data);
        0
    }

    extern "C" fn start_xmit(
        skb: *mut bindings::sk_buff,
        dev: *mut bindings::net_device,
    ) -> bindings::netdev_tx_t {
        // SAFETY: The stack passes a device of ours, and a packet that is ours unless we give it
        // back; it holds the lock of the packet's queue, with bottom halves off.
        unsafe {
            let (dev, data) = DeviceRef::<O>::with_data(dev);
            let index = usize::from(bindings::virtio_skb_get_queue_mapping(skb));
            let skb = SkBuff::from_raw(NonNull::new_unchecked(skb));
            let Some(tx) = dev.locked_tx(index) else {
                return bindings::netdev_tx_NETDEV_TX_OK;
            };
            let more = bindings::virtio_netdev_xmit_more();
            let outcome = O::start_xmit(data, tx, index, skb, more);
            if let TxOutcome::Busy(skb) = outcome {
                // The stack has it again.
                let _ = skb.into_raw();
                return bindings::netdev_tx_NETDEV_TX_BUSY;
            }
        }
        bindings::netdev_tx_NETDEV_TX_OK
    }

    extern "C" fn set_mac_address(dev: *mut bindings::net_device, addr: *mut c_void) -> c_int {
        from_result(|| {
            // SAFETY: The stack passes a registered device of ours, and a `struct sockaddr` with an
            // address of the device's length.
            unsafe {
                to_result(bindings::eth_prepare_mac_addr_change(dev, addr))?;
                let bytes = (*addr.cast::<bindings::sockaddr>()).sa_data.as_ptr();
                let address = bytes.cast::<[u8; ETH_ALEN]>().read_unaligned();
                O::set_mac_address(DeviceRef::<O>::with_data(dev).1, &address)?;
                bindings::eth_commit_mac_addr_change(dev, addr);
            }
            Ok(0)
        })
    }

    extern "C" fn set_features(
        dev: *mut bindings::net_device,
        wanted: bindings::netdev_features_t,
    ) -> c_int {
        from_result(|| {
            // SAFETY: The stack passes a registered device of ours.
            let (dev, data) = unsafe { DeviceRef::<O>::with_data(dev) };
            O::set_features(data, dev.features(), wanted).map(|()| 0)
        })
    }

    /// The lists that it is given are those that the driver asks for.
    extern "C" fn set_rx_mode(
        dev: *mut bindings::net_device,
        _unicast: *mut bindings::netdev_hw_addr_list,
        _multicast: *mut bindings::netdev_hw_addr_list,
    ) -> c_int {
        from_result(|| {
            // SAFETY: The stack passes a registered device of ours.
            let (dev, data) = unsafe { DeviceRef::<O>::with_data(dev) };
            O::set_rx_mode(dev, data).map(|()| 0)
        })
    }

    /// The protocol is that of C-tags: no other ones are filtered.
    extern "C" fn add_vlan(
        dev: *mut bindings::net_device,
        _proto: bindings::__be16,
        id: u16,
    ) -> c_int {
        from_result(|| {
            // SAFETY: The stack passes a registered device of ours.
            O::add_vlan(unsafe { DeviceRef::<O>::with_data(dev) }.1, id).map(|()| 0)
        })
    }

    extern "C" fn remove_vlan(
        dev: *mut bindings::net_device,
        _proto: bindings::__be16,
        id: u16,
    ) -> c_int {
        from_result(|| {
            // SAFETY: The stack passes a registered device of ours.
            O::remove_vlan(unsafe { DeviceRef::<O>::with_data(dev) }.1, id).map(|()| 0)
        })
    }

    extern "C" fn get_stats64(
        dev: *mut bindings::net_device,
        totals: *mut bindings::rtnl_link_stats64,
    ) {
        // SAFETY: The stack passes a registered device of ours, and room for the numbers.
        unsafe { write_totals(O::totals(DeviceRef::<O>::with_data(dev).1), totals) };
    }

    extern "C" fn tx_timeout(dev: *mut bindings::net_device, queue: c_uint) {
        // SAFETY: The stack passes a registered device of ours.
        let (dev, data) = unsafe { DeviceRef::<O>::with_data(dev) };
        O::tx_timeout(dev, data, queue as usize);
    }

    extern "C" fn bpf(dev: *mut bindings::net_device, bpf: *mut bindings::netdev_bpf) -> c_int {
        // SAFETY: The stack passes a registered device of ours, and a command with what belongs to it,
        // with the RTNL lock held.
        from_result(|| unsafe {
            match bindings::virtio_netdev_bpf_command(bpf) {
                bindings::bpf_netdev_command_XDP_SETUP_PROG => Self::set_program(dev, bpf),
                bindings::bpf_netdev_command_XDP_SETUP_XSK_POOL => Self::set_pool(dev, bpf),
                _ => Err(EINVAL),
            }
            .map(|()| 0)
        })
    }

    /// # Safety
    ///
    /// `dev` is a registered device of ours, and the command says which program.
    unsafe fn set_program(
        dev: *mut bindings::net_device,
        bpf: *mut bindings::netdev_bpf,
    ) -> Result {
        // SAFETY: By the contract: a program comes with a reference that is ours if it is taken.
        unsafe {
            let (dev, data) = DeviceRef::<O>::with_data(dev);
            let mut extack = Extack::from_raw(bindings::virtio_netdev_bpf_extack(bpf));
            let program = NonNull::new(bindings::virtio_netdev_bpf_prog(bpf));
            let program = program.map(|program| Program::from_raw(program));
            let set = O::set_xdp(dev, data, program.clone(), &mut extack);
            if set.is_err() {
                // It is still the stack's.
                core::mem::forget(program);
            }
            set
        }
    }

    /// # Safety
    ///
    /// `dev` is a registered device of ours, and the command says which pool, if any, and for which
    /// queue; under the RTNL lock.
    unsafe fn set_pool(raw: *mut bindings::net_device, bpf: *mut bindings::netdev_bpf) -> Result {
        // SAFETY: By the contract.
        unsafe {
            let (dev, data) = DeviceRef::<O>::with_data(raw);
            let queue = bindings::virtio_netdev_bpf_queue(bpf);
            let index = usize::from(queue);
            let pool = NonNull::new(bindings::virtio_netdev_bpf_pool(bpf));
            let bound = dev.xsk(index).ok_or(EINVAL)?;
            let Some(pool) = pool else {
                if let Some(bound) = bound.take() {
                    O::unbind_xsk(dev, data, index);
                    bound.release(raw);
                }
                return Ok(());
            };
            if bound.is_some() {
                return Err(EBUSY);
            }
            let new = Bound::new(pool)?;
            match O::bind_xsk(dev, data, index, new.pool(raw, queue.into())) {
                Ok(()) => *bound = Some(new),
                Err(error) => {
                    new.release(raw);
                    return Err(error);
                }
            }
            Ok(())
        }
    }

    extern "C" fn xsk_wakeup(dev: *mut bindings::net_device, index: u32, flags: u32) -> c_int {
        from_result(|| {
            // SAFETY: The stack passes a registered device of ours.
            let (dev, data) = unsafe { DeviceRef::<O>::with_data(dev) };
            if !dev.is_running() {
                return Err(Error::from_errno(-(bindings::ENETDOWN as c_int)));
            }
            for (flag, kind) in [
                (bindings::VIRTIO_XDP_WAKEUP_TX, QueueType::Tx),
                (bindings::VIRTIO_XDP_WAKEUP_RX, QueueType::Rx),
            ] {
                if flags & flag != 0 {
                    O::xsk_wakeup(data, index as usize, kind)?;
                }
            }
            Ok(0)
        })
    }

    extern "C" fn xdp_xmit(
        dev: *mut bindings::net_device,
        count: c_int,
        frames: *mut *mut bindings::xdp_frame,
        flags: u32,
    ) -> c_int {
        from_result(|| {
            if flags & !bindings::VIRTIO_XDP_XMIT_FLAGS_MASK != 0 {
                return Err(EINVAL);
            }
            // SAFETY: The stack passes a registered device of ours, and so many frames, of which those
            // that are not sent stay its own; in a bottom half.
            unsafe {
                let (dev, data) = DeviceRef::<O>::with_data(dev);
                let index = O::xdp_queue(data).ok_or(ENXIO)?;
                let tx = dev.lock_tx_here(index).ok_or(ENXIO)?;
                let frames = core::slice::from_raw_parts(frames, count.max(0) as usize);
                let mut frames = XdpFrames::new(frames);
                let flush = flags & bindings::VIRTIO_XDP_XMIT_FLUSH != 0;
                O::xdp_xmit(tx, &mut frames, flush);
                Ok(frames.sent() as c_int)
            }
        })
    }
}

/// Ports have no names; sysfs has a file for them all the same, as with C's driver.
extern "C" fn get_phys_port_name(
    _dev: *mut bindings::net_device,
    _name: *mut c_char,
    _len: usize,
) -> c_int {
    EOPNOTSUPP.to_errno()
}
