// SPDX-License-Identifier: GPL-2.0

//! Requests of a test, and the chains that they become, as the device sees them.

use super::{
    FakeDevice,
    Queue, //
};
use crate::{
    packets::{
        Packet,
        Place, //
    },
    requests::{
        DataDirection,
        Piece,
        Request, //
    }, //
};
use core::ptr::NonNull;
use kernel::{
    ffi::c_void,
    page::Page,
    prelude::*,
    sync::Arc, //
};
use virtio_bindings as bindings;

/// Bytes of a piece of data.
pub(crate) const PIECE: usize = 64;

/// Parts of a chain that the device looks at.
const PARTS: usize = 64;

/// Flags of a descriptor (specification 2.7.5).
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// Memory that the driver lent, as long as the device has it.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    address: u64,
    pub(crate) len: u32,
    pub(crate) writable: bool,
}

/// A chain of descriptors, in which the device has not used anything yet.
pub(crate) struct Chain {
    parts: [Part; PARTS],
    count: usize,
    /// It is a table.
    pub(crate) indirect: bool,
}

impl Chain {
    /// Its parts, at most 64.
    pub(crate) fn parts(&self) -> &[Part] {
        self.parts.get(..self.count).unwrap_or_default()
    }

    /// The length of each part, and whether the device may write it.
    pub(crate) fn has(&self, parts: impl IntoIterator<Item = (u32, bool)>) -> bool {
        let ours = self.parts().iter().map(|part| (part.len, part.writable));
        ours.eq(parts)
    }

    /// What is in part `index`, its first 16 bytes at most; zeroes behind them.
    pub(crate) fn read(&self, index: usize) -> [u8; 16] {
        let mut bytes = [0; 16];
        if let Some(part) = self.parts().get(index) {
            let memory = part.memory();
            for (at, byte) in bytes.iter_mut().take(part.len as usize).enumerate() {
                // SAFETY: In the part, which is lent as long as the chain exists.
                *byte = unsafe { memory.add(at).read_volatile() };
            }
        }
        bytes
    }

    /// Writes `bytes`, as many as fit, to part `index`.
    pub(crate) fn write(&self, index: usize, bytes: &[u8]) {
        if let Some(part) = self.parts().get(index).filter(|part| part.writable) {
            let memory = part.memory();
            for (at, byte) in bytes.iter().take(part.len as usize).enumerate() {
                // SAFETY: In the part, which is lent as long as the chain exists.
                unsafe { memory.add(at).write_volatile(*byte) };
            }
        }
    }
}

impl Part {
    fn memory(&self) -> *mut u8 {
        // SAFETY: An address is all that it takes.
        unsafe { bindings::virtio_phys_to_virt(self.address) }.cast()
    }
}

impl Queue {
    /// The chain that begins with `head`.
    ///
    /// # Safety
    ///
    /// The queue exists, does without the DMA API, and `head` was made available and is not used.
    unsafe fn walk(&self, head: u16) -> Chain {
        let nothing = Part {
            address: 0,
            len: 0,
            writable: false,
        };
        let mut chain = Chain {
            parts: [nothing; PARTS],
            count: 0,
            indirect: false,
        };
        let mut table: *const bindings::vring_desc = self.ring().desc;
        let mut at = head;
        while chain.count < PARTS {
            // SAFETY: By the contract, a descriptor that the driver wrote.
            let descriptor = unsafe { table.add(at.into()).read_volatile() };
            let address = u64::from_le(descriptor.addr);
            let flags = u16::from_le(descriptor.flags);
            if flags & INDIRECT != 0 && !chain.indirect {
                chain.indirect = true;
                // SAFETY: An address is all that it takes.
                table = unsafe { bindings::virtio_phys_to_virt(address) }.cast();
                at = 0;
                continue;
            }
            if let Some(part) = chain.parts.get_mut(chain.count) {
                *part = Part {
                    address,
                    len: u32::from_le(descriptor.len),
                    writable: flags & WRITE != 0,
                };
            }
            chain.count += 1;
            if flags & NEXT == 0 {
                break;
            }
            at = u16::from_le(descriptor.next);
        }
        chain
    }
}

impl FakeDevice {
    /// Uses the next available chain of a queue: `f` sees it, and returns how many bytes it says
    /// that it wrote.  No interrupt.  `false` if there is none.
    pub(crate) fn serve(&self, index: usize, f: impl FnOnce(&Chain) -> u32) -> bool {
        self.with_queue(index, |queue| {
            // SAFETY: The queue exists while the state is locked; the head was just made available.
            unsafe {
                let Some(head) = queue.take_available() else {
                    return false;
                };
                let written = f(&queue.walk(head));
                queue.put_used(head.into(), written);
            }
            true
        })
    }

    /// Takes the next available chain of a queue and does not use it.  Its head; `None` if there is
    /// none.
    pub(crate) fn take(&self, index: usize) -> Option<u16> {
        let mut taken = None;
        self.with_queue(index, |queue| {
            // SAFETY: The queue exists while the state is locked.
            taken = unsafe { queue.take_available() };
            true
        });
        taken
    }
}

