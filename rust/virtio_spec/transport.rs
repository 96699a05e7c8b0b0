// SPDX-License-Identifier: GPL-2.0

//! Reserved feature bits (section 6): those that concern rings, transport and platform.

use crate::features::{feature_types, AppliesTo, Features};

/// The class of bits that exist on a device of every class.
#[derive(Debug, Clone, Copy)]
pub struct AnyClass;

impl<C> AppliesTo<C> for AnyClass {}

feature_types! {
    AnyClass;
    /// Legacy: the device notifies when it has used the last available buffer (section 6.3).
    NotifyOnEmpty = 24, "VIRTIO_F_NOTIFY_ON_EMPTY", [];
    /// Legacy: the device accepts any framing of a request into descriptors (section 6.3).
    AnyLayout = 27, "VIRTIO_F_ANY_LAYOUT", [];
    /// Descriptors may point to a table of descriptors (sections 2.7.5.3 and 2.8.7).
    IndirectDesc = 28, "VIRTIO_F_INDIRECT_DESC", [];
    /// Notifications are suppressed by index (sections 2.7.7, 2.7.10 and 2.8.14).
    EventIdx = 29, "VIRTIO_F_EVENT_IDX", [];
    /// The device complies with version 1 of the specification, as against the legacy interface.
    Version1 = 32, "VIRTIO_F_VERSION_1", [];
    /// Device access to memory is limited or translated, for instance by an IOMMU.
    AccessPlatform = 33, "VIRTIO_F_ACCESS_PLATFORM", [];
    /// Packed virtqueue layout (section 2.8); the legacy interface has no registers for it.
    RingPacked = 34, "VIRTIO_F_RING_PACKED", [or Version1];
    /// The device uses buffers in the order in which they were made available.
    InOrder = 35, "VIRTIO_F_IN_ORDER", [];
    /// Memory accesses are ordered as the platform orders them for a real device.
    OrderPlatform = 36, "VIRTIO_F_ORDER_PLATFORM", [];
    /// The device supports single root I/O virtualisation.
    SrIov = 37, "VIRTIO_F_SR_IOV", [];
    /// The driver passes extra data in its notifications (section 2.9).
    NotificationData = 38, "VIRTIO_F_NOTIFICATION_DATA", [or Version1];
    /// The driver passes the device's `queue_notify_data` in its notifications (section 4.1.4.3).
    NotifConfigData = 39, "VIRTIO_F_NOTIF_CONFIG_DATA", [or Version1];
    /// A queue can be reset alone (section 2.6.1).
    RingReset = 40, "VIRTIO_F_RING_RESET", [or Version1];
    /// The device has administration virtqueues (section 2.13).
    AdminVq = 41, "VIRTIO_F_ADMIN_VQ", [or Version1];
    /// The device can be suspended (section 3.4).
    Suspend = 43, "VIRTIO_F_SUSPEND", [or Version1];
}

/// First bit that belongs to rings and transport, `VIRTIO_TRANSPORT_F_START` in C.
pub const FIRST: u32 = 28;

/// Last bit that belongs to rings and transport: `VIRTIO_TRANSPORT_F_END` of C is the next one.
///
/// So [`Suspend`] is for a driver to ask for: only it knows whether it can leave its queues alone
/// for a while.
pub const LAST: u32 = 41;

/// The bits from [`FIRST`] to [`LAST`]; a driver's own table never has them.
pub const RANGE: Features = Features::range(FIRST, LAST);

/// The bits of [`RANGE`] that a ring implementation accepts, and every bit outside.
///
/// `extra` adds bits that the caller's ring or transport implements beside those of C's
/// `vring_transport_features()`, for instance [`NotifConfigData`] or [`RingReset`].
///
/// ```
/// use virtio_spec::{transport, Features};
/// let ring = transport::ring_features(Features::EMPTY);
/// assert!(ring.has::<transport::RingPacked>());
/// assert!(!ring.has::<transport::RingReset>());
/// assert!(ring.has_bit(5));
/// ```
pub const fn ring_features(extra: Features) -> Features {
    Features::ALL
        .difference(RANGE)
        .union(RING)
        .union(extra.intersection(RANGE))
}

/// The bits that `vring_transport_features()` keeps.
pub const RING: Features = Features::EMPTY
    .with::<IndirectDesc>()
    .with::<EventIdx>()
    .with::<Version1>()
    .with::<AccessPlatform>()
    .with::<RingPacked>()
    .with::<InOrder>()
    .with::<OrderPlatform>()
    .with::<NotificationData>();
