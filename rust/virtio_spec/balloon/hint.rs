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

/// What goes into the queue next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Nothing,
    /// The number of a command, whose hints begin.
    Begin(u32),
    /// A hint.
    Hint,
    /// [`CMD_ID_STOP`]: there are no more hints for that command.
    End,
}

/// How far the hints are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hinting {
    /// What the device said last.
    said: u32,
    /// For which command hints were given last.
    begun: u32,
    /// They are still being given.
    open: bool,
    /// There are no more pages to hint.
    exhausted: bool,
}

impl Hinting {
    /// The device has said nothing.
    pub const fn new() -> Self {
        Self {
            said: CMD_ID_STOP,
            begun: CMD_ID_STOP,
            open: false,
            exhausted: false,
        }
    }

    /// The device says `cmd_id`, any number of times.
    pub fn receive(&mut self, cmd_id: Untrusted<u32>) {
        // Any number means something.
        self.said = cmd_id.validate(Some).unwrap_or(CMD_ID_STOP);
    }

    /// Whether hinted pages are to be kept out of use: as long as the device does not say otherwise.
    pub const fn keeps(&self) -> bool {
        self.said != CMD_ID_DONE
    }

    /// What goes into the queue next.  Each command is hinted for once, and for nothing but what the
    /// device said last.
    pub const fn next(&self) -> Next {
        if self.open {
            if self.said == self.begun && !self.exhausted {
                Next::Hint
            } else {
                Next::End
            }
        } else if self.said > CMD_ID_DONE && self.said != self.begun {
            Next::Begin(self.said)
        } else {
            Next::Nothing
        }
    }

    /// [`Next::Begin`] is in the queue.
    pub fn begin(&mut self, id: u32) {
        self.begun = id;
        self.open = true;
        self.exhausted = false;
    }

    /// There was no page to hint.
    pub fn exhaust(&mut self) {
        self.exhausted = true;
    }

    /// [`Next::End`] is in the queue.
    pub fn end(&mut self) {
        self.open = false;
    }
}

impl Default for Hinting {
    fn default() -> Self {
        Self::new()
    }
}
