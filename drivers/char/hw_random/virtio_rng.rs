// SPDX-License-Identifier: GPL-2.0

//! Entropy driver: `/dev/hwrng` from a virtio device (specification 5.4).
//!
//! Two buffers are with the device, or with its bytes in our hands.  Every byte that the device
//! wrote is handed out once, in the order of the device, and wiped.

#![forbid(unsafe_code)]

use hw_random::{
    Generator,
    ReadBuf,
    Registration, //
};
use kernel::{
    prelude::*,
    sync::{
        new_condvar,
        new_mutex,
        new_spinlock_irq,
        Arc,
        CondVar,
        CondVarTimeoutResult,
        Mutex,
        SpinLockIrq, //
    },
    time::{
        msecs_to_jiffies,
        Jiffies, //
    },
};
use virtio::{
    buffer::{
        Completed,
        DeviceWritable, //
    },
    driver::Driver,
    lifecycle::{
        Configured,
        Init,
        Running, //
    },
    queue::{
        QueueSpec,
        Queues,
        Virtqueue, //
    },
};
use virtio_spec::rng::{
    Rng,
    REQUEST_QUEUE, //
};

virtio::module_virtio_driver! {
    type: VirtioRng,
    name: "virtio_rng",
    authors: ["The rust-virtio authors"],
    description: "Virtio random number driver",
    license: "GPL",
    alias: ["virtio:d00000004v*"],
}

/// Bytes of one buffer: one kick and one interrupt for each.
const BUFFER_SIZE: usize = 2048;

/// Buffers of a device.
const BUFFERS: usize = 2;

/// How long a reader waits for the device, in milliseconds.
const READ_DEADLINE_MS: u32 = 30_000;

/// The same while the device has not answered the reader before: readers wait for each other, and
/// none of them is to wait for the silence of all.
const SILENT_DEADLINE_MS: u32 = 10_000;

/// Empty buffers in a row that a reader puts up with.
const MAX_EMPTY: u32 = 8;

type Buffer = DeviceWritable<BUFFER_SIZE>;

struct VirtioRng;

/// What the driver keeps of a device.
#[pin_data]
struct Data {
    source: Arc<Source>,
    /// Set while registered with the hwrng core.
    #[pin]
    registration: Mutex<Option<Pin<KBox<Registration<Source>>>>>,
}

/// Where the bytes come from.
#[pin_data]
struct Source {
    #[pin]
    state: SpinLockIrq<State>,
    /// Woken by the device's interrupt, and at the end.
    #[pin]
    used: CondVar,
}

/// # Invariants
///
/// `position` is at most the number of bytes that the device wrote to the first of `filled`, and 0
/// if there is none.
struct State {
    queue: Virtqueue<Buffer>,
    /// What the device gave, in its order, without gaps.
    filled: [Option<Completed<Buffer>>; BUFFERS],
    /// How much of the first of them is read.
    position: usize,
    /// Buffers that could not be lent, to be tried again.
    spare: [Option<Buffer>; BUFFERS],
    /// Empty buffers in a row.
    empty: u32,
    /// A reader waited in vain, and the device has given nothing since.
    silent: bool,
    removed: bool,
}

impl State {
    /// Lends `buffer` to the device again; keeps it if that is not possible now.
    fn lend(&mut self, buffer: Buffer) {
        if let Err(error) = self.queue.add(buffer) {
            if let Some(free) = self.spare.iter_mut().find(|slot| slot.is_none()) {
                *free = Some(error.buffer);
            }
        }
    }

    /// Tries to lend what could not be lent before.
    fn lend_spare(&mut self) {
        for at in 0..BUFFERS {
            if let Some(buffer) = self.spare.get_mut(at).and_then(Option::take) {
                self.lend(buffer);
            }
        }
    }

    /// Takes from the device what it has used, before it can take its word back.
    fn fetch(&mut self) {
        for free in self.filled.iter_mut().filter(|slot| slot.is_none()) {
            *free = self.queue.get_buf();
            if free.is_none() {
                break;
            }
            self.silent = false;
        }
    }

