// SPDX-License-Identifier: GPL-2.0

//! Queues of commands: callers that sleep, and a device that answers, lies, is late or is gone.

use crate::{
    commands::{
        Answer,
        CommandQueue,
        Memory,
        Parts,
        Silence, //
    },
    driver::Driver,
    fake::{
        wait_until,
        Behaviour,
        FakeDevice, //
    },
    lifecycle::{
        Configured,
        Init,
        Quiesced,
        Running, //
    },
    queue::{
        QueueSpec,
        Queues, //
    },
    tests::{
        device_of,
        Bench, //
    }, //
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
    time::{
        Delta,
        Instant,
        Monotonic, //
    },
    workqueue, //
};
use virtio_spec::{
    features::Class,
    negotiate::Requirement,
    DeviceType,
    Features,
    Status, //
};

/// Longer than anything here takes, in milliseconds.
const LONG: i64 = 60_000;

/// Longer than it takes to call a second time, in milliseconds, and short enough to be waited for.
const SHORT: i64 = 3_000;

/// What is where a status is to be written.
const NOT_WRITTEN: u8 = 0xff;

/// The class of devices with a queue of commands.
struct CommandClass;

impl Class for CommandClass {
    const DEVICE: DeviceType = DeviceType::new(0xfa4e_0003);
    const DEFINED: Features = Features::EMPTY;
    const REQUIREMENTS: &'static [Requirement] = &[];
    const NAMES: &'static [(u32, &'static str)] = &[];
}

/// A driver that leaves its queue to the test.
struct CommandDriver;

#[pin_data]
struct Kept {
    device: Arc<FakeDevice>,
    commands: Arc<CommandQueue>,
}

impl Driver for CommandDriver {
    type Class = CommandClass;
    type Data = Kept;

    fn queues(_dev: &Init<'_>) -> Result<KVec<QueueSpec>> {
        let mut specs = KVec::new();
        let spec = QueueSpec {
            name: c"control",
            interrupt: true,
        };
        specs.push(spec, GFP_KERNEL)?;
        Ok(specs)
    }

    fn probe(dev: &Configured<'_>, queues: &mut Queues<'_>) -> Result<impl PinInit<Kept, Error>> {
        let device = device_of(dev);
        let commands = CommandQueue::new(Silence::FailsFast)?;
        queues.take_commands(dev, 0, &commands)?;
        // No device may be notified before DRIVER_OK.
        if execute(&commands, 0, 0, LONG).err() != Some(EIO) {
            device.driver.early.add(1);
        }
        *device.commands.lock() = Some(commands.clone());
        Ok(try_pin_init!(Kept { device, commands }))
    }

    fn ready(_dev: &Running<'_>, data: Pin<&Kept>) -> Result {
        data.device.driver.ready.add(1);
        Ok(())
    }

    fn used_buffers(data: Pin<&Kept>, _queue: u32) {
        data.device.driver.used_buffers.add(1);
        data.commands.used();
    }

    fn remove(data: Pin<&Kept>) {
        data.device.driver.remove.add(1);
        data.commands.give_up();
    }

    fn quiesced(proof: &Quiesced<'_>, data: Pin<&Kept>) {
        data.commands.leave_ring(proof);
    }
}

/// Executes command `number`, with three bytes of data if there is to be a result.
fn execute(commands: &CommandQueue, number: u8, result_len: usize, millis: i64) -> Result<Answer> {
    let data = if result_len == 0 {
        Memory::zeroed(0)?
    } else {
        Memory::of_bytes(&[7], &[8, 9])?
    };
    let parts = Parts {
        header: &[number, 0x5a],
        data,
        status: &[NOT_WRITTEN],
        result_len,
    };
    commands.execute(parts, Delta::from_millis(millis))
}

/// A caller, on another thread.
#[pin_data]
struct Caller {
    #[pin]
    result: Mutex<Option<Result<Answer>>>,
}

