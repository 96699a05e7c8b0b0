// SPDX-License-Identifier: GPL-2.0

//! How many queues there are, and who shares one when the device has fewer than before.

use kernel::macros::kunit_tests;

/// Numbers of queues.  Those with interrupts come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    /// With interrupts.
    pub(crate) default: u32,
    /// To be polled.
    pub(crate) poll: u32,
}

/// By which virtqueue a hardware queue is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// By one of its own, with this index.
    Own(usize),
    /// By that of another hardware queue, with this index.
    Other(usize),
}

impl Counts {
    /// As many of these as a device with `most` queues has.
    pub(crate) fn at_most(self, most: u32) -> Self {
        let default = self.default.min(most);
        Self {
            default,
            poll: self.poll.min(most - default),
        }
    }

    /// What carries hardware queue `at` of as many as `before`, where these virtqueues are left; `None`
    /// if there are none.
    ///
    /// A queue that is polled may share one with interrupts: then both end its requests.
    pub(crate) fn carrier(self, before: Self, at: usize) -> Option<Carrier> {
        let (first_polled, default, poll) = (
            before.default as usize,
            self.default as usize,
            self.poll as usize,
        );
        match at.checked_sub(first_polled) {
            None if at < default => Some(Carrier::Own(at)),
            Some(polled) if polled < poll => Some(Carrier::Own(default + polled)),
            Some(polled) if poll != 0 => Some(Carrier::Other(first_polled + polled % poll)),
            _ => Some(Carrier::Other(at.checked_rem(default)?)),
        }
    }
}

#[kunit_tests(virtio_blk_counts)]
mod tests {
    use super::*;
    use kernel::prelude::*;

    const BEFORE: Counts = Counts {
        default: 4,
        poll: 2,
    };

    fn carriers(most: u32) -> [Option<Carrier>; 6] {
        core::array::from_fn(|at| BEFORE.at_most(most).carrier(BEFORE, at))
    }

    #[test]
    fn all_are_there() {
        assert_eq!(BEFORE.at_most(9), BEFORE);
        assert_eq!(
            carriers(6),
            core::array::from_fn(|at| Some(Carrier::Own(at)))
        );
    }

    #[test]
    fn polled_ones_go_first() {
        let own = |at| Some(Carrier::Own(at));
        let other = |at| Some(Carrier::Other(at));
        assert_eq!(
            carriers(5),
            [own(0), own(1), own(2), own(3), own(4), other(4)]
        );
        assert_eq!(
            carriers(4),
            [own(0), own(1), own(2), own(3), other(0), other(1)]
        );
        assert_eq!(
            carriers(3),
            [own(0), own(1), own(2), other(0), other(1), other(2)]
        );
        assert_eq!(
            carriers(1),
            [own(0), other(0), other(0), other(0), other(0), other(0)]
        );
    }

    #[test]
    fn who_carries_has_an_own_one() {
        for most in 1..=6 {
            let carriers = carriers(most);
            for carrier in carriers {
                if let Some(Carrier::Other(at)) = carrier {
                    assert!(matches!(carriers[at], Some(Carrier::Own(_))));
                }
            }
        }
        assert_eq!(carriers(0), [None; 6]);
    }
}
