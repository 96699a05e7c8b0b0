// SPDX-License-Identifier: GPL-2.0

//! Device configuration space (section 2.5): its fields as typed offsets.

use core::fmt;
use core::marker::PhantomData;

use crate::features::Feature;
use crate::negotiate::Has;

/// A value that one configuration access moves: `u8`, `u16`, `u32`, `u64` or six bytes of MAC.
///
/// A field wider than 32 bits may tear; it wants the generation retry of section 2.5.1.
pub trait Scalar: Copy {
    /// The bytes on the wire.
    type Bytes: AsRef<[u8]> + AsMut<[u8]> + Copy;
    /// All zero bytes, to be read into.
    const ZERO: Self::Bytes;
    /// Width in bytes.
    const SIZE: usize;
    /// From little-endian bytes, as a device with `VIRTIO_F_VERSION_1` keeps them.
    fn decode_le(bytes: Self::Bytes) -> Self;
    /// From bytes in the guest's order, as the legacy interface keeps them (section 2.5.3).
    fn decode_native(bytes: Self::Bytes) -> Self;
    /// To little-endian bytes.
    fn encode_le(self) -> Self::Bytes;
    /// To bytes in the guest's order.
    fn encode_native(self) -> Self::Bytes;
}

macro_rules! scalar {
    ($($int:ty),*) => {$(
        impl Scalar for $int {
            type Bytes = [u8; core::mem::size_of::<$int>()];
            const ZERO: Self::Bytes = [0; core::mem::size_of::<$int>()];
            const SIZE: usize = core::mem::size_of::<$int>();
            fn decode_le(bytes: Self::Bytes) -> Self {
                Self::from_le_bytes(bytes)
            }
            fn decode_native(bytes: Self::Bytes) -> Self {
                Self::from_ne_bytes(bytes)
            }
            fn encode_le(self) -> Self::Bytes {
                self.to_le_bytes()
            }
            fn encode_native(self) -> Self::Bytes {
                self.to_ne_bytes()
            }
        }
    )*};
}

scalar!(u8, u16, u32, u64);

impl<const N: usize> Scalar for [u8; N] {
    type Bytes = Self;
    const ZERO: Self = [0; N];
    const SIZE: usize = N;
    fn decode_le(bytes: Self) -> Self {
        bytes
    }
    fn decode_native(bytes: Self) -> Self {
        bytes
    }
    fn encode_le(self) -> Self {
        self
    }
    fn encode_native(self) -> Self {
        self
    }
}

/// Access marker: the driver may read the field and must not write it.
#[derive(Debug, Clone, Copy)]
pub enum ReadOnly {}

/// Access marker: the driver may read and write the field.
#[derive(Debug, Clone, Copy)]
pub enum ReadWrite {}

/// A field may be read.
pub trait Readable {}
impl Readable for ReadOnly {}
impl Readable for ReadWrite {}

/// A field may be written.
pub trait Writable {}
impl Writable for ReadWrite {}

/// Gate marker: the field exists whatever was negotiated.
#[derive(Debug, Clone, Copy)]
pub enum Always {}

/// A witness that opens fields behind gate `G`: `()` for [`Always`], [`Has`] for a feature.
pub trait Unlocks<G> {}
impl Unlocks<Always> for () {}
impl<X: Feature> Unlocks<X> for Has<X> {}

/// One field of configuration layout `L`: type `T`, access `A`, which exists only behind gate `G`.
///
/// ```
/// use virtio_spec::{blk, config::{Field, Readable, Scalar, Unlocks}, net, Features, Negotiated};
/// fn get<L, T: Scalar, A: Readable, G>(field: Field<L, T, A, G>, _: impl Unlocks<G>) -> usize {
///     field.offset()
/// }
/// assert_eq!(get(blk::Config::CAPACITY, ()), 0);
/// let agreed = Negotiated::<net::Net>::from_acknowledged(Features::ALL);
/// if let Some(has) = agreed.has::<net::Mtu>() {
///     assert_eq!(get(net::Config::MTU, has), 10);
/// }
/// ```
///
/// Without the witness it does not compile:
///
/// ```compile_fail,E0277
/// use virtio_spec::{config::{Field, Unlocks}, net};
/// fn get<L, T, A, G>(field: Field<L, T, A, G>, _: impl Unlocks<G>) -> usize {
///     field.offset()
/// }
/// get(net::Config::MTU, ());
/// ```
pub struct Field<L, T, A = ReadOnly, G = Always> {
    offset: usize,
    marker: PhantomData<FieldOf<L, T, A, G>>,
}

/// What a [`Field`] leads to; it owns none of these.
type FieldOf<L, T, A, G> = fn() -> (L, T, A, G);

impl<L, T: Scalar, A, G> Field<L, T, A, G> {
    /// A field at `offset` bytes from the start of the device configuration.
    pub const fn new(offset: usize) -> Self {
        Self {
            offset,
            marker: PhantomData,
        }
    }

    /// Bytes that the configuration space must have for the field to be there.
    pub const fn end(&self) -> usize {
        self.offset.saturating_add(T::SIZE)
    }

    /// Whether the field lies within a configuration space of `len` bytes (section 2.5.2).
    pub const fn is_within(&self, len: usize) -> bool {
        self.end() <= len
    }
}

impl<L, T, A, G> Field<L, T, A, G> {
    /// Offset from the start of the device configuration, in bytes.
    pub const fn offset(&self) -> usize {
        self.offset
    }
}

impl<L, T, A, G> Clone for Field<L, T, A, G> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L, T, A, G> Copy for Field<L, T, A, G> {}

impl<L, T, A, G> fmt::Debug for Field<L, T, A, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "config field at {:#x}", self.offset)
    }
}

/// Declares the fields of a layout as constants, each at its offset in the wire struct.
macro_rules! config_fields {
    ($layout:ident; $($(#[$doc:meta])* $name:ident: $type:ty = $field:ident
        $(. $inner:ident in $of:ident)?, $access:ident, $gate:ty, $offset:literal;)*) => {
        impl $layout {
            $(
                $(#[$doc])*
                pub const $name: $crate::config::Field<
                    $layout, $type, $crate::config::$access, $gate,
                > = $crate::config::Field::new(
                    core::mem::offset_of!($layout, $field)
                        $(+ core::mem::offset_of!($of, $inner))?
                );
            )*
        }

        // The numbers are those of the specification, the left side is what the compiler made.
        const _: () = {
            $(assert!($layout::$name.offset() == $offset);)*
        };
    };
}

pub(crate) use config_fields;
