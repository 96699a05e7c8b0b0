#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The transport and the drivers for entropy and block exchanged for their C twins, alone and together, and the C
# driver for the network: all of them work.
#
# The kernel's command line tells which modules were to be C.
#
# guest *: --root full --timeout 600 --kernel release --no-default-devices --device rng --device blk --device net
# guest transport: --swap virtio_pci=c --append c=virtio_pci
# long rng: --swap virtio_rng=c --append c=virtio_rng
# long blk: --swap virtio_blk=c --append c=virtio_blk
# long blk-net: --swap virtio_blk=c --swap virtio_net=c --append c=virtio_blk,virtio_net
# guest all: --swap virtio_pci=c --swap virtio_rng=c --swap virtio_blk=c --swap virtio_net=c --append c=virtio_pci,virtio_rng,virtio_blk,virtio_net

. ../kselftest/ktap_helpers.sh
. ./lib.inc
. ./work.inc

# Out-of-tree modules are ours.  On a busy host udev may still be loading them.
as_asked() {
	for driver in virtio_rng virtio_blk virtio_net; do
		[ -n "$(devices_of "$driver")" ] || return 1
	done
	asked=$(sed 's/.* c=\([^ ]*\).*/\1/' /proc/cmdline)
	for module in virtio_ring virtio virtio_pci virtio_rng; do
		case ",$asked," in *",$module,"*) taint= ;; *) taint=O ;; esac
		[ "$(cat "/sys/module/$module/taint")" = "$taint" ] || return 1
	done
	for module in $(echo "$asked" | tr , ' '); do
		[ -z "$(cat "/sys/module/$module/taint")" ] || return 1
	done
}

gateway() {
	ping_gateway "$(devices_of virtio_net)"
}

all_rebind() {
	for driver in virtio_rng virtio_blk virtio_net; do
		rebind "$driver" || return 1
	done
	udevadm settle --timeout=60
	wait_until 30 has_disk virtio_blk && disk_has_files virtio_blk && gateway && read_entropy
}

ktap_print_header
ktap_set_plan 5
ktap_test_result "the modules are those that were asked for" wait_until 120 as_asked
ktap_test_result "entropy does not compress" read_entropy
ktap_test_result "block: $MIB MiB are as they were written" disk_keeps virtio_blk
ktap_test_result "network: the gateway answers" gateway
ktap_test_result "all work after unbinding and binding" all_rebind
ktap_finished
