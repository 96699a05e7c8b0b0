#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""What tools see of the network driver: ethtool, netlink, sysfs and module parameters of C's and of the Rust one.

The same device of QEMU is driven by either; what is shown is equal, but for numbers that count, and so is what comes
of what is asked for.

# guest *: --root full --timeout 600
# long release: --kernel release
# long packed: --kernel release --qemu "-global virtio-net-pci.packed=on"
# guest rss: --kernel release --qemu "-global virtio-net-pci.rss=on -global virtio-net-pci.hash=on"
# long legacy: --kernel release --qemu "-global virtio-net-pci.disable-modern=on"
# long debug: --kernel debug --memory 1024 --timeout 1800
"""

import difflib
import os
import re
import subprocess
from collections.abc import Callable

from guest import ksft
from guest.ksft import Shell
from guest.run import Config, Guest

# Seconds until something is as it should be: the debug kernel under TCG, on a busy host.
PATIENCE = 60
PAIRS = 2
NAME = f"va{os.getpid()}"
MAKE = ("ip", "tuntap", "add", "dev", NAME, "mode", "tap", "multi_queue", "vnet_hdr")
DEVICE = "$(basename $(readlink -f /sys/class/net/eth0/device))"
# Names and numbers of netlink's family `netdev`: `qstats-get`, its attributes, and those of the answers.
QSTATS = """
import socket, struct, sys
GENERIC, ROOT, MATCH, REQUEST, DONE = 16, 0x100, 0x200, 1, 3
wire = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, GENERIC)

