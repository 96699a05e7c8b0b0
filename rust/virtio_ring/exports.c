// SPDX-License-Identifier: GPL-2.0
/* Exports the C ABI of virtio_ring.ko, with the headers' own prototypes. */

#include <linux/export.h>
#include <linux/virtio.h>
#include <linux/virtio_ring.h>

EXPORT_SYMBOL_GPL(virtqueue_add_sgs);
EXPORT_SYMBOL_GPL(virtqueue_add_outbuf);
EXPORT_SYMBOL_GPL(virtqueue_add_outbuf_premapped);
EXPORT_SYMBOL_GPL(virtqueue_add_inbuf);
EXPORT_SYMBOL_GPL(virtqueue_add_inbuf_cache_clean);
EXPORT_SYMBOL_GPL(virtqueue_add_inbuf_ctx);
EXPORT_SYMBOL_GPL(virtqueue_add_inbuf_premapped);
EXPORT_SYMBOL_GPL(virtqueue_dma_dev);
EXPORT_SYMBOL_GPL(virtqueue_kick_prepare);
EXPORT_SYMBOL_GPL(virtqueue_notify);
EXPORT_SYMBOL_GPL(virtqueue_kick);
EXPORT_SYMBOL_GPL(virtqueue_get_buf_ctx);
EXPORT_SYMBOL_GPL(virtqueue_get_buf);
EXPORT_SYMBOL_GPL(virtqueue_disable_cb);
EXPORT_SYMBOL_GPL(virtqueue_enable_cb_prepare);
EXPORT_SYMBOL_GPL(virtqueue_poll);
EXPORT_SYMBOL_GPL(virtqueue_enable_cb);
EXPORT_SYMBOL_GPL(virtqueue_enable_cb_delayed);
EXPORT_SYMBOL_GPL(virtqueue_detach_unused_buf);
EXPORT_SYMBOL_GPL(vring_interrupt);
EXPORT_SYMBOL_GPL(vring_create_virtqueue);
EXPORT_SYMBOL_GPL(vring_create_virtqueue_map);
EXPORT_SYMBOL_GPL(vring_del_virtqueue);
EXPORT_SYMBOL_GPL(vring_notification_data);
EXPORT_SYMBOL_GPL(vring_transport_features);
EXPORT_SYMBOL_GPL(virtqueue_get_vring_size);
EXPORT_SYMBOL_GPL(__virtqueue_break);
EXPORT_SYMBOL_GPL(__virtqueue_unbreak);
EXPORT_SYMBOL_GPL(virtqueue_is_broken);
EXPORT_SYMBOL_GPL(virtio_break_device);
EXPORT_SYMBOL_GPL(__virtio_unbreak_device);
EXPORT_SYMBOL_GPL(virtqueue_get_desc_addr);
EXPORT_SYMBOL_GPL(virtqueue_get_avail_addr);
EXPORT_SYMBOL_GPL(virtqueue_get_used_addr);
EXPORT_SYMBOL_GPL(virtqueue_get_vring);
EXPORT_SYMBOL_GPL(virtio_max_dma_size);
EXPORT_SYMBOL_GPL(virtqueue_map_alloc_coherent);
EXPORT_SYMBOL_GPL(virtqueue_map_free_coherent);
EXPORT_SYMBOL_GPL(virtqueue_map_page_attrs);
EXPORT_SYMBOL_GPL(virtqueue_unmap_page_attrs);
EXPORT_SYMBOL_GPL(virtqueue_map_single_attrs);
EXPORT_SYMBOL_GPL(virtqueue_unmap_single_attrs);
EXPORT_SYMBOL_GPL(virtqueue_map_mapping_error);
EXPORT_SYMBOL_GPL(virtqueue_map_need_sync);
EXPORT_SYMBOL_GPL(virtqueue_map_sync_single_range_for_cpu);
EXPORT_SYMBOL_GPL(virtqueue_map_sync_single_range_for_device);
EXPORT_SYMBOL_GPL(vring_new_virtqueue);
EXPORT_SYMBOL_GPL(virtqueue_reset);
EXPORT_SYMBOL_GPL(virtqueue_resize);