/// A request with a page of data in pieces, that is counted as a buffer while it is allocated.
pub(crate) struct DataRequest(KBox<Data>);

struct Data {
    slot: usize,
    direction: DataDirection,
    pieces: usize,
    page: Page,
    inline: [u8; 16],
    device: Arc<FakeDevice>,
}

impl DataRequest {
    /// Makes request `slot` with so many pieces of data; each is full of its number.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINVAL` if a page has no room for them.
    pub(crate) fn new(
        device: &Arc<FakeDevice>,
        slot: usize,
        direction: DataDirection,
        pieces: usize,
    ) -> Result<Self> {
        let data = Data {
            slot,
            direction,
            pieces,
            page: Page::alloc_page(GFP_KERNEL | __GFP_ZERO)?,
            inline: [0; 16],
            device: device.clone(),
        };
        for piece in 0..pieces {
            let bytes = [piece as u8; PIECE];
            // SAFETY: Of that length; nobody else has the page.
            unsafe { data.page.write_raw(bytes.as_ptr(), piece * PIECE, PIECE)? };
        }
        let request = Self(KBox::new(data, GFP_KERNEL)?);
        device.driver.buffers.add(1);
        Ok(request)
    }

    /// The last byte of piece `index`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such piece.
    pub(crate) fn last_byte(&self, index: usize) -> Result<u8> {
        let mut byte = 0;
        let at = index * PIECE + PIECE - 1;
        // SAFETY: Of that length; a request that can be looked at is not the device's.
        unsafe { self.0.page.read_raw(&raw mut byte, at, 1)? };
        Ok(byte)
    }

    /// Where inline data comes back to.
    pub(crate) fn inline(&mut self) -> &mut [u8] {
        &mut self.0.inline
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        self.device.driver.buffers.add(-1);
    }
}

// SAFETY:
// - the pieces are of a page that the request owns, and that is not looked at while the request is
//   taken apart;
// - both conversions are those of a `KBox`;
// - `slot_of` reads what `slot` does.
unsafe impl Request for DataRequest {
    fn slot(&self) -> usize {
        self.0.slot
    }

    unsafe fn slot_of(raw: NonNull<c_void>) -> usize {
        // SAFETY: By the contract, a `Data`.
        unsafe { (*raw.as_ptr().cast::<Data>()).slot }
    }

    fn direction(&self) -> DataDirection {
        self.0.direction
    }

    fn bytes(&self) -> u32 {
        (self.0.pieces * PIECE) as u32
    }

    fn max_pieces(&self) -> usize {
        self.0.pieces
    }

    fn pieces<E>(&self, mut f: impl FnMut(Piece) -> Result<(), E>) -> Result<(), E> {
        for piece in 0..self.0.pieces {
            // SAFETY: A page is not at address 0.
            let page = unsafe { NonNull::new_unchecked(self.0.page.as_ptr()) };
            f(Piece {
                page,
                offset: (piece * PIECE) as u32,
                len: PIECE as u32,
            })?;
        }
        Ok(())
    }

    fn only_piece(&self) -> Option<Piece> {
        let mut only = None;
        if self.0.pieces == 1 {
            let _ = self.pieces(|piece| {
                only = Some(piece);
                Ok::<(), ()>(())
            });
        }
        only
    }

    /// The first piece, if there is any, and half of it.
    fn payload(&self) -> Option<Piece> {
        let mut first = None;
        let _ = self.pieces(|piece| {
            first = Some(Piece {
                len: piece.len / 2,
                ..piece
            });
            Err(())
        });
        first
    }

    fn into_raw(self) -> NonNull<c_void> {
        NonNull::from(KBox::leak(self.0)).cast()
    }

    unsafe fn from_raw(raw: NonNull<c_void>) -> Self {
        // SAFETY: By the contract.
        Self(unsafe { KBox::from_raw(raw.as_ptr().cast()) })
    }
}

/// A packet made of a request's data, which goes the way that the request does.
pub(crate) struct DataPacket(pub(crate) DataRequest);

// SAFETY:
// - the pieces are those of a request;
// - so are both conversions; the word is the number of the request, for which nobody needs it.
unsafe impl Packet for DataPacket {
    const DIRECTION: DataDirection = DataDirection::Readable;
    const MAPS_ITSELF: bool = false;

    fn direction(&self) -> DataDirection {
        Request::direction(&self.0)
    }

    fn pieces<E>(&self, mut f: impl FnMut(Place) -> Result<(), E>) -> Result<(), E> {
        self.0.pieces(|piece| f(Place::Pages(piece)))
    }

    fn only_piece(&self) -> Option<Place> {
        self.0.only_piece().map(Place::Pages)
    }

    fn into_raw(self) -> (NonNull<c_void>, u16) {
        let slot = self.0.slot() as u16;
        (Request::into_raw(self.0), slot)
    }

    unsafe fn from_raw(data: NonNull<c_void>, word: u16) -> Self {
        // SAFETY: By the contract.
        let mut request: DataRequest = unsafe { Request::from_raw(data) };
        // What came back beside it, for the test to see.
        request.0.slot = word.into();
        Self(request)
    }
}
