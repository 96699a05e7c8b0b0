#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The minimal driver of samples/rust takes an entropy device and logs what the device wrote.
#
# guest release: --kernel release --no-default-devices --device rng
# guest debug: --kernel debug --no-default-devices --device rng

. ../kselftest/ktap_helpers.sh
. ./lib.inc

loads() {
	modprobe -r virtio_rng && modprobe rust_virtio_minimal
}

bound() {
	[ -n "$(devices_of rust_virtio_minimal)" ]
}

logged() {
	dmesg | grep -q 'rust_virtio_minimal: queue 0: the device wrote \[[0-9a-f]'
}

unloads() {
	modprobe -r rust_virtio_minimal && [ ! -d /sys/module/rust_virtio_minimal ] &&
		modprobe virtio_rng && [ -n "$(devices_of virtio_rng)" ]
}

ktap_print_header
ktap_set_plan 4
ktap_test_result "the sample loads" loads
ktap_test_result "it has the device" bound
ktap_test_result "it logs what the device wrote" wait_until 5 logged
ktap_test_result "it unloads, and virtio_rng has the device again" unloads
ktap_finished
