#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The stack as a whole: every device of the guest is bound and ready, and everything can be
# unloaded and loaded again.
#
# guest release: --kernel release
# guest release-1cpu: --kernel release --smp 1
# long debug: --kernel debug

. ../kselftest/ktap_helpers.sh
. ./lib.inc

# DRIVER_OK | FEATURES_OK | DRIVER | ACKNOWLEDGE
READY=0x0000000f

all_bound() {
	for device in "$BUS"/devices/*; do
		name=$(basename "$device")
		# No driver in an initramfs asks for the console port of virtio-serial before a port exists.
		[ -n "$(driver_of "$name")" ] || return 1
	done
}

all_ready() {
	for device in "$BUS"/devices/*; do
		[ "$(cat "$device/status")" = "$READY" ] || return 1
	done
}

modules_in_use() {
	for name in virtio_ring virtio virtio_pci virtio_rng; do
		[ -d "/sys/module/$name" ] || return 1
	done
}

reload() {
	rmmod virtio_rng && [ ! -d /sys/module/virtio_rng ] && modprobe virtio_rng
}

ktap_print_header
ktap_set_plan 5
ktap_test_result "the four modules are loaded" modules_in_use
ktap_test_result "every virtio device has a driver" wait_until 10 all_bound
ktap_test_result "every virtio device has status $READY" wait_until 10 all_ready
ktap_test_result "virtio_rng unloads and loads" reload
ktap_test_result "every device is ready afterwards" wait_until 10 all_ready
ktap_finished
