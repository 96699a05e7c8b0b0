#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Errors of the host's disk: each reaches the program whose request it is, and no other.

QEMU's blkdebug fails requests of one kind that touch a sector; flushes, all of another disk.  A third is read-only.

# guest *: --root full --timeout 900
# guest split: --kernel release
# long packed: --kernel release --append packed=on
# long c: --kernel release --stack c
# long debug-packed: --kernel debug --append packed=on --timeout 1800
"""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from guest import ksft
from guest.ksft import Shell
from guest.run import Config, Guest

SIZE = 16 << 20
SECTOR = 512
PATIENCE = 60
# What fails, and where; all of it behind what is written elsewhere at the same time.
BAD = {"read": 20001, "write": 21002, "write-zeroes": 22003, "discard": 23004}
ELSEWHERE = 8 << 20
# Sectors on each side that must not fail.
BESIDE = 3


@dataclass
class World:
    """The guest, a shell in it, the names of its disks there, and the file behind the first."""

    guest: Guest
    shell: Shell
    bad: str
    unflushed: str
    fixed: str
    path: Path

    def sector(self, at: int) -> bytes:
        """What the host has."""
        with self.path.open("rb") as stream:
            stream.seek(at * SECTOR)
            return stream.read(SECTOR)

    def failures(self, command: str, middle: int) -> list[int]:
        """The sectors about MIDDLE, one at a time, for which COMMAND fails; it finds the number in $at."""
        first, last = middle - BESIDE, middle + BESIDE
        printed = self.shell(f"for at in $(seq {first} {last}); do ({command}) >/dev/null 2>&1 || echo $at; done")
        return [int(word) for word in printed.split()]

    def told(self, at: int, operation: str) -> None:
        """The kernel said which sector it was."""
        self.shell(f"dmesg | grep -q 'I/O error, dev {self.bad}, sector {at} op .*({operation})'")


@contextlib.contextmanager
def healthy_guest(config: Config) -> Iterator[World]:
    """One guest that writes and verifies elsewhere all the time; afterwards its console shows nothing bad."""
    with tempfile.TemporaryDirectory(prefix="errors-") as name:
        config.default_devices = False
        layout = ",packed=on" if "packed=on" in config.append else ""
        rules = {"bad": list(BAD.items()), "unflushed": [("flush", None)], "fixed": []}
        for disk, errors in rules.items():
            path = Path(name) / disk
            path.write_bytes(bytes([0xA5]) * SIZE)
            node = f"driver=blkdebug,node-name={disk},discard=unmap,image.driver=file,image.filename={path}"
            if disk == "fixed":
                node += ",read-only=on"
            for number, (kind, sector) in enumerate(errors):
                rule = {"event": "none", "iotype": kind, "errno": "5", "once": "off"}
                if sector is not None:
                    rule["sector"] = str(sector)
                node += "".join(f",inject-error.{number}.{key}={value}" for key, value in rule.items())
            config.qemu_args += ["-blockdev", node]
            device = f"virtio-blk-pci,drive={disk},serial={disk},werror=report,rerror=report"
            config.qemu_args += ["-device", device + layout]
        Shell.prepare(config)
        with Guest(config) as guest:
            shell = Shell(guest)
            shell.wait(f"[ $(ls -d /sys/block/vd* | wc -l) -eq {len(rules)} ]", PATIENCE)
            names = [shell(f"basename $(dirname $(grep -lx {disk} /sys/block/vd*/serial))") for disk in rules]
            world = World(guest, shell, *names, Path(name) / "bad")
            shell(
                f"while [ ! -e /tmp/stop ]; do fio --name=verify --filename=/dev/{world.bad} --ioengine=libaio "
                f"--direct=1 --size={ELSEWHERE} --verify=crc32c --verify_fatal=1 --verify_state_save=0 --rw=randwrite "
                "--bsrange=512-64k --iodepth=16 --eta=never --output=/tmp/fio || touch /tmp/failed; done &"
            )
            yield world
            shell("touch /tmp/stop; wait; [ ! -e /tmp/failed ] || (cat /tmp/fio; false)")
            shell.start("exit")
            ksft.passed(guest)


def read_error(world: World) -> None:
    """One sector cannot be read, alone or among others."""
    at = BAD["read"]
    disk = f"if=/dev/{world.bad} of=/tmp/read iflag=direct"
    assert world.failures(f"dd {disk} bs={SECTOR} count=1 skip=$at", at) == [at]
    world.told(at, "READ")
    first = at - at % 128
    world.shell(f"! dd {disk} bs=64k count=1 skip={first // 128} 2>/dev/null")
    world.shell(f"dd {disk} bs=64k count=1 skip={first // 128 + 1} 2>/dev/null")


def write_error(world: World) -> None:
    """One sector cannot be written, and the others are."""
    at = BAD["write"]
    world.shell(f"head -c {SECTOR} /dev/zero | tr '\\0' w >/tmp/sector")
    write = f"dd if=/tmp/sector of=/dev/{world.bad} bs={SECTOR} count=1 oflag=direct conv=notrunc"
    assert world.failures(f"{write} seek=$at", at) == [at]
    world.told(at, "WRITE")
    for near in range(at - BESIDE, at + BESIDE + 1):
        expected = b"\xa5" if near == at else b"w"
        assert world.sector(near) == expected * SECTOR, f"sector {near} is {world.sector(near)[:4]!r}"


def late_write_error(world: World) -> None:
    """An error of what the kernel wrote later is told to who asks for it."""
    at = BAD["write"]
    write = f"dd if=/dev/zero of=/dev/{world.bad} bs=4096 count=1 conv=notrunc,fsync"
    world.shell(f"! {write} seek={at // 8} 2>/dev/null")
    world.shell(f"{write} seek={at // 8 + 1} 2>/dev/null")


def write_zeroes_error(world: World) -> None:
    """Zeroes that the device is to write by itself."""
    at = BAD["write-zeroes"]
    command = f"blkdiscard -z -o $((at * {SECTOR})) -l {SECTOR} /dev/{world.bad}"
    assert world.failures(command, at) == [at]
    world.told(at, "WRITE_ZEROES")
    for near in range(at - BESIDE, at + BESIDE + 1):
        assert world.sector(near) == (b"\xa5" if near == at else b"\0") * SECTOR, f"sector {near}"


def discard_error(world: World) -> None:
    """A discard."""
    at = BAD["discard"]
    assert world.failures(f"blkdiscard -o $((at * {SECTOR})) -l {SECTOR} /dev/{world.bad}", at) == [at]
    world.told(at, "DISCARD")


def flush_error(world: World) -> None:
    """The host cannot keep what it took: who syncs is told, each time, and who does not is not."""
    disk = f"/dev/{world.unflushed}"
    write = f"dd if=/dev/zero of={disk} bs=4096 count=4"
    world.shell(f"{write} oflag=direct 2>/dev/null")
    for _ in range(2):
        world.shell(f"! {write} oflag=direct conv=fsync 2>/dev/null")
    # With the cache off there is nothing to flush.
    cache = f"/sys/block/{world.unflushed}/cache_type"
    world.shell(f"echo write through >{cache}")
    world.shell(f"{write} oflag=direct conv=fsync 2>/dev/null")
    world.shell(f"echo write back >{cache}")
    world.shell(f"! {write} oflag=direct conv=fsync 2>/dev/null")
    world.shell(f"dd if={disk} of=/dev/null bs=4096 count=4 iflag=direct 2>/dev/null")


def read_only(world: World) -> None:
    """A disk that is read-only is so here too, and stays as it is."""
    assert world.shell(f"cat /sys/block/{world.fixed}/ro") == "1"
    world.shell(f"! dd if=/dev/zero of=/dev/{world.fixed} bs=4096 count=1 oflag=direct conv=notrunc 2>/dev/null")
    world.shell(f"! blkdiscard -z -l 4096 /dev/{world.fixed} 2>/dev/null")
    data = f"dd if=/dev/{world.fixed} bs=64k count=4 iflag=direct 2>/dev/null"
    assert world.shell(f"{data} | tr -d '\245' | wc -c") == "0"
    assert world.shell(f"{data} | wc -c") == str(4 << 16)


if __name__ == "__main__":
    ksft.run_in_one(
        healthy_guest,
        read_error,
        write_error,
        late_write_error,
        write_zeroes_error,
        discard_error,
        flush_error,
        read_only,
    )
