// SPDX-License-Identifier: GPL-2.0

//! Sleeping with the state kept (`VIRTIO_F_SUSPEND`, specification 3.4), and without where that fails.

use crate::{
    device::Device,
    driver::Driver,
    fake::{
        Behaviour,
        Counted,
        Event,
        FakeDevice,
        Obedience, //
    },
    lifecycle::{
        Configured,
        Init,
        Quiesced,
        Running, //
    },
    queue::{
        QueueSpec,
        Queues,
        Virtqueue, //
    },
    suspend::{
        self,
        Asleep, //
    },
    tests::{
        device_of,
        timed,
        Bench,
        TestDriver,
        BOUND,
        BUFFERS, //
    }, //
};
use kernel::{
    new_spinlock_irq,
    prelude::*,
    sync::{
        Arc,
        SpinLockIrq, //
    }, //
};
use virtio_spec::{
    features::Class,
    negotiate::Requirement,
    transport::Suspend,
    DeviceType,
    Features,
    Status, //
};

/// The class of devices whose driver keeps its data.
struct KeepingClass;

impl Class for KeepingClass {
    const DEVICE: DeviceType = DeviceType::new(0xfa4e_0003);
    const DEFINED: Features = Features::EMPTY;
    const REQUIREMENTS: &'static [Requirement] = &[];
    const NAMES: &'static [(u32, &'static str)] = &[];
}

/// A driver that keeps its data, and lends buffers.
struct KeepingDriver;

#[pin_data]
struct Kept {
    device: Arc<FakeDevice>,
    #[pin]
    queue: SpinLockIrq<Option<Virtqueue<Counted>>>,
}

/// Takes the queue, full of buffers.
fn filled(
    dev: &Configured<'_>,
    queues: &mut Queues<'_>,
    device: &Arc<FakeDevice>,
) -> Result<Virtqueue<Counted>> {
    let mut queue = queues.take::<Counted>(dev, 0)?;
    for _ in 0..BUFFERS {
        queue
            .add(Counted::new(device)?)
            .map_err(|_not_added| ENOSPC)?;
    }
    Ok(queue)
}

/// Makes the buffers available.
fn kick(data: &Kept) {
    let notification = match &mut *data.queue.lock() {
        Some(queue) => queue.kick(),
        None => None,
    };
    if let Some(notification) = notification {
        notification.send();
    }
}

impl Driver for KeepingDriver {
    type Class = KeepingClass;
    type Data = Kept;

    const KEEPS_DATA: bool = true;

    fn queues(_dev: &Init<'_>) -> Result<KVec<QueueSpec>> {
        let mut specs = KVec::new();
        let spec = QueueSpec {
            name: c"in",
            interrupt: true,
        };
        specs.push(spec, GFP_KERNEL)?;
        Ok(specs)
    }

    fn probe(dev: &Configured<'_>, queues: &mut Queues<'_>) -> Result<impl PinInit<Kept, Error>> {
        let device = device_of(dev);
        device.driver.probe.add(1);
        let queue = Some(filled(dev, queues, &device)?);
        Ok(try_pin_init!(Kept {
            device,
            queue <- new_spinlock_irq!(queue),
        }))
    }

    fn ready(_dev: &Running<'_>, data: Pin<&Kept>) -> Result {
        kick(&data);
        Ok(())
    }

    fn used_buffers(data: Pin<&Kept>, _queue: u32) {
        let mut queue = data.queue.lock();
        let Some(queue) = &mut *queue else {
            return;
        };
        while let Some(completed) = queue.get_buf() {
            data.device.driver.completed.add(1);
            data.device.driver.bytes.add(completed.written() as i32);
        }
    }

    fn config_changed(_dev: &Running<'_>, data: Pin<&Kept>) {
        data.device.driver.config_changed.add(1);
    }

    fn remove(data: Pin<&Kept>) {
        data.device.driver.remove.add(1);
    }

    fn pause(_dev: &Device, data: Pin<&Kept>) {
        data.device.driver.pause.add(1);
    }

    fn quiesced(_proof: &Quiesced<'_>, data: Pin<&Kept>) {
        data.device.driver.quiesced.add(1);
        let queue = data.queue.lock().take();
        drop(queue);
    }

