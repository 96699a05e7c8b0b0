// SPDX-License-Identifier: GPL-2.0

#include <linux/dim.h>
#include <linux/etherdevice.h>
#include <linux/netdevice.h>
#include <linux/rtnetlink.h>
#include <linux/virtio_net.h>
#include <net/net_failover.h>
#include <net/netdev_rx_queue.h>
#include <net/page_pool/helpers.h>

#ifdef CONFIG_PAGE_POOL

/* Network devices. */

__rust_helper void *rust_helper_virtio_netdev_priv(const struct net_device *dev)
{
	return netdev_priv(dev);
}

__rust_helper void rust_helper_virtio_netdev_add_priv_flags(struct net_device *dev, u32 flags)
{
	dev->priv_flags |= flags;
}

__rust_helper void rust_helper_virtio_eth_hw_addr_set(struct net_device *dev, const u8 *addr)
{
	eth_hw_addr_set(dev, addr);
}

__rust_helper void rust_helper_virtio_eth_hw_addr_random(struct net_device *dev)
{
	eth_hw_addr_random(dev);
}

__rust_helper bool rust_helper_virtio_netif_running(const struct net_device *dev)
{
	return netif_running(dev);
}

__rust_helper bool rust_helper_virtio_netif_device_present(const struct net_device *dev)
{
	return netif_device_present(dev);
}

__rust_helper void rust_helper_virtio_netif_tx_lock_bh(struct net_device *dev)
{
	netif_tx_lock_bh(dev);
}

__rust_helper void rust_helper_virtio_netif_tx_unlock_bh(struct net_device *dev)
{
	netif_tx_unlock_bh(dev);
}

__rust_helper void rust_helper_virtio_netif_tx_stop_all_queues(struct net_device *dev)
{
	netif_tx_stop_all_queues(dev);
}

__rust_helper void rust_helper_virtio_netif_tx_wake_all_queues(struct net_device *dev)
{
	netif_tx_wake_all_queues(dev);
}

/* Copies as many of the addresses as there is room for; returns how many there are. */
__rust_helper unsigned int rust_helper_virtio_netdev_addresses(struct net_device *dev, bool multicast,
							       u8 *to, unsigned int room)
{
	const struct netdev_hw_addr_list *list = multicast ? &dev->mc : &dev->uc;
	const struct netdev_hw_addr *address;
	unsigned int count = 0;

	netif_addr_lock_bh(dev);
	netdev_hw_addr_list_for_each(address, list) {
		if (count < room)
			ether_addr_copy(to + count * ETH_ALEN, address->addr);
		count++;
	}
	netif_addr_unlock_bh(dev);
	return count;
}

__rust_helper bool rust_helper_virtio_netif_is_rxfh_configured(const struct net_device *dev)
{
	return netif_is_rxfh_configured(dev);
}

__rust_helper int rust_helper_virtio_netif_set_xps_queue(struct net_device *dev,
							 const struct cpumask *mask, u16 index)
{
	return netif_set_xps_queue(dev, mask, index);
}

__rust_helper bool rust_helper_virtio_cpu_online(unsigned int cpu)
{
	return cpu_online(cpu);
}

__rust_helper unsigned int rust_helper_virtio_rx_queue_index(struct netdev_rx_queue *queue)
{
	return get_netdev_rx_queue_index(queue);
}

#if IS_REACHABLE(CONFIG_NET_FAILOVER)
__rust_helper struct failover *rust_helper_virtio_net_failover_create(struct net_device *standby)
{
	return net_failover_create(standby);
}

__rust_helper void rust_helper_virtio_net_failover_destroy(struct failover *failover)
{
	net_failover_destroy(failover);
}
#else
__rust_helper struct failover *rust_helper_virtio_net_failover_create(struct net_device *standby)
{
	return ERR_PTR(-EOPNOTSUPP);
}

__rust_helper void rust_helper_virtio_net_failover_destroy(struct failover *failover)
{
}
#endif

/* Transmit queues. */

__rust_helper struct netdev_queue *rust_helper_virtio_netdev_get_tx_queue(const struct net_device *dev,
									   unsigned int index)
{
	return netdev_get_tx_queue(dev, index);
}

__rust_helper void rust_helper_virtio_netif_tx_queue_lock(struct netdev_queue *txq)
{
	__netif_tx_lock(txq, smp_processor_id());
}

__rust_helper bool rust_helper_virtio_netif_tx_queue_trylock(struct netdev_queue *txq)
{
	return __netif_tx_trylock(txq);
}

__rust_helper void rust_helper_virtio_netif_tx_queue_unlock(struct netdev_queue *txq)
{
	__netif_tx_unlock(txq);
}

__rust_helper void rust_helper_virtio_netif_tx_queue_stop(struct netdev_queue *txq)
{
	netif_tx_stop_queue(txq);
}

__rust_helper void rust_helper_virtio_netif_tx_queue_touch(struct netdev_queue *txq)
{
	txq_trans_cond_update(txq);
}

