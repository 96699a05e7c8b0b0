#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""A balloon that gives memory back when it runs out: the driver in Rust, and C's beside it.

# guest rust: --kernel release --swap virtio_balloon=rust --timeout 300
# guest c: --kernel release --swap virtio_balloon=c --timeout 300
# long rust-debug: --kernel debug --memory 1024 --swap virtio_balloon=rust --timeout 900
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from guest import ksft
from guest.ksft import Shell
from guest.run import Config, Guest

MIB = 1 << 20
# Seconds until something has happened: the debug kernel under TCG, on a busy host.
PATIENCE = 120
TAKEN = 320 * MIB
# How much more somebody wants than there is.
MORE = 64 * MIB


@dataclass
class World:
    """A guest with a shell, and one balloon."""

    guest: Guest
    shell: Shell
    # Bytes that the guest has without the balloon.
    memory: int

    def actual(self) -> int:
        """Bytes that the host thinks that the guest has."""
        return int(self.guest.qmp().command("query-balloon")["actual"])

    def takes(self, taken: int) -> None:
        """Have the host have TAKEN bytes."""
        left = self.memory - taken
        self.guest.qmp().command("balloon", value=left)
        self.becomes(lambda actual: actual == left)

    def becomes(self, condition: Callable[[int], bool]) -> int:
        """Wait until what the guest has meets CONDITION; what it is."""
        deadline = time.monotonic() + PATIENCE
        while not condition(actual := self.actual()):
            assert time.monotonic() < deadline, f"the guest has {actual}"
            time.sleep(0.1)
        return actual


@contextlib.contextmanager
def healthy_guest(config: Config) -> Iterator[World]:
    """One guest with a balloon that helps; afterwards its console shows nothing bad."""
    config.default_devices = False
    config.devices = ["balloon,id=balloon0,deflate-on-oom=on"]
    Shell.prepare(config)
    with Guest(config) as guest:
        shell = Shell(guest)
        shell.wait("[ -e /sys/module/virtio_balloon/taint ]", PATIENCE)
        shell(f"mkdir -p /hog && mount -t tmpfs -o size={config.memory}m none /hog")
        yield World(guest, shell, int(config.memory) * MIB)
        shell.start("exit")
        ksft.passed(guest)


def nobody_is_killed(world: World) -> None:
    """More is written to memory than there is beside the balloon: the balloon shrinks, and the host hears of it."""
    world.takes(TAKEN)
    available = int(world.shell("awk '/^MemAvailable/ { print $2 }' /proc/meminfo")) << 10
    hog = (available + MORE) // MIB
    world.shell(f"dd if=/dev/zero of=/hog/file bs=1M count={hog} 2>/dev/null")
    assert world.shell("awk '$1 == \"oom_kill\" { print $2 }' /proc/vmstat") == "0", "somebody was killed"
    assert world.shell("stat -c %s /hog/file") == str(hog * MIB)
    actual = world.becomes(lambda actual: actual > world.memory - TAKEN + MORE // 2)
    assert actual < world.memory, "the balloon gave all back"


def the_host_may_ask_again(world: World) -> None:
    """What came back is not taken again before the host says so; then it is."""
    world.shell("rm /hog/file")
    actual = world.actual()
    time.sleep(3)
    assert world.actual() == actual, "the guest gave memory that nobody asked for"
    world.takes(TAKEN - MIB)
    world.takes(0)


if __name__ == "__main__":
    ksft.run_in_one(healthy_guest, nobody_is_killed, the_host_may_ask_again)
