# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
#
# What the rig has a guest do: it reads a command a line, and says how each ended.

VIRTIO=/sys/bus/virtio
HWRNG=/sys/class/misc/hw_random

# device_at SLOT: the virtio device of the PCI device in that slot
device_at() {
	for entry in /sys/bus/pci/devices/0000:00:"$1".0/virtio[0-9]*; do
		[ -e "$entry" ] && basename "$entry"
	done
}

# bind DRIVER SLOT: `bound` or `refused`; the devices wait until they are asked for
bind() {
	if device_at "$2" >"$VIRTIO/drivers/$1/bind" 2>/dev/null; then
		echo "bound"
	else
		echo "refused"
	fi
}

# unbind DRIVER SLOT: also of a device that is not bound
unbind() {
	device_at "$2" 2>/dev/null >"$VIRTIO/drivers/$1/unbind"
	echo "unbound"
}

# rng_read BYTES: `read STATUS COUNT FOREIGN`: FOREIGN bytes are neither the device's (Z) nor zero
rng_read() {
	if ! grep -q virtio_rng "$HWRNG/rng_current" && ! echo virtio_rng.0 2>/dev/null >"$HWRNG/rng_current"; then
		echo "read 19 0 0"
		return
	fi
	rm -f /tmp/got
	dd if=/dev/hwrng of=/tmp/got bs=512 count=$(($1 / 512)) iflag=fullblock 2>/dev/null
	status=$?
	echo "read $status $(wc -c </tmp/got) $(tr -d 'Z\000' </tmp/got | wc -c)"
}

# blk_io SLOT NUMBER: `blk WRITE READ DIFFERENT`: how a write and a read of it ended, and whether they differ
blk_io() {
	disk=$(ls "$VIRTIO/devices/$(device_at "$1")/block" 2>/dev/null)
	if [ ! -b "/dev/$disk" ]; then
		echo "blk 19 19 0"
		return
	fi
	cat "/sys/block/$disk/cache_type" >/dev/null
	yes "round $2 of the disk at $1" | head -c 65536 >/tmp/out
	rm -f /tmp/in
	dd if=/tmp/out of="/dev/$disk" bs=4096 seek=16 oflag=direct conv=notrunc,fsync 2>/dev/null
	wrote=$?
	dd if="/dev/$disk" of=/tmp/in bs=4096 skip=16 count=16 iflag=direct 2>/dev/null
	got=$?
	different=0
	[ "$wrote" -ne 0 ] || [ "$got" -ne 0 ] || cmp -s /tmp/out /tmp/in || different=1
	echo "blk $wrote $got $different"
}

# blk_many SLOT: `blk READ READ DIFFERENT`: as above, of four readers at once, twice
blk_many() {
	disk=$(ls "$VIRTIO/devices/$(device_at "$1")/block" 2>/dev/null)
	yes "a disk at $1" | head -c 262144 >/tmp/out
	dd if=/tmp/out of="/dev/$disk" bs=65536 oflag=direct conv=notrunc,fsync 2>/dev/null
	wrote=$?
	got=0
	for part in 0 1 2 3; do
		dd if="/dev/$disk" of="/tmp/in$part" bs=4096 skip=$((part * 16)) count=16 iflag=direct 2>/dev/null &
		readers="$readers $!"
	done
	for reader in $readers; do
		wait "$reader" || got=$?
	done
	readers=
	cat /tmp/in[0-3] >/tmp/in
	different=0
	[ "$wrote" -ne 0 ] || [ "$got" -ne 0 ] || cmp -s /tmp/out /tmp/in || different=1
	echo "blk $wrote $got $different"
}

# net_ping SLOT: `net STATUS`: of three pings to the device, which answers for every address
net_ping() {
	interface=$(ls "$VIRTIO/devices/$(device_at "$1")/net" 2>/dev/null)
	if [ -z "$interface" ]; then
		echo "net 19"
		return
	fi
	ip addr flush dev "$interface"
	ip addr add 10.0.0.2/24 dev "$interface"
	ip link set "$interface" up
	ping -c 3 -W 3 -s 1000 10.0.0.1 >/dev/null 2>&1
	echo "net $?"
}

serve() {
	modprobe virtio
	# No driver gets a device before the case of that device begins.
	echo 0 >"$VIRTIO/drivers_autoprobe"
	modprobe virtio_pci
	for driver in "$@"; do
		modprobe "$driver"
	done
	echo "ready"
	while read -r line; do
		eval "$line"
		echo "end $?"
	done
}