__rust_helper bool rust_helper_virtio_netif_tx_queue_stopped(const struct netdev_queue *txq)
{
	return netif_tx_queue_stopped(txq);
}

__rust_helper bool rust_helper_virtio_netdev_tx_sent(struct netdev_queue *txq, unsigned int bytes,
						     bool more)
{
	return __netdev_tx_sent_queue(txq, bytes, more);
}

__rust_helper void rust_helper_virtio_netdev_tx_completed(struct netdev_queue *txq,
							  unsigned int packets, unsigned int bytes)
{
	netdev_tx_completed_queue(txq, packets, bytes);
}

__rust_helper void rust_helper_virtio_netdev_tx_reset(struct netdev_queue *txq)
{
	netdev_tx_reset_queue(txq);
}

__rust_helper bool rust_helper_virtio_netdev_xmit_more(void)
{
	return netdev_xmit_more();
}

/* NAPI. */

__rust_helper void rust_helper_virtio_netif_napi_add_config(struct net_device *dev,
							    struct napi_struct *napi,
							    int (*poll)(struct napi_struct *, int),
							    int index)
{
	netif_napi_add_config(dev, napi, poll, index);
}

__rust_helper void rust_helper_virtio_netif_napi_add_tx(struct net_device *dev,
							struct napi_struct *napi,
							int (*poll)(struct napi_struct *, int))
{
	netif_napi_add_tx(dev, napi, poll);
}

__rust_helper void rust_helper_virtio_netif_napi_del(struct napi_struct *napi)
{
	netif_napi_del(napi);
}

__rust_helper void rust_helper_virtio_napi_schedule(struct napi_struct *napi)
{
	napi_schedule(napi);
}

__rust_helper void rust_helper_virtio_napi_wake(struct napi_struct *napi)
{
	if (napi_if_scheduled_mark_missed(napi))
		return;
	local_bh_disable();
	napi_schedule(napi);
	local_bh_enable();
}

__rust_helper void rust_helper_virtio_skb_receive(struct napi_struct *napi, struct sk_buff *skb)
{
	skb->protocol = eth_type_trans(skb, napi->dev);
	napi_gro_receive(napi, skb);
}

__rust_helper void rust_helper_virtio_local_bh_disable(void)
{
	local_bh_disable();
}

__rust_helper void rust_helper_virtio_local_bh_enable(void)
{
	local_bh_enable();
}

/* Adaptive coalescing. */

__rust_helper void rust_helper_virtio_dim_update_sample(u16 events, u64 packets, u64 bytes,
							 struct dim_sample *sample)
{
	dim_update_sample(events, packets, bytes, sample);
}

/* Socket buffers. */

__rust_helper unsigned int rust_helper_virtio_skb_headlen(const struct sk_buff *skb)
{
	return skb_headlen(skb);
}

__rust_helper unsigned int rust_helper_virtio_skb_headroom(const struct sk_buff *skb)
{
	return skb_headroom(skb);
}

__rust_helper int rust_helper_virtio_skb_tailroom(const struct sk_buff *skb)
{
	return skb_tailroom(skb);
}

__rust_helper bool rust_helper_virtio_skb_header_cloned(const struct sk_buff *skb)
{
	return skb_header_cloned(skb);
}

__rust_helper struct skb_shared_info *rust_helper_virtio_skb_shinfo(const struct sk_buff *skb)
{
	return skb_shinfo(skb);
}

__rust_helper u8 rust_helper_virtio_skb_ip_summed(const struct sk_buff *skb)
{
	return skb->ip_summed;
}

__rust_helper int rust_helper_virtio_skb_checksum_start_offset(const struct sk_buff *skb)
{
	return skb_checksum_start_offset(skb);
}

__rust_helper u16 rust_helper_virtio_skb_csum_offset(const struct sk_buff *skb)
{
	return skb->csum_offset;
}

__rust_helper unsigned int rust_helper_virtio_skb_gso_header_len(const struct sk_buff *skb, bool tcp)
{
	return skb_transport_offset(skb) + (tcp ? tcp_hdrlen(skb) : sizeof(struct udphdr));
}

/* Of a packet in a tunnel: from the start of the outer one. */
__rust_helper unsigned int rust_helper_virtio_skb_inner_gso_header_len(const struct sk_buff *skb, bool tcp)
{
	return skb_inner_transport_offset(skb) + (tcp ? inner_tcp_hdrlen(skb) : sizeof(struct udphdr));
}

__rust_helper int rust_helper_virtio_skb_transport_offset(const struct sk_buff *skb)
{
	return skb_transport_offset(skb);
}

__rust_helper int rust_helper_virtio_skb_inner_network_offset(const struct sk_buff *skb)
{
	return skb_inner_network_offset(skb);
}

__rust_helper bool rust_helper_virtio_skb_is_ipv6(const struct sk_buff *skb)
{
	return skb->protocol == htons(ETH_P_IPV6);
}

