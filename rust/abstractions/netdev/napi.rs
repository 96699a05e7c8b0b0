// SPDX-License-Identifier: GPL-2.0

//! NAPI: interrupts while there is nothing to do, polling while there is.
//!
//! C header: [`include/linux/netdevice.h`](srctree/include/linux/netdevice.h) (`struct napi_struct`).
//!
//! What is missed between the last look at a queue and the moment that its interrupts are asked for
//! again is looked for by the driver, before the poll is completed ([`Polled`]): from then on an
//! interrupt that comes too early is remembered by NAPI itself (`NAPIF_STATE_MISSED`).

use crate::{
    device::{
        Core,
        DeviceRef,
        NewDevice, //
    },
    operations::Operations,
    pool::{
        Memory,
        PagePool,
        PoolBuffer, //
    },
    skb::SkBuff,
    tx_queue::TxGuard,
    xdp::RxInfo,
    ETH_HLEN, //
};
use core::{
    cell::UnsafeCell,
    ptr::NonNull, //
};
use kernel::{
    container_of,
    device,
    ffi::c_int,
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
    types::Opaque, //
};
use virtio_bindings as bindings;

/// Takes back that interrupts were asked for.
pub trait Suppress {
    /// Asks for no interrupts: a hint.  Others may be polling meanwhile.
    fn suppress(self);
}

impl<S: Suppress> Suppress for Option<S> {
    #[inline]
    fn suppress(self) {
        if let Some(suppress) = self {
            suppress.suppress();
        }
    }
}

/// What a poll found.
pub enum Polled<S> {
    /// There may be more to do.
    Again,
    /// There was nothing more after so many packets, less than the budget; interrupts were asked for,
    /// and after that nothing was there either.
    Idle(u32, S),
}

/// What polls a queue.
pub trait Poll<O: Operations>: Send + Sized {
    /// What takes back that interrupts were asked for.
    type Suppress: Suppress;

    /// Takes at most as many packets off the queue as the budget says, with interrupts off, and asks
    /// for interrupts if there were less.  Bottom half.
    fn poll(&mut self, polling: &Polling<'_, O>) -> Polled<Self::Suppress>;
}

/// Which way the queue of a [`Napi`] goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueType {
    /// Receive.
    Rx,
    /// Transmit.
    Tx,
}

impl QueueType {
    fn to_raw(self) -> bindings::netdev_queue_type {
        match self {
            Self::Rx => bindings::netdev_queue_type_NETDEV_QUEUE_TYPE_RX,
            Self::Tx => bindings::netdev_queue_type_NETDEV_QUEUE_TYPE_TX,
        }
    }
}

/// The lock of a context that is disabled.
// Not generic, and not inlined into what is: lock checking wants one name for one class.
#[inline(never)]
fn disabled() -> impl PinInit<Mutex<bool>> {
    new_mutex!(false)
}

/// A NAPI context, and what it polls.
///
/// # Invariants
///
/// - `napi` is known to the device that `core` keeps;
/// - it is enabled if and only if `enabled` says so, which changes under that lock alone;
/// - `poller` and `pool` are used by the poll function while it is enabled, which runs once at a time,
///   and else by who has the lock of `enabled`.
#[pin_data(PinnedDrop)]
pub struct Napi<O: Operations, P: Poll<O>> {
    #[pin]
    napi: Opaque<bindings::napi_struct>,
    core: Arc<Core<O>>,
    index: u32,
    kind: QueueType,
    #[pin]
    enabled: Mutex<bool>,
    // Before the context: it knows that.
    pool: UnsafeCell<Option<PagePool>>,
    poller: UnsafeCell<P>,
}

// SAFETY: See the invariants.
unsafe impl<O: Operations, P: Poll<O>> Send for Napi<O, P> {}
// SAFETY: See the invariants.
unsafe impl<O: Operations, P: Poll<O>> Sync for Napi<O, P> {}

