// SPDX-License-Identifier: GPL-2.0

//! What ethtool asks of coalescing: when a device notifies.
//!
//! C header: [`include/linux/ethtool.h`](srctree/include/linux/ethtool.h)
//! (`struct ethtool_coalesce`).

use crate::{
    ethtool::Callbacks,
    operations::Operations, //
};
use kernel::{
    error::from_result,
    ffi::c_int,
    prelude::*, //
};
use virtio_bindings as bindings;
use virtio_spec::net::{
    coalescing::{
        Refused,
        Settings, //
    },
    payload::Coalescing, //
};

/// What C says instead.
pub(crate) fn refused<T>(result: Result<T, Refused>) -> Result<T> {
    result.map_err(|refused| match refused {
        Refused::Unsupported => EOPNOTSUPP,
        Refused::Invalid => EINVAL,
    })
}

fn from_raw(raw: &bindings::ethtool_coalesce) -> Settings {
    Settings {
        rx: Coalescing {
            max_usecs: raw.rx_coalesce_usecs,
            max_packets: raw.rx_max_coalesced_frames,
        },
        tx: Coalescing {
            max_usecs: raw.tx_coalesce_usecs,
            max_packets: raw.tx_max_coalesced_frames,
        },
        adaptive_rx: raw.use_adaptive_rx_coalesce != 0,
    }
}

fn show(settings: Settings, raw: &mut bindings::ethtool_coalesce) {
    let Settings {
        rx,
        tx,
        adaptive_rx,
    } = settings;
    raw.rx_coalesce_usecs = rx.max_usecs;
    raw.rx_max_coalesced_frames = rx.max_packets;
    raw.tx_coalesce_usecs = tx.max_usecs;
    raw.tx_max_coalesced_frames = tx.max_packets;
    raw.use_adaptive_rx_coalesce = adaptive_rx.into();
}

impl<O: Operations> Callbacks<O> {
    pub(crate) extern "C" fn get_coalesce(
        dev: *mut kernel::bindings::net_device,
        raw: *mut bindings::ethtool_coalesce,
        _kernel_raw: *mut bindings::kernel_ethtool_coalesce,
        _extack: *mut bindings::netlink_ext_ack,
    ) -> c_int {
        // SAFETY: ethtool passes a registered device of ours, and room for the answer.
        unsafe { show(O::coalescing(Self::data(dev)), &mut *raw) };
        0
    }

    pub(crate) extern "C" fn set_coalesce(
        dev: *mut kernel::bindings::net_device,
        raw: *mut bindings::ethtool_coalesce,
        _kernel_raw: *mut bindings::kernel_ethtool_coalesce,
        _extack: *mut bindings::netlink_ext_ack,
    ) -> c_int {
        from_result(|| {
            // SAFETY: ethtool passes a registered device of ours, and what is asked for.
            let (data, wanted) = unsafe { (Self::data(dev), from_raw(&*raw)) };
            O::set_coalescing(data, wanted).map(|()| 0)
        })
    }

    pub(crate) extern "C" fn get_per_queue_coalesce(
        dev: *mut kernel::bindings::net_device,
        index: u32,
        raw: *mut bindings::ethtool_coalesce,
    ) -> c_int {
        from_result(|| {
            // SAFETY: As `get_coalesce`.
            let (data, raw) = unsafe { (Self::data(dev), &mut *raw) };
            show(O::queue_coalescing(data, index as usize)?, raw);
            Ok(0)
        })
    }

    pub(crate) extern "C" fn set_per_queue_coalesce(
        dev: *mut kernel::bindings::net_device,
        index: u32,
        raw: *mut bindings::ethtool_coalesce,
    ) -> c_int {
        from_result(|| {
            // SAFETY: As `set_coalesce`.
            let (data, wanted) = unsafe { (Self::data(dev), from_raw(&*raw)) };
            O::set_queue_coalescing(data, index as usize, wanted).map(|()| 0)
        })
    }
}

#[kunit_tests(virtio_netdev_coalescing)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_what_is_asked_for() {
        let settings = Settings {
            rx: Coalescing {
                max_usecs: 1,
                max_packets: 2,
            },
            tx: Coalescing {
                max_usecs: 3,
                max_packets: 4,
            },
            adaptive_rx: true,
        };
        let mut raw = bindings::ethtool_coalesce::default();
        show(settings, &mut raw);
        let first = (raw.rx_coalesce_usecs, raw.rx_max_coalesced_frames);
        assert!(first == (1, 2) && raw.tx_max_coalesced_frames == 4);
        assert!(from_raw(&raw) == settings);
    }
}
