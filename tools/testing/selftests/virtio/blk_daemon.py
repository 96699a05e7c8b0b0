#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""A disk whose other side is qemu-storage-daemon, by vhost-user: verified, and with the daemon killed under it.

# guest *: --root full --timeout 900
# guest release: --kernel release
# long debug: --kernel debug --timeout 1800
"""

import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from guest import ksft
from guest.blk_load import Load
from guest.ksft import Shell
from guest.run import Config, Guest
from guest.working_guest import LONG

DAEMON = "qemu-storage-daemon"
SIZE = 16 << 20
PATIENCE = 120
# What the daemon says that the serial number is.
SERIAL = "vhost_user_blk"
QUEUES = 2
ROUNDS = 20 if LONG else 2
KSFT_SKIP = 4
# Seconds of a request, of its second try after the device was reset, and some more.
TIMEOUT, BOUND = 2, 60


class Daemon:
    """The daemon, which can be killed and started again."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "socket"
        disk = directory / "disk"
        disk.write_bytes(bytes(SIZE))
        self._arguments = [
            *(DAEMON, "--blockdev", f"driver=file,node-name=disk,filename={disk},discard=unmap"),
            "--export",
            f"type=vhost-user-blk,id=export,addr.type=unix,addr.path={self.socket},node-name=disk,writable=on,num-queues={QUEUES}",
        ]
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self.socket.unlink(missing_ok=True)
        self.process = subprocess.Popen(self._arguments, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while not self.socket.exists():
            assert self.process.poll() is None, f"{DAEMON} ended with status {self.process.returncode}"
            assert time.monotonic() < deadline, f"{DAEMON} does not listen"
            time.sleep(0.05)

    def kill(self) -> None:
        """End it, at once."""
        self.process.kill()
        self.process.wait()


@dataclass
class World:
    """The guest, a shell in it, the other side of its disk, and what writes to it."""

    guest: Guest
    shell: Shell
    daemon: Daemon
    load: Load

    def begin(self) -> None:
        """Start to write."""
        self.shell("blkdiscard -z /dev/vda")
        self.load.start()


@contextlib.contextmanager
def healthy_guest(config: Config) -> Iterator[World]:
    """One guest and the daemon; afterwards its console shows nothing bad."""
    with tempfile.TemporaryDirectory(prefix="daemon-") as name:
        daemon = Daemon(Path(name))
        config.default_devices = False
        Load.prepare(config)
        memory = f"memory-backend-memfd,id=ram,size={config.memory}M,share=on"
        config.qemu_args += ["-object", memory, "-machine", "memory-backend=ram"]
        config.qemu_args += ["-chardev", f"socket,id=daemon,path={daemon.socket},reconnect-ms=100"]
        config.qemu_args += ["-device", f"vhost-user-blk-pci,chardev=daemon,num-queues={QUEUES}"]
        Shell.prepare(config)
        try:
            with Guest(config) as guest:
                shell = Shell(guest)
                # The daemon does not say to the next one which requests it had in work, and QEMU counts them: with
                # several that end out of order, it gives wrong ones to the next daemon.
                world = World(guest, shell, daemon, Load(shell, SERIAL, PATIENCE, threads=1))
                world.shell.wait("[ -b /dev/vda ]", PATIENCE)
                yield world
                world.shell.start("exit")
                ksft.passed(guest)
        finally:
            daemon.kill()


def keeps(world: World) -> None:
    """What is written is read again, with many requests at once in both queues."""
    assert world.shell("ls /sys/block/vda/mq | wc -l") == str(QUEUES)
    for options in ("--rw=randwrite --bsrange=512-64k --iodepth=32", "--rw=randrw --bs=4k --iodepth=64"):
        world.shell(
            "fio --name=verify --filename=/dev/vda --ioengine=libaio --direct=1 --size=4m --offset_increment=4m "
            "--numjobs=2 --thread --verify=crc32c --verify_fatal=1 --verify_state_save=0 --eta=never "
            f"--output=/tmp/fio {options} || (cat /tmp/fio; false)"
        )


def empties(world: World) -> None:
    """Discards, zeroes, and flushes are answered."""
    world.shell("dd if=/dev/urandom of=/dev/vda bs=64k count=4 oflag=direct conv=fsync 2>/dev/null")
    world.shell("blkdiscard -l 65536 /dev/vda && blkdiscard -z -o 65536 -l 65536 /dev/vda")
    world.shell("dd if=/dev/vda bs=64k skip=1 count=1 iflag=direct 2>/dev/null | cmp -n 65536 - /dev/zero")


def daemon_killed_and_started(world: World) -> None:
    """The daemon dies, and another takes its place before a program has to hear of it."""
    world.begin()
    for _ in range(ROUNDS):
        world.daemon.kill()
        time.sleep(0.3)
        world.daemon.start()
        world.load.works()
    assert world.load.errors() == 0, "a request failed"
    world.load.end()


def daemon_gone_for_long(world: World) -> None:
    """The daemon stays away: requests end with errors, none waits for ever; then it comes back."""
    if "updates" not in world.shell("modprobe -D virtio_blk | tail -n 1"):
        raise ksft.Skip("C virtio_blk waits for ever")
    world.shell(f"echo {TIMEOUT * 1000} >/sys/block/vda/queue/io_timeout")
    world.begin()
    world.daemon.kill()
    world.load.fails(BOUND)
    world.daemon.start()
    world.load.works()
    world.load.end()


if __name__ == "__main__":
    if shutil.which(DAEMON) is None:
        print(f"KTAP version 1\n1..0 # SKIP there is no {DAEMON}")
        sys.exit(KSFT_SKIP)
    ksft.run_in_one(healthy_guest, keeps, empties, daemon_killed_and_started, daemon_gone_for_long)
