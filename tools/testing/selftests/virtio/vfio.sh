#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The kernel's vfio driver for virtio functions, which asks virtio_pci for the administration of their owner, on
# the Rust virtio_pci: it loads, takes a function, and gives it back.  (The function is no virtual one, of which
# QEMU 10.0 has none: so no command reaches an owner.)
#
# guest release: --kernel release --no-default-devices --qemu "-device intel-iommu" --append intel_iommu=on --device net,iommu_platform=on,disable-legacy=on

. ../kselftest/ktap_helpers.sh
. ./lib.inc

FUNCTION=$(echo /sys/bus/pci/drivers/virtio-pci/0000:*)
FUNCTION=/sys/bus/pci/devices/${FUNCTION##*/}

loads() {
	[ "$(origin virtio_pci)" = rust ] && modprobe virtio-vfio-pci && [ -d /sys/module/virtio_vfio_pci ] &&
		[ -e /sys/module/virtio_pci/holders/virtio_vfio_pci ]
}

# rebound_to DRIVER: the function is taken from its driver, and given to DRIVER.  The name of vfio's is not that of
# its module's file: it has no hyphen.
rebound_to() {
	echo "$1" >"$FUNCTION/driver_override" && echo "${FUNCTION##*/}" >"$FUNCTION/driver/unbind" &&
		echo "${FUNCTION##*/}" >/sys/bus/pci/drivers_probe &&
		[ "$(basename "$(readlink "$FUNCTION/driver")")" = "$1" ]
}

taken() {
	rebound_to virtio_vfio_pci && [ -z "$(ls "$BUS/devices")" ] &&
		[ -c "/dev/vfio/$(basename "$(readlink "$FUNCTION/iommu_group")")" ]
}

given_back() {
	rebound_to virtio-pci && ip link set eth0 up && ip addr replace 10.0.2.15/24 dev eth0 &&
		ping -q -c 2 -W 10 10.0.2.2 >/dev/null
}

unloads() {
	rmmod virtio_vfio_pci && [ ! -e /sys/module/virtio_pci/holders/virtio_vfio_pci ]
}

ktap_print_header
ktap_set_plan 4
ktap_test_result "virtio-vfio-pci finds its symbols in virtio_pci" loads
ktap_test_result "virtio-vfio-pci takes a function" taken
ktap_test_result "the function comes back and works" given_back
ktap_test_result "virtio-vfio-pci can be unloaded" unloads
ktap_finished
