// SPDX-License-Identifier: GPL-2.0
/*
 * Zero-copy AF_XDP sockets: buffers of this process are in the rings of the device. Binding the socket, and closing it,
 * resets the queues of its number one by one. All of it is for queue 0 of an interface that is up.
 *
 * usage: xsk INTERFACE SECONDS
 *	exchanges address resolution with QEMU's gateway; the interface has the address of QEMU's guest
 * usage: xsk INTERFACE SECONDS PEER BATCHES [lossy]
 *	sends frames to interface PEER, on the same wire, and takes others from there, and looks at every byte; prints how
 *	many batches of them were repeated, since frames were lost, which is an error unless it may be
 * usage: xsk INTERFACE SECONDS hold
 *	has the socket bound, without a program, and prints a line when it is, until somebody ends it
 * usage: xsk INTERFACE SECONDS free
 *	waits until no socket without copies is bound, of which a work item takes leave after its end
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
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
/* Frames that are on their way at the same time, each way: those to be sent are the last ones of the memory. */
#define BATCH 16
#define HALF (FRAMES / 2)
/* Local experimental, of IEEE 802. */
#define ETHERTYPE 0x88b5
#define BODY 4
#define LONGEST 1514
#define SHORTEST 60
/* Seconds until a frame is taken for lost, where some may be, and on a host that may be busy where none is. */
#define LOSS 2
#define NO_LOSS 30

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

/* Makes frame NUMBER, which differs from others in length and in every byte. */
static size_t make(unsigned char *frame, unsigned int number, const unsigned char *to, const unsigned char *from)
{
	struct ethhdr *ethernet = (struct ethhdr *)frame;
	size_t length = SHORTEST + number * 37 % (LONGEST - SHORTEST + 1);

	memcpy(ethernet->h_dest, to, ETH_ALEN);
	memcpy(ethernet->h_source, from, ETH_ALEN);
	ethernet->h_proto = htons(ETHERTYPE);
	for (size_t at = ETH_HLEN + BODY; at < length; at++)
		frame[at] = at * 7 + number;
	memcpy(frame + ETH_HLEN, &number, BODY);
	return length;
}

/* Which frame of the batch from FIRST on this is, unchanged; -1 if it is another one. */
static int which(const unsigned char *frame, size_t length, unsigned int first, const unsigned char *to,
		 const unsigned char *from)
{
	unsigned char whole[LONGEST];
	unsigned int number;

	if (length < SHORTEST || ((struct ethhdr *)frame)->h_proto != htons(ETHERTYPE))
		return -1;
	memcpy(&number, frame + ETH_HLEN, BODY);
	/* Late ones of a batch that was repeated. */
	if (number - first >= BATCH)
		return -1;
	if (make(whole, number, to, from) != length || memcmp(frame, whole, length))
		errx(1, "frame %u of %zu bytes is not what was sent", number, length);
	return number - first;
}

/* Takes what the socket has received: a bit for each frame of the batch. */
static unsigned int taken(unsigned int first, const unsigned char *to, const unsigned char *from)
{
	unsigned int found = 0;

	while (*rx.consumer != __atomic_load_n(rx.producer, __ATOMIC_ACQUIRE)) {
		struct xdp_desc desc = ((struct xdp_desc *)rx.entries)[*rx.consumer % RING];
		int at = which((unsigned char *)memory + desc.addr, desc.len, first, to, from);

		if (at >= 0)
			found |= 1u << at;
		__atomic_store_n(rx.consumer, *rx.consumer + 1, __ATOMIC_RELEASE);
		give(desc.addr & ~(__u64)(FRAME - 1));
	}
	return found;
}

/* Sends the frames of a batch that are not in DONE through the socket. */
static int push(int fd, unsigned int first, unsigned int done, const unsigned char *to, const unsigned char *from)
{
	int count = 0;

	for (int at = 0; at < BATCH; at++) {
		__u64 where = FRAME * (__u64)(HALF + at);

		if (done & 1u << at)
			continue;
		((struct xdp_desc *)tx.entries)[(*tx.producer + count) % RING] = (struct xdp_desc){
			.addr = where, .len = make((unsigned char *)memory + where, first + at, to, from),
		};
		count++;
	}
	__atomic_store_n(tx.producer, *tx.producer + count, __ATOMIC_RELEASE);
	return count;
}

/* Exchanges a batch with a packet socket of the peer; how often frames were sent again. */
static int batch(int fd, int peer, unsigned int first, const unsigned char *own, const unsigned char *other,
		 bool lossy, time_t deadline)
{
	const unsigned int all = (1u << BATCH) - 1;
	unsigned int out = 0, in = 0;
	unsigned char frame[2 * LONGEST];
	int pending = 0, rounds = 0;
	time_t sent = 0;

	while (out != all || in != all || pending) {
		struct pollfd events[] = { { .fd = fd, .events = POLLIN }, { .fd = peer, .events = POLLIN } };
		ssize_t length;

		if (time(NULL) > deadline)
			errx(1, "batch from %u: sent %x, received %x, %d not back", first, out, in, pending);
		if (!pending && time(NULL) >= sent + (lossy ? LOSS : NO_LOSS) && (out != all || in != all)) {
			rounds++;
			sent = time(NULL);
			pending += push(fd, first, out, other, own);
			for (int at = 0; at < BATCH; at++)
				if (!(in & 1u << at) && send(peer, frame, make(frame, first + at, own, other), 0) < 0)
					warn("sending as the peer");
		}
		/* The device is asked to look; while it is reset, it cannot. */
		sendto(fd, NULL, 0, MSG_DONTWAIT, NULL, 0);
		poll(events, 2, 10);
		while (completed())
			pending--;
		in |= taken(first, own, other);
		while ((length = recv(peer, frame, sizeof(frame), MSG_DONTWAIT)) >= 0) {
			int at = which(frame, length, first, other, own);

			if (at >= 0)
				out |= 1u << at;
		}
	}
	return rounds - 1;
}

