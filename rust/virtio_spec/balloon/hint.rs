// SPDX-License-Identifier: GPL-2.0

//! Free page hinting (section 5.5.6.5): the device gives commands by number, and the driver says
//! which of them its hints are for.
//!
//! C: `report_free_page_func` in `drivers/virtio/virtio_balloon.c`.

use crate::untrusted::Untrusted;

/// `free_page_hint_cmd_id`: stop hinting (section 5.5.6.5).
pub const CMD_ID_STOP: u32 = 0;
/// `free_page_hint_cmd_id`: hinting is complete, hinted pages may be reused (section 5.5.6.5).
pub const CMD_ID_DONE: u32 = 1;

/// What the driver is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Nothing new: hints that were given stay.
    Nothing,
    /// Take all hinted pages back.
    TakeBack,
    /// Give hints, which begin with this number.
    Hint(u32),
}

/// The command that hints are being given for, or were given for last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hinting(u32);

impl Hinting {
    /// None.
    pub const fn new() -> Self {
        Self(CMD_ID_STOP)
    }

    /// The device says `cmd_id`, any number of times.
    pub fn receive(&mut self, cmd_id: Untrusted<u32>) -> Order {
        let order = cmd_id.validate(|id| match id {
            CMD_ID_STOP => None,
            CMD_ID_DONE => Some(Order::TakeBack),
            id if id == self.0 => None,
            id => Some(Order::Hint(id)),
        });
        if let Some(Order::Hint(id)) = order {
            self.0 = id;
        }
        order.unwrap_or(Order::Nothing)
    }

    /// Whether more hints are wanted while the device says `cmd_id`: not if it says anything but what
    /// they are given for.
    pub fn goes_on(&self, cmd_id: Untrusted<u32>) -> bool {
        self.0 > CMD_ID_DONE && cmd_id.validate(|id| (id == self.0).then_some(())).is_some()
    }
}

impl Default for Hinting {
    fn default() -> Self {
        Self::new()
    }
}
