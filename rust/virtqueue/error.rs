// SPDX-License-Identifier: GPL-2.0

//! Error types: one small enum for each operation.

use core::fmt;

/// Why [`Ring::new`](crate::Ring::new) refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewError {
    /// A split ring needs a power of two.
    SizeNotPowerOfTwo,
    /// Fewer slots than descriptors.
    TooFewSlots,
    /// There are shadow entries for indirect tables, but fewer than size times capacity.
    TooFewEntries,
}

/// Why a chain was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddErrorKind {
    /// Not enough free descriptors now; try again when buffers came back.
    Full,
    /// A chain needs at least one segment.
    EmptyChain,
    /// More segments than the ring and the indirect tables could ever take, or more than
    /// `u32::MAX` bytes (virtio 1.4 section 2.7.5.2).
    TooLong,
    /// The ring is broken.
    Broken,
    /// A builder was given more or fewer segments than announced, or a readable one after a writable one.
    Misordered,
    /// A caller's indirect table of a length that is not a positive multiple of 16.
    BadTable,
}

impl fmt::Display for AddErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "no free descriptors",
            Self::EmptyChain => "chain without segments",
            Self::TooLong => "chain too long",
            Self::Broken => "ring is broken",
            Self::Misordered => "segments not as announced",
            Self::BadTable => "no valid indirect table",
        })
    }
}

/// A chain was not added; the payload comes back.
#[derive(Debug, PartialEq, Eq)]
pub struct AddError<T> {
    /// Why.
    pub kind: AddErrorKind,
    /// What the caller wanted to hand over.
    pub payload: T,
}

/// What the device did wrong. Reported once; the ring is broken from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingError {
    /// A used id that no queue of this size has.
    IdOutOfRange {
        /// The id as the device wrote it.
        id: u32,
    },
    /// A used id that the device does not own: not a head, used before, or not published yet.
    IdNotInFlight {
        /// The id.
        id: u16,
    },
    /// More bytes written than the chain has room for.
    LengthTooLong {
        /// The buffer's id.
        id: u16,
        /// The length as the device wrote it, in bytes.
        len: u32,
        /// Writable bytes of the chain.
        writable: u32,
    },
    /// The used index went further than buffers are outstanding, or went backwards.
    IndexJump {
        /// Distance from the driver's own index, modulo 2^16.
        delta: u16,
        /// Buffers the device owns (in order: buffers that the used element claims).
        limit: u16,
    },
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::IdOutOfRange { id } => write!(f, "used id {id} out of range"),
            Self::IdNotInFlight { id } => write!(f, "used id {id} is not in flight"),
            Self::LengthTooLong { id, len, writable } => {
                write!(f, "used id {id}: {len} bytes written, room for {writable}")
            }
            Self::IndexJump { delta, limit } => {
                write!(f, "used index moved by {delta}, expected at most {limit}")
            }
        }
    }
}

/// [`Ring::reset`](crate::Ring::reset) while buffers are in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotDrained {
    /// How many.
    pub in_flight: u16,
}
