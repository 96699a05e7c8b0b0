// SPDX-License-Identifier: GPL-2.0

//! What a queue of packets wants of a ring beside what one of requests does: two words of payload,
//! delayed interrupts, and the device whose mappings a page pool may make.

use crate::{
    scatter::Broken,
    trace,
    vring::{
        Token,
        Vring, //
    }, //
};
use core::ptr::NonNull;
use kernel::{
    device,
    ffi::c_void,
    prelude::*, //
};
use virtqueue::{
    AddErrorKind,
    CbState,
    Direction,
    Segment, //
};

/// A buffer that the device has used.
pub struct UsedPair {
    /// The caller's buffer.
    pub data: NonNull<c_void>,
    /// The second word of payload.
    pub context: usize,
    /// How many bytes the device wrote.
    pub written: u32,
}

impl Token {
    /// As [`Token::mapped`], with a second word of payload.
    pub fn with_context(data: NonNull<c_void>, context: usize) -> Self {
        Self {
            context: core::ptr::without_provenance_mut(context),
            ..Self::mapped(data)
        }
    }
}

impl Vring {
    /// [`Vring::add`] of one segment, all of it in registers.
    ///
    /// # Safety
    ///
    /// As there.
    ///
    /// # Errors
    ///
    /// Why it was not added.
    #[inline(always)]
    pub unsafe fn add_one(
        &self,
        segment: Segment,
        dir: Direction,
        token: Token,
    ) -> Result<(), AddErrorKind> {
        let data = token.data;
        // SAFETY: By the contract.
        let ring = unsafe { self.ring() };
        ring.add_one(segment, dir, token)
            .map_err(|error| error.kind)?;
        self.counters.adds.count();
        trace::added(self, data, ring.num_free(), || {
            let bytes = u64::from(segment.len);
            match dir {
                Direction::Readable => (bytes, 0),
                Direction::Writable => (0, bytes),
            }
        });
        self.sync_num_free(ring);
        Ok(())
    }

    /// Takes the next used buffer.  Its segments go to `unmap` if it `walks` over them: those of the
    /// ring itself, not of a table, and not those of a token that is `premapped`.
    ///
    /// # Safety
    ///
    /// Nobody else uses the ring meanwhile.
    ///
    /// # Errors
    ///
    /// The device broke the queue just now.
    #[inline(always)]
    pub unsafe fn get_pair(
        &self,
        walks: bool,
        mut unmap: impl FnMut(Segment, Direction),
    ) -> Result<Option<UsedPair>, Broken> {
        // SAFETY: By the contract.
        let used = unsafe {
            self.get_mapped(
                walks,
                |token, segment, dir| {
                    if !token.premapped {
                        unmap(segment, dir);
                    }
                },
                |token| (token.data, (token.data, token.context.addr())),
            )
        }?;
        Ok(used.map(|((data, context), written)| UsedPair {
            data,
            context,
            written,
        }))
    }

    /// Takes back a buffer that the device has not used, as [`Vring::get_pair`].
    ///
    /// # Safety
    ///
    /// The device was reset (or this queue), and nobody else uses the ring meanwhile.
    pub unsafe fn detach_pair(
        &self,
        walks: bool,
        mut unmap: impl FnMut(Segment, Direction),
    ) -> Option<(NonNull<c_void>, usize)> {
        // SAFETY: By the contract.
        let ring = unsafe { self.ring() };
        let token = ring.drain_with(|token, segment, dir| {
            if walks && !token.premapped {
                unmap(segment, dir);
            }
        });
        self.sync_num_free(ring);
        let token = token?;
        Some((token.data, token.context.addr()))
    }

    /// Asks for an interrupt when most of what is outstanding has been used (C:
    /// `virtqueue_enable_cb_delayed`).
    ///
    /// # Safety
    ///
    /// Nobody else uses the ring meanwhile.
    #[inline]
    pub unsafe fn enable_callbacks_delayed(&self) -> CbState {
        // SAFETY: By the contract.
        unsafe { self.ring() }.enable_cb_delayed()
    }

    /// The device for which somebody else may map what goes into the queue (C:
    /// `virtqueue_dma_dev`); `None` where addresses are physical, or mapped by the device itself.
    pub fn dma_device(&self) -> Option<&device::Device> {
        let mapper = self.mapper();
        if !mapper.uses_api() || mapper.ops().is_some() {
            return None;
        }
        // SAFETY: By the invariants of `Mapper`, it outlives the queue.
        Some(unsafe { device::Device::from_raw(mapper.dma_dev()) })
    }
}
