#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The entropy driver is unloaded and loaded again a hundred times while two readers never stop.
#
# guest release: --kernel release --no-default-devices --device rng
# guest debug: --kernel debug --no-default-devices --device rng --timeout 600

. ../kselftest/ktap_helpers.sh
. ./lib.inc

ROUNDS=100
STOP=/tmp/stop

# A reader whose device goes gets ENODEV, and opens again.
reader() {
	while [ ! -e "$STOP" ]; do
		cat /dev/hwrng >/dev/null 2>&1
		usleep 1000
	done
}

rounds() {
	count=0
	while [ "$count" -lt "$ROUNDS" ]; do
		modprobe -r virtio_rng || return 1
		[ ! -d /sys/module/virtio_rng ] || return 1
		modprobe virtio_rng || return 1
		count=$((count + 1))
	done
}

readers_end() {
	touch "$STOP"
	# They sit in a read of a device that works: end them as a user would.
	killall cat
	wait
}

still_reads() {
	[ "$(head -c 4096 /dev/hwrng | wc -c)" -eq 4096 ]
}

ktap_print_header
ktap_set_plan 3
reader &
reader &
ktap_test_result "$ROUNDS times unloaded and loaded under two readers" rounds
ktap_test_result "the readers end" readers_end
ktap_test_result "the device still gives entropy" still_reads
ktap_finished
