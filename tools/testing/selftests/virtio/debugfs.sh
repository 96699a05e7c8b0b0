#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# debugfs: the feature filter, as the C stack has it, and the table of queues, which it has not.
#
# guest split: --kernel release --no-default-devices --device net --device rng
# guest packed: --kernel release --no-default-devices --device net,packed=on --device rng,packed=on,in_order=on
# long no-event-idx: --kernel release --no-default-devices --device net,event_idx=off,indirect_desc=off --device rng,event_idx=off
# guest c-stack: --kernel release --no-default-devices --device net --device rng --stack c
# guest c-transport: --kernel release --no-default-devices --device net --device rng --swap virtio_pci=c
# long debug: --kernel debug --no-default-devices --device net --device rng --timeout 600

. ../kselftest/ktap_helpers.sh
. ./lib.inc

DEBUG=/sys/kernel/debug/virtio
# VIRTIO_NET_F_MAC; VIRTIO_F_VERSION_1, a feature of the transport.
MAC=5
VERSION_1=32
HEADER="index name size num_free layout indirect event_idx broken adds kicks notifications interrupts used"

net=$(devices_of virtio_net)
rng=$(devices_of virtio_rng)
files="device_features filter_features filter_features_clear filter_feature_add filter_feature_del"
cd "$DEBUG/$net" || exit 1

# agreed DEVICE BIT: whether driver and device agreed on BIT
agreed() {
	[ "$(cut -c $(($2 + 1)) "$BUS/devices/$1/features")" = 1 ]
}

rebind_net() {
	echo "$net" >"$BUS/drivers/virtio_net/unbind" &&
		echo "$net" >"$BUS/drivers/virtio_net/bind" && [ "$(driver_of "$net")" = virtio_net ]
}

