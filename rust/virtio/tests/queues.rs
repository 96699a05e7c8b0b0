// SPDX-License-Identifier: GPL-2.0

//! Used buffers, and interrupts that come when they should not (specification 2.1.2, 2.4).

use crate::{
    fake::Early,
    tests::{
        Bench,
        BUFFERS, //
    }, //
};
use kernel::prelude::*;

#[kunit_tests(virtio_fake_queues)]
mod suite {
    use super::*;

    #[test]
    fn buffers_are_lent_kicked_and_come_back() -> Result {
        let bench = Bench::new()?;
        let device = &bench.device;
        check_eq!(device.notifications.get(), 1);
        check!(device.use_buffer(0, 10));
        check!(device.use_buffer(0, 20));
        check!(device.interrupt(0));
        let log = &device.driver;
        check_eq!(log.used_buffers.get(), 1);
        check_eq!(log.completed.get(), 2);
        check_eq!(log.bytes.get(), 30);
        check_eq!(log.buffers.get(), BUFFERS - 2);
        Ok(())
    }

    #[test]
    fn interrupt_without_used_buffers_is_not_ours() -> Result {
        let bench = Bench::new()?;
        check!(!bench.device.interrupt(0));
        check_eq!(bench.device.driver.used_buffers.get(), 0);
        Ok(())
    }

    #[test]
    fn used_length_is_cut_to_the_buffer() -> Result {
        let bench = Bench::new()?;
        check!(bench.device.use_buffer(0, u32::MAX));
        bench.device.interrupt(0);
        check_eq!(bench.device.driver.completed.get(), 1);
        check_eq!(bench.device.driver.bytes.get(), 64);
        Ok(())
    }

    #[test]
    fn interrupt_before_driver_ok_waits_for_it() -> Result {
        let bench = Bench::new()?;
        bench.unbind();
        bench.device.script(|b| b.on_driver_ok = Early::UseBuffer);
        check!(bench.bind().is_ok());
        let log = &bench.device.driver;
        check_eq!(log.early.get(), 0);
        // Nor is it lost.
        check_eq!(log.used_buffers.get(), 1);
        check_eq!(log.completed.get(), 1);
        check_eq!(log.buffers.get(), BUFFERS - 1);
        Ok(())
    }

    #[test]
    fn interrupt_after_the_reset_reaches_nobody() -> Result {
        let bench = Bench::new()?;
        // The queue outlives the reset, as it does while a transport frees interrupts.
        bench.device.script(|b| b.keeps_queues = true);
        bench.unbind();
        check!(bench.device.has_queues());
        check!(bench.device.put_used(0, 0, 1));
        bench.device.interrupt(0);
        check_eq!(bench.device.driver.used_buffers.get(), 0);
        check_eq!(bench.device.driver.data.get(), 0);
        check_eq!(bench.device.driver.buffers.get(), 0);
        bench.device.script(|b| b.keeps_queues = false);
        bench.delete_queues();
        check!(bench.is_clean());
        Ok(())
    }

    #[test]
    fn nobody_is_notified_after_the_reset() -> Result {
        let bench = Bench::new()?;
        bench.unbind();
        check_eq!(bench.device.notifications.get(), 1);
        Ok(())
    }

    #[test]
    fn notification_that_does_not_get_through_breaks_the_queue() -> Result {
        let bench = Bench::new()?;
        bench.unbind();
        bench.device.script(|b| b.deaf = true);
        check!(bench.bind().is_ok());
        check_eq!(bench.device.notifications.get(), 2);
        // Broken: used buffers are not looked at.
        check!(bench.device.use_buffer(0, 1));
        bench.device.interrupt(0);
        check_eq!(bench.device.driver.used_buffers.get(), 0);
        bench.unbind();
        check!(bench.is_clean());
        Ok(())
    }
}
