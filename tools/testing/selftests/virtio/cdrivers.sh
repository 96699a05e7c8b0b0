#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The kernel's C drivers on the Rust core and transport, and what they are for: block, SCSI, network, 9p.
# cdrivers_host.py has those that need somebody outside.
#
# Two devices of QEMU 10.0 on one hub, packed and with event indices, stall after some hundred packets, on the C stack as
# here: so not these two together.  The gateway's device has both.
#
# guest *: --root full --swap virtio_blk=c --swap virtio_net=c --timeout 900 --no-default-devices --device rng --device net --device 9p,path=Documentation
# guest *: --device virtio-net-pci,id=wire1,netdev=end1 --device virtio-net-pci,id=wire2,netdev=end2
# guest *: --qemu "-netdev hubport,id=end1,hubid=1 -netdev hubport,id=end2,hubid=1" --file documentation=Documentation
# guest split: --kernel release --device blk --device scsi
# guest packed: --kernel release --device blk --device scsi --qemu "-global virtio-device.packed=on -set device.wire1.event_idx=off -set device.wire2.event_idx=off"
# long no-event-idx: --kernel release --device blk --device scsi --qemu "-global virtio-device.event_idx=off"
# long packed-no-event-idx: --kernel release --device blk --device scsi --qemu "-global virtio-device.packed=on -global virtio-device.event_idx=off"
# long direct: --kernel release --device blk,queue-size=16 --device scsi --qemu "-global virtio-device.indirect_desc=off"
# long packed-direct: --kernel release --device blk --device scsi --qemu "-global virtio-device.packed=on -global virtio-device.indirect_desc=off -set device.wire1.event_idx=off -set device.wire2.event_idx=off"
# long intx-1cpu: --kernel release --smp 1 --device blk,vectors=0 --device scsi,vectors=0 --qemu "-global virtio-net-pci.vectors=0 -global virtio-9p-pci.vectors=0"
# long modern-page-per-vq: --kernel release --device blk --device scsi --qemu "-global virtio-rng-pci.disable-legacy=on -global virtio-blk-pci.disable-legacy=on -global virtio-scsi-pci.disable-legacy=on -global virtio-net-pci.disable-legacy=on -global virtio-9p-pci.disable-legacy=on -global virtio-pci.page-per-vq=on"
# long iommu: --kernel release --device blk --device scsi --append intel_iommu=on --append iommu.strict=1 --qemu "-device intel-iommu -global virtio-device.iommu_platform=on -global virtio-rng-pci.disable-legacy=on -global virtio-blk-pci.disable-legacy=on -global virtio-scsi-pci.disable-legacy=on -global virtio-net-pci.disable-legacy=on -global virtio-9p-pci.disable-legacy=on"
# guest debug-packed-iommu: --kernel debug --device blk --device scsi --append intel_iommu=on --append iommu.strict=1 --qemu "-device intel-iommu -global virtio-device.iommu_platform=on -global virtio-rng-pci.disable-legacy=on -global virtio-blk-pci.disable-legacy=on -global virtio-scsi-pci.disable-legacy=on -global virtio-net-pci.disable-legacy=on -global virtio-9p-pci.disable-legacy=on -global virtio-device.packed=on -set device.wire1.event_idx=off -set device.wire2.event_idx=off"

. ../kselftest/ktap_helpers.sh
. ./lib.inc
. ./work.inc

DRIVERS="virtio_blk virtio_scsi virtio_net 9pnet_virtio"

# On a busy host udev may still be loading them.
core_is_rust() {
	[ "$(cat /sys/module/virtio_ring/taint)" = O ] && [ "$(cat /sys/module/virtio/taint)" = O ] || return 1
	for driver in $DRIVERS; do
		[ -n "$(devices_of "$driver")" ] || return 1
	done
	[ -z "$(cat /sys/module/virtio_blk/taint)$(cat /sys/module/virtio_net/taint)" ]
}

tree_is_the_same() {
	mkdir -p /tmp/share
	mount -t 9p -o trans=virtio,version=9p2000.L share0 /tmp/share || return 1
	diff -r --no-dereference /tmp/share /documentation
	result=$?
	umount /tmp/share
	return "$result"
}

wired() {
	# shellcheck disable=SC2046 # two words
	connect $(devices_of virtio_net | tail -n 2)
}

gateway() {
	ping_gateway "$(devices_of virtio_net | head -n 1)"
}

all_rebind() {
	disconnect || return 1
	for driver in $DRIVERS; do
		rebind "$driver" || return 1
	done
	udevadm settle --timeout=60
	wait_until 30 has_disk virtio_blk && wait_until 30 has_disk virtio_scsi
}

work_again() {
	disk_has_files virtio_blk && disk_has_files virtio_scsi && gateway && wired && transfer && tree_is_the_same
}

ktap_print_header
ktap_set_plan 13
ktap_test_result "the core is Rust, the drivers are C" wait_until 120 core_is_rust
ktap_test_result "block: $MIB MiB are as they were written" disk_keeps virtio_blk
ktap_test_result "block: a file system keeps its files" disk_has_files virtio_blk
ktap_test_result "block: zeroes are written by command" disk_has_zeroes virtio_blk
ktap_test_result "SCSI: $MIB MiB are as they were written" disk_keeps virtio_scsi
ktap_test_result "SCSI: a file system keeps its files" disk_has_files virtio_scsi
ktap_test_result "network: the gateway answers" gateway
ktap_test_result "network: two devices reach each other" wired
ktap_test_result "network: streams and datagrams, both ways" stream
ktap_test_result "network: $MIB MiB arrive unchanged" transfer
ktap_test_result "9p: a tree is the same" tree_is_the_same
ktap_test_result "all drivers can be unbound and bound" all_rebind
ktap_test_result "all of them work afterwards" work_again
ktap_finished