# 0: the device has told the driver the address, so that it is permanent.
assign_type() {
	cat "$BUS/devices/$net"/net/*/addr_assign_type
}

filter_is() {
	[ "$(tr '\n' ' ' <filter_features)" = "${1:+$1 }" ]
}

modes() {
	for file in $files; do stat -c %a "$file"; done | tr '\n' ' ' | grep -qx '400 400 200 200 200 '
}

offered() {
	sort -n -u device_features | cmp - device_features || return 1
	grep -qx "$MAC" device_features && grep -qx "$VERSION_1" device_features || return 1
	awk '
		NR == FNR { offered[$1] = 1; if ($1 !~ /^[0-9]+$/ || $1 > 127) bad = 1; next }
		{ for (bit = 0; bit < 128; bit++) if (substr($1, bit + 1, 1) == "1" && !offered[bit]) bad = 1 }
		END { exit bad }
	' device_features "$BUS/devices/$net/features"
}

nothing_filtered() {
	filter_is "" && agreed "$net" "$MAC" && [ "$(assign_type)" = 0 ]
}

filtered_when_bound() {
	echo "$MAC" >filter_feature_add || return 1
	filter_is "$MAC" && agreed "$net" "$MAC" || return 1
	rebind_net && ! agreed "$net" "$MAC" && [ "$(assign_type)" != 0 ] && grep -qx "$MAC" device_features
}

transport_is_kept() {
	echo "$VERSION_1" >filter_feature_add && rebind_net && agreed "$net" "$VERSION_1"
}

deleted() {
	echo 127 >filter_feature_add && echo 0x40 >filter_feature_add || return 1
	filter_is "$MAC $VERSION_1 64 127" || return 1
	echo "$VERSION_1" >filter_feature_del && echo 127 >filter_feature_del && echo 3 >filter_feature_del &&
		filter_is "$MAC 64"
}

cleared() {
	echo 0 >filter_features_clear && echo 2 >filter_features_clear && filter_is "$MAC 64" || return 1
	echo 1 >filter_features_clear && filter_is "" || return 1
	rebind_net && agreed "$net" "$MAC" && [ "$(assign_type)" = 0 ]
}

# refused FILE VALUE: whether writing VALUE fails with EINVAL
refused() {
	! (echo "$2" >"$1") 2>/tmp/error && grep -q "Invalid argument" /tmp/error
}

errors() {
	for file in filter_feature_add filter_feature_del; do
		for value in 128 4294967301 x; do
			refused "$file" "$value" || return 1
		done
	done
	refused filter_features_clear x && ! cat filter_feature_add 2>/dev/null && filter_is ""
}

# Readers and writers of all files, while the driver comes and goes.
races() {
	touch /tmp/load
	while [ -e /tmp/load ]; do
		echo 1 >filter_feature_add
		echo 1 >filter_feature_del
	done &
	while [ -e /tmp/load ]; do
		cat -- * >/dev/null 2>&1
	done &
	result=0
	for _ in $(seq 10); do
		rebind_net || result=1
	done
	rm /tmp/load
	wait
	return "$result"
}

# A directory lives as long as its device, even if somebody has a file of it open.
comes_and_goes() {
	pci=$(basename "$(readlink -f "$BUS/devices/$rng/..")")
	exec 3<"$DEBUG/$rng/device_features"
	echo "$pci" >/sys/bus/pci/drivers/virtio-pci/unbind && [ ! -e "$DEBUG/$rng" ] || return 1
	! cat <&3 2>/dev/null || return 1
	exec 3<&-
	echo "$pci" >/sys/bus/pci/drivers/virtio-pci/bind || return 1
	rng=$(devices_of virtio_rng)
	[ -n "$(cat "$DEBUG/$rng/device_features")" ]
}

header() {
	[ "$(head -n 1 queues)" = "$HEADER" ]
}

# column DEVICE NAME: that column of the device's first queue
column() {
	at=0
	for name in $HEADER; do
		at=$((at + 1))
		[ "$name" != "$2" ] || sed -n 2p "$DEBUG/$1/queues" | cut -d ' ' -f "$at"
	done
}

# flag DEVICE BIT: 1 if BIT was agreed on, else 0
flag() {
	if agreed "$1" "$2"; then echo 1; else echo 0; fi
}

described() {
	layout='split'
	! agreed "$rng" 34 || layout=packed
	! agreed "$rng" 35 || layout=$layout-in-order
	[ "$(column "$rng" index)" = 0 ] && [ "$(column "$rng" name)" = input ] &&
		[ "$(column "$rng" size)" = 8 ] && [ "$(column "$rng" num_free)" -le 8 ] &&
		[ "$(column "$rng" layout)" = "$layout" ] &&
		[ "$(column "$rng" indirect)" = "$(flag "$rng" 28)" ] &&
		[ "$(column "$rng" event_idx)" = "$(flag "$rng" 29)" ] && [ "$(column "$rng" broken)" = 0 ] || return 1
	cut -d ' ' -f 2 queues | grep -qx control && [ "$(column "$net" event_idx)" = "$(flag "$net" 29)" ]
}

# grown NAME: whether this counter is more than it was; says so if not
grown() {
	now=$(column "$rng" "$1")
	[ "$now" -gt "$(eval "echo \$$1")" ] || {
		echo "# $1: $now, no more than before"
		return 1
	}
}

all_grown() {
	head -c 65536 /dev/hwrng >/dev/null
	for name in adds kicks notifications interrupts used; do
		grown "$name" || return 1
	done
}

# Each buffer is added, kicked at most once, and comes back; the hwrng core may read meanwhile.  One reading may be done
# without an interrupt that found something: the reader was there first.
counts() {
	for name in adds kicks notifications interrupts used; do
		eval "$name=\$(column \"$rng\" $name)"
	done
	wait_until 10 all_grown || return 1
	# Read in an order in which what is smaller is read first.
	notifications=$(column "$rng" notifications)
	kicks=$(column "$rng" kicks)
	used=$(column "$rng" used)
	adds=$(column "$rng" adds)
	echo "# notifications $notifications, kicks $kicks, used $used, adds $adds"
	[ "$notifications" -le "$kicks" ] && [ "$kicks" -le "$adds" ] && [ "$used" -le "$adds" ]
}

# The C drivers have no numbers of their own, nor has the entropy driver.
has_none() {
	[ "$(stat -c %a statistics)" = 400 ] && [ -z "$(cat statistics)" ] && [ -z "$(cat "$DEBUG/$rng/statistics")" ]
}

starts_anew() {
	before=$(column "$rng" adds)
	echo "$rng" >"$BUS/drivers/virtio_rng/unbind" || return 1
	[ "$(cat "$DEBUG/$rng/queues")" = "$HEADER" ] || return 1
	echo "$rng" >"$BUS/drivers/virtio_rng/bind" || return 1
	[ "$(column "$rng" adds)" -lt "$before" ]
}

ktap_print_header
if [ "$(origin virtio)" = rust ]; then ktap_set_plan 15; else ktap_set_plan 10; fi
ktap_test_result "the files of the filter are there, with the modes that C gives them" modes
ktap_test_result "device_features has a bit a line, all that were agreed on among them" offered
ktap_test_result "nothing is filtered at first" nothing_filtered
ktap_test_result "a bit that is added is gone once the driver is bound again" filtered_when_bound
ktap_test_result "features of the transport are not filtered" transport_is_kept
ktap_test_result "bits are listed in order, and can be deleted" deleted
ktap_test_result "1 clears the filter, and nothing else does" cleared
ktap_test_result "what is no bit is refused with EINVAL" errors
ktap_test_result "readers and writers do not disturb a driver that comes and goes" races
ktap_test_result "the directory of a device goes and comes with it" comes_and_goes
# C has no such file.
if [ "$(origin virtio)" = rust ]; then
	ktap_test_result "queues begins with its header" header
	ktap_test_result "queues describes them" described
	ktap_test_result "the counters grow with what is read" counts
	ktap_test_result "statistics is empty for a driver that has none" has_none
	ktap_test_result "the counters are those of the queue, which goes with the driver" starts_anew
fi
ktap_finished
