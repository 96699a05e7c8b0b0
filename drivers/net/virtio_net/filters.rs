// SPDX-License-Identifier: GPL-2.0

//! What the device lets through: receive mode, addresses, VLANs (specification 5.1.9.5.1 to 5.1.9.5.3).
//!
//! C source: `virtnet_rx_mode_work`, `virtnet_vlan_rx_add_vid`, `virtnet_vlan_rx_kill_vid` in
//! `drivers/net/virtio_net.c`.  There a refused VLAN is no error, and a reset loses all of them.

use crate::control::Control;
use kernel::{
    new_mutex,
    prelude::*,
    sync::Mutex, //
};
use netdev::RxFilter;
use virtio_spec::{
    net::{
        self,
        ctrl::CtrlHdr,
        payload::{
            switch,
            Extra,
            MacTables,
            NoRoom,
            Order,
            RxMode, //
        }, //
    },
    Features, //
};

/// Addresses of a table that is sent, at most; with more, packets are let through that need not be.
const MAX_ADDRESSES: usize = 4096;

/// VLAN ids that there are.
const VLANS: u16 = 4096;

const WORD_BITS: u16 = u64::BITS as u16;

/// A set of VLAN ids.
struct VlanSet([u64; (VLANS / WORD_BITS) as usize]);

impl VlanSet {
    const EMPTY: Self = Self([0; (VLANS / WORD_BITS) as usize]);

    /// Puts `id` into the set, or out of it; ids that there cannot be are not in it.
    fn set(&mut self, id: u16, present: bool) {
        if let Some(word) = self.0.get_mut(usize::from(id / WORD_BITS)) {
            let bit = 1 << (id % WORD_BITS);
            *word = if present { *word | bit } else { *word & !bit };
        }
    }

    /// Calls `f` for each id, in order.
    fn for_each(&self, mut f: impl FnMut(u16)) {
        for (base, word) in (0..).step_by(usize::from(WORD_BITS)).zip(&self.0) {
            let mut rest = *word;
            while rest != 0 {
                f(base + rest.trailing_zeros() as u16);
                rest &= rest - 1;
            }
        }
    }
}

/// What the device was asked to let through, as far as the stack does not keep it.
#[pin_data]
pub(crate) struct Filters {
    order: Order,
    /// The device can be asked for more than C's driver does (`VIRTIO_NET_F_CTRL_RX_EXTRA`).
    has_extra: bool,
    /// VLANs; the lock is not held while a command is carried out.
    #[pin]
    vlans: Mutex<VlanSet>,
}

impl Filters {
    pub(crate) fn new(features: Features) -> impl PinInit<Self> {
        pin_init!(Self {
            order: Order::of(features),
            has_extra: features.has::<net::CtrlRxExtra>(),
            vlans <- new_mutex!(VlanSet::EMPTY),
        })
    }

    /// Has the device let packets of a VLAN through, or not any more; one that is being reset hears of
    /// it when it is back.  Under the RTNL lock; sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such VLAN, and those of [`Control::run`].
    pub(crate) fn set_vlan(&self, control: &Control, id: u16, present: bool) -> Result {
        let data = self.order.vlan(id).ok_or(EINVAL)?;
        match control.run(vlan_command(present), &data) {
            Err(error) if control.is_open() => return Err(error),
            _ => self.vlans.lock().set(id, present),
        }
        Ok(())
    }

    /// Tells a device that was reset of all VLANs.  Sleeps.
    pub(crate) fn replay_vlans(&self, control: &Control) -> Result {
        let mut ids = KVec::new();
        let mut pushed = Ok(());
        self.vlans.lock().for_each(|id| {
            if pushed.is_ok() {
                pushed = ids.push(id, GFP_KERNEL);
            }
        });
        pushed?;
        for id in ids {
            let data = self.order.vlan(id).ok_or(EINVAL)?;
            control.run(vlan_command(true), &data).or_else(or_refused)?;
        }
        Ok(())
    }

