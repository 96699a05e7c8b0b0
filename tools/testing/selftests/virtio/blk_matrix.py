#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Disks with every combination of ring, descriptors, events, queues, length and block size, all in one guest.

In `make check` there are eight of the 64, in which every pair of choices is met; `make check-long` has all.

# guest *: --root full --timeout 900
# guest release: --kernel release
# long debug: --kernel debug --timeout 2400 --memory 1024
# long c: --kernel release --stack c
"""

import contextlib
import itertools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from guest import ksft
from guest.ksft import Shell
from guest.run import Config, Guest
from guest.working_guest import LONG

SIZE = 32 << 20
PATIENCE = 120
# Bits of the features that are chosen.
INDIRECT, EVENT_IDX, RING_PACKED = 28, 29, 34
# Functions of a PCI device, and the first of the devices that nothing else is.
FUNCTIONS, FIRST_SLOT = 8, 8
FIO = (
    "fio --name=verify --direct=1 --size=2m --offset_increment=2m --numjobs=2 --thread --verify=crc32c "
    "--verify_fatal=1 --verify_state_save=0 --eta=never --rw=randwrite --output=/tmp/fio"
)


@dataclass(frozen=True)
class Disk:
    """One combination."""

    packed: bool
    indirect: bool
    event_idx: bool
    queues: int
    ring: int
    block: int

    @property
    def serial(self) -> str:
        """A name of at most 20 bytes."""
        ring = "packed" if self.packed else "split"
        flags = ("i" if self.indirect else "d") + ("e" if self.event_idx else "f")
        return f"{ring}-{flags}-{self.queues}-{self.ring}-{self.block}"

    def properties(self) -> str:
        """What makes QEMU's device so."""

        def switch(on: bool) -> str:
            return "on" if on else "off"

        return (
            f"serial={self.serial},packed={switch(self.packed)},indirect_desc={switch(self.indirect)},"
            f"event_idx={switch(self.event_idx)},num-queues={self.queues},queue-size={self.ring},"
            f"logical_block_size={self.block},physical_block_size={self.block}"
        )


def disks() -> list[Disk]:
    """The combinations of this run."""
    every = itertools.product((False, True), repeat=6)
    # Three free choices, the others are exclusive ors of two of them: so each pair of columns has all four rows.
    few = ((a, b, c, a ^ b, a ^ c, b ^ c) for a, b, c in itertools.product((False, True), repeat=3))
    return [
        Disk(packed, not direct, not flags, 2 if two else 1, 16 if short else 256, 4096 if large else 512)
        for packed, direct, flags, two, short, large in (every if LONG else few)
    ]


@dataclass
class World:
    """The guest, and a shell in it."""

    guest: Guest
    shell: Shell

    def block(self, disk: Disk) -> str:
        """The directory of DISK in sysfs."""
        return self.shell(f"dirname $(grep -lx {disk.serial} /sys/block/vd*/serial)")

    def fio(self, disk: Disk, options: str) -> None:
        """What is written to DISK is read again."""
        name = Path(self.block(disk)).name
        self.shell(f"{FIO} --filename=/dev/{name} --bsrange={disk.block}-64k {options} || (cat /tmp/fio; false)")

    def queues(self, block: str) -> list[dict[str, str]]:
        """The table of queues of the disk at BLOCK, which the C stack does not have: then there are none."""
        table = self.shell(f"cat /sys/kernel/debug/virtio/$(basename $(readlink -f {block}/device))/queues || true")
        lines = [line.split() for line in table.splitlines() if not line.startswith("cat:")]
        return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


@contextlib.contextmanager
def healthy_guest(config: Config) -> Iterator[World]:
    """One guest with all disks; afterwards its console shows nothing bad."""
    with tempfile.TemporaryDirectory(prefix="disks-") as name:
        config.default_devices = False
        for number, disk in enumerate(disks()):
            path = Path(name) / disk.serial
            with path.open("wb") as stream:
                stream.truncate(SIZE)
            slot, function = divmod(number, FUNCTIONS)
            address = f"addr={FIRST_SLOT + slot:#x}.{function},multifunction=on"
            config.qemu_args += ["-blockdev", f"driver=raw,node-name=d{number},file.driver=file,file.filename={path}"]
            config.qemu_args += ["-device", f"virtio-blk-pci,drive=d{number},{address},{disk.properties()}"]
        Shell.prepare(config)
        with Guest(config) as guest:
            world = World(guest, Shell(guest))
            yield world
            world.shell.start("exit")
            ksft.passed(guest)


def as_asked(world: World, disk: Disk) -> None:
    """Driver and device agreed on what DISK is about."""
    block = world.block(disk)
    features = world.shell(f"cat {block}/device/features")
    for bit, wanted in ((RING_PACKED, disk.packed), (INDIRECT, disk.indirect), (EVENT_IDX, disk.event_idx)):
        assert (features[bit] == "1") is wanted, f"feature {bit} is {features[bit]}"
    assert world.shell(f"cat {block}/queue/logical_block_size") == str(disk.block)
    assert world.shell(f"ls {block}/mq | wc -l") == str(disk.queues)
    for queue in world.queues(block):
        assert queue["size"] == str(disk.ring), f"the ring has {queue['size']} entries"


def case(disk: Disk) -> Callable[[World], None]:
    """The test of DISK by itself."""

    def keeps(world: World) -> None:
        as_asked(world, disk)
        world.fio(disk, "--ioengine=libaio --iodepth=32")

    keeps.__name__ = f"{disk.serial} keeps what is written"
    return keeps


def polled(world: World) -> None:
    """One of two queues is polled: io_uring asks for it, and it is used."""
    # Whoever looks at disks that were written, as udev does, has them open for a moment.
    world.shell.wait("modprobe -r virtio_blk", PATIENCE)
    world.shell("modprobe virtio_blk poll_queues=1")
    world.shell.wait(f"[ $(ls -d /sys/block/vd* | wc -l) -eq {len(disks())} ]", PATIENCE)
    for disk in disks():
        if disk.queues == 1:
            continue
        # No more than there are tags.  With more, io_uring of 7.3 has workers that wait for tags.  It polls for what is
        # on its list; what a worker started gets there while it does not poll.  If the ring is full of that, it polls
        # for ever, with the C driver as well.
        world.fio(disk, "--ioengine=io_uring --hipri=1 --iodepth=4")
        queues = world.queues(world.block(disk))
        for queue in queues:
            polls = queue["name"].startswith("req_poll")
            assert not polls or int(queue["used"]) > 100, f"{disk.serial}: the queue that is polled was not used"
            assert not polls or queue["interrupts"] == "0", f"{disk.serial}: {queue['interrupts']} interrupts"
        assert not queues or queues[-1]["name"].startswith("req_poll"), f"{disk.serial}: no queue is polled"


if __name__ == "__main__":
    ksft.run_in_one(healthy_guest, *(case(disk) for disk in disks()), polled)
