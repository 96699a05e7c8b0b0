// SPDX-License-Identifier: GPL-2.0

//! Feature negotiation (sections 2.2 and 3.1.1): from what is offered to what is agreed.

use core::fmt;
use core::marker::PhantomData;

use crate::features::{AppliesTo, Class, Feature, Features};
use crate::transport;

/// What one feature bit needs before it may be negotiated (section 2.2.1).
#[derive(Debug, Clone, Copy)]
pub struct Requirement {
    bit: u32,
    name: &'static str,
    all_of: &'static [Features],
}

impl Requirement {
    /// The requirement of feature `X`.
    pub const fn of<X: Feature>() -> Self {
        Self {
            bit: X::BIT,
            name: X::NAME,
            all_of: X::REQUIRES,
        }
    }

    /// The requirement that `bit`, called `name`, comes only with one of *each* set in `all_of`.
    pub const fn new(bit: u32, name: &'static str, all_of: &'static [Features]) -> Self {
        Self { bit, name, all_of }
    }

    /// The number of the bit that has the requirement.
    pub const fn bit(&self) -> u32 {
        self.bit
    }

    /// The name of the bit that has the requirement.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether `features` may hold the bit, or does not hold it.
    pub fn is_met_by(&self, features: Features) -> bool {
        !features.has_bit(self.bit) || self.all_of.iter().all(|any| features.intersects(*any))
    }
}

/// The rules of one negotiation, beside what is offered and wanted.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    /// The bits that every layer below the driver can carry, for instance
    /// [`transport::ring_features`] joined with the bits of the class.
    pub accepted: Features,
    /// The requirement tables that the result must satisfy.
    pub requirements: &'a [&'a [Requirement]],
}

/// The largest set that is offered, wanted and accepted, and that satisfies every requirement.
///
/// The result is a subset of `offered`, of `wanted` and of `policy.accepted`. No requirement is
/// left unmet, so giving the result back as `offered` changes nothing; and to offer or want more
/// never makes the result smaller. A bit whose requirement is not met is dropped, never the other
/// way round: nothing that was not wanted is added.
pub fn resolve(offered: Features, wanted: Features, policy: &Policy<'_>) -> Features {
    let mut agreed = offered.intersection(wanted).intersection(policy.accepted);
    loop {
        let unmet = policy
            .requirements
            .iter()
            .flat_map(|table| table.iter())
            .filter(|requirement| !requirement.is_met_by(agreed))
            .fold(Features::EMPTY, |unmet, requirement| {
                unmet.with_bit(requirement.bit)
            });
        if unmet.is_empty() {
            return agreed;
        }
        // Each round drops at least one of 128 bits.
        agreed = agreed.difference(unmet);
    }
}

/// The first requirement that `features` leaves unmet, for a message.
pub fn first_unmet<'a>(
    features: Features,
    requirements: &[&'a [Requirement]],
) -> Option<&'a Requirement> {
    requirements
        .iter()
        .flat_map(|table| table.iter())
        .find(|requirement| !requirement.is_met_by(features))
}

/// The features that a device of class `C` offers, as it offered them.
pub struct Offered<C> {
    features: Features,
    class: PhantomData<C>,
}

impl<C: Class> Offered<C> {
    /// Takes what was read through `device_feature` (section 4.1.4.3).
    pub const fn new(features: Features) -> Self {
        Self {
            features,
            class: PhantomData,
        }
    }

    /// The bits, as offered.
    pub const fn features(&self) -> Features {
        self.features
    }

    /// Agrees on what the driver wants, of what is offered, of what the layers below `accept`.
    ///
    /// Bits of the class need not be in `accepted`; they are the driver's to judge.
    pub fn negotiate(&self, wanted: Features, accepted: Features) -> Negotiated<C> {
        let accepted = accepted.union(C::DEFINED.difference(transport::DEFINED));
        Negotiated::closed(self.features, wanted, accepted)
    }
}

/// The features that driver and device agreed on, closed under what they require.
///
/// ```
/// use virtio_spec::{net, transport, Features, Offered};
/// let offered = Offered::<net::Net>::new(
///     Features::EMPTY.with::<transport::Version1>().with::<net::Mq>(),
/// );
/// // VIRTIO_NET_F_MQ needs the control queue, which was not offered.
/// let agreed = offered.negotiate(Features::ALL, transport::ring_features(Features::EMPTY));
/// assert!(agreed.has::<net::Mq>().is_none());
/// assert!(agreed.has::<transport::Version1>().is_some());
/// ```
///
/// A bit of another class does not type-check:
///
/// ```compile_fail,E0277
/// use virtio_spec::{blk, net, Negotiated};
/// fn wrong(agreed: &Negotiated<net::Net>) -> bool {
///     agreed.has::<blk::Flush>().is_some()
/// }
/// ```
pub struct Negotiated<C> {
    features: Features,
    class: PhantomData<C>,
}

impl<C: Class> Negotiated<C> {
    fn closed(offered: Features, wanted: Features, accepted: Features) -> Self {
        let policy = Policy {
            accepted,
            requirements: &[transport::REQUIREMENTS, C::REQUIREMENTS],
        };
        Self {
            features: resolve(offered, wanted, &policy),
            class: PhantomData,
        }
    }

    /// Takes what the bus acknowledged to the device and the device accepted (FEATURES_OK).
    ///
    /// Bits whose requirement is not met are left out, so that a witness is never given for them.
    pub fn from_acknowledged(features: Features) -> Self {
        Self::closed(features, features, Features::ALL)
    }

    /// The bits.
    pub const fn features(&self) -> Features {
        self.features
    }

    /// The witness that `X` was negotiated, or `None`.
    pub fn has<X: Feature>(&self) -> Option<Has<X>>
    where
        X::Class: AppliesTo<C>,
    {
        self.features.has::<X>().then_some(Has {
            feature: PhantomData,
        })
    }
}

impl<C> Clone for Negotiated<C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for Negotiated<C> {}

impl<C> Clone for Offered<C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for Offered<C> {}

impl<C> fmt::Debug for Negotiated<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.features.fmt(f)
    }
}

impl<C> fmt::Debug for Offered<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.features.fmt(f)
    }
}

/// The witness that feature `X` was negotiated; it has no size.
///
/// Only [`Negotiated::has`] makes one. What exists only with a feature (a configuration field, a
/// command) asks for it, so that the question cannot be forgotten.
pub struct Has<X> {
    feature: PhantomData<fn() -> X>,
}

impl<X> Clone for Has<X> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<X> Copy for Has<X> {}

impl<X: Feature> fmt::Debug for Has<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(X::NAME)
    }
}
