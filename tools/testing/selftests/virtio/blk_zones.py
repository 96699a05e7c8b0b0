#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Zones and the lifetime of a disk, and requests of many ranges: what QEMU's devices do not have, or do not pass on
from a backend.

The device is our own backend (tools/testing/hostile/backend), in the guest itself: the kernel's VDUSE and its
C transport virtio_vdpa are between it and the driver.

# guest *: --root full --timeout 1200
# guest release: --kernel release
# long debug: --kernel debug --timeout 1800
"""

import contextlib
import hashlib
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from guest import ksft, paths, step
from guest.ksft import Shell
from guest.run import Config, Guest

CRATE = paths.TOP / "tools/testing/hostile/backend"
TARGET = paths.BUILD / "hostile/target"
BACKEND = "/guest/backend"
LOAD_SOURCE = paths.TOP / "tools/testing/bench/load/load.c"
LOAD_PROGRAM = paths.BUILD / "blk_zones/load"
LOAD = "/guest/load"
PATIENCE = 60
# Sectors of a zone, and of what can be written of it; zones; open and active zones; sectors of an append.
ZONE, CAPACITY, ZONES, OPEN, ACTIVE, APPEND = 2048, 1536, 8, 3, 4, 128
HONEST = f"""
device = "blk"
lifetime = [1, 3, 11]

[zones]
sectors = {ZONE}
capacity = {CAPACITY}
conventional = 1
open = {OPEN}
active = {ACTIVE}
append = {APPEND}
"""
# Ranges that are discarded, of half as many bytes as they are apart; what fits into the slot of a request.
RANGES, APART, SLOT = 256, 16384, 27
GET_LIFETIME, ZONE_REPORT, ZONE_OPEN = 10, 16, 18
# Where the fields of the second zone are in a report.
SECOND = 64 + 64
Z_CAP, Z_START, Z_WP, Z_TYPE, Z_STATE = SECOND, SECOND + 8, SECOND + 16, SECOND + 24, SECOND + 25
ONES = "ff" * 8


@dataclass
class Disk:
    """A disk of the backend, and a shell in its guest."""

    shell: Shell
    backend: str
    name: str

    @property
    def path(self) -> str:
        """Its device node."""
        return f"/dev/{self.name}"

    def attribute(self, name: str) -> str:
        """A file of it in sysfs."""
        return self.shell(f"cat /sys/block/{self.name}/{name}")

    def zones(self) -> list[str]:
        """A line of `blkzone report` for each zone."""
        return self.shell(f"blkzone report {self.path}").splitlines()

    def zone(self, index: int) -> dict[str, int]:
        """What is known of zone INDEX: its condition as a number, and sectors."""
        line = self.zones()[index]
        found = re.search(r"cap 0x(\w+), wptr 0x(\w+) .*zcond: ?(\d+)\(", line)
        assert found, f"blkzone says {line!r}"
        return {"wptr": int(found[2], 16), "cap": int(found[1], 16), "zcond": int(found[3])}

    def do(self, action: str, index: int) -> None:
        """`blkzone ACTION` of zone INDEX."""
        self.shell(f"blkzone {action} -o {index * ZONE} -c 1 {self.path}")

    def write(self, sector: int, count: int) -> str:
        """A command that writes COUNT sectors at SECTOR."""
        place = f"bs={512 * count} count=1 seek={512 * sector} oflag=direct,seek_bytes"
        return f"dd if=/tmp/data of={self.path} {place} 2>/dev/null"


class World:
    """A guest in which backends come and go."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        self._numbers = itertools.count()

    @contextlib.contextmanager
    def backend(self, scenario: str) -> Iterator[tuple[str, str]]:
        """A device that does as SCENARIO says: its name, and that of its disk, or none if the driver refuses it."""
        name = f"disk{next(self._numbers)}"
        for line in scenario.splitlines():
            self.shell(f"echo '{line}' >>/tmp/{name}")
        self.shell(f"{BACKEND} {name} /tmp/{name} vduse >/tmp/{name}.log 2>&1 & echo $! >/tmp/{name}.pid")
        self.shell.wait(f"grep -q ready /tmp/{name}.log", PATIENCE)
        self.shell(f"vdpa dev add name {name} mgmtdev vduse")
        self.shell("udevadm settle")
        try:
            yield name, self.shell(f"ls /sys/bus/vdpa/devices/{name}/virtio*/block 2>/dev/null || true")
        finally:
            self.shell(f"vdpa dev del {name}; kill $(cat /tmp/{name}.pid)")

    @contextlib.contextmanager
    def disk(self, scenario: str = HONEST) -> Iterator[Disk]:
        """The disk of a backend that does as SCENARIO says."""
        with self.backend(scenario) as (backend, name):
            assert name, "there is no disk: " + self.shell("dmesg | tail -n 5")
            yield Disk(self.shell, backend, name)


