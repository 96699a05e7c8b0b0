// SPDX-License-Identifier: GPL-2.0

//! Pages that go into a balloon that no device has, and out of it.

use crate::{
    memory::{
        memory,
        sample, //
    },
    migration::{
        migrate_page,
        Migrate,
        Migration,
        Mover, //
    },
    pages::Balloon,
    report::Report,
    task::{
        Again,
        Job,
        Task, //
    },
    transfer::{
        Acked,
        Idle,
        Inflating,
        Transfer, //
    },
    Event, //
};
use core::ptr::NonNull;
use kernel::{
    ffi::c_int,
    new_mutex,
    page::PAGE_SHIFT,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    },
    time::{
        delay::fsleep,
        Delta,
        Instant,
        Monotonic, //
    }, //
};
use virtio::packets::{
    Packet,
    Place, //
};
use virtio_bindings as bindings;
use virtio_spec::balloon::{
    stats::Stats,
    Wire, //
};

const WIRE: Wire = Wire::Modern;

/// Pages of the kernel.
fn total() -> u64 {
    memory(0).total
}

/// The transfer, or an error without a reason.
fn some<T>(result: Result<T, Idle>) -> Result<T> {
    result.map_err(|_| ENOMEM)
}

/// What the device reads of a transfer, sorted.
fn numbers<T: Transfer>(transfer: &T) -> Result<KVec<u32>> {
    let Some(Place::Linear(memory, len)) = transfer.only_piece() else {
        return Err(EINVAL);
    };
    let mut numbers = KVec::new();
    for at in 0..len as usize / 4 {
        // SAFETY: So many bytes are there, aligned.
        let word = unsafe { memory.cast::<u32>().add(at).read() };
        numbers.push(u32::from_le(word), GFP_KERNEL)?;
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Puts so many pages into the balloon.
fn fill(balloon: &Arc<Balloon>, count: usize) -> Result<Idle> {
    let transfer = some(Idle::new(balloon)?.inflate(WIRE, count))?;
    Ok(Acked::for_test(transfer).finish())
}

/// A page, and how many references there are to it.
struct Page(NonNull<bindings::page>);

impl Page {
    fn new() -> Result<Self> {
        // SAFETY: No preconditions.
        let page = unsafe { bindings::balloon_page_alloc() };
        Ok(Self(NonNull::new(page).ok_or(ENOMEM)?))
    }

    fn references(&self) -> i32 {
        // SAFETY: Ours, and nobody else's at the time.
        unsafe { (*self.0.as_ptr())._refcount.counter }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: Ours.
        unsafe { bindings::virtio_put_page(self.0.as_ptr()) };
    }
}

/// How far a migration comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comes {
    /// The device is not told.
    Nowhere,
    /// It is told of the new page, and does not answer.
    HalfWay,
    /// It says yes to both.
    ToItsEnd,
}

#[pin_data]
struct Device {
    comes: Comes,
    balloon: Arc<Balloon>,
    #[pin]
    has: Mutex<Option<Inflating>>,
}

impl Device {
    fn new(balloon: &Arc<Balloon>, comes: Comes) -> Result<Arc<Self>> {
        let this = pin_init!(Self {
            comes,
            balloon: balloon.clone(),
            has <- new_mutex!(None),
        });
        Arc::pin_init(this, GFP_KERNEL)
    }
}

impl Migrate for Device {
    fn migrate(&self, migration: &Migration) -> Result {
        if self.comes == Comes::Nowhere {
            return Err(EAGAIN);
        }
        let new = some(migration.inflate(Idle::new(&self.balloon)?, WIRE))?;
        if self.comes == Comes::HalfWay {
            *self.has.lock() = Some(new);
            return Err(EAGAIN);
        }
        let old = some(migration.deflate(Idle::new(&self.balloon)?, WIRE))?;
        let finished = migration.finish(Acked::for_test(new), Acked::for_test(old));
        finished.map(drop).map_err(|_| EINVAL)
    }
}

/// As the kernel has a page of a balloon moved.
fn migrate(balloon: &Balloon, old: &Page, new: &Page) -> c_int {
    // SAFETY: Pages, of which one is in the balloon, and nobody else knows.
    unsafe {
        migrate_page(
            balloon.info.get(),
            new.0.as_ptr(),
            old.0.as_ptr(),
            bindings::migrate_mode_MIGRATE_SYNC,
        )
    }
}

/// A balloon with one page that is known, which has a reference of its own.
fn balloon_with(page: &Page) -> Result<Arc<Balloon>> {
    let balloon = Balloon::new(true)?;
    // SAFETY: A page that nobody else knows.
    let transfer = some(unsafe { Idle::new(&balloon)?.inflate_with(WIRE, page.0) })?;
    drop(Acked::for_test(transfer));
    assert_eq!((balloon.held(), page.references()), (1, 2));
    Ok(balloon)
}

struct Counter {
    count: Atomic<i32>,
    times: i32,
}

impl Job for Counter {
    fn run(&self) -> Again {
        self.count.add(1, Relaxed);
        if self.count.load(Relaxed) < self.times {
            Again::After(1)
        } else {
            Again::No
        }
    }
}

/// Whether COUNT is reached soon.
fn reaches(task: &Task<Counter>, count: i32) -> bool {
    for _ in 0..1000 {
        if task.job().count.load(Relaxed) >= count {
            return true;
        }
        fsleep(Delta::from_millis(10));
    }
    false
}

#[kunit_tests(virtio_balloon)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_in_it_when_the_device_has_said_yes() -> Result {
        let before = total();
        let balloon = Balloon::new(true)?;
        let transfer = some(Idle::new(&balloon)?.inflate(WIRE, 10))?;
        assert_eq!((transfer.pages(), balloon.held()), (10, 0));
        assert_eq!(total(), before);
        let idle = Acked::for_test(transfer).finish();
        assert_eq!((balloon.held(), balloon.uncounted()), (10, 10));
        assert_eq!(total(), before - 10);

        // Not yet free, and in it again.
        let transfer = some(idle.deflate(WIRE, 4))?;
        assert_eq!((transfer.pages(), balloon.held()), (4, 6));
        drop(transfer);
        assert_eq!((balloon.held(), total()), (10, before - 10));

        let transfer = some(Idle::new(&balloon)?.deflate(WIRE, 4))?;
        let idle = Acked::for_test(transfer).finish();
        assert_eq!((balloon.held(), total()), (6, before - 6));

        // All of them, as there are no more.
        let transfer = some(idle.deflate(WIRE, 100))?;
        assert_eq!(transfer.pages(), 6);
        let idle = Acked::for_test(transfer).finish();
        assert_eq!((balloon.held(), total()), (0, before));
        assert!(idle.deflate(WIRE, 1).is_err());
        Ok(())
    }

    #[test]
    fn pages_are_free_of_which_the_device_never_knew() -> Result {
        let before = total();
        let balloon = Balloon::new(true)?;
        let transfer = some(Idle::new(&balloon)?.inflate(WIRE, 10))?;
        let idle = transfer.cancel();
        assert_eq!((balloon.held(), total()), (0, before));
        drop(some(idle.inflate(WIRE, 3))?);
        assert_eq!((balloon.held(), total()), (0, before));
        Ok(())
    }

    #[test]
    fn pages_that_come_back_when_others_are_missing_are_counted() -> Result {
        let before = total();
        let balloon = Balloon::new(false)?;
        let idle = fill(&balloon, 10)?;
        assert_eq!((balloon.held(), balloon.uncounted()), (10, 0));
        assert_eq!(total(), before);
        drop(Acked::for_test(some(idle.deflate(WIRE, 10))?));
        assert_eq!((balloon.held(), total()), (0, before));
        Ok(())
    }

    #[test]
    fn a_balloon_that_goes_gives_all_back() -> Result {
        let before = total();
        let balloon = Balloon::new(true)?;
        drop(fill(&balloon, 200)?);
        drop(fill(&balloon, 200)?);
        assert_eq!((balloon.held(), total()), (400, before - 400));
        drop(balloon);
        assert_eq!(total(), before);
        Ok(())
    }

    #[test]
    fn the_same_numbers_go_in_and_out() -> Result {
        let balloon = Balloon::new(true)?;
        let most = balloon.units().pages_per_array();
        let transfer = some(Idle::new(&balloon)?.inflate(WIRE, usize::MAX))?;
        assert_eq!(transfer.pages(), most);
        let told = numbers(&transfer)?;
        assert_eq!(told.len(), most * balloon.units().per_page() as usize);
        let mut after = told.iter().skip(1);
        assert!(told
            .iter()
            .all(|one| after.next().is_none_or(|next| one < next)));
        let idle = Acked::for_test(transfer).finish();
        let transfer = some(idle.deflate(WIRE, usize::MAX))?;
        assert!(numbers(&transfer)?[..] == told[..]);
        Ok(())
    }

    #[test]
    fn a_page_is_moved_when_the_device_has_said_yes() -> Result {
        let (old, new) = (Page::new()?, Page::new()?);
        let balloon = balloon_with(&old)?;
        let device = Device::new(&balloon, Comes::ToItsEnd)?;
        let mover = Mover::new(&balloon, device);
        assert_eq!(migrate(&balloon, &old, &new), 0);
        assert_eq!((balloon.held(), new.references()), (1, 1));
        // Asked nobody, it is as if told to try again.
        drop(mover);
        assert_eq!(migrate(&balloon, &old, &new), EAGAIN.to_errno());
        Ok(())
    }

    #[test]
    fn a_page_that_is_not_told_of_may_be_tried_again() -> Result {
        let (old, new) = (Page::new()?, Page::new()?);
        let balloon = balloon_with(&old)?;
        let _mover = Mover::new(&balloon, Device::new(&balloon, Comes::Nowhere)?);
        assert_eq!(migrate(&balloon, &old, &new), EAGAIN.to_errno());
        assert_eq!((balloon.held(), new.references()), (1, 1));
        Ok(())
    }

    #[test]
    fn a_page_that_the_device_may_take_later_goes_into_the_balloon() -> Result {
        let before = total();
        let (old, new) = (Page::new()?, Page::new()?);
        let balloon = balloon_with(&old)?;
        let device = Device::new(&balloon, Comes::HalfWay)?;
        let mover = Mover::new(&balloon, device.clone());
        // Not to be tried again: something links the page.
        assert_eq!(migrate(&balloon, &old, &new), EBUSY.to_errno());
        assert_eq!((balloon.held(), new.references()), (1, 2));
        drop(mover);
        let transfer = device.has.lock().take().ok_or(EINVAL)?;
        drop(Acked::for_test(transfer));
        assert_eq!((balloon.held(), new.references()), (2, 2));
        assert_eq!(total(), before - 2);
        drop(device);
        drop(balloon);
        assert_eq!((new.references(), old.references()), (1, 1));
        assert_eq!(total(), before);
        Ok(())
    }

    #[test]
    fn an_event_is_not_missed() -> Result {
        let event = KBox::pin_init(Event::new(), GFP_KERNEL)?;
        let start = Instant::<Monotonic>::now();
        let seen = event.seen();
        event.notify();
        event.wait(seen, Delta::from_secs(100));
        assert!(start.elapsed() < Delta::from_secs(50));
        let start = Instant::<Monotonic>::now();
        event.wait(event.seen(), Delta::from_millis(30));
        assert!(start.elapsed() >= Delta::from_millis(20));
        Ok(())
    }

    #[test]
    fn a_task_is_done_until_it_is_stopped() -> Result {
        let count = Atomic::new(0);
        let task = Task::new(Counter { count, times: 3 })?;
        task.schedule();
        assert!(reaches(&task, 3));
        task.stop();
        task.schedule();
        fsleep(Delta::from_millis(50));
        assert_eq!(task.job().count.load(Relaxed), 3);
        task.allow();
        task.schedule();
        assert!(reaches(&task, 4));
        Ok(())
    }

    #[test]
    fn statistics_are_what_the_device_reads() -> Result {
        let sample = sample();
        assert!(sample.total >= sample.free && sample.free != 0);
        assert!(sample.events.is_some_and(|events| events.faults != 0));
        let stats = Stats::new(WIRE, PAGE_SHIFT as u32, &sample);
        let mut report = Report::new()?;
        report.set(&stats);
        report.pieces(|place| {
            let Place::Linear(memory, len) = place else {
                return Err(EINVAL);
            };
            // SAFETY: So many bytes are there.
            let bytes = unsafe { core::slice::from_raw_parts(memory.as_ptr(), len as usize) };
            assert!(bytes == stats.as_bytes());
            Ok(())
        })
    }
}
