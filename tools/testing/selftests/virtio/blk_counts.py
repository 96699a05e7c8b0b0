#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""What the block driver counts of each queue: requests that come late, resets, and what they take back.

# guest *: --timeout 300
# guest release: --kernel release
# long release-packed: --kernel release --append packed=on
# long debug: --kernel debug
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
PATIENCE = 60
QUEUES = 2
STATISTICS = "/sys/kernel/debug/virtio/virtio0/statistics"
HEADER = "index timeouts resets requeues failures stops"
# Requests that wait together for a device that is slow.
LATE = 12
# Bytes a second of a device that is slow: two seconds a request.
SLOW = 2048


@dataclass
class World:
    """The guest, and a shell in it."""

    guest: Guest
    shell: Shell

    def limit(self, rate: int) -> None:
        """Let the device do RATE bytes a second, or as many as it can if that is 0."""
        limits = {"bps-total": rate}
        self.guest.qmp().command("qom-set", path="/objects/limit", property="limits", value=limits)

    def sums(self) -> dict[str, int]:
        """The numbers of all queues together, by their names; of resets, the smallest number."""
        header, *lines = self.shell(f"cat {STATISTICS}").splitlines()
        assert header == HEADER, f"the first line is {header!r}"
        rows = [[int(word) for word in line.split()] for line in lines]
        assert [row[0] for row in rows] == list(range(QUEUES)), f"lines of queues: {lines}"
        columns = dict(zip(HEADER.split(), zip(*rows, strict=True), strict=True))
        return {name: min(values) if name == "resets" else sum(values) for name, values in columns.items()}


@contextlib.contextmanager
def healthy_guest(config: Config) -> Iterator[World]:
    """One guest whose disk can be slow; afterwards its console shows nothing bad."""
    with tempfile.TemporaryDirectory(prefix="blk-counts-") as name:
        disk = Path(name) / "disk"
        disk.write_bytes(bytes(SIZE))
        config.default_devices = False
        config.qemu_args += ["-object", "throttle-group,id=limit"]
        config.qemu_args += ["-blockdev", f"driver=file,node-name=file,filename={disk}"]
        config.qemu_args += ["-blockdev", "driver=throttle,node-name=disk,throttle-group=limit,file=file"]
        config.qemu_args += ["-device", "pcie-root-port,id=port0"]
        layout = ",packed=on" if "packed=on" in config.append else ""
        config.qemu_args += ["-device", f"virtio-blk-pci,drive=disk,bus=port0,num-queues={QUEUES}{layout}"]
        Shell.prepare(config)
        with Guest(config) as guest:
            world = World(guest, Shell(guest))
            world.shell.wait("[ -b /dev/vda ]", PATIENCE)
            world.shell("[ -d /sys/kernel/debug/virtio ] || mount -t debugfs none /sys/kernel/debug")
            yield world
            world.shell.start("exit")
            ksft.passed(guest)


def a_disk_that_works_counts_nothing(world: World) -> None:
    """Requests that end in time are not here: the queues count those."""
    world.shell("dd if=/dev/vda of=/dev/null bs=4096 count=64 iflag=direct 2>/dev/null")
    assert not any(count for name, count in world.sums().items() if name != "index"), world.sums()


def resets_are_counted(world: World) -> None:
    """A reset of the function is counted, of each queue, and the counters of the queues begin anew."""
    before = world.sums()["resets"]
    world.shell("echo 1 >$(readlink -f /sys/bus/virtio/devices/virtio0/..)/reset")
    world.shell("dd if=/dev/vda of=/dev/null bs=4096 count=1 iflag=direct 2>/dev/null")
    assert world.sums()["resets"] == before + 1, world.sums()


def late_requests_are_counted(world: World) -> None:
    """A request that times out twice makes the device be reset, and all it had is started anew."""
    before = world.sums()
    world.shell("echo 2000 >/sys/block/vda/queue/io_timeout")
    world.limit(SLOW)
    try:
        world.shell(
            f"for at in $(seq 0 {LATE - 1}); do dd if=/dev/zero of=/dev/vda bs=4096 count=1 seek=$at "
            "oflag=direct 2>/dev/null & done; sleep 1; "
            f"for n in $(seq {PATIENCE}); do dmesg | grep -q 'timed out: the device is reset' && break; sleep 1; done"
        )
    finally:
        world.limit(0)
        world.shell("echo 30000 >/sys/block/vda/queue/io_timeout")
    world.shell("wait")
    after = world.sums()
    assert after["timeouts"] >= before["timeouts"] + 2, after
    assert after["resets"] > before["resets"], after
    assert after["requeues"] > before["requeues"], after
    assert after["failures"] == before["failures"], after


def numbers_go_with_the_driver(world: World) -> None:
    """Without a driver there are no numbers, and a new disk begins with none."""
    world.shell("echo virtio0 >/sys/bus/virtio/drivers/virtio_blk/unbind")
    assert world.shell(f"cat {STATISTICS}") == ""
    world.shell("echo virtio0 >/sys/bus/virtio/drivers/virtio_blk/bind")
    world.shell.wait("[ -b /dev/vda ]", PATIENCE)
    assert world.sums()["resets"] == 0, world.sums()


if __name__ == "__main__":
    ksft.run_in_one(
        healthy_guest,
        a_disk_that_works_counts_nothing,
        resets_are_counted,
        late_requests_are_counted,
        numbers_go_with_the_driver,
    )
