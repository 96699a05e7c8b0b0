# SPDX-License-Identifier: GPL-2.0
"""A guest whose memory is a file of the host's, to look at and to spoil what it shares with its devices.

No test by itself: rng_host.py, net_life.py and balloon_life.py use it.
"""

import mmap
from pathlib import Path

from guest.run import Config, Guest


def share(config: Config, ram: Path) -> None:
    """The guest's memory is the file RAM."""
    config.memory = "512"
    config.qemu_args = [
        *config.qemu_args,
        *f"-object memory-backend-file,id=ram,size=512M,mem-path={ram},share=on".split(),
        *["-machine", "memory-backend=ram"],
    ]


def queue_status(guest: Guest, queue: int = 0) -> dict[str, int]:
    """Where QEMU sees QUEUE of the guest's first virtio device."""
    monitor = guest.qmp()
    path = monitor.command("x-query-virtio")[0]["path"]
    status: dict[str, int] = monitor.command("x-query-virtio-queue-status", path=path, queue=queue)
    return status


def corrupt_queue(guest: Guest, ram: Path, packed: bool) -> None:
    """Make the device find nonsense where the driver has put its buffers, in queue 0 of the first device."""
    queue = queue_status(guest)
    with ram.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as memory:
        for index in range(queue["vring-num"]):
            if packed:
                # Every descriptor claims to be an indirect table of odd length.
                at = queue["vring-desc"] + 16 * index
                memory[at + 8 : at + 12] = (7).to_bytes(4, "little")
                flags = int.from_bytes(memory[at + 14 : at + 16], "little") | 4
                memory[at + 14 : at + 16] = flags.to_bytes(2, "little")
            else:
                # Every entry of the available ring names a descriptor that is not there.
                at = queue["vring-avail"] + 4 + 2 * index
                memory[at : at + 2] = b"\xff\xff"


def repeat_used(guest: Guest, ram: Path, queue: int) -> None:
    """Have the device use the buffer of QUEUE that it used last once more: a split ring of the first device."""
    status = queue_status(guest, queue)
    used, size = status["vring-used"], status["vring-num"]
    with ram.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as memory:
        index = int.from_bytes(memory[used + 2 : used + 4], "little")
        last, entry = (used + 4 + 8 * (at % size) for at in (index - 1, index))
        memory[entry : entry + 8] = memory[last : last + 8]
        memory[used + 2 : used + 4] = ((index + 1) % (1 << 16)).to_bytes(2, "little")
