// SPDX-License-Identifier: GPL-2.0

//! Programs that look at a packet before the stack does (XDP).
//!
//! C headers: [`include/net/xdp.h`](srctree/include/net/xdp.h),
//! [`include/linux/filter.h`](srctree/include/linux/filter.h).
//!
//! A [`Program`] is a reference to one.  C drivers keep a pointer that polls read under RCU; here each
//! queue's poller owns a reference, which is exchanged while the queue is not polled
//! ([`Napi::with_disabled`](crate::Napi::with_disabled)), so that no poll can use one that is gone.
//! What a program may do with packets and maps, it does in the bottom half of a poll, which is the RCU
//! section that the kernel wants for it.
//!
//! A packet is in one hand at any time: a [`PoolBuffer`] becomes an [`XdpBuff`], and that, by the
//! verdict of the program, a packet of the stack, an [`XdpFrame`], or nothing more.

use crate::{
    metadata::{
        Described,
        RxHash, //
    },
    napi::Polling,
    operations::Operations,
    pool::{
        PoolBuffer,
        SHARED_INFO_ROOM, //
    },
    skb::SkBuff,
    xdp_frame::XdpFrame, //
};
use core::{
    marker::PhantomData,
    mem::MaybeUninit,
    ptr::NonNull, //
};
use kernel::{
    error::to_result,
    prelude::*,
    types::Opaque, //
};
use virtio_bindings as bindings;
use virtio_spec::net::header::Hash;

/// Bytes that programs want before a packet (C: `XDP_PACKET_HEADROOM`).
pub const XDP_HEADROOM: u32 = bindings::VIRTIO_XDP_PACKET_HEADROOM;

/// Bytes of a buffer of a page that are not the packet's: those before it, and those of
/// [`PoolBuffer::build`] behind.
pub const XDP_ROOM: u32 = (XDP_HEADROOM + SHARED_INFO_ROOM).next_multiple_of(64);

/// A reference to a program.
///
/// # Invariants
///
/// `prog` is valid, and one of its references is ours.
pub struct Program(NonNull<bindings::bpf_prog>);

// SAFETY: Programs do not change, and count their references with atomic operations.
unsafe impl Send for Program {}
// SAFETY: As above.
unsafe impl Sync for Program {}

impl Program {
    /// # Safety
    ///
    /// As the type invariants.
    pub(crate) unsafe fn from_raw(prog: NonNull<bindings::bpf_prog>) -> Self {
        // INVARIANT: By the contract.
        Self(prog)
    }

    pub(crate) fn as_raw(&self) -> *mut bindings::bpf_prog {
        self.0.as_ptr()
    }

    /// Whether it takes packets that are in several buffers.
    #[inline]
    pub fn takes_frags(&self) -> bool {
        // SAFETY: By the type invariants.
        unsafe { bindings::virtio_bpf_prog_has_frags(self.as_raw()) }
    }
}

impl Clone for Program {
    fn clone(&self) -> Self {
        // SAFETY: By the type invariants, it has references.
        unsafe { bindings::bpf_prog_add(self.as_raw(), 1) };
        // INVARIANT: The one that was added.
        Self(self.0)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; any context, and it goes when nobody can run it.
        unsafe { bindings::bpf_prog_put(self.as_raw()) };
    }
}

/// What is said to who asked for a change, beside the error.
pub struct Extack<'a> {
    extack: *mut bindings::netlink_ext_ack,
    _asked: PhantomData<&'a mut bindings::netlink_ext_ack>,
}

impl Extack<'_> {
    /// # Safety
    ///
    /// Null, or valid during `'a`, for nobody else.
    pub(crate) unsafe fn from_raw(extack: *mut bindings::netlink_ext_ack) -> Self {
        Self {
            extack,
            _asked: PhantomData,
        }
    }

    /// Says `text` (C: `NL_SET_ERR_MSG`), instead of what was said before.
    pub fn say(&mut self, text: &'static CStr) {
        // SAFETY: By the contract of `from_raw`.
        if let Some(extack) = unsafe { self.extack.as_mut() } {
            extack._msg = text.as_char_ptr();
        }
    }
}

/// A receive queue, as programs and maps know it.
///
/// # Invariants
///
/// Registered, with a page pool as its memory.
pub(crate) struct RxInfo(KBox<Opaque<bindings::xdp_rxq_info>>);

