// SPDX-License-Identifier: GPL-2.0

//! What ethtool asks.
//!
//! C header: [`include/linux/ethtool.h`](srctree/include/linux/ethtool.h).

use crate::{
    device::DeviceRef,
    operations::Operations, //
};
use core::{
    marker::PhantomData,
    mem::MaybeUninit, //
};
use kernel::{
    error::{
        from_result,
        to_result, //
    },
    ffi::{
        c_char,
        c_int, //
    },
    prelude::*, //
};
use virtio_bindings as bindings;

/// Descriptors of queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rings {
    /// Of one to receive.
    pub rx: u32,
    /// Of one to send.
    pub tx: u32,
    /// The most that one to receive can have.
    pub rx_max: u32,
    /// The most that one to send can have.
    pub tx_max: u32,
}

/// Pairs of queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    /// In use.
    pub combined: u32,
    /// That there can be.
    pub max_combined: u32,
}

/// How fast a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkSettings {
    /// In Mbit/s, or [`LinkSettings::UNKNOWN`].
    pub speed: u32,
    /// 0 half, 1 full, 0xff unknown.
    pub duplex: u8,
}

impl LinkSettings {
    /// Of which nothing is known (C: `SPEED_UNKNOWN`, `DUPLEX_UNKNOWN`).
    pub const UNKNOWN: Self = Self {
        speed: u32::MAX,
        duplex: bindings::DUPLEX_UNKNOWN as u8,
    };

    /// These settings; what cannot be is unknown (C: `ethtool_validate_speed`).
    pub fn checked(speed: u32, duplex: u8) -> Self {
        let unknown = Self::UNKNOWN;
        Self {
            speed: Some(speed)
                .filter(|speed| *speed <= i32::MAX as u32)
                .unwrap_or(unknown.speed),
            duplex: Some(duplex)
                .filter(|duplex| *duplex <= 1)
                .unwrap_or(unknown.duplex),
        }
    }
}

/// The callbacks of a driver.
pub(crate) struct Callbacks<O: Operations>(PhantomData<O>);

