// SPDX-License-Identifier: GPL-2.0
/*
 * Exchanges address resolution with QEMU's gateway over a zero-copy AF_XDP socket: buffers of this process are in the
 * rings of the device. Binding the socket, and closing it, resets the queues of its number one by one.
 *
 * usage: xsk INTERFACE SECONDS, for queue 0, which is up and has the address of QEMU's guest
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_xdp.h>
#include <net/if.h>
#include <netinet/if_ether.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define FRAME 4096
#define FRAMES 128
#define RING 64
#define EXCHANGES 200

/* One of the four rings, seen from this side. */
struct ring {
	unsigned int *producer, *consumer, *flags;
	void *entries;
};

static char *memory;
static struct ring fill, completion, rx, tx;

static int bpf(int command, union bpf_attr *attr)
{
	return syscall(SYS_bpf, command, attr, sizeof(*attr));
}

/* A program that gives the frames of queue 0 to the socket in SOCKETS, and those of others to the kernel. */
static int load(int sockets)
{
	struct bpf_insn code[] = {
		{ .code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = BPF_REG_2, .src_reg = BPF_REG_1,
		  .off = offsetof(struct xdp_md, rx_queue_index) },
		{ .code = BPF_LD | BPF_IMM | BPF_DW, .dst_reg = BPF_REG_1, .src_reg = BPF_PSEUDO_MAP_FD, .imm = sockets },
		{ 0 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_3, .imm = XDP_PASS },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_redirect_map },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_XDP,
		.expected_attach_type = BPF_XDP,
		.insns = (unsigned long)code,
		.insn_cnt = sizeof(code) / sizeof(code[0]),
		.license = (unsigned long)"GPL",
	};
	int program = bpf(BPF_PROG_LOAD, &attr);

	if (program < 0)
		err(1, "loading the program");
	return program;
}

static struct ring map(int fd, off_t where, const struct xdp_ring_offset *at, size_t entry)
{
	int protection = PROT_READ | PROT_WRITE;
	char *base = mmap(NULL, at->desc + RING * entry, protection, MAP_SHARED | MAP_POPULATE, fd, where);

	if (base == MAP_FAILED)
		err(1, "mapping a ring");
	return (struct ring){ (void *)(base + at->producer), (void *)(base + at->consumer), (void *)(base + at->flags),
			      base + at->desc };
}

static void make_rings(int fd)
{
	struct xdp_umem_reg memory_of = { .addr = (unsigned long)memory, .len = FRAME * FRAMES, .chunk_size = FRAME };
	struct xdp_mmap_offsets offsets;
	socklen_t length = sizeof(offsets);
	int size = RING;

	if (setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &memory_of, sizeof(memory_of)) ||
	    setsockopt(fd, SOL_XDP, XDP_UMEM_FILL_RING, &size, sizeof(size)) ||
	    setsockopt(fd, SOL_XDP, XDP_UMEM_COMPLETION_RING, &size, sizeof(size)) ||
	    setsockopt(fd, SOL_XDP, XDP_RX_RING, &size, sizeof(size)) ||
	    setsockopt(fd, SOL_XDP, XDP_TX_RING, &size, sizeof(size)) ||
	    getsockopt(fd, SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &length))
		err(1, "making rings");
	fill = map(fd, XDP_UMEM_PGOFF_FILL_RING, &offsets.fr, sizeof(__u64));
	completion = map(fd, XDP_UMEM_PGOFF_COMPLETION_RING, &offsets.cr, sizeof(__u64));
	rx = map(fd, XDP_PGOFF_RX_RING, &offsets.rx, sizeof(struct xdp_desc));
	tx = map(fd, XDP_PGOFF_TX_RING, &offsets.tx, sizeof(struct xdp_desc));
}

static void give(__u64 address)
{
	((__u64 *)fill.entries)[*fill.producer % RING] = address;
	__atomic_store_n(fill.producer, *fill.producer + 1, __ATOMIC_RELEASE);
}

/* Asks for the gateway's address, in the last frame. */
static void send_request(int fd, const unsigned char *own)
{
	__u64 where = FRAME * (FRAMES - 1);
	struct {
		struct ethhdr ethernet;
		struct ether_arp arp;
	} __attribute__((packed)) *frame = (void *)(memory + where);
	const unsigned char guest[] = { 10, 0, 2, 15 }, gateway[] = { 10, 0, 2, 2 };

	memset(frame, 0, sizeof(*frame));
	memset(frame->ethernet.h_dest, 0xff, ETH_ALEN);
	memcpy(frame->ethernet.h_source, own, ETH_ALEN);
	frame->ethernet.h_proto = htons(ETH_P_ARP);
	frame->arp.arp_hrd = htons(ARPHRD_ETHER);
	frame->arp.arp_pro = htons(ETH_P_IP);
	frame->arp.arp_hln = ETH_ALEN;
	frame->arp.arp_pln = sizeof(guest);
	frame->arp.arp_op = htons(ARPOP_REQUEST);
	memcpy(frame->arp.arp_sha, own, ETH_ALEN);
	memcpy(frame->arp.arp_spa, guest, sizeof(guest));
	memcpy(frame->arp.arp_tpa, gateway, sizeof(gateway));
	((struct xdp_desc *)tx.entries)[*tx.producer % RING] = (struct xdp_desc){ .addr = where, .len = 60 };
	__atomic_store_n(tx.producer, *tx.producer + 1, __ATOMIC_RELEASE);
	sendto(fd, NULL, 0, MSG_DONTWAIT, NULL, 0);
}