impl<O: Operations, P: Poll<O>> Napi<O, P> {
    /// Makes a context for queue `index` of a device.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(
        dev: &NewDevice<O>,
        kind: QueueType,
        index: u32,
        poller: P,
    ) -> Result<Pin<KBox<Self>>> {
        let core = dev.core().clone();
        let this = KBox::pin_init(
            pin_init!(Self {
                napi: Opaque::zeroed(),
                core,
                index,
                kind,
                enabled <- disabled(),
                pool: UnsafeCell::new(None),
                poller: UnsafeCell::new(poller),
            }),
            GFP_KERNEL,
        )?;
        // INVARIANT: Known to the device from here on.
        // SAFETY: Zeroed, pinned, and deleted before it is freed, while the device is there.
        unsafe {
            let (dev, napi) = (this.core.as_raw(), this.napi.get());
            match kind {
                QueueType::Rx => bindings::virtio_netif_napi_add_config(
                    dev,
                    napi,
                    Some(Self::poll),
                    index as c_int,
                ),
                QueueType::Tx => bindings::virtio_netif_napi_add_tx(dev, napi, Some(Self::poll)),
            }
        }
        Ok(this)
    }

    /// Has it take so many packets with one poll at most, instead of 64.  Nothing happens if it is
    /// enabled.
    pub fn set_weight(&self, packets: u32) {
        let enabled = self.enabled.lock();
        if !*enabled {
            let weight = packets.min(i32::MAX as u32) as c_int;
            // SAFETY: By the type invariants: nobody polls it, and we have the lock.
            unsafe { (*self.napi.get()).weight = weight };
        }
    }

    /// The device whose queue it polls.
    pub fn device(&self) -> &DeviceRef<O> {
        &self.core
    }

    /// Lets it be polled, once at least: what came before was perhaps missed.  Nothing happens if it
    /// is enabled.  Under the RTNL lock; may sleep.
    pub fn enable(&self) {
        let mut enabled = self.enabled.lock();
        if *enabled {
            return;
        }
        *enabled = true;
        // SAFETY: By the type invariants.
        unsafe {
            bindings::napi_enable(self.napi.get());
            bindings::netif_queue_set_napi(
                self.core.as_raw(),
                self.index,
                self.kind.to_raw(),
                self.napi.get(),
            );
            // Run when bottom halves are on again.
            bindings::virtio_local_bh_disable();
            bindings::virtio_napi_schedule(self.napi.get());
            bindings::virtio_local_bh_enable();
        }
    }

    /// Waits until it is not polled, and lets it not be any more.  Nothing happens if it is disabled.
    /// Under the RTNL lock; may sleep.
    pub fn disable(&self) {
        let mut enabled = self.enabled.lock();
        if !*enabled {
            return;
        }
        // SAFETY: By the type invariants.
        unsafe {
            bindings::netif_queue_set_napi(
                self.core.as_raw(),
                self.index,
                self.kind.to_raw(),
                core::ptr::null_mut(),
            );
            bindings::napi_disable(self.napi.get());
        }
        *enabled = false;
    }

    /// Runs `f` on the poller, and its memory, while it is disabled; `None` if it is not.  May sleep.
    pub fn with_disabled<R>(&self, f: impl FnOnce(&mut P, &Memory<'_>) -> R) -> Option<R> {
        let enabled = self.enabled.lock();
        if *enabled {
            return None;
        }
        // SAFETY: By the type invariants: disabled, and we have the lock.
        let (poller, pool) = unsafe { (&mut *self.poller.get(), &*self.pool.get()) };
        Some(f(poller, &Memory(pool.as_ref())))
    }

    /// Runs `f` as [`Napi::with_disabled`], for which it is disabled meanwhile.  Under the RTNL lock; may
    /// sleep.
    pub fn with_paused<R>(&self, f: impl FnOnce(&mut P, &Memory<'_>) -> R) -> Option<R> {
        let was_enabled = *self.enabled.lock();
        self.disable();
        let result = self.with_disabled(f);
        if was_enabled {
            self.enable();
        }
        result
    }

    /// Gives it a page pool of about `size` pages on NUMA node `node`, or -1, which maps them for
    /// `device` if there is one, and tells programs of it.  The one that it had goes, when its pages
    /// are back.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC`, `E2BIG` if it is too large, `EBUSY` if it is enabled.
    pub fn set_pool(&self, size: u32, node: i32, device: Option<&device::Device>) -> Result {
        let enabled = self.enabled.lock();
        if *enabled {
            return Err(EBUSY);
        }
        // SAFETY: By the type invariants: disabled, and we have the lock; it goes with us.
        unsafe {
            let dev = self.core.as_raw();
            let pool = PagePool::new(dev, self.napi.get(), self.index, size, node, device)?;
            *self.pool.get() = Some(pool);
        }
        Ok(())
    }

    /// The number by which those know it who poll it themselves; 0 if it has none yet.
    pub(crate) fn id(&self) -> u32 {
        // SAFETY: By the type invariants; one word.
        unsafe { (&raw const (*self.napi.get()).napi_id).read_volatile() }
    }

    /// Has it polled once from now on, unless it is disabled.  Any context but interrupts.
    pub fn wake(&self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::virtio_napi_wake(self.napi.get()) };
    }

    /// Has it polled, unless it is disabled.  Interrupts off, or a bottom half.
    #[inline]
    pub fn schedule(&self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::virtio_napi_schedule(self.napi.get()) };
    }

    extern "C" fn poll(napi: *mut bindings::napi_struct, budget: c_int) -> c_int {
        let opaque = napi.cast::<Opaque<bindings::napi_struct>>();
        // SAFETY: Set by `new` for the context in a `Napi`, which is there while it is enabled.
        let this = unsafe { container_of!(opaque, Self, napi) };
        let polling = Polling {
            // SAFETY: The stack passes a context.
            napi: unsafe { NonNull::new_unchecked(napi) },
            budget: budget as u32,
            // SAFETY: As above; it outlives the poll.
            device: unsafe { &(*this).core },
            // SAFETY: By the type invariants: enabled, and polls exclude each other.
            memory: Memory(unsafe { (*(*this).pool.get()).as_ref() }),
        };
        // SAFETY: By the type invariants: enabled, and polls exclude each other.
        let polled = unsafe { (*(*this).poller.get()).poll(&polling) };
        match polled {
            Polled::Idle(done, armed) if done < polling.budget => {
                // SAFETY: The stack passes a context that is being polled.  The poller is not ours
                // any more afterwards.
                if !unsafe { bindings::napi_complete_done(napi, done as c_int) } {
                    // Polled again without an interrupt.
                    armed.suppress();
                }
                done as c_int
            }
            // netpoll, with no budget, wants a 0.
            _ => budget,
        }
    }
}

