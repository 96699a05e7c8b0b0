#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The C driver virtiofs, with virtiofsd on the other side: a directory of the host's.

# guest *: --timeout 300
# guest release: --kernel release
# long intx: --kernel release --append vectors=0
# long c-transport: --kernel release --swap virtio_pci=c
# long debug: --kernel debug --timeout 600
# long c: --stack c --kernel release
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from guest import ksft, virtiofsd
from guest.ksft import Shell
from guest.run import Config, Guest

PATIENCE = 60
SIZE = 3 << 20
FILES = 200
KSFT_SKIP = 4
# Options of the device that the command line of the kernel, which does not know them, brings here.
OPTIONS = ("vectors=0",)


@dataclass
class World:
    """The guest, a shell in it with the directory on /mnt, and the directory."""

    guest: Guest
    shell: Shell
    shared: Path


@contextlib.contextmanager
def daemon(program: Path, directory: Path, shared: Path) -> Iterator[Path]:
    """The daemon for SHARED; its socket."""
    socket = directory / "socket"
    # It changes its root: whoever is not root cannot have that.
    command = [str(program), f"--socket-path={socket}", "-o", f"source={shared},cache=none,sandbox=chroot"]
    with (directory / "daemon").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            deadline = time.monotonic() + PATIENCE
            while not socket.exists():
                said = (directory / "daemon").read_text()
                assert process.poll() is None, f"virtiofsd ended with status {process.returncode}: {said}"
                assert time.monotonic() < deadline, "virtiofsd does not listen"
                time.sleep(0.05)
            yield socket
        finally:
            process.kill()


@contextlib.contextmanager
def healthy_guest(config: Config) -> Iterator[World]:
    """One guest and the daemon; afterwards its console shows nothing bad."""
    program = virtiofsd.program()
    assert program is not None
    with tempfile.TemporaryDirectory(prefix="virtiofs-") as name:
        shared = Path(name) / "shared"
        shared.mkdir()
        with daemon(program, Path(name), shared) as socket:
            config.default_devices = False
            memory = f"memory-backend-memfd,id=ram,size={config.memory}M,share=on"
            config.qemu_args += ["-object", memory, "-machine", "memory-backend=ram"]
            config.qemu_args += ["-chardev", f"socket,id=daemon,path={socket}"]
            options = "".join(f",{option}" for option in OPTIONS if option in config.append)
            config.qemu_args += ["-device", f"vhost-user-fs-pci,chardev=daemon,tag=shared{options}"]
            Shell.prepare(config)
            with Guest(config) as guest:
                world = World(guest, Shell(guest), shared)
                world.shell("mkdir -p /mnt && modprobe virtiofs && mount -t virtiofs shared /mnt")
                yield world
                world.shell("umount /mnt")
                world.shell.start("exit")
                ksft.passed(guest)


def files_of_the_host_are_read(world: World) -> None:
    """What the host wrote, the guest reads: one large file, and one after the other."""
    (world.shared / "large").write_bytes(os.urandom(SIZE))
    written = subprocess.run(["sha256sum", "large"], cwd=world.shared, capture_output=True, text=True, check=True)
    assert world.shell("cd /mnt && sha256sum large; cd /") == written.stdout.strip()
    many = world.shared / "many"
    many.mkdir()
    for number in range(FILES):
        (many / f"{number}").write_text(f"{number * number}\n")
    read = world.shell(f"for n in $(seq 0 {FILES - 1}); do cat /mnt/many/$n; done | sha256sum")
    text = "".join(f"{number * number}\n" for number in range(FILES))
    wanted = subprocess.run(["sha256sum"], input=text, capture_output=True, text=True, check=True)
    assert read == wanted.stdout.strip()


def files_of_the_guest_are_written(world: World) -> None:
    """What the guest writes, by several programs at once, the host reads."""
    world.shell(
        "mkdir /mnt/guest && for n in 0 1 2 3; do "
        f"(head -c {SIZE} /dev/urandom >/mnt/guest/$n; sync /mnt/guest/$n) & done; wait"
    )
    sums = world.shell("cd /mnt/guest && sha256sum 0 1 2 3; cd /")
    seen = subprocess.run(
        ["sha256sum", "0", "1", "2", "3"], cwd=world.shared / "guest", capture_output=True, text=True, check=True
    )
    assert sums == seen.stdout.strip()
    assert {path.stat().st_size for path in (world.shared / "guest").iterdir()} == {SIZE}


def names_are_changed(world: World) -> None:
    """Directories, links, other names, other modes, and none any more."""
    world.shell(
        "cd /mnt && mkdir d && echo text >d/a && ln -s a d/link && mv d/a d/b && ln d/b d/c && chmod 640 d/b; cd /"
    )
    directory = world.shared / "d"
    assert (directory / "c").read_text() == "text\n"
    assert (directory / "link").readlink() == Path("a")
    assert (directory / "b").stat().st_mode & 0o777 == 0o640
    assert not (directory / "a").exists()
    world.shell("rm -r /mnt/d")
    assert not directory.exists()


def mounted_again_and_again(world: World) -> None:
    """The driver is unloaded and loaded, which resets the device, and finds the same."""
    for _ in range(3):
        world.shell("umount /mnt && rmmod virtiofs && modprobe virtiofs && mount -t virtiofs shared /mnt")
        world.shell("[ -d /mnt/many ]")


if __name__ == "__main__":
    if os.geteuid() != 0 or virtiofsd.program() is None:
        print("KTAP version 1\n1..0 # SKIP there is no virtiofsd, or no root to run it")
        sys.exit(KSFT_SKIP)
    ksft.run_in_one(
        healthy_guest,
        files_of_the_host_are_read,
        files_of_the_guest_are_written,
        names_are_changed,
        mounted_again_and_again,
    )
