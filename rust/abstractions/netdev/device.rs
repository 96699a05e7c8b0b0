// SPDX-License-Identifier: GPL-2.0

//! Ethernet devices: `struct net_device`.
//!
//! C header: [`include/linux/netdevice.h`](srctree/include/linux/netdevice.h).

use crate::{
    ethtool,
    failover::Failover,
    hotplug::CpuWatch,
    metadata,
    operations::{
        Callbacks,
        Operations, //
    },
    queue_statistics,
    sysfs::Attributes,
    tx_queue::{
        Lock,
        TxGuard, //
    },
    xsk::Bound,
    ETH_ALEN, //
};
use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    ops::Deref,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    cpu::{
        nr_cpu_ids,
        CpuId, //
    },
    cpumask::Cpumask,
    device,
    error::to_result,
    ffi::c_uint,
    prelude::*,
    sync::Arc,
    types::{
        NotThreadSafe,
        Opaque, //
    }, //
};
use virtio_bindings as bindings;

/// The smallest MTU of an Ethernet device, in bytes.
pub const MIN_MTU: u32 = bindings::VIRTIO_ETH_MIN_MTU;

/// The largest MTU of an Ethernet device, in bytes.
pub const MAX_MTU: u32 = bindings::VIRTIO_ETH_MAX_MTU;

/// How often lists of addresses are looked at that become longer all the time.
const ADDRESS_RETRIES: usize = 8;

/// What a device can do for the stack (C: `NETIF_F_*`).
pub mod feature {
    use virtio_bindings as bindings;

    /// Takes packets in pieces.
    pub const SG: u64 = bindings::NETIF_F_SG;
    /// Completes any checksum.
    pub const HW_CSUM: u64 = bindings::NETIF_F_HW_CSUM;
    /// Reaches all memory.
    pub const HIGHDMA: u64 = bindings::NETIF_F_HIGHDMA;
    /// Cuts TCP over IPv4 into segments.
    pub const TSO: u64 = bindings::NETIF_F_TSO;
    /// Cuts TCP over IPv6 into segments.
    pub const TSO6: u64 = bindings::NETIF_F_TSO6;
    /// Cuts TCP with ECN into segments.
    pub const TSO_ECN: u64 = bindings::NETIF_F_TSO_ECN;
    /// Cuts UDP into segments.
    pub const GSO_UDP_L4: u64 = bindings::NETIF_F_GSO_UDP_L4;
    /// Cuts what is in a tunnel of UDP into segments.
    pub const GSO_UDP_TUNNEL: u64 = bindings::NETIF_F_GSO_UDP_TUNNEL;
    /// Completes the checksums of such tunnels too.
    pub const GSO_UDP_TUNNEL_CSUM: u64 = bindings::NETIF_F_GSO_UDP_TUNNEL_CSUM;
    /// Checks the headers of what it cuts.
    pub const GSO_ROBUST: u64 = bindings::NETIF_F_GSO_ROBUST;
    /// Validates checksums of what is received.
    pub const RXCSUM: u64 = bindings::NETIF_F_RXCSUM;
    /// Has the hash of what is received, which [`SkBuff::set_hash`](crate::SkBuff::set_hash) says.
    pub const RXHASH: u64 = bindings::NETIF_F_RXHASH;
    /// Puts segments together that are received.
    pub const GRO_HW: u64 = bindings::NETIF_F_GRO_HW;
    /// Drops packets of VLANs that nobody asked for.
    pub const HW_VLAN_CTAG_FILTER: u64 = bindings::NETIF_F_HW_VLAN_CTAG_FILTER;
}

/// What is in a device behind C's own part.
struct Private<O: Operations> {
    /// An `Arc` taken apart while the device is registered, else null.
    data: UnsafeCell<*const O::Data>,
    tx: KVec<UnsafeCell<O::Tx>>,
    /// Pools of sockets, as many as queues; they change under the RTNL lock.
    xsk: KVec<UnsafeCell<Option<Bound>>>,
}

/// A device with its memory.  The last reference goes without the RTNL lock.
///
/// # Invariants
///
/// `dev` is valid, of [`Callbacks<O>`], and its private part is a `Private<O>`; freed with this.
pub(crate) struct Core<O: Operations> {
    dev: NonNull<bindings::net_device>,
    _operations: PhantomData<O>,
}

