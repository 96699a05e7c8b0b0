// SPDX-License-Identifier: GPL-2.0

//! Which receive queue a packet comes through, by a hash of it (specification 5.1.9.5.7), and what is
//! hashed for the stack (5.1.9.5.6).
//!
//! C source: `virtnet_init_default_rss`, `virtnet_commit_rss_command`, `virtnet_get_rxfh`,
//! `virtnet_set_rxfh`, `virtnet_get_hashflow`, `virtnet_set_hashflow` in `drivers/net/virtio_net.c`.
//! There a command that fails is no error of `ethtool -X`, what a user set is gone after a reset, and
//! a device whose hashes the stack does not want steers no more.

use crate::{
    control::Control,
    interface::Interface,
    operations::Operations, //
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::Mutex, //
};
use netdev::{
    rss_key,
    DeviceRef,
    RssSizes, //
};
use virtio_spec::net::{
    self,
    ctrl::CtrlHdr,
    limits::Hashing,
    rss::{
        default_entry,
        Fields,
        Flow,
        HashConfig,
        HashTypes,
        RssConfig, //
    }, //
};

/// What the device was told, or is to be.
struct State {
    types: HashTypes,
    /// Empty if it does not steer.
    table: KVec<u16>,
    key: KVec<u8>,
    /// The stack wants hashes.
    reports: bool,
}

impl State {
    fn try_clone(&self) -> Result<Self> {
        let mut copy = Self {
            types: self.types,
            table: KVec::with_capacity(self.table.len(), GFP_KERNEL)?,
            key: KVec::with_capacity(self.key.len(), GFP_KERNEL)?,
            reports: self.reports,
        };
        copy.table.extend_from_slice(&self.table, GFP_KERNEL)?;
        copy.key.extend_from_slice(&self.key, GFP_KERNEL)?;
        Ok(copy)
    }

    /// Spreads packets over so many pairs.
    fn spread(&mut self, pairs: u16) {
        for (index, entry) in (0..).zip(&mut self.table) {
            *entry = default_entry(index, pairs);
        }
    }

    /// The command that tells the device, which then uses so many pairs if it steers, and its data.
    fn command(&self, pairs: u16) -> Result<(CtrlHdr, KVec<u8>)> {
        let (table_len, key_len) = (self.table.len() as u16, self.key.len() as u8);
        let steers = table_len != 0;
        let room = if steers {
            RssConfig::size(table_len, key_len)
        } else {
            HashConfig::size(key_len)
        };
        let mut bytes = KVec::from_elem(0, room, GFP_KERNEL)?;
        let (command, written) = if steers {
            let config = RssConfig {
                types: self.types,
                table: &self.table,
                unclassified: 0,
                pairs,
                key: &self.key,
            };
            (CtrlHdr::MQ_RSS_CONFIG, config.write(&mut bytes))
        } else {
            let types = if self.reports {
                self.types
            } else {
                HashTypes::EMPTY
            };
            let config = HashConfig {
                types,
                key: &self.key,
            };
            (CtrlHdr::MQ_HASH_CONFIG, config.write(&mut bytes))
        };
        bytes.truncate(written.map_err(|_| EINVAL)?);
        Ok((command, bytes))
    }
}

/// The hashing of a device, by which it steers, or which it reports.
#[pin_data]
pub(crate) struct Steering {
    supported: HashTypes,
    /// Changes under the RTNL lock.
    #[pin]
    state: Mutex<State>,
}

impl Steering {
    /// That of a device that can hash as `hashing` says, if it can.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(hashing: Option<Hashing>) -> Result<Option<Pin<KBox<Self>>>> {
        let Some(hashing) = hashing else {
            return Ok(None);
        };
        let table_len = hashing.table_len.unwrap_or(0);
        let mut key = KVec::from_elem(0, hashing.key_size.into(), GFP_KERNEL)?;
        rss_key(&mut key);
        let state = State {
            types: hashing.types,
            table: KVec::from_elem(0, table_len.into(), GFP_KERNEL)?,
            key,
            reports: false,
        };
        let this = KBox::pin_init(
            pin_init!(Self {
                supported: hashing.types,
                state <- new_mutex!(state),
            }),
            GFP_KERNEL,
        )?;
        Ok(Some(this))
    }

    /// Has the device use so many pairs, over which packets are spread unless a user says how.  Under
    /// the RTNL lock, or before anybody else sees the interface; sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL` if what a user said is about other pairs too, `ENOMEM`, and those of the control queue.
    pub(crate) fn set_pairs(&self, control: &Control, pairs: u16, configured: bool) -> Result {
        self.change(control, pairs, |state| {
            if !configured {
                state.spread(pairs);
            }
            Ok(())
        })
    }

    /// Tells the device of a change, which takes place if it takes it.
    fn change(
        &self,
        control: &Control,
        pairs: u16,
        change: impl FnOnce(&mut State) -> Result,
    ) -> Result {
        let mut next = self.state.lock().try_clone()?;
        let reported = next.reports;
        change(&mut next)?;
        // Nobody wants hashes, nobody wanted any.
        if !next.table.is_empty() || next.reports || reported {
            let (command, data) = next.command(pairs)?;
            control.run(command, &data)?;
        }
        *self.state.lock() = next;
        Ok(())
    }
}

impl Interface {
    /// Whether the device steers by a hash.
    pub(crate) fn steers(&self) -> bool {
        self.features.has::<net::Rss>()
    }

