// SPDX-License-Identifier: GPL-2.0

//! Page pools: memory for packets that are received, which comes back when they are gone.
//!
//! C header: [`include/net/page_pool/helpers.h`](srctree/include/net/page_pool/helpers.h).

use crate::{
    skb::SkBuff,
    xdp::{
        RxInfo,
        XDP_HEADROOM, //
    }, //
};
use core::ptr::NonNull;
use kernel::{
    alloc::flags::GFP_ATOMIC,
    device,
    error::from_err_ptr,
    ffi::c_void,
    prelude::*, //
};
use virtio_bindings as bindings;

/// Bytes at the end of a buffer that [`PoolBuffer::build`] needs.
pub const SHARED_INFO_ROOM: u32 = bindings::VIRTIO_SKB_SHARED_INFO_ROOM;

/// Bytes that are left free before a packet in a buffer for one.
pub const RX_PAD: u32 = IP_ALIGN + {
    // C: `NET_SKB_PAD`.
    let line = bindings::VIRTIO_L1_CACHE_BYTES;
    if line > 32 {
        line
    } else {
        32
    }
};

/// Bytes that the platform wants before an Ethernet header, for what is behind it to be aligned.
pub const IP_ALIGN: u32 = bindings::NET_IP_ALIGN;

/// What the size of a buffer is counted in, in bytes.
const UNIT: u32 = 64;

/// In the second word of a buffer: that its pool has mapped it.
const MAPPED: u16 = 1 << 15;

/// In the second word of a buffer: that a packet in it has head room for a program.
const ROOMY: u16 = 1 << 14;

/// Bits of the second word that are not its size.
const FLAGS: u16 = MAPPED | ROOMY;

/// Those that are: pages have at most 64 KiB.  They are 0 of what is no buffer of a page pool.
pub(crate) const SIZE: u16 = 0x7ff;

/// A page pool.
///
/// # Invariants
///
/// `pool` is valid, and used by one at a time.
pub(crate) struct PagePool {
    // Before the pool: it uses that.
    info: Option<RxInfo>,
    pool: NonNull<bindings::page_pool>,
    mapped: bool,
}

impl PagePool {
    /// Makes a pool of about `size` pages for what `napi` of `dev` polls, which is queue `index`, on
    /// NUMA node `node`, or -1.  It maps them for `device` if there is one.  May sleep.
    ///
    /// # Safety
    ///
    /// The context is disabled; it outlives the pool, which one at a time uses, as the device does.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC`, `E2BIG` if it is too large.
    pub(crate) unsafe fn new(
        dev: *mut bindings::net_device,
        napi: *mut bindings::napi_struct,
        index: u32,
        size: u32,
        node: i32,
        device: Option<&device::Device>,
    ) -> Result<Self> {
        let mut params = bindings::page_pool_params::default();
        // SAFETY: Plain numbers and pointers, of which all are valid.
        unsafe {
            let fast = params.__bindgen_anon_1.__bindgen_anon_1.as_mut();
            fast.pool_size = size;
            fast.nid = node;
            fast.napi = napi;
            if let Some(device) = device {
                // `Device` is transparent.
                fast.dev = core::ptr::from_ref(device).cast_mut().cast();
                fast.dma_dir = bindings::dma_data_direction::DMA_FROM_DEVICE;
                fast.max_len = bindings::PAGE_SIZE as u32;
            }
            let slow = &mut params.__bindgen_anon_2.__bindgen_anon_1;
            slow.netdev = dev;
            if device.is_some() {
                slow.flags =
                    bindings::VIRTIO_PP_FLAG_DMA_MAP | bindings::VIRTIO_PP_FLAG_DMA_SYNC_DEV;
            }
        }
        // SAFETY: By the contract.
        let pool = from_err_ptr(unsafe { bindings::page_pool_create(&params) })?;
        // INVARIANT: Made just now; by the contract.
        let mut this = Self {
            info: None,
            pool: NonNull::new(pool.cast()).ok_or(ENOMEM)?,
            mapped: device.is_some(),
        };
        // SAFETY: By the contract, and the invariants.
        this.info = Some(unsafe { RxInfo::new(dev, index, this.pool)? });
        Ok(this)
    }