@contextlib.contextmanager
def healthy_guest(config: Config) -> Iterator[World]:
    """One guest; afterwards its console shows nothing bad."""
    command = ["cargo", "build", "--quiet", "--release", "--target-dir", str(TARGET)]
    step.run("hostile-backend", "building the lying device", command, cwd=CRATE)
    LOAD_PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    command = ["cc", "-O2", "-static", "-o", str(LOAD_PROGRAM), str(LOAD_SOURCE)]
    step.run("blk-zones-load", "building the load", command)
    config.default_devices = False
    config.files = {BACKEND.lstrip("/"): TARGET / "release/hostile-backend", LOAD.lstrip("/"): LOAD_PROGRAM}
    Shell.prepare(config)
    with Guest(config) as guest:
        shell = Shell(guest)
        shell("modprobe -a vduse virtio_vdpa virtio_blk && head -c 1048576 /dev/urandom >/tmp/data")
        yield World(shell)
        shell.start("exit")
        ksft.passed(guest)


def zones_are_described(world: World) -> None:
    """The block layer knows how large the zones are, and what may be done to them."""
    with world.disk() as disk:
        for name, value in (
            ("zoned", "host-managed"),
            ("chunk_sectors", str(ZONE)),
            ("nr_zones", str(ZONES)),
            ("max_open_zones", str(OPEN)),
            ("max_active_zones", str(ACTIVE)),
            ("zone_append_max_bytes", str(APPEND * 512)),
            ("zone_write_granularity", "512"),
            ("discard_max_bytes", "0"),
        ):
            assert disk.attribute(f"queue/{name}") == value, f"{name}: {disk.attribute(f'queue/{name}')}"
        lines = disk.zones()
        assert len(lines) == ZONES, lines
        assert "CONVENTIONAL" in lines[0] and all("SEQ_WRITE_REQUIRED" in line for line in lines[1:]), lines
        assert disk.zone(1) == {"wptr": 0, "cap": CAPACITY, "zcond": 1}, disk.zone(1)
        # From the middle of a zone, and not all.
        some = disk.shell(f"blkzone report -o {5 * ZONE} -c 2 {disk.path}").splitlines()
        assert [line.split()[1] for line in some] == [f"0x{at * ZONE:09x}," for at in (5, 6)], some


def zones_are_written_in_order(world: World) -> None:
    """What is written moves the write pointer, and only there anything can be written."""
    with world.disk() as disk:
        disk.shell(disk.write(0, 8))
        disk.shell(disk.write(ZONE, 16))
        assert disk.zone(1)["wptr"] == 16 and disk.zone(1)["zcond"] == 2, disk.zone(1)
        disk.shell("! " + disk.write(ZONE + 24, 8))
        disk.shell(disk.write(ZONE + 16, 8))
        disk.shell(f"dd if={disk.path} bs=512 skip={ZONE} count=16 iflag=direct 2>/dev/null | cmp -n 8192 - /tmp/data")
        # All that there is, and no more.
        disk.shell(disk.write(ZONE + 24, CAPACITY - 24))
        assert disk.zone(1)["zcond"] == 14, disk.zone(1)
        disk.shell("! " + disk.write(ZONE + CAPACITY, 1))


