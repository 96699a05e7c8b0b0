// SPDX-License-Identifier: GPL-2.0

//! Freeze and restore, reset under the driver, shutdown.

use crate::{
    fake::{
        Behaviour,
        Event, //
    },
    lifecycle,
    tests::{
        timed,
        Bench,
        BOUND,
        BUFFERS,
        FEATURE_A,
        FEATURE_C, //
    }, //
};
use kernel::prelude::*;
use virtio_spec::Status;

#[kunit_tests(virtio_fake_power)]
mod suite {
    use super::*;

    const FAILED: u8 = Status::FAILED.bits();

    #[test]
    fn frozen_device_has_nothing_and_comes_back() -> Result {
        let bench = Bench::new()?;
        check!(lifecycle::freeze(bench.dev()).is_ok());
        check_eq!(bench.device.status(), 0);
        check!(bench.is_clean());
        check!(bench.is_bound());
        check!(lifecycle::restore(bench.dev()).is_ok());
        check_eq!(bench.device.status(), BOUND);
        check_eq!(bench.device.driver.buffers.get(), BUFFERS);
        check!(bench.device.use_buffer(0, 5));
        check!(bench.device.interrupt(0));
        check_eq!(bench.device.driver.bytes.get(), 5);
        Ok(())
    }

    #[test]
    fn changes_while_frozen_are_delivered_once_after() -> Result {
        let bench = Bench::new()?;
        lifecycle::freeze(bench.dev())?;
        bench.device.config_interrupt(bench.dev());
        bench.device.config_interrupt(bench.dev());
        check_eq!(bench.device.driver.config_changed.get(), 0);
        lifecycle::restore(bench.dev())?;
        check_eq!(bench.device.driver.config_changed.get(), 1);
        Ok(())
    }

    #[test]
    fn restore_agrees_on_the_same_features() -> Result {
        let features = Behaviour::HONEST.features.with_bit(FEATURE_A);
        let bench = Bench::with_features(features)?;
        lifecycle::freeze(bench.dev())?;
        // More is no harm, and not taken.
        bench
            .device
            .script(|b| b.features = features.with_bit(FEATURE_C));
        bench.device.take_log()?;
        check!(lifecycle::restore(bench.dev()).is_ok());
        check_eq!(bench.dev().features(), features);
        let log = bench.device.take_log()?;
        check_eq!(
            log.as_slice(),
            [
                Event::Reset,
                Event::Status(1),
                Event::Status(3),
                Event::Features(features),
                Event::Status(0xb),
                Event::FindQueues(1),
                Event::Status(BOUND),
            ]
        );
        Ok(())
    }

    #[test]
    fn restore_with_fewer_features_fails() -> Result {
        let features = Behaviour::HONEST.features;
        let bench = Bench::with_features(features.with_bit(FEATURE_A))?;
        lifecycle::freeze(bench.dev())?;
        bench
            .device
            .script(|b| b.features_after_reset = Some(features));
        check_eq!(lifecycle::restore(bench.dev()), Err(ENODEV));
        check_eq!(bench.device.status() & FAILED, FAILED);
        check_eq!(bench.device.driver.ready.get(), 1);
        check!(bench.is_clean());
        bench.unbind();
        check!(bench.is_clean());
        Ok(())
    }

    #[test]
    fn restore_of_a_device_that_refuses_features_fails() -> Result {
        let bench = Bench::new()?;
        lifecycle::freeze(bench.dev())?;
        bench.device.script(|b| b.refuses_features = true);
        check_eq!(lifecycle::restore(bench.dev()), Err(ENODEV));
        check_eq!(bench.device.status() & FAILED, FAILED);
        check!(bench.is_clean());
        Ok(())
    }