static void hardware_address(const char *name, unsigned char *address)
{
	int any = socket(AF_INET, SOCK_DGRAM, 0);
	struct ifreq interface = { 0 };

	strncpy(interface.ifr_name, name, IFNAMSIZ - 1);
	if (ioctl(any, SIOCGIFHWADDR, &interface))
		err(1, "the address of %s", name);
	memcpy(address, interface.ifr_hwaddr.sa_data, ETH_ALEN);
	close(any);
}

static void cross(int fd, const char *peer, const unsigned char *own, int batches, bool lossy, int seconds)
{
	struct sockaddr_ll where = {
		.sll_family = AF_PACKET, .sll_protocol = htons(ETHERTYPE), .sll_ifindex = if_nametoindex(peer),
	};
	int packets = socket(AF_PACKET, SOCK_RAW, htons(ETHERTYPE));
	unsigned char other[ETH_ALEN];
	int again = 0;

	hardware_address(peer, other);
	if (packets < 0 || bind(packets, (struct sockaddr *)&where, sizeof(where)))
		err(1, "a packet socket on %s", peer);
	for (int i = 0; i < batches; i++)
		again += batch(fd, packets, i * BATCH, own, other, lossy, time(NULL) + seconds);
	printf("%d batches, %d repeated\n", batches, again);
	if (again && !lossy)
		errx(1, "frames were lost");
}

/* Binds a socket, as soon as there is no other one. */
static void bind_to(int fd, const char *name, __u16 flags, time_t deadline)
{
	struct sockaddr_xdp address = {
		.sxdp_family = AF_XDP,
		.sxdp_ifindex = if_nametoindex(name),
		.sxdp_flags = flags,
	};

	while (bind(fd, (struct sockaddr *)&address, sizeof(address))) {
		if (errno != EBUSY || time(NULL) > deadline)
			err(1, "binding");
		usleep(10000);
	}
}

int main(int argc, char *argv[])
{
	union bpf_attr sockets = { .map_type = BPF_MAP_TYPE_XSKMAP, .key_size = 4, .value_size = 4, .max_entries = 1 };
	unsigned char own[ETH_ALEN];
	int fd, sockets_fd, key = 0;
	bool hold = argc == 4 && !strcmp(argv[3], "hold"), lossy = argc == 6 && !strcmp(argv[5], "lossy");

	if (argc != 3 && argc != 5 && !hold && !lossy && (argc != 4 || strcmp(argv[3], "free")))
		errx(2, "usage: xsk INTERFACE SECONDS [PEER BATCHES [lossy] | hold | free]");
	fd = socket(AF_XDP, SOCK_RAW, 0);
	sockets_fd = bpf(BPF_MAP_CREATE, &sockets);
	memory = mmap(NULL, FRAME * FRAMES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (fd < 0 || sockets_fd < 0 || memory == MAP_FAILED)
		err(1, "no socket, map or memory");
	make_rings(fd);
	for (int i = 0; i < RING; i++)
		give((__u64)i * FRAME);

	const __u16 flags = XDP_ZEROCOPY | XDP_USE_NEED_WAKEUP;
	time_t deadline = time(NULL) + atoi(argv[2]);
	union bpf_attr link = {
		.link_create = { .prog_fd = load(sockets_fd), .target_ifindex = if_nametoindex(argv[1]),
				 .attach_type = BPF_XDP, .flags = XDP_FLAGS_DRV_MODE },
	};
	union bpf_attr entry = {
		.map_fd = sockets_fd, .key = (unsigned long)&key, .value = (unsigned long)&fd,
	};

	hardware_address(argv[1], own);
	if (argc == 4 && !hold) {
		/* One with copies is none of the driver's. */
		bind_to(fd, argv[1], XDP_COPY, deadline);
		return 0;
	}
	if (hold) {
		bind_to(fd, argv[1], flags, deadline);
		printf("bound\n");
		fflush(stdout);
		for (;;)
			pause();
	}
	if (bpf(BPF_LINK_CREATE, &link) < 0)
		err(1, "attaching the program");
	bind_to(fd, argv[1], flags, deadline);
	if (bpf(BPF_MAP_UPDATE_ELEM, &entry))
		err(1, "entering the socket");
	if (argc > 3) {
		cross(fd, argv[3], own, atoi(argv[4]), lossy, atoi(argv[2]));
		return 0;
	}
	for (int i = 0; i < EXCHANGES; i++)
		exchange(fd, own, time(NULL) + atoi(argv[2]));
	printf("%d exchanges\n", EXCHANGES);
	return 0;
}
