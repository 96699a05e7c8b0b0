#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""A machine that sleeps with functions that keep their state (No_Soft_Reset): nobody resets them, and they go on.

# guest *: --accel tcg-single
# guest release: --kernel release --timeout 900
# long debug: --kernel debug --memory 1024 --timeout 1800
"""

import contextlib
import time
from collections.abc import Iterator

from guest import ksft
from guest.run import Config
from guest.working_guest import LONG, World, healthy_guest

LEVELS = ("devices", "platform", "core")
ROUNDS = 10 if LONG else 2
# Seconds until a machine sleeps: on a busy host.
PATIENCE = 120
TRACE = "/sys/kernel/tracing"


@contextlib.contextmanager
def healthy_sleeper(config: Config) -> Iterator[World]:
    """The guest, with resets traced."""
    # After a suspend to RAM, QEMU's platform does not power off, and the kernel warns of that.
    config.end = "reboot"
    with healthy_guest(config, device_options=",x-pcie-pm-no-soft-reset=on") as world:
        world.shell("echo 0 >/sys/module/suspend/parameters/pm_test_delay")
        world.shell(f"[ -e {TRACE}/trace ] || mount -t tracefs tracefs {TRACE}")
        world.shell(f"echo 1 >{TRACE}/events/virtio/virtio_reset/enable")
        yield world


def resets(world: World) -> int:
    """How often a device was reset so far."""
    return int(world.shell(f"grep -c virtio_reset: {TRACE}/trace || true"))


def resets_are_seen(world: World) -> None:
    """What the other cases count is there to be counted."""
    before = resets(world)
    world.shell("cd /sys/bus/virtio/drivers/virtio_rng; d=$(echo virtio*); echo $d >unbind; echo $d >bind; cd /")
    assert resets(world) > before
    world.works()


def levels_of_suspend(world: World) -> None:
    """Down to each level, and up again."""
    before = resets(world)
    for level in LEVELS:
        world.shell(f"echo {level} >/sys/power/pm_test")
        for _ in range(ROUNDS):
            world.shell("echo mem >/sys/power/state")
            world.works()
    world.shell("echo none >/sys/power/pm_test")
    assert resets(world) == before, "a device was reset"


def suspend_to_ram(world: World) -> None:
    """The machine is off but for its memory, and for its functions."""
    before = resets(world)
    # Once: the second time, QEMU 10.0 does not say that the machine sleeps, without the property as well.
    monitor = world.guest.qmp()
    world.shell.start("echo mem >/sys/power/state")
    monitor.event("SUSPEND", PATIENCE)
    time.sleep(0.5)
    monitor.command("system_wakeup")
    printed, status = world.shell.result()
    assert status == 0, printed
    world.works()
    assert resets(world) == before, "a device was reset"


if __name__ == "__main__":
    ksft.run_in_one(healthy_sleeper, resets_are_seen, levels_of_suspend, suspend_to_ram)
