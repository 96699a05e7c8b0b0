// SPDX-License-Identifier: GPL-2.0

//! When the device notifies (specification 5.1.9.5.10), as ethtool says, or as what is received
//! suggests.
//!
//! C source: `virtnet_set_coalesce`, `virtnet_set_per_queue_coalesce`, `virtnet_rx_dim_work` in
//! `drivers/net/virtio_net.c`.  There a reset loses all of it, half of a change that fails stays, and
//! the device is never asked.

use crate::{
    control::Control,
    interface::Interface,
    operations::Operations,
    transmit::set_interrupts, //
};
use core::ops::Range;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    }, //
};
use netdev::{
    param,
    Moderator, //
};
use virtio_spec::{
    net::{
        coalescing::{
            Abilities,
            Change,
            Refused,
            Settings, //
        },
        ctrl::{
            Coal,
            CtrlHdr, //
        },
        payload::{
            coalescing_of,
            Coalescing,
            Queue, //
        }, //
    },
    Features, //
};
use zerocopy::{
    FromZeros,
    IntoBytes, //
};

pub(crate) type Dim = netdev::Dim<Operations>;

/// What one side of a queue, or of all, does.
#[derive(Clone, Copy)]
struct Half {
    now: Coalescing,
    /// The device was told so, and does it after a reset only if it is told again.
    told: bool,
}

impl Half {
    fn new(now: Coalescing) -> Self {
        Self { now, told: false }
    }

    fn told(now: Coalescing) -> Self {
        Self { now, told: true }
    }

    /// What a device does that was not told anything (section 5.1.9.5.10.1).
    fn device(self) -> Coalescing {
        if self.told {
            self.now
        } else {
            Coalescing::default()
        }
    }
}

/// What a pair of queues does.
#[derive(Clone, Copy)]
struct Pair {
    rx: Half,
    tx: Half,
    adaptive: bool,
}

impl Pair {
    fn settings(&self) -> Settings {
        Settings {
            rx: self.rx.now,
            tx: self.tx.now,
            adaptive_rx: self.adaptive,
        }
    }
}

/// Sends a command.
type Send<'a> = &'a dyn Fn(CtrlHdr, &[u8]) -> Result;

/// What all queues do.
struct State {
    abilities: Abilities,
    all: Pair,
    pairs: KVec<Pair>,
    /// The device says what it does.
    answers: bool,
}

impl State {
    /// Of so many pairs, with interrupts of packets that were sent, or without.
    fn new(abilities: Abilities, pairs: usize, tx_interrupts: bool) -> Result<Self> {
        let mut first = Settings::FIRST;
        first.tx.max_packets = tx_interrupts.into();
        let all = Pair {
            rx: Half::new(first.rx),
            tx: Half::new(first.tx),
            adaptive: first.adaptive_rx,
        };
        Ok(Self {
            abilities,
            all,
            pairs: KVec::from_elem(all, pairs, GFP_KERNEL)?,
            answers: true,
        })
    }

    fn number(&self, queue: Queue) -> Result<u16> {
        queue.index(self.pairs.len() as u16).ok_or(EINVAL)
    }

    /// Tells the device what one queue is to do.
    fn tell(&self, queue: Queue, wanted: Coalescing, send: Send<'_>) -> Result {
        let data = wanted.of_queue(self.number(queue)?);
        send(CtrlHdr::NOTF_COAL_VQ_SET, data.as_bytes())
    }

    /// Has all queues do what is `wanted`.
    fn set_all(&mut self, wanted: Settings, send: Send<'_>) -> Result {
        let change = self.all.settings().change_rx(wanted, self.abilities);
        let change = change.map_err(refused)?;
        send(CtrlHdr::NOTF_COAL_TX_SET, wanted.tx.all().as_bytes())?;
        let rx = match change {
            Change::Adapt => None,
            Change::Send(rx) => {
                send(CtrlHdr::NOTF_COAL_RX_SET, rx.all().as_bytes()).inspect_err(|_| {
                    // What fails now was said.
                    let _ = send(
                        CtrlHdr::NOTF_COAL_TX_SET,
                        self.all.tx.device().all().as_bytes(),
                    );
                    self.tell_each(|pair| (pair.tx, self.all.tx), Queue::Transmit, send);
                })?;
                Some(Half::told(rx))
            }
        };
        let pairs = core::iter::once(&mut self.all);
        for pair in Iterator::chain(pairs, &mut self.pairs) {
            pair.tx = Half::told(wanted.tx);
            pair.rx = rx.unwrap_or(pair.rx);
            pair.adaptive = wanted.adaptive_rx;
        }
        Ok(())
    }