// SAFETY: The stack has locks of its own; see the methods.
unsafe impl<O: Operations> Send for Core<O> {}
// SAFETY: As above.
unsafe impl<O: Operations> Sync for Core<O> {}

impl<O: Operations> Core<O> {
    pub(crate) fn as_raw(&self) -> *mut bindings::net_device {
        self.dev.as_ptr()
    }
}

impl<O: Operations> Deref for Core<O> {
    type Target = DeviceRef<O>;

    fn deref(&self) -> &DeviceRef<O> {
        // SAFETY: By the type invariants.
        unsafe { DeviceRef::from_raw(self.as_raw()) }
    }
}

impl<O: Operations> Drop for Core<O> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; nobody uses the device any more, which is not registered.
        unsafe {
            if !(*self.as_raw()).irq_moder.is_null() {
                let _rtnl = rtnl_lock();
                bindings::net_dim_free_irq_moder(self.as_raw());
            }
            let private = bindings::virtio_netdev_priv(self.as_raw());
            ptr::drop_in_place(private.cast::<Private<O>>());
            bindings::free_netdev(self.as_raw());
        }
    }
}

/// A device that nobody sees yet.
pub struct NewDevice<O: Operations>(Arc<Core<O>>);

impl<O: Operations> NewDevice<O> {
    /// Makes a device below `parent`, with a transmit queue for each element of `tx` and as many to
    /// receive.  Addresses of it can be changed while it is up, and it filters unicast addresses.
    /// May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(parent: &device::Device, tx: KVec<O::Tx>) -> Result<Self> {
        const { assert!(align_of::<Private<O>>() <= bindings::VIRTIO_NETDEV_ALIGN as usize) };
        let count = tx.len() as c_uint;
        let mut cells = KVec::with_capacity(tx.len(), GFP_KERNEL)?;
        let mut xsk = KVec::with_capacity(tx.len(), GFP_KERNEL)?;
        for one in tx {
            cells.push(UnsafeCell::new(one), GFP_KERNEL)?;
            xsk.push(UnsafeCell::new(None), GFP_KERNEL)?;
        }
        let size = size_of::<Private<O>>() as i32;
        // SAFETY: No preconditions.
        let dev = unsafe { bindings::alloc_etherdev_mqs(size, count, count) };
        let dev = NonNull::new(dev).ok_or(ENOMEM)?;
        // SAFETY: Ours alone so far, with room for the private part.
        unsafe {
            let raw = dev.as_ptr();
            bindings::virtio_netdev_priv(raw)
                .cast::<Private<O>>()
                .write(Private {
                    data: UnsafeCell::new(ptr::null()),
                    tx: cells,
                    xsk,
                });
            (*raw).netdev_ops = Callbacks::<O>::TABLE;
            (*raw).ethtool_ops = ethtool::Callbacks::<O>::TABLE;
            (*raw).stat_ops = queue_statistics::Callbacks::<O>::TABLE;
            // `Device` is transparent.
            (*raw).dev.parent = ptr::from_ref(parent).cast_mut().cast();
            bindings::virtio_netdev_add_priv_flags(raw, bindings::VIRTIO_NET_PRIV_FLAGS);
        }
        // INVARIANT: Made just now.
        let core = Core {
            dev,
            _operations: PhantomData,
        };
        Ok(Self(Arc::new(core, GFP_KERNEL)?))
    }

    pub(crate) fn core(&self) -> &Arc<Core<O>> {
        &self.0
    }

    /// Sets what it does for the stack: now, and what may be switched on and off.
    pub fn set_features(&mut self, on: u64, changeable: u64) {
        let dev = self.0.as_raw();
        // SAFETY: Nobody else looks: the device is not registered.
        unsafe {
            (*dev).features = on;
            (*dev).hw_features = changeable;
            // Those on top of it have VLANs of their own.
            (*dev).vlan_features = on & !feature::HW_VLAN_CTAG_FILTER;
        }
    }

    /// Sets what it does for packets that are in tunnels.
    pub fn set_tunnel_features(&mut self, inner: u64) {
        let dev = self.0.as_raw();
        // SAFETY: As above.
        unsafe { (*dev).hw_enc_features = inner };
    }

    /// Sets the MTU, and the largest one it may be set to, in bytes.
    pub fn set_mtu(&mut self, mtu: u32, most: u32) {
        let dev = self.0.as_raw();
        // SAFETY: As above.
        unsafe {
            (*dev).mtu = mtu;
            (*dev).min_mtu = MIN_MTU;
            (*dev).max_mtu = most;
        }
    }

    /// Shows in sysfs how long buffers of each receive queue are, see [`Operations::rx_buffer_size`].
    pub fn show_rx_buffer_size(&mut self) {
        // SAFETY: As above.
        unsafe { (*self.0.as_raw()).sysfs_rx_queue_group = Attributes::<O>::as_ptr() };
    }

    /// Says that programs can be run on packets that are received, also on those in several buffers if
    /// it `takes_frags`.
    pub fn set_xdp(&mut self, takes_frags: bool) {
        let mut features = bindings::VIRTIO_XDP_RECEIVES;
        if takes_frags {
            features |= bindings::VIRTIO_XDP_RECEIVES_FRAGS;
        }
        // SAFETY: As above.
        unsafe { (*self.0.as_raw()).xdp_features = features };
    }

    /// Says that programs can ask for the hash of a packet ([`XdpBuff::set_hash`](crate::XdpBuff::set_hash)).
    pub fn show_rx_hash(&mut self) {
        // SAFETY: As above.
        unsafe { (*self.0.as_raw()).xdp_metadata_ops = &metadata::OPERATIONS };
    }

    /// Asks for so many bytes before each packet that is sent.
    pub fn set_needed_headroom(&mut self, bytes: u16) {
        // SAFETY: As above.
        unsafe { (*self.0.as_raw()).needed_headroom = bytes };
    }

    /// Sets the MAC address, or a random one, and returns it.
    pub fn set_address(&mut self, address: Option<&[u8; ETH_ALEN]>) -> [u8; ETH_ALEN] {
        // SAFETY: As above.
        unsafe {
            let dev = self.0.as_raw();
            match address {
                Some(address) => bindings::virtio_eth_hw_addr_set(dev, address.as_ptr()),
                None => bindings::virtio_eth_hw_addr_random(dev),
            }
        }
        self.0.address()
    }

    /// Shows the device to everybody, with the carrier off; if it is a `standby`, behind another one that
    /// uses whatever has the same address before it.  May sleep.
    ///
    /// # Errors
    ///
    /// Those of the stack.
    pub fn register(self, data: Arc<O::Data>, standby: bool) -> Result<Device<O>> {
        let raw = self.0.as_raw();
        let failover = match standby {
            // SAFETY: It goes when the device is not registered any more, and before that is freed.
            true => Some(unsafe { Failover::new(raw)? }),
            false => None,
        };
        // SAFETY: Nobody calls us before it is registered.
        unsafe {
            *self.0.private().data.get() = Arc::into_raw(data);
            bindings::netif_carrier_off(raw);
            if let Err(error) = to_result(bindings::register_netdev(raw)) {
                self.0.take_data();
                return Err(error);
            }
        }
        let mut device = Device {
            cpus: None,
            _failover: failover,
            core: self.0,
        };
        // SAFETY: Registered, until it is dropped, which drops this first.
        device.cpus = unsafe { CpuWatch::new(raw)? };
        Ok(device)
    }
}

