// SPDX-License-Identifier: GPL-2.0

//! How many pairs of queues are in use, and which processors use them (specification 5.1.9.5.5).
//!
//! C source: `virtnet_set_queues`, `virtnet_set_channels`, `virtnet_set_affinity` in
//! `drivers/net/virtio_net.c`.

use crate::{
    control::Control,
    interface::Interface,
    operations::Operations,
    PAIR,
    RX,
    TX, //
};
use kernel::{
    cpu::CpuId,
    cpumask::CpumaskVar,
    prelude::*,
    sync::atomic::Relaxed, //
};
use netdev::{
    online_cpus,
    Channels,
    DeviceRef, //
};
use virtio::device::Device;

/// The part of `cpus` processors that is for pair `index` of `pairs`: the number of the first, from
/// which on they are counted round, and how many there are.
fn share(cpus: usize, pairs: usize, index: usize) -> (usize, usize) {
    let (Some(each), Some(left)) = (cpus.checked_div(pairs), cpus.checked_rem(pairs)) else {
        return (0, 0);
    };
    if each == 0 {
        return (index % cpus.max(1), cpus.min(1));
    }
    (
        index * each + index.min(left),
        each + usize::from(index < left),
    )
}

/// As many pairs as there are processors, of those that the device has.
pub(crate) fn first_count(pairs: usize) -> u32 {
    let cpus = online_cpus().map_or(1, |cpus| cpus.len());
    pairs.min(cpus.max(1)) as u32
}

impl Interface {
    /// How many pairs are in use, at least 1.
    pub(crate) fn pairs_in_use(&self) -> u32 {
        self.in_use.load(Relaxed)
    }

    /// For ethtool.
    pub(crate) fn channels(&self) -> Channels {
        Channels {
            combined: self.pairs_in_use(),
            max_combined: self.pairs.len() as u32,
        }
    }

    /// Uses so many pairs.  Under the RTNL lock; sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there are not as many, or programs use some of them; those of the control queue and of
    /// the stack.  Then as many are in use as before.
    pub(crate) fn set_channels(&self, device: &DeviceRef<Operations>, wanted: u32) -> Result {
        let before = self.pairs_in_use();
        if wanted == 0 || wanted as usize > self.pairs.len() || self.xdp_queues.is_on() {
            return Err(EINVAL);
        }
        if wanted == before {
            return Ok(());
        }
        let control = self.control.as_ref().ok_or(EOPNOTSUPP)?;
        if wanted < before {
            // First, since a device may leave alone what is sent through the others.
            device.set_real_queues(wanted)?;
        } else if device.is_running() {
            // First, since a device may use them at once.
            self.enable(wanted);
        }
        let told = self.tell_pairs(device, control, wanted).and_then(|()| {
            if wanted < before {
                return Ok(());
            }
            device.set_real_queues(wanted).inspect_err(|_| {
                // What fails now was said.
                let _ = self.tell_pairs(device, control, before);
            })
        });
        if let Err(error) = told {
            // There were as many before: nothing is allocated.
            let _ = device.set_real_queues(before);
            return Err(error);
        }
        self.in_use.store(wanted, Relaxed);
        self.xdp_queues.set(wanted, 0);
        self.follow_cpus(device);
        Ok(())
    }

    /// Tells a device that was reset how many pairs are in use; if it refuses, it is one.  Under the
    /// RTNL lock, or before anybody else sees the interface; sleeps.
    ///
    /// # Errors
    ///
    /// Those of the control queue.
    pub(crate) fn replay_pairs(
        &self,
        dev: &Device,
        device: &DeviceRef<Operations>,
        control: &Control,
    ) -> Result {
        let pairs = self.pairs_in_use();
        // That many there are after a reset.
        let told = if pairs == 1 && !self.steers() {
            Ok(())
        } else {
            self.tell_pairs(device, control, pairs)
        };
        if told.is_err() {
            self.in_use.store(1, Relaxed);
            self.xdp_queues.set(1, 0);
        }
        device.set_real_counts(self.stack_pairs(), self.pairs_in_use())?;
        self.spread(dev, device);
        told
    }

    /// Shares out the processors that there are now.  Under the RTNL lock; sleeps.
    pub(crate) fn follow_cpus(&self, device: &DeviceRef<Operations>) {
        // That of a device that is reset is done when it is back.
        self.handle.with(|dev| self.spread(dev, device));
    }

    /// Gives each pair in use processors of its own, for its interrupts and for what they send: hints,
    /// without which everything works too.
    fn spread(&self, dev: &Device, device: &DeviceRef<Operations>) {
        let (Ok(cpus), Ok(mut mask)) = (online_cpus(), CpumaskVar::new_zero(GFP_KERNEL)) else {
            return;
        };
        let pairs = self.stack_pairs() as usize;
        for index in 0..pairs {
            let (first, count) = share(cpus.len(), pairs, index);
            let group = || cpus.iter().cycle().skip(first).take(count).copied();
            group().for_each(|cpu: CpuId| mask.set(cpu));
            for queue in [RX, TX] {
                dev.set_queue_affinity((index * PAIR + queue) as u32, &mask);
            }
            device.set_xps(index as u16, &mask);
            group().for_each(|cpu| mask.clear(cpu));
        }
    }
}

#[kunit_tests(virtio_net_channels)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_shared_out() {
        // All to the only pair; one each; what is left to the first ones.
        assert_eq!(share(4, 1, 0), (0, 4));
        assert_eq!([0, 1].map(|pair| share(2, 2, pair)), [(0, 1), (1, 1)]);
        assert_eq!(
            [0, 1, 2].map(|pair| share(8, 3, pair)),
            [(0, 3), (3, 3), (6, 2)]
        );
        // Fewer than pairs: one each, round and round.
        assert_eq!(
            [0, 1, 2, 3].map(|pair| share(3, 4, pair)),
            [(0, 1), (1, 1), (2, 1), (0, 1)]
        );
        assert_eq!(share(0, 2, 1), (0, 0));
        assert_eq!(share(2, 0, 0), (0, 0));
    }
}
