# SPDX-License-Identifier: GPL-2.0
"""Python tools from the package index, each set in a virtual environment of the user's cache."""

import hashlib
import sys
import venv
from pathlib import Path

from guest import paths, step

SETS = {
    "style": ("ruff==0.17.6", "mypy==2.4.1"),
    "docs": ("sphinx==9.0.4",),
    "plots": ("matplotlib==3.11.2",),
    "schema": ("jsonschema==4.25.1",),
    "vng": ("virtme-ng==1.42",),
}


def directory(name: str) -> Path:
    """The bin directory of tool set NAME, which is installed if it is not there."""
    wanted = SETS[name]
    key = hashlib.sha256(f"{sys.version}{wanted}".encode()).hexdigest()[:10]
    root = paths.cache() / "venv" / f"{name}-{key}"
    if not (root / ".complete").exists():
        venv.create(root, clear=True, with_pip=True)
        command = [str(root / "bin/pip"), "install", "--quiet", "--disable-pip-version-check", *wanted]
        step.run(f"venv-{name}", f"installing {' '.join(wanted)}", command)
        (root / ".complete").write_text("")
    return root / "bin"
