# SPDX-License-Identifier: GPL-2.0
"""The rules about every file: licence line, length, open tasks, paths, and what is not source."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

import layers
from report import Finding

_SOURCE_SUFFIXES = frozenset({".rs", ".c", ".h", ".py", ".sh", ".mk", ".config", ".rst", ".toml", ".yml", ".yaml"})
_SOURCE_NAMES = frozenset({"Makefile", "Kbuild", "Kconfig"})
_BUILT_SUFFIXES = frozenset(
    {
        ".a",
        ".cmd",
        ".cpio",
        ".elf",
        ".img",
        ".ko",
        ".mod",
        ".o",
        ".pyc",
        ".qcow2",
        ".rlib",
        ".rmeta",
        ".so",
        ".zst",
    }
)
_BUILT_NAMES = frozenset({"Cargo.lock", "Module.symvers", "modules.order"})
_SPDX = re.compile(r"SPDX-License-Identifier: \S+")
# Put together, so that this file passes its own rules.
_TASK_WORDS = "|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX"))
_TASK = re.compile(rf"\b({_TASK_WORDS})\b(?:\[(\w+)\])?")
_MACHINE_PATH = re.compile(r"(?<![\w.~})$*-])/(?:home|root|work)/")
_GENERATED = "@" + "generated"


def is_source(path: str) -> bool:
    """Whether the file at `path` is text that somebody writes and reads as source."""
    name = PurePosixPath(path)
    return name.suffix in _SOURCE_SUFFIXES or name.name in _SOURCE_NAMES


def check_source(path: str, text: str, tasks: frozenset[str]) -> Iterator[Finding]:
    """Every finding about the source file at `path`; `tasks` are the codes of known tasks."""
    lines = text.split("\n")
    yield from _licence(path, lines)
    yield from _length(path, lines)
    if not path.startswith("Documentation/"):
        yield from _tasks(path, lines, tasks)


def _licence(path: str, lines: list[str]) -> Iterator[Finding]:
    at = 1 if lines[0].startswith("#!") else 0
    if at >= len(lines) or not _SPDX.search(lines[at]):
        yield Finding(path, at + 1, "no SPDX-License-Identifier in its line")


def _length(path: str, lines: list[str]) -> Iterator[Finding]:
    count = len(lines) - (lines[-1] == "")
    generated = any(_GENERATED in line for line in lines[:5])
    if count > layers.MAX_LINES and not generated:
        yield Finding(path, layers.MAX_LINES + 1, f"{count} lines are too many for one file")


def _tasks(path: str, lines: list[str], tasks: frozenset[str]) -> Iterator[Finding]:
    for number, line in enumerate(lines, 1):
        for word, code in _TASK.findall(line):
            if not code:
                yield Finding(path, number, f"{word} without a code that the documentation lists")
            elif code not in tasks:
                yield Finding(path, number, f"{word}[{code}] is not in Documentation/")


def task_codes(text: str) -> set[str]:
    """The codes in brackets of a documentation page."""
    return set(re.findall(r"\[(\w+)\]", text))


def check_text(path: str, text: str) -> Iterator[Finding]:
    """Findings about any text file: paths that exist on one machine only."""
    for number, line in enumerate(text.split("\n"), 1):
        if _MACHINE_PATH.search(line):
            yield Finding(path, number, "an absolute path of somebody's machine")


def check_file(path: str, start: bytes) -> Iterator[Finding]:
    """Findings about what should not be in a repository, from name and first bytes."""
    name = PurePosixPath(path)
    if name.name in _BUILT_NAMES or name.suffix in _BUILT_SUFFIXES:
        yield Finding(path, 1, "a file that the build makes does not belong into the tree")
    elif start.startswith(b"\x7fELF") or b"\0" in start:
        yield Finding(path, 1, "a binary does not belong into the tree")