impl<O: Operations> Deref for NewDevice<O> {
    type Target = DeviceRef<O>;

    fn deref(&self) -> &DeviceRef<O> {
        &self.0
    }
}

/// A device that everybody sees; unregistered when dropped, which may sleep, and stops it.
///
/// # Invariants
///
/// Registered, with data.
pub struct Device<O: Operations> {
    cpus: Option<Pin<KBox<CpuWatch<O>>>>,
    // Before the device, which it knows.
    _failover: Option<Failover>,
    core: Arc<Core<O>>,
}

impl<O: Operations> Deref for Device<O> {
    type Target = DeviceRef<O>;

    fn deref(&self) -> &DeviceRef<O> {
        &self.core
    }
}

impl<O: Operations> Drop for Device<O> {
    fn drop(&mut self) {
        self.cpus = None;
        // SAFETY: By the type invariants; nobody calls us any more after it.
        unsafe {
            bindings::unregister_netdev(self.core.as_raw());
            self.core.take_data();
        }
    }
}

/// A device, for as long as it is borrowed.
///
/// # Invariants
///
/// As [`Core`], but that it is not freed with this.
#[repr(transparent)]
pub struct DeviceRef<O: Operations>(Opaque<bindings::net_device>, PhantomData<O>);

// SAFETY: The stack has locks of its own.
unsafe impl<O: Operations> Sync for DeviceRef<O> {}

