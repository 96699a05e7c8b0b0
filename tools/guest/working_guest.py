# SPDX-License-Identifier: GPL-2.0
"""A guest with an entropy, a block and a network device that work all the time.

Each device stands behind a port of its own.  No test by itself: hotplug.py, pm.py and pci_errors.py use it.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from guest import ksft
from guest.ksft import Shell
from guest.run import Config, Guest

LONG = bool(os.environ.get("LONG"))
# The debug kernel takes ten times as long: in `make check` what another case does as well is left out there.
BRIEF = "debug" in sys.argv and not LONG
# Seconds until a device is gone or there: the debug kernel under TCG, on a busy host.
PATIENCE = 120
DEVICES = {
    "rng0": {"driver": "virtio-rng-pci", "bus": "port0"},
    "blk0": {"driver": "virtio-blk-pci", "bus": "port1", "drive": "disk", "serial": "content"},
    "net0": {"driver": "virtio-net-pci", "bus": "port2", "netdev": "net"},
}
CONTENT = 1 << 20
DISK = "/dev/$(basename $(dirname $(grep -l content /sys/block/vd*/serial)))"
ADDRESS = "ip link set eth0 up && ip addr replace 10.0.2.15/24 dev eth0"
LOADS = (
    "head -c 4096 /dev/hwrng",
    f"dd if={DISK} of=/dev/null bs=64k count=8 iflag=direct",
    f"{ADDRESS} && ping -c 5 -i 0.05 -s 1400 10.0.2.2",
)
READY = (
    f"[ $(cat /sys/bus/virtio/devices/*/status | wc -l) -ge {len(DEVICES)} ] && "
    "! grep -qv 0x0000000f /sys/bus/virtio/devices/*/status"
)
THERE = "[ -e /sys/class/net/eth0 ] && grep -q content /sys/block/vd*/serial"
WORK = (
    f"dd if={DISK} bs=64k count={CONTENT >> 16} iflag=direct 2>/dev/null | cmp - /content",
    "[ $(head -c 256 /dev/hwrng | wc -c) -eq 256 ]",
    f"{ADDRESS} && ping -q -c 2 -i 0.1 -W 10 10.0.2.2",
)


@dataclass
class World:
    """The guest, and a shell in it."""

    guest: Guest
    shell: Shell

    def works(self) -> None:
        """Each device is there, ready, and does what it is for."""
        self.shell.wait(READY, PATIENCE)
        self.shell.wait(THERE, PATIENCE)
        for work in WORK:
            self.shell(work)


@contextlib.contextmanager
def healthy_guest(config: Config, port_options: str = "", device_options: str = "") -> Iterator[World]:
    """One guest, working all the time; afterwards its console shows nothing bad.

    PORT_OPTIONS and DEVICE_OPTIONS, each with a comma before it, are added to every port and device.
    """
    with tempfile.TemporaryDirectory(prefix="working-") as name:
        content, disk = Path(name) / "content", Path(name) / "disk"
        content.write_bytes(os.urandom(CONTENT))
        disk.write_bytes(content.read_bytes())
        config.files = {"content": content}
        config.default_devices = False
        for number in range(len(DEVICES)):
            port = f"pcie-root-port,id=port{number},bus=pcie.0,chassis={number},slot={number}{port_options}"
            config.qemu_args += ["-device", port]
        config.qemu_args += ["-netdev", "user,id=net"]
        config.qemu_args += ["-blockdev", f"driver=raw,node-name=disk,file.driver=file,file.filename={disk}"]
        for identity, keys in DEVICES.items():
            others = ",".join(f"{key}={value}" for key, value in keys.items() if key != "driver")
            config.qemu_args += ["-device", f"{keys['driver']},id={identity},{others}{device_options}"]
        Shell.prepare(config)
        with Guest(config) as guest:
            world = World(guest, Shell(guest))
            world.works()
            world.shell("touch /tmp/load")
            for load in LOADS:
                # Where the device is away, a program ends at once.
                world.shell(f"while [ -e /tmp/load ]; do {load}; sleep 0.1; done >/dev/null 2>&1 &")
            yield world
            world.shell("rm /tmp/load; wait")
            world.works()
            world.shell.start("exit")
            ksft.passed(guest)
