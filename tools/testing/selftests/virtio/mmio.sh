#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The kernel's C transport virtio_mmio under the Rust core: the Rust driver for entropy, the C drivers for block,
# network and console.  QEMU's machine microvm has no PCI.
#
# The kernel's command line names the registers of each device, and nobody asks for the drivers by alias.
#
# guest *: --machine microvm --swap virtio_blk=c --no-default-devices --device rng --device blk --device net --device serial
# long modern: --kernel release --qemu "-global virtio-mmio.force-legacy=off"
# guest modern-packed: --kernel release --qemu "-global virtio-mmio.force-legacy=off -global virtio-device.packed=on"
# long legacy: --kernel release
# long c-net: --kernel release --swap virtio_net=c
# long debug: --kernel debug --timeout 600 --qemu "-global virtio-mmio.force-legacy=off"

. ../kselftest/ktap_helpers.sh
. ./lib.inc

# MiB, of a disk of 64.
SIZE=8

load() {
	modprobe virtio_mmio && modprobe -a virtio_rng virtio_blk virtio_net virtio_console
}

transport_is_c() {
	[ -d /sys/module/virtio_mmio ] && [ -z "$(cat /sys/module/virtio_mmio/taint)" ] && [ ! -d /sys/module/virtio_pci ] &&
		[ "$(cat /sys/module/virtio_ring/taint)" = O ] && [ "$(cat /sys/module/virtio_rng/taint)" = O ]
}

all_ready() {
	count=0
	for device in "$BUS"/devices/*; do
		case $(readlink -f "$device") in */virtio-mmio.*) ;; *) return 1 ;; esac
		# Without VERSION_1 (bit 32, from the left) there is no FEATURES_OK.
		case $(cut -c 33 "$device/features") in 1) ready=0x0000000f ;; *) ready=0x00000007 ;; esac
		[ "$(cat "$device/status")" = "$ready" ] || return 1
		count=$((count + 1))
	done
	[ "$count" -eq 4 ]
}

entropy() {
	dd if=/dev/hwrng of=/tmp/sample bs=4096 count=16 iflag=fullblock 2>/dev/null &&
		[ "$(gzip -9 -c /tmp/sample | wc -c)" -ge 65536 ]
}

# Written past the page cache, by four at once, and read back past it.
disk_keeps() {
	[ -e /tmp/data ] || head -c $((SIZE << 20)) /dev/urandom >/tmp/data
	for part in 0 1 2 3; do
		dd if=/tmp/data of=/dev/vda bs=4k skip=$((part * SIZE << 6)) seek=$((part * SIZE << 6)) count=$((SIZE << 6)) \
			oflag=direct conv=notrunc 2>/dev/null &
	done
	wait
	dd if=/dev/vda bs=64k count=$((SIZE << 4)) iflag=direct 2>/dev/null | cmp - /tmp/data
}

network_answers() {
	ip link set eth0 up && ip addr replace 10.0.2.15/24 dev eth0 || return 1
	for size in 56 1400 4000; do
		ping -c 5 -i 0.2 -W 10 -s "$size" 10.0.2.2 >/dev/null || return 1
	done
}

rebind() {
	for driver in virtio_rng virtio_blk virtio_net; do
		device=$(devices_of "$driver")
		echo "$device" >"$BUS/drivers/$driver/unbind" && echo "$device" >"$BUS/drivers/$driver/bind" || return 1
	done
	wait_until 30 test -b /dev/vda && wait_until 30 all_ready && entropy && disk_keeps && network_answers
}

# The transport goes, and with it the devices, and comes back.
reload() {
	rmmod virtio_mmio && [ -z "$(ls "$BUS/devices")" ] && modprobe virtio_mmio || return 1
	wait_until 30 all_ready && wait_until 30 test -b /dev/vda && entropy && disk_keeps && network_answers
}

ktap_print_header
ktap_set_plan 8
ktap_test_result "transport and drivers are loaded" load
ktap_test_result "the transport is C, core and entropy driver are Rust" transport_is_c
ktap_test_result "every device is ready" wait_until 30 all_ready
ktap_test_result "entropy does not compress" entropy
ktap_test_result "the disk keeps $SIZE MiB" disk_keeps
ktap_test_result "the network answers" network_answers
ktap_test_result "all work after unbinding and binding" rebind
ktap_test_result "all work after the transport was unloaded and loaded" reload
ktap_finished
