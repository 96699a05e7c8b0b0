#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""A balloon, and somebody at the other end who wants memory: the driver in Rust, and C's beside it.

What the host thinks that the guest has is compared with what the guest says.

# guest rust-split: --kernel release --swap virtio_balloon=rust --timeout 300
# guest rust-packed: --kernel release --swap virtio_balloon=rust --timeout 300 --append packed=on
# guest c: --kernel release --swap virtio_balloon=c --timeout 300
# guest rust-debug: --kernel debug --memory 1024 --swap virtio_balloon=rust --timeout 900 --append page_poison=1
"""

import contextlib
import os
import sys
import time
from collections.abc import Iterator

from guest import ksft
from guest.balloon_guest import DEVICE, MASTER, MIB, NO_MASTER, PAGE, PATIENCE, World, guest_with
from guest.run import Config

LONG = bool(os.environ.get("LONG"))
# The debug kernel takes ten times as long: in `make check` it is spared what shows nothing to it.
BRIEF = "debug" in sys.argv and not LONG
# C's driver has no reserve, and no deadline.
RUST = "virtio_balloon=rust" in sys.argv
# What the driver in Rust does not give away of so much memory, and what others may take of it meanwhile.
RESERVE = 16 * MIB
# Seconds that the driver waits for a device that says nothing, and what everything else takes.
DEADLINE, MARGIN = 5, 60
# The feature of telling the device what free pages hold, where QEMU has that, and what a kernel says that poisons them.
PAGE_POISON, POISON_VAL, POISON = 4, 0x2000 + 12, "0xaaaaaaaa"
# How often the driver goes while it works.
ROUNDS = 50 if LONG else 4


@contextlib.contextmanager
def healthy_guest(config: Config) -> Iterator[World]:
    """One guest with a balloon; afterwards its console shows nothing bad."""
    packed = "on" if "packed=on" in config.append else "off"
    with guest_with(config, f"packed={packed}") as world:
        yield world


def both_sides_say_the_same(world: World) -> None:
    """The balloon grows and shrinks; the guest counts what is in it as gone."""
    total = world.total()
    for taken in (128, 0, 256, 192, 312, 0):
        world.takes(taken * MIB)
        gone = total - world.total()
        assert gone == taken * MIB, f"with {taken} MiB, {gone} bytes are gone"
        if world.rust:
            statistics = world.statistics()
            assert statistics["held"] == statistics["target"] == gone // PAGE, statistics
            assert statistics["rising"] == statistics["falling"] == 0, statistics


def more_than_there_is_is_all(world: World) -> None:
    """A guest that is to have more than it has gets all."""
    world.takes(128 * MIB)
    world.wants(-8 * world.memory)
    world.has(0)


def nothing_is_not_possible(world: World) -> None:
    """A guest that is to have nothing keeps what it needs, works, and gets all back."""
    world.wants(world.memory - 1)
    # Until it does not give more any more.
    before, deadline = world.memory, time.monotonic() + PATIENCE
    while (now := world.actual()) < before or now == world.memory:
        before = now
        assert time.monotonic() < deadline, f"the guest still gives, and has {now}"
        time.sleep(2)
    available = world.number("meminfo", "MemAvailable:") << 10
    assert RESERVE // 2 <= available <= 4 * RESERVE, f"{available} bytes are available"
    assert world.number("vmstat", "oom_kill") == 0, "somebody was killed for memory"
    world.takes(0)


def statistics_are_those_of_the_guest(world: World) -> None:
    """The host asks for statistics again and again."""
    path = "/machine/peripheral/balloon0"
    monitor = world.guest.qmp()
    monitor.command("qom-set", path=path, property="guest-stats-polling-interval", value=1)
    updates = set()
    deadline = time.monotonic() + PATIENCE
    while len(updates) < 4:
        assert time.monotonic() < deadline, f"statistics came only {len(updates)} times"
        time.sleep(0.5)
        answer = monitor.command("qom-get", path=path, property="guest-stats")
        updates.add(answer["last-update"])
    stats = answer["stats"]
    assert stats["stat-total-memory"] == world.total(), stats
    assert 0 < stats["stat-free-memory"] <= stats["stat-total-memory"], stats
    assert 0 < stats["stat-available-memory"] <= stats["stat-total-memory"], stats
    assert stats["stat-minor-faults"] > 0, stats
    missing = {name for name, value in stats.items() if value == (1 << 64) - 1}
    # Huge pages are not counted by every kernel.
    assert missing <= {"stat-htlb-pgalloc", "stat-htlb-pgfail"}, missing
    monitor.command("qom-set", path=path, property="guest-stats-polling-interval", value=0)


def the_device_knows_what_is_in_free_pages(world: World) -> None:
    """A kernel that fills free pages says with what, and another one says nothing."""
    poisons = "page_poison=1" in world.shell("cat /proc/cmdline")
    features = world.shell("cat /sys/bus/virtio/devices/virtio*/features")
    assert features[PAGE_POISON] == ("1" if poisons else "0"), features
    if poisons:
        resource = "$(readlink -f /sys/bus/virtio/devices/virtio*)/../resource"
        bar = int(world.shell(f"sed -n 5p {resource}").split()[0], 16)
        line = f"xp /1wx {bar + POISON_VAL:#x}"
        answer = world.guest.qmp().command("human-monitor-command", **{"command-line": line})
        assert str(answer).split()[-1] == POISON, answer


def the_system_stays_awake_for_it(world: World) -> None:
    """If the user wants that, a device that wants something is a wake-up source, as long as that takes."""
    power = "/sys/bus/virtio/devices/virtio*/power"
    world.shell(f"for file in {power}/wakeup; do echo enabled >$file; done")
    world.takes(64 * MIB)
    assert int(world.shell(f"cat {power}/wakeup_active_count")) > 0, "it did not keep the system awake"
    world.takes(0)
    world.shell.wait(f"grep -qx 0 {power}/wakeup_active", PATIENCE)
    world.shell(f"for file in {power}/wakeup; do echo disabled >$file; done")


def pages_are_moved(world: World) -> None:
    """Compaction moves pages of the balloon, and none gets lost."""
    world.takes(320 * MIB)
    world.takes(192 * MIB)
    before = world.number("vmstat", "balloon_migrate")
    deadline = time.monotonic() + PATIENCE
    while world.number("vmstat", "balloon_migrate") == before:
        assert time.monotonic() < deadline, "no page was moved"
        world.shell("echo 1 >/proc/sys/vm/compact_memory")
    world.has(192 * MIB)
    if world.rust:
        assert world.statistics()["moved"] > 0, "no page was moved by the driver"
    world.takes(0)


def the_driver_goes_while_it_works(world: World) -> None:
    """Unloaded at any time it leaves nothing behind; loaded again, it goes on."""
    total = world.total()
    for number in range(ROUNDS):
        world.wants((320 if number % 2 == 0 else 0) * MIB)
        time.sleep(0.05 * (number % 7))
        world.shell("rmmod virtio_balloon")
        world.holds(0)
        assert world.total() == total, "pages were lost"
        world.shell("modprobe virtio_balloon")
    world.takes(256 * MIB)
    world.takes(0)


def a_silent_device_costs_a_deadline(world: World) -> None:
    """The driver goes while the device says nothing, and takes all back that it had."""
    total = world.total()
    world.takes(128 * MIB)
    # A device that may not look at memory does not find what it is told.
    world.set_command(NO_MASTER)
    begin = time.monotonic()
    world.shell("rmmod virtio_balloon")
    took = time.monotonic() - begin
    assert DEADLINE <= took < DEADLINE + MARGIN, f"the driver was gone after {took} seconds"
    world.shell("dmesg | grep 'the device does not give .* pages back'")
    world.holds(0)
    assert world.total() == total, "pages were lost"
    world.set_command(MASTER)
    world.shell("modprobe virtio_balloon")
    world.takes(256 * MIB)
    world.takes(0)


def the_device_goes_while_it_works(world: World) -> None:
    """Unplugged while it takes memory, and plugged in again."""
    monitor = world.guest.qmp()
    total = world.total()
    world.wants(320 * MIB)
    time.sleep(0.1)
    monitor.command("device_del", id="balloon0")
    world.shell.wait("! ls /sys/bus/virtio/devices/* >/dev/null 2>&1", PATIENCE)
    world.holds(0)
    assert world.total() == total, "pages were lost"
    deadline = time.monotonic() + PATIENCE
    while True:
        # Until QEMU has let go of it, too.
        try:
            monitor.command("device_add", **DEVICE)
        except RuntimeError:
            assert time.monotonic() < deadline, "the device cannot be plugged in again"
            time.sleep(0.2)
        else:
            break
    world.shell.wait("[ -e /sys/bus/virtio/drivers/virtio_balloon/virtio* ]", PATIENCE)
    world.takes(256 * MIB)
    world.takes(0)


def it_is_as_before_after_sleep(world: World) -> None:
    """Before the machine sleeps the guest takes all back, and after it the host has what it had."""
    world.takes(256 * MIB)
    world.shell("echo devices >/sys/power/pm_test; echo 0 >/sys/module/suspend/parameters/pm_test_delay")
    for _ in range(2):
        before = world.number("vmstat", "balloon_deflate")
        world.shell("echo mem >/sys/power/state")
        gone = world.number("vmstat", "balloon_deflate") - before
        assert gone >= 256 * MIB // PAGE, f"{gone} pages were given back"
        world.has(256 * MIB)
    world.shell("echo none >/sys/power/pm_test")
    world.takes(0)


if __name__ == "__main__":
    ksft.run_in_one(
        healthy_guest,
        both_sides_say_the_same,
        more_than_there_is_is_all,
        *((nothing_is_not_possible,) if RUST and not BRIEF else ()),
        statistics_are_those_of_the_guest,
        the_device_knows_what_is_in_free_pages,
        the_system_stays_awake_for_it,
        *(() if BRIEF else (pages_are_moved,)),
        the_driver_goes_while_it_works,
        *((a_silent_device_costs_a_deadline,) if RUST else ()),
        the_device_goes_while_it_works,
        it_is_as_before_after_sleep,
    )
