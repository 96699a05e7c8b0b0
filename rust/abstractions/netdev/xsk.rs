// SPDX-License-Identifier: GPL-2.0

//! Pools of buffers that belong to sockets (AF_XDP without copies).
//!
//! C headers: [`include/net/xdp_sock_drv.h`](srctree/include/net/xdp_sock_drv.h),
//! [`include/net/xsk_buff_pool.h`](srctree/include/net/xsk_buff_pool.h).
//!
//! A pool is bound to a pair of queues ([`XskPool::bind`]).  What receives has its [`XskRx`], and what
//! sends its [`XskTx`]; the pool goes when the driver has dropped both, for which who unbinds it waits.
//! A buffer that a device has is an [`XskBuffer`], which is of no use without the [`XskRx`] that it
//! comes from: one that comes back too late, from a device that did not let go of it, is nothing.

use crate::{
    metadata::{
        Described,
        RxHash, //
    },
    napi::{
        Napi,
        Poll,
        Polling, //
    },
    operations::Operations,
    pool::PoolBuffer,
    skb::SkBuff,
    xdp::{
        act_on,
        Act,
        Program,
        Verdict, //
    }, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    device,
    error::to_result,
    ffi::c_void,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        Arc, //
    },
    time::{
        delay::fsleep,
        Delta, //
    },
    types::Opaque, //
};
use virtio_bindings as bindings;
use virtio_spec::net::header::Hash;

/// Buffers that are taken from a pool at once.
const BATCH: usize = 64;

/// How often it is said that a pool is not let go of.
const COMPLAINT: Delta = Delta::from_secs(10);

/// How often it is looked whether it is.
const LOOK: Delta = Delta::from_millis(1);

/// In the second word of a buffer in a queue: that it is of such a pool.
pub(crate) const WORD: u16 = 1 << 11;

/// Behind [`WORD`]: of which one.
const GENERATION: u16 = 0xf000;

/// The number of the next pool.
static NEXT: Atomic<i32> = Atomic::new(0);

/// A half of a pool that somebody has.
struct User(Arc<Atomic<i32>>);

impl User {
    fn new(users: &Arc<Atomic<i32>>) -> Self {
        users.fetch_add(1, Relaxed);
        Self(users.clone())
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // Pairs with the load in `Bound::wait`: what was done with the pool is done.
        self.0.fetch_add(-1, Release);
    }
}

/// A pool that is bound to a queue, as the device knows it.
pub(crate) struct Bound {
    pool: NonNull<bindings::xsk_buff_pool>,
    users: Arc<Atomic<i32>>,
}

impl Bound {
    /// `ENOMEM`.
    pub(crate) fn new(pool: NonNull<bindings::xsk_buff_pool>) -> Result<Self> {
        let users = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        Ok(Self { pool, users })
    }

    /// What a driver is asked to bind to pair `index` of `dev`.
    ///
    /// # Safety
    ///
    /// `dev` is the device, and both outlive what is returned, and what is made of it.
    pub(crate) unsafe fn pool(&self, dev: *mut bindings::net_device, index: u32) -> XskPool<'_> {
        XskPool {
            bound: self,
            dev,
            index,
        }
    }

    /// Ends it when nobody uses it any more, as the stack waits for references to devices.  May sleep.
    ///
    /// # Safety
    ///
    /// `dev` is the device.
    pub(crate) unsafe fn release(self, dev: *mut bindings::net_device) {
        let mut waited = Delta::ZERO;
        while self.users.load(Acquire) != 0 {
            fsleep(LOOK);
            waited += LOOK;
            if waited >= COMPLAINT {
                // SAFETY: By the contract.
                unsafe { bindings::virtio_xsk_in_use(dev) };
                waited = Delta::ZERO;
            }
        }
        // SAFETY: The stack's pool, which it unbinds now; nothing of it is in use.
        unsafe { bindings::virtio_xsk_pool_dma_unmap(self.pool.as_ptr()) };
    }
}

/// A pool that is to be bound to a pair of queues.
pub struct XskPool<'a> {
    bound: &'a Bound,
    dev: *mut bindings::net_device,
    index: u32,
}