    /// Its queue, as programs know it.
    #[inline]
    pub(crate) fn rx_info(&self) -> Option<&RxInfo> {
        self.info.as_ref()
    }
}

impl Drop for PagePool {
    fn drop(&mut self) {
        self.info = None;
        // SAFETY: By the type invariants.  It goes when its pages are all back.
        unsafe { bindings::page_pool_destroy(self.pool.as_ptr()) };
    }
}

/// The page pool of a queue, for who has the queue.
pub struct Memory<'a>(pub(crate) Option<&'a PagePool>);

impl<'a> Memory<'a> {
    /// The queue, as programs know it.
    #[inline]
    pub(crate) fn rx_info(&self) -> Option<&'a RxInfo> {
        self.0.and_then(PagePool::rx_info)
    }

    /// Allocates a buffer of at least `size` bytes, at most a page, rounded up to cache lines.  The
    /// whole of it is lent to the device unless another part is ([`PoolBuffer::lend`]).  May sleep
    /// if it is said so.
    #[inline]
    pub fn alloc(&self, size: u32, may_sleep: bool) -> Option<PoolBuffer> {
        let pool = self.0?;
        let mut size = size.next_multiple_of(UNIT);
        if size == 0 || size as usize > bindings::PAGE_SIZE {
            return None;
        }
        let flags = if may_sleep {
            bindings::GFP_KERNEL
        } else {
            bindings::GFP_ATOMIC
        };
        // SAFETY: By the type invariants.
        let start = unsafe {
            bindings::virtio_page_pool_alloc_va(
                pool.pool.as_ptr(),
                &mut size,
                flags | bindings::__GFP_NOWARN,
            )
        };
        let start = NonNull::new(start)?.cast::<u8>();
        let size = size - size % UNIT;
        // INVARIANT: So many bytes at least, of which nobody else knows.
        Some(PoolBuffer {
            start,
            size,
            flags: if pool.mapped { MAPPED } else { 0 },
            lent: (0, size),
        })
    }
}

/// A piece of a page of a page pool.
///
/// # Invariants
///
/// - `start` and the `size` bytes behind it are in one page of a page pool, and ours; `size` is a
///   multiple of [`UNIT`], at most a page;
/// - the pool has mapped it if and only if `flags` has [`MAPPED`];
/// - `lent`, offset and length, is in it.
pub struct PoolBuffer {
    start: NonNull<u8>,
    size: u32,
    /// Of [`FLAGS`].
    flags: u16,
    lent: (u32, u32),
}

// SAFETY: Memory, with one owner.
unsafe impl Send for PoolBuffer {}

impl PoolBuffer {
    /// Bytes of it.
    #[inline]
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Sets which part the device is to write to; as much of it as there is.
    #[inline]
    pub fn lend(&mut self, offset: u32, len: u32) {
        let offset = offset.min(self.size);
        // INVARIANT: In bounds.
        self.lent = (offset, len.min(self.size - offset));
    }

    /// As [`PoolBuffer::lend`], but [`XDP_HEADROOM`] further, which are left for a program.
    #[inline]
    pub fn lend_behind_headroom(&mut self, offset: u32, len: u32) {
        self.lend(offset.saturating_add(XDP_HEADROOM), len);
        self.flags |= ROOMY;
    }

    /// Bytes that were left for a program: [`XDP_HEADROOM`], or none.
    #[inline]
    pub fn headroom(&self) -> u32 {
        // A packet has no branch for it.
        u32::from(self.flags & ROOMY != 0) * XDP_HEADROOM
    }

    #[inline]
    pub(crate) fn lent(&self) -> (u32, u32) {
        self.lent
    }

    #[inline]
    pub(crate) fn is_mapped(&self) -> bool {
        self.flags & MAPPED != 0
    }