    #[test]
    fn restore_of_a_device_that_does_not_reset_fails() -> Result {
        let bench = Bench::new()?;
        lifecycle::freeze(bench.dev())?;
        bench.device.script(|b| b.never_resets = true);
        bench.device.raise_status(Status::ACKNOWLEDGE);
        let (result, promptly) = timed(|| lifecycle::restore(bench.dev()));
        check_eq!(result, Err(EIO));
        check!(promptly);
        check_eq!(bench.device.status() & FAILED, FAILED);
        check!(bench.is_clean());
        Ok(())
    }

    #[test]
    fn restore_without_queues_fails_and_can_be_unbound() -> Result {
        let bench = Bench::new()?;
        lifecycle::freeze(bench.dev())?;
        bench.device.script(|b| b.find_queues = Err(EIO));
        check_eq!(lifecycle::restore(bench.dev()), Err(EIO));
        check_eq!(bench.device.status() & FAILED, FAILED);
        bench.unbind();
        check!(bench.is_clean());
        // What was removed once is not removed again.
        check_eq!(bench.device.driver.remove.get(), 1);
        bench.device.script(|b| b.find_queues = Ok(()));
        check!(bench.bind().is_ok());
        Ok(())
    }

    #[test]
    fn freeze_of_a_device_that_does_not_reset_ends() -> Result {
        let bench = Bench::new()?;
        bench.device.script(|b| b.never_resets = true);
        let (_result, promptly) = timed(|| lifecycle::freeze(bench.dev()));
        check!(promptly);
        check_eq!(bench.device.driver.data.get(), 0);
        check_eq!(bench.device.driver.buffers.get(), BUFFERS);
        Ok(())
    }

    #[test]
    fn what_was_said_in_vain_is_caught_up_with() -> Result {
        let bench = Bench::new()?;
        let log = &bench.device.driver;
        let before = bench.device.notifications.get();
        // Neither this nor a change of the configuration is followed by an interrupt.
        check!(bench.device.use_buffer(0, 5));
        check_eq!(log.completed.get(), 0);
        lifecycle::catch_up(bench.dev());
        check_eq!(log.completed.get(), 1);
        check_eq!(log.config_changed.get(), 1);
        check_eq!(bench.device.notifications.get(), before + 1);
        bench.unbind();
        lifecycle::catch_up(bench.dev());
        check_eq!(log.config_changed.get(), 1);
        Ok(())
    }

    #[test]
    fn reset_under_the_driver_is_survived() -> Result {
        let bench = Bench::new()?;
        check!(lifecycle::reset_prepare(bench.dev()).is_ok());
        check!(bench.is_clean());
        check!(lifecycle::reset_done(bench.dev()).is_ok());
        check_eq!(bench.device.status(), BOUND);
        check_eq!(bench.device.driver.ready.get(), 2);
        Ok(())
    }

    #[test]
    fn reset_without_a_driver_is_not_ours() -> Result {
        let bench = Bench::new()?;
        bench.unbind();
        check_eq!(lifecycle::reset_prepare(bench.dev()), Err(EOPNOTSUPP));
        check_eq!(lifecycle::reset_done(bench.dev()), Err(EOPNOTSUPP));
        Ok(())
    }

    #[test]
    fn shutdown_breaks_the_queues_and_resets() -> Result {
        let bench = Bench::new()?;
        bench.device.take_log()?;
        lifecycle::shutdown(bench.dev());
        check_eq!(bench.device.take_log()?.as_slice(), [Event::Reset]);
        check_eq!(bench.device.status(), 0);
        check!(bench.device.use_buffer(0, 1));
        bench.device.interrupt(0);
        check_eq!(bench.device.driver.used_buffers.get(), 0);
        Ok(())
    }

    #[test]
    fn shutdown_of_a_device_that_does_not_reset_ends() -> Result {
        let bench = Bench::new()?;
        bench.device.script(|b| b.never_resets = true);
        let ((), promptly) = timed(|| lifecycle::shutdown(bench.dev()));
        check!(promptly);
        bench.device.script(|b| b.never_resets = false);
        Ok(())
    }
}