    /// Has one pair do what is `wanted`.
    fn set_one(&mut self, index: usize, wanted: Settings, send: Send<'_>) -> Result {
        let now = *self.pairs.get(index).ok_or(EINVAL)?;
        let change = now.settings().change_rx(wanted, self.abilities);
        let mut next = Pair {
            adaptive: wanted.adaptive_rx,
            ..now
        };
        let (rx, tx) = (Queue::Receive(index as u16), Queue::Transmit(index as u16));
        if let Change::Send(values) = change.map_err(refused)? {
            self.tell(rx, values, send)?;
            next.rx = Half::told(values);
        }
        self.tell(tx, wanted.tx, send).inspect_err(|_| {
            if next.rx.now != now.rx.now {
                // What fails now was said.
                let _ = self.tell(rx, now.rx.device(), send);
            }
        })?;
        next.tx = Half::told(wanted.tx);
        if let Some(pair) = self.pairs.get_mut(index) {
            *pair = next;
        }
        Ok(())
    }

    /// Has a receive queue do what suits what it receives.
    fn adapt(&mut self, index: usize, wanted: Coalescing, send: Send<'_>) -> Result {
        let now = self.pairs.get(index).filter(|pair| pair.adaptive);
        if now.is_none_or(|now| now.rx.now == wanted) {
            return Ok(());
        }
        self.tell(Queue::Receive(index as u16), wanted, send)?;
        if let Some(pair) = self.pairs.get_mut(index) {
            pair.rx = Half::told(wanted);
        }
        Ok(())
    }

    /// Tells the device of each queue that does not do the same as all; returns the first error.
    fn tell_each(
        &self,
        half: impl Fn(&Pair) -> (Half, Half),
        queue: impl Fn(u16) -> Queue,
        send: Send<'_>,
    ) -> Option<Error> {
        if !self.abilities.each {
            return None;
        }
        let failed = (0..).zip(&self.pairs).filter_map(|(index, pair)| {
            let (one, all) = half(pair);
            let same = !one.told || one.now == all.device();
            (!same).then(|| self.tell(queue(index), one.now, send).err())?
        });
        failed.fold(None, |first, error| first.or(Some(error)))
    }

    /// Tells a device that was reset what it did before.
    fn replay(&mut self, send: Send<'_>) -> Result {
        self.answers = true;
        let Pair { rx, tx, .. } = self.all;
        for (half, command) in [
            (tx, CtrlHdr::NOTF_COAL_TX_SET),
            (rx, CtrlHdr::NOTF_COAL_RX_SET),
        ] {
            if half.told {
                send(command, half.now.all().as_bytes())?;
            }
        }
        let failed = [
            self.tell_each(|pair| (pair.tx, tx), Queue::Transmit, send),
            self.tell_each(|pair| (pair.rx, rx), Queue::Receive, send),
        ];
        failed.into_iter().flatten().next().map_or(Ok(()), Err)
    }

    /// Tells a device what a queue did before that was reset alone: it does what all do (section
    /// 5.1.9.5.10.1).
    fn replay_one(&self, queue: Queue, send: Send<'_>) -> Result {
        let (index, all): (_, fn(&Pair) -> Half) = match queue {
            Queue::Receive(index) => (index, |pair| pair.rx),
            Queue::Transmit(index) => (index, |pair| pair.tx),
            Queue::Control => return Ok(()),
        };
        let one = self.pairs.get(usize::from(index)).map(all);
        match one.filter(|one| self.abilities.each && one.told) {
            Some(one) if one.now != all(&self.all).device() => self.tell(queue, one.now, send),
            _ => Ok(()),
        }
    }

    /// Asks the device what a pair of queues does that it was told of.  What it does is what counts.
    fn ask(&mut self, index: usize, ask: &dyn Fn(&[u8]) -> Option<Coalescing>) -> Result<Settings> {
        let (rx, tx) = (Queue::Receive(index as u16), Queue::Transmit(index as u16));
        let (rx, tx) = (self.number(rx)?, self.number(tx)?);
        let pair = self.pairs.get_mut(index).ok_or(EINVAL)?;
        for (half, number) in [(&mut pair.rx, rx), (&mut pair.tx, tx)] {
            if !half.told || !self.answers {
                continue;
            }
            match ask(&coalescing_of(number)) {
                Some(now) => half.now = now,
                // It will not the next time either.
                None => self.answers = false,
            }
        }
        Ok(pair.settings())
    }
}

