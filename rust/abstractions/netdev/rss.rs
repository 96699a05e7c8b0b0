// SPDX-License-Identifier: GPL-2.0

//! What ethtool asks of receive-side scaling.
//!
//! C header: [`include/linux/ethtool.h`](srctree/include/linux/ethtool.h).

use crate::{
    device::DeviceRef,
    ethtool::Callbacks,
    operations::Operations, //
};
use kernel::{
    error::from_result,
    ffi::c_int,
    prelude::*, //
};
use virtio_bindings as bindings;
use virtio_spec::net::rss::{
    Fields,
    Flow, //
};

/// What a device has for receive-side scaling; 0 if it has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RssSizes {
    /// Entries of its table.
    pub table: u32,
    /// Bytes of its key.
    pub key: u32,
}

/// Fills `key` with the system's key: the same one until it boots again (C: `netdev_rss_key_fill`).
/// No more than 256 bytes.
pub fn rss_key(key: &mut [u8]) {
    let len = key.len().min(256);
    // SAFETY: Writes that many bytes, which there are.
    unsafe { bindings::netdev_rss_key_fill(key.as_mut_ptr().cast(), len) };
}

/// Addresses, and ports too, as ethtool has them.
const ADDRESSES: u32 = bindings::RXH_IP_SRC | bindings::RXH_IP_DST;
const ADDRESSES_AND_PORTS: u32 = ADDRESSES | bindings::RXH_L4_B_0_1 | bindings::RXH_L4_B_2_3;

fn flow(raw: u32) -> Option<Flow> {
    Some(match raw {
        bindings::TCP_V4_FLOW => Flow::TcpV4,
        bindings::UDP_V4_FLOW => Flow::UdpV4,
        bindings::IPV4_FLOW => Flow::IpV4,
        bindings::TCP_V6_FLOW => Flow::TcpV6,
        bindings::UDP_V6_FLOW => Flow::UdpV6,
        bindings::IPV6_FLOW => Flow::IpV6,
        _ => return None,
    })
}

fn to_raw(fields: Fields) -> u32 {
    match fields {
        Fields::Nothing => 0,
        Fields::Addresses => ADDRESSES,
        Fields::AddressesAndPorts => ADDRESSES_AND_PORTS,
    }
}

fn fields(raw: u32) -> Option<Fields> {
    match raw {
        _ if raw & bindings::RXH_DISCARD != 0 => Some(Fields::Nothing),
        ADDRESSES => Some(Fields::Addresses),
        ADDRESSES_AND_PORTS => Some(Fields::AddressesAndPorts),
        _ => None,
    }
}

/// # Safety
///
/// `start` is null, or there are `len` elements, which nobody else uses during `'a`.
unsafe fn slice<'a, T>(start: *mut T, len: u32) -> Option<&'a mut [T]> {
    // SAFETY: By the contract.
    (!start.is_null()).then(|| unsafe { core::slice::from_raw_parts_mut(start, len as usize) })
}

impl<O: Operations> Callbacks<O> {
    pub(crate) extern "C" fn get_rxfh_key_size(dev: *mut kernel::bindings::net_device) -> u32 {
        // SAFETY: ethtool passes a registered device of ours.
        O::rss_sizes(unsafe { Self::data(dev) }).key
    }

    pub(crate) extern "C" fn get_rxfh_indir_size(dev: *mut kernel::bindings::net_device) -> u32 {
        // SAFETY: As above.
        O::rss_sizes(unsafe { Self::data(dev) }).table
    }

    pub(crate) extern "C" fn get_rx_ring_count(dev: *mut kernel::bindings::net_device) -> u32 {
        // SAFETY: As above.
        O::channels(unsafe { Self::data(dev) }).combined
    }

    pub(crate) extern "C" fn get_rxfh(
        dev: *mut kernel::bindings::net_device,
        rxfh: *mut bindings::ethtool_rxfh_param,
    ) -> c_int {
        // SAFETY: As above; table and key are null, or have room for as much as was said, under the
        // same lock.
        unsafe {
            let data = Self::data(dev);
            let sizes = O::rss_sizes(data);
            let table = slice((*rxfh).indir, sizes.table).unwrap_or_default();
            let key = slice((*rxfh).key, sizes.key).unwrap_or_default();
            O::rss(data, table, key);
            (*rxfh).hfunc = bindings::VIRTIO_RSS_HASH_TOP;
        }
        0
    }

    pub(crate) extern "C" fn set_rxfh(
        dev: *mut kernel::bindings::net_device,
        rxfh: *mut bindings::ethtool_rxfh_param,
        _extack: *mut bindings::netlink_ext_ack,
    ) -> c_int {
        from_result(|| {
            // SAFETY: As `get_rxfh`; ethtool has looked whether the entries of the table are queues.
            unsafe {
                let functions = [
                    bindings::VIRTIO_RSS_HASH_TOP,
                    bindings::VIRTIO_RSS_HASH_NO_CHANGE,
                ];
                if !functions.contains(&(*rxfh).hfunc) {
                    return Err(EOPNOTSUPP);
                }
                let data = Self::data(dev);
                let sizes = O::rss_sizes(data);
                let table = slice((*rxfh).indir, sizes.table);
                let key = slice((*rxfh).key, sizes.key);
                if table.is_some() || key.is_some() {
                    O::set_rss(data, table.as_deref(), key.as_deref())?;
                }
            }
            Ok(0)
        })
    }

    pub(crate) extern "C" fn get_rxfh_fields(
        dev: *mut kernel::bindings::net_device,
        info: *mut bindings::ethtool_rxfh_fields,
    ) -> c_int {
        // SAFETY: As above, and room for the answer.
        unsafe {
            let data = Self::data(dev);
            let fields = flow((*info).flow_type).map(|flow| O::rss_fields(data, flow));
            (*info).data = fields.map_or(0, to_raw);
        }
        0
    }

    pub(crate) extern "C" fn set_rxfh_fields(
        dev: *mut kernel::bindings::net_device,
        info: *const bindings::ethtool_rxfh_fields,
        _extack: *mut bindings::netlink_ext_ack,
    ) -> c_int {
        from_result(|| {
            // SAFETY: As above, and what is asked for.
            let (data, info) = unsafe { (DeviceRef::<O>::with_data(dev.cast()).1, &*info) };
            let flow = flow(info.flow_type).ok_or(EINVAL)?;
            O::set_rss_fields(data, flow, fields(info.data).ok_or(EINVAL)?).map(|()| 0)
        })
    }
}

#[kunit_tests(virtio_netdev_rss)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hashed_is_nothing_addresses_or_ports_too() {
        for known in [Fields::Addresses, Fields::AddressesAndPorts] {
            assert!(fields(to_raw(known)) == Some(known));
        }
        assert!(fields(bindings::RXH_DISCARD) == Some(Fields::Nothing));
        assert!(fields(0).is_none() && fields(bindings::RXH_IP_SRC).is_none());
        assert!(flow(bindings::IPV6_FLOW) == Some(Flow::IpV6) && flow(u32::MAX).is_none());
    }
}
