#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Whose modules run: under `--stack rust` no C module of the core, the transport and the entropy driver, in a
# guest that has its root file system through the kernel's C driver for 9p on them.
#
# guest vng: --kernel release --root vng
# guest initramfs: --kernel release
# guest debug-initramfs: --kernel debug
# long debug-vng: --kernel debug --root vng --timeout 600

. ../kselftest/ktap_helpers.sh
. ./lib.inc

OURS="virtio_ring virtio virtio_pci virtio_rng virtio_blk virtio_net"

# Its name says nothing, the twins share it; out-of-tree modules taint, and a build has its own srcversion.
is_ours() {
	[ "$(cat "/sys/module/$1/taint")" = O ] || return 1
	[ "$(origin "$1")" = rust ] &&
		[ "$(cat "/sys/module/$1/srcversion")" = "$(modinfo -F srcversion "$(modinfo -n "$1")")" ]
}

# The kernel's own copy of MODULE, if it is there (in an initramfs it is not), is another file.
is_not_the_kernels() {
	for file in "/lib/modules/$(uname -r)/kernel"/drivers/*/"$1.ko" "/lib/modules/$(uname -r)/kernel"/drivers/char/*/"$1.ko"; do
		[ ! -e "$file" ] || [ "$(cat "/sys/module/$1/srcversion")" != "$(modinfo -F srcversion "$file")" ] || return 1
	done
}

core_is_ours() {
	for module in $OURS; do
		is_ours "$module" && is_not_the_kernels "$module" || return 1
	done
}

# All others that name virtio are the kernel's.
drivers_are_c() {
	count=0
	for module in /sys/module/*virtio*; do
		case " $OURS " in *" ${module##*/} "*) continue ;; esac
		[ -e "$module/initstate" ] || continue
		[ -z "$(cat "$module/taint")" ] || return 1
		count=$((count + 1))
	done
	[ "$count" -gt 0 ]
}

# Nothing else could have given it: there is one 9p device, and it is virtio.
root_is_9p() {
	grep -q '^[^ ]* / 9p .*trans=virtio' /proc/mounts && [ -n "$(devices_of 9pnet_virtio)" ]
}

root_is_read() {
	find /usr/sbin -type f -exec cat {} + | wc -c | grep -q '[0-9]\{7\}'
}

tests=2
! grep -q ' / 9p ' /proc/mounts || tests=4

ktap_print_header
ktap_set_plan "$tests"
ktap_test_result "core, transport, entropy, block and network driver are ours" core_is_ours
ktap_test_result "the other modules of virtio are the kernel's" drivers_are_c
if [ "$tests" -gt 2 ]; then
	ktap_test_result "the root file system is 9p over virtio" root_is_9p
	ktap_test_result "programs are read through it" root_is_read
fi
ktap_finished
