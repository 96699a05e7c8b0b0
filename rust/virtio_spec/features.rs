// SPDX-License-Identifier: GPL-2.0

//! Feature bits (section 2.2) as a 128-bit set, and the types that name one bit each.

use core::fmt;

use crate::device_type::DeviceType;
use crate::negotiate::Requirement;

/// Number of feature bits, `VIRTIO_FEATURES_BITS` in C.
pub const FEATURE_BITS: u32 = 128;

/// A set of feature bits, `virtio_device.features_array` in C.
///
/// ```
/// use virtio_spec::{transport, Features};
/// let offered = Features::from_words([0x3000_0000, 1, 0, 0]);
/// assert!(offered.has::<transport::Version1>());
/// assert_eq!(offered.iter().collect::<Vec<_>>(), [28, 29, 32]);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct Features(u128);

impl Features {
    /// No bit.
    pub const EMPTY: Self = Self(0);
    /// Every bit.
    pub const ALL: Self = Self(u128::MAX);

    /// Takes a set of bits, bit 0 being feature 0.
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// The set of bits, bit 0 being feature 0.
    pub const fn bits(self) -> u128 {
        self.0
    }

    /// The set that holds feature `bit` alone; empty if `bit` is not below [`FEATURE_BITS`].
    pub const fn bit(bit: u32) -> Self {
        match 1_u128.checked_shl(bit) {
            Some(mask) => Self(mask),
            None => Self::EMPTY,
        }
    }

    /// The set that holds the features `bits`.
    pub const fn of(bits: &[u32]) -> Self {
        let mut set = Self::EMPTY;
        let mut rest = bits;
        while let [first, tail @ ..] = rest {
            set = set.union(Self::bit(*first));
            rest = tail;
        }
        set
    }

    /// The features from `first` to `last`, both included.
    pub const fn range(first: u32, last: u32) -> Self {
        let mut set = Self::EMPTY;
        let mut bit = first;
        while bit <= last && bit < FEATURE_BITS {
            set = set.union(Self::bit(bit));
            bit += 1;
        }
        set
    }

    /// Takes the four 32-bit windows that `device_feature_select` chooses (section 4.1.4.3).
    pub const fn from_words(words: [u32; 4]) -> Self {
        let [a, b, c, d] = words;
        Self(a as u128 | (b as u128) << 32 | (c as u128) << 64 | (d as u128) << 96)
    }

    /// The four 32-bit windows that `driver_feature_select` chooses (section 4.1.4.3).
    pub const fn to_words(self) -> [u32; 4] {
        let bits = self.0;
        [
            bits as u32,
            (bits >> 32) as u32,
            (bits >> 64) as u32,
            (bits >> 96) as u32,
        ]
    }

    /// Takes `virtio_device.features_array`, two 64-bit words, the lower first.
    pub const fn from_u64s(words: [u64; 2]) -> Self {
        let [low, high] = words;
        Self(low as u128 | (high as u128) << 64)
    }

    /// The value of `virtio_device.features_array`, two 64-bit words, the lower first.
    pub const fn to_u64s(self) -> [u64; 2] {
        [self.0 as u64, (self.0 >> 64) as u64]
    }

    /// Whether no bit is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether feature `bit` is set; false for a bit that does not exist.
    pub const fn has_bit(self, bit: u32) -> bool {
        !self.intersection(Self::bit(bit)).is_empty()
    }

    /// Whether feature `X` is set.
    pub const fn has<X: Feature>(self) -> bool {
        self.has_bit(X::BIT)
    }

    /// Whether every bit of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any bit of `other` is set.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether every bit of `self` is set in `other`.
    pub const fn is_subset_of(self, other: Self) -> bool {
        other.contains(self)
    }

    /// The bits that are set in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The bits that are set in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The bits of `self` that are not set in `other`.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The set with feature `bit` added.
    #[must_use]
    pub const fn with_bit(self, bit: u32) -> Self {
        self.union(Self::bit(bit))
    }

    /// The set with feature `bit` removed.
    #[must_use]
    pub const fn without_bit(self, bit: u32) -> Self {
        self.difference(Self::bit(bit))
    }

    /// The set with feature `X` added.
    #[must_use]
    pub const fn with<X: Feature>(self) -> Self {
        self.with_bit(X::BIT)
    }

    /// The set with feature `X` removed.
    #[must_use]
    pub const fn without<X: Feature>(self) -> Self {
        self.without_bit(X::BIT)
    }

    /// The numbers of the bits that are set, in ascending order.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        (0..FEATURE_BITS).filter(move |bit| self.has_bit(*bit))
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for Features {
    /// Writes the 128 characters of the sysfs attribute `features`: bit 0 first, `1` if set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for bit in 0..FEATURE_BITS {
            f.write_str(if self.has_bit(bit) { "1" } else { "0" })?;
        }
        Ok(())
    }
}

/// One feature bit, as a type.
pub trait Feature {
    /// The device class that defines the bit, or [`crate::transport::AnyClass`].
    type Class;
    /// The number of the bit, below [`FEATURE_BITS`].
    const BIT: u32;
    /// The name in the specification, for instance `VIRTIO_NET_F_MQ`.
    const NAME: &'static str;
    /// What the bit needs: at least one feature of *each* of these sets.
    const REQUIRES: &'static [Features];
}

/// A device class: the device-specific half of the feature bits.
pub trait Class {
    /// The device type that the class drives.
    const DEVICE: DeviceType;
    /// The bits that the class defines (section 2.2: 0 to 23 and 50 upwards, and legacy ones).
    const DEFINED: Features;
    /// What the bits of the class require of one another.
    const REQUIREMENTS: &'static [Requirement];
    /// Number and name of each bit that the class defines.
    const NAMES: &'static [(u32, &'static str)];
}

/// That a bit of class `Self` may be asked for on a device of class `C`.
pub trait AppliesTo<C> {}

/// Declares the feature types of one class, and the tables that are made from them.
macro_rules! feature_types {
    ($class:ty; $($(#[$doc:meta])* $name:ident = $bit:literal, $text:literal,
        [$($(or $any:ident)+),* $(,)?];)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy)]
            pub struct $name;

            impl $crate::features::Feature for $name {
                type Class = $class;
                const BIT: u32 = $bit;
                const NAME: &'static str = $text;
                const REQUIRES: &'static [$crate::features::Features] = &[
                    $($crate::features::Features::of(&[
                        $(<$any as $crate::features::Feature>::BIT),+
                    ])),*
                ];
            }
        )*

        /// Every bit that this module defines.
        pub const DEFINED: $crate::features::Features =
            $crate::features::Features::of(&[$($bit),*]);

        /// Number and name of every bit that this module defines.
        pub const NAMES: &[(u32, &str)] = &[$(($bit, $text)),*];

        /// What the bits of this module require, one entry for each bit.
        pub const REQUIREMENTS: &[$crate::negotiate::Requirement] = &[
            $($crate::negotiate::Requirement::of::<$name>()),*
        ];
    };
}

pub(crate) use feature_types;
