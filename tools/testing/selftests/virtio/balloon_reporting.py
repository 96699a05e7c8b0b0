#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Pages that are free in the guest go back to the host: the driver in Rust, and C's beside it.

What QEMU has of the host's memory is looked at, after a burst in which the guest used memory.

# long rust-split: --kernel release --swap virtio_balloon=rust --timeout 600
# long rust-packed: --kernel release --swap virtio_balloon=rust --timeout 600 --append packed=on
# long rust-iommu: --kernel release --swap virtio_balloon=rust --timeout 600 --append intel_iommu=on
# long c: --kernel release --swap virtio_balloon=c --timeout 600
# long rust-debug: --kernel debug --memory 1024 --swap virtio_balloon=rust --timeout 1200
"""

import contextlib
import os
import sys
import time
from collections.abc import Iterator

from guest import ksft
from guest.balloon_guest import MASTER, MIB, NO_MASTER, PATIENCE, World, guest_with
from guest.run import Config

LONG = bool(os.environ.get("LONG"))
# C's driver has no deadline, and shows nothing.
RUST = "virtio_balloon=rust" in sys.argv
# The feature of a device that is behind an IOMMU, which C's driver refuses.
ACCESS_PLATFORM = 33
# What the guest uses for a while, and how much less of it the host has at the end.
BURST, GONE = 256 * MIB, 160 * MIB
# Seconds that the driver waits for a device that says nothing, and what everything else takes.
DEADLINE, MARGIN = 5, 60
# How often the driver goes while it works.
ROUNDS = 20 if LONG else 3


@contextlib.contextmanager
def healthy_guest(config: Config) -> Iterator[World]:
    """One guest whose balloon takes reports; afterwards its console shows nothing bad."""
    packed = "on" if "packed=on" in config.append else "off"
    with guest_with(config, f"free-page-reporting=on,packed={packed}") as world:
        if "intel_iommu=on" in config.append and world.rust:
            features = world.shell("cat /sys/bus/virtio/devices/virtio*/features")
            assert features[ACCESS_PLATFORM] == "1", features
        yield world


def burst(world: World) -> int:
    """Use memory in the guest, and free it: how much the host had for it at most."""
    world.fill(BURST)
    most = world.resident()
    assert most > BURST, f"the host has {most} bytes for a guest that uses {BURST}"
    world.shell("rm /burst/file")
    return most


def shrinks(world: World, most: int) -> None:
    """Wait until the host has much less than MOST bytes for the guest."""
    deadline = time.monotonic() + PATIENCE
    while (now := world.resident()) > most - GONE:
        assert time.monotonic() < deadline, f"the host still has {now} bytes of {most}"
        time.sleep(0.5)


def memory_goes_back_after_a_burst(world: World) -> None:
    """What was used and is free goes back to the host, every time."""
    for _ in range(2):
        shrinks(world, burst(world))
    if world.rust:
        reported = world.statistics()["reported"] << 12
        assert reported > GONE, f"{reported} bytes were reported"


def memory_that_comes_back_is_whole(world: World) -> None:
    """Memory that the host had taken is used again, while other memory goes: nothing in use is lost."""
    shrinks(world, burst(world))
    world.shell(
        "for at in 0 1 2 3 4 5 6 7; do for _ in $(seq 12); do cat /burst.mib; done | tr u $at >/burst/$at; done"
    )
    world.shell("md5sum /burst/[0246] >/tmp/sums")
    world.shell("rm /burst/[1357]")
    # Long enough for what was freed in between to go.
    time.sleep(8)
    world.shell("md5sum /burst/? | cmp - /tmp/sums && rm /burst/?")


def it_goes_on_after_sleep(world: World) -> None:
    """Nothing is told while the machine sleeps; after it all is as before."""
    world.shell("echo devices >/sys/power/pm_test; echo 0 >/sys/module/suspend/parameters/pm_test_delay")
    for _ in range(2):
        most = burst(world)
        world.shell("echo mem >/sys/power/state")
        shrinks(world, most)
    world.shell("echo none >/sys/power/pm_test")


def the_driver_goes_while_it_tells(world: World) -> None:
    """Unloaded while it tells of pages it leaves nothing behind; loaded again, it goes on."""
    for number in range(ROUNDS):
        world.burst(BURST)
        # Reports begin two seconds after memory is freed.
        time.sleep(1.8 + 0.1 * (number % 6))
        world.shell("rmmod virtio_balloon")
        world.shell("modprobe virtio_balloon")
    shrinks(world, burst(world))


def a_silent_device_costs_a_deadline(world: World) -> None:
    """A device that takes no report is reset for the pages, which the guest uses on; later it takes them."""
    before = world.number("meminfo", "MemTotal:")
    world.burst(BURST)
    # A device that may not look at memory does not find what it is told.
    world.set_command(NO_MASTER)
    world.shell.wait("dmesg | grep -q 'the device does not take free pages: reset'", DEADLINE + MARGIN)
    world.set_command(MASTER)
    world.shell.wait("dmesg | grep -q 'virtio_balloon.*recovered'", PATIENCE)
    # All memory is there.
    world.burst(BURST)
    assert world.number("meminfo", "MemTotal:") == before, "pages were lost"
    shrinks(world, burst(world))


if __name__ == "__main__":
    ksft.run_in_one(
        healthy_guest,
        memory_goes_back_after_a_burst,
        memory_that_comes_back_is_whole,
        it_goes_on_after_sleep,
        the_driver_goes_while_it_tells,
        *((a_silent_device_costs_a_deadline,) if RUST else ()),
    )
