#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# C drivers on the Rust core and transport: what a disk keeps, and what comes back over a wire.
#
# guest split: --kernel release --no-default-devices --device blk --device net
# guest packed: --kernel release --no-default-devices --device blk,packed=on --device net,packed=on
# guest direct: --kernel release --no-default-devices --device blk,indirect_desc=off,queue-size=16 --device net,indirect_desc=off
# guest intx: --kernel release --no-default-devices --device blk,vectors=0 --device net,vectors=0
# guest iommu: --kernel release --no-default-devices --qemu "-device intel-iommu" --append intel_iommu=on --append iommu.strict=1 --device blk,iommu_platform=on,disable-legacy=on --device net,iommu_platform=on,disable-legacy=on
# guest debug-iommu: --kernel debug --no-default-devices --qemu "-device intel-iommu" --append intel_iommu=on --append iommu.strict=1 --device blk,iommu_platform=on,disable-legacy=on --device net,iommu_platform=on,disable-legacy=on

. ../kselftest/ktap_helpers.sh
. ./lib.inc
. ./io.inc

core_is_rust() {
	[ "$(origin virtio_ring)" = rust ] && [ "$(origin virtio_blk)" = c ] && [ -b /dev/vda ]
}

# Several writers, so that requests are in flight together.
disk_keeps_in_parallel() {
	for part in 0 1 2 3; do
		dd if=/tmp/data of=/dev/vda bs=4k skip=$((part * 2048)) seek=$((part * 2048)) count=2048 \
			oflag=direct conv=notrunc 2>/dev/null &
	done
	wait
	disk_has_kept
}

rebind() {
	for driver in virtio_blk virtio_net; do
		device=$(devices_of "$driver")
		echo "$device" >"$BUS/drivers/$driver/unbind" || return 1
		echo "$device" >"$BUS/drivers/$driver/bind" || return 1
	done
	wait_until 10 test -b /dev/vda
	disk_has_kept
}

ktap_print_header
ktap_set_plan 5
ktap_test_result "the core is Rust, the drivers are C" core_is_rust
ktap_test_result "the disk keeps $SIZE MiB" disk_keeps
ktap_test_result "the disk keeps what four write at once" disk_keeps_in_parallel
ktap_test_result "the network answers" ping_gateway
ktap_test_result "both drivers can be unbound and bound" rebind
ktap_finished