impl Caller {
    /// What came of it: status, how many bytes of result, and its first ones.
    fn result(&self) -> Result<(u8, usize, [u8; 4])> {
        if !wait_until(|| self.is_back()) {
            pr_err!("a caller did not come back\n");
            return Err(EBUSY);
        }
        match self.result.lock().take() {
            Some(Ok(answer)) => Ok(shown(&answer)),
            Some(Err(error)) => Err(error),
            None => Err(EINVAL),
        }
    }

    fn is_back(&self) -> bool {
        self.result.lock().is_some()
    }
}

fn shown(answer: &Answer) -> (u8, usize, [u8; 4]) {
    let (mut status, mut result) = ([0], [0x77; 4]);
    answer.copy_status(&mut status);
    answer.copy_to(&mut result);
    (status[0], answer.result_len(), result)
}

type CommandBench = Bench<CommandDriver>;

fn bench() -> Result<CommandBench> {
    Bench::with_behaviour(Behaviour::HONEST)
}

impl CommandBench {
    fn commands(&self) -> Result<Arc<CommandQueue>> {
        self.device.commands.lock().clone().ok_or(ENODEV)
    }

    /// Has another thread execute command `number`; returns when the device can see it.
    fn call(&self, number: u8, result_len: usize, millis: i64) -> Result<Arc<Caller>> {
        let before = self.device.available(0);
        let caller = self.call_in_vain(number, result_len, millis)?;
        let made = || self.device.available(0) != before;
        check!(wait_until(|| made() || caller.is_back()));
        Ok(caller)
    }

    /// The same, but returns at once.
    fn call_in_vain(&self, number: u8, result_len: usize, millis: i64) -> Result<Arc<Caller>> {
        let commands = self.commands()?;
        let caller = Arc::pin_init(
            pin_init!(Caller {
                result <- new_mutex!(None),
            }),
            GFP_KERNEL,
        )?;
        let (its, work) = (caller.clone(), workqueue::system_unbound());
        work.try_spawn(GFP_KERNEL, move || {
            let result = execute(&commands, number, result_len, millis);
            *its.result.lock() = Some(result);
        })?;
        Ok(caller)
    }

    /// The device answers the next command with `status`, says that it wrote `written` bytes, and
    /// interrupts, for nothing if the caller looked just now; returns the number of the command.
    fn answer(&self, status: u8, written: u32) -> Result<u8> {
        let number = self.answer_quietly(status, written)?;
        self.device.interrupt(0);
        Ok(number)
    }

    fn answer_quietly(&self, status: u8, written: u32) -> Result<u8> {
        let mut number = 0;
        check!(self.device.serve(0, |chain| {
            number = chain.read(0)[0];
            let at = chain.parts().iter().position(|part| part.writable);
            if let Some(at) = at {
                chain.write(at, &[status]);
                chain.write(at + 1, &[number; 16]);
            }
            written
        }));
        Ok(number)
    }

    /// One command is answered as it should be.
    fn works(&self) -> Result {
        let caller = self.call(9, 4, LONG)?;
        check_eq!(self.answer(0, 5)?, 9);
        check_eq!(caller.result()?, (0, 4, [9; 4]));
        check_eq!(self.commands()?.in_flight(), 0);
        Ok(())
    }
}

#[kunit_tests(virtio_fake_commands)]
mod suite {
    use super::*;

    fn soon(start: Instant<Monotonic>) -> bool {
        start.elapsed() < Delta::from_millis(LONG / 2)
    }

