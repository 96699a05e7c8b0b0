#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The Rust network driver: packets of all sizes to QEMU's gateway, and between two devices on one wire; what ethtool
# shows; the interface brought down and up, its driver unbound, bound and unloaded under traffic.
#
# Two devices of QEMU 10.0 on one hub, packed and with event indices, stall after some hundred packets, with the C driver
# as with this one: so not these two together.  The gateway's device has both.
#
# guest *: --root full --timeout 900 --no-default-devices --device rng --device net
# guest *: --device virtio-net-pci,id=wire1,netdev=end1 --device virtio-net-pci,id=wire2,netdev=end2
# guest *: --qemu "-netdev hubport,id=end1,hubid=1 -netdev hubport,id=end2,hubid=1"
# guest split: --kernel release
# guest packed: --kernel release --qemu "-global virtio-device.packed=on -set device.wire1.event_idx=off -set device.wire2.event_idx=off"
# guest small-direct-intx: --kernel release --qemu "-global virtio-net-pci.mrg_rxbuf=off -global virtio-device.indirect_desc=off -global virtio-net-pci.vectors=0"
# guest big: --kernel release --qemu "-global virtio-net-pci.mrg_rxbuf=off -set device.wire1.host_mtu=9000 -set device.wire2.host_mtu=9000"
# long no-event-idx: --kernel release --qemu "-global virtio-device.event_idx=off"
# guest debug-packed-iommu: --kernel debug --append intel_iommu=on --append iommu.strict=1 --qemu "-device intel-iommu -global virtio-device.iommu_platform=on -global virtio-rng-pci.disable-legacy=on -global virtio-net-pci.disable-legacy=on -global virtio-device.packed=on -set device.wire1.event_idx=off -set device.wire2.event_idx=off"

. ../kselftest/ktap_helpers.sh
. ./lib.inc
. ./work.inc

# On a busy host udev may still be loading it.
driver_is_rust() {
	[ "$(devices_of virtio_net | wc -l)" = 3 ] && [ "$(cat /sys/module/virtio_net/taint)" = O ]
}

gateway() {
	ping_gateway "$(devices_of virtio_net | head -n 1)"
}

wired() {
	# shellcheck disable=SC2046 # two words
	connect $(devices_of virtio_net | tail -n 2)
}

# statistic INTERFACE NAME: a number of ethtool's
statistic() {
	ethtool -S "$1" | sed -n "s/^ *$2: //p"
}

ethtool_shows_the_driver() {
	interface=$(interface_of "$(devices_of virtio_net | head -n 1)")
	ethtool -i "$interface" | grep -qx 'driver: virtio_net' || return 1
	ethtool -i "$interface" | grep -q '^bus-info: 0000:' || return 1
	ethtool "$interface" | grep -q 'Link detected: yes' || return 1
	ethtool -g "$interface" >/dev/null && ethtool -l "$interface" >/dev/null || return 1
	[ "$(statistic "$interface" tx0_kicks)" -gt 0 ] && [ "$(statistic "$interface" rx_kicks)" -gt 0 ]
}

# The peer's packets and ours are the same ones.
numbers_add_up() {
	here=$(interface_of "$(devices_of virtio_net | sed -n 2p)")
	before=$(cat "/sys/class/net/$here/statistics/rx_packets")
	ping -q -c 20 -i 0.05 -W 10 192.168.7.2 >/dev/null || return 1
	after=$(cat "/sys/class/net/$here/statistics/rx_packets")
	[ $((after - before)) -ge 20 ] || return 1
	for name in rx_dropped rx_length_errors rx_frame_errors tx_dropped tx_errors; do
		[ "$(cat "/sys/class/net/$here/statistics/$name")" = 0 ] || {
			echo "# $name"
			return 1
		}
	done
}

down_and_up() {
	here=$(interface_of "$(devices_of virtio_net | sed -n 2p)")
	ping -q -f -c 100000 -W 1 192.168.7.2 >/dev/null 2>&1 &
	flood=$!
	for _ in $(seq 20); do
		ip link set "$here" down && ip link set "$here" up || return 1
	done
	kill "$flood" 2>/dev/null
	wait "$flood"
	wait_until 30 ping -q -c 1 -W 1 192.168.7.2 >/dev/null
}

# One packet that is as long as may be, and one that is a byte longer.
longest() {
	here=$(interface_of "$(devices_of virtio_net | sed -n 2p)")
	mtu=$(cat "/sys/class/net/$here/mtu")
	ping -q -c 5 -i 0.1 -M "do" -s $((mtu - 28)) -W 10 192.168.7.2 >/dev/null || return 1
	! ping -q -c 1 -M "do" -s $((mtu - 27)) -W 1 192.168.7.2 >/dev/null 2>&1
}

unloads_under_traffic() {
	for _ in 1 2 3; do
		ping -q -f -c 100000 -W 1 192.168.7.2 >/dev/null 2>&1 &
		flood=$!
		sleep 0.5
		rmmod virtio_net || return 1
		kill "$flood" 2>/dev/null
		wait "$flood"
		# The peer's interface is gone with its driver.
		ip netns del peer
		modprobe virtio_net || return 1
		wait_until 30 driver_is_rust || return 1
		udevadm settle --timeout=60
		wired || return 1
	done
}

ktap_print_header
ktap_set_plan 11
ktap_test_result "the driver is Rust" wait_until 120 driver_is_rust
ktap_test_result "the gateway answers" gateway
ktap_test_result "ethtool shows the driver, its link, and what it counts" ethtool_shows_the_driver
ktap_test_result "two devices reach each other" wired
ktap_test_result "packets as long as the MTU are answered" longest
ktap_test_result "what is counted adds up" numbers_add_up
ktap_test_result "streams and datagrams, both ways" stream
ktap_test_result "$MIB MiB arrive unchanged" transfer
ktap_test_result "down and up under traffic" down_and_up
ktap_test_result "unloaded and loaded under traffic" unloads_under_traffic
ktap_test_result "$MIB MiB arrive unchanged afterwards" transfer
ktap_finished