/* Takes what was received; whether the gateway's answer is among it. */
static bool answered(void)
{
	bool found = false;

	while (*rx.consumer != __atomic_load_n(rx.producer, __ATOMIC_ACQUIRE)) {
		struct xdp_desc desc = ((struct xdp_desc *)rx.entries)[*rx.consumer % RING];
		const char *frame = memory + desc.addr;
		const struct ether_arp *arp = (const void *)(frame + ETH_HLEN);

		if (desc.len >= ETH_HLEN + sizeof(*arp) && ((struct ethhdr *)frame)->h_proto == htons(ETH_P_ARP) &&
		    arp->arp_op == htons(ARPOP_REPLY) && arp->arp_spa[3] == 2)
			found = true;
		__atomic_store_n(rx.consumer, *rx.consumer + 1, __ATOMIC_RELEASE);
		give(desc.addr & ~(__u64)(FRAME - 1));
	}
	return found;
}

/* Whether the frame that was sent has come back. */
static bool completed(void)
{
	if (*completion.consumer == __atomic_load_n(completion.producer, __ATOMIC_ACQUIRE))
		return false;
	__atomic_store_n(completion.consumer, *completion.consumer + 1, __ATOMIC_RELEASE);
	return true;
}

static void exchange(int fd, const unsigned char *own, time_t deadline)
{
	bool back = false, answer = false;

	send_request(fd, own);
	while (!back || !answer) {
		struct pollfd event = { .fd = fd, .events = POLLIN };

		if (time(NULL) > deadline)
			errx(1, "no %s", back ? "answer" : "completion");
		poll(&event, 1, 10);
		/* Without an interrupt of its own, a sent frame comes back when somebody looks. */
		if (!back)
			sendto(fd, NULL, 0, MSG_DONTWAIT, NULL, 0);
		back = back || completed();
		answer = answered() || answer;
	}
}

int main(int argc, char *argv[])
{
	union bpf_attr sockets = { .map_type = BPF_MAP_TYPE_XSKMAP, .key_size = 4, .value_size = 4, .max_entries = 1 };
	struct ifreq interface = { 0 };
	int fd, sockets_fd, key = 0;

	if (argc != 3)
		errx(2, "usage: xsk INTERFACE SECONDS");
	strncpy(interface.ifr_name, argv[1], IFNAMSIZ - 1);
	fd = socket(AF_XDP, SOCK_RAW, 0);
	sockets_fd = bpf(BPF_MAP_CREATE, &sockets);
	memory = mmap(NULL, FRAME * FRAMES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (fd < 0 || sockets_fd < 0 || memory == MAP_FAILED)
		err(1, "no socket, map or memory");
	make_rings(fd);
	for (int i = 0; i < RING; i++)
		give((__u64)i * FRAME);

	struct sockaddr_xdp address = {
		.sxdp_family = AF_XDP,
		.sxdp_ifindex = if_nametoindex(argv[1]),
		.sxdp_flags = XDP_ZEROCOPY | XDP_USE_NEED_WAKEUP,
	};
	union bpf_attr link = {
		.link_create = { .prog_fd = load(sockets_fd), .target_ifindex = address.sxdp_ifindex,
				 .attach_type = BPF_XDP, .flags = XDP_FLAGS_DRV_MODE },
	};
	union bpf_attr entry = {
		.map_fd = sockets_fd, .key = (unsigned long)&key, .value = (unsigned long)&fd,
	};
	int any = socket(AF_INET, SOCK_DGRAM, 0);

	if (ioctl(any, SIOCGIFHWADDR, &interface))
		err(1, "the address of %s", argv[1]);
	if (bpf(BPF_LINK_CREATE, &link) < 0)
		err(1, "attaching the program");
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)))
		err(1, "binding without copies");
	if (bpf(BPF_MAP_UPDATE_ELEM, &entry))
		err(1, "entering the socket");
	for (int i = 0; i < EXCHANGES; i++)
		exchange(fd, (unsigned char *)interface.ifr_hwaddr.sa_data, time(NULL) + atoi(argv[2]));
	printf("%d exchanges\n", EXCHANGES);
	return 0;
}
