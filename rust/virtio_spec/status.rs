// SPDX-License-Identifier: GPL-2.0

//! The device status field (section 2.1), `VIRTIO_CONFIG_S_*` in C.

use core::fmt;

/// The set of device status bits.
///
/// A status that was read from a device may hold any value; the bits that this type has no name
/// for are kept, so that what is written back and what is printed is what was read.
///
/// ```
/// use virtio_spec::Status;
/// let ready = Status::ACKNOWLEDGE.union(Status::DRIVER).union(Status::FEATURES_OK);
/// assert_eq!(ready.bits(), 0x0b);
/// assert_eq!(format!("{ready}"), "ACKNOWLEDGE|DRIVER|FEATURES_OK");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct Status(u8);

impl Status {
    /// No bit set: the device is reset, or not yet found (section 2.4).
    pub const RESET: Self = Self(0);
    /// The guest has found the device and recognised it as a virtio device.
    pub const ACKNOWLEDGE: Self = Self(1);
    /// The guest knows how to drive the device.
    pub const DRIVER: Self = Self(2);
    /// The driver is set up and ready to drive the device.
    pub const DRIVER_OK: Self = Self(4);
    /// Feature negotiation is complete; to be read back after it is written (section 3.1.1).
    pub const FEATURES_OK: Self = Self(8);
    /// The device is suspended (with [`crate::transport::Suspend`], section 3.4).
    pub const SUSPEND: Self = Self(0x10);
    /// The device met an error from which it cannot recover without a reset (section 2.1.2).
    pub const DEVICE_NEEDS_RESET: Self = Self(0x40);
    /// The guest has given up on the device.
    pub const FAILED: Self = Self(0x80);

    const NAMES: [(Self, &'static str); 7] = [
        (Self::ACKNOWLEDGE, "ACKNOWLEDGE"),
        (Self::DRIVER, "DRIVER"),
        (Self::DRIVER_OK, "DRIVER_OK"),
        (Self::FEATURES_OK, "FEATURES_OK"),
        (Self::SUSPEND, "SUSPEND"),
        (Self::DEVICE_NEEDS_RESET, "DEVICE_NEEDS_RESET"),
        (Self::FAILED, "FAILED"),
    ];

    /// Takes the raw register value.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// The raw register value.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether every bit of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits that are set in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The bits of `self` that are not set in `other`.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Sets the bits of `other`.
    pub fn insert(&mut self, other: Self) {
        *self = self.union(other);
    }

    /// Whether no bit is set: a device whose reset is complete reads so (section 2.4.1).
    pub const fn is_reset(self) -> bool {
        self.0 == 0
    }

    /// Whether the device is suspended, and no more about to be (section 3.4.1).
    pub const fn is_suspended(self) -> bool {
        self.contains(Self::SUSPEND) && !self.contains(Self::DRIVER_OK)
    }

    /// Whether the device works: one that was suspended is no more about to resume (section 3.4.1).
    pub const fn is_running(self) -> bool {
        self.contains(Self::DRIVER_OK) && !self.contains(Self::SUSPEND)
    }

    /// Whether the register reads all ones, as it does once the device is gone from the bus.
    pub const fn is_all_ones(self) -> bool {
        self.0 == u8::MAX
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_reset() {
            return f.write_str("RESET");
        }
        let mut rest = *self;
        let mut separator = "";
        for (bit, name) in Self::NAMES {
            if self.contains(bit) {
                write!(f, "{separator}{name}")?;
                separator = "|";
                rest = rest.difference(bit);
            }
        }
        if !rest.is_reset() {
            write!(f, "{separator}{:#04x}", rest.0)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
