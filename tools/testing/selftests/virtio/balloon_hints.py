#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""A guest moves to a file and back, and says what need not be moved: the driver in Rust, and C's beside it.

# long rust: --kernel release --swap virtio_balloon=rust --timeout 600
# long c: --kernel release --swap virtio_balloon=c --timeout 600
# long rust-debug: --kernel debug --memory 1024 --swap virtio_balloon=rust --timeout 1200
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from guest import ksft
from guest.balloon_guest import MIB, PATIENCE, World, guest_with
from guest.run import Config

# What the guest has used and does not any more: not all of it is in blocks of the size that is hinted.
BURST, LEFT_OUT = 256 * MIB, 128 * MIB
# Bytes a second: slow enough for the guest to say something.
BANDWIDTH = 32 * MIB


@contextlib.contextmanager
def moving_guest(config: Config, hints: str) -> Iterator[tuple[World, Path]]:
    """A guest whose balloon takes hints, or not, and a directory for a file; afterwards all is well."""
    config.qemu_args += ["-object", "iothread,id=iothread0"]
    options = f"free-page-hint={hints},iothread=iothread0"
    with ksft.scratch() as directory, guest_with(config, options) as world:
        world.guest.qmp().command("migrate-set-parameters", **{"max-bandwidth": BANDWIDTH})
        yield world, directory / "state"


def keeps_its_memory(world: World) -> None:
    """All memory can be used, and what is in it stays."""
    available = world.number("meminfo", "MemAvailable:") << 10
    count = (available - 48 * MIB) // MIB
    world.shell(f"for _ in $(seq {count}); do cat /burst.mib; done >/burst/all")
    assert int(world.shell("stat -c %s /burst/all")) == count * MIB, "there was not so much memory"
    piece = "dd if=/burst/all bs=1M skip=$at count=1 2>/dev/null"
    world.shell(f"for at in $(seq 0 8 {count - 1}); do {piece} | cmp - /burst.mib || break; done")
    world.shell("rm /burst/all")


def moves(world: World, state: Path) -> int:
    """Move the guest: how many bytes were written for it."""
    before = world.shell("cat /proc/sys/kernel/random/boot_id")
    answer = world.guest.move(state, PATIENCE)
    assert world.shell("cat /proc/sys/kernel/random/boot_id") == before
    return int(answer["ram"]["transferred"])


def free_memory_is_left_out(config: Config) -> None:
    """Who moves with hints moves less; what was free can be used again, and the balloon works."""
    with moving_guest(config, "on") as (world, state):
        world.shell("mkdir /burst && mount -t tmpfs -o size=100% none /burst")
        total = world.number("meminfo", "MemTotal:")
        world.burst(BURST)
        world.shell("yes kept | head -c 2097152 >/burst/kept")
        size = moves(world, state)
        assert world.shell("yes kept | head -c 2097152 | cmp - /burst/kept && echo same") == "same"
        print(f"# {size >> 20} MiB with hints", flush=True)
        assert size < BURST, f"{size} bytes were moved"
        if world.rust:
            hinted = world.statistics()["hinted"] << 12
            assert hinted >= LEFT_OUT, f"{hinted} bytes were hinted"
        keeps_its_memory(world)
        assert world.number("meminfo", "MemTotal:") == total, "pages were lost"
        world.takes(128 * MIB)
        world.takes(0)


def without_hints_all_is_moved(config: Config) -> None:
    """The measure: without hints what was used and is free is moved, too."""
    with moving_guest(config, "off") as (world, state):
        world.burst(BURST)
        size = moves(world, state)
        print(f"# {size >> 20} MiB without hints", flush=True)
        assert size > BURST, f"only {size} bytes were moved"


def who_wants_memory_gets_it(config: Config) -> None:
    """While the guest moves, and has hinted nearly all that is free, programs get memory; nobody is killed."""
    with moving_guest(config, "on") as (world, state):
        monitor = world.guest.qmp()
        monitor.command("migrate-set-parameters", **{"max-bandwidth": MIB})
        world.burst(BURST)
        free = world.number("meminfo", "MemFree:")
        monitor.command("migrate", uri=f"file:{state}")
        world.shell.wait(f"[ $(awk '/^MemFree:/ {{ print $2 }}' /proc/meminfo) -lt {free // 4} ]", PATIENCE)
        world.burst(BURST)
        assert world.number("vmstat", "oom_kill") == 0, "somebody was killed for memory"
        # It does not move: all that was hinted is free again.
        monitor.command("migrate_cancel")
        world.shell.wait(f"[ $(awk '/^MemFree:/ {{ print $2 }}' /proc/meminfo) -gt {free * 3 // 4} ]", PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while (status := monitor.command("query-migrate")["status"]) != "cancelled":
            assert time.monotonic() < deadline, f"the migration is {status}"
            time.sleep(0.2)


def it_forgets_over_sleep(config: Config) -> None:
    """A machine that sleeps while it moves gives all back that it has hinted, and hints anew when told to."""
    with moving_guest(config, "on") as (world, state):
        monitor = world.guest.qmp()
        monitor.command("migrate-set-parameters", **{"max-bandwidth": MIB})
        free = world.number("meminfo", "MemFree:")
        monitor.command("migrate", uri=f"file:{state}")
        world.shell.wait(f"[ $(awk '/^MemFree:/ {{ print $2 }}' /proc/meminfo) -lt {free // 2} ]", PATIENCE)
        world.shell("echo devices >/sys/power/pm_test; echo 0 >/sys/module/suspend/parameters/pm_test_delay")
        world.shell("echo mem >/sys/power/state; echo none >/sys/power/pm_test")
        world.shell("rmmod virtio_balloon && modprobe virtio_balloon")
        assert world.number("meminfo", "MemFree:") > free * 3 // 4, "hinted memory is not free"
        monitor.command("migrate_cancel")
        world.takes(64 * MIB)
        world.takes(0)


if __name__ == "__main__":
    ksft.run(free_memory_is_left_out, without_hints_all_is_moved, who_wants_memory_gets_it, it_forgets_over_sleep)
