// SPDX-License-Identifier: GPL-2.0

//! Recovery from DEVICE_NEEDS_RESET and from broken queues (specification 2.1.2).

use crate::{
    fake::{
        wait_until,
        Early,
        QUEUE_SIZE, //
    },
    tests::{
        Bench,
        BOUND,
        BUFFERS, //
    }, //
};
use kernel::prelude::*;
use virtio_spec::Status;

#[kunit_tests(virtio_fake_recovery)]
mod suite {
    use super::*;

    const ATTEMPTS: i32 = 5;

    #[test]
    fn device_that_needs_a_reset_is_reset_and_goes_on() -> Result {
        let bench = Bench::new()?;
        bench.device.raise_status(Status::DEVICE_NEEDS_RESET);
        bench.device.config_interrupt(bench.dev());
        let log = &bench.device.driver;
        check!(log.ready.becomes(2));
        check_eq!(log.remove.get(), 1);
        check!(wait_until(|| bench.device.status() == BOUND));
        check_eq!(log.buffers.get(), BUFFERS);
        check!(bench.device.use_buffer(0, 7));
        bench.device.interrupt(0);
        check_eq!(log.completed.get(), 1);
        Ok(())
    }

    #[test]
    fn change_of_a_healthy_device_recovers_nothing() -> Result {
        let bench = Bench::new()?;
        bench.device.take_log()?;
        bench.device.config_interrupt(bench.dev());
        // Unbinding waits for what was scheduled, or makes it void.
        bench.unbind();
        check_eq!(bench.device.driver.ready.get(), 1);
        check_eq!(bench.device.driver.remove.get(), 1);
        Ok(())
    }

    #[test]
    fn need_before_the_driver_is_ready_is_not_lost() -> Result {
        let bench = Bench::new()?;
        bench.unbind();
        bench.device.script(|b| b.on_driver_ok = Early::NeedReset);
        check!(bench.bind().is_ok());
        bench.device.script(|b| b.on_driver_ok = Early::Nothing);
        // Once more or not at all: the second bind may have been needy as well.
        check!(wait_until(
            || bench.device.driver.ready.get() >= 3 && bench.device.status() == BOUND
        ));
        Ok(())
    }

    #[test]
    fn device_that_breaks_a_queue_is_recovered() -> Result {
        let bench = Bench::new()?;
        check!(bench.device.put_used(0, u32::from(QUEUE_SIZE), 0));
        bench.device.interrupt(0);
        let log = &bench.device.driver;
        check!(log.ready.becomes(2));
        check_eq!(log.completed.get(), 0);
        check!(wait_until(|| bench.device.status() == BOUND));
        check_eq!(log.buffers.get(), BUFFERS);
        Ok(())
    }

    #[test]
    fn device_that_keeps_needing_resets_is_given_up() -> Result {
        let bench = Bench::new()?;
        let log = &bench.device.driver;
        for attempt in 1..=ATTEMPTS {
            check!(wait_until(|| bench.device.status() == BOUND));
            bench.device.raise_status(Status::DEVICE_NEEDS_RESET);
            bench.device.config_interrupt(bench.dev());
            check!(log.ready.becomes(1 + attempt));
        }
        check!(wait_until(|| bench.device.status() == BOUND));
        bench.device.raise_status(Status::DEVICE_NEEDS_RESET);
        bench.device.config_interrupt(bench.dev());
        check!(wait_until(
            || bench.device.status() & Status::FAILED.bits() != 0
        ));
        check!(bench.is_clean());
        check_eq!(log.ready.get(), 1 + ATTEMPTS);
        // And stays so.
        bench.device.config_interrupt(bench.dev());
        bench.unbind();
        check_eq!(log.ready.get(), 1 + ATTEMPTS);
        Ok(())
    }

    #[test]
    fn device_that_does_not_reset_is_not_recovered() -> Result {
        let bench = Bench::new()?;
        bench.device.script(|b| b.never_resets = true);
        bench.device.raise_status(Status::DEVICE_NEEDS_RESET);
        bench.device.config_interrupt(bench.dev());
        let log = &bench.device.driver;
        check!(log.remove.becomes(1));
        // Under the lock that the recovery holds, so after it.
        bench.unbind();
        check_eq!(log.ready.get(), 1);
        check_eq!(log.data.get(), 0);
        check_eq!(log.buffers.get(), BUFFERS);
        Ok(())
    }

    #[test]
    fn device_that_lost_a_feature_is_not_recovered() -> Result {
        let bench = Bench::with_features(
            crate::fake::Behaviour::HONEST
                .features
                .with_bit(crate::tests::FEATURE_A),
        )?;
        bench
            .device
            .script(|b| b.features_after_reset = Some(b.features.without_bit(1)));
        bench.device.raise_status(Status::DEVICE_NEEDS_RESET);
        bench.device.config_interrupt(bench.dev());
        check!(wait_until(
            || bench.device.status() & Status::FAILED.bits() != 0
        ));
        check_eq!(bench.device.driver.ready.get(), 1);
        check!(bench.is_clean());
        Ok(())
    }
}