impl<O: Operations> Callbacks<O> {
    /// As C wants them.
    pub(crate) const TABLE: &'static bindings::ethtool_ops = {
        &bindings::ethtool_ops {
            supported_coalesce_params: bindings::VIRTIO_COALESCE_PARAMS,
            get_drvinfo: Some(Self::get_drvinfo),
            get_link: Some(get_link),
            get_ringparam: Some(Self::get_ringparam),
            set_ringparam: Some(Self::set_ringparam),
            get_channels: Some(Self::get_channels),
            set_channels: Some(Self::set_channels),
            get_coalesce: Some(Self::get_coalesce),
            set_coalesce: Some(Self::set_coalesce),
            get_per_queue_coalesce: Some(Self::get_per_queue_coalesce),
            set_per_queue_coalesce: Some(Self::set_per_queue_coalesce),
            get_rxfh_key_size: Some(Self::get_rxfh_key_size),
            get_rxfh_indir_size: Some(Self::get_rxfh_indir_size),
            get_rxfh: Some(Self::get_rxfh),
            set_rxfh: Some(Self::set_rxfh),
            get_rxfh_fields: Some(Self::get_rxfh_fields),
            set_rxfh_fields: Some(Self::set_rxfh_fields),
            get_rx_ring_count: Some(Self::get_rx_ring_count),
            get_strings: Some(Self::get_strings),
            get_sset_count: Some(Self::get_sset_count),
            get_ethtool_stats: Some(Self::get_ethtool_stats),
            get_ts_info: Some(get_ts_info),
            get_link_ksettings: Some(Self::get_link_ksettings),
            set_link_ksettings: Some(Self::set_link_ksettings),
            // SAFETY: All that is left is optional functions and plain numbers.
            ..unsafe { MaybeUninit::zeroed().assume_init() }
        }
    };

    /// # Safety
    ///
    /// `dev` is a registered device of ours.
    pub(crate) unsafe fn data<'a>(dev: *mut kernel::bindings::net_device) -> &'a O::Data {
        // SAFETY: By the contract.
        unsafe { DeviceRef::<O>::with_data(dev.cast()).1 }
    }

    extern "C" fn get_drvinfo(
        dev: *mut kernel::bindings::net_device,
        info: *mut bindings::ethtool_drvinfo,
    ) {
        // SAFETY: ethtool passes a registered device of ours, and room for the answer.
        let (data, info) = unsafe { (Self::data(dev), &mut *info) };
        let put = |room: &mut [c_char], text: &[u8]| {
            let last = room.len().saturating_sub(1);
            for (to, from) in room.iter_mut().take(last).zip(text) {
                *to = *from as c_char;
            }
        };
        put(&mut info.driver, O::NAME.as_bytes());
        put(&mut info.version, O::VERSION.as_bytes());
        put(&mut info.bus_info, O::bus_name(data).to_bytes());
    }

    extern "C" fn get_ringparam(
        dev: *mut kernel::bindings::net_device,
        rings: *mut bindings::ethtool_ringparam,
        _kernel_rings: *mut bindings::kernel_ethtool_ringparam,
        _extack: *mut bindings::netlink_ext_ack,
    ) {
        // SAFETY: As `get_drvinfo`.
        unsafe {
            let Rings {
                rx,
                tx,
                rx_max,
                tx_max,
            } = O::rings(Self::data(dev));
            (*rings).rx_pending = rx;
            (*rings).tx_pending = tx;
            (*rings).rx_max_pending = rx_max;
            (*rings).tx_max_pending = tx_max;
        }
    }

    extern "C" fn set_ringparam(
        dev: *mut kernel::bindings::net_device,
        rings: *mut bindings::ethtool_ringparam,
        _kernel_rings: *mut bindings::kernel_ethtool_ringparam,
        _extack: *mut bindings::netlink_ext_ack,
    ) -> c_int {
        from_result(|| {
            // SAFETY: ethtool passes a registered device of ours, and what is asked for.
            let (data, wanted) = unsafe { (Self::data(dev), &*rings) };
            if wanted.rx_mini_pending | wanted.rx_jumbo_pending != 0 {
                return Err(EINVAL);
            }
            let now = O::rings(data);
            let (rx, tx) = (wanted.rx_pending, wanted.tx_pending);
            if rx > now.rx_max || tx > now.tx_max {
                return Err(EINVAL);
            }
            O::set_rings(data, rx, tx).map(|()| 0)
        })
    }

    extern "C" fn get_channels(
        dev: *mut kernel::bindings::net_device,
        channels: *mut bindings::ethtool_channels,
    ) {
        // SAFETY: As `get_drvinfo`.
        unsafe {
            let Channels {
                combined,
                max_combined,
            } = O::channels(Self::data(dev));
            (*channels).combined_count = combined;
            (*channels).max_combined = max_combined;
        }
    }

    extern "C" fn set_channels(
        dev: *mut kernel::bindings::net_device,
        channels: *mut bindings::ethtool_channels,
    ) -> c_int {
        from_result(|| {
            // SAFETY: ethtool passes a registered device of ours, and what is asked for.
            let ((dev, data), channels) =
                unsafe { (DeviceRef::<O>::with_data(dev.cast()), &*channels) };
            // Queues are pairs.
            if channels.rx_count | channels.tx_count | channels.other_count != 0 {
                return Err(EINVAL);
            }
            O::set_channels(dev, data, channels.combined_count).map(|()| 0)
        })
    }

    extern "C" fn get_link_ksettings(
        dev: *mut kernel::bindings::net_device,
        settings: *mut bindings::ethtool_link_ksettings,
    ) -> c_int {
        // SAFETY: As `get_drvinfo`.
        unsafe {
            let LinkSettings { speed, duplex } = O::link_settings(Self::data(dev));
            (*settings).base.speed = speed;
            (*settings).base.duplex = duplex;
            (*settings).base.port = bindings::PORT_OTHER as u8;
        }
        0
    }

    extern "C" fn set_link_ksettings(
        dev: *mut kernel::bindings::net_device,
        settings: *const bindings::ethtool_link_ksettings,
    ) -> c_int {
        let (mut speed, mut duplex) = (0, 0);
        // SAFETY: As `get_drvinfo`.
        unsafe {
            let done = to_result(bindings::ethtool_virtdev_set_link_ksettings(
                dev.cast(),
                settings,
                &mut speed,
                &mut duplex,
            ));
            if let Err(error) = done {
                return error.to_errno();
            }
            O::set_link_settings(Self::data(dev), LinkSettings { speed, duplex });
        }
        0
    }
}

extern "C" fn get_link(dev: *mut kernel::bindings::net_device) -> u32 {
    // SAFETY: ethtool passes a device.
    unsafe { bindings::ethtool_op_get_link(dev.cast()) }
}

extern "C" fn get_ts_info(
    dev: *mut kernel::bindings::net_device,
    info: *mut bindings::kernel_ethtool_ts_info,
) -> c_int {
    // SAFETY: ethtool passes a device, and room for the answer.
    unsafe { bindings::ethtool_op_get_ts_info(dev.cast(), info) }
}

#[kunit_tests(virtio_netdev_ethtool)]
mod tests {
    use super::*;

    #[test]
    fn absurd_settings_are_unknown() {
        let unknown = LinkSettings::UNKNOWN;
        assert!(LinkSettings::checked(u32::MAX, 2) == unknown);
        assert!(LinkSettings::checked(0x8000_0000, 0xff) == unknown);
        let known = LinkSettings::checked(10_000, 1);
        assert!((known.speed, known.duplex) == (10_000, 1));
    }
}
