// SPDX-License-Identifier: GPL-2.0
/*
 * The parameters of virtio_blk, which the Rust `module!` of 7.3 does not show in sysfs, and the numbers
 * of its disks, which want a static initialiser of C's.
 *
 * C source: drivers/block/virtio_blk.c.
 */

#include <linux/idr.h>
#include <linux/module.h>
#include <linux/moduleparam.h>

unsigned int block_driver_num_request_queues;
module_param_named(num_request_queues, block_driver_num_request_queues, uint, 0644);
MODULE_PARM_DESC(num_request_queues,
		 "Limit the number of request queues to use for blk device. "
		 "0 for no limit. "
		 "Values > nr_cpu_ids truncated to nr_cpu_ids.");

unsigned int block_driver_poll_queues;
module_param_named(poll_queues, block_driver_poll_queues, uint, 0644);
MODULE_PARM_DESC(poll_queues, "The number of dedicated virtqueues for polling I/O");

unsigned int block_driver_queue_depth;
module_param_named(queue_depth, block_driver_queue_depth, uint, 0444);

DEFINE_IDA(block_driver_ida);
