// SPDX-License-Identifier: GPL-2.0

//! Packets of the stack, and buffers of page pools, in a virtqueue.

use crate::{
    napi::Suppress,
    pool::{
        PoolBuffer,
        PoolBuffers, //
    },
    skb::SkBuff, //
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
    /// By itself, in what the driver has of the packet (C: `cb`).
    Apart,
    /// It was sent.
    Gone,
}

/// A packet that is sent, with its header.
pub struct Outgoing {
    skb: SkBuff,
    header: HeaderPlace,
    header_len: u32,
}

impl Outgoing {
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
            let pushes = any_layout
                && bindings::virtio_skb_headroom(raw) >= header_len
                && !bindings::virtio_skb_header_cloned(raw);
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
                skb,
                header: place,
                header_len,
            })
        }
    }

    /// The packet.
    #[inline]
    pub fn into_skb(self) -> SkBuff {
        self.skb
    }
}

/// Part of memory that is mapped page by page.
///
/// # Safety
///
/// `memory` is `kmalloc` or page memory.
#[inline]
unsafe fn piece(memory: *const u8, len: u32) -> Place {
    // SAFETY: By the contract.
    let page = unsafe { bindings::virtio_virt_to_page(memory.cast_mut().cast()) };
    let offset = memory.addr() & (bindings::PAGE_SIZE - 1);
    Place::Pages(Piece {
        // SAFETY: Memory that is there has a page.
        page: unsafe { NonNull::new_unchecked(page) },
        offset: offset as u32,
        len,
    })
}

// SAFETY:
// - linear part, room in front of it, `cb` and pages of a packet are there until it is freed, and it
//   is ours alone;
// - the raw form is the pointer to the packet; where its header was is forgotten, since nobody asks.
unsafe impl Packet for Outgoing {
    const DIRECTION: DataDirection = DataDirection::Readable;
    const MAPS_ITSELF: bool = false;

    #[inline(always)]
    fn pieces<E>(&self, mut f: impl FnMut(Place) -> Result<(), E>) -> Result<(), E> {
        let raw = self.skb.as_raw();
        let head_len = self.skb.head_len();
        // SAFETY: By the invariants of `SkBuff`; the header was put there by `new`.
        unsafe {
            let data = (*raw).data.cast_const();
            match self.header {
                HeaderPlace::Headroom => {
                    let start = data.sub(self.header_len as usize);
                    f(piece(start, head_len.wrapping_add(self.header_len)))?;
                }
                HeaderPlace::Apart => {
                    let start = (&raw const (*raw).cb).cast();
                    f(piece(start, self.header_len))?;
                    if head_len != 0 {
                        f(piece(data, head_len))?;
                    }
                }
                HeaderPlace::Gone => return Ok(()),
            }
            let info = self.skb.shared_info();
            let count = usize::from((*info).nr_frags);
            for frag in (*info).frags.iter().take(count) {
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
    fn into_raw(self) -> (NonNull<c_void>, u16) {
        (self.skb.into_raw().cast(), 0)
    }

    #[inline(always)]
    unsafe fn from_raw(data: NonNull<c_void>, _word: u16) -> Self {
        Self {
            // SAFETY: By the contract.
            skb: unsafe { SkBuff::from_raw(data.cast()) },
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
}

/// The part of `buffer` with `len` bytes from `offset` on.
#[inline(always)]
fn part(buffer: &PoolBuffer, offset: u32, len: u32) -> Place {
    if buffer.is_mapped() {
        return Place::Mapped(buffer.dma_address(offset), len);
    }
    let (page, before) = buffer.page();
    Place::Pages(Piece {
        page,
        offset: before + offset,
        len,
    })
}

// SAFETY:
// - the memory is the buffers' until they go back to their pool;
// - the raw form of one has all of it but what was lent, which nobody asks for afterwards, and its
//   word is not 0; that of many is the pointer to them, with a word of 0.
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
    fn into_raw(self) -> (NonNull<c_void>, u16) {
        match self {
            Self::One(buffer) => {
                let (start, word) = buffer.into_raw();
                (start.cast(), word)
            }
            Self::Many(buffers) => (buffers.into_raw(), 0),
        }
    }

    #[inline(always)]
    unsafe fn from_raw(data: NonNull<c_void>, word: u16) -> Self {
        // SAFETY: By the contract.
        unsafe {
            if word == 0 {
                Self::Many(PoolBuffers::from_raw(data))
            } else {
                Self::One(PoolBuffer::from_raw(data.cast(), word))
            }
        }
    }
}
