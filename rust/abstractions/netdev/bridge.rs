// SPDX-License-Identifier: GPL-2.0

//! Packets of the stack, and buffers of page pools, in a virtqueue.

use crate::{
    napi::Suppress,
    pool::{
        self,
        PoolBuffer,
        PoolBuffers, //
    },
    skb::SkBuff,
    xdp_frame::XdpFrame,
    xsk::{
        self,
        XskBuffer,
        XskFrame, //
    }, //
};
use core::ptr::NonNull;
use kernel::{
    ffi::c_void,
    prelude::*, //
};
use virtio::packets::{
    DataDirection,
    Packet,
    Piece,
    Place,
    Suppressor, //
};
use virtio_bindings as bindings;

impl Suppress for Suppressor {
    #[inline]
    fn suppress(self) {
        self.disable_callbacks();
    }
}

/// Where the header of a packet is that is sent.
#[derive(Clone, Copy)]
enum HeaderPlace {
    /// In front of the packet.
    Headroom,
    /// By itself, in what the driver has of the packet: C's `cb`, or the room in front of a frame.
    Apart,
    /// It was sent.
    Gone,
}

/// A packet that is sent, with its header.
pub struct Outgoing {
    packet: Sent,
    header: HeaderPlace,
    header_len: u32,
}

/// A packet that is sent, or was.
pub enum Sent {
    /// Of the stack.
    Packet(SkBuff),
    /// Of a program.
    Frame(XdpFrame),
    /// Of a socket, to which [`XskTx::completed`](crate::XskTx::completed) gives it back.
    Socket(XskFrame),
}

/// In the second word of a packet in the queue: that it is a frame.
const FRAME: u16 = 1;

/// As [`FRAME`], of a socket.
const SOCKET: u16 = 2;

impl Outgoing {
    /// Puts a header of `header_len` zeroes before a packet that asks the device for nothing, as
    /// [`Outgoing::new`].
    ///
    /// # Errors
    ///
    /// The packet, if it asks for something, is made of other packets, or has no room in front.
    #[inline(always)]
    pub fn plain(skb: SkBuff, header_len: u32, any_layout: bool) -> Result<Self, SkBuff> {
        if !any_layout || !skb.is_plain() || !has_room(&skb, header_len) {
            return Err(skb);
        }
        // SAFETY: By the invariants of `SkBuff`; there is room, which is the driver's.
        unsafe { clear_before((*skb.as_raw()).data, header_len) };
        Ok(Self {
            packet: Sent::Packet(skb),
            header: HeaderPlace::Headroom,
            header_len,
        })
    }

    /// Puts a header of `header_len` zeroes before a frame, as a piece by itself unless the device
    /// takes `any_layout`.
    ///
    /// # Errors
    ///
    /// The frame, if it has no room in front.
    #[inline]
    pub fn frame(frame: XdpFrame, header_len: u32, any_layout: bool) -> Result<Self, XdpFrame> {
        if frame.headroom() < header_len {
            return Err(frame);
        }
        // SAFETY: By the invariants of `XdpFrame`; there is room, which is ours.
        unsafe { clear_before(frame.head().0, header_len) };
        let header = if any_layout {
            HeaderPlace::Headroom
        } else {
            HeaderPlace::Apart
        };
        Ok(Self {
            packet: Sent::Frame(frame),
            header,
            header_len,
        })
    }

    /// A frame of a socket, whose header is a piece by itself.
    #[inline]
    pub fn socket(frame: XskFrame) -> Self {
        Self {
            packet: Sent::Socket(frame),
            header: HeaderPlace::Apart,
            header_len: 0,
        }
    }

    /// Puts `header` before `skb`: in front of it if the device takes `any_layout` and there is room,
    /// or else where it is a piece by itself.
    ///
    /// # Errors
    ///
    /// The packet, if it is made of other packets ([`SkBuff::flatten`]), or the header is too long.
    #[inline]
    pub fn new(skb: SkBuff, header: &[u8], any_layout: bool) -> Result<Self, SkBuff> {
        let raw = skb.as_raw();
        let header_len = header.len() as u32;
        // SAFETY: By the invariants of `SkBuff`.  The header goes where there is room for it, which is
        // the driver's: in front of what nobody else has a header of, or in the packet's own memory.
        unsafe {
            if !(*skb.shared_info()).frag_list.is_null() {
                return Err(skb);
            }
            let pushes = any_layout && has_room(&skb, header_len);
            let place = if pushes {
                HeaderPlace::Headroom
            } else {
                HeaderPlace::Apart
            };
            let to = if pushes {
                (*raw).data.sub(header.len())
            } else {
                let room = &raw mut (*raw).cb;
                if header.len() > size_of_val(&*room) {
                    return Err(skb);
                }
                room.cast()
            };
            core::ptr::copy_nonoverlapping(header.as_ptr(), to.cast(), header.len());
            Ok(Self {
                packet: Sent::Packet(skb),
                header: place,
                header_len,
            })
        }
    }

