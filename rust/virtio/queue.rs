// SPDX-License-Identifier: GPL-2.0

//! A driver's handle of a virtqueue, typed by the buffers that it takes.
//!
//! C header: [`include/linux/virtio.h`](srctree/include/linux/virtio.h)

use crate::{
    buffer::{
        Buffer,
        Completed, //
    },
    device::Device,
    lifecycle::Configured,
    recovery, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    prelude::*,
    sync::rcu, //
};
use virtio_bindings as bindings;
use virtio_ring::{
    Segment,
    Token,
    Vring, //
};

pub use virtio_ring::{
    AddErrorKind as RingErrorKind,
    CbState, //
};

/// A queue that a driver wants.
#[derive(Clone, Copy)]
pub struct QueueSpec {
    /// Shown in `/proc/interrupts`.
    pub name: &'static CStr,
    /// Whether [`Driver::used_buffers`](crate::driver::Driver::used_buffers) is called for it.
    pub interrupt: bool,
}

/// The queues of a device, not taken yet.
pub struct Queues<'a> {
    pub(crate) found: &'a mut [Option<NonNull<bindings::virtqueue>>],
}

impl Queues<'_> {
    /// Takes queue `index`, for buffers of type `B` that the device writes to.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is no such queue, or it was taken before.
    pub fn take<B: Buffer>(&mut self, _dev: &Configured<'_>, index: usize) -> Result<Virtqueue<B>> {
        let queue = self.take_raw(index)?;
        // SAFETY: Found by the core, and handed out once.
        let vring = unsafe { Vring::from_raw(queue.as_ptr()) };
        // SAFETY: Every buffer of the queue comes from this handle; nobody else uses it yet.
        unsafe { vring.set_release(release::<B>) };
        vring.get_ref();
        // INVARIANT: Handed out once, with a reference.
        Ok(Virtqueue {
            vring: NonNull::from(vring),
            added: false,
            _buffers: PhantomData,
        })
    }

    pub(crate) fn take_raw(&mut self, index: usize) -> Result<NonNull<bindings::virtqueue>> {
        let slot = self.found.get_mut(index).ok_or(ENOENT)?;
        slot.take().ok_or(ENOENT)
    }

    /// How many queues were found.
    pub fn count(&self) -> usize {
        self.found.len()
    }

    /// Whether queue `index` has interrupts; false if there is no such queue, or it was taken.
    pub fn has_interrupt(&self, index: usize) -> bool {
        match self.found.get(index) {
            // SAFETY: Found by the core, and not deleted while the driver is being bound; constant.
            Some(Some(queue)) => unsafe { (*queue.as_ptr()).callback.is_some() },
            _ => false,
        }
    }

    /// The number of descriptors of queue `index`; `None` if there is no such queue, or it was taken.
    pub fn size(&self, index: usize) -> Option<u32> {
        let queue = (*self.found.get(index)?)?;
        // SAFETY: Found by the core, and not deleted while the driver is being bound.
        Some(unsafe { virtio_ring::size(queue) })
    }
}

/// # Safety
///
/// The token is of a queue of `B`.
unsafe fn release<B: Buffer>(token: Token) {
    // SAFETY: By the contract; every token comes back once.
    drop(unsafe { B::from_raw(token.data) });
}

/// Why a buffer was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddErrorKind {
    /// The memory could not be mapped for the device: try again later.
    NoMapping,
    /// No slot has the request's number, or the device still has the one that has it.
    NoSlot,
    /// The ring did not take it.
    Ring(RingErrorKind),
}

/// Why a buffer was not added, and the buffer.
pub struct AddError<B> {
    /// Why.
    pub kind: AddErrorKind,
    /// The buffer.
    pub buffer: B,
}

/// What tells the device of new buffers, outside of the lock that protects the queue.  As long as
/// there is one, RCU is read: do not sleep.
///
/// # Invariants
///
/// The queue had a handle when the guard was made: `virtio_ring::delete` waits for a grace period
/// before ring and register go.
#[must_use = "the device was not told yet"]
pub struct Notification {
    vring: NonNull<Vring>,
    _guard: rcu::Guard,
}

impl Notification {
    /// # Safety
    ///
    /// The caller has the handle of `vring`.
    #[inline]
    pub(crate) unsafe fn new(vring: NonNull<Vring>) -> Self {
        // INVARIANT: By the contract.
        Self {
            vring,
            _guard: rcu::read_lock(),
        }
    }

