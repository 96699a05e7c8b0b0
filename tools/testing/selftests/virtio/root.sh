#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# A machine that has its root file system on /dev/vda, a virtio disk, and no C module of virtio.
#
# guest *: --root vda --timeout 600 --no-default-devices --device rng
# guest release: --kernel release
# long 1cpu: --kernel release --smp 1
# long debug: --kernel debug

. ../kselftest/ktap_helpers.sh
. ./lib.inc

ROUND=/var/tmp/written

root_is_vda() {
	[ "$(mountpoint -d /)" = "$(cat /sys/block/vda/dev)" ] &&
		[ "$(basename "$(readlink /sys/block/vda/device/driver)")" = virtio_blk ] &&
		grep -q '^/dev/vda / ext4 rw' /proc/mounts
}

# Out-of-tree modules taint: a module of the kernel's own that names virtio, or that virtio disks need, would not.
all_are_ours() {
	for module in virtio_ring virtio virtio_pci virtio_blk virtio_rng; do
		grep -q "^$module " /proc/modules || return 1
	done
	for module in /sys/module/*virtio* /sys/module/vring*; do
		[ ! -e "$module/initstate" ] || [ "$(cat "$module/taint")" = O ] || return 1
	done
}

forget() {
	sync && echo 3 >/proc/sys/vm/drop_caches
}

# Their packages have checksums of all these files, which were made on another machine.
programs_are_whole() {
	forget || return 1
	for package in busybox-static e2fsprogs fio kmod libc6:amd64 procps udev xfsprogs; do
		[ -s "/var/lib/dpkg/info/$package.md5sums" ] || return 1
		(cd / && grep -v usr/share/ "/var/lib/dpkg/info/$package.md5sums" | md5sum -c --quiet) || return 1
	done
}

files_are_kept() {
	mkdir -p "$ROUND" && cp -a /usr/lib/udev /usr/lib/python3.*/json "$ROUND" &&
		dd if=/dev/urandom of="$ROUND/large" bs=1M count=16 2>/dev/null || return 1
	find "$ROUND" -type f -exec md5sum {} + >/run/sums
	forget && md5sum -c --quiet /run/sums
}

# As a shutdown does it, and with nothing left to be mended.
goes_read_only_and_back() {
	mount -o remount,ro / || return 1
	e2fsck -f -n /dev/vda >/run/e2fsck 2>&1
	status=$?
	forget
	md5sum -c --quiet /run/sums || status=1
	mount -o remount,rw / || return 1
	[ "$status" -eq 0 ] || {
		sed 's/^/# /' /run/e2fsck
		return 1
	}
	rm -r "$ROUND" && forget
}

ktap_print_header
if [ "$(origin virtio_blk)" != rust ]; then
	ktap_skip_all "virtio_blk is not ours"
	exit "$KSFT_SKIP"
fi
ktap_set_plan 5
ktap_test_result "the root file system is on /dev/vda" root_is_vda
ktap_test_result "no module of virtio is the kernel's" all_are_ours
ktap_test_result "programs are as they were packed" programs_are_whole
ktap_test_result "files are kept" files_are_kept
ktap_test_result "the root can be made read-only, is clean then, and goes on" goes_read_only_and_back
ktap_finished
