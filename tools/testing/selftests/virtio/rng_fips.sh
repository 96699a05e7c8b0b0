#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Blocks of entropy under the tests of FIPS 140-2, in the guest root, with udev loading the drivers.
# A block of good entropy fails about once in 1200 times: two failures in 200 blocks are let pass.
#
# guest full: --kernel release --root full --memory 1024 --no-default-devices --device rng

. ../kselftest/ktap_helpers.sh
. ./lib.inc

BLOCKS=200
LOG=/tmp/rngtest

loaded_by_udev() {
	[ -n "$(devices_of virtio_rng)" ]
}

fips() {
	rngtest --blockcount="$BLOCKS" </dev/hwrng >"$LOG" 2>&1
	failures=$(sed -n 's/.*FIPS 140-2 failures: //p' "$LOG")
	successes=$(sed -n 's/.*FIPS 140-2 successes: //p' "$LOG")
	sed 's/^/# /' "$LOG"
	[ -n "$failures" ] && [ "$failures" -le 2 ] && [ $((failures + successes)) -eq "$BLOCKS" ]
}

ktap_print_header
ktap_set_plan 2
ktap_test_result "udev has loaded virtio_rng" loaded_by_udev
ktap_test_result "rngtest of $BLOCKS blocks" fips
ktap_finished
