// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel's virtio_ring.c in a process, beside src/main.rs: chains of three segments are added,
 * used by a device of our own, and taken back, ROUNDS times BATCH of them.
 *
 *	ring split|packed direct|indirect BATCH ROUNDS
 *
 * Linked with virtio_ring.c, which is compiled against the headers of the kernel's tools/virtio.
 * Functions whose names begin with `bench_` are not the ring's.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#define SIZE 256
#define SEGMENTS 3

/* Asked for by the headers of tools/virtio. */
void *__kmalloc_fake, *__kfree_ignore_start, *__kfree_ignore_end;

static struct virtio_device vdev;
static struct virtqueue *vq;
static bool packed, indirect;
/* The device's position, and its wrap counter. */
static unsigned int device_at;
static bool device_wrap = true;
static char buffer[8192] __attribute__((aligned(4096)));

static bool bench_notify(struct virtqueue *queue)
{
	(void)queue;
	return true;
}

static void bench_callback(struct virtqueue *queue)
{
	(void)queue;
}

static __attribute__((noinline)) void bench_use_split(unsigned int count)
{
	const struct vring *vring = virtqueue_get_vring(vq);
	unsigned int i;

	for (i = 0; i < count; i++) {
		vring->used->ring[device_at % SIZE].id = vring->avail->ring[device_at % SIZE];
		vring->used->ring[device_at % SIZE].len = 1;
		device_at++;
	}
	__atomic_store_n(&vring->used->idx, (unsigned short)device_at, __ATOMIC_RELEASE);
}

static __attribute__((noinline)) void bench_use_packed(unsigned int count)
{
	struct vring_packed_desc *ring = (void *)(uintptr_t)virtqueue_get_desc_addr(vq);
	unsigned int length = indirect ? 1 : SEGMENTS, i;

	for (i = 0; i < count; i++) {
		struct vring_packed_desc *desc = &ring[device_at];

		/* The id is in the last descriptor of a chain. */
		desc->id = ring[(device_at + length - 1) % SIZE].id;
		desc->len = 1;
		__atomic_store_n(&desc->flags, device_wrap ? 0x8080 : 0, __ATOMIC_RELEASE);
		device_at += length;
		if (device_at >= SIZE) {
			device_at -= SIZE;
			device_wrap = !device_wrap;
		}
	}
}

static __attribute__((noinline)) void bench_init(void)
{
	INIT_LIST_HEAD(&vdev.vqs);
	spin_lock_init(&vdev.vqs_list_lock);
	vdev.features = 1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_RING_F_EVENT_IDX;
	if (packed)
		vdev.features |= 1ULL << VIRTIO_F_RING_PACKED;
	if (indirect)
		vdev.features |= 1ULL << VIRTIO_RING_F_INDIRECT_DESC;
	vq = vring_create_virtqueue(0, SIZE, 4096, &vdev, true, false, false, bench_notify, bench_callback, "bench");
	if (!vq) {
		fprintf(stderr, "ring: no queue\n");
		exit(1);
	}
}

static __attribute__((noinline)) void bench_round(unsigned int batch)
{
	struct scatterlist out, in[2], *lists[] = { &out, in };
	unsigned int length, i, taken = 0;

	sg_init_one(&out, buffer, 16);
	sg_init_table(in, 2);
	sg_set_buf(&in[0], buffer + 4096, 4096);
	sg_set_buf(&in[1], buffer + 16, 1);
	for (i = 0; i < batch; i++)
		if (virtqueue_add_sgs(vq, lists, 1, 1, buffer + 1, GFP_ATOMIC))
			exit(1);
	if (virtqueue_kick_prepare(vq))
		virtqueue_notify(vq);
	if (packed)
		bench_use_packed(batch);
	else
		bench_use_split(batch);
	do {
		virtqueue_disable_cb(vq);
		while (virtqueue_get_buf(vq, &length))
			taken++;
	} while (!virtqueue_enable_cb(vq));
	if (taken != batch)
		exit(1);
}

int main(int argc, char **argv)
{
	unsigned long batch, rounds, i;

	if (argc != 5)
		return 2;
	packed = !strcmp(argv[1], "packed");
	indirect = !strcmp(argv[2], "indirect");
	batch = strtoul(argv[3], NULL, 10);
	rounds = strtoul(argv[4], NULL, 10);
	bench_init();
	for (i = 0; i < rounds; i++)
		bench_round(batch);
	return 0;
}