    /// The packet.
    #[inline(always)]
    pub fn into_sent(self) -> Sent {
        self.packet
    }

    /// Its linear part, where a header is that is a piece by itself, and the pieces behind.
    #[inline(always)]
    fn parts(&self) -> Parts<'_> {
        match &self.packet {
            Sent::Packet(skb) => {
                let raw = skb.as_raw();
                // SAFETY: By the invariants of `SkBuff`.
                unsafe {
                    let info = skb.shared_info();
                    let count = usize::from((*info).nr_frags);
                    let frags = &(*info).frags;
                    Parts {
                        head: ((*raw).data, skb.head_len()),
                        apart: (&raw const (*raw).cb).cast(),
                        frags: frags.get(..count).unwrap_or_default(),
                    }
                }
            }
            Sent::Frame(frame) => Parts {
                head: frame.head(),
                // SAFETY: There was room for it when it was put there.
                apart: unsafe { frame.head().0.sub(self.header_len as usize) },
                frags: frame.frags(),
            },
            // Its pieces are not memory that we know.
            Sent::Socket(_) => Parts {
                head: (core::ptr::null_mut(), 0),
                apart: core::ptr::null(),
                frags: &[],
            },
        }
    }
}

/// Where a packet that is sent is.
struct Parts<'a> {
    head: (*mut u8, u32),
    apart: *const u8,
    frags: &'a [bindings::skb_frag_t],
}

/// Puts so many zeroes before `data`.
///
/// # Safety
///
/// There is room.
#[inline(always)]
unsafe fn clear_before(data: *mut u8, len: u32) {
    // SAFETY: By the contract.
    unsafe {
        let to = data.sub(len as usize);
        // What headers are that have no hashes: with no loop.
        if len == 12 {
            to.cast::<u64>().write_unaligned(0);
            to.add(8).cast::<u32>().write_unaligned(0);
        } else {
            core::ptr::write_bytes(to, 0, len as usize);
        }
    }
}

/// Whether there is room in front of a packet for a header that is the driver's alone.
#[inline(always)]
fn has_room(skb: &SkBuff, header_len: u32) -> bool {
    let raw = skb.as_raw();
    // SAFETY: By the invariants of `SkBuff`.
    unsafe {
        bindings::virtio_skb_headroom(raw) >= header_len && !bindings::virtio_skb_header_cloned(raw)
    }
}

/// Part of linear memory.
///
/// # Safety
///
/// `memory` is not null.
#[inline(always)]
unsafe fn piece(memory: *const u8, len: u32) -> Place {
    // SAFETY: By the contract.
    Place::Linear(unsafe { NonNull::new_unchecked(memory.cast_mut()) }, len)
}

// SAFETY:
// - linear part, room in front of it, `cb` and pages of a packet are there until it is freed, and it
//   is ours alone; the same of a frame, whose list of pieces is in its own memory;
// - a frame of a socket is mapped until its pool is let go of, and has no piece alone;
// - the raw form is the pointer to the packet, with a word of 0, or to the frame, with [`FRAME`], or the
//   length of one of a socket, with [`SOCKET`]; where its header was is forgotten, since nobody asks.
unsafe impl Packet for Outgoing {
    const DIRECTION: DataDirection = DataDirection::Readable;
    const MAPS_ITSELF: bool = false;

    fn is_mapped(&self) -> bool {
        matches!(self.packet, Sent::Socket(_))
    }