fn refused(refused: Refused) -> Error {
    match refused {
        Refused::Unsupported => EOPNOTSUPP,
        Refused::Invalid => EINVAL,
    }
}

/// The coalescing of a device that lets it be chosen.
#[pin_data]
pub(crate) struct Coalescer {
    control: Arc<Control>,
    /// Held while commands are carried out.
    #[pin]
    state: Mutex<State>,
}

impl Coalescer {
    /// That of a device with so many pairs; `None` if it lets nothing be chosen.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(
        features: Features,
        control: Option<&Arc<Control>>,
        pairs: usize,
    ) -> Result<Option<Arc<Self>>> {
        let abilities = Abilities::of(features);
        let Some(control) = control.filter(|_| abilities.any()) else {
            return Ok(None);
        };
        let state = State::new(abilities, pairs, param::napi_tx())?;
        let this = pin_init!(Self {
            control: control.clone(),
            state <- new_mutex!(state),
        });
        Arc::pin_init(this, GFP_KERNEL).map(Some)
    }

    /// Whether what a queue does can follow what it receives.
    pub(crate) fn can_adapt(&self) -> bool {
        self.state.lock().abilities.each
    }

    /// Runs `f` with a way to send commands.
    fn with<R>(&self, f: impl FnOnce(&mut State, Send<'_>) -> R) -> R {
        let send = |command, data: &[u8]| self.control.run(command, data);
        f(&mut self.state.lock(), &send)
    }

    /// Tells a device that was reset what it did before.  Sleeps.
    ///
    /// # Errors
    ///
    /// Those of the control queue.
    pub(crate) fn replay(&self) -> Result {
        self.with(|state, send| state.replay(send))
    }

    /// Tells a device what a queue did before that was reset alone.  Sleeps.
    ///
    /// # Errors
    ///
    /// Those of the control queue.
    pub(crate) fn replay_one(&self, queue: Queue) -> Result {
        self.with(|state, send| state.replay_one(queue, send))
    }

    /// What pair `index` does.
    fn look_at(&self, index: usize) -> Result<Settings> {
        let ask = |data: &[u8]| {
            let mut answer = Coal::new_zeroed();
            let room = answer.as_mut_bytes();
            let len = room.len();
            let written = self.control.ask(CtrlHdr::NOTF_COAL_VQ_GET, data, room).ok();
            if written? != len {
                self.control.complain(CtrlHdr::NOTF_COAL_VQ_GET);
                return None;
            }
            Some(Coalescing::from_answer(&answer))
        };
        self.state.lock().ask(index, &ask)
    }
}

impl Moderator for Coalescer {
    fn moderate(&self, index: u32, usecs: u16, packets: u16) {
        let wanted = Coalescing {
            max_usecs: usecs.into(),
            max_packets: packets.into(),
        };
        // What failed was said.
        let _ = self.with(|state, send| state.adapt(index as usize, wanted, send));
    }
}

impl Interface {
    /// The coalescing, if all queues can be told together, or each.
    fn coalescer(&self, can: impl FnOnce(Abilities) -> bool) -> Option<&Arc<Coalescer>> {
        let can = can(Abilities::of(self.features));
        self.coalescer.as_ref().filter(|_| can)
    }

    /// Whether transmit queue `index` has interrupts.
    fn tx_interrupts(&self, index: usize) -> bool {
        let mut on = true;
        self.with_tx(index, |tx| on = tx.interrupts());
        on
    }

    /// What a device does that lets nothing be chosen: the driver may let it not interrupt.
    fn plain(&self, index: usize) -> Settings {
        let mut settings = Settings::PLAIN;
        settings.tx.max_packets = self.tx_interrupts(index).into();
        settings
    }

    /// Has some transmit queues interrupt, as far as `told` does not fail.
    ///
    /// # Errors
    ///
    /// `EBUSY` if that changes and the interface is up, or packets are on their way; those of `told`.
    fn set_tx_interrupts(
        &self,
        queues: Range<usize>,
        settings: Settings,
        told: impl FnOnce() -> Result,
    ) -> Result {
        let on = settings.tx.max_packets != 0;
        let mut changing = queues.filter(|index| self.tx_interrupts(*index) != on);
        let Some(first) = changing.next() else {
            return told();
        };
        let last = changing.last().unwrap_or(first);
        let is_up = |pair: &crate::interface::Pair| pair.tx.device().is_running();
        if self.pairs.first().is_some_and(is_up) {
            return Err(EBUSY);
        }
        told()?;
        let mut done = Ok(());
        for index in first..=last {
            self.with_tx(index, |tx| done = done.and(set_interrupts(tx, on)));
        }
        done
    }

