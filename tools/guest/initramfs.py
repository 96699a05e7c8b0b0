# SPDX-License-Identifier: GPL-2.0
"""Packs the initramfs of one guest run: busybox, our init, the modules, and the command."""

import shlex
import shutil
from pathlib import Path

from guest.cpio import Archive
from guest.errors import UserError

HERE = Path(__file__).resolve().parent


def busybox() -> Path:
    """A busybox that needs no library."""
    found = shutil.which("busybox", path="/bin:/usr/bin:/usr/local/bin")
    if found is None:
        raise UserError("busybox is missing: `make deps` installs it (package busybox-static).")
    return Path(found)


def environment(values: dict[str, str]) -> bytes:
    """VALUES as a file that sh reads with `.`."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items()).encode()


def pack(
    out: Path,
    *,
    command: str,
    env: dict[str, str],
    modules: Path | None,
    extra: dict[str, Path],
) -> None:
    """Write the archive OUT.

    COMMAND is a shell script, ENV what init reads, MODULES a directory made by modules.stage (its
    lib/ and etc/ are packed), EXTRA maps names in the guest to files or directories of the host.
    """
    with out.open("wb") as stream:
        archive = Archive(stream)
        for name in ("bin", "sbin", "usr/bin", "usr/sbin", "proc", "sys", "dev", "tmp", "root", "etc"):
            archive.directory(name)
        archive.character_device("dev/console", 5, 1)
        archive.file("bin/busybox", busybox())
        archive.symlink("bin/sh", "busybox")
        archive.file("init", HERE / "init")
        archive.data("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
        archive.data("etc/group", b"root:x:0:\n")
        archive.data("guest/env", environment(env))
        archive.data("guest/command", command.encode() + b"\n", 0o755)
        for helper in ("enter-root", "udev"):
            archive.file(f"guest/{helper}", HERE / helper)
        if modules is not None:
            archive.tree("lib", modules / "lib")
            archive.tree("etc/modprobe.d", modules / "etc/modprobe.d")
        for name, source in extra.items():
            if source.is_dir():
                archive.tree(name, source)
            else:
                archive.file(name, source)
        archive.close()
