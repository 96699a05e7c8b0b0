# SPDX-License-Identifier: GPL-2.0
"""virtiofsd, the other side of virtiofs.

Debian 12 has it in the package of its own QEMU, which cannot be installed beside the newer one that the guests need:
the program alone is taken out of it, into the cache.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

from guest import paths

PACKAGE = "qemu-system-common/bookworm"
PLACE = "usr/lib/qemu/virtiofsd"


def program() -> Path | None:
    """The program, fetched if it is not there; None if there is none to be had."""
    kept = paths.cache() / "virtiofsd"
    for path in (kept, Path("/") / PLACE):
        if path.exists():
            return path
    with tempfile.TemporaryDirectory(prefix="virtiofsd-") as name:
        directory = Path(name)
        fetch = ["apt-get", "-o", "APT::Sandbox::User=root", "download", PACKAGE]
        if subprocess.run(fetch, cwd=directory, capture_output=True, check=False).returncode != 0:
            return None
        for package in directory.glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(package), str(directory)], check=True)
        found = directory / PLACE
        if not found.exists():
            return None
        fresh = kept.with_name("virtiofsd.fresh")
        shutil.copy(found, fresh)
        fresh.rename(kept)
    return kept
