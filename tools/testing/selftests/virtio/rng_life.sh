#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The life of the entropy driver: unloaded under load, suspended, shared with another driver.
#
# guest release: --kernel release --no-default-devices --device rng
# long release-packed: --kernel release --no-default-devices --device rng,packed=on
# long release-legacy: --kernel release --no-default-devices --device rng,disable-modern=on
# long debug: --kernel debug --no-default-devices --device rng --timeout 600

. ../kselftest/ktap_helpers.sh
. ./lib.inc

UNLOADS=100

# Readers that go on whatever happens, until the file is gone.
load() {
	touch /tmp/load
	for _ in 1 2; do
		while [ -e /tmp/load ]; do
			head -c 65536 /dev/hwrng >/dev/null 2>&1
		done &
	done
}

unload_under_load() {
	load
	for _ in $(seq "$UNLOADS"); do
		rmmod virtio_rng && modprobe virtio_rng || return 1
	done
	rm /tmp/load
	wait
	[ "$(head -c 4096 /dev/hwrng | wc -c)" -eq 4096 ]
}

# With pm_test, the devices are suspended and resumed, and the system stays up.
suspend() {
	load
	echo devices >/sys/power/pm_test || return 1
	for _ in 1 2 3; do
		echo mem >/sys/power/state || return 1
		[ "$(head -c 4096 /dev/hwrng | wc -c)" -eq 4096 ] || return 1
	done
	echo none >/sys/power/pm_test
	rm /tmp/load
	wait
	[ "$(cat "$HWRNG/rng_current")" = virtio_rng.0 ]
}

# The sample takes the device while the driver is away.
minimal() {
	rmmod virtio_rng
	modprobe rust_virtio_minimal || return 1
	wait_until 10 wrote
	result=$?
	rmmod rust_virtio_minimal || return 1
	modprobe virtio_rng
	return "$result"
}

wrote() {
	dmesg | grep -q 'queue 0: the device wrote \[[0-9a-f]\{2\}\(, [0-9a-f]\{2\}\)\{15\}\]'
}

ktap_print_header
ktap_set_plan 3
ktap_test_result "the driver is unloaded $UNLOADS times under load" unload_under_load
ktap_test_result "the device is suspended three times under load" suspend
ktap_test_result "the minimal sample drives the device" minimal
ktap_finished
