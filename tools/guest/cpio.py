# SPDX-License-Identifier: GPL-2.0
"""A writer of newc cpio archives, the format of an initramfs.

Written here rather than piped through cpio(1) because an initramfs needs a device node
(/dev/console), which only root could create in a directory.
"""

import os
import stat
from pathlib import Path
from typing import BinaryIO


class Archive:
    """Appends entries to OUT; parents of a path are created on the way, each once."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._inode = 0
        self._seen: set[str] = set()

    def _entry(self, name: str, mode: int, data: bytes = b"", rdev: tuple[int, int] = (0, 0)) -> None:
        self._inode += 1
        encoded = name.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, *rdev, len(encoded), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        for part in (header + encoded, data):
            self._out.write(part)
            self._out.write(b"\0" * (-len(part) % 4))

    def _parents(self, name: str) -> None:
        for parent in reversed(Path(name).parents):
            self.directory(str(parent))

    def directory(self, name: str) -> None:
        """An empty directory NAME, relative to the root, with mode 0755."""
        name = name.strip("/")
        if name in ("", ".") or name in self._seen:
            return
        self._parents(name)
        self._seen.add(name)
        self._entry(name, stat.S_IFDIR | 0o755)

    def data(self, name: str, content: bytes, mode: int = 0o644) -> None:
        """A regular file NAME with CONTENT."""
        name = name.strip("/")
        self._parents(name)
        self._entry(name, stat.S_IFREG | mode, content)

    def symlink(self, name: str, target: str) -> None:
        """A symbolic link NAME that points to TARGET."""
        name = name.strip("/")
        self._parents(name)
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def character_device(self, name: str, major: int, minor: int) -> None:
        """A character device node NAME."""
        name = name.strip("/")
        self._parents(name)
        self._entry(name, stat.S_IFCHR | 0o600, rdev=(major, minor))

    def file(self, name: str, source: Path) -> None:
        """The file SOURCE as NAME; keeps whether it is executable."""
        mode = 0o755 if os.access(source, os.X_OK) else 0o644
        self.data(name, source.read_bytes(), mode)

    def tree(self, name: str, source: Path) -> None:
        """Everything below directory SOURCE as NAME, symbolic links followed."""
        self.directory(name)
        for entry in sorted(source.iterdir()):
            inner = f"{name.strip('/')}/{entry.name}"
            if entry.is_dir():
                self.tree(inner, entry)
            else:
                self.file(inner, entry)

    def close(self) -> None:
        """The trailer; OUT itself stays open."""
        self._entry("TRAILER!!!", 0)