    /// Has the device report hashes to the stack, or not.  One that steers by them goes on with that.
    /// Under the RTNL lock; sleeps.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if it does not hash, `ENOMEM`, and those of the control queue.
    pub(crate) fn set_reports(&self, control: &Control, on: bool) -> Result {
        let steering = self.steering.as_ref().ok_or(EOPNOTSUPP)?;
        if self.steers() {
            return Ok(());
        }
        steering.change(control, self.pairs_in_use() as u16, |state| {
            state.reports = on;
            Ok(())
        })
    }

    /// Steering, how to tell the device of it, and how many pairs there are.
    fn steering_now(&self) -> Result<(Pin<&Steering>, &Control, u16)> {
        let steering = self.steering.as_ref().ok_or(EOPNOTSUPP)?;
        let control = self.control.as_deref().ok_or(EOPNOTSUPP)?;
        Ok((steering.as_ref(), control, self.pairs_in_use() as u16))
    }

    pub(crate) fn rss_sizes(&self) -> RssSizes {
        let sizes = self.steering.as_ref().map(|steering| {
            let state = steering.state.lock();
            RssSizes {
                table: state.table.len() as u32,
                key: state.key.len() as u32,
            }
        });
        sizes.unwrap_or_default()
    }

    pub(crate) fn show_rss(&self, table: &mut [u32], key: &mut [u8]) {
        if let Some(steering) = &self.steering {
            let state = steering.state.lock();
            for (to, from) in table.iter_mut().zip(&state.table) {
                *to = (*from).into();
            }
            for (to, from) in key.iter_mut().zip(&state.key) {
                *to = *from;
            }
        }
    }

    /// Changes table, or key, or both.  Under the RTNL lock; sleeps.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if the device does not steer by a hash; as [`Steering::set_pairs`].
    pub(crate) fn set_rss(&self, table: Option<&[u32]>, key: Option<&[u8]>) -> Result {
        let (steering, control, pairs) = self.steering_now()?;
        if table.is_some() && !self.steers() {
            return Err(EOPNOTSUPP);
        }
        steering.change(control, pairs, |state| {
            for (to, from) in state.table.iter_mut().zip(table.unwrap_or_default()) {
                *to = u16::try_from(*from).map_err(|_| EINVAL)?;
            }
            for (to, from) in state.key.iter_mut().zip(key.unwrap_or_default()) {
                *to = *from;
            }
            Ok(())
        })
    }

    pub(crate) fn rss_fields(&self, flow: Flow) -> Fields {
        match &self.steering {
            Some(steering) => steering.state.lock().types.fields(flow),
            None => Fields::Nothing,
        }
    }

    /// Changes what of packets of `flow` is hashed.  Under the RTNL lock; sleeps.
    ///
    /// # Errors
    ///
    /// As [`Interface::set_rss`]; `EINVAL` if the device cannot.
    pub(crate) fn set_rss_fields(&self, flow: Flow, fields: Fields) -> Result {
        let (steering, control, pairs) = self.steering_now()?;
        steering.change(control, pairs, |state| {
            let types = state.types.with_fields(flow, fields, steering.supported);
            state.types = types.ok_or(EINVAL)?;
            Ok(())
        })
    }

    /// Has the device use so many pairs, in whatever way it has.
    pub(crate) fn tell_pairs(
        &self,
        device: &DeviceRef<Operations>,
        control: &Control,
        pairs: u32,
    ) -> Result {
        if let Some(steering) = self.steering.as_ref().filter(|_| self.steers()) {
            // Each of the two commands undoes the other.
            return steering.set_pairs(control, pairs as u16, device.has_rss_of_user());
        }
        if !self.features.has::<net::Mq>() {
            return Err(EOPNOTSUPP);
        }
        let most = self.pairs.len() as u16;
        let data = self.order.queue_pairs(pairs as u16, most).ok_or(EINVAL)?;
        control.run(CtrlHdr::MQ_VQ_PAIRS_SET, &data)
    }
}

#[kunit_tests(virtio_net_steering)]
mod tests {
    use super::*;

    fn hashing(table_len: Option<u16>) -> Option<Hashing> {
        Some(Hashing {
            key_size: 40,
            types: HashTypes::ALL,
            table_len,
            reports: false,
        })
    }

    #[test]
    fn who_has_no_table_hashes_for_the_stack_alone() -> Result {
        assert!(Steering::new(None)?.is_none());
        let steering = Steering::new(hashing(None))?.ok_or(EINVAL)?;
        let mut state = steering.state.lock();
        for (reports, types) in [(false, 0), (true, 0x3f)] {
            state.reports = reports;
            let (command, data) = state.command(1)?;
            assert!(command == CtrlHdr::MQ_HASH_CONFIG && data.len() == 13 + 40);
            assert!(data.get(..4) == Some(&[types, 0, 0, 0]));
        }
        Ok(())
    }

    #[test]
    fn who_steers_does_so_whoever_wants_hashes() -> Result {
        let steering = Steering::new(hashing(Some(8)))?.ok_or(EINVAL)?;
        let (command, data) = steering.state.lock().command(1)?;
        assert!(command == CtrlHdr::MQ_RSS_CONFIG && data.first() == Some(&0x3f));
        Ok(())
    }

    #[test]
    fn packets_are_spread_over_all_pairs_with_some_key() -> Result {
        let steering = Steering::new(hashing(Some(8)))?.ok_or(EINVAL)?;
        let mut state = steering.state.lock();
        assert!(state.key.len() == 40 && state.key.iter().any(|byte| *byte != 0));
        state.spread(3);
        assert!(*state.table == [0, 1, 2, 0, 1, 2, 0, 1]);
        let copy = state.try_clone()?;
        assert!(copy.table == state.table && copy.key == state.key);
        Ok(())
    }
}
