#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# How queues share interrupts when there are fewer and fewer, and what the interrupts are called:
# the same with the Rust transport and with C's.
#
# guest each: --kernel release --no-default-devices --device blk,num-queues=2,vectors=3 --append vectors=virtio0-config,virtio0-req.0,virtio0-req.1
# guest shared: --kernel release --no-default-devices --device blk,num-queues=2,vectors=2 --append vectors=virtio0-config,virtio0-virtqueues
# guest line: --kernel release --no-default-devices --device blk,num-queues=2,vectors=1 --append vectors=virtio0
# guest none: --kernel release --no-default-devices --device blk,num-queues=2,vectors=0 --append vectors=virtio0
# long debug-shared: --kernel debug --no-default-devices --device blk,num-queues=2,vectors=2 --append vectors=virtio0-config,virtio0-virtqueues
# long c-each: --kernel release --stack c --no-default-devices --device blk,num-queues=2,vectors=3 --append vectors=virtio0-config,virtio0-req.0,virtio0-req.1
# long c-shared: --kernel release --stack c --no-default-devices --device blk,num-queues=2,vectors=2 --append vectors=virtio0-config,virtio0-virtqueues
# long c-line: --kernel release --stack c --no-default-devices --device blk,num-queues=2,vectors=1 --append vectors=virtio0

. ../kselftest/ktap_helpers.sh
. ./lib.inc

# What this guest is to have.
EXPECTED=$(sed -n 's/.*\bvectors=\([^ ]*\).*/\1/p' /proc/cmdline | tr ',' '\n')

names() {
	grep -o 'virtio[0-9]*[-a-z0-9.]*' /proc/interrupts | sort
}

names_are_right() {
	[ -n "$EXPECTED" ] && [ "$(names)" = "$EXPECTED" ]
}

no_names() {
	[ -z "$(names)" ]
}

# count PATTERN: how often the interrupts whose names match have come
count() {
	awk -v pattern="$1" '$NF ~ pattern { for (i = 2; $i ~ /^[0-9]+$/; i++) sum += $i } END { print sum + 0 }' \
		/proc/interrupts
}

queues_interrupt() {
	before=$(count '^virtio0')
	config=$(count '^virtio0-config$')
	dd if=/dev/vda of=/dev/null bs=64k count=16 iflag=direct 2>/dev/null || return 1
	[ "$(count '^virtio0')" -gt "$before" ] && [ "$(count '^virtio0-config$')" -eq "$config" ]
}

rebind() {
	driver=/sys/bus/virtio/drivers/virtio_blk
	echo virtio0 >$driver/unbind || return 1
	no_names || return 1
	echo virtio0 >$driver/bind || return 1
	wait_until 10 test -b /dev/vda && names_are_right
}

ktap_print_header
ktap_set_plan 4
ktap_test_result "the interrupts are $(echo "$EXPECTED" | tr '\n' ' ')" names_are_right
ktap_test_result "requests interrupt, the configuration does not" queues_interrupt
ktap_test_result "unbound there are none, bound the same again" rebind
ktap_test_result "and they still come" queues_interrupt
ktap_finished
