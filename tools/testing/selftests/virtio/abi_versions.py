#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The modules as built with CONFIG_MODVERSIONS, which no kernel here has: what they export and import has versions.

A kernel with it cannot be made of one without, so nothing is loaded.  What the build reads of a kernel is laid out
anew: its configuration with MODVERSIONS in it, gendwarfksyms, and a Module.symvers whose versions are made up.

# guest release: --kernel release
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from guest import build, kernel, ksft, modules, paths
from guest.run import Config

CORE = ("virtio_ring", "virtio", "virtio_pci")
SWITCHED_ON = (
    *("MODVERSIONS", "ASM_MODVERSIONS", "BASIC_MODVERSIONS", "EXTENDED_MODVERSIONS", "GENDWARFKSYMS"),
    # Which gendwarfksyms reads.
    *("DEBUG_INFO", "DEBUG_INFO_DWARF5"),
)
SWITCHED_OFF = "DEBUG_INFO_NONE"
KSFT_SKIP = 4
TOOL = "scripts/gendwarfksyms"
# Of libdw, whose headers are a package of their own.
HEADER = Path("/usr/include/elfutils/libdw.h")


def made_up(symbol: str) -> int:
    """The version of a SYMBOL of the kernel."""
    return zlib.crc32(symbol.encode()) or 1


def link_all(source: Path, into: Path, but: tuple[str, ...]) -> None:
    """A directory INTO that has what SOURCE has, BUT for what somebody makes."""
    into.mkdir()
    for entry in source.iterdir():
        if entry.name not in but:
            (into / entry.name).symlink_to(entry)


def configured(text: str, before: str, after: str) -> str:
    """A configuration, an option a line with BEFORE in front of its name and AFTER behind, with our choice."""
    lines = [line for line in text.splitlines() if line != f"{before}{SWITCHED_OFF}{after}"]
    return "\n".join([*lines, *(f"{before}{name}{after}" for name in SWITCHED_ON)]) + "\n"


def with_versions(kdir: Path, into: Path) -> None:
    """Lay out INTO what building modules for KDIR reads, as if that had CONFIG_MODVERSIONS."""
    link_all(kdir, into, (".config", "Makefile", "include", "scripts", "Module.symvers"))
    link_all(kdir / "include", into / "include", ("config", "generated"))
    link_all(kdir / "include/config", into / "include/config", ("auto.conf",))
    link_all(kdir / "include/generated", into / "include/generated", ("autoconf.h",))
    link_all(kdir / "scripts", into / "scripts", ("gendwarfksyms",))
    for name, before, after in (
        (".config", "CONFIG_", "=y"),
        ("include/config/auto.conf", "CONFIG_", "=y"),
        ("include/generated/autoconf.h", "#define CONFIG_", " 1"),
    ):
        (into / name).write_text(configured((kdir / name).read_text(), before, after))
    # It names the directory that is built in.
    (into / "Makefile").write_text((kdir / "Makefile").read_text().replace(str(kdir), str(into)))
    symvers = [line.split("\t", 2) for line in (kdir / "Module.symvers").read_text().splitlines()]
    # The version of `struct module` and the like, which only such kernels export.
    symvers.append(["", "module_layout", "vmlinux\tEXPORT_SYMBOL\t"])
    text = "".join(f"{made_up(symbol):#010x}\t{symbol}\t{rest}\n" for _crc, symbol, rest in symvers)
    (into / "Module.symvers").write_text(text)


def build_tool(source: Path, into: Path) -> None:
    """Build gendwarfksyms of the kernel's SOURCE where a build for INTO looks for it."""
    (into / TOOL).mkdir()
    files = [str(path) for path in sorted((source / TOOL).glob("*.c"))]
    flags = ("-O2", "-w", "-I", str(source / "scripts/include"), "-I", str(source / TOOL))
    libraries = ("-ldw", "-lelf", "-lz")
    subprocess.run(["gcc", *flags, *files, *libraries, "-o", str(into / TOOL / "gendwarfksyms")], check=True)


def versions(symvers: Path) -> dict[str, dict[str, int]]:
    """Of each module in SYMVERS, by its file's name: the versions of what it exports."""
    found: dict[str, dict[str, int]] = {}
    for line in symvers.read_text().splitlines():
        crc, symbol, owner, _rest = line.split("\t", 3)
        found.setdefault(Path(owner).name, {})[symbol] = int(crc, 16)
    return found


@dataclass
class Built:
    """Where the modules are, and what they and the kernel's export."""

    output: Path
    ours: dict[str, dict[str, int]]
    kernel: dict[str, dict[str, int]]


@contextlib.contextmanager
def modules_are_built(config: Config) -> Iterator[Built]:
    """All modules, built with versions."""
    kdir = config.kdir or kernel.cached(config.kernel)
    with tempfile.TemporaryDirectory(prefix="versions-") as name:
        overlay = Path(name) / "kernel"
        with_versions(kdir, overlay)
        build_tool((kdir / "source").resolve(), overlay)
        os.environ |= {"KDIR": str(overlay), "MO": str(Path(name) / "modules")}
        target = build.Target(config.kernel)
        log = (config.log or paths.LOGS) / "build.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as stream:
            done = subprocess.run(target.make("modules"), stdout=stream, stderr=subprocess.STDOUT, check=False)
        assert done.returncode == 0, f"the build failed: {log}"
        bad = [line for line in log.read_text().splitlines() if "WARNING" in line or "version generation" in line]
        assert not bad, bad[0]
        yield Built(target.output, versions(target.output / "Module.symvers"), versions(overlay / "Module.symvers"))


def c_abi_has_the_versions_of_the_kernel(built: Built) -> None:
    """C modules were built against the kernel's core: its versions are what they expect."""
    for module in CORE:
        theirs = built.kernel[module]
        wrong = sorted(name for name, version in theirs.items() if built.ours[module].get(name) != version)
        assert theirs and not wrong, f"{module}: {wrong}"


def rust_symbols_have_versions(built: Built) -> None:
    """What our own modules export to each other has versions too, and not all the same."""
    for module in ("virtio_ring", "virtio"):
        own = {name: version for name, version in built.ours[module].items() if name.startswith("_R")}
        without = sorted(name for name, version in own.items() if version == 0)
        assert own and not without, f"{module}: {without}"
        assert len(set(own.values())) > 1, f"{module}: all are {set(own.values())}"
        print(f"# {module}: {len(own)} Rust symbols")


def modules_know_the_versions_of_what_they_import(built: Built) -> None:
    """Each module says which versions it was built with."""
    exported: dict[str, int] = {}
    for owner in (*built.kernel.values(), *built.ours.values()):
        exported |= owner
    for module in sorted(built.output.rglob("*.ko")):
        command = ["modprobe", "--dump-modversions", str(module)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        wanted = dict(reversed(line.split()) for line in done.stdout.splitlines())
        wrong = sorted(name for name, version in wanted.items() if exported.get(name) != int(version, 16))
        assert wanted and not wrong, f"{modules.module_name(module)}: {wrong}"


if __name__ == "__main__":
    if not HEADER.exists():
        print("KTAP version 1\n1..0 # SKIP there is no libdw-dev, which gendwarfksyms needs")
        sys.exit(KSFT_SKIP)
    ksft.run_in_one(
        modules_are_built,
        c_abi_has_the_versions_of_the_kernel,
        rust_symbols_have_versions,
        modules_know_the_versions_of_what_they_import,
    )
