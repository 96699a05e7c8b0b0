#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The disk, seen from the host: its size changes, its requests come late, its errors are told.

# guest *: --timeout 300
# guest release-split: --kernel release
# long release-packed: --kernel release --append packed=on
# long debug-split: --kernel debug
# long debug-packed: --kernel debug --append packed=on
"""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from guest import ksft
from guest.ksft import Shell
from guest.run import Config, Guest

MIB = 1 << 20
SIZE = 16 * MIB
PATIENCE = 60
SYSFS = "/sys/block/vda"
# Requests that wait together for a device that is slow, and how many bytes a second that does: two seconds a request,
# which is longer than a slow guest takes to ask for the next.  The last would be done 20 seconds after the first: long
# after the device is told again (2 to 4 seconds) and reset (5 to 7 more).
LATE = 10
SLOW = 2048


@dataclass
class World:
    """The guest, a shell in it, and the file behind its disk."""

    guest: Guest
    shell: Shell
    disk: Path

    def is_rust(self) -> None:
        """The driver is ours, or there is nothing to test."""
        if "updates" not in self.shell("modprobe -D virtio_blk | tail -n 1 || true"):
            raise ksft.Skip("virtio_blk is not ours")

    def limit(self, rate: int) -> None:
        """Let the device do RATE bytes a second, or as many as it can if that is 0."""
        limits = {"bps-total": rate}
        self.guest.qmp().command("qom-set", path="/objects/limit", property="limits", value=limits)


@contextlib.contextmanager
def healthy_guest(config: Config) -> Iterator[World]:
    """One guest whose disk can be slow or refuse; afterwards its console shows nothing bad."""
    with tempfile.TemporaryDirectory(prefix="blk-") as name:
        disk = Path(name) / "disk"
        disk.write_bytes(bytes(SIZE))
        rules = Path(name) / "rules"
        # The sector after the last but one MiB cannot be written.
        rules.write_text(
            f'[inject-error]\nevent = "pwritev"\nerrno = "5"\nsector = "{(SIZE - MIB) >> 9}"\nonce = "off"\n'
        )
        config.default_devices = False
        config.qemu_args += ["-object", "throttle-group,id=limit"]
        config.qemu_args += ["-blockdev", f"driver=file,node-name=file,filename={disk}"]
        config.qemu_args += ["-blockdev", f"driver=blkdebug,node-name=faults,image=file,config={rules}"]
        config.qemu_args += ["-blockdev", "driver=raw,node-name=raw,file=faults"]
        config.qemu_args += ["-blockdev", "driver=throttle,node-name=disk,throttle-group=limit,file=raw"]
        layout = ",packed=on" if "packed=on" in config.append else ""
        config.qemu_args += ["-device", f"virtio-blk-pci,drive=disk,werror=report,rerror=report{layout}"]
        Shell.prepare(config)
        with Guest(config) as guest:
            world = World(guest, Shell(guest), disk)
            world.shell.wait("[ -b /dev/vda ]", PATIENCE)
            yield world
            world.shell.start("exit")
            ksft.passed(guest)


def size_follows(world: World) -> None:
    """The disk grows and shrinks when the host says so, and what is new can be written."""
    for size in (2 * SIZE, SIZE // 2, SIZE):
        world.guest.qmp().command("block_resize", **{"node-name": "disk"}, size=size)
        world.shell.wait(f"[ $(cat {SYSFS}/size) -eq {size >> 9} ]", PATIENCE)
        world.shell(f"dd if=/dev/zero of=/dev/vda bs=4096 count=1 seek={(size >> 12) - 1 - (MIB >> 12)} oflag=direct")


def error_is_told(world: World) -> None:
    """A write that fails on the host fails in the guest, and those beside it do not."""
    sector = (SIZE - MIB) >> 9
    world.shell(f"! dd if=/dev/zero of=/dev/vda bs=512 count=1 seek={sector} oflag=direct 2>/dev/null")
    world.shell(f"dd if=/dev/zero of=/dev/vda bs=512 count=1 seek={sector - 8} oflag=direct")


def late_requests_are_not_lost(world: World) -> None:
    """Requests that the device takes too long for make it be reset, and are done all the same."""
    world.is_rust()
    world.shell(f"echo 2000 >{SYSFS}/queue/io_timeout")
    world.shell(f"dd if=/dev/urandom of=/tmp/late bs=4096 count={LATE}")
    world.limit(SLOW)
    try:
        world.shell(
            f"for at in $(seq 0 {LATE - 1}); do dd if=/tmp/late of=/dev/vda bs=4096 count=1 skip=$at seek=$at "
            "oflag=direct 2>/dev/null || touch /tmp/failed & done"
        )
        world.shell.wait("dmesg | grep -q 'a request timed out: the device is reset'", PATIENCE)
    finally:
        # What was begun anew has 15 seconds.
        world.limit(0)
        world.shell(f"wait; echo 30000 >{SYSFS}/queue/io_timeout")
    world.shell("[ ! -e /tmp/failed ]")
    world.shell("dmesg | grep -q 'a request timed out: the device is told again'")
    world.shell(f"dd if=/dev/vda bs=4096 count={LATE} iflag=direct 2>/dev/null | cmp - /tmp/late")


def removal_ends_late_requests(world: World) -> None:
    """The driver leaves a device that is slow, with all its requests ended, and comes back."""
    world.is_rust()
    world.limit(SLOW)
    try:
        world.shell(
            f"for at in $(seq 0 {LATE - 1}); do dd if=/tmp/late of=/dev/vda bs=4096 count=1 skip=$at seek=$at "
            "oflag=direct 2>/dev/null & done; sleep 1; "
            "cd /sys/bus/virtio/drivers/virtio_blk; for device in virtio*; do echo $device >unbind; done; cd /; wait"
        )
    finally:
        world.limit(0)
    world.shell("[ ! -e /dev/vda ]")
    world.shell("cd /sys/bus/virtio/devices; for device in *; do echo $device >../drivers/virtio_blk/bind; done; cd /")
    world.shell.wait("[ -b /dev/vda ]", PATIENCE)
    world.shell(f"dd if=/dev/vda bs=4096 count={LATE} iflag=direct 2>/dev/null | cmp - /tmp/late")


if __name__ == "__main__":
    ksft.run_in_one(
        healthy_guest,
        size_follows,
        error_is_told,
        late_requests_are_not_lost,
        removal_ends_late_requests,
    )