__rust_helper u16 rust_helper_virtio_skb_get_queue_mapping(const struct sk_buff *skb)
{
	return skb_get_queue_mapping(skb);
}

__rust_helper void rust_helper_virtio_skb_tx_timestamp(struct sk_buff *skb)
{
	skb_tx_timestamp(skb);
}

__rust_helper void rust_helper_virtio_skb_orphan(struct sk_buff *skb)
{
	skb_orphan(skb);
	nf_reset_ct(skb);
}

__rust_helper int rust_helper_virtio_skb_linearize(struct sk_buff *skb)
{
	return skb_linearize(skb);
}

__rust_helper struct page *rust_helper_virtio_skb_frag_page(const skb_frag_t *frag)
{
	return skb_frag_page(frag);
}

__rust_helper unsigned int rust_helper_virtio_skb_frag_off(const skb_frag_t *frag)
{
	return skb_frag_off(frag);
}

__rust_helper unsigned int rust_helper_virtio_skb_frag_size(const skb_frag_t *frag)
{
	return skb_frag_size(frag);
}

__rust_helper void rust_helper_virtio_dev_kfree_skb_any(struct sk_buff *skb)
{
	dev_kfree_skb_any(skb);
}

__rust_helper struct sk_buff *rust_helper_virtio_alloc_skb(unsigned int size)
{
	return alloc_skb(size, GFP_ATOMIC);
}

__rust_helper void rust_helper_virtio_skb_reserve(struct sk_buff *skb, int len)
{
	skb_reserve(skb, len);
}

__rust_helper void *rust_helper_virtio___skb_put(struct sk_buff *skb, unsigned int len)
{
	return __skb_put(skb, len);
}

__rust_helper void rust_helper_virtio_skb_mark_for_recycle(struct sk_buff *skb)
{
	skb_mark_for_recycle(skb);
}

__rust_helper bool rust_helper_virtio_skb_can_coalesce(struct sk_buff *skb, int frags,
						       const struct page *page, int offset)
{
	return skb_can_coalesce(skb, frags, page, offset);
}

__rust_helper void rust_helper_virtio_skb_set_next(struct sk_buff *skb, struct sk_buff *next)
{
	skb->next = next;
}

__rust_helper void rust_helper_virtio_skb_add_rx_frag(struct sk_buff *skb, int at, struct page *page,
						      int offset, int size, unsigned int truesize)
{
	skb_add_rx_frag(skb, at, page, offset, size, truesize);
}

__rust_helper void rust_helper_virtio_skb_prepare_receive(struct sk_buff *skb, struct net_device *dev,
							   u16 queue)
{
	skb->dev = dev;
	skb_set_network_header(skb, ETH_HLEN);
	skb_record_rx_queue(skb, queue);
}

__rust_helper void rust_helper_virtio_skb_checksum_unnecessary(struct sk_buff *skb, u8 level)
{
	skb->ip_summed = CHECKSUM_UNNECESSARY;
	skb->csum_level = level;
}

__rust_helper void rust_helper_virtio_skb_set_hash(struct sk_buff *skb, u32 hash, bool of_ports)
{
	skb_set_hash(skb, hash, of_ports ? PKT_HASH_TYPE_L4 : PKT_HASH_TYPE_L3);
}

__rust_helper int rust_helper_virtio_virtio_net_hdr_to_skb(struct sk_buff *skb,
						    const struct virtio_net_hdr *hdr, bool little_endian)
{
	return virtio_net_hdr_to_skb(skb, hdr, little_endian);
}

__rust_helper int rust_helper_virtio_virtio_net_hdr_tnl_to_skb(struct sk_buff *skb,
							const struct virtio_net_hdr_v1_hash_tunnel *hdr,
							bool checksum)
{
	return virtio_net_hdr_tnl_to_skb(skb, hdr, true, checksum, true);
}

/* Page pools. */

__rust_helper void *rust_helper_virtio_page_pool_alloc_va(struct page_pool *pool, unsigned int *size,
							  gfp_t gfp)
{
	return page_pool_alloc_va(pool, size, gfp);
}

__rust_helper void rust_helper_virtio_page_pool_put_va(void *va, bool direct)
{
	struct page *page = virt_to_head_page(va);

	page_pool_put_page(netmem_get_pp(page_to_netmem(page)), page, -1, direct);
}

__rust_helper struct page *rust_helper_virtio_virt_to_head_page(const void *va)
{
	return virt_to_head_page(va);
}

__rust_helper void *rust_helper_virtio_page_address(const struct page *page)
{
	return page_address(page);
}

__rust_helper dma_addr_t rust_helper_virtio_page_pool_get_dma_addr(const struct page *page)
{
	return page_pool_get_dma_addr(page);
}

__rust_helper void rust_helper_virtio_page_pool_dma_sync_for_cpu(struct page *page, u32 offset, u32 size)
{
	page_pool_dma_sync_for_cpu(netmem_get_pp(page_to_netmem(page)), page, offset, size);
}

#endif