    /// Tells the device, once it is ready: before, that is forbidden (specification 3.1.1), and
    /// [`Driver::ready`](crate::driver::Driver::ready) is the place to kick.  Any context.
    #[inline]
    pub fn send(self) {
        // SAFETY: By the type invariants, there as long as the guard is.
        unsafe {
            if self.vring.as_ref().is_started() {
                self.vring.as_ref().notify();
            }
        }
    }
}

/// A virtqueue whose buffers are of type `B`, all written to by the device.
///
/// Operations need `&mut`: put it behind the lock of the driver's choice.
///
/// # Invariants
///
/// The only handle of its queue, with a reference to it; every token in the queue is a `B`.
pub struct Virtqueue<B: Buffer> {
    vring: NonNull<Vring>,
    /// Something was added since the last kick.
    added: bool,
    _buffers: PhantomData<B>,
}

// SAFETY: The queue is used through `&mut`; buffers are `Send`.
unsafe impl<B: Buffer> Send for Virtqueue<B> {}

impl<B: Buffer> Virtqueue<B> {
    fn vring(&self) -> &Vring {
        // SAFETY: By the type invariants.
        unsafe { self.vring.as_ref() }
    }

    /// Lends `buffer` to the device.  It is seen after the next kick.  Any context.
    ///
    /// # Errors
    ///
    /// Why not; the buffer comes back.
    pub fn add(&mut self, buffer: B) -> Result<(), AddError<B>> {
        if self.is_broken() {
            let kind = AddErrorKind::Ring(RingErrorKind::Broken);
            return Err(AddError { kind, buffer });
        }
        let (memory, len) = buffer.memory();
        let mapper = self.vring().mapper();
        // SAFETY: By the contract of `Buffer`; unmapped when it comes back.
        let mapped = unsafe {
            mapper.map_single(memory, len.get() as usize, virtio_ring::Direction::Writable)
        };
        let Ok(addr) = mapped else {
            return Err(AddError {
                kind: AddErrorKind::NoMapping,
                buffer,
            });
        };
        let segment = Segment {
            addr,
            len: len.get(),
        };
        let token = Token::mapped(buffer.into_raw());
        // SAFETY: `&mut self` is exclusive; the buffer is unreachable until it comes back.
        unsafe {
            self.vring()
                .add(&[], &[segment], token)
                .map_err(|(kind, token)| {
                    self.vring().mapper().unmap(
                        addr,
                        len.get() as usize,
                        virtio_ring::Direction::Writable,
                    );
                    AddError {
                        kind: AddErrorKind::Ring(kind),
                        buffer: B::from_raw(token.data),
                    }
                })?;
        }
        self.added = true;
        Ok(())
    }

    /// Takes the next buffer that the device has used.  Any context.
    ///
    /// A device that breaks the queue is recovered, see [`crate::recovery`].
    pub fn get_buf(&mut self) -> Option<Completed<B>> {
        let was_whole = !self.is_broken();
        // SAFETY: `&mut self` is exclusive.
        let Some((token, written)) = (unsafe { self.vring().get() }) else {
            if was_whole && self.is_broken() {
                // SAFETY: A queue that was whole is of a device that is bound.
                unsafe {
                    recovery::schedule_broken(Device::from_raw((*self.vring().as_raw()).vdev));
                }
            }
            return None;
        };
        // SAFETY: By the type invariants; every token comes back once.
        Some(Completed::new(unsafe { B::from_raw(token.data) }, written))
    }

    /// Makes what was added visible; the notification, if one is due, is the caller's to send.
    /// Nothing added since the last kick, nothing due.
    pub fn kick(&mut self) -> Option<Notification> {
        if !core::mem::take(&mut self.added) {
            return None;
        }
        // SAFETY: `&mut self` is exclusive.
        if !unsafe { self.vring().kick_prepare() } {
            return None;
        }
        // SAFETY: This is the handle.
        Some(unsafe { Notification::new(self.vring) })
    }

    /// Asks the device not to interrupt: a hint.
    pub fn disable_callbacks(&mut self) {
        self.vring().observer().disable_cb();
    }

    /// Asks for interrupts again.
    ///
    /// [`CbState::MorePending`] if buffers were used meanwhile, for which none may come.
    pub fn enable_callbacks(&mut self) -> CbState {
        // SAFETY: `&mut self` is exclusive.
        unsafe { self.vring().enable_callbacks() }
    }

    /// Whether the queue takes and gives nothing any more: broken by the device, or reset.
    pub fn is_broken(&self) -> bool {
        self.vring().observer().is_broken()
    }
}

impl<B: Buffer> Drop for Virtqueue<B> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, the handle's own reference.
        unsafe { Vring::put_ref(self.vring) };
    }
}
