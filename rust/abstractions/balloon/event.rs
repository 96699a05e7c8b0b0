// SPDX-License-Identifier: GPL-2.0

//! Something that happens again and again, and is waited for whatever signals come.
//!
//! C header: [`include/linux/wait.h`](srctree/include/linux/wait.h).
//!
//! `kernel::sync::CondVar` wakes who has a signal pending, and a task that is being killed may need
//! the memory that is waited for.

use core::ptr;
use kernel::{
    prelude::*,
    static_lock_class,
    sync::atomic::{
        Atomic,
        Full,
        Relaxed, //
    },
    task::TASK_NORMAL,
    time::{
        msecs_to_jiffies,
        Delta,
        Instant,
        Monotonic, //
    },
    types::Opaque, //
};
use virtio_bindings as bindings;

/// How often who waits looks by himself: interrupts get lost, and nobody tells of a queue that is
/// broken because the device is gone.
const LOOK_INTERVAL: Delta = Delta::from_millis(100);

/// What happens, and who waits for it.
#[pin_data]
pub struct Event {
    count: Atomic<i32>,
    #[pin]
    queue: Opaque<bindings::wait_queue_head>,
}

// SAFETY: A wait queue belongs to no thread.
unsafe impl Send for Event {}
// SAFETY: It has a lock of its own.
unsafe impl Sync for Event {}

/// How often an [`Event`] had happened.
#[derive(Clone, Copy)]
pub struct Seen(i32);

impl Event {
    /// It has not happened.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            count: Atomic::new(0),
            queue <- Opaque::ffi_init(|slot| {
                // SAFETY: `slot` is what is to be initialised; name and class are static.
                unsafe {
                    bindings::__init_waitqueue_head(
                        slot,
                        c"balloon::Event".as_char_ptr(),
                        static_lock_class!().as_ptr(),
                    );
                }
            }),
        })
    }

    /// How often it has happened: to be asked before looking for what may have been there already.
    pub fn seen(&self) -> Seen {
        Seen(self.count.load(Relaxed))
    }

    /// It happens: wakes all who wait.  Any context.
    pub fn notify(&self) {
        self.count.fetch_add(1, Full);
        // SAFETY: Initialised by `new`.
        unsafe { bindings::__wake_up(self.queue.get(), TASK_NORMAL, 0, ptr::null_mut()) };
    }

    /// Waits until it has happened again, or for `time`, at most about 49 days.  Sleeps.
    pub fn wait(&self, seen: Seen, time: Delta) {
        let millis = time.as_millis_ceil().clamp(1, i64::from(u32::MAX)) as u32;
        let word = self.count.as_ptr().cast::<u32>().cast_const();
        // SAFETY: Initialised by `new`; the word lives as long.
        unsafe {
            bindings::virtio_wait_while_equal(
                self.queue.get(),
                word,
                seen.0 as u32,
                msecs_to_jiffies(millis),
            );
        }
    }

    /// Looks until `look` finds something, when it happens and now and then; at most for `deadline`,
    /// `None` then.  Time in which we did not run is nobody's fault, and does not count.  Sleeps.
    pub fn wait_for<R>(&self, deadline: Delta, mut look: impl FnMut() -> Option<R>) -> Option<R> {
        let mut waited = Delta::ZERO;
        loop {
            let seen = self.seen();
            if let Some(found) = look() {
                return Some(found);
            }
            if waited >= deadline {
                return None;
            }
            let start = Instant::<Monotonic>::now();
            self.wait(seen, LOOK_INTERVAL);
            waited += start.elapsed().min(LOOK_INTERVAL);
        }
    }
}
