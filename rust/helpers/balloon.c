// SPDX-License-Identifier: GPL-2.0

#include <linux/balloon.h>
#include <linux/mm.h>
#include <linux/scatterlist.h>
#include <linux/swap.h>
#include <linux/vmstat.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#ifdef CONFIG_BALLOON

/* Pages. */

__rust_helper struct list_head *rust_helper_virtio_page_lru(struct page *page)
{
	return &page->lru;
}

__rust_helper struct page *rust_helper_virtio_lru_page(struct list_head *entry)
{
	return list_entry(entry, struct page, lru);
}

__rust_helper unsigned long rust_helper_virtio_page_to_pfn(const struct page *page)
{
	return page_to_pfn(page);
}

/* Of these bits of a page some say which zone it is of. */
__rust_helper unsigned long rust_helper_virtio_page_flags(const struct page *page)
{
	return page->flags.f;
}

/* Whether pages whose bits above differ in those of DIFFERENT may be of several zones. */
__rust_helper bool rust_helper_virtio_are_zone_bits(unsigned long different)
{
	return (different >> ZONEID_PGSHIFT) & ZONEID_MASK;
}

__rust_helper void rust_helper_virtio_release_pages(struct page **pages, int count)
{
	release_pages(pages, count);
}

__rust_helper bool rust_helper_virtio_is_same_zone(const struct page *one, const struct page *other)
{
	return page_zone(one) == page_zone(other);
}

__rust_helper void rust_helper_virtio_get_page(struct page *page)
{
	get_page(page);
}

__rust_helper void rust_helper_virtio_put_page(struct page *page)
{
	put_page(page);
}

/* A block that is free and can be spared: nothing is reclaimed or moved for it. */
__rust_helper struct page *rust_helper_virtio_alloc_block(void)
{
	return alloc_pages(__GFP_NORETRY | __GFP_NOWARN | __GFP_NOMEMALLOC, MAX_PAGE_ORDER);
}

__rust_helper void rust_helper_virtio_sg_set_page(struct scatterlist *sg, struct page *page,
						  unsigned int len)
{
	sg_set_page(sg, page, len, 0);
}

__rust_helper void rust_helper_virtio_balloon_devinfo_init(struct balloon_dev_info *balloon)
{
	balloon_devinfo_init(balloon);
}

__rust_helper unsigned long rust_helper_virtio_totalram_pages(void)
{
	return totalram_pages();
}

__rust_helper long rust_helper_virtio_get_nr_swap_pages(void)
{
	return get_nr_swap_pages();
}

__rust_helper bool rust_helper_virtio_want_init_on_free(void)
{
	return want_init_on_free();
}

__rust_helper bool rust_helper_virtio_page_poisoning_enabled(void)
{
	return page_poisoning_enabled_static();
}

/* Statistics: in the order of `Events` of virtio_spec.  False if nothing is counted. */
__rust_helper bool rust_helper_virtio_vm_events(u64 *to)
{
#ifdef CONFIG_VM_EVENT_COUNTERS
	unsigned long events[NR_VM_EVENT_ITEMS];
	unsigned int zone;

	all_vm_events(events);
	to[0] = events[PSWPIN];
	to[1] = events[PSWPOUT];
	to[2] = events[PGMAJFAULT];
	to[3] = events[PGFAULT];
	to[4] = events[OOM_KILL];
	to[5] = 0;
	for (zone = 0; zone < MAX_NR_ZONES; zone++)
		to[5] += events[ALLOCSTALL_NORMAL - ZONE_NORMAL + zone];
	to[6] = global_node_page_state(PGSCAN_KSWAPD);
	to[7] = global_node_page_state(PGSCAN_DIRECT);
	to[8] = global_node_page_state(PGSTEAL_KSWAPD);
	to[9] = global_node_page_state(PGSTEAL_DIRECT);
#ifdef CONFIG_HUGETLB_PAGE
	to[10] = events[HTLB_BUDDY_PGALLOC];
	to[11] = events[HTLB_BUDDY_PGALLOC_FAIL];
#endif
	return true;
#else
	return false;
#endif
}

__rust_helper unsigned long rust_helper_virtio_file_pages(void)
{
	return global_node_page_state(NR_FILE_PAGES);
}

/* Work that is done later, on the queue that is frozen before devices are. */

__rust_helper void rust_helper_virtio_init_delayed_work(struct delayed_work *work, work_func_t func)
{
	INIT_DELAYED_WORK(work, func);
}

__rust_helper void rust_helper_virtio_schedule_delayed_work(struct delayed_work *work,
							    unsigned long delay)
{
	queue_delayed_work(system_freezable_wq, work, delay);
}

__rust_helper void rust_helper_virtio_reschedule_delayed_work(struct delayed_work *work)
{
	mod_delayed_work(system_freezable_wq, work, 0);
}

/* Waits until *word is not seen, whatever signals come. */
__rust_helper void rust_helper_virtio_wait_while_equal(struct wait_queue_head *queue, const u32 *word,
						       u32 seen, unsigned long timeout)
{
	wait_event_timeout(*queue, READ_ONCE(*word) != seen, timeout);
}

#endif
