# SPDX-License-Identifier: GPL-2.0
"""The two C programs of the scales, built when they are older than their source."""

from pathlib import Path

from guest import paths, step, toolchain

HERE = Path(__file__).resolve().parent
OUTPUT = paths.BUILD / "bench"

FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror")


def _compile(name: str, sources: list[Path], *flags: str) -> Path:
    OUTPUT.mkdir(parents=True, exist_ok=True)
    target = OUTPUT / name
    if not target.exists() or any(source.stat().st_mtime >= target.stat().st_mtime for source in sources):
        compiled = [str(source) for source in sources if source.suffix == ".c"]
        command = [toolchain.clang(), *FLAGS, *flags, "-o", str(target), *compiled]
        step.run(f"bench-{name}", f"building {name}", command)
    return target


def plugin() -> Path:
    """The counting plugin for QEMU."""
    sources = [HERE / "plugin/count.c", HERE / "plugin/qemu_plugin.h"]
    return _compile("count.so", sources, "-shared", "-fPIC", "-fvisibility=hidden")


def load() -> Path:
    """The program that does the work in the guest, where there is no library."""
    return _compile("load", [HERE / "load/load.c"], "-static")
