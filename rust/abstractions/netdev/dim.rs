// SPDX-License-Identifier: GPL-2.0

//! Coalescing that follows what is received ("dynamic interrupt moderation").
//!
//! C header: [`include/linux/dim.h`](srctree/include/linux/dim.h).
//!
//! The poll of a queue measures, with a [`Sampler`]; when another profile is better, a work item has a
//! [`Moderator`] tell the device.  The two use the C structure in turns, which its state says.

use crate::{
    device::{
        Core,
        NewDevice, //
    },
    operations::Operations, //
};
use kernel::{
    container_of,
    error::to_result,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
    types::Opaque, //
};
use virtio_bindings as bindings;

/// What adapts coalescing.
pub trait Moderator: Send + Sync + 'static {
    /// Has receive queue `index` notify after so many microseconds or packets at the latest, if that
    /// still is to be adapted.  May sleep; without the RTNL lock, which others have who wait for it.
    fn moderate(&self, index: u32, usecs: u16, packets: u16);
}

/// The moderation of a receive queue.  The last reference goes where it may sleep.
///
/// # Invariants
///
/// `dim` was set up, and its work is [`Dim::work`].
#[pin_data(PinnedDrop)]
pub struct Dim<O: Operations> {
    #[pin]
    dim: Opaque<bindings::dim>,
    core: Arc<Core<O>>,
    moderator: Arc<O::Moderator>,
    index: u32,
    enabled: Atomic<u32>,
    /// Interrupts of the queue.
    events: Atomic<u32>,
}

// SAFETY: The C structure belongs to no thread; see `sample` and `work` for who uses it when.
unsafe impl<O: Operations> Send for Dim<O> {}
// SAFETY: As above.
unsafe impl<O: Operations> Sync for Dim<O> {}

/// What measures for a [`Dim`]; there is one.
pub struct Sampler<O: Operations> {
    dim: Arc<Dim<O>>,
    /// Packets at the last measurement.
    packets: u64,
}

impl<O: Operations> Dim<O> {
    /// Makes the moderation of receive queue `index`, off at first.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(
        dev: &NewDevice<O>,
        index: u32,
        moderator: Arc<O::Moderator>,
    ) -> Result<(Arc<Self>, Sampler<O>)> {
        let core = dev.core().clone();
        let raw = core.as_raw();
        // SAFETY: Nobody else sees the device yet; freed with it.
        unsafe {
            if (*raw).irq_moder.is_null() {
                let set_up = bindings::net_dim_init_irq_moder(
                    raw.cast(),
                    bindings::VIRTIO_DIM_PROFILE_RX,
                    bindings::VIRTIO_DIM_COALESCE,
                    bindings::dim_cq_period_mode_DIM_CQ_PERIOD_MODE_START_FROM_EQE as u8,
                    0,
                    Some(Self::work),
                    None,
                );
                if let Err(error) = to_result(set_up) {
                    // It was freed.
                    (*raw).irq_moder = core::ptr::null_mut();
                    return Err(error);
                }
            }
        }
        let this = Arc::pin_init(
            pin_init!(Self {
                dim: Opaque::zeroed(),
                core,
                moderator,
                index,
                enabled: Atomic::new(0),
                events: Atomic::new(0),
            }),
            GFP_KERNEL,
        )?;
        // INVARIANT: Set up here, with the work that the device was given, whose type `O` is.
        // SAFETY: The device has the profiles, as above; pinned.
        unsafe { bindings::net_dim_setting(raw.cast(), this.dim.get(), false) };
        let sampler = Sampler {
            dim: this.clone(),
            packets: 0,
        };
        Ok((this, sampler))
    }

    /// Lets it work, or not.  Any context.
    pub fn set_enabled(&self, on: bool) {
        self.enabled.store(on.into(), Relaxed);
    }

    /// Counts an interrupt of the queue, of which there is one at a time.  Any context.
    #[inline]
    pub fn count_event(&self) {
        let events = self.events.load(Relaxed);
        self.events.store(events.wrapping_add(1), Relaxed);
    }

    /// Waits for the moderator, and forgets what was to be told it: nobody measures meanwhile.  May
    /// sleep.
    pub fn cancel(&self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::net_dim_work_cancel(self.dim.get()) };
        self.measure_again();
    }

    /// The next measurement is the first one.
    fn measure_again(&self) {
        // SAFETY: By the type invariants; one byte, which the poll reads.
        unsafe {
            let state = &raw mut (*self.dim.get()).state;
            state.write_volatile(bindings::dim_state_DIM_START_MEASURE as u8);
        }
    }

    extern "C" fn work(work: *mut kernel::bindings::work_struct) {
        // SAFETY: Set by `new` for the work of a `Dim`, which cancels it before it goes.
        let this = unsafe {
            let dim = container_of!(work, bindings::dim, work);
            &*container_of!(dim.cast::<Opaque<bindings::dim>>(), Self, dim)
        };
        // SAFETY: By the type invariants; the device has profiles, and the poll leaves the one that it
        // chose alone until it may measure again.
        let profile = unsafe {
            bindings::net_dim_get_rx_irq_moder(this.core.as_raw().cast(), this.dim.get())
        };
        this.moderator
            .moderate(this.index, profile.usec, profile.pkts);
        this.measure_again();
    }
}

#[pinned_drop]
impl<O: Operations> PinnedDrop for Dim<O> {
    fn drop(self: Pin<&mut Self>) {
        self.cancel();
    }
}

impl<O: Operations> Sampler<O> {
    /// Measures: so many packets and bytes have been received so far.  Nothing happens if it is not
    /// enabled, or there was no packet since.  In the poll of the queue.
    #[inline]
    pub fn sample(&mut self, packets: u64, bytes: u64) {
        if self.dim.enabled.load(Relaxed) != 0 && packets != self.packets {
            self.packets = packets;
            self.measure(packets, bytes);
        }
    }

    #[inline(never)]
    fn measure(&mut self, packets: u64, bytes: u64) {
        let mut sample = bindings::dim_sample::default();
        let events = self.dim.events.load(Relaxed) as u16;
        // SAFETY: `&mut self` is exclusive, and while the work is due nothing but the state is looked at,
        // by the type invariants of `Dim`.
        unsafe {
            bindings::virtio_dim_update_sample(events, packets, bytes, &mut sample);
            bindings::net_dim(self.dim.dim.get(), &sample);
        }
    }
}