impl XskPool<'_> {
    /// Maps its buffers for `device`, whose packets have headers of `header_len` bytes, at most a page,
    /// for what `napi` polls.  May sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no room for the header before a packet; `ENOMEM`.
    pub fn bind<O: Operations, P: Poll<O>>(
        self,
        device: &device::Device,
        napi: &Napi<O, P>,
        header_len: u32,
    ) -> Result<(XskRx, XskTx)> {
        let pool = self.bound.pool;
        // SAFETY: The stack's pool, which is being bound; `Device` is transparent.
        let frame_size = unsafe {
            if header_len > bindings::virtio_xsk_pool_get_headroom(pool.as_ptr()) {
                return Err(EINVAL);
            }
            let device = core::ptr::from_ref(device).cast_mut().cast();
            to_result(bindings::virtio_xsk_pool_dma_map(pool.as_ptr(), device))?;
            bindings::virtio_xsk_pool_get_rx_frame_size(pool.as_ptr())
        };
        let tx = XskTx {
            header: Zeroes::new(device, header_len)?,
            pool,
            _user: User::new(&self.bound.users),
        };
        // SAFETY: The device of the pool, by the contract of `Bound::pool`.
        let info = unsafe { Info::new(self.dev, self.index, napi.id(), pool)? };
        let generation = (NEXT.fetch_add(1, Relaxed) as u16) << GENERATION.trailing_zeros();
        let rx = XskRx {
            _info: info,
            batch: KBox::new([core::ptr::null_mut(); BATCH], GFP_KERNEL)?,
            pool,
            word: WORD | (generation & GENERATION),
            header_len,
            frame_size,
            _user: User::new(&self.bound.users),
        };
        Ok((rx, tx))
    }
}

/// A receive queue, as programs know it whose packets are in such a pool.
///
/// # Invariants
///
/// Registered.
struct Info(KBox<Opaque<bindings::xdp_rxq_info>>);

impl Info {
    /// # Safety
    ///
    /// The device outlives this, and the pool is bound to it now.
    unsafe fn new(
        dev: *mut bindings::net_device,
        index: u32,
        napi: u32,
        pool: NonNull<bindings::xsk_buff_pool>,
    ) -> Result<Self> {
        let info = KBox::new(Opaque::zeroed(), GFP_KERNEL)?;
        // SAFETY: By the contract; zeroed, it was not registered yet.
        to_result(unsafe {
            bindings::virtio_xsk_rxq_info_reg(info.get(), dev, index, napi, pool.as_ptr())
        })?;
        // INVARIANT: Just now.
        Ok(Self(info))
    }
}

impl Drop for Info {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::xdp_rxq_info_unreg(self.0.get()) };
    }
}

// SAFETY: What programs read of it does not change.
unsafe impl Send for Info {}

/// The half of a pool that a receive queue has.
///
/// # Invariants
///
/// - `pool` is bound, and mapped for the device; this is the only one of it;
/// - `word` is that of no other pool whose buffers a device may have.
pub struct XskRx {
    _info: Info,
    batch: KBox<[*mut bindings::xdp_buff; BATCH]>,
    pool: NonNull<bindings::xsk_buff_pool>,
    word: u16,
    header_len: u32,
    frame_size: u32,
    // Behind all that uses the pool.
    _user: User,
}

// SAFETY: What a driver does with it takes `&mut`, or a poll.
unsafe impl Send for XskRx {}

/// What came of an attempt to take buffers from a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refill {
    /// There were some, or none was wanted.
    Enough,
    /// There were none; who gives some says so ([`Operations::xsk_wakeup`]).
    Asleep,
    /// There were none, and nobody will say when there are.
    Empty,
}

impl XskRx {
    /// Takes at most `max` buffers, with room for a header before each packet, and calls `add` for each
    /// until it fails, and gives one back unless that is lost.
    pub fn refill(
        &mut self,
        max: u32,
        mut add: impl FnMut(XskBuffer) -> Result<(), Option<XskBuffer>>,
    ) -> Refill {
        if max == 0 {
            return Refill::Enough;
        }
        if self.take(max, &mut add) {
            self.ask_for_wakeup(false);
            return Refill::Enough;
        }
        // SAFETY: By the type invariants.
        if !unsafe { bindings::virtio_xsk_uses_need_wakeup(self.pool.as_ptr()) } {
            return Refill::Empty;
        }
        self.ask_for_wakeup(true);
        // Who gave some before it could see that says nothing.
        if self.take(max, &mut add) {
            self.ask_for_wakeup(false);
            return Refill::Enough;
        }
        Refill::Asleep
    }

