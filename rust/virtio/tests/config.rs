// SPDX-License-Identifier: GPL-2.0

//! Device configuration and its changes (specification 2.5).

use crate::tests::{
    timed,
    Bench, //
};
use kernel::prelude::*;

#[kunit_tests(virtio_fake_config)]
mod suite {
    use super::*;

    #[test]
    fn fields_are_read_as_they_are() -> Result {
        let bench = Bench::new()?;
        bench
            .device
            .script(|b| b.config = core::array::from_fn(|i| i as u8 + 1));
        let mut bytes = [0; 6];
        bench.dev().read_config(2, &mut bytes)?;
        check_eq!(bytes, [3, 4, 5, 6, 7, 8]);
        Ok(())
    }

    #[test]
    fn what_is_beyond_a_short_configuration_reads_as_zero() -> Result {
        let bench = Bench::new()?;
        bench.device.script(|b| {
            b.config = [0xaa; 16];
            b.config_len = 6;
        });
        let mut bytes = [0xff; 8];
        bench.dev().read_config(0, &mut bytes)?;
        check_eq!(bytes, [0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0, 0]);
        let mut bytes = [0xff; 4];
        bench.dev().read_config(100, &mut bytes)?;
        check_eq!(bytes, [0; 4]);
        bench.dev().read_config(u32::MAX, &mut bytes[..1])?;
        Ok(())
    }

    #[test]
    fn wide_fields_of_a_restless_device_are_given_up() -> Result {
        let bench = Bench::new()?;
        bench.device.script(|b| b.generation_storm = true);
        let before = bench.device.config_reads();
        let (result, promptly) = timed(|| bench.dev().read_config(0, &mut [0; 8]));
        check_eq!(result, Err(EIO));
        check!(promptly);
        check_eq!(bench.device.config_reads() - before, 32);
        // A field of at most 4 bytes is one access, which cannot be torn.
        check!(bench.dev().read_config(0, &mut [0; 4]).is_ok());
        Ok(())
    }

    #[test]
    fn changes_are_delivered_while_bound() -> Result {
        let bench = Bench::new()?;
        bench.device.config_interrupt(bench.dev());
        bench.device.config_interrupt(bench.dev());
        check_eq!(bench.device.driver.config_changed.get(), 2);
        Ok(())
    }

    #[test]
    fn changes_without_a_driver_are_delivered_to_the_next_once() -> Result {
        let bench = Bench::new()?;
        bench.unbind();
        bench.device.config_interrupt(bench.dev());
        bench.device.config_interrupt(bench.dev());
        check_eq!(bench.device.driver.config_changed.get(), 0);
        check!(bench.bind().is_ok());
        check_eq!(bench.device.driver.config_changed.get(), 1);
        bench.unbind();
        check!(bench.bind().is_ok());
        check_eq!(bench.device.driver.config_changed.get(), 1);
        Ok(())
    }

    #[test]
    fn changes_that_a_driver_holds_back_are_delivered_once_later() -> Result {
        let bench = Bench::new()?;
        bench.dev().set_driver_config_changes(false);
        bench.device.config_interrupt(bench.dev());
        bench.device.config_interrupt(bench.dev());
        check_eq!(bench.device.driver.config_changed.get(), 0);
        bench.dev().set_driver_config_changes(true);
        check_eq!(bench.device.driver.config_changed.get(), 1);
        Ok(())
    }

    #[test]
    fn changes_after_remove_reach_nobody() -> Result {
        let bench = Bench::new()?;
        bench.unbind();
        bench.device.config_interrupt(bench.dev());
        check_eq!(bench.device.driver.config_changed.get(), 0);
        check!(bench.is_clean());
        Ok(())
    }
}
