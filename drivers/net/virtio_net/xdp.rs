// SPDX-License-Identifier: GPL-2.0

//! Programs that look at packets before the stack does: how they come and go.
//!
//! C source: `virtnet_xdp_set`, `virtnet_xdp_get_sq` in `drivers/net/virtio_net.c`.  There a device that
//! receives into lists of pages takes programs, and never runs them; and whether it has switched its
//! offloads off, nobody looks.

use crate::{
    interface::Interface,
    operations::Operations,
    receive::PAGE_SIZE, //
};
use kernel::{
    cpu::{
        nr_cpu_ids,
        CpuId, //
    },
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};
use netdev::{
    synchronize_net,
    DeviceRef,
    Extack,
    Program,
    ETH_HLEN,
    XDP_ROOM, //
};
use virtio_spec::{
    net::{
        self,
        offloads::{
            can_run_xdp,
            GuestOffloads, //
        }, //
    },
    Features, //
};

/// Bytes of the longest packet, without its Ethernet header, that a program sees in one piece.
const MAX_MTU: u32 = PAGE_SIZE - XDP_ROOM - ETH_HLEN;

/// Which transmit queues packets of programs go through.
pub(crate) struct XdpQueues {
    /// Whether there is a program.
    on: Atomic<u32>,
    /// Pairs in use.
    pairs: Atomic<u32>,
    /// Of those, the last ones, which the stack does not use: none, or one for each processor.
    own: Atomic<u32>,
    /// It was said that there are too few.
    said: Atomic<u32>,
}

impl XdpQueues {
    pub(crate) fn new() -> Self {
        Self {
            on: Atomic::new(0),
            pairs: Atomic::new(1),
            own: Atomic::new(0),
            said: Atomic::new(0),
        }
    }

    /// Whether there is a program.  Any context.
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Relaxed) != 0
    }

    /// How many pairs are for programs alone.
    pub(crate) fn own(&self) -> u32 {
        self.own.load(Relaxed)
    }

    /// Of `pairs` in use, the last `own` are for programs alone.
    pub(crate) fn set(&self, pairs: u32, own: u32) {
        self.own.store(own, Relaxed);
        self.pairs.store(pairs, Relaxed);
    }

    /// The queue for this processor, whose lock is to be taken: others use it too unless there is one
    /// for each.  With preemption off.
    #[inline]
    pub(crate) fn index(&self) -> usize {
        let cpu = CpuId::current().as_u32();
        let (pairs, own) = (self.pairs.load(Relaxed), self.own.load(Relaxed));
        choose(cpu, pairs, own) as usize
    }

    /// That for packets that come from other interfaces, if they may.
    #[inline]
    pub(crate) fn redirect_index(&self) -> Option<usize> {
        self.is_on().then(|| self.index())
    }
}

/// The queue for a processor.
fn choose(cpu: u32, pairs: u32, own: u32) -> u32 {
    if own != 0 {
        pairs.saturating_sub(own).saturating_add(cpu)
    } else {
        cpu.checked_rem(pairs).unwrap_or(0)
    }
}

