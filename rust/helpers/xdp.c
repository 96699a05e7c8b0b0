// SPDX-License-Identifier: GPL-2.0

#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/netdevice.h>
#include <linux/netlink.h>
#include <linux/skbuff.h>
#include <net/page_pool/helpers.h>
#include <net/xdp.h>
#include <trace/events/xdp.h>

#ifdef CONFIG_PAGE_POOL

/* Programs. */

__rust_helper bool rust_helper_virtio_bpf_prog_has_frags(const struct bpf_prog *prog)
{
	return prog->aux->xdp_has_frags;
}

__rust_helper u32 rust_helper_virtio_bpf_prog_run_xdp(const struct bpf_prog *prog, struct xdp_buff *xdp)
{
	return bpf_prog_run_xdp(prog, xdp);
}

__rust_helper void rust_helper_virtio_trace_xdp_exception(const struct net_device *dev,
							  const struct bpf_prog *prog, u32 act)
{
	trace_xdp_exception(dev, prog, act);
}

__rust_helper enum bpf_netdev_command rust_helper_virtio_netdev_bpf_command(const struct netdev_bpf *bpf)
{
	return bpf->command;
}

__rust_helper struct bpf_prog *rust_helper_virtio_netdev_bpf_prog(const struct netdev_bpf *bpf)
{
	return bpf->prog;
}

__rust_helper struct netlink_ext_ack *rust_helper_virtio_netdev_bpf_extack(const struct netdev_bpf *bpf)
{
	return bpf->extack;
}

#if IS_ENABLED(CONFIG_KUNIT)
/* A program that says ACT of every packet, for tests; it has no references. */
__rust_helper struct bpf_prog *rust_helper_virtio_test_program(u32 act)
{
	struct sock_filter code = BPF_STMT(BPF_RET | BPF_K, act);
	struct sock_fprog_kern fprog = { .len = 1, .filter = &code };
	struct bpf_prog *prog;

	return bpf_prog_create(&prog, &fprog) ? NULL : prog;
}

__rust_helper void rust_helper_virtio_test_program_free(struct bpf_prog *prog)
{
	bpf_prog_destroy(prog);
}

/* Calls F as a poll is called. */
__rust_helper void rust_helper_virtio_test_in_poll(void (*f)(void *data), void *data)
{
	struct bpf_net_context room, *context;

	local_bh_disable();
	context = bpf_net_ctx_set(&room);
	f(data);
	bpf_net_ctx_clear(context);
	local_bh_enable();
}
#endif

/* Receive queues. */

__rust_helper int rust_helper_virtio_xdp_rxq_info_reg(struct xdp_rxq_info *rxq, struct net_device *dev,
						      u32 index, struct page_pool *pool)
{
	int err = xdp_rxq_info_reg(rxq, dev, index, 0);

	if (err)
		return err;
	err = xdp_rxq_info_reg_mem_model(rxq, MEM_TYPE_PAGE_POOL, pool);
	if (err)
		xdp_rxq_info_unreg(rxq);
	return err;
}

/* Packets as programs see them. */

__rust_helper void rust_helper_virtio_xdp_prepare_buff(struct xdp_buff *xdp, struct xdp_rxq_info *rxq,
						       void *start, u32 size, u32 offset, u32 len)
{
	xdp_init_buff(xdp, size, rxq);
	xdp_prepare_buff(xdp, start, offset, len, true);
}

__rust_helper bool rust_helper_virtio_xdp_buff_add_frag(struct xdp_buff *xdp, struct page *page, u32 offset,
							u32 len, u32 truesize)
{
	return xdp_buff_add_frag(xdp, page_to_netmem(page), offset, len, truesize);
}

__rust_helper u32 rust_helper_virtio_xdp_get_buff_len(const struct xdp_buff *xdp)
{
	return xdp_get_buff_len(xdp);
}

/* Unlike xdp_build_skb_from_buff(), this leaves Ethernet header and queue to whom it is for. */
__rust_helper struct sk_buff *rust_helper_virtio_xdp_build_skb(const struct xdp_buff *xdp)
{
	struct skb_shared_info *info = xdp_get_shared_info_from_buff(xdp);
	u32 size = 0, truesize = 0;
	struct sk_buff *skb;
	u8 frags = 0;

	if (xdp_buff_has_frags(xdp)) {
		/* build_skb() clears them. */
		frags = info->nr_frags;
		size = info->xdp_frags_size;
		truesize = info->xdp_frags_truesize;
	}
	skb = build_skb(xdp->data_hard_start, xdp->frame_sz);
	if (!skb)
		return NULL;
	skb_reserve(skb, xdp->data - xdp->data_hard_start);
	__skb_put(skb, xdp->data_end - xdp->data);
	if (xdp->data > xdp->data_meta)
		skb_metadata_set(skb, xdp->data - xdp->data_meta);
	if (frags)
		xdp_update_skb_frags_info(skb, frags, size, truesize, xdp_buff_get_skb_flags(xdp));
	skb_mark_for_recycle(skb);
	return skb;
}

/* Packets that were given to somebody. */

__rust_helper struct xdp_frame *rust_helper_virtio_xdp_convert_buff_to_frame(struct xdp_buff *xdp)
{
	return xdp_convert_buff_to_frame(xdp);
}

__rust_helper u32 rust_helper_virtio_xdp_get_frame_len(const struct xdp_frame *frame)
{
	return xdp_get_frame_len(frame);
}

/* NULL if it is in one piece. */
__rust_helper const struct skb_shared_info *
rust_helper_virtio_xdp_frame_frags(const struct xdp_frame *frame)
{
	return xdp_frame_has_frags(frame) ? xdp_get_shared_info_from_frame(frame) : NULL;
}

#endif
