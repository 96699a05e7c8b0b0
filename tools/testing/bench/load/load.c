// SPDX-License-Identifier: GPL-2.0
/*
 * The work that is measured in a guest, between the markers that plugin/count.c knows.  After each
 * region it prints `region NAME OPERATIONS NANOSECONDS`.
 *
 *	load begin                        open a region: a shell does the work
 *	load end NAME OPERATIONS          close it
 *	load read NAME FILE SIZE COUNT UNIT
 *	                                  COUNT reads of SIZE bytes; an operation is UNIT bytes
 *	load blk NAME DEVICE OPERATION SIZE DEPTH COUNT
 *	                                  COUNT times read, write, flush or discard of SIZE bytes with
 *	                                  O_DIRECT through io_uring, submitted DEPTH at a time
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* In the kernel's headers since 6.12: a discard as a command of io_uring. */
#define DISCARD_COMMAND _IO(0x12, 0)
#define PAGE 4096UL
#define HUGE (512 * PAGE)

static void begin(void)
{
	asm volatile("xchg %%rcx, %%rcx" ::: "memory");
}

static void end(void)
{
	asm volatile("xchg %%rdx, %%rdx" ::: "memory");
}

static void fail(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t number(const char *text)
{
	char *rest;
	unsigned long long value = strtoull(text, &rest, 10);

	if (*rest == 'K')
		value <<= 10;
	return value;
}

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ULL + time.tv_nsec;
}

static void report(const char *name, uint64_t operations, uint64_t nanoseconds)
{
	printf("region %s %llu %llu\n", name, (unsigned long long)operations, (unsigned long long)nanoseconds);
}

/*
 * Memory in which no page follows its predecessor physically, so that a request always has as many segments as
 * pages: every other page of a huge page.
 */
static char *scattered(size_t size)
{
	size_t span = (2 * size + HUGE - 1) / HUGE * HUGE, at;
	int protection = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS;
	char *source = mmap(NULL, span + HUGE, protection, flags, -1, 0);
	char *memory = mmap(NULL, size ? size : PAGE, protection, flags, -1, 0);

	if (source == MAP_FAILED || memory == MAP_FAILED)
		fail("mmap");
	source = (char *)(((uintptr_t)source + HUGE - 1) / HUGE * HUGE);
	madvise(source, span, MADV_HUGEPAGE);
	for (at = 0; at < span; at += PAGE)
		source[at] = 1;
	for (at = 0; at < size; at += PAGE)
		if (mremap(source + 2 * at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, memory + at) == MAP_FAILED)
			fail("mremap");
	return memory;
}

struct uring {
	int fd;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
	unsigned int *sq_tail, *sq_array, *cq_head, *cq_tail;
	unsigned int sq_mask, cq_mask;
};

static void *map(int fd, size_t size, off_t what)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, what);

	if (memory == MAP_FAILED)
		fail("mmap of the ring");
	return memory;
}

static void uring_open(struct uring *ring, unsigned int entries)
{
	struct io_uring_params parameters = { 0 };
	char *sq, *cq;

	ring->fd = syscall(SYS_io_uring_setup, entries, &parameters);
	if (ring->fd < 0)
		fail("io_uring_setup");
	sq = map(ring->fd, parameters.sq_off.array + parameters.sq_entries * sizeof(unsigned int), IORING_OFF_SQ_RING);
	cq = map(ring->fd, parameters.cq_off.cqes + parameters.cq_entries * sizeof(*ring->cqes), IORING_OFF_CQ_RING);
	ring->sqes = map(ring->fd, parameters.sq_entries * sizeof(*ring->sqes), IORING_OFF_SQES);
	ring->sq_tail = (unsigned int *)(sq + parameters.sq_off.tail);
	ring->sq_array = (unsigned int *)(sq + parameters.sq_off.array);
	ring->sq_mask = parameters.sq_entries - 1;
	ring->cq_head = (unsigned int *)(cq + parameters.cq_off.head);
	ring->cq_tail = (unsigned int *)(cq + parameters.cq_off.tail);
	ring->cqes = (struct io_uring_cqe *)(cq + parameters.cq_off.cqes);
	ring->cq_mask = parameters.cq_entries - 1;
}