    fn resume(dev: &Configured<'_>, queues: &mut Queues<'_>, data: Pin<&Kept>) -> Result {
        data.device.driver.resume.add(1);
        let queue = filled(dev, queues, &data.device)?;
        *data.queue.lock() = Some(queue);
        Ok(())
    }

    fn resumed(_dev: &Running<'_>, data: Pin<&Kept>) {
        kick(&data);
        data.device.driver.resumed.add(1);
    }
}

/// A device that can be suspended, and the driver for it.
fn bench() -> Result<Bench<KeepingDriver>> {
    let mut behaviour = Behaviour::HONEST;
    behaviour.features = behaviour.features.with::<Suspend>();
    Bench::with_behaviour(behaviour)
}

impl<D: Driver> Bench<D> {
    /// The device uses a buffer, and the driver hears of it.
    fn goes_on(&self) -> bool {
        let before = self.device.driver.completed.get();
        self.device.use_buffer(0, 5)
            && self.device.interrupt(0)
            && self.device.driver.completed.get() == before + 1
    }

    /// The driver was asked for: pauses, ends of a device, new starts, and old ones.
    fn asked(&self) -> [i32; 4] {
        let log = &self.device.driver;
        [&log.pause, &log.quiesced, &log.resume, &log.resumed].map(|count| count.get())
    }
}

#[kunit_tests(virtio_fake_suspend)]
mod suite {
    use super::*;

    const ASLEEP: u8 = BOUND & !Status::DRIVER_OK.bits() | Status::SUSPEND.bits();
    const WRITTEN: u8 = BOUND | Status::SUSPEND.bits();

    #[test]
    fn device_keeps_its_queues_and_buffers() -> Result {
        let bench = bench()?;
        check_eq!(suspend::suspend(bench.dev()), Ok(Asleep::Suspended));
        check_eq!(bench.device.status(), ASLEEP);
        check_eq!(bench.asked(), [1, 0, 0, 0]);
        check_eq!(bench.device.driver.buffers.get(), BUFFERS);
        check!(suspend::resume(bench.dev()).is_ok());
        check_eq!(bench.device.status(), BOUND);
        check_eq!(bench.asked(), [1, 0, 0, 1]);
        // One write each, and no reset.
        check_eq!(
            bench.device.take_log()?.as_slice(),
            [Event::Status(WRITTEN), Event::Status(WRITTEN)]
        );
        check!(bench.goes_on());
        check_eq!(bench.device.driver.probe.get(), 1);
        Ok(())
    }

    #[test]
    fn device_sleeps_again_and_again() -> Result {
        let bench = bench()?;
        for _ in 0..3 {
            check_eq!(suspend::suspend(bench.dev()), Ok(Asleep::Suspended));
            check!(suspend::resume(bench.dev()).is_ok());
        }
        check_eq!(bench.asked(), [3, 0, 0, 3]);
        check!(bench.goes_on());
        Ok(())
    }

    #[test]
    fn changes_meanwhile_are_delivered_once_after() -> Result {
        let bench = bench()?;
        suspend::suspend(bench.dev())?;
        bench.device.config_interrupt(bench.dev());
        bench.device.config_interrupt(bench.dev());
        check_eq!(bench.device.driver.config_changed.get(), 0);
        suspend::resume(bench.dev())?;
        check_eq!(bench.device.driver.config_changed.get(), 1);
        Ok(())
    }

    #[test]
    fn device_without_the_feature_is_reset_as_ever() -> Result {
        let bench = Bench::<KeepingDriver>::with_behaviour(Behaviour::HONEST)?;
        check_eq!(suspend::suspend(bench.dev()), Ok(Asleep::Frozen));
        check_eq!(bench.asked(), [1, 1, 0, 0]);
        check_eq!(
            bench.device.take_log()?.as_slice(),
            [Event::Reset, Event::DeleteQueues]
        );
        check!(crate::lifecycle::restore(bench.dev()).is_ok());
        check_eq!(bench.asked(), [1, 1, 1, 1]);
        check!(bench.goes_on());
        Ok(())
    }

    #[test]
    fn driver_that_keeps_nothing_does_not_ask_for_it() -> Result {
        let features = Behaviour::HONEST.features;
        let bench = Bench::<TestDriver>::with_features(features.with::<Suspend>())?;
        check_eq!(bench.dev().features(), features);
        check_eq!(suspend::suspend(bench.dev()), Ok(Asleep::Frozen));
        check_eq!(bench.device.status(), 0);
        Ok(())
    }

