// SPDX-License-Identifier: GPL-2.0

//! Traditional memory balloon device (section 5.5).

pub mod hint;
pub mod pfn;
pub mod stats;
pub mod target;

use zerocopy::little_endian::U32;
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::config::{config_fields, Always};
use crate::device_type::DeviceType;
use crate::features::{feature_types, AppliesTo, Class, Features};
use crate::negotiate::Requirement;
use crate::transport::Version1;

/// The class of the balloon device.
#[derive(Debug, Clone, Copy)]
pub struct Balloon;

impl AppliesTo<Self> for Balloon {}

impl Class for Balloon {
    const DEVICE: DeviceType = DeviceType::BALLOON;
    const DEFINED: Features = DEFINED;
    const REQUIREMENTS: &'static [Requirement] = REQUIREMENTS;
    const NAMES: &'static [(u32, &'static str)] = NAMES;
}

feature_types! {
    Balloon;
    /// The device is to be told before pages of the balloon are used.
    MustTellHost = 0, "VIRTIO_BALLOON_F_MUST_TELL_HOST", [];
    /// There is a queue for memory statistics.
    StatsVq = 1, "VIRTIO_BALLOON_F_STATS_VQ", [];
    /// The balloon is deflated when the guest runs out of memory.
    DeflateOnOom = 2, "VIRTIO_BALLOON_F_DEFLATE_ON_OOM", [];
    /// The device can ask for hints about free pages.
    FreePageHint = 3, "VIRTIO_BALLOON_F_FREE_PAGE_HINT", [];
    /// The driver tells the device that it fills free pages with `poison_val`.
    PagePoison = 4, "VIRTIO_BALLOON_F_PAGE_POISON", [];
    /// There is a queue on which the driver reports free pages.
    Reporting = 5, "VIRTIO_BALLOON_F_REPORTING", [];
}

/// Index of the queue for pages that the guest gives up (section 5.5.2).
pub const INFLATE_QUEUE: usize = 0;
/// Index of the queue for pages that the guest takes back (section 5.5.2).
pub const DEFLATE_QUEUE: usize = 1;

/// Indices of the queues that not every device has; those whose feature is missing take none (section
/// 5.5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueIndices {
    /// The queue for memory statistics.
    pub stats: Option<usize>,
    /// The queue for free page hints.
    pub free_page: Option<usize>,
    /// The queue for reports of free pages.
    pub reporting: Option<usize>,
}

impl QueueIndices {
    /// Those of a device with these features.
    pub fn of(features: Features) -> Self {
        let mut next = DEFLATE_QUEUE;
        let mut index = |has: bool| {
            has.then(|| {
                next += 1;
                next
            })
        };
        Self {
            stats: index(features.has::<StatsVq>()),
            free_page: index(features.has::<FreePageHint>()),
            reporting: index(features.has::<Reporting>()),
        }
    }
}

/// In which order the bytes of a number are in what goes through the queues (section 5.5.6.0.1).
///
/// The configuration is little-endian either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// Little-endian.
    Modern,
    /// As the guest has it.
    Legacy,
}

impl Wire {
    /// That of a device with these features.
    pub const fn of(features: Features) -> Self {
        if features.has::<Version1>() {
            Self::Modern
        } else {
            Self::Legacy
        }
    }

    /// The word whose bytes in memory are those of `value`.
    #[inline]
    pub const fn word(self, value: u32) -> u32 {
        match self {
            Self::Modern => value.to_le(),
            Self::Legacy => value,
        }
    }
}

/// What the guest does with pages that it frees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreePages {
    /// It leaves them as they are.
    AsTheyAre,
    /// It fills them with zeroes (C: `want_init_on_free`).
    Zeroed,
    /// It fills them with `PAGE_POISON`, and looks whether they still are when it allocates them.
    Poisoned,
}

/// The byte that free pages are filled with (C: `PAGE_POISON`).
pub const PAGE_POISON: u8 = 0xaa;

impl FreePages {
    /// What the device is told in `poison_val`, if there is something to tell (section 5.5.6.6).
    pub const fn poison_val(self) -> Option<u32> {
        match self {
            Self::AsTheyAre => None,
            Self::Zeroed => Some(0),
            Self::Poisoned => Some(u32::from_ne_bytes([PAGE_POISON; 4])),
        }
    }

    /// The features of `offered` that the driver of such a guest can use (section 5.5.3.1; C:
    /// `virtballoon_validate`): reported pages come back as zeroes, which a guest that expects its
    /// own bytes in them must be able to say.
    #[must_use]
    pub const fn usable(self, offered: Features) -> Features {
        if self.poison_val().is_none() {
            offered.without::<PagePoison>()
        } else if offered.has::<PagePoison>() {
            offered
        } else {
            offered.without::<Reporting>()
        }
    }
}

/// `struct virtio_balloon_config` (section 5.5.4).
///
/// Its fields are little-endian with the legacy interface too (section 5.5.4.0.0.1).
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Config {
    /// Pages that the device wants the guest to give up.
    pub num_pages: U32,
    /// Pages that the guest has given up.
    pub actual: U32,
    /// Command id of free page hinting.
    pub free_page_hint_cmd_id: U32,
    /// Value that the driver fills free pages with.
    pub poison_val: U32,
}

const _: () = assert!(core::mem::size_of::<Config>() == 16);

config_fields! {
    Config;
    /// Pages of 4 KiB that the device wants the guest to give up.
    NUM_PAGES: u32 = num_pages, ReadOnly, Always, 0;
    /// Pages of 4 KiB that the guest has given up.
    ACTUAL: u32 = actual, ReadWrite, Always, 4;
    /// Command id of free page hinting.
    FREE_PAGE_HINT_CMD_ID: u32 = free_page_hint_cmd_id, ReadOnly, FreePageHint, 8;
    /// Value that the driver fills free pages with.
    POISON_VAL: u32 = poison_val, ReadWrite, PagePoison, 12;
}
