#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""A balloon whose host is slow, or fails, and one that is disturbed at its work: the driver in Rust, and C's beside it.

What went into the balloon comes out again, whatever happens in between.

# long rust-split: --kernel release --swap virtio_balloon=rust --timeout 600
# long rust-packed: --kernel release --swap virtio_balloon=rust --timeout 600 --append packed=on
# long c: --kernel release --swap virtio_balloon=c --timeout 600
# long rust-debug: --kernel debug --memory 1024 --swap virtio_balloon=rust --timeout 1200
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator

from guest import ksft, shared_ram
from guest.balloon_guest import DEVICE, MIB, PATIENCE, World, guest_with
from guest.run import Config

LONG = bool(os.environ.get("LONG"))
RUST = "virtio_balloon=rust" in sys.argv
# Longer than any deadline of the driver, in seconds.
STOPPED = 8
# What the host takes, and what it takes of a guest whose memory is a file, which has half a gigabyte.
TAKEN, SMALL = 256 * MIB, 128 * MIB
ROUNDS = 50 if LONG else 3


def is_packed(config: Config) -> bool:
    """Whether the header asks for a packed ring, in the kernel's command line."""
    return "packed=on" in config.append


def all_came_out(world: World) -> None:
    """Nothing is in the balloon, and as many pages came out as went in, ever."""
    world.takes(0)
    inflated, deflated = (world.number("vmstat", f"balloon_{way}flate") for way in ("in", "de"))
    assert inflated == deflated, f"{inflated} pages went in, and {deflated} came out"


@contextlib.contextmanager
def healthy_guest(config: Config) -> Iterator[World]:
    """One guest with a balloon; afterwards all came out of it, and its console shows nothing bad."""
    with guest_with(config, f"packed={'on' if is_packed(config) else 'off'}") as world:
        total = world.total()
        yield world
        all_came_out(world)
        assert world.total() == total, "pages were lost"


def slow_host_is_waited_for(config: Config) -> None:
    """The host does nothing for a while, in the middle of things: nobody gives it up, and all arrives."""
    with healthy_guest(config) as world:
        process = world.guest.machine.process
        for taken in (TAKEN, 0):
            world.wants(taken)
            time.sleep(0.2)
            os.kill(process.pid, signal.SIGSTOP)
            time.sleep(STOPPED)
            os.kill(process.pid, signal.SIGCONT)
            world.has(taken)
        said = world.shell("dmesg | grep 'virtio_balloon virtio' || true")
        assert not said, said


def answer_that_comes_twice_is_no_answer(config: Config) -> None:
    """The device says twice that it gave pages back: nothing is freed for it, and the device is reset."""
    if is_packed(config):
        raise ksft.Skip("a packed ring has no entry for it")
    with ksft.scratch() as directory:
        ram = directory / "ram"
        shared_ram.share(config, ram)
        with healthy_guest(config) as world:
            world.takes(SMALL)
            world.takes(64 * MIB)
            shared_ram.repeat_used(world.guest, ram, 1)
            # The driver looks at it with the next one.
            world.wants(32 * MIB)
            world.shell.wait("dmesg | grep -q 'virtio_balloon.*recovered'", PATIENCE)
            world.has(32 * MIB)


def memory_is_wanted_at_both_ends(config: Config) -> None:
    """The host wants what programs have: it gets the rest, nobody is killed, and it gets that when it is free."""
    with healthy_guest(config) as world:
        for _ in range(ROUNDS):
            available = world.number("meminfo", "MemAvailable:") << 10
            world.fill(available // 2 // MIB * MIB)
            wanted = available - 48 * MIB
            world.wants(wanted)
            world.shell.wait(f"[ $(awk '/^MemAvailable:/ {{ print $2 }}' /proc/meminfo) -lt {48 << 10} ]", PATIENCE)
            assert world.number("vmstat", "oom_kill") == 0, "somebody was killed for memory"
            world.shell("rm /burst/file")
            world.has(wanted)
            world.takes(0)


def sleep_may_come_at_any_time(config: Config) -> None:
    """The machine goes to sleep while the balloon grows or shrinks; afterwards it goes on."""
    with healthy_guest(config) as world:
        world.shell("echo devices >/sys/power/pm_test; echo 0 >/sys/module/suspend/parameters/pm_test_delay")
        for number in range(ROUNDS):
            taken = TAKEN if number % 2 == 0 else 0
            world.wants(taken)
            time.sleep(0.05 * (number % 7))
            world.shell("echo mem >/sys/power/state")
            world.has(taken)


def the_device_may_go_at_any_time(config: Config) -> None:
    """Unplugged while the balloon grows or shrinks, and plugged in again."""
    with guest_with(config, f"packed={'on' if is_packed(config) else 'off'}") as world:
        monitor, total = world.guest.qmp(), world.total()
        for number in range(ROUNDS):
            world.wants(TAKEN if number % 2 == 0 else 32 * MIB)
            time.sleep(0.05 * (number % 7))
            monitor.command("device_del", id="balloon0")
            world.shell.wait("! ls /sys/bus/virtio/devices/* >/dev/null 2>&1", PATIENCE)
            world.holds(0)
            assert world.total() == total, "pages were lost"
            monitor.event("DEVICE_DELETED", PATIENCE)
            monitor.command("device_add", **DEVICE)
            world.shell.wait("[ -e /sys/bus/virtio/drivers/virtio_balloon/virtio* ]", PATIENCE)
        world.takes(TAKEN)
        all_came_out(world)


# C's driver does not recover, and leaves programs nothing.
FOR_RUST = (answer_that_comes_twice_is_no_answer, memory_is_wanted_at_both_ends)

if __name__ == "__main__":
    ksft.run(
        slow_host_is_waited_for,
        *(FOR_RUST if RUST else ()),
        sleep_may_come_at_any_time,
        the_device_may_go_at_any_time,
    )
