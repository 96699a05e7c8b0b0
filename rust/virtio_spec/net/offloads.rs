// SPDX-License-Identifier: GPL-2.0

//! Receive offloads that can be switched while the device runs (section 5.1.9.5.9).
//!
//! C: `guest_offloads`, `GUEST_OFFLOAD_GRO_HW_MASK`, `virtnet_set_features` and
//! `virtnet_xdp_set` in `drivers/net/virtio_net.c`.

use super::{
    CtrlGuestOffloads, GuestCsum, GuestEcn, GuestHdrlen, GuestTso4, GuestTso6, GuestUdpTunnelGso,
    GuestUdpTunnelGsoCsum, GuestUfo, GuestUso4, GuestUso6,
};
use crate::features::{Feature, Features};

/// A set of receive offloads, as the command has it: bits of features, but for two that are beyond
/// the 64 that it has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GuestOffloads(u64);

/// The feature and the bit of each offload.
const TABLE: [(u32, u32); 10] = [
    (GuestTso4::BIT, GuestTso4::BIT),
    (GuestTso6::BIT, GuestTso6::BIT),
    (GuestEcn::BIT, GuestEcn::BIT),
    (GuestUfo::BIT, GuestUfo::BIT),
    (GuestCsum::BIT, GuestCsum::BIT),
    (GuestUso4::BIT, GuestUso4::BIT),
    (GuestUso6::BIT, GuestUso6::BIT),
    (GuestHdrlen::BIT, GuestHdrlen::BIT),
    (GuestUdpTunnelGso::BIT, 46),
    (GuestUdpTunnelGsoCsum::BIT, 47),
];

impl GuestOffloads {
    /// None of them.
    pub const EMPTY: Self = Self(0);

    /// Those that coalesce packets: what `NETIF_F_GRO_HW` stands for (C:
    /// `GUEST_OFFLOAD_GRO_HW_MASK`).
    pub const GRO_HW: Self = Self::of_features(Features::of(&[
        GuestTso4::BIT,
        GuestTso6::BIT,
        GuestEcn::BIT,
        GuestUfo::BIT,
        GuestUso4::BIT,
        GuestUso6::BIT,
        GuestUdpTunnelGso::BIT,
        GuestUdpTunnelGsoCsum::BIT,
    ]));

    /// All that were negotiated: what is on after a reset, and what can be on.
    pub const fn of_features(features: Features) -> Self {
        let mut bits = 0;
        let mut rest: &[(u32, u32)] = &TABLE;
        while let [(feature, bit), tail @ ..] = rest {
            if features.has_bit(*feature) {
                bits |= 1 << *bit;
            }
            rest = tail;
        }
        Self(bits)
    }

    /// The data of the command, as a number.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those of `self` that are in `other` too.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those of `self` that are not in `other`.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Those of `self`, with or without what coalesces packets.
    #[must_use]
    pub const fn with_gro_hw(self, on: bool) -> Self {
        if on {
            self
        } else {
            self.difference(Self::GRO_HW)
        }
    }
}

/// Whether the driver can switch what coalesces packets.
pub const fn can_toggle_gro_hw(features: Features) -> bool {
    let can = GuestOffloads::of_features(features).intersection(GuestOffloads::GRO_HW);
    features.has::<CtrlGuestOffloads>() && !can.is_empty()
}

/// Whether packets can come as an XDP program wants them: whole, and with their checksums.  All
/// offloads are off then.
pub const fn can_run_xdp(features: Features) -> bool {
    let harmless = Features::of(&[GuestHdrlen::BIT]);
    features.has::<CtrlGuestOffloads>()
        || GuestOffloads::of_features(features.difference(harmless)).is_empty()
}
