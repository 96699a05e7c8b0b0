#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""What happens to a disk while programs write to it, and whether it then has what they were told it has.

blk_load.py writes, reads, and compares all the time.  Each case is a number of rounds of one thing that happens.

Suspend to RAM is in pm.py: a guest with its root on a disk, NVMe or virtio, does not survive it here, nor with C.

# guest *: --accel tcg-single --timeout 900
# guest split: --kernel release --root full
# long packed: --kernel release --root full --append packed=on
# long direct: --kernel release --root full --append indirect_desc=off --append num-queues=2
# long debug-split: --kernel debug --root full --memory 1024 --timeout 1800
# long debug-packed: --kernel debug --root full --memory 1024 --timeout 1800 --append packed=on
# long c: --kernel release --root full --swap virtio_blk=c
"""

import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from guest import ksft
from guest.blk_load import Load
from guest.ksft import Shell
from guest.run import Config, Guest
from guest.working_guest import LONG

# `make check-long` has six guests: more than a hundred rounds of each thing.
ROUNDS = 20 if LONG else 2
SIZE = 8 << 20
PATIENCE = 120
SERIAL = "life"
DRIVER = "/sys/bus/virtio/drivers/virtio_blk"
# Options of the device that the command line of the kernel, which does not know them, brings here.
OPTIONS: dict[str, dict[str, bool | int]] = {
    "packed=on": {"packed": True},
    "indirect_desc=off": {"indirect_desc": False},
    "num-queues=2": {"num-queues": 2},
}


@dataclass
class World:
    """The guest, a shell in it, the properties of its disk, and what writes to it."""

    guest: Guest
    shell: Shell
    disk: dict[str, str | bool | int]
    load: Load

    def device(self) -> str:
        """The name of the disk's virtio device."""
        return self.shell(f"basename $(readlink -f $(dirname $(grep -lx {SERIAL} /sys/block/vd*/serial))/device)")


@contextlib.contextmanager
def healthy_guest(config: Config) -> Iterator[World]:
    """One guest whose disk is written to all the time; afterwards its console shows nothing bad."""
    with tempfile.TemporaryDirectory(prefix="life-") as name:
        path = Path(name) / "disk"
        with path.open("wb") as stream:
            stream.truncate(SIZE)
        config.default_devices = False
        config.end = "reboot"
        Load.prepare(config)
        disk: dict[str, str | bool | int] = {
            "driver": "virtio-blk-pci",
            "id": "life",
            "bus": "port0",
            "drive": "disk",
            "serial": SERIAL,
        }
        for option, properties in OPTIONS.items():
            if option in config.append:
                disk |= properties
        # The speed: links of QEMU 10.0 that are faster say after a reset that they are not up.
        config.qemu_args += ["-device", "pcie-root-port,id=port0,bus=pcie.0,chassis=1,slot=1,x-speed=2_5"]
        config.qemu_args += ["-blockdev", f"driver=raw,node-name=disk,file.driver=file,file.filename={path}"]
        config.qemu_args += ["-device", json.dumps(disk)]
        Shell.prepare(config)
        with Guest(config) as guest:
            shell = Shell(guest)
            world = World(guest, shell, disk, Load(shell, SERIAL, PATIENCE))
            world.shell("echo 0 >/sys/module/suspend/parameters/pm_test_delay")
            world.load.start()
            yield world
            world.load.end()
            world.shell.start("exit")
            ksft.passed(guest)


def function_reset(world: World) -> None:
    """The function is reset, which no program hears of."""
    before = world.load.errors()
    for _ in range(ROUNDS):
        world.shell(f"echo 1 >/sys/bus/virtio/devices/{world.device()}/../reset")
        world.load.works()
    assert world.load.errors() == before, "a request failed"


def suspended_to_level(world: World) -> None:
    """Devices are suspended and resumed, which no program hears of."""
    before = world.load.errors()
    world.shell("echo devices >/sys/power/pm_test")
    for _ in range(ROUNDS):
        world.shell("echo mem >/sys/power/state")
        world.load.works()
    world.shell("echo none >/sys/power/pm_test")
    assert world.load.errors() == before, "a request failed"


def driver_unbound_and_bound(world: World) -> None:
    """The driver is taken from the device, and given back."""
    for _ in range(ROUNDS):
        device = world.device()
        world.shell(f"echo {device} >{DRIVER}/unbind && echo {device} >{DRIVER}/bind")
        world.load.works()


def driver_unloaded_and_loaded(world: World) -> None:
    """The driver is unloaded as soon as nobody has the disk open, which it is not before, and loaded again."""
    for _ in range(ROUNDS):
        disk = f"/dev/$(basename $(dirname $(grep -lx {SERIAL} /sys/block/vd*/serial)))"
        # Opened by the shell itself: it is open when the command has ended.
        world.shell(f"exec 3<{disk}; sleep 1000 <&3 & echo $! >/tmp/user; exec 3<&-")
        world.load.hold()
        world.shell("! rmmod virtio_blk 2>/dev/null")
        world.shell("kill $(cat /tmp/user)")
        # udev may still look at it.
        world.shell.wait("{ rmmod virtio_blk 2>/dev/null; [ ! -e /sys/module/virtio_blk ]; }", PATIENCE)
        world.shell("modprobe virtio_blk")
        world.load.release()
        world.load.works()


def transport_unloaded_and_loaded(world: World) -> None:
    """The transport is unloaded, below a driver that is in use, and loaded again."""
    for _ in range(ROUNDS):
        world.shell("rmmod virtio_pci && modprobe virtio_pci")
        world.load.works()


def unplugged_and_plugged(world: World) -> None:
    """The device is taken away, and given back."""
    monitor = world.guest.qmp()
    for _ in range(ROUNDS):
        monitor.command("device_del", id="life")
        while monitor.event("DEVICE_DELETED", PATIENCE)["data"].get("device") != "life":
            # A device without a name has an event of its own, by its path alone.
            pass
        monitor.command("device_add", **world.disk)
        world.load.works()


if __name__ == "__main__":
    # C loses requests to a reset of the function, and waits for them for ever.
    ksft.run_in_one(
        healthy_guest,
        *(() if "virtio_blk=c" in sys.argv else (function_reset,)),
        suspended_to_level,
        driver_unbound_and_bound,
        driver_unloaded_and_loaded,
        transport_unloaded_and_loaded,
        unplugged_and_plugged,
    )