impl RxInfo {
    /// Registers queue `index` of `dev`, whose buffers come from `pool`.  May sleep.
    ///
    /// # Safety
    ///
    /// Both are valid, and the device outlives this.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC`.
    pub(crate) unsafe fn new(
        dev: *mut bindings::net_device,
        index: u32,
        pool: NonNull<bindings::page_pool>,
    ) -> Result<Self> {
        let info = KBox::new(Opaque::zeroed(), GFP_KERNEL)?;
        // SAFETY: By the contract; zeroed, it was not registered yet.
        to_result(unsafe {
            bindings::virtio_xdp_rxq_info_reg(info.get(), dev, index, pool.as_ptr())
        })?;
        // INVARIANT: Just now.
        Ok(Self(info))
    }

    #[inline]
    fn as_raw(&self) -> *mut bindings::xdp_rxq_info {
        self.0.get()
    }
}

impl Drop for RxInfo {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::xdp_rxq_info_unreg(self.as_raw()) };
    }
}

/// A packet as a program sees it, with the buffers that it is in.  They go back to their pool when it
/// is dropped.
///
/// # Invariants
///
/// - the buffers are a page pool's, and ours;
/// - the receive queue that it says is registered during `'a`, as one of page pools;
/// - we are in the bottom half of the context that the pool is for.
pub struct XdpBuff<'a> {
    raw: Described,
    _queue: PhantomData<&'a RxInfo>,
}

/// What became of a packet.
pub enum Verdict<B> {
    /// It is the stack's to have.
    Pass(B),
    /// It is to be sent through the interface that it came through.
    Transmit(XdpFrame),
    /// Somebody else has it, or will at the next [`Polling::flush_redirected`].
    Redirected,
    /// It is gone.
    Dropped,
}

/// What a program did with a packet.
pub(crate) enum Act {
    /// Nothing.
    Pass,
    /// Its buffers are the frame's.
    Transmit(XdpFrame),
    /// Somebody else has its buffers.
    Redirected,
    /// It is to go, with its buffers.
    Dropped,
}

/// Runs a program on a packet, which becomes a frame by `convert` (C: `virtnet_xdp_handler`).
///
/// # Safety
///
/// `packet` is one of `dev`, in a poll; `convert` makes a frame of it, or null.
#[inline]
pub(crate) unsafe fn act_on(
    packet: *mut Described,
    program: &Program,
    dev: *mut bindings::net_device,
    convert: impl FnOnce(*mut bindings::xdp_buff) -> *mut bindings::xdp_frame,
) -> Act {
    let prog = program.as_raw();
    let xdp = packet.cast::<bindings::xdp_buff>();
    // SAFETY: By the contract, and the invariants of `Program`.
    let act = unsafe { bindings::virtio_bpf_prog_run_xdp(prog, xdp) };
    match act {
        bindings::xdp_action_XDP_PASS => return Act::Pass,
        bindings::xdp_action_XDP_DROP => return Act::Dropped,
        bindings::xdp_action_XDP_TX => {
            return match NonNull::new(convert(xdp)) {
                // SAFETY: Made just now.
                Some(frame) => Act::Transmit(unsafe { XdpFrame::from_raw(frame) }),
                None => Act::Dropped,
            };
        }
        bindings::xdp_action_XDP_REDIRECT => {
            // SAFETY: As above; the program has said where to.
            if unsafe { bindings::xdp_do_redirect(dev, xdp, prog) } == 0 {
                return Act::Redirected;
            }
            return Act::Dropped;
        }
        bindings::xdp_action_XDP_ABORTED => {}
        _ => {
            // SAFETY: By the contract; said once.
            unsafe { bindings::bpf_warn_invalid_xdp_action(dev, prog, act) };
        }
    }
    // SAFETY: By the contract.
    unsafe { bindings::virtio_trace_xdp_exception(dev, prog, act) };
    Act::Dropped
}

impl<'a> XdpBuff<'a> {
    /// Makes a packet of `len` bytes of `buffer` from `offset` on.
    ///
    /// # Safety
    ///
    /// We are in the bottom half of the context that the buffer's pool is for.
    ///
    /// # Errors
    ///
    /// The buffer, if there are not [`SHARED_INFO_ROOM`] bytes behind the packet.
    #[inline]
    pub(crate) unsafe fn new(
        info: &'a RxInfo,
        buffer: PoolBuffer,
        offset: u32,
        len: u32,
    ) -> Result<Self, PoolBuffer> {
        if !buffer.has_room_behind(offset, len) {
            return Err(buffer);
        }
        let mut raw = MaybeUninit::<bindings::xdp_buff>::zeroed();
        // SAFETY: So many bytes are ours; zeroed, all fields have values, and the usual ones are set.
        let raw = unsafe {
            bindings::virtio_xdp_prepare_buff(
                raw.as_mut_ptr(),
                info.as_raw(),
                buffer.at(0).as_ptr().cast(),
                buffer.size(),
                offset,
                len,
            );
            raw.assume_init()
        };
        core::mem::forget(buffer);
        // INVARIANT: It was a buffer, and the context is the right one.
        Ok(Self {
            raw: Described {
                xdp: raw,
                hash: RxHash::default(),
            },
            _queue: PhantomData,
        })
    }

