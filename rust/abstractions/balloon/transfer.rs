// SPDX-License-Identifier: GPL-2.0

//! Pages on their way into a balloon or out of it, and the queues that tell the device.
//!
//! Specification: 5.5.6.  C: `fill_balloon`, `leak_balloon` and `tell_host` in
//! `drivers/virtio/virtio_balloon.c`.

use crate::{
    list::PageList,
    pages::{
        Balloon,
        Zones,
        UNITS, //
    }, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull,
    slice, //
};
use kernel::{
    ffi::c_void,
    prelude::*,
    sync::Arc, //
};
use virtio::{
    lifecycle::{
        Configured,
        Quiesced, //
    },
    packets::{
        AddError,
        DataDirection,
        Packet,
        PacketQueue,
        Place, //
    },
    queue::{
        Notification,
        Queues, //
    },
};
use virtio_bindings as bindings;
use virtio_spec::balloon::{
    pfn::ARRAY_LEN,
    Wire, //
};

/// Numbers of a page.
const PER_PAGE: usize = UNITS.per_page() as usize;

/// What becomes of pages that are not on their way any more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// They are the kernel's again.
    Free,
    /// They are in the balloon.
    Keep,
}

/// Pages, and their numbers as the device reads them.
///
/// # Invariants
///
/// `len` is at most the length of `words`; `moved` is a page if `pages` has it, and else to be
/// compared only.
#[pin_data(PinnedDrop)]
struct Inner {
    #[pin]
    pages: PageList,
    fate: Fate,
    moved: Option<NonNull<bindings::page>>,
    words: [u32; ARRAY_LEN],
    len: usize,
    /// Of the pages in `pages`.
    zones: Zones,
    balloon: Arc<Balloon>,
}

// SAFETY: Pages belong to no thread.
unsafe impl Send for Inner {}

impl Inner {
    /// The pages go where they belong.
    fn settle(self: Pin<&mut Self>) {
        let this = self.project();
        match *this.fate {
            Fate::Free => this.pages.free(),
            Fate::Keep => this.balloon.insert(this.pages, *this.zones),
        }
        *this.zones = Zones::NONE;
        *this.fate = Fate::Free;
        *this.moved = None;
        *this.len = 0;
    }

    /// Writes the numbers of all pages again; those that have none are free.
    #[cold]
    fn number_again(mut self: Pin<&mut Self>, wire: Wire) {
        pin_init::stack_pin_init!(let pages = PageList::<0>::new());
        while let Some(page) = self.as_mut().project().pages.pop() {
            // SAFETY: Of the list, which it leaves.
            unsafe { pages.as_mut().push(page) };
        }
        *self.as_mut().project().len = 0;
        while let Some(page) = pages.as_mut().pop() {
            // SAFETY: A page of the list, which it leaves.
            unsafe {
                if self.as_mut().number(wire, page) {
                    self.as_mut().project().pages.push(page);
                } else {
                    bindings::virtio_put_page(page.as_ptr());
                }
            }
        }
    }

    /// Appends the numbers of `page`.  False if it has none, or there is no room.
    ///
    /// # Safety
    ///
    /// `page` is a page.
    unsafe fn number(self: Pin<&mut Self>, wire: Wire, page: NonNull<bindings::page>) -> bool {
        let this = self.project();
        let room = this.words.get_mut(*this.len..).unwrap_or_default();
        // SAFETY: By the contract.
        let pfn = unsafe { bindings::virtio_page_to_pfn(page.as_ptr()) };
        match UNITS.write(wire, pfn as u64, room) {
            Some(count) => {
                // INVARIANT: There was room.
                *this.len += count;
                true
            }
            None => false,
        }
    }
}

/// Room for the numbers of each of at most `count` pages.
#[inline]
fn rooms(words: &mut [u32], count: usize) -> slice::ChunksExactMut<'_, u32> {
    let len = count.min(UNITS.pages_per_array()) * PER_PAGE;
    let words = words.get_mut(..len).unwrap_or_default();
    words.chunks_exact_mut(PER_PAGE)
}

/// Writes the numbers of `page` to `room`, cut to their size: the page's own number.
///
/// # Safety
///
/// `page` is a page.
#[inline(always)]
unsafe fn write(wire: Wire, page: NonNull<bindings::page>, room: &mut [u32]) -> u64 {
    // SAFETY: By the contract.
    let pfn = unsafe { bindings::virtio_page_to_pfn(page.as_ptr()) } as u64;
    UNITS.write_cut(wire, pfn, room);
    pfn
}

#[pinned_drop]
impl PinnedDrop for Inner {
    fn drop(self: Pin<&mut Self>) {
        self.settle();
    }
}

/// An array without pages.
pub struct Idle(Pin<KBox<Inner>>);