    /// Where byte `offset` is, one of the buffer's or the one behind it.
    #[inline]
    pub(crate) fn at(&self, offset: u32) -> NonNull<u8> {
        let offset = offset.min(self.size);
        // SAFETY: By the type invariants, so many bytes are ours.
        unsafe { self.start.add(offset as usize) }
    }

    /// Its page, and where it begins there.
    #[inline]
    pub(crate) fn page(&self) -> (NonNull<bindings::page>, u32) {
        // SAFETY: By the type invariants, in a page.
        unsafe {
            let page = bindings::virtio_virt_to_head_page(self.start.as_ptr().cast());
            let before = bindings::virtio_page_address(page).addr();
            let offset = self.start.as_ptr().addr().wrapping_sub(before);
            (NonNull::new_unchecked(page), offset as u32)
        }
    }

    /// Where the device finds byte `offset`, if the pool has mapped it.
    #[inline]
    pub(crate) fn dma_address(&self, offset: u32) -> u64 {
        let (page, before) = self.page();
        // SAFETY: By the type invariants, a page of a pool.
        let address = unsafe { bindings::virtio_page_pool_get_dma_addr(page.as_ptr()) };
        address.wrapping_add((before + offset).into())
    }

    #[inline]
    pub(crate) fn into_raw(self) -> (NonNull<u8>, u16) {
        let word = (self.size / UNIT) as u16 | self.flags;
        let start = self.start;
        core::mem::forget(self);
        (start, word)
    }

    /// # Safety
    ///
    /// Both come from `into_raw`, and are used once.
    #[inline]
    pub(crate) unsafe fn from_raw(start: NonNull<u8>, word: u16) -> Self {
        let size = u32::from(word & SIZE) * UNIT;
        // INVARIANT: By the contract.
        Self {
            start,
            size,
            flags: word & FLAGS,
            lent: (0, size),
        }
    }

    /// Looks at what the device wrote: `len` bytes from `offset` on.  False if they are not in the
    /// buffer.
    #[inline]
    pub fn sync(&self, offset: u32, len: u32) -> bool {
        if offset > self.size || len > self.size - offset {
            return false;
        }
        if self.is_mapped() {
            let (page, before) = self.page();
            // SAFETY: By the type invariants; in bounds.
            unsafe {
                bindings::virtio_page_pool_dma_sync_for_cpu(page.as_ptr(), before + offset, len);
            }
        }
        true
    }

    /// Whether there is room behind so many bytes from `offset` on for [`PoolBuffer::build`].
    #[inline]
    pub fn has_room_behind(&self, offset: u32, len: u32) -> bool {
        let end = u64::from(offset) + u64::from(len) + u64::from(SHARED_INFO_ROOM);
        end <= self.size.into()
    }

    /// `N` words from `offset` on, each read once; `None` if they are not in the buffer, or not
    /// aligned.
    #[inline(always)]
    pub fn words<const N: usize>(&self, offset: u32) -> Option<[u64; N]> {
        let bytes = N * size_of::<u64>();
        if offset > self.size || bytes > (self.size - offset) as usize {
            return None;
        }
        // SAFETY: In bounds.
        let start = unsafe { self.start.add(offset as usize) }.cast::<u64>();
        if !start.is_aligned() {
            return None;
        }
        // SAFETY: In bounds, and aligned.
        Some(core::array::from_fn(|at| unsafe {
            start.add(at).read_volatile()
        }))
    }

    /// Copies `len` bytes from `offset` on.
    ///
    /// # Safety
    ///
    /// There are as many, and room for them at `to`.
    #[inline]
    pub(crate) unsafe fn copy_to(&self, offset: u32, to: *mut u8, len: usize) {
        // SAFETY: By the contract.  A device that still writes to it changes bytes of the copy at
        // most.
        unsafe {
            let from = self.start.add(offset as usize).as_ptr();
            core::ptr::copy_nonoverlapping(from, to, len);
        }
    }

