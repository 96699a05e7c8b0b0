# SPDX-License-Identifier: GPL-2.0
"""The mutator of guest RAM: writes into the rings of one device, chosen by a seed and logged."""

import mmap
import random
from collections.abc import Callable
from pathlib import Path

from guest.run import Guest

NEXT, WRITE = 1, 2
AVAIL, USED = 1 << 7, 1 << 15
INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF)


class Mutator:
    """Writes nonsense where the device NAME of GUEST and its driver meet.

    Only where a device hands values over, and where it can cost the device but not make it write to memory that
    it was not lent: addresses and lengths of buffers that it was given are left alone.
    """

    def __init__(self, guest: Guest, ram: Path, name: str, *, packed: bool, seed: int, log: Path) -> None:
        self._guest = guest
        self._ram = ram
        self._path = f"/machine/peripheral/{name}/virtio-backend"
        self._packed = packed
        self._random = random.Random(seed)
        self._log = log
        self.writes = 0

    def queue(self) -> dict[str, int]:
        """Where QEMU sees queue 0; addresses are 0 while the driver has set none."""
        status: dict[str, int] = self._guest.qmp().command("x-query-virtio-queue-status", path=self._path, queue=0)
        return status

    def burst(self, kinds: list[str], count: int) -> None:
        """COUNT writes, each of one of KINDS; none while the queue is not there."""
        queue = self.queue()
        if not queue["vring-desc"] or not queue["vring-num"]:
            return
        table = PACKED if self._packed else SPLIT
        names = [name for name in kinds if name in table] or sorted(table)
        with self._ram.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as memory, self._log.open("a") as log:
            for _ in range(count):
                name = self._random.choice(names)
                for at, value in table[name](queue, memory, self._random):
                    old = memory[at : at + len(value)]
                    memory[at : at + len(value)] = value
                    log.write(f"lie: {name} at {at:#x}: {old.hex()} becomes {value.hex()}\n")
                    self.writes += 1


Queue = dict[str, int]
Writes = list[tuple[int, bytes]]
Kind = Callable[[Queue, mmap.mmap, random.Random], Writes]


def _number(choice: random.Random, size: int) -> bytes:
    """A number of SIZE bytes: one near an edge, or any."""
    value = choice.choice((choice.choice(INTERESTING), choice.getrandbits(8 * size), -choice.choice(INTERESTING)))
    return (value % (1 << (8 * size))).to_bytes(size, "little")


def _used_entry(queue: Queue, choice: random.Random) -> int:
    return queue["vring-used"] + 4 + 8 * choice.randrange(queue["vring-num"])


def _descriptor(queue: Queue, choice: random.Random) -> int:
    return queue["vring-desc"] + 16 * choice.randrange(queue["vring-num"])


def _xor(memory: mmap.mmap, at: int, bits: int) -> Writes:
    return [(at, (int.from_bytes(memory[at : at + 2], "little") ^ bits).to_bytes(2, "little"))]


def _avail_nonsense(queue: Queue, _memory: mmap.mmap, _choice: random.Random) -> Writes:
    """Every entry of the available ring names a descriptor that is not there: the device asks for a reset."""
    return [(queue["vring-avail"] + 4 + 2 * entry, b"\xff\xff") for entry in range(queue["vring-num"])]


def _indirect_nonsense(queue: Queue, memory: mmap.mmap, _choice: random.Random) -> Writes:
    """Every descriptor claims to be an indirect table of odd length: the device asks for a reset."""
    writes: Writes = []
    for index in range(queue["vring-num"]):
        at = queue["vring-desc"] + 16 * index
        flags = int.from_bytes(memory[at + 14 : at + 16], "little") | 4
        writes += [(at + 8, (7).to_bytes(4, "little")), (at + 14, flags.to_bytes(2, "little"))]
    return writes


SPLIT: dict[str, Kind] = {
    "used-idx": lambda queue, _, choice: [(queue["vring-used"] + 2, _number(choice, 2))],
    "used-flags": lambda queue, _, choice: [(queue["vring-used"], _number(choice, 2))],
    "used-id": lambda queue, _, choice: [(_used_entry(queue, choice), _number(choice, 4))],
    "used-len": lambda queue, _, choice: [(_used_entry(queue, choice) + 4, _number(choice, 4))],
    "avail-event": lambda queue, _, choice: [(queue["vring-used"] + 4 + 8 * queue["vring-num"], _number(choice, 2))],
    "desc-flags": lambda queue, memory, choice: _xor(
        memory, _descriptor(queue, choice) + 12, choice.choice((NEXT, WRITE, NEXT | WRITE))
    ),
    "desc-next": lambda queue, _, choice: [(_descriptor(queue, choice) + 14, _number(choice, 2))],
    "avail-entry": lambda queue, _, choice: [
        (queue["vring-avail"] + 4 + 2 * choice.randrange(queue["vring-num"]), _number(choice, 2))
    ],
    "needs-reset": _avail_nonsense,
}

PACKED: dict[str, Kind] = {
    "desc-id": lambda queue, _, choice: [(_descriptor(queue, choice) + 12, _number(choice, 2))],
    "desc-flags": lambda queue, memory, choice: _xor(
        memory, _descriptor(queue, choice) + 14, choice.choice((AVAIL, USED, AVAIL | USED, NEXT, WRITE))
    ),
    "device-event": lambda queue, _, choice: [(queue["vring-used"], _number(choice, 4))],
    "needs-reset": _indirect_nonsense,
}
