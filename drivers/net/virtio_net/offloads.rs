// SPDX-License-Identifier: GPL-2.0

//! What the device does for the stack: checksums, segments, hashes (specification 5.1.3.1).
//!
//! C source: the features in `virtnet_probe`, `virtnet_set_features`, `virtnet_clear_guest_offloads`,
//! `virtnet_restore_guest_offloads` in `drivers/net/virtio_net.c`.

use crate::{
    interface::Interface,
    operations::Operations, //
};
use kernel::prelude::*;
use netdev::{
    feature,
    DeviceRef, //
};
use virtio_spec::{
    net::{
        self,
        ctrl::CtrlHdr,
        offloads::{
            can_toggle_gro_hw,
            GuestOffloads, //
        }, //
    },
    Features, //
};

/// What the device does for the stack: now, and what may be switched on and off.  `csum` and `gso` may
/// be off at first; the stack itself sees to it that segments are not cut without checksums.
pub(crate) fn stack_features(features: Features, csum: bool, gso: bool) -> (u64, u64) {
    let mut changeable = 0;
    let mut on = feature::HIGHDMA | feature::RXCSUM;
    if features.has::<net::Csum>() {
        changeable |= feature::HW_CSUM | feature::SG;
        let any = features.has::<net::Gso>();
        for (has, bits) in [
            (any, feature::TSO | feature::TSO_ECN | feature::TSO6),
            (features.has::<net::HostTso4>(), feature::TSO),
            (features.has::<net::HostTso6>(), feature::TSO6),
            (features.has::<net::HostEcn>(), feature::TSO_ECN),
            (features.has::<net::HostUso>(), feature::GSO_UDP_L4),
            (
                features.has::<net::HostUdpTunnelGso>(),
                feature::GSO_UDP_TUNNEL,
            ),
            (
                features.has::<net::HostUdpTunnelGsoCsum>(),
                feature::GSO_UDP_TUNNEL_CSUM,
            ),
        ] {
            if has {
                changeable |= bits;
            }
        }
        on |= feature::GSO_ROBUST;
        if csum {
            on |= feature::HW_CSUM | feature::SG;
        }
        if gso {
            on |= changeable;
        }
    }
    if features.has::<net::GuestTso4>() || features.has::<net::GuestTso6>() {
        on |= feature::GRO_HW;
    }
    if can_toggle_gro_hw(features) {
        changeable |= feature::GRO_HW;
    }
    if features.has::<net::Rss>() || features.has::<net::HashReport>() {
        changeable |= feature::RXHASH;
    }
    if features.has::<net::CtrlVlan>() {
        on |= feature::HW_VLAN_CTAG_FILTER;
    }
    (on, changeable)
}

/// Which of `changeable` the device does for packets in tunnels, too: all it does for those that are sent.
pub(crate) fn tunnel_features(changeable: u64) -> u64 {
    if changeable & feature::GSO_UDP_TUNNEL == 0 {
        return 0;
    }
    changeable & !(feature::GRO_HW | feature::RXHASH)
}

impl Interface {
    /// What the device is to do for packets that are received.
    pub(crate) fn wanted_offloads(&self, device: &DeviceRef<Operations>) -> GuestOffloads {
        if self.xdp_queues.is_on() {
            return GuestOffloads::EMPTY;
        }
        let coalesces =
            !can_toggle_gro_hw(self.features) || device.features() & feature::GRO_HW != 0;
        GuestOffloads::of_features(self.features).with_gro_hw(coalesces)
    }

    /// Has the device do `offloads` for packets that are received, if it has any that can be switched.
    ///
    /// # Errors
    ///
    /// Those of the control queue.
    pub(crate) fn set_offloads(&self, offloads: GuestOffloads) -> Result {
        let features = self.features;
        let any = !GuestOffloads::of_features(features).is_empty();
        match &self.control {
            Some(control) if any && features.has::<net::CtrlGuestOffloads>() => {
                let data = self.order.guest_offloads(offloads);
                control.run(CtrlHdr::GUEST_OFFLOADS_SET, &data)
            }
            _ => Ok(()),
        }
    }

    /// Changes what the device does for the stack from `now` to `wanted`.  Under the RTNL lock; sleeps.
    ///
    /// # Errors
    ///
    /// `EBUSY` if a program wants packets as they are, and those of the control queue; nothing has
    /// changed then.
    pub(crate) fn set_features(&self, now: u64, wanted: u64) -> Result {
        let Some(control) = &self.control else {
            return Ok(());
        };
        let changes = |bit| ((now ^ wanted) & bit != 0).then_some(wanted & bit != 0);
        let gro_hw = changes(feature::GRO_HW);
        if gro_hw.is_some() && self.xdp_queues.is_on() {
            return Err(EBUSY);
        }
        if let Some(on) = changes(feature::RXHASH) {
            self.set_reports(control, on)?;
        }
        let Some(on) = gro_hw else {
            return Ok(());
        };
        let all = GuestOffloads::of_features(self.features);
        self.set_offloads(all.with_gro_hw(on)).inspect_err(|_| {
            if let Some(on) = changes(feature::RXHASH) {
                // What fails now was said.
                let _ = self.set_reports(control, !on);
            }
        })
    }
}
