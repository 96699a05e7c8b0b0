#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The entropy driver through the interfaces of the hwrng core.
#
# guest split: --kernel release --no-default-devices --device rng
# guest packed: --kernel release --no-default-devices --device rng,packed=on
# guest in-order: --kernel release --no-default-devices --device rng,in_order=on
# guest packed-in-order: --kernel release --no-default-devices --device rng,packed=on,in_order=on
# guest no-event-idx: --kernel release --no-default-devices --device rng,event_idx=off
# guest packed-no-event-idx: --kernel release --no-default-devices --device rng,packed=on,event_idx=off
# guest shared-vector: --kernel release --no-default-devices --device rng,vectors=1
# guest intx: --kernel release --no-default-devices --device rng,vectors=0
# guest 1cpu: --kernel release --no-default-devices --device rng --smp 1
# guest iommu: --kernel release --no-default-devices --qemu "-device intel-iommu" --append intel_iommu=on --append iommu.strict=1 --device rng,iommu_platform=on,disable-legacy=on
# guest swiotlb: --kernel release --no-default-devices --append swiotlb=force --device rng,iommu_platform=on,disable-legacy=on
# guest c-transport: --kernel release --no-default-devices --device rng --swap virtio_pci=c
# guest c-driver: --kernel release --no-default-devices --device rng --swap virtio_rng=c
# long debug-split: --kernel debug --no-default-devices --device rng
# guest debug-packed-iommu: --kernel debug --no-default-devices --qemu "-device intel-iommu" --append intel_iommu=on --append iommu.strict=1 --device rng,packed=on,iommu_platform=on,disable-legacy=on
# long debug-intx: --kernel debug --no-default-devices --device rng,vectors=0 --smp 1

. ../kselftest/ktap_helpers.sh
. ./lib.inc

SIZE=262144
SAMPLE=/tmp/sample

is_current() {
	[ "$(cat "$HWRNG/rng_current")" = virtio_rng.0 ]
}

is_available() {
	grep -qw virtio_rng.0 "$HWRNG/rng_available"
}

bound() {
	[ -n "$(devices_of virtio_rng)" ]
}

read_sample() {
	dd if=/dev/hwrng of="$SAMPLE" bs=4096 count=$((SIZE / 4096)) iflag=fullblock 2>/dev/null &&
		[ "$(wc -c <"$SAMPLE")" -eq "$SIZE" ]
}

# Entropy does not compress; a sample with repeated buffers or zeroes does.
incompressible() {
	[ "$(gzip -9 -c "$SAMPLE" | wc -c)" -ge "$SIZE" ]
}

one_byte_reads() {
	for _ in 1 2 3 4 5 6 7 8; do
		[ "$(dd if=/dev/hwrng bs=1 count=1 2>/dev/null | wc -c)" -eq 1 ] || return 1
	done
}

rebind() {
	device=$(devices_of virtio_rng)
	echo "$device" >"$BUS/drivers/virtio_rng/unbind" || return 1
	! is_available || return 1
	echo "$device" >"$BUS/drivers/virtio_rng/bind" || return 1
	is_available && head -c 16 /dev/hwrng >/dev/null
}

ktap_print_header
ktap_set_plan 7
ktap_test_result "the driver virtio_rng has the device" bound
ktap_test_result "virtio_rng.0 is available" is_available
ktap_test_result "virtio_rng.0 is current" is_current
ktap_test_result "a read of $SIZE bytes is complete" read_sample
ktap_test_result "the bytes do not compress" incompressible
ktap_test_result "single bytes can be read" one_byte_reads
ktap_test_result "the driver can be unbound and bound" rebind
ktap_finished