    /// Copies `len` bytes of `from` from `offset` on to where `to` is here.  False if one of them does
    /// not have as many.
    pub fn copy_from(&mut self, to: u32, from: &Self, offset: u32, len: u32) -> bool {
        let has = |buffer: &Self, at: u32| at <= buffer.size && len <= buffer.size - at;
        if !has(self, to) || !has(from, offset) {
            return false;
        }
        // SAFETY: In bounds, of both, which are not the same.
        unsafe { from.copy_to(offset, self.at(to).as_ptr(), len as usize) };
        true
    }

    /// Makes a packet of `len` bytes from `offset` on, with no copy, and goes with it (C:
    /// `build_skb`).  Bottom half.
    ///
    /// # Errors
    ///
    /// The buffer, if there is no memory, or not [`SHARED_INFO_ROOM`] behind the packet.
    #[inline]
    pub fn build(self, offset: u32, len: u32) -> Result<SkBuff, Self> {
        if !self.has_room_behind(offset, len) {
            return Err(self);
        }
        // SAFETY: The buffer is ours, and has room for what is at its end.
        let skb = unsafe { bindings::build_skb(self.start.as_ptr().cast(), self.size) };
        let Some(skb) = NonNull::new(skb) else {
            return Err(self);
        };
        // The packet has it now.
        core::mem::forget(self);
        // SAFETY: Made just now, with that much room; its memory is of a page pool.
        unsafe {
            bindings::virtio_skb_reserve(skb.as_ptr(), offset as i32);
            bindings::virtio___skb_put(skb.as_ptr(), len);
            bindings::virtio_skb_mark_for_recycle(skb.as_ptr());
            Ok(SkBuff::from_raw(skb))
        }
    }

    /// Gives it back to its pool; `direct` in the bottom half of the pool's own context.
    #[inline]
    pub(crate) fn put(self, direct: bool) {
        let start = self.start;
        core::mem::forget(self);
        // SAFETY: By the type invariants, in a page of a pool.
        unsafe { bindings::virtio_page_pool_put_va(start.as_ptr().cast(), direct) };
    }
}

impl Drop for PoolBuffer {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, in a page of a pool.
        unsafe { bindings::virtio_page_pool_put_va(self.start.as_ptr().cast(), false) };
    }
}

/// Buffers that one packet goes to, the first of which begins with its header.
pub struct PoolBuffers(KBox<List>);

struct List {
    header_len: u32,
    buffers: KVec<PoolBuffer>,
}

impl PoolBuffers {
    /// A list that is empty, with room for `count` buffers, for headers of `header_len` bytes.  Does
    /// not sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(count: usize, header_len: u32) -> Result<Self> {
        let list = List {
            header_len,
            buffers: KVec::with_capacity(count, GFP_ATOMIC)?,
        };
        Ok(Self(KBox::new(list, GFP_ATOMIC)?))
    }

    /// Makes the list full, with a page for each buffer.  False if there is no memory.
    #[inline]
    pub fn fill(&mut self, memory: &Memory<'_>, may_sleep: bool) -> bool {
        let buffers = &mut self.0.buffers;
        while buffers.len() < buffers.capacity() {
            let Some(buffer) = memory.alloc(bindings::PAGE_SIZE as u32, may_sleep) else {
                return false;
            };
            // There is room.
            let _ = buffers.push_within_capacity(buffer);
        }
        true
    }

    /// The buffers, to be taken from the end.
    #[inline]
    pub fn buffers(&mut self) -> &mut KVec<PoolBuffer> {
        &mut self.0.buffers
    }

    pub(crate) fn all(&self) -> &[PoolBuffer] {
        &self.0.buffers
    }

    pub(crate) fn header_len(&self) -> u32 {
        self.0.header_len
    }

    pub(crate) fn into_raw(self) -> NonNull<c_void> {
        NonNull::from(KBox::leak(self.0)).cast()
    }

    /// # Safety
    ///
    /// `raw` comes from `into_raw`, and is used once.
    pub(crate) unsafe fn from_raw(raw: NonNull<c_void>) -> Self {
        // SAFETY: By the contract.
        Self(unsafe { KBox::from_raw(raw.as_ptr().cast()) })
    }
}
