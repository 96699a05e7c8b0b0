// SPDX-License-Identifier: GPL-2.0

//! Binding and unbinding: status, features, and what is left after a failure (specification 3.1).

use crate::{
    fake::{
        Behaviour,
        Event,
        FakeDevice, //
    },
    tests::{
        register,
        timed,
        Bench,
        BOUND,
        BUFFERS,
        DEVICE,
        FEATURE_A,
        FEATURE_B,
        FEATURE_C, //
    }, //
};
use kernel::{
    faux,
    prelude::*, //
};
use virtio_spec::{
    transport::Version1,
    Features,
    Status, //
};

#[kunit_tests(virtio_fake_binding)]
mod suite {
    use super::*;

    const ACK: u8 = 1;
    const DRIVER: u8 = 2;
    const FEATURES_OK: u8 = 8;
    const FAILED: u8 = 0x80;
    const AGREED: Features = Features::EMPTY.with::<Version1>();

    #[test]
    fn status_is_written_step_by_step() -> Result {
        let bench = Bench::new()?;
        bench.unbind();
        bench.device.take_log()?;
        check!(bench.bind().is_ok());
        let log = bench.device.take_log()?;
        check_eq!(
            log.as_slice(),
            [
                Event::Status(ACK | DRIVER),
                Event::Features(AGREED),
                Event::Status(ACK | DRIVER | FEATURES_OK),
                Event::FindQueues(1),
                Event::Status(BOUND),
            ]
        );
        Ok(())
    }

    #[test]
    fn unbinding_resets_before_the_queues_go() -> Result {
        let bench = Bench::new()?;
        check_eq!(bench.device.driver.buffers.get(), BUFFERS);
        bench.unbind();
        let log = bench.device.take_log()?;
        check_eq!(
            log.as_slice(),
            [Event::Reset, Event::DeleteQueues, Event::Status(ACK)]
        );
        check_eq!(bench.device.driver.remove.get(), 1);
        check!(bench.is_clean());
        Ok(())
    }

    #[test]
    fn features_are_what_driver_and_device_have() -> Result {
        let offered = AGREED
            .with_bit(FEATURE_A)
            .with_bit(FEATURE_C)
            .with_bit(7)
            .with_bit(127);
        let bench = Bench::with_features(offered)?;
        let agreed = AGREED.with_bit(FEATURE_A).with_bit(FEATURE_C);
        check_eq!(bench.dev().features(), agreed);
        bench.unbind();
        bench.device.take_log()?;
        check!(bench.bind().is_ok());
        let log = bench.device.take_log()?;
        check_eq!(log.get(1), Some(&Event::Features(agreed)));
        Ok(())
    }

    #[test]
    fn feature_without_its_requirement_is_given_up() -> Result {
        let bench = Bench::with_features(AGREED.with_bit(FEATURE_B).with_bit(FEATURE_C))?;
        check_eq!(bench.dev().features(), AGREED.with_bit(FEATURE_C));
        Ok(())
    }

    #[test]
    fn legacy_device_sees_no_features_ok() -> Result {
        let bench = Bench::with_features(Features::EMPTY.with_bit(FEATURE_A))?;
        check_eq!(bench.device.status(), BOUND & !FEATURES_OK);
        check_eq!(bench.dev().features(), Features::EMPTY.with_bit(FEATURE_A));
        Ok(())
    }

    #[test]
    fn refused_features_end_the_probe() -> Result {
        let bench = Bench::new()?;
        bench.unbind();
        bench.device.script(|b| b.refuses_features = true);
        check_eq!(bench.bind(), Err(ENODEV));
        check_eq!(bench.device.status(), ACK | DRIVER | FAILED);
        check_eq!(bench.device.driver.probe.get(), 1);
        check!(!bench.is_bound());
        check!(bench.is_clean());
        Ok(())
    }

    #[test]
    fn status_that_sticks_ends_the_probe() -> Result {
        let bench = Bench::new()?;
        bench.unbind();
        bench.device.script(|b| b.status_sticks = true);
        check_eq!(bench.bind(), Err(ENODEV));
        check_eq!(bench.device.status(), ACK);
        check!(bench.is_clean());
        Ok(())
    }

    #[test]
    fn device_of_all_ones_ends_the_probe() -> Result {
        let bench = Bench::new()?;
        bench.unbind();
        bench.device.script(|b| b.gone = true);
        let (result, promptly) = timed(|| bench.bind());
        check!(matches!(result, Err(error) if error == ENODEV || error == EIO));
        check!(promptly);
        check!(bench.is_clean());
        Ok(())
    }

