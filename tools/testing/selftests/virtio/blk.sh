#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The disk: what was written is read again, by whatever ring and however many queues; its names, its files in sysfs,
# and what happens to them when the driver comes and goes.
#
# guest *: --root full --timeout 600 --no-default-devices
# guest split: --kernel release --device pcie-root-port,id=port0 --device blk,bus=port0,serial=SN-1
# guest packed: --kernel release --device pcie-root-port,id=port0 --device blk,bus=port0,serial=SN-1,packed=on
# guest direct-2queues: --kernel release --device pcie-root-port,id=port0 --device blk,bus=port0,serial=SN-1,indirect_desc=off,num-queues=2
# guest debug-split-iommu: --kernel debug --device pcie-root-port,id=port0 --device blk,bus=port0,serial=SN-1,iommu_platform=on,disable-legacy=on --qemu "-device intel-iommu" --append intel_iommu=on --append iommu.strict=1
# long 2queues: --kernel release --device pcie-root-port,id=port0 --device blk,bus=port0,serial=SN-1,num-queues=2
# long packed-2queues: --kernel release --device pcie-root-port,id=port0 --device blk,bus=port0,serial=SN-1,packed=on,num-queues=2
# long packed-direct: --kernel release --device pcie-root-port,id=port0 --device blk,bus=port0,serial=SN-1,packed=on,indirect_desc=off
# long no-event-idx: --kernel release --device pcie-root-port,id=port0 --device blk,bus=port0,serial=SN-1,event_idx=off
# long packed-no-event-idx-2queues: --kernel release --device pcie-root-port,id=port0 --device blk,bus=port0,serial=SN-1,packed=on,event_idx=off,num-queues=2
# long short: --kernel release --device pcie-root-port,id=port0 --device blk,bus=port0,serial=SN-1,queue-size=16,num-queues=2
# long short-direct: --kernel release --device pcie-root-port,id=port0 --device blk,bus=port0,serial=SN-1,queue-size=16,indirect_desc=off
# long intx-1cpu: --kernel release --smp 1 --device pcie-root-port,id=port0 --device blk,bus=port0,serial=SN-1,vectors=0
# long 4k: --kernel release --device pcie-root-port,id=port0 --device blk,bus=port0,serial=SN-1,logical_block_size=4096,physical_block_size=4096
# long swiotlb: --kernel release --append swiotlb=force --device pcie-root-port,id=port0 --device blk,bus=port0,serial=SN-1,iommu_platform=on,disable-legacy=on
# long debug-packed-2queues: --kernel debug --device pcie-root-port,id=port0 --device blk,bus=port0,serial=SN-1,packed=on,num-queues=2
# long debug-direct: --kernel debug --device pcie-root-port,id=port0 --device blk,bus=port0,serial=SN-1,indirect_desc=off
# long debug-packed-direct: --kernel debug --device pcie-root-port,id=port0 --device blk,bus=port0,serial=SN-1,packed=on,indirect_desc=off

. ../kselftest/ktap_helpers.sh
. ./lib.inc
. ./work.inc

sysfs() {
	cat "/sys/block/$(basename "$(disk_of virtio_blk)")/$1"
}

is_vda() {
	[ "$(disk_of virtio_blk)" = /dev/vda ]
}

is_named() {
	[ "$(sysfs ext_range)" = 256 ] && [ "$(sysfs range)" = 16 ] &&
		[ "$(awk '$2 == "virtblk" { print $1 }' /proc/devices)" = "$(sysfs dev | cut -d : -f 1)" ]
}

serial_is() {
	[ "$(sysfs serial)" = SN-1 ]
}

cache_switches() {
	[ "$(sysfs cache_type)" = "write back" ] || return 1
	for type in "write through" "write back"; do
		echo "$type" >"/sys/block/vda/cache_type" || return 1
		[ "$(sysfs cache_type)" = "$type" ] && [ "$(sysfs queue/write_cache)" = "$type" ] || return 1
	done
	! echo nonsense >"/sys/block/vda/cache_type" 2>/dev/null
}

