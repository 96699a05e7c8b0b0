// SPDX-License-Identifier: GPL-2.0

//! What the log is told of a disk, each kind of message once a second at most.

use kernel::{
    device,
    new_mutex,
    prelude::*,
    str::CStr,
    sync::Mutex,
    time::{
        Delta,
        Instant,
        Monotonic, //
    }, //
};

/// How much time there is between messages of a kind at least.
const INTERVAL: Delta = Delta::from_secs(1);

/// What a message is about.
///
/// Each has an interval of its own, so that what is done about a late request is never kept from the
/// log by what was tried before.
#[derive(Clone, Copy)]
pub(crate) enum Topic {
    Configuration,
    Zone,
    Size,
    Nudge,
    Reset,
    Death,
}

/// When something was said of each topic.
#[pin_data]
pub(crate) struct Messages {
    #[pin]
    last: Mutex<[Option<Instant<Monotonic>>; Topic::Death as usize + 1]>,
}

impl Messages {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            last <- new_mutex!([None; Topic::Death as usize + 1]),
        })
    }

    /// Whether the last message of `topic` is a while ago; if so, there is one now.  May sleep.
    pub(crate) fn may_speak(&self, topic: Topic) -> bool {
        let now = Instant::now();
        let mut last = self.last.lock();
        let Some(last) = last.get_mut(topic as usize) else {
            return false;
        };
        let may = last.is_none_or(|last| now - last >= INTERVAL);
        if may {
            *last = Some(now);
        }
        may
    }

    /// Logs an error of which a device can cause many.  May sleep.
    pub(crate) fn complain(&self, device: &device::Device, topic: Topic, message: &CStr) {
        if self.may_speak(topic) {
            dev_err!(device, "{}\n", message);
        }
    }
}
