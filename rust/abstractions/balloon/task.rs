// SPDX-License-Identifier: GPL-2.0

//! Work that is done again and again, and can be stopped.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h).
//!
//! What `kernel::workqueue` runs cannot be waited for, and has a reference to the module's code.

use core::marker::PhantomPinned;
use kernel::{
    prelude::*,
    sync::Arc,
    time::msecs_to_jiffies,
    types::Opaque, //
};
use virtio_bindings as bindings;

/// When a [`Job`] is to be done again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// When somebody schedules it.
    No,
    /// After so many milliseconds, if nobody schedules it before.
    After(u32),
}

/// What there is to do.
pub trait Job: Send + Sync {
    /// Does it.  Never twice at a time; may sleep.
    fn run(&self) -> Again;
}

/// Work on the queue that is frozen before devices are (C: `system_freezable_wq`); stopped when
/// dropped, which sleeps.
#[pin_data(PinnedDrop)]
#[repr(C)]
pub struct Task<J: Job> {
    // First, for the callback to find the rest.
    #[pin]
    work: Opaque<bindings::delayed_work>,
    job: J,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: Work belongs to no thread; the job is `Send` and `Sync`.
unsafe impl<J: Job> Send for Task<J> {}
// SAFETY: As above.
unsafe impl<J: Job> Sync for Task<J> {}

impl<J: Job> Task<J> {
    /// Nothing is scheduled.  May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(job: J) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                work <- Opaque::ffi_init(|slot| {
                    // SAFETY: `slot` is what is to be initialised, and pinned.
                    unsafe { bindings::virtio_init_delayed_work(slot, Some(callback::<J>)) };
                }),
                job,
                _pin: PhantomPinned,
            }),
            GFP_KERNEL,
        )
    }

    /// Has the job done soon, once more if it is being done.  Any context.
    pub fn schedule(&self) {
        // SAFETY: Initialised by `new`, and waited for by `drop`.
        unsafe { bindings::virtio_reschedule_delayed_work(self.work.get()) };
    }

    /// Has nothing done any more, and waits for what is.  As often as it is stopped, it has to be
    /// [`Task::allow`]ed.  Sleeps.
    pub fn stop(&self) {
        // SAFETY: Initialised by `new`.
        unsafe { bindings::disable_delayed_work_sync(self.work.get()) };
    }

    /// Takes back one [`Task::stop`].  What was scheduled meanwhile is not done.
    pub fn allow(&self) {
        // SAFETY: Initialised by `new`.
        unsafe { bindings::enable_delayed_work(self.work.get()) };
    }

    /// The job.
    pub fn job(&self) -> &J {
        &self.job
    }
}

#[pinned_drop]
impl<J: Job> PinnedDrop for Task<J> {
    fn drop(self: Pin<&mut Self>) {
        self.stop();
    }
}

/// # Safety
///
/// `work` is that of a [`Task<J>`].
unsafe extern "C" fn callback<J: Job>(work: *mut bindings::work_struct) {
    // SAFETY: `work` is the first field of a delayed work, and that of a `Task<J>`, which waits for
    // it when dropped.
    let this = unsafe { &*work.cast::<Task<J>>() };
    if let Again::After(millis) = this.job.run() {
        // SAFETY: As `schedule`; nothing happens if that came first.
        unsafe {
            bindings::virtio_schedule_delayed_work(this.work.get(), msecs_to_jiffies(millis));
        }
    }
}
