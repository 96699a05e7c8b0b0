#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""A machine that sleeps while its devices work: entropy, block and network drivers.

# guest *: --accel tcg-single
# guest release: --kernel release --timeout 600
# long c-net: --kernel release --timeout 600 --swap virtio_net=c
# guest debug: --kernel debug --memory 1024 --timeout 900
"""

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from guest import ksft
from guest.machine import Qmp
from guest.run import Config
from guest.working_guest import BRIEF, LONG, World, healthy_guest

# Each does what those before it do.
LEVELS = ("devices", "core") if BRIEF else ("freezer", "devices", "platform", "processors", "core")
# Suspend to idle has no more.
IDLE_LEVELS = ("platform",) if BRIEF else ("freezer", "devices", "platform")
ROUNDS = 50 if LONG else 1
# Where the ports of the platform's power management are said to be, in the configuration of its bridge: SeaBIOS 1.16
# forgets them when the machine wakes.  Without them there is no second sleep, and no power-off.
BRIDGE = "/sys/bus/pci/devices/0000:00:1f.0/config"
PORTS = "bs=1 count=5 conv=notrunc 2>/dev/null"
IMAGES = 5 if LONG else 1
# Seconds until a machine sleeps: on a busy host.
PATIENCE = 120
SWAP_SIZE = 512 << 20
SWAP = "$(basename $(dirname $(grep -l swap /sys/block/vd*/serial)))"


@contextlib.contextmanager
def healthy_sleeper(config: Config) -> Iterator[World]:
    """The guest, with one more disk, where its memory has room."""
    with tempfile.TemporaryDirectory(prefix="pm-") as name:
        swap = Path(name) / "swap"
        with swap.open("wb") as stream:
            stream.truncate(SWAP_SIZE)
        config.devices = [f"blk,file={swap},id=swap0,serial=swap"]
        with healthy_guest(config) as world:
            # Five seconds for each test would be the kernel's.
            for kind in ("suspend", "hibernate"):
                world.shell(f"echo 0 >/sys/module/{kind}/parameters/pm_test_delay")
            yield world


def down_to(world: World, levels: tuple[str, ...], state: str, rounds: int) -> None:
    """Go down to each of LEVELS on the way to STATE, and up again, ROUNDS times."""
    for level in levels:
        world.shell(f"echo {level} >/sys/power/pm_test")
        for _ in range(rounds):
            world.shell(f"echo {state} >/sys/power/state")
        world.works()
    world.shell("echo none >/sys/power/pm_test")


def each(levels: tuple[str, ...]) -> int:
    """How often each of LEVELS: ROUNDS is for all of them."""
    return -(-ROUNDS // len(levels))


def suspend_test_levels(world: World) -> None:
    """Suspend to RAM, each level."""
    down_to(world, LEVELS, "mem", each(LEVELS))


def idle_test_levels(world: World) -> None:
    """Suspend to idle, each level."""
    down_to(world, IDLE_LEVELS, "freeze", each(IDLE_LEVELS))


def hibernation_test_levels(world: World) -> None:
    """Hibernation, each level."""
    down_to(world, LEVELS, "disk", IMAGES)


def suspend_to_idle(world: World) -> None:
    """The machine sleeps, and the serial port wakes it."""
    world.shell("echo enabled >/sys/class/tty/ttyS1/power/wakeup")
    for _ in range(ROUNDS):
        before = succeeded(world)
        world.shell.start("echo freeze >/sys/power/state")
        deadline = time.monotonic() + PATIENCE
        seen = world.guest.console.stat().st_size
        while b"Suspending console" not in world.guest.console.read_bytes()[seen:]:
            assert time.monotonic() < deadline, "the machine did not go to sleep"
            time.sleep(0.2)
        time.sleep(2)
        # A blank before the next command means nothing to the shell.
        world.guest.machine.send(b" ")
        printed, status = world.shell.result()
        assert status == 0, printed
        assert succeeded(world) == before + 1, "the machine did not sleep"
        world.works()


def succeeded(world: World) -> int:
    """How often the kernel says that it slept."""
    return int(world.shell("cat /sys/power/suspend_stats/success"))


def suspend_to_ram(world: World) -> None:
    """The machine is off but for its memory, and QEMU wakes it."""
    monitor = world.guest.qmp()
    world.shell(f"dd if={BRIDGE} of=/tmp/ports skip=64 {PORTS}")
    for _ in range(ROUNDS):
        seen = world.guest.console.stat().st_size
        world.shell.start("echo mem >/sys/power/state")
        assert sleeps(world, monitor, seen), "the machine went on at once"
        time.sleep(0.5)
        monitor.command("system_wakeup")
        printed, status = world.shell.result()
        assert status == 0, printed
        world.shell(f"dd if=/tmp/ports of={BRIDGE} seek=64 {PORTS}")
        world.works()


def sleeps(world: World, monitor: Qmp, seen: int) -> bool:
    """Whether the machine sleeps now; if its platform goes on at once, the console says so, after SEEN bytes."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if monitor.command("query-status")["status"] == "suspended":
            return True
        if b"PM: suspend exit" in world.guest.console.read_bytes()[seen:]:
            return False
        time.sleep(0.2)
    raise AssertionError("the machine did not go to sleep")


def hibernation_image(world: World) -> None:
    """The memory is written to a disk, read from it again, and gone on with."""
    world.shell(f"mkswap /dev/{SWAP} && swapon /dev/{SWAP}")
    world.shell(f"cat /sys/block/{SWAP}/dev >/sys/power/resume; echo test_resume >/sys/power/disk")
    for _ in range(IMAGES):
        world.shell("echo 0 >/sys/power/image_size; echo disk >/sys/power/state")
        world.works()
    world.shell(f"swapoff /dev/{SWAP}")


if __name__ == "__main__":
    ksft.run_in_one(
        healthy_sleeper,
        suspend_test_levels,
        idle_test_levels,
        hibernation_test_levels,
        hibernation_image,
        suspend_to_idle,
        suspend_to_ram,
    )