#[pinned_drop]
impl<O: Operations, P: Poll<O>> PinnedDrop for Napi<O, P> {
    fn drop(self: Pin<&mut Self>) {
        self.disable();
        // SAFETY: By the type invariants; waits for who looks at it under RCU.
        unsafe { bindings::virtio_netif_napi_del(self.napi.get()) };
    }
}

/// A poll that is going on.
///
/// # Invariants
///
/// `napi` is a context that is being polled.
pub struct Polling<'a, O: Operations> {
    napi: NonNull<bindings::napi_struct>,
    budget: u32,
    device: &'a DeviceRef<O>,
    memory: Memory<'a>,
}

impl<O: Operations> Polling<'_, O> {
    /// Packets that may be taken; 0 if only what was sent is to be looked at.
    #[inline]
    pub fn budget(&self) -> u32 {
        self.budget
    }

    /// Locks transmit queue `index` of the device; `None` if there is none.
    #[inline]
    pub fn lock_tx(&self, index: usize) -> Option<TxGuard<'_, O>> {
        // SAFETY: Polls are bottom halves, or with interrupts off.
        unsafe { self.device.lock_tx_here(index) }
    }

    /// As [`Polling::lock_tx`]; `None` too if somebody else has the lock.
    #[inline]
    pub fn try_lock_tx(&self, index: usize) -> Option<TxGuard<'_, O>> {
        // SAFETY: As above.
        unsafe { self.device.try_lock_tx_here(index) }
    }

    /// What the device does for the stack now.
    #[inline]
    pub fn features(&self) -> u64 {
        self.device.features()
    }

    /// The queue, as programs know it.
    #[inline]
    pub(crate) fn rx_info(&self) -> Option<&RxInfo> {
        self.memory.rx_info()
    }

    #[inline]
    pub(crate) fn raw_device(&self) -> *mut bindings::net_device {
        // SAFETY: By the type invariants.
        unsafe { (*self.napi.as_ptr()).dev }
    }

    #[inline]
    pub(crate) fn raw_napi(&self) -> *mut bindings::napi_struct {
        self.napi.as_ptr()
    }

    /// What buffers are made of.
    #[inline]
    pub fn memory(&self) -> &Memory<'_> {
        &self.memory
    }

    /// Allocates a packet with room for `len` bytes.
    #[inline]
    pub fn alloc_skb(&self, len: u32) -> Option<SkBuff> {
        // SAFETY: By the type invariants; the kernel crate only declares the type.
        let skb = unsafe { bindings::napi_alloc_skb(self.napi.as_ptr().cast(), len) };
        // SAFETY: Allocated just now.
        NonNull::new(skb).map(|skb| unsafe { SkBuff::from_raw(skb) })
    }

    /// Makes a packet one that came through receive queue `queue` of the poll's device, for
    /// [`SkBuff::set_offload`].
    #[inline]
    pub fn prepare(&self, skb: &mut SkBuff, queue: u16) {
        // SAFETY: By the type invariants.
        unsafe {
            bindings::virtio_skb_prepare_receive(skb.as_raw(), self.raw_device(), queue);
        }
    }

    /// Hands a packet to the stack.  One without a whole Ethernet header in its linear part comes
    /// back.
    ///
    /// # Errors
    ///
    /// The packet.
    #[inline]
    pub fn receive(&self, skb: SkBuff) -> Result<(), SkBuff> {
        if skb.head_len() < ETH_HLEN {
            return Err(skb);
        }
        // SAFETY: By the type invariants; the packet is the stack's from here on, with a header.
        unsafe { bindings::virtio_skb_receive(self.napi.as_ptr(), skb.into_raw().as_ptr()) };
        Ok(())
    }

    /// Gives a buffer back to its pool at once.
    #[inline]
    pub fn recycle(&self, buffer: PoolBuffer) {
        // In netpoll it may not be the pool's own bottom half.
        buffer.put(self.budget != 0);
    }
}
