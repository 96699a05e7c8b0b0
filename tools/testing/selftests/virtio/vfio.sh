#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The kernel's vfio driver for virtio functions, which asks virtio_pci for the administration of their owner, on
# the Rust virtio_pci.  (QEMU has no virtio device with virtual functions: a whole one is handed over, and back.)
#
# guest release: --kernel release --no-default-devices --qemu "-device intel-iommu" --append intel_iommu=on --device net,disable-legacy=on,iommu_platform=on
# guest debug: --kernel debug --no-default-devices --qemu "-device intel-iommu" --append intel_iommu=on --device net,disable-legacy=on,iommu_platform=on --timeout 600

. ../kselftest/ktap_helpers.sh
. ./lib.inc

PCI=/sys/bus/pci
FUNCTION=$(basename "$(readlink -f "$BUS/devices/virtio0/..")")

loads() {
	[ "$(origin virtio_pci)" = rust ] && modprobe virtio-vfio-pci && [ -d /sys/module/virtio_vfio_pci ] &&
		[ -e /sys/module/virtio_pci/holders/virtio_vfio_pci ]
}

# hand_to DRIVER: takes the function from its driver, and gives it to another
hand_to() {
	echo "$FUNCTION" >"$PCI/devices/$FUNCTION/driver/unbind" || return 1
	echo "$1" >"$PCI/devices/$FUNCTION/driver_override"
	echo "$FUNCTION" >"$PCI/drivers_probe" || return 1
	[ "$(basename "$(readlink "$PCI/devices/$FUNCTION/driver")")" = "$1" ]
}

to_vfio() {
	hand_to virtio-vfio-pci && [ -z "$(devices_of virtio_net)" ] && ls /dev/vfio/[0-9]* >/dev/null
}

back() {
	hand_to virtio-pci && wait_until 10 test -n "$(devices_of virtio_net)"
}

unloads() {
	modprobe -r virtio-vfio-pci && [ ! -e /sys/module/virtio_pci/holders/virtio_vfio_pci ]
}

ktap_print_header
ktap_set_plan 4
ktap_test_result "virtio-vfio-pci finds its symbols in virtio_pci" loads
ktap_test_result "it takes a function from virtio_pci" to_vfio
ktap_test_result "virtio_pci takes it back" back
ktap_test_result "virtio-vfio-pci can be unloaded" unloads
ktap_finished
