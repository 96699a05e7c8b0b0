# SPDX-License-Identifier: GPL-2.0
"""What is measured: each workload is a list of guests, with the commands that run in them.

A command prints `region NAME@LAYOUT OPERATIONS NANOSECONDS` for each region; load/load.c does.
"""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from guest.errors import UserError
from guest.run import Guest

# Without KASLR addresses can be compared with System.map; no mitigation is counted as driver work.
KERNEL_ARGUMENTS = ("nokaslr", "mitigations=off", "quiet", "random.trust_cpu=on")


@dataclass(frozen=True)
class Boot:
    """One guest: LABEL names it in logs, DRIVER is the set of modules that are the leaf driver."""

    label: str
    driver: frozenset[str]
    qemu: tuple[str, ...]
    command: str
    smp: int = 1
    memory: int = 256
    modules: tuple[str, ...] = ()
    # What the host does while COMMAND runs, if anything.
    host: Callable[[Guest], None] | None = None
    kernel_arguments: tuple[str, ...] = field(default=KERNEL_ARGUMENTS)


def layout_name(packed: bool, indirect: bool, queues: int) -> str:
    """`split+indirect`, `packed-2q` and so on."""
    name = ("packed" if packed else "split") + ("+indirect" if indirect else "")
    return name if queues == 1 else f"{name}-{queues}q"


# Operations in a region, by queue depth and by size: enough that one more or less is below 1 %.
BLK_COUNTS = {1: 256, 32: 1024, 256: 2048}
BLK_DEPTHS = (1, 32, 256)