    fn ask_for_wakeup(&mut self, on: bool) {
        // SAFETY: By the type invariants.
        unsafe { bindings::virtio_xsk_set_rx_need_wakeup(self.pool.as_ptr(), on) };
    }

    /// False if there were none at all.
    fn take(
        &mut self,
        max: u32,
        add: &mut impl FnMut(XskBuffer) -> Result<(), Option<XskBuffer>>,
    ) -> bool {
        let mut left = max;
        while left != 0 {
            let want = left.min(BATCH as u32);
            // SAFETY: By the type invariants; there is room for as many.
            let got = unsafe {
                bindings::virtio_xsk_buff_alloc_batch(
                    self.pool.as_ptr(),
                    self.batch.as_mut_ptr(),
                    want,
                )
            };
            let mut refused = false;
            for at in 0..got as usize {
                let Some(xdp) = self.batch.get(at).copied().and_then(NonNull::new) else {
                    break;
                };
                // SAFETY: Just taken from the pool.
                let packet = unsafe { bindings::virtio_xsk_buff_dma(xdp.as_ptr()) };
                let buffer = XskBuffer {
                    xdp,
                    word: self.word,
                    address: packet.wrapping_sub(self.header_len.into()),
                    len: self.frame_size + self.header_len,
                };
                let taken = if refused {
                    Err(Some(buffer))
                } else {
                    add(buffer)
                };
                refused = taken.is_err();
                if let Err(Some(buffer)) = taken {
                    self.free(buffer);
                }
            }
            left -= got.min(left);
            if refused || got < want {
                break;
            }
        }
        left != max
    }

    /// Takes a buffer back that the device did not use.
    pub fn free(&mut self, buffer: XskBuffer) {
        if buffer.word == self.word {
            // SAFETY: By the type invariants, of this pool, and `buffer` is the only one that has it.
            unsafe { bindings::virtio_xsk_buff_free(buffer.xdp.as_ptr()) };
        }
    }

    /// Looks at a buffer to which the device wrote so many bytes: a header and a packet, or what goes on
    /// in it of a packet whose `first` buffer is another one.  `None`, and the buffer is back, if it has
    /// no room for them.
    pub fn receive<'a, O: Operations>(
        &'a self,
        polling: &'a Polling<'_, O>,
        buffer: XskBuffer,
        written: u32,
        first: bool,
    ) -> Option<XskBuff<'a>> {
        if buffer.word != self.word || polling.budget() == 0 {
            return None;
        }
        // INVARIANT: Of this pool, in a poll; it was the device's, and is ours now.
        let buff = XskBuff {
            xdp: buffer.xdp,
            header_len: self.header_len,
            _pool: PhantomData,
        };
        let header = if first { self.header_len } else { 0 };
        let len = written.checked_sub(header)?;
        if written > self.frame_size + self.header_len {
            return None;
        }
        let xdp = buff.xdp.as_ptr();
        // SAFETY: By the type invariants; there is room for all of it.
        unsafe { bindings::virtio_xsk_buff_received(xdp, self.header_len, len, first) };
        Some(buff)
    }
}

/// Room for a received packet, in a pool of sockets; nothing but a number without that.
pub struct XskBuffer {
    xdp: NonNull<bindings::xdp_buff>,
    word: u16,
    address: u64,
    len: u32,
}

// SAFETY: An address that nobody follows who has not the pool.
unsafe impl Send for XskBuffer {}

impl XskBuffer {
    /// Where the device finds it, and its length in bytes.
    pub(crate) fn lent(&self) -> (u64, u32) {
        (self.address, self.len)
    }

    pub(crate) fn into_raw(self) -> (NonNull<c_void>, u16) {
        (self.xdp.cast(), self.word)
    }

    /// # Safety
    ///
    /// Both come from `into_raw`, and are used once.
    pub(crate) unsafe fn from_raw(data: NonNull<c_void>, word: u16) -> Self {
        Self {
            xdp: data.cast(),
            word,
            address: 0,
            len: 0,
        }
    }
}