    /// For ethtool, as the next ones.
    pub(crate) fn coalescing(&self) -> Settings {
        match self.coalescer(|can| can.all) {
            Some(coalescer) => coalescer.state.lock().all.settings(),
            None => self.plain(0),
        }
    }

    /// Under the RTNL lock; sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL`, `EOPNOTSUPP`, `EBUSY` if interrupts of packets that were sent are switched on or off and
    /// the interface is up, and those of the control queue.
    pub(crate) fn set_coalescing(&self, settings: Settings) -> Result {
        self.set_tx_interrupts(0..self.pairs.len(), settings, || {
            let Some(coalescer) = self.coalescer(|can| can.all) else {
                return settings.check_plain().map_err(refused);
            };
            let set = coalescer.with(|state, send| state.set_all(settings, send));
            self.adapt(coalescer);
            set
        })
    }

    /// Under the RTNL lock; sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such pair.
    pub(crate) fn queue_coalescing(&self, index: usize) -> Result<Settings> {
        self.pairs.get(index).ok_or(EINVAL)?;
        match self.coalescer(|can| can.each) {
            Some(coalescer) => coalescer.look_at(index),
            None => Ok(self.plain(index)),
        }
    }

    /// Under the RTNL lock; sleeps.
    ///
    /// # Errors
    ///
    /// As [`Interface::set_coalescing`]; `EINVAL` if there is no such pair.
    pub(crate) fn set_queue_coalescing(&self, index: usize, settings: Settings) -> Result {
        self.pairs.get(index).ok_or(EINVAL)?;
        self.set_tx_interrupts(index..index + 1, settings, || {
            let Some(coalescer) = self.coalescer(|can| can.each) else {
                return settings.check_plain().map_err(refused);
            };
            let set = coalescer.with(|state, send| state.set_one(index, settings, send));
            self.adapt(coalescer);
            set
        })
    }

    /// Lets those queues measure that are to adapt.
    fn adapt(&self, coalescer: &Coalescer) {
        for (pair, state) in self.pairs.iter().zip(&coalescer.state.lock().pairs) {
            if let Some(dim) = &pair.dim {
                dim.set_enabled(state.adaptive);
            }
        }
    }
}

#[kunit_tests(virtio_net_coalescing)]
mod tests {
    use super::*;
    use core::cell::RefCell;

    const BOTH: Abilities = Abilities {
        all: true,
        each: true,
    };

    /// A device that carries out commands, but for one, if that is said.
    struct Device {
        commands: RefCell<KVec<(u8, u16, u32, u32)>>,
        refuses: Option<usize>,
    }

    impl Device {
        fn new(refuses: Option<usize>) -> Self {
            Self {
                commands: RefCell::new(KVec::new()),
                refuses,
            }
        }

        /// Number of the command, of the queue, microseconds, packets.
        fn send(&self, command: CtrlHdr, data: &[u8]) -> Result {
            let mut words = data.chunks_exact(4).rev().map(|word| {
                let bytes = word.try_into().map_err(|_| EINVAL)?;
                Ok::<_, Error>(u32::from_le_bytes(bytes))
            });
            let mut next = || words.next().unwrap_or(Ok(0));
            let (usecs, packets, queue) = (next()?, next()?, next()? as u16);
            let mut commands = self.commands.borrow_mut();
            commands.push((command.cmd, queue, usecs, packets), GFP_KERNEL)?;
            if self.refuses == Some(commands.len()) {
                return Err(EINVAL);
            }
            Ok(())
        }

        /// What it was sent since it was asked the last time.
        fn sent(&self) -> KVec<(u8, u16, u32, u32)> {
            self.commands.replace(KVec::new())
        }
    }

    fn settings(rx: (u32, u32), tx: (u32, u32), adaptive_rx: bool) -> Settings {
        let half = |(max_usecs, max_packets)| Coalescing {
            max_usecs,
            max_packets,
        };
        Settings {
            rx: half(rx),
            tx: half(tx),
            adaptive_rx,
        }
    }