def attribute(kind, data):
    return struct.pack("<HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)

def attributes(data):
    while data:
        size, kind = struct.unpack_from("<HH", data)
        yield kind & 0x3fff, data[4:size]
        data = data[(size + 3) & ~3:]

def ask(family, command, flags, data):
    wire.send(struct.pack("<IHHIIBBH", 20 + len(data), family, REQUEST | flags, 1, 0, command, 1, 0) + data)
    while True:
        answer = wire.recv(1 << 16)
        while answer:
            size, kind = struct.unpack_from("<IH", answer)
            if kind in (2, DONE):
                return
            yield dict(attributes(answer[20:size]))
            answer = answer[size:]
            if not flags:
                return

GET_FAMILY, FAMILY_ID, FAMILY_NAME = 3, 1, 2
(family,) = ask(GENERIC, GET_FAMILY, 0, attribute(FAMILY_NAME, b"netdev\\0"))
QSTATS_GET, INDEX, QUEUE_TYPE, QUEUE_ID, SCOPE = 12, 1, 2, 3, 4
(family,) = struct.unpack("<H", family[FAMILY_ID])
index = struct.pack("<I", socket.if_nametoindex("eth0"))
if sys.argv[1] == "device":
    # What programs of XDP and their sockets can have.
    for answer in ask(family, 1, 0, attribute(1, index)):
        print(*(f"{key}:{value.hex()}" for key, value in sorted(answer.items())), sep="\\n")
    sys.exit()
for scope in range(int(sys.argv[1]), int(sys.argv[1]) + 1):
    data = attribute(INDEX, index) + attribute(SCOPE, struct.pack("<Q", scope))
    for answer in ask(family, QSTATS_GET, ROOT | MATCH, data):
        queue = [int.from_bytes(answer.get(key, b""), "little") for key in (QUEUE_TYPE, QUEUE_ID)]
        counted = {key: int.from_bytes(value, "little") for key, value in sorted(answer.items()) if key > SCOPE}
        print(*queue, *(f"{key}:{value}" for key, value in counted.items()))
"""
# What is shown, and what counts in it or is chosen by chance.
COUNTS = re.compile(r": *\d+")
KEY = re.compile(r"(?:[0-9a-f]{2}:){8,}[0-9a-f]{2}")
SHOWN = {
    "ethtool -i eth0": None,
    "ethtool -k eth0": None,
    "ethtool -g eth0": None,
    "ethtool -l eth0": None,
    "ethtool -c eth0": None,
    "ethtool --per-queue eth0 queue_mask 1 --show-coalesce": None,
    "ethtool -x eth0": KEY,
    "ethtool -T eth0": None,
    "ethtool eth0": None,
    "ethtool -S eth0": COUNTS,
    "for f in tcp4 udp4 tcp6 udp6 ip4 ip6; do ethtool -n eth0 rx-flow-hash $f; done": None,
    "python3 /qstats device": None,
    "python3 /qstats 0": COUNTS,
    "python3 /qstats 1": COUNTS,
    "cd /sys/class/net/eth0/ && find . -printf '%p %M\\n' | sort": None,
    "cd /sys/class/net/eth0/queues && grep -r . . 2>&1 | sort": COUNTS,
    "cd /sys/module/virtio_net/parameters && ls -l | cut -c1-10 && grep -r . . | sort": None,
    # But for CTRL_RX_EXTRA, which the Rust driver alone makes use of; net_control.py looks at it.
    f"sed s/./x/21 /sys/bus/virtio/devices/{DEVICE}/features": None,
    "ip -d link show dev eth0 | sed 's/^[0-9]*: //'": re.compile("link/ether.*brd"),
}

# What is asked for, one after the other: what it says, and what becomes of it.
ASKED = (
    "ethtool -C eth0 tx-frames 0",
    "ip link set eth0 down",
    "ethtool -C eth0 tx-frames 0 && ethtool -c eth0 | grep frames:",
    "ethtool --per-queue eth0 queue_mask 1 --coalesce tx-frames 1 && ethtool -c eth0 | grep frames:",
    "ethtool -C eth0 tx-frames 0",
    "ethtool -C eth0 tx-frames 2",
    "ethtool -C eth0 rx-frames 0",
    "ethtool -C eth0 rx-usecs 8",
    "ethtool -C eth0 adaptive-tx on",
    "ethtool -G eth0 rx 1024",
    "ethtool -G eth0 rx 100000",
    "ethtool -G eth0 tx 16",
    "ethtool -G eth0 rx-mini 1",
    "ethtool -G eth0 rx 128 tx 64 && ethtool -g eth0",
    "ethtool -L eth0 combined 9",
    "ethtool -L eth0 rx 1",
    "ethtool -X eth0 hfunc xor",
    "ethtool -K eth0 tx off && ethtool -k eth0 | grep -v fixed",
    "ethtool -K eth0 tx on && ethtool -k eth0 | grep -v fixed",
    "ethtool -K eth0 rx off",
    "ethtool -s eth0 speed 1000 duplex full && ethtool eth0 | grep -e Speed -e Duplex",
    "ip link set eth0 mtu 60",
    "ip link set eth0 address 01:02:03:04:05:06",
    "ip link set eth0 up",
    "ethtool -C eth0 tx-frames 1",
)
# With a gateway: packets whose device does not say when it has sent them, more than there is room for at once.
TRAFFIC = (
    "ip addr add 10.0.2.15/24 dev eth0",
    "ping -q -c 3 -i 0.2 -W 10 10.0.2.2 >/dev/null",
    "ping -q -f -s 1400 -c 500 -W 10 10.0.2.2 >/dev/null",
    "cat /sys/class/net/eth0/statistics/tx_errors",
)


def shown(config: Config, whose: str, asked: tuple[str, ...]) -> dict[str, str]:
    """What a guest with the driver of WHOSE shows, and what comes of what is ASKED for."""
    with ksft.scratch() as directory:
        (directory / "qstats").write_text(QSTATS)
        config.files = {"qstats": directory / "qstats"}
        config.swaps = {**config.swaps, "virtio_net": whose}
        config.append = [*config.append, "net.ifnames=0"]
        Shell.prepare(config)
        with Guest(config) as guest:
            shell = Shell(guest)
            shell.wait("[ -e /sys/class/net/eth0 ]", PATIENCE)
            taint = shell("cat /sys/module/virtio_net/taint")
            assert (taint == "O") == (whose == "rust"), f"taint {taint!r}"
            shell("ip link set eth0 up")
            found = {}
            for command, changes in SHOWN.items():
                text = shell(f"({command}) 2>&1 || true")
                found[command] = changes.sub(": N", text) if changes else text
            for number, command in enumerate(asked):
                found[f"{number}. {command}"] = shell(f"({command}) 2>&1; echo status $?")
            shell.start("exit")
            ksft.passed(guest)
    return found


def same(start: Callable[[], Config], asked: tuple[str, ...]) -> None:
    """Both show the same."""
    c, rust = (shown(start(), whose, asked) for whose in ("c", "rust"))
    different = 0
    for command in c:
        assert c[command], f"{command}: nothing was compared"
        for line in difflib.unified_diff(c[command].splitlines(), rust[command].splitlines(), "C", "Rust", n=0):
            different += 1
            print(f"# {command}: {line.rstrip()}")
    assert not different, f"{different} lines of difference"


def configured(config: Config, netdev: str, options: str) -> Config:
    """CONFIG with one network device, of several pairs of queues if its back end has them."""
    config.default_devices = False
    config.qemu_args += ["-netdev", f"{netdev},id=wire", "-device", f"virtio-net-pci,netdev=wire{options}"]
    return config


def without_offloads(config: Config) -> None:
    """A back end that takes packets as they are on the wire."""
    del config
    same(lambda: configured(ksft.configuration("plain"), "user", ""), ASKED + TRAFFIC)


def with_offloads(config: Config) -> None:
    """A tap device of several queues, that segments packets."""
    del config
    if subprocess.run(MAKE, capture_output=True, check=False).returncode != 0:
        raise ksft.Skip("no tap device can be made: it takes root, and /dev/net/tun")
    try:
        tap = f"tap,ifname={NAME},script=no,downscript=no,queues={PAIRS}"
        same(lambda: configured(ksft.configuration("tap"), tap, f",mq=on,vectors={2 * PAIRS + 2}"), ASKED)
    finally:
        subprocess.run(["ip", "link", "del", NAME], capture_output=True, check=False)


if __name__ == "__main__":
    ksft.run(without_offloads, with_offloads)