    #[inline(always)]
    fn pieces<E>(&self, mut f: impl FnMut(Place) -> Result<(), E>) -> Result<(), E> {
        if let (Sent::Socket(frame), HeaderPlace::Apart) = (&self.packet, self.header) {
            let mut parts = frame.parts().into_iter();
            return parts.try_for_each(|(address, len)| f(Place::Mapped(address, len)));
        }
        let Parts {
            head: (data, head_len),
            apart,
            frags,
        } = self.parts();
        // SAFETY: By the invariants of `SkBuff` and `XdpFrame`; the header was put there by who made
        // this.
        unsafe {
            match self.header {
                HeaderPlace::Headroom => {
                    let start = data.cast_const().sub(self.header_len as usize);
                    f(piece(start, head_len.wrapping_add(self.header_len)))?;
                }
                HeaderPlace::Apart => {
                    f(piece(apart, self.header_len))?;
                    if head_len != 0 {
                        f(piece(data, head_len))?;
                    }
                }
                HeaderPlace::Gone => return Ok(()),
            }
            for frag in frags {
                let page = bindings::virtio_skb_frag_page(frag);
                f(Place::Pages(Piece {
                    page: NonNull::new_unchecked(page),
                    offset: bindings::virtio_skb_frag_off(frag),
                    len: bindings::virtio_skb_frag_size(frag),
                }))?;
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn only_piece(&self) -> Option<Place> {
        let Parts {
            head: (data, head_len),
            frags,
            ..
        } = self.parts();
        match self.header {
            HeaderPlace::Headroom if frags.is_empty() => {
                let len = head_len.wrapping_add(self.header_len);
                // SAFETY: By the invariants of `SkBuff` and `XdpFrame`; the header was put there by who
                // made this.
                Some(unsafe { piece(data.cast_const().sub(self.header_len as usize), len) })
            }
            _ => None,
        }
    }

    #[inline(always)]
    fn into_raw(self) -> (NonNull<c_void>, u16) {
        match self.packet {
            Sent::Packet(skb) => (skb.into_raw().cast(), 0),
            Sent::Frame(frame) => (frame.into_raw().cast(), FRAME),
            Sent::Socket(frame) => (frame.into_raw(), SOCKET),
        }
    }

    #[inline(always)]
    unsafe fn from_raw(data: NonNull<c_void>, word: u16) -> Self {
        // SAFETY: By the contract.
        let packet = unsafe {
            match word {
                FRAME => Sent::Frame(XdpFrame::from_raw(data.cast())),
                SOCKET => Sent::Socket(XskFrame::from_raw(data)),
                _ => Sent::Packet(SkBuff::from_raw(data.cast())),
            }
        };
        Self {
            packet,
            header: HeaderPlace::Gone,
            header_len: 0,
        }
    }
}

/// Room for a received packet.
pub enum RxBuffer {
    /// Or part of one, in one piece.
    One(PoolBuffer),
    /// In several.
    Many(PoolBuffers),
    /// In one, of sockets.
    Socket(XskBuffer),
}

/// The part of `buffer` with `len` bytes from `offset` on.
#[inline(always)]
fn part(buffer: &PoolBuffer, offset: u32, len: u32) -> Place {
    if buffer.is_mapped() {
        return Place::Mapped(buffer.dma_address(offset), len);
    }
    Place::Linear(buffer.at(offset), len)
}

// SAFETY:
// - the memory is the buffers' until they go back to their pool;
// - the raw form of one has all of it but what was lent, which nobody asks for afterwards, and its
//   word has a size; that of many is the pointer to them, with a word of 0; that of a socket's has a word
//   without a size.
unsafe impl Packet for RxBuffer {
    const DIRECTION: DataDirection = DataDirection::Writable;
    const MAPS_ITSELF: bool = true;

    #[inline(always)]
    fn pieces<E>(&self, mut f: impl FnMut(Place) -> Result<(), E>) -> Result<(), E> {
        match self {
            Self::One(buffer) => {
                let (offset, len) = buffer.lent();
                f(part(buffer, offset, len))
            }
            Self::Socket(buffer) => {
                let (address, len) = buffer.lent();
                f(Place::Mapped(address, len))
            }
            Self::Many(buffers) => {
                let mut header = buffers.header_len();
                for buffer in buffers.all() {
                    let len = core::mem::take(&mut header).min(buffer.size());
                    if len != 0 {
                        // Not every device takes header and packet in one piece.
                        f(part(buffer, 0, len))?;
                    }
                    if len != buffer.size() {
                        f(part(buffer, len, buffer.size() - len))?;
                    }
                }
                Ok(())
            }
        }
    }

    #[inline(always)]
    fn only_piece(&self) -> Option<Place> {
        match self {
            Self::One(buffer) => {
                let (offset, len) = buffer.lent();
                Some(part(buffer, offset, len))
            }
            Self::Socket(buffer) => {
                let (address, len) = buffer.lent();
                Some(Place::Mapped(address, len))
            }
            Self::Many(_) => None,
        }
    }

    #[inline(always)]
    fn into_raw(self) -> (NonNull<c_void>, u16) {
        match self {
            Self::One(buffer) => {
                let (start, word) = buffer.into_raw();
                (start.cast(), word)
            }
            Self::Many(buffers) => (buffers.into_raw(), 0),
            Self::Socket(buffer) => buffer.into_raw(),
        }
    }

    #[inline(always)]
    unsafe fn from_raw(data: NonNull<c_void>, word: u16) -> Self {
        // SAFETY: By the contract.
        unsafe {
            if word & pool::SIZE != 0 {
                Self::One(PoolBuffer::from_raw(data.cast(), word))
            } else if word & xsk::WORD != 0 {
                Self::Socket(XskBuffer::from_raw(data, word))
            } else {
                Self::Many(PoolBuffers::from_raw(data))
            }
        }
    }
}