    /// Moves bytes to `out` until it is full or the device has given no more.
    ///
    /// # Errors
    ///
    /// `EIO` from a device that gives empty buffers, or broke its queue.
    fn copy(&mut self, out: &mut ReadBuf<'_>) -> Result {
        self.lend_spare();
        while out.remaining() != 0 {
            self.fetch();
            let Some(mut first) = self.filled.first_mut().and_then(Option::take) else {
                return if self.queue.is_broken() {
                    Err(EIO)
                } else {
                    Ok(())
                };
            };
            let fresh = first
                .bytes_mut()
                .get_mut(self.position..)
                .unwrap_or_default();
            let count = out.write(fresh);
            if let Some(taken) = fresh.get_mut(..count) {
                taken.fill(0);
            }
            self.position += count;
            if self.position < first.written() as usize {
                // INVARIANT: Less than what was written.
                self.filled[0] = Some(first);
            } else {
                self.filled.rotate_left(1);
                self.position = 0;
                let was_empty = first.written() == 0;
                self.lend(first.into_inner());
                self.empty = if was_empty { self.empty + 1 } else { 0 };
                if self.empty > MAX_EMPTY {
                    self.empty = 0;
                    return Err(EIO);
                }
            }
        }
        Ok(())
    }
}

impl Generator for Source {
    fn read(&self, out: &mut ReadBuf<'_>, wait: bool) -> Result {
        let mut state = self.state.lock();
        let mut left: Jiffies = msecs_to_jiffies(if state.silent {
            SILENT_DEADLINE_MS
        } else {
            READ_DEADLINE_MS
        });
        loop {
            if state.removed {
                return Err(ENODEV);
            }
            let copied = state.copy(out);
            if let Some(notification) = state.queue.kick() {
                // Not under the lock; and since others may have come meanwhile, from the start.
                drop(state);
                notification.send();
                copied?;
                if out.remaining() == 0 {
                    return Ok(());
                }
                state = self.state.lock();
                continue;
            }
            copied?;
            if out.remaining() == 0 || !wait {
                return Ok(());
            }
            left = match self.used.wait_interruptible_timeout(&mut state, left) {
                CondVarTimeoutResult::Woken { jiffies } => jiffies,
                CondVarTimeoutResult::Timeout => {
                    state.silent = true;
                    return Err(ETIMEDOUT);
                }
                CondVarTimeoutResult::Signal { .. } => return Err(ERESTARTSYS),
            };
        }
    }
}

impl Driver for VirtioRng {
    type Class = Rng;
    type Data = Data;

    fn queues(_dev: &Init<'_>) -> Result<KVec<QueueSpec>> {
        let mut queues = KVec::new();
        queues.push(
            QueueSpec {
                name: c"input",
                interrupt: true,
            },
            GFP_KERNEL,
        )?;
        Ok(queues)
    }

    fn probe(dev: &Configured<'_>, queues: &mut Queues<'_>) -> Result<impl PinInit<Data, Error>> {
        let mut queue = queues.take::<Buffer>(dev, usize::from(REQUEST_QUEUE))?;
        let mut spare = [const { None }; BUFFERS];
        for slot in &mut spare {
            // What there is no room for now is tried again when somebody reads.
            if let Err(error) = queue.add(Buffer::new()?) {
                *slot = Some(error.buffer);
            }
        }
        let source = Arc::pin_init(
            pin_init!(Source {
                state <- new_spinlock_irq!(State {
                    queue,
                    filled: [const { None }; BUFFERS],
                    position: 0,
                    spare,
                    empty: 0,
                    silent: false,
                    removed: false,
                }),
                used <- new_condvar!(),
            }),
            GFP_KERNEL,
        )?;
        Ok(try_pin_init!(Data {
            source,
            registration <- new_mutex!(None),
        }))
    }

    fn ready(dev: &Running<'_>, data: Pin<&Data>) -> Result {
        let notification = data.source.state.lock().queue.kick();
        if let Some(notification) = notification {
            notification.send();
        }
        let registration = Registration::numbered(c"virtio_rng", 0, data.source.clone())?;
        dev_info!(dev.as_device(), "registered as {}\n", registration.name());
        *data.registration.lock() = Some(registration);
        Ok(())
    }

    fn used_buffers(data: Pin<&Data>, _queue: u32) {
        // A reader that found nothing holds the lock until it waits: with it, none is missed.
        data.source.state.lock().fetch();
        data.source.used.notify_all();
    }

    fn remove(data: Pin<&Data>) {
        data.source.state.lock().removed = true;
        data.source.used.notify_all();
        let registration = data.registration.lock().take();
        drop(registration);
    }
}

#[kunit_tests(virtio_rng_read_buf)]
mod tests {
    use super::*;
    use core::mem::MaybeUninit;

    #[test]
    fn takes_what_fits_in_order() {
        let mut room = [MaybeUninit::uninit(); 4];
        let mut out = ReadBuf::new(&mut room);
        assert_eq!((out.remaining(), out.filled()), (4, 0));
        assert_eq!(out.write(&[1, 2, 3]), 3);
        assert_eq!(out.write(&[4, 5]), 1);
        assert_eq!(out.write(&[6]), 0);
        assert_eq!((out.remaining(), out.filled()), (0, 4));
    }
}