/// Pages that the device is to take.  Dropped, they are free: it never knew of them, or was reset.
pub struct Inflating(Pin<KBox<Inner>>);

/// Pages that the device is to give back.  Dropped, they are in the balloon again.
pub struct Deflating(Pin<KBox<Inner>>);

/// A transfer to which the device has said yes.  Dropped, it is as if finished.
pub struct Acked<T>(Pin<KBox<Inner>>, PhantomData<T>);

impl Idle {
    /// An array for pages of `balloon`.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(balloon: &Arc<Balloon>) -> Result<Self> {
        // INVARIANT: Empty.
        let inner = pin_init!(Inner {
            pages <- PageList::new(),
            fate: Fate::Free,
            moved: None,
            words: [0; ARRAY_LEN],
            len: 0,
            zones: Zones::NONE,
            balloon: balloon.clone(),
        });
        Ok(Self(KBox::pin_init(inner, GFP_KERNEL)?))
    }

    /// Allocates at most `count` pages for the device, fewer if there are not so many or no more
    /// fit.  Sleeps, and may have pages moved.
    ///
    /// # Errors
    ///
    /// The array, if there is no page.
    pub fn inflate(mut self, wire: Wire, count: usize) -> Result<Inflating, Self> {
        let mut this = self.0.as_mut().project();
        let (mut zones, mut pfns) = (Zones::NONE, 0);
        let rooms = rooms(this.words, count);
        // SAFETY: No preconditions.
        let alloc = || NonNull::new(unsafe { bindings::balloon_page_alloc() });
        // SAFETY: Pages, allocated just now, each with a reference.
        unsafe {
            this.pages.as_mut().extend(rooms, alloc, |page, room| {
                pfns |= write(wire, page, room);
                zones.add(page);
            });
        }
        *this.zones = zones;
        // INVARIANT: The numbers of each were written.
        *this.len = this.pages.len() * PER_PAGE;
        if UNITS.first(pfns).is_none() {
            self.0.as_mut().number_again(wire);
        }
        if self.0.len == 0 {
            return Err(self);
        }
        Ok(Inflating(self.0))
    }

    /// Takes at most `count` pages out of the balloon, fewer if no more fit.  Any context.
    ///
    /// # Errors
    ///
    /// The array, if there is no page but such as are being moved.
    pub fn deflate(mut self, wire: Wire, count: usize) -> Result<Deflating, Self> {
        let this = self.0.as_mut().project();
        let count = count.min(UNITS.pages_per_array());
        this.balloon.take(this.pages, count);
        if self.0.pages.len() == 0 {
            return Err(self);
        }
        let this = self.0.as_mut().project();
        let mut zones = Zones::NONE;
        let mut rooms = rooms(this.words, count);
        this.pages.for_each(|page| {
            // There is room for all.
            let room = rooms.next().unwrap_or_default();
            // SAFETY: A page, of the list.
            unsafe {
                // It had a number when it went in.
                write(wire, page, room);
                zones.add(page);
            }
        });
        this.balloon.account(&this.pages, zones, 1);
        *this.zones = zones;
        *this.fate = Fate::Keep;
        // INVARIANT: The numbers of each were written.
        *this.len = this.pages.len() * PER_PAGE;
        Ok(Deflating(self.0))
    }

    /// Takes a reference to `page`, which is a page that another one is moved to.
    ///
    /// # Safety
    ///
    /// `page` is a page whose `lru` nobody uses until the transfer is over.
    ///
    /// # Errors
    ///
    /// The array, if the page has no number.
    pub(crate) unsafe fn inflate_with(
        mut self,
        wire: Wire,
        page: NonNull<bindings::page>,
    ) -> Result<Inflating, Self> {
        // SAFETY: By the contract.
        unsafe {
            if !self.0.as_mut().number(wire, page) {
                return Err(self);
            }
            bindings::virtio_get_page(page.as_ptr());
            let this = self.0.as_mut().project();
            this.pages.push(page);
            this.zones.add(page);
        }
        *self.0.as_mut().project().moved = Some(page);
        Ok(Inflating(self.0))
    }

    /// As above, of the page that is moved, to which it takes none.
    ///
    /// # Safety
    ///
    /// `page` is a page.
    ///
    /// # Errors
    ///
    /// As above.
    pub(crate) unsafe fn deflate_with(
        mut self,
        wire: Wire,
        page: NonNull<bindings::page>,
    ) -> Result<Deflating, Self> {
        // SAFETY: By the contract.
        if !unsafe { self.0.as_mut().number(wire, page) } {
            return Err(self);
        }
        *self.0.as_mut().project().moved = Some(page);
        Ok(Deflating(self.0))
    }
}

impl<T: Transfer> Acked<T> {
    /// How many pages there are.
    pub fn pages(&self) -> usize {
        self.0.pages.len()
    }