/// A packet, or a part of one, in a buffer of a pool of sockets, to which it goes back when dropped.
///
/// # Invariants
///
/// `xdp` is a buffer of a pool that is bound during `'a`, in a poll of its queue, and nobody else's;
/// so many bytes of header are before it if it is the first of a packet.
pub struct XskBuff<'a> {
    xdp: NonNull<bindings::xdp_buff>,
    header_len: u32,
    _pool: PhantomData<&'a XskRx>,
}

impl<'a> XskBuff<'a> {
    /// What is before the packet, and behind that, as it is in memory.
    pub fn header<const N: usize>(&self) -> [u64; N] {
        let mut words = [0_u64; N];
        // SAFETY: By the type invariants; a buffer has far more behind its head room than that.  A
        // device that still writes to it changes words of the copy at most.
        unsafe {
            let data = (*self.xdp.as_ptr()).data.cast::<u8>();
            let from = data.sub(self.header_len as usize);
            let to = words.as_mut_ptr().cast::<u8>();
            core::ptr::copy_nonoverlapping(from, to, size_of_val(&words));
        }
        words
    }

    fn described(&self) -> *mut Described {
        // Pools have room for what drivers know of a packet, behind it.
        self.xdp.as_ptr().cast()
    }

    /// Sets what a program hears that asks for its hash: by default, that there is none.
    pub fn set_hash(&mut self, hash: Option<&Hash>) {
        // SAFETY: By the type invariants.
        unsafe { (*self.described()).hash = RxHash::new(hash) };
    }

    /// Bytes of it.
    #[expect(clippy::len_without_is_empty, reason = "no packet is empty")]
    pub fn len(&self) -> u32 {
        // SAFETY: By the type invariants.
        unsafe {
            let xdp = self.xdp.as_ptr();
            (*xdp).data_end.addr().wrapping_sub((*xdp).data.addr()) as u32
        }
    }

    /// Copies `len` bytes from `offset` on to the start of `to`.  False if one of them has not as many.
    pub fn copy_to(&self, offset: u32, to: &mut PoolBuffer, len: u32) -> bool {
        let whole = self.len();
        if offset > whole || len > whole - offset || len > to.size() {
            return false;
        }
        // SAFETY: In bounds, of both.
        unsafe {
            let data = (*self.xdp.as_ptr()).data.cast::<u8>();
            let from = data.add(offset as usize);
            core::ptr::copy_nonoverlapping(from, to.at(0).as_ptr(), len as usize);
        }
        true
    }

    /// Copies it to a packet of the stack, with the metadata of a program; `None` if there is no memory.
    pub fn into_skb<O: Operations>(self, polling: &Polling<'_, O>) -> Option<SkBuff> {
        let xdp = self.xdp.as_ptr();
        // SAFETY: By the type invariants; the context is being polled.
        let skb = unsafe { bindings::virtio_xsk_copy_skb(polling.raw_napi(), xdp) };
        // SAFETY: Made just now.
        NonNull::new(skb).map(|skb| unsafe { SkBuff::from_raw(skb) })
    }

    /// Runs a program on it.  A frame that is sent back is a copy, with room for a header.
    pub fn run<O: Operations>(
        self,
        polling: &'a Polling<'_, O>,
        program: &Program,
    ) -> Verdict<Self> {
        let copy = |xdp| {
            // SAFETY: As below.
            unsafe { bindings::virtio_xsk_convert_to_frame(xdp, self.header_len) }
        };
        // SAFETY: By the type invariants, in a poll of the device whose packet it is.
        match unsafe { act_on(self.described(), program, polling.raw_device(), copy) } {
            Act::Pass => Verdict::Pass(self),
            Act::Transmit(frame) => {
                // The copy has taken its place.
                core::mem::forget(self);
                Verdict::Transmit(frame)
            }
            Act::Redirected => {
                // Somebody else has the buffer now.
                core::mem::forget(self);
                Verdict::Redirected
            }
            Act::Dropped => Verdict::Dropped,
        }
    }
}

impl Drop for XskBuff<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::virtio_xsk_buff_free(self.xdp.as_ptr()) };
    }
}