/* Submit what was prepared, wait for all of it, and look at the results. */
static void uring_round(struct uring *ring, unsigned int count, int expected)
{
	unsigned int done = 0;

	__atomic_store_n(ring->sq_tail, *ring->sq_tail + count, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring->fd, count, count, IORING_ENTER_GETEVENTS, NULL, 0) != (long)count)
		fail("io_uring_enter");
	while (done < count) {
		unsigned int head = *ring->cq_head;

		if (head == __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE)) {
			if (syscall(SYS_io_uring_enter, ring->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
				fail("io_uring_enter");
			continue;
		}
		if (ring->cqes[head & ring->cq_mask].res != expected) {
			errno = -ring->cqes[head & ring->cq_mask].res;
			fail("a request");
		}
		__atomic_store_n(ring->cq_head, head + 1, __ATOMIC_RELEASE);
		done++;
	}
}

static void prepare(struct io_uring_sqe *sqe, const char *operation, int fd, char *buffer, uint64_t size, uint64_t offset)
{
	memset(sqe, 0, sizeof(*sqe));
	sqe->fd = fd;
	if (!strcmp(operation, "read") || !strcmp(operation, "write")) {
		sqe->opcode = operation[0] == 'r' ? IORING_OP_READ : IORING_OP_WRITE;
		sqe->addr = (uintptr_t)buffer;
		sqe->len = size;
		sqe->off = offset;
	} else if (!strcmp(operation, "flush")) {
		sqe->opcode = IORING_OP_FSYNC;
	} else if (!strcmp(operation, "discard")) {
		uint64_t length = size;

		sqe->opcode = IORING_OP_URING_CMD;
		sqe->off = DISCARD_COMMAND;
		sqe->addr = offset;
		/* addr3, which older headers do not name. */
		memcpy((char *)sqe + 48, &length, sizeof(length));
	} else {
		errno = EINVAL;
		fail(operation);
	}
}

static void blk(const char *name, const char *device, const char *operation, uint64_t size, unsigned int depth,
		uint64_t count)
{
	int data = !strcmp(operation, "read") || !strcmp(operation, "write");
	int fd = open(device, O_RDWR | O_DIRECT | O_CLOEXEC);
	uint64_t capacity, offset = 0, done = 0, time = 0;
	char *buffer = scattered(size);
	struct uring ring;
	unsigned int i;

	if (fd < 0 || ioctl(fd, BLKGETSIZE64, &capacity) < 0)
		fail(device);
	uring_open(&ring, depth);
	while (done < count + depth) {
		/* The first round is for the caches of the kernel. */
		if (done == depth) {
			time = now();
			begin();
		}
		for (i = 0; i < depth; i++) {
			unsigned int slot = (*ring.sq_tail + i) & ring.sq_mask;

			prepare(&ring.sqes[slot], operation, fd, buffer, size, offset);
			ring.sq_array[slot] = slot;
			/* Never adjacent: the block layer would merge them. */
			offset += 2 * size;
			if (offset + size > capacity)
				offset = 0;
		}
		uring_round(&ring, depth, data ? (int)size : 0);
		done += depth;
	}
	end();
	report(name, done - depth, now() - time);
}

static void read_file(const char *name, const char *file, uint64_t size, uint64_t count, uint64_t unit)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	char *buffer = scattered(size);
	uint64_t i, time = 0;

	if (fd < 0)
		fail(file);
	for (i = 0; i <= count; i++) {
		if (i == 1) {
			time = now();
			begin();
		}
		if (read(fd, buffer, size) != (ssize_t)size)
			fail("read");
	}
	end();
	report(name, count * size / unit, now() - time);
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";

	if (!strcmp(verb, "begin") && argc == 2) {
		begin();
	} else if (!strcmp(verb, "end") && argc == 4) {
		end();
		report(argv[2], number(argv[3]), 0);
	} else if (!strcmp(verb, "read") && argc == 7) {
		read_file(argv[2], argv[3], number(argv[4]), number(argv[5]), number(argv[6]));
	} else if (!strcmp(verb, "blk") && argc == 8) {
		blk(argv[2], argv[3], argv[4], number(argv[5]), number(argv[6]), number(argv[7]));
	} else {
		fprintf(stderr, "load: unknown request\n");
		return 2;
	}
	return 0;
}