    /// Whether it is of a [`Migration`](crate::Migration).
    pub fn is_migration(&self) -> bool {
        self.0.moved.is_some()
    }

    /// As if a device had used it.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn for_test(transfer: T) -> Self {
        transfer.acked(Proof(()))
    }

    pub(crate) fn moved(&self) -> Option<NonNull<bindings::page>> {
        self.0.moved
    }

    /// The pages are in the balloon, or the kernel's.  May be called in any context.
    pub fn finish(mut self) -> Idle {
        self.0.as_mut().settle();
        Idle(self.0)
    }
}

impl Acked<Inflating> {
    /// Gives the references back of pages that the kernel puts into the balloon itself.
    pub(crate) fn give_back(mut self) -> Idle {
        *self.0.as_mut().project().fate = Fate::Free;
        self.finish()
    }
}

/// Pages that a device can be told of.
pub trait Transfer: Packet {
    /// How many pages there are.
    fn pages(&self) -> usize;

    /// The device does not know of them: they are as before.
    fn cancel(self) -> Idle;

    /// The device has said yes.
    #[doc(hidden)]
    fn acked(self, _proof: Proof) -> Acked<Self>;
}

/// That a device has used an array: only a [`TransferQueue`] can have it.
#[doc(hidden)]
pub struct Proof(());

macro_rules! transfer {
    ($name:ident, $fate:expr) => {
        impl Transfer for $name {
            fn pages(&self) -> usize {
                self.0.pages.len()
            }

            fn cancel(mut self) -> Idle {
                self.0.as_mut().settle();
                Idle(self.0)
            }

            fn acked(mut self, _proof: Proof) -> Acked<Self> {
                *self.0.as_mut().project().fate = $fate;
                Acked(self.0, PhantomData)
            }
        }

        // SAFETY: A pinned box stays where it is, and nobody reaches it while it is apart; both
        // conversions are its own.
        unsafe impl Packet for $name {
            const DIRECTION: DataDirection = DataDirection::Readable;
            const MAPS_ITSELF: bool = false;

            #[inline]
            fn pieces<E>(&self, mut f: impl FnMut(Place) -> Result<(), E>) -> Result<(), E> {
                f(place(&self.0))
            }

            #[inline]
            fn only_piece(&self) -> Option<Place> {
                Some(place(&self.0))
            }

            fn into_raw(self) -> (NonNull<c_void>, u16) {
                // SAFETY: Not moved: the box is put together again around the same memory.
                let inner = unsafe { Pin::into_inner_unchecked(self.0) };
                (NonNull::from(KBox::leak(inner)).cast(), 0)
            }

            unsafe fn from_raw(data: NonNull<c_void>, _word: u16) -> Self {
                // SAFETY: By the contract, a pinned box that was taken apart.
                Self(unsafe { Pin::new_unchecked(KBox::from_raw(data.as_ptr().cast())) })
            }
        }
    };
}

transfer!(Inflating, Fate::Keep);
transfer!(Deflating, Fate::Free);

/// Where the numbers are.
#[inline]
fn place(inner: &Inner) -> Place {
    let bytes = inner.len * size_of::<u32>();
    Place::Linear(NonNull::from(&inner.words).cast(), bytes as u32)
}

/// A queue that tells the device of pages.
///
/// Operations need `&mut`.
pub struct TransferQueue<T: Transfer>(PacketQueue<T>);

impl<T: Transfer> TransferQueue<T> {
    /// Takes queue `index` for transfers.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is no such queue, or it was taken before; `ENOMEM`.
    pub fn new(dev: &Configured<'_>, queues: &mut Queues<'_>, index: usize) -> Result<Self> {
        Ok(Self(queues.take_packets(dev, index, 1)?))
    }

    /// Lends `transfer` to the device, which sees it after the next kick.  Any context.
    ///
    /// # Errors
    ///
    /// Why not; the transfer comes back.
    pub fn add(&mut self, transfer: T) -> Result<(), AddError<T>> {
        self.0.add(transfer)
    }

    /// Makes what was added visible; the notification, if one is due, is the caller's to send.
    pub fn kick(&mut self) -> Option<Notification> {
        self.0.kick()
    }

    /// Takes the next transfer to which the device has said yes.  Any context.
    pub fn get(&mut self) -> Option<Acked<T>> {
        let (transfer, _) = self.0.get()?;
        Some(transfer.acked(Proof(())))
    }

    /// Takes back a transfer that the device has not used before it was reset.
    pub fn drain(&mut self, proof: &Quiesced<'_>) -> Option<T> {
        self.0.drain(proof)
    }

    /// Whether the queue takes and gives nothing any more: broken by the device, or reset.
    pub fn is_broken(&self) -> bool {
        self.0.is_broken()
    }
}