def zones_change_their_state(world: World) -> None:
    """Zones are opened, closed, finished and reset, one by one and all."""
    with world.disk() as disk:
        disk.do("open", 1)
        assert disk.zone(1)["zcond"] == 3, disk.zone(1)
        disk.shell(disk.write(ZONE, 8))
        disk.do("close", 1)
        assert disk.zone(1)["zcond"] == 4, disk.zone(1)
        disk.do("finish", 1)
        assert disk.zone(1)["zcond"] == 14, disk.zone(1)
        disk.do("reset", 1)
        assert disk.zone(1) == {"wptr": 0, "cap": CAPACITY, "zcond": 1}, disk.zone(1)
        for index in range(1, 1 + OPEN):
            disk.do("open", index)
        disk.shell(f"! blkzone open -o {(1 + OPEN) * ZONE} -c 1 {disk.path} 2>/dev/null")
        disk.shell(f"blkzone reset {disk.path}")
        assert all(disk.zone(index)["zcond"] == 1 for index in range(1, ZONES)), disk.zones()
        disk.do("open", 1 + OPEN)


def zones_keep_what_is_written(world: World) -> None:
    """Random writes at the write pointers of several zones, read back and compared."""
    with world.disk() as disk:
        disk.shell(
            f"fio --name=zones --filename={disk.path} --zonemode=zbd --direct=1 --ioengine=libaio --iodepth=4 "
            f"--rw=randwrite --bs=16k --offset={ZONE * 512} --size={(ZONES - 1) * ZONE * 512} --io_size=4m "
            f"--max_open_zones={OPEN} --verify=crc32c --verify_fatal=1 --verify_state_save=0 --eta=never "
            "--output=/tmp/fio || { sed 's/^/# /' /tmp/fio; false; }"
        )


def lifetime_is_shown(world: World) -> None:
    """Two files tell how worn the disk is, as those of eMMC do, and only where the device does."""
    with world.disk() as disk:
        assert disk.attribute("pre_eol_info") == "0x01", disk.attribute("pre_eol_info")
        assert disk.attribute("life_time") == "0x03 0x0b", disk.attribute("life_time")
    with world.disk('device = "blk"') as disk:
        disk.shell(f"[ ! -e /sys/block/{disk.name}/pre_eol_info ] && [ ! -e /sys/block/{disk.name}/life_time ]")
        assert disk.attribute("queue/zoned") == "none"


def absurd_lifetimes_do_no_harm(world: World) -> None:
    """Reserved numbers are shown as they are, and an error is an error."""
    with world.disk(HONEST + lie(GET_LIFETIME, {0: "ffff00800180"})) as disk:
        assert disk.attribute("pre_eol_info") == "0xffff", disk.attribute("pre_eol_info")
        assert disk.attribute("life_time") == "0x8000 0x8001", disk.attribute("life_time")
    with world.disk(HONEST + lie(GET_LIFETIME, {}, "status = 1")) as disk:
        disk.shell(f"! cat /sys/block/{disk.name}/life_time 2>/tmp/error && grep -q 'Input/output error' /tmp/error")
        disk.attribute("serial")


def lie(kind: int, reply: dict[int, str], *more: str, first: int = 1) -> str:
    """Lines of a scenario: requests of type KIND, from the FIRST on, are answered with REPLY at these bytes."""
    patches = ", ".join(f'{{ at = {at}, bytes = "{text}" }}' for at, text in reply.items())
    return "\n".join(["", "[[lie]]", f"kind = {kind}", f"from = {first}", "times = 0", f"reply = [{patches}]", *more])


