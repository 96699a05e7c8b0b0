#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""A disk with another number of queues than before: the machine hibernates, and goes on in one that has fewer.

Only with our driver: C's goes on with queues that are not there.

# guest *: --smp 4 --timeout 600
# guest release: --kernel release
# long packed: --kernel release --qemu "-global virtio-blk-pci.packed=on"
# long debug: --kernel debug --memory 1024 --timeout 1800
"""

import contextlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from guest import ksft
from guest.ksft import Shell
from guest.run import Config, Guest

# Seconds for the debug kernel under TCG, on a busy host.
PATIENCE = 240
QUEUES, CPUS = 4, 4
MIB = 1 << 20
# Requests that a queue has room for.
LENGTH = 16
# What each processor writes, a MiB at a place of its own: programs that do it, and blocks of each.
PARTS, BLOCKS = 16, 16
RESUME = ["resume=/dev/nvme0n1", "resumewait"]


@dataclass
class World:
    """A machine that goes on in one guest after the other."""

    config: Config
    stack: contextlib.ExitStack
    shell: Shell = field(init=False)

    def start(self, queues: int) -> Guest:
        """Another guest, whose disk has so many queues."""
        config = replace(self.config, qemu_args=[*self.config.qemu_args])
        config.qemu_args += ["-device", f"virtio-blk-pci,drive=disk,num-queues={queues},queue-size={LENGTH}"]
        config.log = config.log / str(queues) if config.log else None
        guest = self.stack.enter_context(Guest(config))
        # Of an image that goes on, this is the end of the command that made it.
        self.shell = Shell(guest)
        return guest

    def sleep(self) -> None:
        """Write the memory to the other disk, and end."""
        guest = self.shell.guest
        self.shell("echo 0 >/sys/power/image_size; echo shutdown >/sys/power/disk")
        self.shell.start("echo disk >/sys/power/state")
        assert guest.machine.wait(PATIENCE), "the machine did not go off"
        self.config.append = [*(word for word in self.config.append if word not in RESUME), *RESUME]

    def write(self) -> None:
        """Something new, from each processor by several programs at once: more than a queue has room for."""
        self.shell(
            f"for cpu in $(seq 0 {CPUS - 1}); do dd if=/dev/urandom of=/tmp/content.$cpu bs=64k count=16 2>/dev/null; "
            f"for part in $(seq 0 {PARTS - 1}); do (taskset -c $cpu dd if=/tmp/content.$cpu of=/dev/vda bs=4k "
            f"skip=$((part * {BLOCKS})) seek=$((cpu * 256 + part * {BLOCKS})) count={BLOCKS} oflag=direct "
            "2>/dev/null || touch /tmp/failed) & done; done; wait; [ ! -e /tmp/failed ]"
        )

    def compare(self) -> None:
        """What was written last, to each processor at once."""
        self.shell(
            f"for cpu in $(seq 0 {CPUS - 1}); do for part in $(seq 0 {PARTS - 1}); do (taskset -c $cpu dd if=/dev/vda "
            f"bs=4k skip=$((cpu * 256 + part * {BLOCKS})) count={BLOCKS} iflag=direct of=/tmp/back.$cpu.$part "
            "2>/dev/null || touch /tmp/failed) & done; done; wait; [ ! -e /tmp/failed ] && for cpu in "
            f"$(seq 0 {CPUS - 1}); do for part in $(seq 0 {PARTS - 1}); do cat /tmp/back.$cpu.$part; done | "
            "cmp - /tmp/content.$cpu || touch /tmp/failed; done; [ ! -e /tmp/failed ]"
        )

    def goes_on(self) -> None:
        """What was written is there, and more can be written."""
        self.compare()
        self.write()
        self.compare()

    def virtqueues(self) -> int:
        """How many queues have an interrupt or none: what the core knows of the disk."""
        path = "/sys/kernel/debug/virtio/$(basename $(readlink -f /sys/block/vda/device))/queues"
        return int(self.shell(f"[ -e {path} ] || mount -t debugfs none /sys/kernel/debug; tail -n +2 {path} | wc -l"))


@contextlib.contextmanager
def healthy_machine(config: Config) -> Iterator[World]:
    """The guests of one machine; the console of the last one shows nothing bad."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(ksft.scratch())
        for name, size in (("swap", 2048 * MIB), ("disk", 16 * MIB)):
            with (directory / name).open("wb") as image:
                os.truncate(image.fileno(), size)
            driver = f"driver=raw,node-name={name},file.driver=file,file.filename={directory / name}"
            config.qemu_args += ["-blockdev", driver]
        config.qemu_args += ["-device", "nvme,drive=swap,serial=swap"]
        config.default_devices = False
        config.nonce = secrets.token_hex(16)
        config.append = [*config.append, "virtio_blk.poll_queues=1"]
        Shell.prepare(config)
        world = World(config, stack)
        world.start(QUEUES)
        world.shell.wait("[ -b /dev/vda ]", PATIENCE)
        world.shell("mkswap /dev/nvme0n1 >/dev/null && swapon /dev/nvme0n1")
        world.write()
        yield world
        world.shell.start("exit")
        ksft.passed(world.shell.guest)


def has_all_queues(world: World) -> None:
    """As many as the device has, one of them polled."""
    assert world.virtqueues() == QUEUES
    world.goes_on()
    assert world.shell("cat /sys/block/vda/queue/io_poll") == "1"


def shares(world: World, queues: int) -> None:
    """The machine goes on with so many queues."""
    world.sleep()
    world.start(queues)
    assert world.virtqueues() == queues
    world.shell(f"dmesg | grep -q 'came back with {queues} queues, and 0 to be polled: they are shared'")
    world.goes_on()


def goes_on_with_three(world: World) -> None:
    """Nobody polls any more."""
    shares(world, 3)


def goes_on_with_two(world: World) -> None:
    """Queues are shared that were not before."""
    shares(world, 2)


def goes_on_with_all(world: World) -> None:
    """Each hardware queue has its own again."""
    world.sleep()
    world.start(QUEUES)
    assert world.virtqueues() == QUEUES
    world.goes_on()


if __name__ == "__main__":
    ksft.run_in_one(healthy_machine, has_all_queues, goes_on_with_three, goes_on_with_two, goes_on_with_all)
