#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Queues that are reset alone (VIRTIO_F_RING_RESET): the network driver, C's or the Rust one, changes
# their size under load.
#
# guest split: --swap virtio_net=c --kernel release --root full --memory 1024 --no-default-devices --device net
# long packed: --swap virtio_net=c --kernel release --root full --memory 1024 --no-default-devices --device net,packed=on
# long intx: --swap virtio_net=c --kernel release --root full --memory 1024 --no-default-devices --device net,vectors=0
# long shared-vector: --swap virtio_net=c --kernel release --root full --memory 1024 --no-default-devices --device net,vectors=2
# guest iommu: --swap virtio_net=c --kernel release --root full --memory 1024 --no-default-devices --qemu "-device intel-iommu" --append intel_iommu=on --append iommu.strict=1 --device net,iommu_platform=on,disable-legacy=on
# long debug-split: --swap virtio_net=c --kernel debug --root full --memory 1024 --no-default-devices --device net --timeout 900
# long debug-packed-iommu: --swap virtio_net=c --kernel debug --root full --memory 1024 --no-default-devices --qemu "-device intel-iommu" --append intel_iommu=on --append iommu.strict=1 --device net,packed=on,iommu_platform=on,disable-legacy=on --timeout 900
# guest rust: --kernel release --root full --memory 1024 --no-default-devices --device net
# guest rust-packed: --kernel release --root full --memory 1024 --no-default-devices --device net,packed=on
# guest rust-iommu: --kernel release --root full --memory 1024 --no-default-devices --qemu "-device intel-iommu" --append intel_iommu=on --append iommu.strict=1 --device net,iommu_platform=on,disable-legacy=on
# long rust-debug-packed-iommu: --kernel debug --root full --memory 1024 --no-default-devices --qemu "-device intel-iommu" --append intel_iommu=on --append iommu.strict=1 --device net,packed=on,iommu_platform=on,disable-legacy=on --timeout 900
# long c: --stack c --kernel release --root full --memory 1024 --no-default-devices --device net

. ../kselftest/ktap_helpers.sh
. ./lib.inc

# Position of VIRTIO_F_RING_RESET in the sysfs attribute, from 1.
RING_RESET=41
ROUNDS=30
IF=$(ls /sys/bus/virtio/drivers/virtio_net/virtio*/net)

agreed() {
	[ "$(cut -c "$RING_RESET" "$BUS/devices/$(devices_of virtio_net)/features")" = 1 ]
}

# sizes RX TX: the queues have these numbers of descriptors
sizes() {
	ethtool -g "$IF" | awk -v rx="$1" -v tx="$2" '
		/Current/ { current = 1 }
		current && $1 == "RX:" { seen_rx = $2 }
		current && $1 == "TX:" { seen_tx = $2 }
		END { exit !(seen_rx == rx && seen_tx == tx) }'
}

# resize RX TX: change the sizes; the network answers afterwards
resize() {
	ethtool -G "$IF" rx "$1" tx "$2" && sizes "$1" "$2" && ping -c 3 -i 0.2 -W 10 10.0.2.2 >/dev/null
}

resize_once() {
	resize 64 64 && resize 256 128 && resize 128 256
}

resize_under_load() {
	ping -f -s 1400 -w 120 10.0.2.2 >/tmp/ping 2>&1 &
	load=$!
	for round in $(seq "$ROUNDS"); do
		size=$((32 << (round % 4)))
		ethtool -G "$IF" rx "$size" tx $((8192 / size)) || return 1
		sleep 0.1
	done
	kill -INT "$load"
	wait "$load"
	resize 256 256
}

# No ring has such a size: the driver says so, and goes on with the old one.
refused() {
	! ethtool -G "$IF" rx 1024 2>/dev/null && sizes 256 256 && ping -c 3 -i 0.2 -W 10 10.0.2.2 >/dev/null
}

# The interface is down: nobody fills the queues.
resize_while_down() {
	ip link set "$IF" down && ethtool -G "$IF" rx 64 tx 64 && ip link set "$IF" up &&
		resize 256 256
}

rebind() {
	device=$(devices_of virtio_net)
	ethtool -G "$IF" rx 64 tx 64 || return 1
	echo "$device" >"$BUS/drivers/virtio_net/unbind" || return 1
	echo "$device" >"$BUS/drivers/virtio_net/bind" || return 1
	udevadm settle
	IF=$(ls /sys/bus/virtio/drivers/virtio_net/virtio*/net)
	ip link set "$IF" up && ip addr add 10.0.2.15/24 dev "$IF" && sizes 256 256 && resize 64 256
}

# What was asked for is asked for again when the device is back.
sleep_twice() {
	echo 0 >/sys/module/suspend/parameters/pm_test_delay
	echo devices >/sys/power/pm_test
	ethtool -G "$IF" rx 64 tx 128 || return 1
	for _ in 1 2; do
		echo mem >/sys/power/state || return 1
		sizes 64 128 && ping -c 3 -i 0.2 -W 10 10.0.2.2 >/dev/null || return 1
	done
	resize 256 256
}

ktap_print_header
# The C driver forgets them.
remembers=$([ "$(cat /sys/module/virtio_net/taint)" = O ] && echo 1 || echo 0)
ktap_set_plan $((6 + remembers))
ktap_test_result "VIRTIO_F_RING_RESET is agreed on" agreed
ip link set "$IF" up && ip addr add 10.0.2.15/24 dev "$IF"
ktap_test_result "queues change their size" resize_once
ktap_test_result "queues change their size $ROUNDS times under load" resize_under_load
ktap_test_result "an impossible size is refused" refused
ktap_test_result "queues change their size while the interface is down" resize_while_down
[ "$remembers" = 0 ] || ktap_test_result "sizes are the same after the machine slept" sleep_twice
ktap_test_result "the driver can be unbound and bound" rebind
ktap_finished
