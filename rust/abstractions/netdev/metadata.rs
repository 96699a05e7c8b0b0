// SPDX-License-Identifier: GPL-2.0

//! What programs can ask about a packet beside the packet itself.
//!
//! C header: [`include/net/xdp.h`](srctree/include/net/xdp.h) (`struct xdp_metadata_ops`).
//!
//! A program asks while it runs, after it has perhaps moved the start of the packet, which C's driver
//! counts back from to find the header.  Here the answer is kept behind the packet's description, where
//! pools of sockets have room for drivers.

use kernel::{
    ffi::c_int,
    prelude::*, //
};
use virtio_bindings as bindings;
use virtio_spec::net::header::{
    Hash,
    Hashed,
    IpVersion, //
};

/// A packet as a program sees it, with what it may ask.
#[repr(C)]
pub(crate) struct Described {
    pub(crate) xdp: bindings::xdp_buff,
    pub(crate) hash: RxHash,
}

// Pools of sockets have so much room behind each packet.
const _: () = assert!(
    size_of::<Described>() <= size_of::<bindings::xdp_buff>() + bindings::XSK_PRIV_MAX as usize
);

/// A hash, as programs know it; of type 0 if there is none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RxHash {
    value: u32,
    kind: u32,
}

impl RxHash {
    pub(crate) fn new(hash: Option<&Hash>) -> Self {
        let Some(hash) = hash else {
            return Self::default();
        };
        let (version, protocol) = match hash.of {
            Hashed::Network(version) => (version, 0),
            Hashed::Tcp(version) => (
                version,
                bindings::xdp_rss_hash_type_XDP_RSS_L4 | bindings::xdp_rss_hash_type_XDP_RSS_L4_TCP,
            ),
            Hashed::Udp(version) => (
                version,
                bindings::xdp_rss_hash_type_XDP_RSS_L4 | bindings::xdp_rss_hash_type_XDP_RSS_L4_UDP,
            ),
        };
        let version = match version {
            IpVersion::V4 => bindings::xdp_rss_hash_type_XDP_RSS_L3_IPV4,
            IpVersion::V6 => bindings::xdp_rss_hash_type_XDP_RSS_L3_IPV6,
        };
        let dynamic = match hash.extended {
            true => bindings::xdp_rss_hash_type_XDP_RSS_L3_DYNHDR,
            false => 0,
        };
        Self {
            value: hash.value,
            kind: version | protocol | dynamic,
        }
    }
}

/// For a device that hashes packets.
pub(crate) static OPERATIONS: bindings::xdp_metadata_ops = bindings::xdp_metadata_ops {
    xmo_rx_timestamp: None,
    xmo_rx_hash: Some(rx_hash),
    xmo_rx_vlan_tag: None,
};

/// The hash of a packet; `ENODATA` if the stack does not want any.
extern "C" fn rx_hash(
    context: *const bindings::xdp_md,
    value: *mut u32,
    kind: *mut bindings::xdp_rss_hash_type,
) -> c_int {
    let packet = context.cast::<Described>();
    // SAFETY: Called by a program that runs on a packet of a device with these operations, which is a
    // `Described`; the queue outlives the poll, and its device too.
    unsafe {
        let dev = (*(*packet).xdp.rxq).dev;
        let features = (&raw const (*dev).features).read_volatile();
        if features & bindings::NETIF_F_RXHASH == 0 {
            return -(bindings::ENODATA as c_int);
        }
        *value = (*packet).hash.value;
        *kind = (*packet).hash.kind;
    }
    0
}

#[kunit_tests(virtio_netdev_metadata)]
mod tests {
    use super::*;
    use core::mem::MaybeUninit;

    #[test]
    fn hashes_have_the_types_of_the_kernel() {
        let of = |of, extended| {
            let hash = Hash {
                value: 7,
                of,
                extended,
            };
            RxHash::new(Some(&hash)).kind
        };
        assert_eq!(
            of(Hashed::Network(IpVersion::V4), false),
            bindings::xdp_rss_hash_type_XDP_RSS_TYPE_L3_IPV4
        );
        assert_eq!(
            of(Hashed::Network(IpVersion::V6), true),
            bindings::xdp_rss_hash_type_XDP_RSS_TYPE_L3_IPV6_EX
        );
        assert_eq!(
            of(Hashed::Tcp(IpVersion::V4), false),
            bindings::xdp_rss_hash_type_XDP_RSS_TYPE_L4_IPV4_TCP
        );
        assert_eq!(
            of(Hashed::Udp(IpVersion::V6), true),
            bindings::xdp_rss_hash_type_XDP_RSS_TYPE_L4_IPV6_UDP_EX
        );
        assert!(RxHash::new(None) == RxHash::default());
    }

    #[test]
    fn a_program_hears_of_a_hash_that_is_wanted() -> Result {
        let device = crate::tests::device()?;
        let dev = device.core().as_raw();
        // SAFETY: Zeroes are values of all of it.
        let mut queue: bindings::xdp_rxq_info = unsafe { MaybeUninit::zeroed().assume_init() };
        queue.dev = dev;
        let hash = Hash {
            value: 0x1234_5678,
            of: Hashed::Udp(IpVersion::V4),
            extended: false,
        };
        // SAFETY: As above.
        let mut packet: Described = unsafe { MaybeUninit::zeroed().assume_init() };
        packet.xdp.rxq = &raw mut queue;
        packet.hash = RxHash::new(Some(&hash));
        for wanted in [0, bindings::NETIF_F_RXHASH] {
            let (mut value, mut kind) = (0, 0);
            // SAFETY: Nobody else looks at the device.
            unsafe { (*dev).features = wanted };
            let result = rx_hash((&raw const packet).cast(), &mut value, &mut kind);
            if wanted == 0 {
                assert_eq!(result, -(bindings::ENODATA as c_int));
            } else {
                assert_eq!((result, value), (0, 0x1234_5678));
                assert_eq!(kind, bindings::xdp_rss_hash_type_XDP_RSS_TYPE_L4_IPV4_UDP);
            }
        }
        Ok(())
    }
}