    #[test]
    fn command_is_header_data_status_and_result() -> Result {
        let bench = bench()?;
        check_eq!(bench.device.driver.early.get(), 0);
        let caller = bench.call(1, 8, LONG)?;
        let mut seen = false;
        check!(bench.device.serve(0, |chain| {
            seen = chain.has([(2, false), (3, false), (1, true), (8, true)])
                && chain.read(0)[..2] == [1, 0x5a]
                && chain.read(1)[..3] == [7, 8, 9]
                && chain.read(2)[0] == NOT_WRITTEN
                && chain.read(3) == [0; 16];
            chain.write(2, &[0]);
            chain.write(3, &[1, 2, 3, 4, 5, 6, 7, 8]);
            9
        }));
        check!(seen);
        check!(!caller.is_back());
        bench.device.interrupt(0);
        check_eq!(caller.result()?, (0, 8, [1, 2, 3, 4]));
        // Without data and result, there is nothing of them.
        let caller = bench.call(1, 0, LONG)?;
        check!(bench.device.serve(0, |chain| {
            seen = chain.has([(2, false), (1, true)]);
            chain.write(1, &[1]);
            1
        }));
        check!(seen);
        bench.device.interrupt(0);
        check_eq!(caller.result()?, (1, 0, [0; 4]));
        Ok(())
    }

    #[test]
    fn queue_that_was_given_up_is_opened_again() -> Result {
        let bench = bench()?;
        let caller = bench.call(1, 4, LONG)?;
        bench.commands()?.give_up();
        check_eq!(caller.result().err(), Some(EIO));
        check_eq!(execute(&*bench.commands()?, 2, 0, LONG).err(), Some(EIO));
        bench.commands()?.reopen();
        // Nobody waits for it any more.
        check_eq!(bench.answer(0, 5)?, 1);
        bench.works()
    }

    #[test]
    fn status_that_is_not_written_is_as_it_was() -> Result {
        let bench = bench()?;
        let caller = bench.call(1, 4, LONG)?;
        check!(bench.device.serve(0, |_| 0));
        bench.device.interrupt(0);
        check_eq!(caller.result()?, (NOT_WRITTEN, 0, [0; 4]));
        bench.works()
    }

    #[test]
    fn result_is_what_the_device_says_it_wrote() -> Result {
        let bench = bench()?;
        for (written, len, result) in [
            (0, 0, [0; 4]),
            (1, 0, [0; 4]),
            (3, 2, [5, 5, 0, 0]),
            (9, 8, [5; 4]),
        ] {
            let caller = bench.call(5, 8, LONG)?;
            check_eq!(bench.answer(0, written)?, 5);
            check_eq!(caller.result()?, (0, len, result));
        }
        Ok(())
    }

    #[test]
    fn answer_is_no_longer_than_there_is_room() -> Result {
        let bench = bench()?;
        for written in [6, u32::MAX] {
            // Devices of this type may miscount; where they may not, the queue breaks.
            let caller = bench.call(1, 4, LONG)?;
            check_eq!(bench.answer(0, written)?, 1);
            check_eq!(caller.result()?, (0, 4, [1; 4]));
        }
        bench.works()
    }

    #[test]
    fn answer_to_no_command_breaks_the_queue() -> Result {
        let bench = bench()?;
        let caller = bench.call(1, 4, LONG)?;
        check!(bench.device.put_used(0, 7, 1));
        bench.device.interrupt(0);
        check_eq!(caller.result().err(), Some(EIO));
        check!(bench.device.driver.ready.becomes(2));
        bench.works()
    }

    #[test]
    fn silent_device_costs_one_deadline() -> Result {
        let bench = bench()?;
        let start = Instant::<Monotonic>::now();
        let caller = bench.call(1, 4, 150)?;
        check_eq!(caller.result().err(), Some(ETIMEDOUT));
        check!(start.elapsed() >= Delta::from_millis(150));
        let commands = bench.commands()?;
        let start = Instant::<Monotonic>::now();
        for _ in 0..8 {
            check_eq!(execute(&commands, 2, 4, LONG).err(), Some(EIO));
        }
        check!(soon(start));
        // The first one is still the device's, and the others never were.
        check_eq!(commands.in_flight(), 1);
        check_eq!(bench.answer(0, 5)?, 1);
        check_eq!(commands.in_flight(), 0);
        check!(bench.device.take(0).is_none());
        bench.works()
    }