    #[test]
    fn all_are_told_at_once_and_again_after_a_reset() -> Result {
        let device = Device::new(None);
        let send = |command, data: &[u8]| device.send(command, data);
        let mut state = State::new(BOTH, 2, true)?;
        // Nothing was asked for, nothing is told.
        state.replay(&send)?;
        assert!(device.sent().is_empty());
        state.set_all(settings((8, 16), (32, 64), false), &send)?;
        let all = [(0, 0, 32, 64), (1, 0, 8, 16)];
        assert!(*device.sent() == all);
        // One does something else: it alone is told by itself.
        state.set_one(1, settings((9, 9), (32, 64), false), &send)?;
        assert!(*device.sent() == [(2, 2, 9, 9), (2, 3, 32, 64)]);
        state.replay(&send)?;
        let [tx, rx] = all;
        assert!(*device.sent() == [tx, rx, (2, 2, 9, 9)]);
        // After a reset of the queue alone, too.
        state.replay_one(Queue::Receive(1), &send)?;
        state.replay_one(Queue::Receive(0), &send)?;
        state.replay_one(Queue::Transmit(1), &send)?;
        assert!(*device.sent() == [(2, 2, 9, 9)]);
        Ok(())
    }

    #[test]
    fn what_is_refused_leaves_everything_as_it_was() -> Result {
        for refuses in 1..=2 {
            let device = Device::new(Some(refuses));
            let send = |command, data: &[u8]| device.send(command, data);
            let mut state = State::new(BOTH, 1, true)?;
            let wanted = settings((8, 16), (32, 64), false);
            assert!(state.set_all(wanted, &send) == Err(EINVAL));
            assert!(state.all.settings() == Settings::FIRST);
            let sent = device.sent();
            let back = sent.last().copied();
            // What the device does by itself.
            assert!(refuses == 1 || back == Some((0, 0, 0, 0)));
            assert!(state.set_one(0, wanted, &send) == Err(EINVAL));
            assert!(state.pairs[0].settings() == Settings::FIRST);
            let back = device.sent().last().copied();
            assert!(refuses == 1 || back == Some((2, 0, 0, 0)));
        }
        Ok(())
    }

    #[test]
    fn only_who_adapts_is_moderated() -> Result {
        let device = Device::new(None);
        let send = |command, data: &[u8]| device.send(command, data);
        let mut state = State::new(BOTH, 2, true)?;
        let wanted = settings((1, 1), (0, 1), false).rx;
        state.adapt(0, wanted, &send)?;
        assert!(device.sent().is_empty());
        let adaptive = settings((0, 0), (0, 1), true);
        state.set_one(0, adaptive, &send)?;
        assert!(*device.sent() == [(2, 1, 0, 1)]);
        state.adapt(0, wanted, &send)?;
        state.adapt(0, wanted, &send)?;
        state.adapt(1, wanted, &send)?;
        state.adapt(7, wanted, &send)?;
        assert!(*device.sent() == [(2, 0, 1, 1)]);
        // Not with values at once.
        assert!(state.set_one(1, settings((5, 5), (0, 1), true), &send) == Err(EINVAL));
        assert!(state.set_one(2, adaptive, &send) == Err(EINVAL));
        let mut state = State::new(
            Abilities {
                each: false,
                ..BOTH
            },
            1,
            true,
        )?;
        assert!(state.set_all(adaptive, &send) == Err(EOPNOTSUPP));
        assert!(device.sent().is_empty());
        Ok(())
    }

    #[test]
    fn the_device_says_what_it_does_if_it_does() -> Result {
        let device = Device::new(None);
        let send = |command, data: &[u8]| device.send(command, data);
        let mut state = State::new(BOTH, 2, true)?;
        let refuses = |_: &[u8]| None;
        // What it was not told of is not asked for.
        assert!(state.ask(1, &refuses)? == Settings::FIRST && state.answers);
        assert!(state.ask(2, &refuses) == Err(EINVAL));
        let wanted = settings((8, 16), (32, 64), false);
        state.set_one(1, wanted, &send)?;
        let rounds = |data: &[u8]| {
            let max_packets = match data {
                [2, 0, 0, 0] => 10,
                [3, 0, 0, 0] => 60,
                _ => return None,
            };
            Some(Coalescing {
                max_usecs: 30,
                max_packets,
            })
        };
        let rounded = settings((30, 10), (30, 60), false);
        assert!(state.ask(1, &rounds)? == rounded);
        assert!(state.ask(1, &refuses)? == rounded && !state.answers);
        assert!(state.ask(1, &rounds)? == rounded);
        Ok(())
    }
}
