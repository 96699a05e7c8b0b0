#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The kernel's vfio driver for virtio functions, which asks virtio_pci for the administration of their owner, on
# the Rust virtio_pci: it loads.  (QEMU has no virtio device with virtual functions to hand over.)
#
# guest release: --kernel release --no-default-devices --device net

. ../kselftest/ktap_helpers.sh
. ./lib.inc

loads() {
	[ "$(origin virtio_pci)" = rust ] && modprobe virtio-vfio-pci && [ -d /sys/module/virtio_vfio_pci ] &&
		[ -e /sys/module/virtio_pci/holders/virtio_vfio_pci ]
}

unloads() {
	rmmod virtio_vfio_pci && [ ! -e /sys/module/virtio_pci/holders/virtio_vfio_pci ]
}

ktap_print_header
ktap_set_plan 2
ktap_test_result "virtio-vfio-pci finds its symbols in virtio_pci" loads
ktap_test_result "virtio-vfio-pci can be unloaded" unloads
ktap_finished