discards() {
	make_data
	dd if="$DATA" of=/dev/vda bs=1M oflag=direct 2>/dev/null || return 1
	blkdiscard -l $((MIB << 19)) /dev/vda || return 1
	dd if=/dev/vda bs=1M skip=$((MIB / 2)) count=$((MIB / 2)) iflag=direct 2>/dev/null |
		cmp - "$DATA" -i "0:$((MIB << 19))" -n $((MIB << 19))
}

flushes() {
	dd if=/dev/zero of=/dev/vda bs=4k count=16 conv=fsync 2>/dev/null
}

# The driver comes and goes while the disk is open, and works afterwards.
comes_and_goes() {
	device=$(devices_of virtio_blk)
	exec 7</dev/vda
	for _ in 1 2 3; do
		echo "$device" >"$BUS/drivers/virtio_blk/unbind" || return 1
		[ "$(dd bs=512 count=1 <&7 2>/dev/null | wc -c)" -eq 0 ] || return 1
		exec 7<&-
		echo "$device" >"$BUS/drivers/virtio_blk/bind" || return 1
		wait_until 30 has_disk virtio_blk || return 1
		exec 7<"$(disk_of virtio_blk)"
		[ "$(dd bs=512 count=1 <&7 2>/dev/null | wc -c)" -eq 512 ] || return 1
	done
	exec 7<&-
	wait_until 30 is_vda
}

# The device is reset under requests, which nobody notices.
is_reset() {
	device=$(devices_of virtio_blk)
	reset=$(readlink -f "$BUS/devices/$device")/../reset
	[ -e "$reset" ] || return 1
	fio --name=verify --filename=/dev/vda --ioengine=libaio --direct=1 --size="${MIB}m" --verify=crc32c --rw=randwrite \
		--bs=4k --iodepth=32 --verify_fatal=1 --verify_state_save=0 --eta=never --loops=4 --output=/tmp/fio &
	for _ in 1 2 3 4 5; do
		sleep 0.5
		echo 1 >"$reset" || return 1
	done
	wait $! || {
		sed 's/^/# /' /tmp/fio
		return 1
	}
}

# A queue of its own for requests that nobody interrupts for.
is_polled() {
	modprobe -r virtio_blk && modprobe virtio_blk poll_queues=1 || return 1
	wait_until 30 is_vda || return 1
	dmesg | grep 'default/read/poll queues' | tail -n 1 | grep -q '/0/1 ' || return 1
	fio --name=verify --filename=/dev/vda --ioengine=io_uring --hipri=1 --direct=1 --size="${MIB}m" --verify=crc32c \
		--rw=randwrite --bsrange="$(block_size /dev/vda)-64k" --iodepth=16 --verify_fatal=1 --verify_state_save=0 --eta=never \
		--output=/tmp/fio || {
		sed 's/^/# /' /tmp/fio
		return 1
	}
}

ktap_print_header
if [ "$(origin virtio_blk)" != rust ]; then
	ktap_skip_all "virtio_blk is not ours"
	exit "$KSFT_SKIP"
fi
# Polled queues come beside those with interrupts: with one processor there is none.
[ "$(nproc)" -gt 1 ] && polled=1
ktap_set_plan $((10 + ${polled:-0}))
ktap_test_result "the disk is there" wait_until 30 is_vda
ktap_test_result "it has 16 minors of a major called virtblk" is_named
ktap_test_result "its serial number is the device's" serial_is
ktap_test_result "$MIB MiB are as they were written" disk_keeps virtio_blk
ktap_test_result "zeroes are zeroes" disk_has_zeroes virtio_blk
ktap_test_result "a discard leaves the rest alone" discards
ktap_test_result "the cache is flushed" flushes
ktap_test_result "the cache is switched off and on" cache_switches
ktap_test_result "resets of the function lose nothing" is_reset
ktap_test_result "the driver comes and goes, and leaves an open disk without a device" comes_and_goes
[ -z "$polled" ] || ktap_test_result "a queue is polled" is_polled
ktap_finished
