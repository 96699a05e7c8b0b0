#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Checks a tree against the layers of the architecture and the rules of its source.

usage: check.py [TREE]

Prints one `path:line: sentence` for each finding; exits with 1 if there is any, else with 0.
The files are those that git knows or would take, or all of them outside a git repository.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import imports
import layers
import rust_rules
import tree_rules
from report import Finding
from rust_tokens import Source

_BINARY_PROBE = 8192


def files_of(tree: Path) -> list[str]:
    """The files of the tree, with slashes, in order."""
    if (tree / ".git").exists():
        command = ["git", "-C", str(tree), "ls-files", "-z", "-co", "--exclude-standard"]
        listing = subprocess.run(command, check=True, capture_output=True).stdout
        names = {name for name in os.fsdecode(listing).split("\0") if name}
        return sorted(name for name in names if (tree / name).is_file())
    return sorted(
        path.relative_to(tree).as_posix()
        for path in tree.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )


def _is_kbuild(path: str) -> bool:
    name = PurePosixPath(path)
    return name.name in ("Kbuild", "Makefile") or name.suffix == ".mk"


def check(tree: Path) -> Iterator[Finding]:
    """Every finding about the tree."""
    texts: dict[str, str] = {}
    for path in files_of(tree):
        content = (tree / path).read_bytes()
        yield from tree_rules.check_file(path, content[:_BINARY_PROBE])
        try:
            texts[path] = content.decode()
        except UnicodeDecodeError:
            if tree_rules.is_source(path):
                yield Finding(path, 1, "source is not UTF-8")

    tasks: set[str] = set()
    for path, text in texts.items():
        if path.startswith("Documentation/"):
            tasks |= tree_rules.task_codes(text)
    sources = {path: Source(text) for path, text in texts.items() if path.endswith(".rs")}
    modules: dict[str, set[str]] = {}
    for path, source in sources.items():
        if crate := layers.crate_of(path):
            modules.setdefault(crate.name, set()).update(imports.declared_modules(source))

    for path, text in texts.items():
        yield from tree_rules.check_text(path, text)
        if tree_rules.is_source(path):
            yield from tree_rules.check_source(path, text, frozenset(tasks))
        if _is_kbuild(path):
            yield from imports.check_kbuild(path, text)
        if PurePosixPath(path).name == "Cargo.toml":
            yield from imports.check_cargo(path, text)
    for path, source in sources.items():
        yield from rust_rules.check(path, source)
        crate = layers.crate_of(path)
        local = modules.get(crate.name, set()) if crate else set()
        yield from imports.check_rust(path, source, local)


def main(arguments: list[str]) -> int:
    """Runs the checks; the value is the exit status."""
    parser = argparse.ArgumentParser(description="check layers and source rules of a tree")
    default = Path(__file__).resolve().parents[3]
    parser.add_argument("tree", nargs="?", type=Path, default=default, help="root of the tree")
    tree: Path = parser.parse_args(arguments).tree
    if not tree.is_dir():
        parser.error(f"{tree} is not a directory")
    findings = sorted(set(check(tree)))
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