impl<O: Operations> DeviceRef<O> {
    /// # Safety
    ///
    /// As the type invariants, during `'a`.
    #[inline]
    pub(crate) unsafe fn from_raw<'a>(dev: *mut bindings::net_device) -> &'a Self {
        // SAFETY: By the contract; transparent.
        unsafe { &*dev.cast() }
    }

    /// # Safety
    ///
    /// As [`DeviceRef::from_raw`], and registered.
    #[inline]
    pub(crate) unsafe fn with_data<'a>(dev: *mut bindings::net_device) -> (&'a Self, &'a O::Data) {
        // SAFETY: By the contract; the data is there while the device is registered.
        unsafe {
            let this: &'a Self = Self::from_raw(dev);
            (this, &**this.private().data.get())
        }
    }

    fn as_raw(&self) -> *mut bindings::net_device {
        self.0.get()
    }

    #[inline]
    fn private(&self) -> &Private<O> {
        // SAFETY: By the type invariants.
        unsafe { &*bindings::virtio_netdev_priv(self.as_raw()).cast() }
    }

    /// Drops the driver's data.
    ///
    /// # Safety
    ///
    /// There is some, and nobody uses it any more.
    unsafe fn take_data(&self) {
        // SAFETY: By the contract.
        unsafe {
            let data = ptr::replace(self.private().data.get(), ptr::null());
            drop(Arc::from_raw(data));
        }
    }

    /// The queue itself, and what the driver keeps of it.
    #[inline]
    fn tx_parts(&self, index: usize) -> Option<(NonNull<bindings::netdev_queue>, *mut O::Tx)> {
        // SAFETY: By the type invariants; there are as many queues as cells.
        unsafe {
            let cell = self.private().tx.get(index)?;
            let queue = bindings::virtio_netdev_get_tx_queue(self.as_raw(), index as c_uint);
            Some((NonNull::new(queue)?, cell.get()))
        }
    }

    /// Transmit queue `index`, which the caller has locked.
    ///
    /// # Safety
    ///
    /// It is locked during `'a`, for nobody else.
    #[inline]
    pub(crate) unsafe fn locked_tx<'a>(&'a self, index: usize) -> Option<TxGuard<'a, O>> {
        let (queue, tx) = self.tx_parts(index)?;
        // SAFETY: By the contract.
        Some(unsafe { TxGuard::new(queue, &mut *tx, Lock::Stack) })
    }

    /// Locks transmit queue `index`; `None` if there is none.  Does not sleep; not in interrupts, nor
    /// with interrupts off.
    pub fn lock_tx(&self, index: usize) -> Option<TxGuard<'_, O>> {
        let (queue, tx) = self.tx_parts(index)?;
        // SAFETY: By the type invariants.
        Some(unsafe {
            bindings::virtio_local_bh_disable();
            bindings::virtio_netif_tx_queue_lock(queue.as_ptr());
            TxGuard::new(queue, &mut *tx, Lock::OursAndBottomHalves)
        })
    }

    /// As [`DeviceRef::lock_tx`], in a bottom half.
    ///
    /// # Safety
    ///
    /// Bottom halves are off during `'a`.
    #[inline]
    pub(crate) unsafe fn lock_tx_here<'a>(&'a self, index: usize) -> Option<TxGuard<'a, O>> {
        let (queue, tx) = self.tx_parts(index)?;
        // SAFETY: By the contract and the type invariants.
        Some(unsafe {
            bindings::virtio_netif_tx_queue_lock(queue.as_ptr());
            TxGuard::new(queue, &mut *tx, Lock::Ours)
        })
    }

    /// As [`DeviceRef::lock_tx_here`]; `None` too if somebody else has the lock.
    ///
    /// # Safety
    ///
    /// As there.
    #[inline]
    pub(crate) unsafe fn try_lock_tx_here<'a>(&'a self, index: usize) -> Option<TxGuard<'a, O>> {
        let (queue, tx) = self.tx_parts(index)?;
        // SAFETY: By the contract and the type invariants.
        unsafe {
            bindings::virtio_netif_tx_queue_trylock(queue.as_ptr())
                .then(|| TxGuard::new(queue, &mut *tx, Lock::Ours))
        }
    }

    /// Which pool of sockets is bound to pair `index`.
    ///
    /// # Safety
    ///
    /// Under the RTNL lock, and the only one of that pair meanwhile.
    #[expect(clippy::mut_from_ref, reason = "the caller excludes others")]
    pub(crate) unsafe fn xsk(&self, index: usize) -> Option<&mut Option<Bound>> {
        // SAFETY: By the contract.
        self.private()
            .xsk
            .get(index)
            .map(|cell| unsafe { &mut *cell.get() })
    }

    /// Whether the device is up.
    pub fn is_running(&self) -> bool {
        // SAFETY: By the type invariants; one bit.
        unsafe { bindings::virtio_netif_running(self.as_raw()) }
    }

    /// Says whether there is a link.  Any context but interrupts.
    pub fn set_carrier(&self, on: bool) {
        // SAFETY: By the type invariants.
        unsafe {
            if on {
                bindings::netif_carrier_on(self.as_raw());
            } else {
                bindings::netif_carrier_off(self.as_raw());
            }
        }
    }

    /// Has the stack hold packets back, or go on, of all queues.
    pub fn set_transmitting(&self, on: bool) {
        // SAFETY: By the type invariants.
        unsafe {
            if on {
                bindings::virtio_netif_tx_wake_all_queues(self.as_raw());
            } else {
                bindings::virtio_netif_tx_stop_all_queues(self.as_raw());
            }
        }
    }

    /// Takes the device from the stack, as if it was not there: no packet is sent when this returns.
    pub fn detach(&self) {
        // SAFETY: By the type invariants.
        unsafe {
            bindings::virtio_netif_tx_lock_bh(self.as_raw());
            bindings::netif_device_detach(self.as_raw());
            bindings::virtio_netif_tx_unlock_bh(self.as_raw());
        }
    }

    /// Undoes [`DeviceRef::detach`].
    pub fn attach(&self) {
        // SAFETY: By the type invariants.
        unsafe {
            bindings::virtio_netif_tx_lock_bh(self.as_raw());
            bindings::netif_device_attach(self.as_raw());
            bindings::virtio_netif_tx_unlock_bh(self.as_raw());
        }
    }

    /// What the device does for the stack now.
    pub fn features(&self) -> u64 {
        // SAFETY: By the type invariants; one word.
        unsafe { (&raw const (*self.as_raw()).features).read_volatile() }
    }

    /// The MTU now, in bytes.
    pub fn mtu(&self) -> u32 {
        // SAFETY: By the type invariants; one word.
        unsafe { (&raw const (*self.as_raw()).mtu).read_volatile() }
    }

    /// Whether the stack has the device, see [`DeviceRef::detach`].
    pub fn is_present(&self) -> bool {
        // SAFETY: By the type invariants; one bit.
        unsafe { bindings::virtio_netif_device_present(self.as_raw()) }
    }

    /// Says whether programs may redirect packets to the device.  Under the RTNL lock; may sleep.
    pub fn set_redirect_target(&self, on: bool) {
        // SAFETY: By the type invariants.
        unsafe {
            if on {
                bindings::xdp_features_set_redirect_target(self.as_raw(), true);
            } else {
                bindings::xdp_features_clear_redirect_target(self.as_raw());
            }
        }
    }

    /// Whether a user has chosen the table of receive-side scaling.
    pub fn has_rss_of_user(&self) -> bool {
        // SAFETY: By the type invariants; one bit.
        unsafe { bindings::virtio_netif_is_rxfh_configured(self.as_raw()) }
    }

    /// Uses the first `count` queues of both ways.  Under the RTNL lock, unless nobody sees the device
    /// yet; may sleep.  No packet is sent through the others when this returns.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there are not as many; `ENOMEM`, never for fewer than before.
    pub fn set_real_queues(&self, count: u32) -> Result {
        self.set_real_counts(count, count)
    }

    /// As [`DeviceRef::set_real_queues`], with so many to send and so many to receive.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn set_real_counts(&self, tx: u32, rx: u32) -> Result {
        // SAFETY: By the type invariants.
        unsafe {
            to_result(bindings::netif_set_real_num_tx_queues(self.as_raw(), tx))?;
            to_result(bindings::netif_set_real_num_rx_queues(self.as_raw(), rx))
        }
    }

    /// Has `cpus` send through queue `index`: a hint.  May sleep.
    pub fn set_xps(&self, index: u16, cpus: &Cpumask) {
        // SAFETY: By the type invariants; the mask is copied.  What the stack has no memory for, or no
        // such queue, it does without.
        unsafe { bindings::virtio_netif_set_xps_queue(self.as_raw(), cpus.as_raw(), index) };
    }

    /// Tells everybody on the wire where the device is (C: `netdev_notify_peers`).  May sleep; without
    /// the RTNL lock.
    pub fn notify_peers(&self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::netdev_notify_peers(self.as_raw()) };
    }

    /// What is to be let through.  Under the RTNL lock; may sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EAGAIN` if the addresses do not stop changing.
    pub fn rx_filter(&self) -> Result<RxFilter> {
        // SAFETY: By the type invariants; one word.
        let flags = unsafe { (&raw const (*self.as_raw()).flags).read_volatile() };
        Ok(RxFilter {
            promiscuous: flags & bindings::net_device_flags_IFF_PROMISC != 0,
            all_multicast: flags & bindings::net_device_flags_IFF_ALLMULTI != 0,
            no_multicast: flags & bindings::net_device_flags_IFF_MULTICAST == 0,
            unicast: self.addresses(false)?,
            multicast: self.addresses(true)?,
        })
    }

    /// The addresses beside its own that it listens to.
    fn addresses(&self, multicast: bool) -> Result<KVec<[u8; ETH_ALEN]>> {
        let mut list = KVec::new();
        for _ in 0..ADDRESS_RETRIES {
            let room = list.capacity().min(c_uint::MAX as usize) as c_uint;
            // SAFETY: By the type invariants; there is room for so many addresses, and what is within
            // the length was written.
            let count = unsafe {
                let to: *mut [u8; ETH_ALEN] = list.as_mut_ptr();
                let count =
                    bindings::virtio_netdev_addresses(self.as_raw(), multicast, to.cast(), room);
                if count <= room {
                    list.inc_len(count as usize);
                    return Ok(list);
                }
                count
            };
            list.reserve(count as usize, GFP_KERNEL)?;
        }
        Err(EAGAIN)
    }

    /// The MAC address.
    pub fn address(&self) -> [u8; ETH_ALEN] {
        // SAFETY: By the type invariants, an address of that length; it may be changed meanwhile,
        // as C's readers put up with.
        unsafe {
            (*self.as_raw())
                .dev_addr
                .cast::<[u8; ETH_ALEN]>()
                .read_unaligned()
        }
    }
}

