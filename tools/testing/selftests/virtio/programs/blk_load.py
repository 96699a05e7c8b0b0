#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Writes to a disk all the time, and knows what must be on it: blk_life.py and blk_daemon.py run it in the guest.

    blk_load.py SERIAL DIRECTORY [THREADS]

Each thread has a part of the disk for itself.  A block that was written must be read as it was written; a block whose
write failed, as it was or as it was to be, and from then on so.  After each burst of requests all threads close the
disk, and look for it again by its serial number, since it may be another one by then.  This goes on until
DIRECTORY/stop is there.  While DIRECTORY/hold is, no burst begins, and DIRECTORY/held is there, too, as soon as nobody
has the disk.  DIRECTORY/progress has the number of bursts that all threads came through without an error, and
the number of errors.  Status 1, and a sentence in DIRECTORY/wrong, if a block is not what it must be.
"""

import mmap
import os
import random
import struct
import sys
import threading
import time
from pathlib import Path

THREADS = 4
# Bytes of a block; blocks of a thread; at most so many in a request.
BLOCK, BLOCKS, RUN = 4096, 128, 16
# Requests between two looks for the disk, and seconds when nobody has it.
BURST, PAUSE = 16, 0.05


def content(block: int, version: int) -> bytes:
    """What VERSION of BLOCK is: no part of it could be one of another block, or of another version."""
    return struct.pack("<QQ", block, version) * (BLOCK // 16) if version else bytes(BLOCK)


class Wrong(Exception):
    """A block is not what it must be."""


class Load:
    """What all threads have in common."""

    def __init__(self, serial: str, directory: Path, threads: int) -> None:
        self.serial = serial
        self.directory = directory
        self.errors = 0
        self.bursts = 0
        self.failed = False
        self.ending = False
        self.lock = threading.Lock()
        self.barrier = threading.Barrier(threads, self.pause)

    def pause(self) -> None:
        """Between two bursts, by one thread for all of them."""
        if not self.failed:
            self.bursts += 1
        self.failed = False
        # Whole or not at all: somebody reads it.
        fresh = self.directory / "fresh"
        fresh.write_text(f"{self.bursts} {self.errors}\n")
        fresh.rename(self.directory / "progress")
        self.ending = (self.directory / "stop").exists()
        held = self.directory / "held"
        while (self.directory / "hold").exists():
            held.touch()
            time.sleep(PAUSE)
        held.unlink(missing_ok=True)

    def fail(self) -> None:
        """A request failed."""
        with self.lock:
            self.errors += 1
            self.failed = True

    def open(self) -> int:
        """The disk, opened; OSError if it is not there."""
        for serial in Path("/sys/block").glob("vd*/serial"):
            try:
                if serial.read_text().strip() == self.serial:
                    return os.open(f"/dev/{serial.parent.name}", os.O_RDWR | os.O_DIRECT)
            except OSError:
                pass
        raise FileNotFoundError(self.serial)


class Part:
    """The blocks of one thread."""

    def __init__(self, load: Load, number: int) -> None:
        self.load = load
        self.first = number * BLOCKS
        self.random = random.Random(number)
        self.buffer = mmap.mmap(-1, RUN * BLOCK)
        self.version = 0
        # A request failed, and nobody has looked since what is there.
        self.doubt = False
        # What each block may be: of one version, or of one of two after a write that failed.
        self.may_be = [[0] for _ in range(BLOCKS)]

    def read(self, disk: int, at: int, count: int) -> None:
        """Read COUNT blocks from AT, and compare them."""
        view = memoryview(self.buffer)[: count * BLOCK]
        done = os.preadv(disk, [view], (self.first + at) * BLOCK)
        if done != len(view):
            raise OSError(f"{done} bytes were read, not {len(view)}")
        for index in range(at, at + count):
            start = (index - at) * BLOCK
            data = bytes(view[start : start + BLOCK])
            found = [version for version in self.may_be[index] if data == content(self.first + index, version)]
            if not found:
                seen = struct.unpack_from("<QQ", data)
                raise Wrong(f"block {self.first + index}: block, version {seen}, not {self.may_be[index]}")
            self.may_be[index] = found

    def write(self, disk: int, at: int, count: int) -> None:
        """Write COUNT blocks from AT, of a version of their own."""
        self.version += 1
        blocks = range(at, at + count)
        self.buffer.seek(0)
        self.buffer.write(b"".join(content(self.first + index, self.version) for index in blocks))
        for index in blocks:
            self.may_be[index] = [*self.may_be[index], self.version]
        view = memoryview(self.buffer)[: count * BLOCK]
        done = os.pwritev(disk, [view], (self.first + at) * BLOCK)
        if done != len(view):
            raise OSError(f"{done} bytes were written, not {len(view)}")
        for index in blocks:
            self.may_be[index] = [self.version]

    def read_all(self, disk: int) -> None:
        """Compare every block."""
        for at in range(0, BLOCKS, RUN):
            self.read(disk, at, RUN)

    def burst(self) -> None:
        """Requests, until one fails."""
        disk = self.load.open()
        try:
            if self.doubt:
                self.read_all(disk)
                self.doubt = False
            for _ in range(BURST):
                count = self.random.randint(1, RUN)
                at = self.random.randrange(BLOCKS - count + 1)
                (self.write if self.random.random() < 0.6 else self.read)(disk, at, count)
            if self.random.random() < 0.2:
                os.fsync(disk)
        finally:
            os.close(disk)

    def run(self) -> None:
        """The life of the thread."""
        try:
            while not self.load.ending:
                try:
                    self.burst()
                except OSError:
                    self.doubt = True
                    self.load.fail()
                self.load.barrier.wait()
            disk = self.load.open()
            self.read_all(disk)
            os.close(disk)
        except BaseException as error:
            (self.load.directory / "wrong").write_text(f"{error!r}\n")
            # The other threads may wait for a device.
            os._exit(1)


def main() -> None:
    """Run until told to stop."""
    count = int(sys.argv[3]) if len(sys.argv) > 3 else THREADS
    load = Load(sys.argv[1], Path(sys.argv[2]), count)
    threads = [threading.Thread(target=Part(load, number).run) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