    #[test]
    fn late_answer_without_interrupt_ends_the_silence() -> Result {
        let bench = bench()?;
        let caller = bench.call(1, 4, 20)?;
        check_eq!(caller.result().err(), Some(ETIMEDOUT));
        check_eq!(bench.answer_quietly(0, 5)?, 1);
        bench.works()
    }

    #[test]
    fn late_answer_is_not_that_of_a_newer_command() -> Result {
        let bench = bench()?;
        let old = bench.call(1, 4, SHORT)?;
        let new = bench.call(2, 4, LONG)?;
        check_eq!(old.result().err(), Some(ETIMEDOUT));
        check_eq!(bench.answer(1, 3)?, 1);
        check!(!new.is_back());
        check_eq!(bench.commands()?.in_flight(), 1);
        check_eq!(bench.answer(0, 5)?, 2);
        check_eq!(new.result()?, (0, 4, [2; 4]));
        bench.works()
    }

    #[test]
    fn device_that_answers_others_is_not_silent() -> Result {
        let bench = bench()?;
        let ignored = bench.call(1, 4, SHORT)?;
        let head = bench.device.take(0).ok_or(EINVAL)?;
        let other = bench.call(2, 4, LONG)?;
        check_eq!(bench.answer(0, 5)?, 2);
        check_eq!(other.result()?, (0, 4, [2; 4]));
        check_eq!(ignored.result().err(), Some(ETIMEDOUT));
        let next = bench.call(3, 4, LONG)?;
        check_eq!(bench.answer(0, 5)?, 3);
        check_eq!(next.result()?, (0, 4, [3; 4]));
        check!(bench.device.put_used(0, head.into(), 1));
        bench.device.interrupt(0);
        bench.works()
    }

    #[test]
    fn commands_are_answered_in_any_order() -> Result {
        let bench = bench()?;
        let callers = [
            bench.call(1, 0, LONG)?,
            bench.call(2, 0, LONG)?,
            bench.call(3, 0, LONG)?,
        ];
        let mut heads = [0; 3];
        for head in &mut heads {
            *head = bench.device.take(0).ok_or(EINVAL)?;
        }
        for at in [2, 0, 1] {
            check!(!callers[at].is_back());
            check!(bench.device.put_used(0, heads[at].into(), 0));
            bench.device.interrupt(0);
            check_eq!(callers[at].result()?, (NOT_WRITTEN, 0, [0; 4]));
        }
        bench.works()
    }

    #[test]
    fn callers_wait_for_room_in_their_order() -> Result {
        let bench = bench()?;
        // Two descriptors each.
        let first = [
            bench.call(0, 0, LONG)?,
            bench.call(1, 0, LONG)?,
            bench.call(2, 0, LONG)?,
            bench.call(3, 0, LONG)?,
        ];
        let commands = bench.commands()?;
        check_eq!(commands.in_flight(), 4);
        let mut late = KVec::new();
        for number in 4..7 {
            late.push(bench.call_in_vain(number, 0, LONG)?, GFP_KERNEL)?;
            check!(wait_until(|| commands.callers() == usize::from(number) + 1));
        }
        check_eq!(commands.in_flight(), 4);
        for number in 0..7 {
            check!(wait_until(
                || commands.in_flight() == 4.min(7 - usize::from(number))
            ));
            check_eq!(bench.answer(0, 1)?, number);
        }
        for caller in first.iter().chain(late.iter()) {
            check_eq!(caller.result()?, (0, 0, [0; 4]));
        }
        bench.works()
    }

    #[test]
    fn room_is_waited_for_until_the_deadline() -> Result {
        let bench = bench()?;
        let mut callers = KVec::new();
        for number in 0..4 {
            callers.push(bench.call(number, 0, LONG)?, GFP_KERNEL)?;
        }
        let commands = bench.commands()?;
        let start = Instant::<Monotonic>::now();
        check_eq!(execute(&commands, 4, 0, 50).err(), Some(ETIMEDOUT));
        check!(start.elapsed() >= Delta::from_millis(50));
        // A device that makes no room is silent.
        check_eq!(execute(&commands, 5, 0, LONG).err(), Some(EIO));
        check!(soon(start));
        check_eq!(commands.in_flight(), 4);
        for (number, caller) in callers.iter().enumerate() {
            check_eq!(usize::from(bench.answer(0, 1)?), number);
            check_eq!(caller.result()?, (0, 0, [0; 4]));
        }
        bench.works()
    }

