// SPDX-License-Identifier: GPL-2.0

#include <linux/dma-mapping.h>
#include <linux/mm.h>
#include <linux/netdevice.h>
#include <linux/skbuff.h>
#include <net/xdp.h>
#include <net/xdp_sock_drv.h>

#ifdef CONFIG_PAGE_POOL

/* Commands. */

__rust_helper struct xsk_buff_pool *rust_helper_virtio_netdev_bpf_pool(const struct netdev_bpf *bpf)
{
	return bpf->xsk.pool;
}

__rust_helper u16 rust_helper_virtio_netdev_bpf_queue(const struct netdev_bpf *bpf)
{
	return bpf->xsk.queue_id;
}

/* Pools. */

__rust_helper u32 rust_helper_virtio_xsk_pool_get_headroom(struct xsk_buff_pool *pool)
{
	return xsk_pool_get_headroom(pool);
}

__rust_helper u32 rust_helper_virtio_xsk_pool_get_rx_frame_size(struct xsk_buff_pool *pool)
{
	return xsk_pool_get_rx_frame_size(pool);
}

__rust_helper int rust_helper_virtio_xsk_pool_dma_map(struct xsk_buff_pool *pool, struct device *dev)
{
	return xsk_pool_dma_map(pool, dev, 0);
}

__rust_helper void rust_helper_virtio_xsk_pool_dma_unmap(struct xsk_buff_pool *pool)
{
	xsk_pool_dma_unmap(pool, 0);
}

__rust_helper int rust_helper_virtio_xsk_rxq_info_reg(struct xdp_rxq_info *rxq, struct net_device *dev,
						      u32 index, u32 napi_id, struct xsk_buff_pool *pool)
{
	int err = xdp_rxq_info_reg(rxq, dev, index, napi_id);

	if (err)
		return err;
	err = xdp_rxq_info_reg_mem_model(rxq, MEM_TYPE_XSK_BUFF_POOL, NULL);
	if (err) {
		xdp_rxq_info_unreg(rxq);
		return err;
	}
	xsk_pool_set_rxq_info(pool, rxq);
	return 0;
}

__rust_helper bool rust_helper_virtio_xsk_uses_need_wakeup(struct xsk_buff_pool *pool)
{
	return xsk_uses_need_wakeup(pool);
}

__rust_helper void rust_helper_virtio_xsk_set_rx_need_wakeup(struct xsk_buff_pool *pool, bool need)
{
	if (need)
		xsk_set_rx_need_wakeup(pool);
	else
		xsk_clear_rx_need_wakeup(pool);
}

__rust_helper void rust_helper_virtio_xsk_set_tx_need_wakeup(struct xsk_buff_pool *pool)
{
	xsk_set_tx_need_wakeup(pool);
}

/* Rate: once in many seconds. */
__rust_helper void rust_helper_virtio_xsk_in_use(const struct net_device *dev)
{
	netdev_err(dev, "the pool of a socket is still in use\n");
}

/* Buffers that are received into. */

__rust_helper u32 rust_helper_virtio_xsk_buff_alloc_batch(struct xsk_buff_pool *pool, struct xdp_buff **xdp,
							  u32 max)
{
	return xsk_buff_alloc_batch(pool, xdp, max);
}

__rust_helper void rust_helper_virtio_xsk_buff_free(struct xdp_buff *xdp)
{
	xsk_buff_free(xdp);
}

__rust_helper dma_addr_t rust_helper_virtio_xsk_buff_dma(struct xdp_buff *xdp)
{
	return xsk_buff_xdp_get_dma(xdp);
}

/*
 * Says that a packet of LEN bytes is in the buffer, behind HEADER bytes that end where packets begin, or in their
 * place if it is not the first of a packet.  The pool's own function does not sync what is before a packet.
 */
__rust_helper void rust_helper_virtio_xsk_buff_received(struct xdp_buff *xdp, u32 header, u32 len, bool first)
{
	struct xsk_buff_pool *pool = container_of(xdp, struct xdp_buff_xsk, xdp)->pool;

	xsk_buff_set_size(xdp, len);
	if (!first) {
		xdp->data -= header;
		xdp->data_meta = xdp->data;
		xdp->data_end -= header;
	}
	dma_sync_single_range_for_cpu(pool->dev, xsk_buff_xdp_get_dma(xdp) - header, 0, header, DMA_BIDIRECTIONAL);
	xsk_buff_dma_sync_for_cpu(xdp);
}

/* A copy, with the metadata of a program. */
__rust_helper struct sk_buff *rust_helper_virtio_xsk_copy_skb(struct napi_struct *napi, const struct xdp_buff *xdp)
{
	u32 size = xdp->data_end - xdp->data_meta, meta = xdp->data - xdp->data_meta;
	struct sk_buff *skb = napi_alloc_skb(napi, size);

	if (!skb)
		return NULL;
	skb_put_data(skb, xdp->data_meta, size);
	if (meta) {
		__skb_pull(skb, meta);
		skb_metadata_set(skb, meta);
	}
	return skb;
}

/* A copy with ROOM bytes in front: by itself the kernel leaves none but for metadata, which nobody reads of a frame. */
__rust_helper struct xdp_frame *rust_helper_virtio_xsk_convert_to_frame(struct xdp_buff *xdp, u32 room)
{
	void *meta = xdp->data_meta;
	struct xdp_frame *frame;

	if (xdp->data - xdp->data_hard_start < room)
		return NULL;
	xdp->data_meta = xdp->data - room;
	frame = xdp_convert_buff_to_frame(xdp);
	if (frame)
		frame->metasize = 0;
	else
		xdp->data_meta = meta;
	return frame;
}

/* Frames that are sent. */

__rust_helper u32 rust_helper_virtio_xsk_tx_peek_release_desc_batch(struct xsk_buff_pool *pool, u32 max)
{
	return xsk_tx_peek_release_desc_batch(pool, max);
}

/* The length of frame AT of the batch, and where the device finds it, which is told of it. */
__rust_helper u32 rust_helper_virtio_xsk_tx_desc(struct xsk_buff_pool *pool, u32 at, dma_addr_t *address)
{
	const struct xdp_desc *desc = &pool->tx_descs[at];

	*address = xsk_buff_raw_get_dma(pool, desc->addr);
	xsk_buff_raw_dma_sync_for_device(pool, *address, desc->len);
	return desc->len;
}

__rust_helper void rust_helper_virtio_xsk_tx_completed(struct xsk_buff_pool *pool, u32 count)
{
	xsk_tx_completed(pool, count);
}

/* Headers that ask for nothing: zeroes. */

__rust_helper dma_addr_t rust_helper_virtio_dma_map_zeroes(struct device *dev, u32 len)
{
	return dma_map_page(dev, ZERO_PAGE(0), 0, len, DMA_TO_DEVICE);
}

__rust_helper void rust_helper_virtio_dma_unmap_zeroes(struct device *dev, dma_addr_t address, u32 len)
{
	dma_unmap_page(dev, address, len, DMA_TO_DEVICE);
}

#endif
