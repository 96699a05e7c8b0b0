#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# File systems on the disk: made, filled, checked, and read again.
#
# guest *: --root full --timeout 900 --no-default-devices
# guest split: --kernel release --device blk,size=512M
# long packed: --kernel release --device blk,size=512M,packed=on
# long debug-packed: --kernel debug --device blk,size=512M,packed=on,num-queues=2
# long split-direct: --kernel release --device blk,size=512M,indirect_desc=off,num-queues=2
# long packed-direct: --kernel release --device blk,size=512M,packed=on,indirect_desc=off,num-queues=2
# long 4k: --kernel release --device blk,size=512M,logical_block_size=4096,physical_block_size=4096
# long short: --kernel release --device blk,size=512M,queue-size=16
# long swiotlb: --kernel release --append swiotlb=force --device blk,size=512M,iommu_platform=on,disable-legacy=on
# long c: --stack c --kernel release --device blk,size=512M
# long debug-split: --kernel debug --device blk,size=512M

. ../kselftest/ktap_helpers.sh
. ./lib.inc
. ./work.inc

MNT=/tmp/mnt
SUMS=/tmp/sums

# Kinds of file systems: how each is made, and how it is looked at without being changed.
make_ext4() {
	mkfs.ext4 -q -F "$1"
}

check_ext4() {
	e2fsck -f -n "$1"
}

make_xfs() {
	mkfs.xfs -q -f "$1"
}

check_xfs() {
	xfs_repair -n "$1"
}

# Files large and small, of which some are removed or overwritten again, by several programs at once.
fill() {
	cp -a "$TREE" /usr/lib/python3.*/json "$MNT" &
	make_data
	for number in 1 2 3; do
		cp "$DATA" "$MNT/large$number" &
	done
	mkdir "$MNT/small"
	for number in $(seq $((MIB * 25))); do
		echo "$number" >"$MNT/small/$number"
	done
	wait
	rm "$MNT/large2" "$MNT/small"/*7
	dd if=/dev/urandom of="$MNT/large1" bs=4k seek=7 count=300 conv=notrunc,fsync 2>/dev/null &&
		dd if=/dev/urandom of="$MNT/large3" bs=64k seek=$((MIB * 16)) count=$((MIB * 8)) oflag=direct 2>/dev/null &&
		cmp -n $((MIB << 20)) "$MNT/large3" "$DATA"
}

sums() {
	(cd "$MNT" && find . -type f -exec md5sum {} + | sort)
}

# mounted TYPE: mounted, with nothing in memory that the disk had
mounted() {
	echo 3 >/proc/sys/vm/drop_caches
	mount -t "$1" "$(disk_of virtio_blk)" "$MNT"
}

checked() {
	"check_$1" "$(disk_of virtio_blk)" >/tmp/check 2>&1 || {
		sed 's/^/# /' /tmp/check
		return 1
	}
}

keeps_files() {
	modprobe -q "$1"
	mkdir -p "$MNT"
	"make_$1" "$(disk_of virtio_blk)" && mounted "$1" || return 1
	fill
	status=$?
	sums >"$SUMS" || status=1
	umount "$MNT" && [ "$status" -eq 0 ] && [ "$(wc -l <"$SUMS")" -gt 100 ] || return 1
	checked "$1" && mounted "$1" || return 1
	sums | cmp - "$SUMS"
	status=$?
	umount "$MNT" && return "$status"
}

# What is free is given back to the device, all at once and as it becomes free; the rest stays.
is_trimmed() {
	mounted "$1" || return 1
	fstrim "$MNT" && mount -o remount,discard "$MNT" && rm -r "$MNT/small" && sync && fstrim "$MNT"
	status=$?
	umount "$MNT" && [ "$status" -eq 0 ] && checked "$1" && mounted "$1" || return 1
	grep -v ' \./small/' "$SUMS" >"$SUMS.rest"
	sums | cmp - "$SUMS.rest"
	status=$?
	umount "$MNT" && return "$status"
}

# The disk goes away under the file system.  What was synced before is there afterwards, by the journal.
survives_removal() {
	mounted "$1" || return 1
	head -c 65536 "$DATA" >"$MNT/synced" && sync || return 1
	(while echo more >>"$MNT/unsynced"; do :; done) 2>/dev/null &
	sleep 1
	device=$(devices_of virtio_blk)
	echo "$device" >"$BUS/drivers/virtio_blk/unbind" || return 1
	wait $! 2>/dev/null
	umount "$MNT" && echo "$device" >"$BUS/drivers/virtio_blk/bind" && wait_until 60 has_disk virtio_blk || return 1
	mounted "$1" || return 1
	head -c 65536 "$DATA" | cmp - "$MNT/synced" && (cd "$MNT" && md5sum -c --quiet "$SUMS.rest")
	status=$?
	umount "$MNT" && [ "$status" -eq 0 ] && checked "$1"
}

ktap_print_header
ktap_set_plan 6
wait_until 60 has_disk virtio_blk
for type in ext4 xfs; do
	ktap_test_result "$type: files are kept" keeps_files "$type"
	ktap_test_result "$type: what is free is discarded" is_trimmed "$type"
	ktap_test_result "$type: what was synced survives the removal of the disk" survives_removal "$type"
done
ktap_finished
