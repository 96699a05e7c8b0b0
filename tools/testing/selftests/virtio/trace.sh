#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The trace events of virtqueues, through tracefs, by reading entropy.  The device has little of it:
# one that is always a buffer ahead of the reader never has to interrupt.
#
# guest split: --kernel release --no-default-devices --device rng,max-bytes=4096,period=20
# guest packed: --kernel release --no-default-devices --device rng,packed=on,max-bytes=4096,period=20
# long c-driver: --kernel release --no-default-devices --device rng,max-bytes=4096,period=20 --swap virtio_rng=c
# guest c-transport: --kernel release --no-default-devices --device rng,max-bytes=4096,period=20 --swap virtio_pci=c
# long debug: --kernel debug --no-default-devices --device rng,max-bytes=4096,period=20 --timeout 600

. ../kselftest/ktap_helpers.sh
. ./lib.inc

TRACE=/sys/kernel/tracing
[ -e "$TRACE/trace" ] || mount -t tracefs tracefs "$TRACE" || exit 1
device=$(devices_of virtio_rng)
cd "$TRACE" || exit 1
# Tokens as they are: this guest has no secrets.
echo 0 >options/hash-ptr

# record COMMAND...: runs it with the events on; /tmp/trace has an event a line: NAME FIELD=VALUE...
record() {
	echo >trace
	echo 1 >events/virtio/enable || return 1
	"$@"
	result=$?
	echo 0 >events/virtio/enable
	sed -n 's/.*: \(virtio_[a-z]*\): /\1 /p' trace >/tmp/trace
	return "$result"
}

read_entropy() {
	head -c 65536 /dev/hwrng >/dev/null
}

rebind() {
	echo "$device" >"$BUS/drivers/virtio_rng/unbind" && echo "$device" >"$BUS/drivers/virtio_rng/bind"
}

five_events() {
	for event in add get interrupt kick reset; do
		[ -d "events/virtio/virtio_$event" ] || return 1
	done
}

recorded() {
	record read_entropy || return 1
	for event in virtio_add virtio_kick virtio_interrupt virtio_get; do
		grep -q "^$event device=$device queue=0 " /tmp/trace || return 1
	done
	! grep -v " device=$device " /tmp/trace
}

# A token is with the device from its add to its get, and not there twice.  What was added before
# the trace began may come back.
tokens_match() {
	awk '
		{ split($4, field, "="); token = field[2] }
		$1 == "virtio_add" { if (lent[token]++) bad = 1; seen[token] = 1; adds++ }
		$1 == "virtio_get" { if (seen[token] && lent[token]-- != 1) bad = 1; if (seen[token]) matched++ }
		END { exit !(adds >= 8 && matched >= 8 && !bad) }
	' /tmp/trace
}

# adds between two kicks are what the second says that were added
kicks_count() {
	awk '
		$1 == "virtio_add" { adds++ }
		$1 == "virtio_kick" { if (kicks++ && $4 != "num_added=" adds) bad = 1; adds = 0; notified += $5 == "notify=1" }
		END { exit !(kicks > 1 && notified && !bad) }
	' /tmp/trace
}

fields() {
	! grep '^virtio_add ' /tmp/trace | grep -v ' descriptors=1 out_bytes=0 in_bytes=[1-9][0-9]*$' || return 1
	! grep '^virtio_get ' /tmp/trace | grep -v ' written=[1-9][0-9]*$' || return 1
	! grep '^virtio_interrupt ' /tmp/trace | grep -v ' handled=[01]$' || return 1
	grep -q '^virtio_interrupt .* handled=1$' /tmp/trace
}

# The events are those that debugfs counts.
as_counted() {
	before=$(sed -n 2p "/sys/kernel/debug/virtio/$device/queues")
	record read_entropy || return 1
	after=$(sed -n 2p "/sys/kernel/debug/virtio/$device/queues")
	for pair in "9 ^virtio_add" "10 ^virtio_kick" "11 ^virtio_kick.*notify=1" "13 ^virtio_get"; do
		at=${pair%% *}
		counted=$(($(echo "$after" | cut -d ' ' -f "$at") - $(echo "$before" | cut -d ' ' -f "$at")))
		traced=$(grep -c "${pair#* }" /tmp/trace)
		# The hwrng core may read once before and once after the events are on.
		[ "$traced" -gt 0 ] && [ "$counted" -ge "$traced" ] && [ "$counted" -le $((traced + 4)) ] || return 1
	done
}

resets() {
	record rebind || return 1
	grep -q "^virtio_reset device=$device status=0x00 duration_ns=[1-9][0-9]*\$" /tmp/trace
}

filter_by_device() {
	echo 'device == "none"' >events/virtio/filter || return 1
	record read_entropy
	echo 0 >events/virtio/filter
	[ ! -s /tmp/trace ]
}

none() {
	echo >trace
	read_entropy
	! grep -q virtio_ trace
}

# Patched into modules that come while the events are on.
loaded_later() {
	rmmod virtio_rng || return 1
	record sh -c 'modprobe virtio_rng && head -c 65536 /dev/hwrng >/dev/null' || return 1
	grep -q '^virtio_add ' /tmp/trace && grep -q '^virtio_get ' /tmp/trace && grep -q '^virtio_kick ' /tmp/trace
}

ktap_print_header
ktap_set_plan 10
ktap_test_result "there are five events" five_events
ktap_test_result "reading entropy adds, kicks, interrupts and gets" recorded
ktap_test_result "a token that is got was added" tokens_match
ktap_test_result "a kick says how many buffers were added" kicks_count
ktap_test_result "the other fields are as the driver and the device do" fields
ktap_test_result "as many events as debugfs counts" as_counted
ktap_test_result "unbinding resets the device" resets
ktap_test_result "events can be filtered by device" filter_by_device
ktap_test_result "a driver that is loaded while the events are on is traced" loaded_later
ktap_test_result "nothing is recorded with the events off" none
ktap_finished
