// SPDX-License-Identifier: GPL-2.0

//! Typed device configuration (specification 2.5).
//!
//! A driver reads what it needs once an event, and validates the copy: nothing stops a device from
//! changing its mind between two reads.

use crate::device::Device;
use core::marker::PhantomData;
use kernel::prelude::*;
use virtio_spec::{
    config::{
        Field,
        Readable,
        Scalar,
        Unlocks,
        Writable, //
    },
    transport,
    Untrusted, //
};

/// The configuration space of a device, laid out as `L`.
pub struct ConfigSpace<'a, L> {
    dev: &'a Device,
    _layout: PhantomData<L>,
}

impl<'a, L> ConfigSpace<'a, L> {
    /// Looks at the configuration of `dev`.
    pub fn new(dev: &'a Device) -> Self {
        Self {
            dev,
            _layout: PhantomData,
        }
    }

    fn is_little_endian(&self) -> bool {
        self.dev.features().has::<transport::Version1>()
    }

    /// Reads one field; `witness` proves that it exists.  May sleep.
    ///
    /// A field wider than 4 bytes is read as one consistent snapshot.
    ///
    /// # Errors
    ///
    /// `EIO` if the configuration changed during each of many tries.
    pub fn get<T: Scalar, A: Readable, G>(
        &self,
        field: Field<L, T, A, G>,
        _witness: impl Unlocks<G>,
    ) -> Result<Untrusted<T>> {
        let mut bytes = T::ZERO;
        self.dev
            .read_config(field.offset() as u32, bytes.as_mut())?;
        Ok(Untrusted::new(if self.is_little_endian() {
            T::decode_le(bytes)
        } else {
            T::decode_native(bytes)
        }))
    }

    /// Writes one field; `witness` proves that it exists.  May sleep.
    pub fn set<T: Scalar, A: Writable, G>(
        &self,
        field: Field<L, T, A, G>,
        value: T,
        _witness: impl Unlocks<G>,
    ) {
        let bytes = if self.is_little_endian() {
            value.encode_le()
        } else {
            value.encode_native()
        };
        self.dev.write_config(field.offset() as u32, bytes.as_ref());
    }
}
