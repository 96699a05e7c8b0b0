/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The part of QEMU's plugin interface that count.c uses, declared here because Debian's packages of
 * QEMU have no header for it.  Version 4 of the interface (QEMU 9.1 and later).
 */
#ifndef BENCH_QEMU_PLUGIN_H
#define BENCH_QEMU_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#define PLUGIN_EXPORT __attribute__((visibility("default")))
#define PLUGIN_VERSION 4

/* A plugin that is loaded. */
typedef uint64_t qemu_plugin_id_t;

/* Opaque: a translation block, one of its instructions, and what QEMU says of itself. */
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info;

/* What a callback may do with the guest's registers; ours leave them alone. */
enum qemu_plugin_cb_flags {
	QEMU_PLUGIN_CB_NO_REGS,
};

typedef void (*plugin_exec_fn)(unsigned int vcpu, void *data);
typedef void (*plugin_trans_fn)(qemu_plugin_id_t id, struct qemu_plugin_tb *tb);

/* Looked up by QEMU in the plugin. */
extern PLUGIN_EXPORT int qemu_plugin_version;
PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc,
				      char **argv);

/* Provided by QEMU. */
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, plugin_trans_fn fn);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, plugin_exec_fn fn,
					  enum qemu_plugin_cb_flags flags, void *data);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, plugin_exec_fn fn,
					    enum qemu_plugin_cb_flags flags, void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *bytes, size_t size);
void qemu_plugin_outs(const char *text);

#endif /* BENCH_QEMU_PLUGIN_H */
