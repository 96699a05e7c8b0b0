// SPDX-License-Identifier: GPL-2.0

//! Entropy device (section 5.4): one queue, no feature bits, no configuration.

use crate::device_type::DeviceType;
use crate::features::{AppliesTo, Class, Features};
use crate::negotiate::Requirement;

/// The class of the entropy device.
#[derive(Debug, Clone, Copy)]
pub struct Rng;

impl AppliesTo<Self> for Rng {}

impl Class for Rng {
    const DEVICE: DeviceType = DeviceType::RNG;
    const DEFINED: Features = Features::EMPTY;
    const REQUIREMENTS: &'static [Requirement] = &[];
    const NAMES: &'static [(u32, &'static str)] = &[];
}

/// Index of the only queue, `requestq` (section 5.4.2).
pub const REQUEST_QUEUE: u16 = 0;