    /// Tells the device what to let through.  Under the RTNL lock; sleeps.
    ///
    /// # Errors
    ///
    /// Those of [`Control::run`], but that a device may refuse any of it: it does not do so for asking
    /// again.
    pub(crate) fn set_rx_mode(&self, control: &Control, filter: &RxFilter) -> Result {
        let mode = RxMode {
            promiscuous: filter.promiscuous,
            all_multicast: filter.all_multicast,
            unicast: filter.unicast.len(),
            multicast: filter.multicast.len(),
            extra: Extra::default(),
        };
        let mode = if self.has_extra {
            mode.within_extra(MAX_ADDRESSES, filter.no_multicast)
        } else {
            mode.within(MAX_ADDRESSES)
        };
        let table = self.table(filter, mode)?;
        for (command, data) in [
            (CtrlHdr::RX_PROMISC, &switch(mode.promiscuous)[..]),
            (CtrlHdr::RX_ALLMULTI, &switch(mode.all_multicast)),
            (CtrlHdr::MAC_TABLE_SET, &table),
        ] {
            control.run(command, data).or_else(or_refused)?;
        }
        if self.has_extra {
            for (command, on) in [
                (CtrlHdr::RX_ALLUNI, mode.extra.all_unicast),
                (CtrlHdr::RX_NOMULTI, mode.extra.no_multicast),
            ] {
                control.run(command, &switch(on)).or_else(or_refused)?;
            }
        }
        Ok(())
    }

    /// The addresses that `mode` says are sent.
    fn table(&self, filter: &RxFilter, mode: RxMode) -> Result<KVec<u8>> {
        let mut bytes = KVec::from_elem(0, mode.table_size(), GFP_KERNEL)?;
        let write = |bytes: &mut [u8]| -> Result<usize, NoRoom> {
            let mut tables = MacTables::new(self.order, bytes)?;
            for address in filter.unicast.iter().take(mode.unicast) {
                tables.push(*address)?;
            }
            let mut tables = tables.multicast();
            for address in filter.multicast.iter().take(mode.multicast) {
                tables.push(*address)?;
            }
            Ok(tables.finish())
        };
        // As long as was counted.
        write(&mut bytes).map_err(|NoRoom| EINVAL)?;
        Ok(bytes)
    }
}

const fn vlan_command(present: bool) -> CtrlHdr {
    if present {
        CtrlHdr::VLAN_ADD
    } else {
        CtrlHdr::VLAN_DEL
    }
}

/// What the device refuses was said, and is all that can be done.
pub(crate) fn or_refused(error: Error) -> Result {
    if error == EINVAL {
        Ok(())
    } else {
        Err(error)
    }
}

#[kunit_tests(virtio_net_filters)]
mod tests {
    use super::*;

    fn ids(set: &VlanSet) -> Result<KVec<u16>> {
        let mut ids = KVec::new();
        let mut pushed = Ok(());
        set.for_each(|id| {
            if pushed.is_ok() {
                pushed = ids.push(id, GFP_KERNEL);
            }
        });
        pushed?;
        Ok(ids)
    }

    #[test]
    fn a_set_of_vlans_has_what_was_put_into_it() -> Result {
        let mut set = VlanSet::EMPTY;
        assert!(ids(&set)?.is_empty());
        for id in [4095, 0, 63, 64, 100] {
            set.set(id, true);
        }
        // There is no such VLAN.
        set.set(4096, true);
        assert!(*ids(&set)? == [0, 63, 64, 100, 4095]);
        set.set(63, false);
        set.set(1, false);
        set.set(u16::MAX, false);
        assert!(*ids(&set)? == [0, 64, 100, 4095]);
        Ok(())
    }

    #[test]
    fn what_a_device_refuses_is_not_asked_for_again() {
        assert!(or_refused(EINVAL).is_ok());
        assert!(or_refused(ETIMEDOUT) == Err(ETIMEDOUT));
    }
}
