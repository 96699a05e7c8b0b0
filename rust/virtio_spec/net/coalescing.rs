// SPDX-License-Identifier: GPL-2.0

//! When a device notifies (section 5.1.9.5.10): what may be asked of it, and what that takes.
//!
//! C: `virtnet_set_coalesce`, `virtnet_set_per_queue_coalesce`, `virtnet_send_rx_notf_coal_cmds` and
//! `virtnet_coal_params_supported` in `drivers/net/virtio_net.c`.

use super::payload::Coalescing;
use super::{NotfCoal, VqNotfCoal};
use crate::features::Features;

/// What a device lets be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// The same for all queues of a direction.
    pub all: bool,
    /// Something else for each queue.
    pub each: bool,
}

/// When a pair of queues, or all of them, notify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// For received packets.
    pub rx: Coalescing,
    /// For sent ones: with none at most, there is no notification as long as there is room.
    pub tx: Coalescing,
    /// What is for received packets follows what is received.
    pub adaptive_rx: bool,
}

/// Why something may not be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The device cannot do it.
    Unsupported,
    /// It is no choice.
    Invalid,
}

/// What a choice for received packets takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing but that it follows what is received from now on.
    Adapt,
    /// A command with these values.
    Send(Coalescing),
}

const fn at_most(max_packets: u32) -> Coalescing {
    Coalescing {
        max_usecs: 0,
        max_packets,
    }
}

impl Abilities {
    /// Those of a device with the negotiated `features`.
    pub const fn of(features: Features) -> Self {
        Self {
            all: features.has::<NotfCoal>(),
            each: features.has::<VqNotfCoal>(),
        }
    }

    /// Whether there are any.
    pub const fn any(self) -> bool {
        self.all || self.each
    }
}

impl Settings {
    /// What a device does that lets nothing be chosen: each packet is notified of.
    pub const PLAIN: Self = Self {
        rx: at_most(1),
        tx: at_most(1),
        adaptive_rx: false,
    };

    /// What is shown of a device that lets it be chosen, before somebody does.
    pub const FIRST: Self = Self {
        rx: at_most(0),
        tx: at_most(1),
        adaptive_rx: false,
    };

    /// Whether a device may be asked for this that lets nothing be chosen.
    ///
    /// # Errors
    ///
    /// Why not.
    pub const fn check_plain(self) -> Result<(), Refused> {
        if self.rx.max_usecs != 0 || self.tx.max_usecs != 0 || self.adaptive_rx {
            return Err(Refused::Unsupported);
        }
        if self.tx.max_packets > 1 || self.rx.max_packets != 1 {
            return Err(Refused::Invalid);
        }
        Ok(())
    }

    /// What it takes to have received packets notified of as in `wanted`, from this.
    ///
    /// # Errors
    ///
    /// `Unsupported` if it is to be adaptive, and the device has the same for all queues; `Invalid` if
    /// values are chosen at once with that.
    pub fn change_rx(self, wanted: Self, abilities: Abilities) -> Result<Change, Refused> {
        if wanted.adaptive_rx {
            if !abilities.each {
                return Err(Refused::Unsupported);
            }
            if wanted.rx != self.rx {
                return Err(Refused::Invalid);
            }
            if !self.adaptive_rx {
                return Ok(Change::Adapt);
            }
        }
        Ok(Change::Send(wanted.rx))
    }
}