    #[test]
    fn device_that_never_suspends_is_reset() -> Result {
        let bench = bench()?;
        bench.device.script(|b| b.on_suspend = Obedience::Ignores);
        let (result, promptly) = timed(|| suspend::suspend(bench.dev()));
        check_eq!(result, Ok(Asleep::Frozen));
        check!(promptly);
        check_eq!(bench.asked(), [1, 1, 0, 0]);
        check!(bench.is_clean());
        check!(crate::lifecycle::restore(bench.dev()).is_ok());
        check_eq!(bench.asked(), [1, 1, 1, 1]);
        check!(bench.goes_on());
        Ok(())
    }

    #[test]
    fn device_that_fails_to_suspend_is_reset_at_once() -> Result {
        let bench = bench()?;
        bench.device.script(|b| b.on_suspend = Obedience::Fails);
        check_eq!(suspend::suspend(bench.dev()), Ok(Asleep::Frozen));
        check_eq!(bench.device.status(), 0);
        check!(crate::lifecycle::restore(bench.dev()).is_ok());
        check!(bench.goes_on());
        Ok(())
    }

    #[test]
    fn device_that_never_resumes_is_reset() -> Result {
        let bench = bench()?;
        suspend::suspend(bench.dev())?;
        bench.device.script(|b| b.on_resume = Obedience::Ignores);
        let (result, promptly) = timed(|| suspend::resume(bench.dev()));
        check!(result.is_ok());
        check!(promptly);
        check_eq!(bench.asked(), [1, 1, 1, 1]);
        check_eq!(bench.device.status(), BOUND);
        check!(bench.goes_on());
        Ok(())
    }

    #[test]
    fn device_that_fails_to_resume_is_reset() -> Result {
        let bench = bench()?;
        suspend::suspend(bench.dev())?;
        bench.device.script(|b| b.on_resume = Obedience::Fails);
        check!(suspend::resume(bench.dev()).is_ok());
        check_eq!(bench.asked(), [1, 1, 1, 1]);
        check!(bench.goes_on());
        Ok(())
    }

    #[test]
    fn device_that_lost_its_state_is_started_anew() -> Result {
        let bench = bench()?;
        suspend::suspend(bench.dev())?;
        bench.device.lose_state();
        bench.device.take_log()?;
        check!(suspend::resume(bench.dev()).is_ok());
        check_eq!(bench.asked(), [1, 1, 1, 1]);
        check_eq!(bench.device.take_log()?.first(), Some(&Event::Reset));
        check!(bench.goes_on());
        Ok(())
    }

    #[test]
    fn device_that_is_gone_is_given_up() -> Result {
        let bench = bench()?;
        suspend::suspend(bench.dev())?;
        bench.device.script(|b| b.gone = true);
        let (result, promptly) = timed(|| suspend::resume(bench.dev()));
        check_eq!(result, Err(EIO));
        check!(promptly);
        bench.device.script(|b| b.gone = false);
        Ok(())
    }

    #[test]
    fn broken_queue_is_not_kept() -> Result {
        let bench = bench()?;
        suspend::suspend(bench.dev())?;
        check!(bench.device.put_used(0, 0x7fff, 0));
        bench.device.interrupt(0);
        check!(suspend::resume(bench.dev()).is_ok());
        check_eq!(bench.asked(), [1, 1, 1, 1]);
        check!(bench.goes_on());
        Ok(())
    }

    #[test]
    fn need_of_a_reset_while_resuming_is_not_lost() -> Result {
        let bench = bench()?;
        suspend::suspend(bench.dev())?;
        check!(suspend::resume(bench.dev()).is_ok());
        bench.device.raise_status(Status::DEVICE_NEEDS_RESET);
        bench.device.config_interrupt(bench.dev());
        check!(bench.device.driver.resume.becomes(1));
        Ok(())
    }

    #[test]
    fn sleeping_device_can_be_unbound() -> Result {
        let bench = bench()?;
        suspend::suspend(bench.dev())?;
        bench.unbind();
        check!(bench.is_clean());
        check!(suspend::resume(bench.dev()).is_ok());
        check!(bench.bind().is_ok());
        check!(bench.goes_on());
        Ok(())
    }
}