def _blk_commands(device: str, layout: str) -> list[str]:
    commands = [f"echo none >/sys/block/{device}/queue/scheduler"]
    for operation, size, depth in itertools.product(("read", "write"), ("4K", "64K", "512K"), BLK_DEPTHS):
        count = max(BLK_COUNTS[depth] // (8 if size == "512K" else 1), depth)
        name = f"blk-{operation}-{size}-qd{depth}@{layout}"
        commands.append(f"/guest/load blk {name} /dev/{device} {operation} {size} {depth} {count}")
    for depth in BLK_DEPTHS:
        name = f"blk-discard-64K-qd{depth}@{layout}"
        commands.append(f"/guest/load blk {name} /dev/{device} discard 64K {depth} {BLK_COUNTS[depth]}")
    # More flushes at a time are merged by the block layer, as time goes.
    commands.append(f"/guest/load blk blk-flush-qd1@{layout} /dev/{device} flush 0 1 {BLK_COUNTS[1]}")
    return commands


def blk(queues: int) -> Boot:
    """virtio-blk on QEMU's null block driver: sizes, operations, depths, on each layout of the ring."""
    qemu: list[str] = []
    commands: list[str] = []
    for index, (packed, indirect) in enumerate(itertools.product((False, True), (True, False))):
        qemu += ["-blockdev", f"driver=null-co,node-name=n{index},size={1 << 30},read-zeroes=off"]
        properties = (
            f"drive=n{index},disable-legacy=on,ioeventfd=off,num-queues={queues},addr={8 + index:#x}"
            f",packed={'on' if packed else 'off'},indirect_desc={'on' if indirect else 'off'}"
        )
        qemu += ["-device", f"virtio-blk-pci,{properties}"]
        commands += _blk_commands(f"vd{'abcd'[index]}", layout_name(packed, indirect, queues))
    label = "blk" if queues == 1 else f"blk-{queues}q"
    # A queue per processor: more queues need more of them.
    return Boot(label, frozenset({"virtio_blk"}), tuple(qemu), "\n".join(commands), smp=queues)


def rng() -> Boot:
    """Entropy from QEMU's own generator, split and packed, in small and in large reads; per 64 bytes."""
    qemu: list[str] = ["-object", "rng-builtin,id=entropy"]
    # Without quality the kernel's own thread takes no entropy, which would be counted too.
    commands = ["echo 0 >/sys/module/rng_core/parameters/default_quality", "modprobe virtio_rng"]
    for index, packed in enumerate((False, True)):
        properties = f"rng=entropy,disable-legacy=on,ioeventfd=off,addr={8 + index:#x}"
        qemu += ["-device", f"virtio-rng-pci,{properties},packed={'on' if packed else 'off'}"]
        layout = layout_name(packed, False, 1)
        commands += [
            f"echo virtio_rng.{index} >/sys/class/misc/hw_random/rng_current",
            f"/guest/load read rng-64@{layout} /dev/hwrng 64 1024 64",
            f"/guest/load read rng-64K@{layout} /dev/hwrng 64K 8 64",
        ]
    return Boot("rng", frozenset({"virtio_rng"}), tuple(qemu), "\n".join(commands))


# MiB that the balloon takes and gives back, and the guest's memory.
BALLOON = 64
MEMORY = 512
BALLOON_SECONDS = 300.0


def balloon() -> Boot:
    """The balloon takes memory and gives it back, as the host says; per page."""
    properties = "id=balloon0,disable-legacy=on,ioeventfd=off,addr=0x8"
    pages = (BALLOON << 20) // 4096
    command = f"""
/guest/load begin
echo inflate; read -r answer
/guest/load end balloon-inflate@split {pages}
/guest/load begin
echo deflate; read -r answer
/guest/load end balloon-deflate@split {pages}
"""
    qemu = ("-device", f"virtio-balloon-pci,{properties}")
    return Boot("balloon", frozenset({"virtio_balloon"}), qemu, command, memory=MEMORY, host=_drive_balloon)


def _drive_balloon(guest: Guest) -> None:
    for word, size in (("inflate", MEMORY - BALLOON), ("deflate", MEMORY)):
        guest.expect(f"^{word}$")
        guest.qmp().command("balloon", value=size << 20)
        deadline = time.monotonic() + BALLOON_SECONDS
        while guest.qmp().command("query-balloon")["actual"] != size << 20:
            if time.monotonic() > deadline:
                raise UserError(f"balloon: no {word} within {BALLOON_SECONDS:g} seconds.")
            time.sleep(0.2)
        guest.send("done")


# Bytes of a packet, the 4 of its checksum not counted; packets that are sent at a time; packets in a region.
NET_SIZES = (60, 1514)
NET_BURSTS = (1, 32)
NET_COUNT = 4096
NET_STREAM_KIB = 4096

# How the guest's shell finds interfaces, and has the kernel's own generator send.
NET_FUNCTIONS = r"""
modprobe -a virtio_net e1000 pktgen
[ ! -e /proc/sys/net/ipv6 ] || echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
device() { basename "$(dirname "$(grep -lx "52:54:00:00:00:$1" /sys/class/net/*/address)")"; }
# bring_up NUMBER: and wait for a link
bring_up() {
	ip link set "$(device "$1")" up
	for _ in $(seq 50); do
		! grep -qx 1 "/sys/class/net/$(device "$1")/carrier" || return 0
		sleep 0.2
	done
	return 1
}
# generate INTERFACE TO SIZE BURST COUNT
generate() {
	echo rem_device_all >/proc/net/pktgen/kpktgend_0
	echo "add_device $1" >/proc/net/pktgen/kpktgend_0
	for word in "count $5" "clone_skb $5" "pkt_size $3" "burst $4" "delay 0" "dst 10.9.9.9" \
		"dst_mac 52:54:00:00:00:$2"; do
		echo "$word" >"/proc/net/pktgen/$1"
	done
	echo start >/proc/net/pktgen/pgctrl
	grep -q "^Result: OK" "/proc/net/pktgen/$1"
}
# measure NAME INTERFACE TO SIZE BURST COUNT: the first time is for the caches of the kernel
measure() {
	generate "$2" "$3" "$4" "$5" 512
	/guest/load begin
	generate "$2" "$3" "$4" "$5" "$6"
	/guest/load end "$1" "$6"
}
"""


def net() -> Boot:
    """virtio-net, split and packed: packets that go to a sink, packets that another card sends, a stream of TCP."""
    qemu: list[str] = []
    commands = [NET_FUNCTIONS]
    for index, packed in enumerate((False, True)):
        layout = layout_name(packed, True, 1)
        # The device sends what it was told of at once, at a time that is a matter of instructions alone.
        properties = f"disable-legacy=on,ioeventfd=off,tx=timer,x-txtimer=1,packed={'on' if packed else 'off'}"

        def card(number: int, backend: str, properties: str = properties, index: int = index) -> list[str]:
            mac = f"mac=52:54:00:00:00:{index}{number},addr={8 + 8 * index + number:#x}"
            name = f"n{index}{number}"
            return ["-netdev", f"{backend},id={name}", "-device", f"{properties},netdev={name},{mac}"]

        virtio = f"virtio-net-pci,{properties}"
        qemu += card(0, "user,restrict=on,ipv6=off", virtio)
        qemu += card(1, f"hubport,hubid={2 * index}", virtio)
        qemu += card(2, f"hubport,hubid={2 * index}", "e1000")
        # QEMU's two ends of a wire stall with packed rings and event indices, with any driver.
        wire = f"{virtio},event_idx={'off' if packed else 'on'}"
        qemu += card(3, f"hubport,hubid={2 * index + 1}", wire)
        qemu += card(4, f"hubport,hubid={2 * index + 1}", wire)
        commands += [f"for at in 0 2 1; do bring_up {index}$at; done"]
        for size, burst in itertools.product(NET_SIZES, NET_BURSTS):
            for name, sender, to in (("tx", 0, 0), ("rx", 2, 1)):
                region = f"net-{name}-{size}-burst{burst}@{layout}"
                commands.append(f"measure {region} $(device {index}{sender}) {index}{to} {size} {burst} {NET_COUNT}")
        commands.append(_net_stream(index, layout))
    return Boot("net", frozenset({"virtio_net"}), tuple(qemu), "\n".join(commands), modules=("e1000", "pktgen"))


def _net_stream(index: int, layout: str) -> str:
    """TCP between two devices, one of which is in a name space of its own; per KiB.

    Who listens has an input that does not end: else it would say at once that nothing more comes from it.
    """
    return f"""
[ -e /tmp/open ] || mkfifo /tmp/open
unshare -n nc -l -p 5000 <>/tmp/open >/dev/null & peer=$!
sleep 1
here=$(device {index}3) there=$(device {index}4)
ip link set $there netns $peer
nsenter -t $peer -n ip addr add 10.{index}.0.2/24 dev $there
nsenter -t $peer -n ip link set $there up
ip addr add 10.{index}.0.1/24 dev $here
ip link set $here up
ping -c 2 10.{index}.0.2 >/dev/null
/guest/load begin
head -c {NET_STREAM_KIB << 10} /dev/zero | nc 10.{index}.0.2 5000
wait $peer
/guest/load end net-tcp-stream@{layout} {NET_STREAM_KIB}
ip link set $here down
"""


WORKLOADS: dict[str, Callable[[], list[Boot]]] = {
    "rng": lambda: [rng()],
    "balloon": lambda: [balloon()],
    "blk": lambda: [blk(1)],
    "blk-2q": lambda: [blk(2)],
    "net": lambda: [net()],
}
