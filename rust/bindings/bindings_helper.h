/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Headers that the `kernel` crate's own bindings do not cover.  Sorted.
 */
#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/completion.h>
#include <linux/debugfs.h>
#include <linux/dma-mapping.h>
#include <linux/hw_random.h>
#include <linux/hdreg.h>
#include <linux/idr.h>
#include <linux/interrupt.h>
#include <linux/pci.h>
#include <linux/virtio.h>
#include <linux/virtio_anchor.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci_admin.h>
#include <linux/virtio_ring.h>
#include <uapi/linux/virtio_config.h>
#include <uapi/linux/virtio_ids.h>
#include <uapi/linux/virtio_pci.h>
#include <uapi/linux/virtio_ring.h>
#include <uapi/linux/virtio_types.h>

#include "../virtio_ring/trace.h"

/* bindgen gets confused at certain things. */
const unsigned long RUST_CONST_HELPER_VIRTIO_DMA_ATTR_CACHE_CLEAN =
	DMA_ATTR_DEBUGGING_IGNORE_CACHELINES;

const blk_status_t RUST_CONST_HELPER_BLK_STS_NOTSUPP = BLK_STS_NOTSUPP;
const blk_status_t RUST_CONST_HELPER_BLK_STS_IOERR = BLK_STS_IOERR;
const blk_status_t RUST_CONST_HELPER_BLK_STS_RESOURCE = BLK_STS_RESOURCE;
const blk_status_t RUST_CONST_HELPER_BLK_STS_ZONE_OPEN_RESOURCE = BLK_STS_ZONE_OPEN_RESOURCE;
const blk_status_t RUST_CONST_HELPER_BLK_STS_ZONE_ACTIVE_RESOURCE = BLK_STS_ZONE_ACTIVE_RESOURCE;
const blk_features_t RUST_CONST_HELPER_VIRTIO_BLK_FEAT_WRITE_CACHE = BLK_FEAT_WRITE_CACHE;
const blk_features_t RUST_CONST_HELPER_VIRTIO_BLK_FEAT_ROTATIONAL = BLK_FEAT_ROTATIONAL;
const blk_features_t RUST_CONST_HELPER_VIRTIO_BLK_FEAT_ZONED = BLK_FEAT_ZONED;