    /// Appends `len` bytes of `buffer` from `offset` on.
    ///
    /// # Errors
    ///
    /// The buffer, if they are not in it, or there are too many.
    #[inline]
    pub fn append(&mut self, buffer: PoolBuffer, offset: u32, len: u32) -> Result<(), PoolBuffer> {
        if len == 0 || offset > buffer.size() || len > buffer.size() - offset {
            return Err(buffer);
        }
        let (page, before) = buffer.page();
        // SAFETY: By the type invariants; in bounds, of a page pool.  The list of pieces is at the end
        // of the first buffer, where there is room for it.
        let taken = unsafe {
            bindings::virtio_xdp_buff_add_frag(
                &mut self.raw.xdp,
                page.as_ptr(),
                before + offset,
                len,
                buffer.size(),
            )
        };
        if !taken {
            return Err(buffer);
        }
        // The packet has it now.
        core::mem::forget(buffer);
        Ok(())
    }

    /// Bytes of it.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "no packet is empty")]
    pub fn len(&self) -> u32 {
        // SAFETY: By the type invariants.
        unsafe { bindings::virtio_xdp_get_buff_len(&self.raw.xdp) }
    }

    /// Sets what a program hears that asks for its hash.
    #[inline]
    pub fn set_hash(&mut self, hash: &Hash) {
        self.raw.hash = RxHash::new(Some(hash));
    }

    /// Makes it a packet of the stack, with the metadata of the program; `None`, and it is gone, if
    /// there is no memory.
    #[inline]
    pub fn into_skb(self) -> Option<SkBuff> {
        // SAFETY: By the type invariants; the program keeps the packet in its buffers, with room at
        // their end.
        let skb = unsafe { bindings::virtio_xdp_build_skb(&self.raw.xdp) };
        let skb = NonNull::new(skb)?;
        // The packet has the buffers now.
        core::mem::forget(self);
        // SAFETY: Made just now.
        Some(unsafe { SkBuff::from_raw(skb) })
    }

    /// Runs a program on it.  A frame has its description in the head room of the packet.
    ///
    /// # Safety
    ///
    /// `dev` is the device whose packet it is.
    #[inline]
    pub(crate) unsafe fn run(
        mut self,
        program: &Program,
        dev: *mut bindings::net_device,
    ) -> Verdict<Self> {
        // SAFETY: By the type invariants.
        let convert = |xdp| unsafe { bindings::virtio_xdp_convert_buff_to_frame(xdp) };
        // SAFETY: By the type invariants and the contract.
        match unsafe { act_on(&mut self.raw, program, dev, convert) } {
            Act::Pass => Verdict::Pass(self),
            Act::Transmit(frame) => {
                // The frame has the buffers now.
                core::mem::forget(self);
                Verdict::Transmit(frame)
            }
            Act::Redirected => {
                // Somebody else has the buffers now.
                core::mem::forget(self);
                Verdict::Redirected
            }
            Act::Dropped => Verdict::Dropped,
        }
    }
}

impl Drop for XdpBuff<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::xdp_return_buff(&mut self.raw.xdp) };
    }
}

impl<O: Operations> Polling<'_, O> {
    /// Makes a packet for a program of `len` bytes of `buffer` from `offset` on.
    ///
    /// # Errors
    ///
    /// The buffer, if there are not [`SHARED_INFO_ROOM`] bytes behind the packet, or nothing is to be
    /// received.
    #[inline]
    pub fn xdp_buff(
        &self,
        buffer: PoolBuffer,
        offset: u32,
        len: u32,
    ) -> Result<XdpBuff<'_>, PoolBuffer> {
        match self.rx_info() {
            // SAFETY: A poll with a budget is the bottom half of its own context.
            Some(info) if self.budget() != 0 => unsafe { XdpBuff::new(info, buffer, offset, len) },
            _ => Err(buffer),
        }
    }

    /// Runs a program on a packet.  What is dropped because the program failed is traced.
    #[inline]
    pub fn run_xdp<'a>(&'a self, program: &Program, buff: XdpBuff<'a>) -> Verdict<XdpBuff<'a>> {
        // SAFETY: The device of the poll, whose packet it is.
        unsafe { buff.run(program, self.raw_device()) }
    }

    /// Hands over what was redirected: once in a poll in which something was.
    pub fn flush_redirected(&self) {
        // SAFETY: A poll is a bottom half, with what the kernel has for redirected packets.
        unsafe { bindings::xdp_do_flush() };
    }
}