/// Why no program can run on what a device receives.
pub(crate) type Obstacle = (Error, &'static CStr);

/// Why no program can run on what a device with `features` receives, if so.
pub(crate) fn obstacle(features: Features, is_big: bool, any_layout: bool) -> Option<Obstacle> {
    if !can_run_xdp(features) {
        let text = c"virtio_net: XDP needs receive offloads off, which this device cannot switch";
        return Some((EOPNOTSUPP, text));
    }
    if is_big {
        let text =
            c"virtio_net: XDP needs mergeable buffers, or none longer than for an MTU of 1500";
        return Some((EOPNOTSUPP, text));
    }
    if features.has::<net::MrgRxbuf>() && !any_layout {
        let text = c"virtio_net: XDP needs header and packet in one buffer";
        return Some((EINVAL, text));
    }
    None
}

impl Interface {
    /// Pairs of queues that the stack sends through.
    pub(crate) fn stack_pairs(&self) -> u32 {
        self.pairs_in_use().saturating_sub(self.xdp_queues.own())
    }

    /// Runs `program` on what is received, or none any more.  Under the RTNL lock; sleeps.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` or `EINVAL` if the device or the MTU is not for that, `ENODEV` while it is reset,
    /// and those of the control queue; nothing has changed then.  None without a program.
    pub(crate) fn set_xdp(
        &self,
        device: &DeviceRef<Operations>,
        program: Option<Program>,
        extack: &mut Extack<'_>,
    ) -> Result {
        let Some(program) = program else {
            self.end_xdp(device);
            return Ok(());
        };
        if let Some((error, text)) = self.xdp_obstacle {
            extack.say(text);
            return Err(error);
        }
        if !program.takes_frags() && device.mtu() > MAX_MTU {
            extack.say(c"virtio_net: the MTU is too large for XDP without frags");
            return Err(EINVAL);
        }
        if !device.is_present() {
            extack.say(c"virtio_net: the device is being reset");
            return Err(ENODEV);
        }
        let first = !self.xdp_queues.is_on();
        if first {
            self.begin_xdp(device, extack)?;
        }
        self.exchange(Some(&program));
        if first {
            self.xdp_queues.on.store(1, Relaxed);
            device.set_redirect_target(true);
        }
        Ok(())
    }

    /// Makes device and queues ready for a program, if there was none.
    fn begin_xdp(&self, device: &DeviceRef<Operations>, extack: &mut Extack<'_>) -> Result {
        self.set_offloads(GuestOffloads::EMPTY)
            .and_then(|()| self.take_xdp_queues(device))
            .inspect_err(|_| {
                extack.say(c"virtio_net: the device refuses what XDP needs");
                // What fails now was said.
                let _ = self.set_offloads(self.wanted_offloads(device));
            })
    }

    /// Uses a pair more for each processor, if there are as many.
    fn take_xdp_queues(&self, device: &DeviceRef<Operations>) -> Result {
        if self.xdp_queues.own() != 0 {
            // The device did not take them back.
            return Ok(());
        }
        let before = self.pairs_in_use();
        let own = nr_cpu_ids();
        let pairs = before.saturating_add(own);
        let Some(control) = self
            .control
            .as_ref()
            .filter(|_| pairs as usize <= self.pairs.len())
        else {
            if self.xdp_queues.said.load(Relaxed) == 0 {
                self.xdp_queues.said.store(1, Relaxed);
                dev_warn!(
                    self.device,
                    "XDP wants {} pairs of queues, and there are {}: those of the stack are shared\n",
                    pairs,
                    self.pairs.len()
                );
            }
            self.xdp_queues.set(before, 0);
            return Ok(());
        };
        if device.is_running() {
            // First, since a device may use them at once.
            self.enable(pairs);
        }
        self.tell_pairs(device, control, pairs)?;
        device.set_real_counts(before, pairs).inspect_err(|_| {
            // What fails now was said.
            let _ = self.tell_pairs(device, control, before);
        })?;
        self.in_use.store(pairs, Relaxed);
        self.xdp_queues.set(pairs, own);
        Ok(())
    }

    /// Gives every receive queue a program, or takes it, while it is not polled.
    fn exchange(&self, program: Option<&Program>) {
        for pair in &self.pairs {
            pair.rx.with_paused(|rx, _| rx.program = program.cloned());
        }
    }

    /// Undoes all of it.  What a device is not told now, because it is reset or gone, it is told when it
    /// is back.
    fn end_xdp(&self, device: &DeviceRef<Operations>) {
        if !self.xdp_queues.is_on() {
            return;
        }
        self.xdp_queues.on.store(0, Relaxed);
        device.set_redirect_target(false);
        // Nobody redirects packets to us afterwards.
        synchronize_net();
        self.exchange(None);
        let pairs = self.stack_pairs();
        if pairs != self.pairs_in_use() {
            self.give_xdp_queues(device, pairs);
        }
        if device.is_present() {
            // What fails was said.
            let _ = self.set_offloads(self.wanted_offloads(device));
        }
    }

    /// Uses the first `pairs` pairs alone again.  If the device does not hear of it, the others are kept for
    /// the next program.
    fn give_xdp_queues(&self, device: &DeviceRef<Operations>, pairs: u32) {
        let told = match &self.control {
            Some(control) if device.is_present() => self.tell_pairs(device, control, pairs),
            // It is reset, and told when it is back.
            _ => Ok(()),
        };
        // Of those to send, there are as many already.
        let shrunk = told.and_then(|()| {
            self.in_use.store(pairs, Relaxed);
            self.xdp_queues.set(pairs, 0);
            device.set_real_queues(pairs)
        });
        // A device that goes hears of nothing.
        if shrunk.is_err() && self.control.as_ref().is_some_and(|it| it.is_open()) {
            dev_warn!(self.device, "could not go back to {} pairs\n", pairs);
        }
    }
}

#[kunit_tests(virtio_net_xdp)]
mod tests {
    use super::*;
    use virtio_spec::transport::Version1;

    #[test]
    fn each_processor_has_its_queue() {
        // With queues of their own, the last ones; without, all are shared.
        assert_eq!([0, 1].map(|cpu| choose(cpu, 4, 2)), [2, 3]);
        assert_eq!([0, 1, 2, 3].map(|cpu| choose(cpu, 3, 0)), [0, 1, 2, 0]);
        assert_eq!(choose(5, 1, 0), 0);
        assert_eq!(choose(1, 0, 0), 0);
    }

    #[test]
    fn what_cannot_run_programs_says_so() {
        let modern = Features::EMPTY.with::<Version1>();
        let merges = modern.with::<net::MrgRxbuf>();
        assert!(obstacle(merges, false, true).is_none());
        assert!(obstacle(modern, false, true).is_none());
        assert!(obstacle(modern, true, true).is_some_and(|(error, _)| error == EOPNOTSUPP));
        assert!(obstacle(merges, false, false).is_some_and(|(error, _)| error == EINVAL));
        let fixed = merges.with::<net::GuestCsum>();
        assert!(obstacle(fixed, false, true).is_some_and(|(error, _)| error == EOPNOTSUPP));
        let switched = fixed.with::<net::CtrlGuestOffloads>();
        assert!(obstacle(switched, false, true).is_none());
    }
}
