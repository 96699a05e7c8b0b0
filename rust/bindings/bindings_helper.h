/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Headers that the `kernel` crate's own bindings do not cover.  Sorted.
 */
#include <linux/balloon.h>
#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/bpf.h>
#include <linux/completion.h>
#include <linux/debugfs.h>
#include <linux/dim.h>
#include <linux/dma-mapping.h>
#include <linux/etherdevice.h>
#include <linux/ethtool.h>
#include <linux/filter.h>
#include <linux/hw_random.h>
#include <linux/hdreg.h>
#include <linux/idr.h>
#include <linux/interrupt.h>
#include <linux/netdevice.h>
#include <linux/oom.h>
#include <linux/page_reporting.h>
#include <linux/pci.h>
#include <linux/virtio.h>
#include <linux/virtio_anchor.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_pci_admin.h>
#include <linux/virtio_ring.h>
#include <net/failover.h>
#include <net/netdev_queues.h>
#include <net/netdev_rx_queue.h>
#include <net/page_pool/helpers.h>
#include <net/xdp.h>
#include <net/xdp_sock_drv.h>
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

const netdev_features_t RUST_CONST_HELPER_NETIF_F_SG = NETIF_F_SG;
const netdev_features_t RUST_CONST_HELPER_NETIF_F_HW_CSUM = NETIF_F_HW_CSUM;
const netdev_features_t RUST_CONST_HELPER_NETIF_F_HIGHDMA = NETIF_F_HIGHDMA;
const netdev_features_t RUST_CONST_HELPER_NETIF_F_TSO = NETIF_F_TSO;
const netdev_features_t RUST_CONST_HELPER_NETIF_F_TSO6 = NETIF_F_TSO6;
const netdev_features_t RUST_CONST_HELPER_NETIF_F_TSO_ECN = NETIF_F_TSO_ECN;
const netdev_features_t RUST_CONST_HELPER_NETIF_F_GSO_UDP_L4 = NETIF_F_GSO_UDP_L4;
const netdev_features_t RUST_CONST_HELPER_NETIF_F_GSO_UDP_TUNNEL = NETIF_F_GSO_UDP_TUNNEL;
const netdev_features_t RUST_CONST_HELPER_NETIF_F_GSO_UDP_TUNNEL_CSUM = NETIF_F_GSO_UDP_TUNNEL_CSUM;
const netdev_features_t RUST_CONST_HELPER_NETIF_F_GSO_ROBUST = NETIF_F_GSO_ROBUST;
const netdev_features_t RUST_CONST_HELPER_NETIF_F_RXCSUM = NETIF_F_RXCSUM;
const netdev_features_t RUST_CONST_HELPER_NETIF_F_RXHASH = NETIF_F_RXHASH;
const netdev_features_t RUST_CONST_HELPER_NETIF_F_GRO_HW = NETIF_F_GRO_HW;
const netdev_features_t RUST_CONST_HELPER_NETIF_F_HW_VLAN_CTAG_FILTER = NETIF_F_HW_VLAN_CTAG_FILTER;
const u8 RUST_CONST_HELPER_VIRTIO_RSS_HASH_TOP = ETH_RSS_HASH_TOP;
const u8 RUST_CONST_HELPER_VIRTIO_RSS_HASH_NO_CHANGE = ETH_RSS_HASH_NO_CHANGE;
const u32 RUST_CONST_HELPER_VIRTIO_COALESCE_PARAMS = ETHTOOL_COALESCE_MAX_FRAMES |
	ETHTOOL_COALESCE_USECS | ETHTOOL_COALESCE_USE_ADAPTIVE_RX;
const u8 RUST_CONST_HELPER_VIRTIO_DIM_PROFILE_RX = DIM_PROFILE_RX;
const u8 RUST_CONST_HELPER_VIRTIO_DIM_COALESCE = DIM_COALESCE_USEC | DIM_COALESCE_PKTS;
const u32 RUST_CONST_HELPER_VIRTIO_NET_PRIV_FLAGS =
	IFF_UNICAST_FLT | IFF_LIVE_ADDR_CHANGE | IFF_TX_SKB_NO_LINEAR;
const u32 RUST_CONST_HELPER_VIRTIO_ETH_MIN_MTU = ETH_MIN_MTU;
const u32 RUST_CONST_HELPER_VIRTIO_ETH_MAX_MTU = ETH_MAX_MTU;
const u32 RUST_CONST_HELPER_VIRTIO_SKB_SHARED_INFO_ROOM =
	SKB_DATA_ALIGN(sizeof(struct skb_shared_info));
const u32 RUST_CONST_HELPER_VIRTIO_L1_CACHE_BYTES = L1_CACHE_BYTES;
const u32 RUST_CONST_HELPER_VIRTIO_NETDEV_ALIGN = NETDEV_ALIGN;
const u32 RUST_CONST_HELPER_VIRTIO_PP_FLAG_DMA_MAP = PP_FLAG_DMA_MAP;
const u32 RUST_CONST_HELPER_VIRTIO_PP_FLAG_DMA_SYNC_DEV = PP_FLAG_DMA_SYNC_DEV;
const u32 RUST_CONST_HELPER_VIRTIO_XDP_PACKET_HEADROOM = XDP_PACKET_HEADROOM;
const u32 RUST_CONST_HELPER_VIRTIO_XDP_FRAME_ROOM = sizeof(struct xdp_frame);
const u32 RUST_CONST_HELPER_VIRTIO_XDP_XMIT_FLUSH = XDP_XMIT_FLUSH;
const u32 RUST_CONST_HELPER_VIRTIO_XDP_XMIT_FLAGS_MASK = XDP_XMIT_FLAGS_MASK;
const u32 RUST_CONST_HELPER_VIRTIO_XDP_RECEIVES =
	NETDEV_XDP_ACT_BASIC | NETDEV_XDP_ACT_REDIRECT | NETDEV_XDP_ACT_XSK_ZEROCOPY;
const u32 RUST_CONST_HELPER_VIRTIO_XDP_WAKEUP_RX = XDP_WAKEUP_RX;
const u32 RUST_CONST_HELPER_VIRTIO_XDP_WAKEUP_TX = XDP_WAKEUP_TX;
const u32 RUST_CONST_HELPER_VIRTIO_XDP_RECEIVES_FRAGS = NETDEV_XDP_ACT_RX_SG;
