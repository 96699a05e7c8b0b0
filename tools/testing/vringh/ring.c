// SPDX-License-Identifier: GPL-2.0
/*
 * The functions of drivers/virtio/virtio_ring.c that vringh_test calls, on the ring of lib.rs.
 *
 * Compiled like the programs of tools/virtio, with the headers there: physical addresses are virtual ones, and
 * kmalloc() gives what the test wants it to give.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <linux/kernel.h>
#include <linux/slab.h>
#include <linux/scatterlist.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <sched.h>
#include <sys/mman.h>

/* Longest chain that vringh_test adds. */
#define MAX_SEGMENTS 256

struct ring;

struct ring_segment {
	u64 addr;
	u32 len;
};

struct ring_used {
	void *data;
	void *table;
	u32 len;
};

enum ring_added {
	RING_ADDED,
	RING_FULL,
	RING_REFUSED,
};

struct ring *ring_new(void *pages, u32 size, size_t align, bool event_idx, bool indirect, bool callbacks);
void ring_free(struct ring *ring);
enum ring_added ring_add(struct ring *ring, const struct ring_segment *list, size_t readable, size_t writable,
			 void *data, void *table);
bool ring_kick_prepare(struct ring *ring);
bool ring_poll(struct ring *ring, struct ring_used *used);
void ring_disable_cb(struct ring *ring);
bool ring_enable_cb_delayed(struct ring *ring);

struct rust_queue {
	struct virtqueue vq;
	struct ring *ring;
	bool indirect;
	bool (*notify)(struct virtqueue *vq);
};

static struct rust_queue *to_rust_queue(struct virtqueue *vq)
{
	return container_of(vq, struct rust_queue, vq);
}

struct virtqueue *vring_new_virtqueue(unsigned int index, unsigned int num, unsigned int vring_align,
				      struct virtio_device *vdev, bool weak_barriers, bool ctx, void *pages,
				      bool (*notify)(struct virtqueue *vq), void (*callback)(struct virtqueue *vq),
				      const char *name)
{
	struct rust_queue *queue = calloc(1, sizeof(*queue));

	if (!queue || !weak_barriers || ctx)
		return NULL;
	queue->vq.index = index;
	queue->vq.vdev = vdev;
	queue->vq.callback = callback;
	queue->vq.name = name;
	queue->vq.num_max = num;
	queue->notify = notify;
	queue->indirect = __virtio_test_bit(vdev, VIRTIO_RING_F_INDIRECT_DESC);
	queue->ring = ring_new(pages, num, vring_align, __virtio_test_bit(vdev, VIRTIO_RING_F_EVENT_IDX),
			       queue->indirect, callback != NULL);
	return &queue->vq;
}

void vring_del_virtqueue(struct virtqueue *vq)
{
	struct rust_queue *queue = to_rust_queue(vq);

	ring_free(queue->ring);
	free(queue);
}

int virtqueue_add_sgs(struct virtqueue *vq, struct scatterlist *sgs[], unsigned int out_sgs, unsigned int in_sgs,
		      void *data, gfp_t gfp)
{
	struct rust_queue *queue = to_rust_queue(vq);
	struct ring_segment list[MAX_SEGMENTS];
	unsigned int count = 0, readable = 0;
	struct scatterlist *sg;
	void *table = NULL;

	for (unsigned int i = 0; i < out_sgs + in_sgs; i++) {
		for (sg = sgs[i]; sg; sg = sg_next(sg)) {
			if (count == MAX_SEGMENTS)
				return -E2BIG;
			list[count++] = (struct ring_segment){ sg_phys(sg), sg->length };
			readable += i < out_sgs;
		}
	}
	if (queue->indirect && count > 1) {
		table = kmalloc_array(count, sizeof(struct vring_desc), gfp);
		if (!table)
			return -ENOMEM;
	}
	switch (ring_add(queue->ring, list, readable, count - readable, data, table)) {
	case RING_ADDED:
		return 0;
	case RING_FULL:
		kfree(table);
		return -ENOSPC;
	default:
		kfree(table);
		return -EINVAL;
	}
}

int virtqueue_add_outbuf(struct virtqueue *vq, struct scatterlist *sg, unsigned int num, void *data, gfp_t gfp)
{
	return virtqueue_add_sgs(vq, &sg, 1, 0, data, gfp);
}

int virtqueue_add_inbuf(struct virtqueue *vq, struct scatterlist *sg, unsigned int num, void *data, gfp_t gfp)
{
	return virtqueue_add_sgs(vq, &sg, 0, 1, data, gfp);
}

bool virtqueue_kick(struct virtqueue *vq)
{
	struct rust_queue *queue = to_rust_queue(vq);

	return !ring_kick_prepare(queue->ring) || queue->notify(vq);
}

void *virtqueue_get_buf(struct virtqueue *vq, unsigned int *len)
{
	struct ring_used used;

	if (!ring_poll(to_rust_queue(vq)->ring, &used))
		return NULL;
	kfree(used.table);
	*len = used.len;
	return used.data;
}

void virtqueue_disable_cb(struct virtqueue *vq)
{
	ring_disable_cb(to_rust_queue(vq)->ring);
}

bool virtqueue_enable_cb_delayed(struct virtqueue *vq)
{
	return ring_enable_cb_delayed(to_rust_queue(vq)->ring);
}

/* vringh_test maps a file of a fixed name twice; two runs at a time, or two users, must not share it. */
int __wrap_open(const char *path, int flags, ...)
{
	return memfd_create(path, 0);
}

/* It also ties both processes to the first CPU, where they never run at once: say whether there is such a CPU only. */
int __wrap_sched_setaffinity(pid_t pid, size_t size, const cpu_set_t *wanted)
{
	cpu_set_t both;

	if (sched_getaffinity(pid, sizeof(both), &both))
		return -1;
	CPU_AND(&both, &both, wanted);
	return CPU_COUNT(&both) ? 0 : -1;
}