/// Zeroes that a device may read, as a header that asks for nothing.
///
/// # Invariants
///
/// So many bytes are mapped at `address` for `device`.
struct Zeroes {
    device: ARef<device::Device>,
    address: u64,
    len: u32,
}

impl Zeroes {
    fn raw(device: &device::Device) -> *mut bindings::device {
        // `Device` is transparent.
        core::ptr::from_ref(device).cast_mut().cast()
    }

    fn new(device: &device::Device, len: u32) -> Result<Self> {
        if len as usize > bindings::PAGE_SIZE {
            return Err(EINVAL);
        }
        // SAFETY: The device whose queues it is for.
        let address = unsafe {
            let address = bindings::virtio_dma_map_zeroes(Self::raw(device), len);
            to_result(bindings::virtio_dma_mapping_error(
                Self::raw(device),
                address,
            ))?;
            address
        };
        // INVARIANT: Mapped just now.
        Ok(Self {
            device: device.into(),
            address,
            len,
        })
    }
}

impl Drop for Zeroes {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; nobody sends any more.
        unsafe {
            bindings::virtio_dma_unmap_zeroes(Self::raw(&self.device), self.address, self.len);
        }
    }
}

/// The half of a pool that a transmit queue has.
///
/// # Invariants
///
/// `pool` is bound, and mapped for the device; this is the only one of it.
pub struct XskTx {
    header: Zeroes,
    pool: NonNull<bindings::xsk_buff_pool>,
    // Behind all that uses the pool.
    _user: User,
}

// SAFETY: What a driver does with it takes `&mut`.
unsafe impl Send for XskTx {}

/// A frame of a socket, with a header of zeroes.
pub struct XskFrame {
    header: (u64, u32),
    address: u64,
    len: u32,
}

impl XskFrame {
    /// Bytes of it, without the header.
    #[expect(clippy::len_without_is_empty, reason = "no frame is empty")]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Where the device finds header and frame, and how long they are.
    pub(crate) fn parts(&self) -> [(u64, u32); 2] {
        [self.header, (self.address, self.len)]
    }

    pub(crate) fn into_raw(self) -> NonNull<c_void> {
        let value = core::ptr::without_provenance_mut(self.len as usize + 1);
        // SAFETY: Not 0.
        unsafe { NonNull::new_unchecked(value) }
    }

    /// What is kept of it in a queue: its length.
    pub(crate) fn from_raw(data: NonNull<c_void>) -> Self {
        Self {
            header: (0, 0),
            address: 0,
            len: (data.addr().get() - 1) as u32,
        }
    }
}

impl XskTx {
    /// Takes at most `max` frames that sockets want to have sent, and calls `add` for each until it
    /// fails; how many it has taken.  Those behind one that fails are lost.  Bottom half.
    pub fn send(&mut self, max: u32, mut add: impl FnMut(XskFrame) -> Result) -> u32 {
        let pool = self.pool.as_ptr();
        // SAFETY: By the type invariants.
        let count = unsafe { bindings::virtio_xsk_tx_peek_release_desc_batch(pool, max) };
        for at in 0..count {
            let mut address = 0;
            // SAFETY: By the type invariants; one of the batch.
            let len = unsafe { bindings::virtio_xsk_tx_desc(pool, at, &mut address) };
            let frame = XskFrame {
                header: (self.header.address, self.header.len),
                address,
                len,
            };
            if add(frame).is_err() {
                self.completed(count - at);
                return at;
            }
        }
        count
    }

    /// Gives so many frames back to the sockets, in the order that they were taken.
    pub fn completed(&mut self, count: u32) {
        if count != 0 {
            // SAFETY: By the type invariants.
            unsafe { bindings::virtio_xsk_tx_completed(self.pool.as_ptr(), count) };
        }
    }

    /// Asks sockets that can be asked to say when they have frames ([`Operations::xsk_wakeup`]).
    pub fn ask_for_wakeup(&mut self) {
        // SAFETY: By the type invariants.
        unsafe {
            if bindings::virtio_xsk_uses_need_wakeup(self.pool.as_ptr()) {
                bindings::virtio_xsk_set_tx_need_wakeup(self.pool.as_ptr());
            }
        }
    }
}
