#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The kernel's C transport virtio_vdpa under the Rust core.  The devices are the kernel's simulators, which
# work on vringh: the C code for the other side of a ring (drivers/vhost/vringh.c), against ours.
#
# guest release: --kernel release --swap virtio_blk=c --root full --timeout 600 --no-default-devices
# long c-net: --kernel release --swap virtio_blk=c --swap virtio_net=c --root full --timeout 600 --no-default-devices
# long debug: --kernel debug --swap virtio_blk=c --root full --timeout 900 --no-default-devices

. ../kselftest/ktap_helpers.sh
. ./lib.inc
. ./work.inc

FRAMES=2000

made() {
	modprobe -a virtio_vdpa vdpa_sim_blk vdpa_sim_net virtio_blk virtio_net || return 1
	vdpa dev add name disk mgmtdev vdpasim_blk && vdpa dev add name wire mgmtdev vdpasim_net mac 52:54:00:12:34:56 ||
		return 1
	udevadm settle --timeout=60
	wait_until 30 has_disk virtio_blk && wait_until 30 interface_of "$(devices_of virtio_net)"
}

transport_is_c() {
	[ -z "$(cat /sys/module/virtio_vdpa/taint)" ] && [ -d /sys/module/vringh ] && [ ! -d /sys/module/virtio_pci ] &&
		[ "$(cat /sys/module/virtio_ring/taint)" = O ]
}

# The simulator sends back what is sent to its own address.
frames_return() {
	interface=$(interface_of "$(devices_of virtio_net)")
	ip link set "$interface" up || return 1
	timeout 300 python3 - "$interface" "$FRAMES" <<-'END'
		import os, socket, sys
		name, count = sys.argv[1], int(sys.argv[2])
		kind = 0x88B5
		wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(kind))
		wire.bind((name, kind))
		wire.settimeout(30)
		address = wire.getsockname()[4]
		for number in range(count):
		    body = number.to_bytes(4, "big") + os.urandom(46 + number * 7 % 1450)
		    frame = address + address + kind.to_bytes(2, "big") + body
		    wire.send(frame)
		    while True:
		        received, where = wire.recvfrom(2048)
		        # What the socket itself sent is shown to it too.
		        if where[2] != socket.PACKET_OUTGOING:
		            break
		    if received != frame:
		        sys.exit(f"frame {number}: {received.hex()} instead of {frame.hex()}")
	END
}

made_again() {
	for _ in 1 2 3; do
		vdpa dev del disk && vdpa dev del wire && [ -z "$(ls "$BUS/devices")" ] && made || return 1
	done
	disk_keeps virtio_blk && frames_return
}

ktap_print_header
ktap_set_plan 7
ktap_test_result "a disk and a network device are made" made
ktap_test_result "the transport is C, the core is Rust" transport_is_c
ktap_test_result "block: $MIB MiB are as they were written" disk_keeps virtio_blk
ktap_test_result "block: a file system keeps its files" disk_has_files virtio_blk
ktap_test_result "block: zeroes are written by command" disk_has_zeroes virtio_blk
ktap_test_result "network: $FRAMES frames return unchanged" frames_return
ktap_test_result "both work after they were removed and made again" made_again
ktap_finished
