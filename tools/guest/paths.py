# SPDX-License-Identifier: GPL-2.0
"""Where things are: the source tree, its build directory, and the user's cache."""

import os
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
BUILD = TOP / "build"
LOGS = BUILD / "log"

FLAVOURS = ("release", "debug")


def cache() -> Path:
    """Directory that outlives `make clean`: kernels, guest roots, downloaded sources."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "rust-virtio"


def module_dir(flavour: str) -> Path:
    """Output directory (MO=) of our modules for one kernel flavour."""
    return BUILD / flavour


def shown(path: Path) -> str:
    """PATH as a person in the source tree would type it."""
    try:
        return str(path.relative_to(TOP))
    except ValueError:
        return str(path)