REPORTS = {
    "no zone at all": {0: "00" * 8},
    "a zone elsewhere": {Z_START: ONES},
    "the same zone again": {Z_START: "00" * 8},
    "a capacity of 0": {Z_CAP: "00" * 8},
    "a capacity that is too large": {Z_CAP: ONES},
    "a pointer elsewhere": {Z_WP: ONES},
    "a type that there is not": {Z_TYPE: "07"},
    "a preferred zone": {Z_TYPE: "03"},
    "a state that there is not": {Z_STATE: "ff"},
    "a conventional zone with a pointer": {Z_TYPE: "01"},
    "more zones than there is room for": {0: ONES, Z_START: ONES},
}


def ranges_travel_together(world: World) -> None:
    """Discards that are submitted together become one request; what they name is gone, and all the rest is not."""
    with world.disk('device = "blk"\nranges = 256') as disk:
        place = f"of={disk.path} bs=64k oflag=direct iflag=fullblock"
        disk.shell(f"yes | head -c {RANGES * APART} | dd {place} 2>/dev/null")
        disk.shell(f"{LOAD} blk ranges {disk.path} discard {APART // 2} {RANGES // 2} {RANGES // 2}")
        statistics = disk.attribute("stat").split()
        requests, merged = int(statistics[11]), int(statistics[12])
        assert requests + merged == RANGES, f"{requests} requests, {merged} merged"
        seen = re.findall(r"a request of (\d+) ranges", disk.shell(f"cat /tmp/{disk.backend}.log"))
        assert seen and int(seen[-1]) > SLOT, f"the device saw {seen} ranges"
        expected = (bytes(APART // 2) + b"y\n" * (APART // 4)) * RANGES
        found = disk.shell(f"dd if={disk.path} bs={APART} count={RANGES} iflag=direct 2>/dev/null | md5sum").split()[0]
        assert found == hashlib.md5(expected).hexdigest(), "what is on the disk is not what was left"


def absurd_zones_are_refused(world: World) -> None:
    """A disk that reports what cannot be is refused, and an honest one works afterwards."""
    for what, reply in REPORTS.items():
        with world.backend(HONEST + lie(ZONE_REPORT, reply)) as (_, name):
            assert not name, f"{what}: there is a disk"
    with world.disk() as disk:
        disk.zones()


def absurd_reports_fail(world: World) -> None:
    """A disk that reports so later on works, but for the reports."""
    for what, reply in REPORTS.items():
        # The first one was honest: all zones fit into it.
        with world.disk(HONEST + lie(ZONE_REPORT, reply, first=2)) as disk:
            result = disk.shell(f"blkzone report {disk.path} 2>&1 >/tmp/report || echo failed")
            assert "failed" in result, f"{what}: {disk.shell('cat /tmp/report')}"
            disk.shell(disk.write(0, 8))
    with world.disk(HONEST + lie(ZONE_OPEN, {}, "status = 200")) as disk:
        disk.shell(f"! blkzone open -o {ZONE} -c 1 {disk.path} 2>/dev/null")
        disk.shell(disk.write(ZONE, 8))


def absurd_configurations_are_refused(world: World) -> None:
    """Zones that no kernel can use, in the configuration."""
    for at, text in ((72, "00" * 4), (72, "01000000"), (72, "03080000"), (84, "00" * 4), (88, "00" * 4), (92, "09")):
        with world.backend(f'{HONEST}\n[[config]]\nat = {at}\nbytes = "{text}"') as (_, name):
            assert not name, f"byte {at} is {text}: there is a disk"


if __name__ == "__main__":
    ksft.run_in_one(
        healthy_guest,
        zones_are_described,
        zones_are_written_in_order,
        zones_change_their_state,
        zones_keep_what_is_written,
        lifetime_is_shown,
        absurd_lifetimes_do_no_harm,
        ranges_travel_together,
        absurd_zones_are_refused,
        absurd_reports_fail,
        absurd_configurations_are_refused,
    )