/// What a device is to let through beside packets to its own address, and to all.
pub struct RxFilter {
    /// Everything.
    pub promiscuous: bool,
    /// Every multicast.
    pub all_multicast: bool,
    /// The interface is not for multicasts, though it does not mind them.
    pub no_multicast: bool,
    /// What is sent to these addresses of one.
    pub unicast: KVec<[u8; ETH_ALEN]>,
    /// What is sent to these addresses of many.
    pub multicast: KVec<[u8; ETH_ALEN]>,
}

/// The processors that are online now.  May sleep.
///
/// # Errors
///
/// `ENOMEM`.
pub fn online_cpus() -> Result<KVec<CpuId>> {
    let mut cpus = KVec::new();
    for cpu in (0..nr_cpu_ids()).filter_map(CpuId::from_u32) {
        // SAFETY: The number of a processor.
        if unsafe { bindings::virtio_cpu_online(cpu.as_u32()) } {
            cpus.push(cpu, GFP_KERNEL)?;
        }
    }
    Ok(cpus)
}

/// Waits until every poll, and whatever else reads under RCU now, has ended.  May sleep.
pub fn synchronize_net() {
    // SAFETY: No preconditions.
    unsafe { bindings::synchronize_net() };
}

/// The RTNL lock, held.
pub struct RtnlGuard {
    _thread: NotThreadSafe,
}

/// Takes the lock of all changes to network devices.  May sleep.
pub fn rtnl_lock() -> RtnlGuard {
    // SAFETY: No preconditions.
    unsafe { bindings::rtnl_lock() };
    RtnlGuard {
        _thread: NotThreadSafe,
    }
}

impl Drop for RtnlGuard {
    fn drop(&mut self) {
        // SAFETY: Locked by `rtnl_lock`, by this thread.
        unsafe { bindings::rtnl_unlock() };
    }
}
