// SPDX-License-Identifier: GPL-2.0
/*
 * The parameters of virtio_net, which the Rust `module!` of 7.3 does not show in sysfs.
 *
 * C source: drivers/net/virtio_net.c.
 */

#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/netdevice.h>

int net_driver_napi_weight = NAPI_POLL_WEIGHT;
module_param_named(napi_weight, net_driver_napi_weight, int, 0444);

bool net_driver_csum = true;
module_param_named(csum, net_driver_csum, bool, 0444);

bool net_driver_gso = true;
module_param_named(gso, net_driver_gso, bool, 0444);

bool net_driver_napi_tx = true;
module_param_named(napi_tx, net_driver_napi_tx, bool, 0644);
