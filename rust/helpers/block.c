// SPDX-License-Identifier: GPL-2.0

#include <linux/blk-mq.h>
#include <linux/blkdev.h>

__rust_helper bool rust_helper_virtio_blk_mq_add_to_batch(struct request *rq,
							  struct io_comp_batch *iob,
							  void (*complete)(struct io_comp_batch *))
{
	return blk_mq_add_to_batch(rq, iob, false, complete);
}

__rust_helper struct queue_limits rust_helper_virtio_queue_limits_start_update(struct request_queue *q)
{
	return queue_limits_start_update(q);
}

__rust_helper struct gendisk *rust_helper_virtio_dev_to_disk(struct device *dev)
{
	return dev_to_disk(dev);
}

__rust_helper struct device *rust_helper_virtio_disk_to_dev(struct gendisk *disk)
{
	return disk_to_dev(disk);
}