    #[test]
    fn device_that_failed_is_reset_before_it_is_bound_again() -> Result {
        let bench = Bench::new()?;
        bench.unbind();
        bench.device.script(|b| b.refuses_features = true);
        check_eq!(bench.bind(), Err(ENODEV));
        bench.device.script(|b| b.refuses_features = false);
        bench.device.take_log()?;
        check!(bench.bind().is_ok());
        let log = bench.device.take_log()?;
        check_eq!(
            log.get(..3),
            Some(
                [
                    Event::Reset,
                    Event::Status(ACK),
                    Event::Status(ACK | DRIVER)
                ]
                .as_slice()
            )
        );
        check_eq!(bench.device.status(), BOUND);
        Ok(())
    }

    #[test]
    fn failure_of_the_queues_callback_leaves_nothing() -> Result {
        let bench = Bench::new()?;
        bench.unbind();
        bench.device.driver.fail_queues.add(1);
        check_eq!(bench.bind(), Err(ENXIO));
        check_eq!(bench.device.status() & FAILED, FAILED);
        check!(bench.is_clean());
        Ok(())
    }

    #[test]
    fn failure_of_the_transport_to_make_queues_leaves_nothing() -> Result {
        let bench = Bench::new()?;
        bench.unbind();
        bench.device.script(|b| b.find_queues = Err(EIO));
        check_eq!(bench.bind(), Err(EIO));
        check_eq!(bench.device.status(), ACK | DRIVER | FEATURES_OK | FAILED);
        check_eq!(bench.device.driver.probe.get(), 1);
        check!(bench.is_clean());
        Ok(())
    }

    #[test]
    fn failure_of_probe_gives_the_buffers_back() -> Result {
        let bench = Bench::new()?;
        bench.unbind();
        bench.device.driver.fail_probe.add(1);
        check_eq!(bench.bind(), Err(ENXIO));
        check_eq!(bench.device.status() & FAILED, FAILED);
        check_eq!(bench.device.driver.probe.get(), 2);
        check!(bench.is_clean());
        Ok(())
    }

    #[test]
    fn failure_of_ready_removes_the_driver() -> Result {
        let bench = Bench::new()?;
        bench.unbind();
        bench.device.driver.fail_ready.add(1);
        check_eq!(bench.bind(), Err(ENXIO));
        check_eq!(bench.device.driver.remove.get(), 2);
        check_eq!(bench.device.status() & FAILED, FAILED);
        check!(bench.is_clean());
        Ok(())
    }

    #[test]
    fn device_that_does_not_reset_is_not_put_on_the_bus() -> Result {
        let mut behaviour = Behaviour::HONEST;
        behaviour.never_resets = true;
        let device = FakeDevice::new(behaviour)?;
        device.raise_status(Status::DRIVER_OK);
        let parent = faux::Registration::new(c"virtio_fake", None)?;
        let (result, promptly) = timed(|| register(&parent, DEVICE, &device).map(drop));
        check_eq!(result, Err(EIO));
        check!(promptly);
        check_eq!(device.status() & FAILED, FAILED);
        check_eq!(device.driver.transport_dropped.get(), 1);
        Ok(())
    }

    #[test]
    fn unbinding_from_a_device_that_does_not_reset_frees_no_buffer() -> Result {
        let bench = Bench::new()?;
        bench.device.script(|b| b.never_resets = true);
        let ((), promptly) = timed(|| bench.unbind());
        check!(promptly);
        let log = &bench.device.driver;
        check_eq!(log.remove.get(), 1);
        check_eq!(log.data.get(), 0);
        check_eq!(log.buffers.get(), BUFFERS);
        check!(!bench.device.has_queues());
        // A dead device keeps its status.
        check_eq!(bench.device.status(), BOUND);
        Ok(())
    }

    #[test]
    fn unbinding_from_a_device_of_all_ones_frees_no_buffer() -> Result {
        let bench = Bench::new()?;
        bench.device.script(|b| b.gone = true);
        let ((), promptly) = timed(|| bench.unbind());
        check!(promptly);
        check_eq!(bench.device.driver.data.get(), 0);
        check_eq!(bench.device.driver.buffers.get(), BUFFERS);
        Ok(())
    }

    #[test]
    fn unregistering_drops_the_transport() -> Result {
        let bench = Bench::new()?;
        let device = bench.device.clone();
        drop(bench);
        check_eq!(device.driver.remove.get(), 1);
        check_eq!(device.driver.data.get(), 0);
        check_eq!(device.driver.buffers.get(), 0);
        check_eq!(device.driver.transport_dropped.get(), 1);
        Ok(())
    }
}
