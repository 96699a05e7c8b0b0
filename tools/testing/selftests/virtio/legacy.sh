#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The legacy interface (0.9.5): entropy, a disk and a network behind it, the Rust driver and C ones.
# The labels c-* run the same with the kernel's C stack.
#
# guest only: --kernel release --no-default-devices --device rng,disable-modern=on --device blk,disable-modern=on --device net,disable-modern=on
# long only-1cpu: --kernel release --smp 1 --no-default-devices --device rng,disable-modern=on --device blk,disable-modern=on --device net,disable-modern=on
# long only-shared-vector: --kernel release --no-default-devices --device rng,disable-modern=on,vectors=2 --device blk,disable-modern=on,vectors=2 --device net,disable-modern=on,vectors=2
# long only-intx: --kernel release --no-default-devices --device rng,disable-modern=on,vectors=0 --device blk,disable-modern=on,vectors=0 --device net,disable-modern=on,vectors=0
# guest forced: --kernel release --append virtio_pci.force_legacy=1 --no-default-devices --device rng --device blk --device net
# long debug-only: --kernel debug --no-default-devices --device rng,disable-modern=on --device blk,disable-modern=on --device net,disable-modern=on --timeout 900
# long debug-forced-intx: --kernel debug --append virtio_pci.force_legacy=1 --no-default-devices --device rng,vectors=0 --device blk,vectors=0 --device net,vectors=0 --timeout 900
# long c-only: --stack c --kernel release --no-default-devices --device rng,disable-modern=on --device blk,disable-modern=on --device net,disable-modern=on
# long c-forced: --stack c --kernel release --append virtio_pci.force_legacy=1 --no-default-devices --device rng --device blk --device net

. ../kselftest/ktap_helpers.sh
. ./lib.inc

# DRIVER_OK | DRIVER | ACKNOWLEDGE: there is no FEATURES_OK.
READY=0x00000007
DEVICES=3
# Position of VIRTIO_F_VERSION_1 in the sysfs attribute, from 1.
VERSION_1=33
# MiB, half of the disk.
SIZE=32

all_legacy() {
	for device in "$BUS"/devices/*; do
		[ "$(cat "$device/status")" = "$READY" ] || return 1
		[ "$(cut -c "$VERSION_1" "$device/features")" = 0 ] || return 1
	done
	[ "$(grep -c virtio-pci-legacy /proc/ioports)" -eq "$DEVICES" ]
}

parameter() {
	expected=N
	grep -q virtio_pci.force_legacy=1 /proc/cmdline && expected=Y
	[ "$(cat /sys/module/virtio_pci/parameters/force_legacy)" = "$expected" ]
}

read_entropy() {
	[ "$(head -c 65536 /dev/hwrng | wc -c)" -eq 65536 ]
}

# Written past the page cache, and read back past it.
disk_keeps() {
	head -c $((SIZE << 20)) /dev/urandom >/tmp/data
	dd if=/tmp/data of=/dev/vda bs=1M oflag=direct 2>/dev/null || return 1
	disk_has_kept
}

# What disk_keeps wrote is still there.
disk_has_kept() {
	dd if=/dev/vda bs=64k count=$((SIZE * 16)) iflag=direct 2>/dev/null | cmp - /tmp/data
}

# QEMU's gateway answers.
ping_gateway() {
	ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0 || return 1
	for size in 1 56 1400 4000; do
		ping -c 5 -i 0.2 -W 10 -s "$size" 10.0.2.2 >/dev/null || return 1
	done
}

rebind() {
	for driver in virtio_rng virtio_blk virtio_net; do
		device=$(devices_of "$driver")
		echo "$device" >"$BUS/drivers/$driver/unbind" || return 1
		echo "$device" >"$BUS/drivers/$driver/bind" || return 1
	done
	wait_until 10 test -b /dev/vda
	disk_has_kept && read_entropy && wait_until 10 ping_gateway
}

# Every spelling of the parameter means the same.
reload() {
	for value in Y 1; do
		rmmod virtio_pci && modprobe virtio_pci force_legacy="$value" || return 1
		[ "$(cat /sys/module/virtio_pci/parameters/force_legacy)" = Y ] || return 1
		wait_until 10 all_legacy || return 1
	done
	wait_until 10 disk_has_kept && read_entropy && wait_until 10 ping_gateway
}

ktap_print_header
ktap_set_plan 7
ktap_test_result "every device is driven through its legacy interface" all_legacy
ktap_test_result "the parameter force_legacy reads as that of C" parameter
ktap_test_result "entropy can be read" read_entropy
ktap_test_result "the disk keeps $SIZE MiB" disk_keeps
ktap_test_result "the network answers" ping_gateway
ktap_test_result "the drivers can be unbound and bound" rebind
ktap_test_result "the transport can be unloaded and loaded" reload
ktap_finished
