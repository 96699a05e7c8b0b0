# SPDX-License-Identifier: GPL-2.0
"""Whether a page that explains a program line by line has all of its lines, in order, and no others."""

import itertools
import re
from pathlib import Path

PAGE = Path("Documentation/virtio/writing-a-driver.rst")
PROGRAM = Path("samples/rust/rust_virtio_minimal.rs")
_BLOCK = re.compile(r"^\.\. code-block:: rust\n\n((?:(?: {4}.*)?\n)+)", re.MULTILINE)


def quoted(page: str) -> list[str]:
    """The lines of Rust in PAGE, with their indentation, but for empty ones."""
    return [line[4:] for block in _BLOCK.findall(page) for line in block.splitlines() if line.strip()]


def code(program: str) -> list[str]:
    """The lines of PROGRAM, but for empty ones and for comments of whole lines."""
    return [line for line in program.splitlines() if line.strip() and not line.lstrip().startswith("//")]


def problems(top: Path) -> list[str]:
    """The first difference between page and program of the tree at TOP, if there is one."""
    both = quoted((top / PAGE).read_text()), code((top / PROGRAM).read_text())
    for page, program in itertools.zip_longest(*both, fillvalue="(end)"):
        if page != program:
            return [f"{PAGE} has: {page}", f"{PROGRAM} has: {program}"]
    return [] if both[0] else [f"{PAGE} quotes nothing"]