    #[test]
    fn answer_without_interrupt_is_found() -> Result {
        let bench = bench()?;
        let start = Instant::<Monotonic>::now();
        let caller = bench.call(1, 4, LONG)?;
        check_eq!(bench.answer_quietly(0, 5)?, 1);
        check_eq!(caller.result()?, (0, 4, [1; 4]));
        check!(soon(start));
        Ok(())
    }

    #[test]
    fn device_that_is_gone_is_noticed() -> Result {
        let bench = bench()?;
        let start = Instant::<Monotonic>::now();
        let caller = bench.call(1, 4, LONG)?;
        // As a transport does it, which tells nobody.
        bench.dev().break_queues();
        check_eq!(caller.result().err(), Some(EIO));
        check!(soon(start));
        let commands = bench.commands()?;
        check_eq!(execute(&commands, 2, 4, LONG).err(), Some(EIO));
        bench.unbind();
        check!(bench.is_clean());
        Ok(())
    }

    #[test]
    fn notification_that_does_not_get_through_is_an_error() -> Result {
        let bench = bench()?;
        bench.device.script(|b| b.deaf = true);
        let start = Instant::<Monotonic>::now();
        let commands = bench.commands()?;
        check_eq!(execute(&commands, 1, 4, LONG).err(), Some(EIO));
        check!(soon(start));
        // The device may look at it all the same.
        check_eq!(commands.in_flight(), 1);
        bench.unbind();
        check!(bench.is_clean());
        Ok(())
    }

    #[test]
    fn removal_wakes_those_who_wait() -> Result {
        let bench = bench()?;
        let commands = bench.commands()?;
        let callers = [bench.call(1, 4, LONG)?, bench.call(2, 0, LONG)?];
        // The device has seen one of them.
        check!(bench.device.take(0).is_some());
        let start = Instant::<Monotonic>::now();
        bench.unbind();
        for caller in callers {
            check_eq!(caller.result().err(), Some(EIO));
        }
        check!(soon(start));
        check!(bench.is_clean());
        // And nobody comes in any more.
        check!(!commands.is_open());
        check_eq!(execute(&commands, 3, 0, LONG).err(), Some(EIO));
        Ok(())
    }

    #[test]
    fn device_that_does_not_reset_keeps_what_it_has() -> Result {
        let bench = bench()?;
        let caller = bench.call(1, 4, LONG)?;
        bench.device.script(|b| b.never_resets = true);
        bench.unbind();
        check_eq!(caller.result().err(), Some(EIO));
        check!(bench.is_clean());
        Ok(())
    }

    #[test]
    fn reset_wakes_those_who_wait() -> Result {
        let bench = bench()?;
        let caller = bench.call(1, 4, LONG)?;
        let start = Instant::<Monotonic>::now();
        bench.device.raise_status(Status::DEVICE_NEEDS_RESET);
        bench.device.config_interrupt(bench.dev());
        check_eq!(caller.result().err(), Some(EIO));
        check!(soon(start));
        check!(bench.device.driver.ready.becomes(2));
        bench.works()
    }

    #[test]
    fn reset_ends_the_silence() -> Result {
        let bench = bench()?;
        let caller = bench.call(1, 4, 20)?;
        check_eq!(caller.result().err(), Some(ETIMEDOUT));
        bench.device.raise_status(Status::DEVICE_NEEDS_RESET);
        bench.device.config_interrupt(bench.dev());
        check!(bench.device.driver.ready.becomes(2));
        bench.works()
    }
}
