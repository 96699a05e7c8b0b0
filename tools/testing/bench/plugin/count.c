// SPDX-License-Identifier: GPL-2.0
/*
 * Counts the instructions that a guest executes between two markers, by translation block.
 *
 * The guest marks a region with `xchg %rcx, %rcx` (begin) and `xchg %rdx, %rdx` (end).  At its end the
 * region is written to the file of the argument out=FILE, as lines
 *
 *	region NUMBER
 *	ADDRESS INSTRUCTIONS ENTRIES REP
 *
 * ADDRESS (hexadecimal) is the first of a block of INSTRUCTIONS, entered ENTRIES times.  TCG executes a
 * block anew for each iteration of a repeated string instruction: REP is 1 for such blocks, whose
 * entries are iterations.  Address 0 stands for user space, all of it together.  The same markers go
 * to QEMU's log (-d plugin), between the trace events that are written there.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu_plugin.h"

#define BUCKETS 65536

struct block {
	uint64_t address;
	uint64_t instructions;
	uint64_t entries;
	bool rep;
	struct block *next_in_bucket;
	struct block *next_entered;
};

int qemu_plugin_version = PLUGIN_VERSION;

static struct block *buckets[BUCKETS];
/* Blocks with entries in this region. */
static struct block *entered;
static struct block user;
static bool counting;
static unsigned int regions;
static FILE *out;

/* The block with these properties.  Blocks are never freed: a translation may come back. */
static struct block *find(uint64_t address, uint64_t instructions, bool rep)
{
	struct block **bucket = &buckets[(address ^ (address >> 16)) % BUCKETS];
	struct block *block;

	for (block = *bucket; block; block = block->next_in_bucket)
		if (block->address == address && block->instructions == instructions && block->rep == rep)
			return block;
	block = calloc(1, sizeof(*block));
	if (!block)
		abort();
	block->address = address;
	block->instructions = instructions;
	block->rep = rep;
	block->next_in_bucket = *bucket;
	*bucket = block;
	return block;
}

static void enter(unsigned int vcpu, void *data)
{
	struct block *block = data;

	(void)vcpu;
	if (!counting)
		return;
	if (!block->entries++) {
		block->next_entered = entered;
		entered = block;
	}
}

static void enter_user(unsigned int vcpu, void *data)
{
	(void)vcpu;
	if (counting)
		user.entries += (uintptr_t)data;
}

static void say(const char *what)
{
	char text[64];

	snprintf(text, sizeof(text), "bench_region %s %u\n", what, regions);
	qemu_plugin_outs(text);
}

static void begin(unsigned int vcpu, void *data)
{
	(void)vcpu;
	(void)data;
	counting = true;
	say("begin");
}

static void end(unsigned int vcpu, void *data)
{
	(void)vcpu;
	(void)data;
	if (!counting)
		return;
	counting = false;
	say("end");
	fprintf(out, "region %u\n0 1 %llu 0\n", regions++, (unsigned long long)user.entries);
	user.entries = 0;
	while (entered) {
		struct block *block = entered;

		entered = block->next_entered;
		fprintf(out, "%llx %llu %llu %d\n", (unsigned long long)block->address,
			(unsigned long long)block->instructions, (unsigned long long)block->entries, block->rep);
		block->entries = 0;
	}
	fflush(out);
}

/* Whether the bytes are a string instruction (ins, outs, movs, cmps, stos, lods, scas) with a repeat prefix. */
static bool is_rep(const uint8_t *bytes, size_t size)
{
	bool repeat = false;
	size_t i;

	for (i = 0; i < size; i++) {
		uint8_t byte = bytes[i];

		if (byte == 0xf2 || byte == 0xf3)
			repeat = true;
		else if (byte != 0x66 && byte != 0x67 && (byte & 0xf0) != 0x40)
			break;
	}
	if (!repeat || i == size)
		return false;
	return (bytes[i] >= 0x6c && bytes[i] <= 0x6f) || (bytes[i] >= 0xa4 && bytes[i] <= 0xa7) ||
	       (bytes[i] >= 0xaa && bytes[i] <= 0xaf);
}

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	static const uint8_t begin_marker[] = { 0x48, 0x87, 0xc9 }, end_marker[] = { 0x48, 0x87, 0xd2 };
	uint64_t address = qemu_plugin_tb_vaddr(tb);
	size_t count = qemu_plugin_tb_n_insns(tb), size = 0, i;
	bool in_user = !(address >> 63), rep = false;
	uint8_t bytes[16];

	(void)id;
	for (i = 0; i < count; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);

		size = qemu_plugin_insn_data(insn, bytes, sizeof(bytes));
		if (i == 0)
			rep = is_rep(bytes, size);
		if (in_user && size == sizeof(begin_marker) && !memcmp(bytes, begin_marker, size))
			qemu_plugin_register_vcpu_insn_exec_cb(insn, begin, QEMU_PLUGIN_CB_NO_REGS, NULL);
		if (in_user && size == sizeof(end_marker) && !memcmp(bytes, end_marker, size))
			qemu_plugin_register_vcpu_insn_exec_cb(insn, end, QEMU_PLUGIN_CB_NO_REGS, NULL);
	}
	if (in_user)
		qemu_plugin_register_vcpu_tb_exec_cb(tb, enter_user, QEMU_PLUGIN_CB_NO_REGS, (void *)(uintptr_t)count);
	else
		qemu_plugin_register_vcpu_tb_exec_cb(tb, enter, QEMU_PLUGIN_CB_NO_REGS, find(address, count, rep));
}

int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc, char **argv)
{
	(void)info;
	if (argc != 1 || strncmp(argv[0], "out=", 4))
		return -1;
	out = fopen(argv[0] + 4, "w");
	if (!out)
		return -1;
	qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
	return 0;
}
