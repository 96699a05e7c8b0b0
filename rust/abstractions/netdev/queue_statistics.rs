// SPDX-License-Identifier: GPL-2.0

//! What is counted of queues, as netlink shows it (`qstats-get` of the family `netdev`).
//!
//! C header: [`include/net/netdev_queues.h`](srctree/include/net/netdev_queues.h)
//! (`struct netdev_stat_ops`).

use crate::{
    device::DeviceRef,
    operations::Operations, //
};
use core::marker::PhantomData;
use kernel::{
    ffi::c_int,
    prelude::*, //
};
use virtio_bindings as bindings;

/// Makes a type of the numbers of a queue.
macro_rules! queue_statistics {
    ($(#[$doc:meta])* $name:ident, $raw:ident, [$($field:ident),* $(,)?]) => {
        $(#[$doc])*
        #[repr(transparent)]
        pub struct $name(bindings::$raw);

        impl $name {
            /// Sets the number with that name, one of netlink's; false if it has none such.
            pub fn set(&mut self, name: &str, value: u64) -> bool {
                let number = match name {
                    $(stringify!($field) => &mut self.0.$field,)*
                    _ => return false,
                };
                *number = value;
                true
            }

            /// # Safety
            ///
            /// `raw` points to numbers that nobody else uses during `'a`.
            unsafe fn from_raw<'a>(raw: *mut bindings::$raw) -> &'a mut Self {
                // SAFETY: By the contract; transparent.
                unsafe { &mut *raw.cast() }
            }
        }
    };
}

queue_statistics! {
    /// What is counted of a receive queue: nothing that is not set.
    RxQueueStatistics, netdev_queue_stats_rx, [
        bytes, packets, alloc_fail, hw_drops, hw_drop_overruns, csum_complete, csum_unnecessary,
        csum_none, csum_bad, hw_gro_packets, hw_gro_bytes, hw_gro_wire_packets, hw_gro_wire_bytes,
        hw_drop_ratelimits,
    ]
}

queue_statistics! {
    /// What is counted of a transmit queue: nothing that is not set.
    TxQueueStatistics, netdev_queue_stats_tx, [
        bytes, packets, hw_drops, hw_drop_errors, csum_none, needs_csum, hw_gso_packets, hw_gso_bytes,
        hw_gso_wire_packets, hw_gso_wire_bytes, hw_drop_ratelimits, stop, wake,
    ]
}

/// The callbacks of a driver.
pub(crate) struct Callbacks<O: Operations>(PhantomData<O>);

impl<O: Operations> Callbacks<O> {
    /// As C wants them.
    pub(crate) const TABLE: &'static bindings::netdev_stat_ops = &bindings::netdev_stat_ops {
        get_queue_stats_rx: Some(Self::get_queue_stats_rx),
        get_queue_stats_tx: Some(Self::get_queue_stats_tx),
        get_base_stats: Some(Self::get_base_stats),
    };

    extern "C" fn get_queue_stats_rx(
        dev: *mut bindings::net_device,
        index: c_int,
        numbers: *mut bindings::netdev_queue_stats_rx,
    ) {
        // SAFETY: The stack passes a registered device of ours, and room for the numbers.
        unsafe {
            let data = DeviceRef::<O>::with_data(dev).1;
            O::rx_queue_statistics(data, index as usize, RxQueueStatistics::from_raw(numbers));
        }
    }

    extern "C" fn get_queue_stats_tx(
        dev: *mut bindings::net_device,
        index: c_int,
        numbers: *mut bindings::netdev_queue_stats_tx,
    ) {
        // SAFETY: As above.
        unsafe {
            let data = DeviceRef::<O>::with_data(dev).1;
            O::tx_queue_statistics(data, index as usize, TxQueueStatistics::from_raw(numbers));
        }
    }

    /// What the driver says, and what is counted of the queues that are not in use.
    extern "C" fn get_base_stats(
        dev: *mut bindings::net_device,
        rx: *mut bindings::netdev_queue_stats_rx,
        tx: *mut bindings::netdev_queue_stats_tx,
    ) {
        // SAFETY: As above; under the RTNL lock the number of queues does not change.
        unsafe {
            let data = DeviceRef::<O>::with_data(dev).1;
            O::base_statistics(
                data,
                RxQueueStatistics::from_raw(rx),
                TxQueueStatistics::from_raw(tx),
            );
            bindings::netdev_stat_queue_sum(
                dev,
                (*dev).real_num_rx_queues as c_int,
                (*dev).num_rx_queues as c_int,
                rx,
                (*dev).real_num_tx_queues as c_int,
                (*dev).num_tx_queues as c_int,
                tx,
            );
        }
    }
}

#[kunit_tests(virtio_netdev_queue_statistics)]
mod tests {
    use super::*;
    use virtio_spec::net::{
        payload::Queue,
        stats::Kind, //
    };

    #[test]
    fn what_is_not_known_has_no_room() {
        let mut rx = RxQueueStatistics(Default::default());
        assert!(rx.set("packets", 3) && rx.0.packets == 3 && rx.0.bytes == 0);
        assert!(!rx.set("stop", 3) && !rx.set("", 3));
    }

    #[test]
    fn all_that_a_device_counts_of_queues_has_room() {
        let mut rx = RxQueueStatistics(Default::default());
        let mut tx = TxQueueStatistics(Default::default());
        for kind in Kind::ALL {
            for (_, name) in kind.queue_counters() {
                assert!(if kind.is_of(Queue::Receive(0)) {
                    rx.set(name, 1)
                } else {
                    tx.set(name, 1)
                });
            }
        }
        assert_eq!((rx.0.hw_gro_wire_bytes, tx.0.hw_gso_wire_bytes), (1, 1));
    }
}
