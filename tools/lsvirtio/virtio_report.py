#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""virtio-report: what a report of a bug in a virtio driver needs, as one text.

Reads, and writes nothing but the report.  What cannot be read is named in it.  One file without dependencies, but for
lsvirtio, which is beside it or in PATH.
"""

from __future__ import annotations

import argparse
import gzip
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

VERSION = "0.1.0"
# Seconds that a program may take, on a machine that has much to do.
PATIENCE = 120
# Of the kernel's log: a report is to be read by people.
LOG_LINES = 2000
CONFIG = re.compile(r"^(# )?CONFIG_(\w*VIRTIO\w*|RUST\w*|MODULE_SIG\w*|MODVERSIONS|VDPA\w*|KASAN|LOCKDEP|SWIOTLB)\b.*")
# What a kernel says when something is wrong with it; the lines behind it belong to it.
SPLAT = re.compile(r"cut here|BUG:|WARNING:|Oops|blocked for more than|detected stall|Kernel panic")
SPLAT_END = re.compile(r"end trace|</TASK>")
SPLAT_LINES = 80
COMMAND_LINE = re.compile("ommand line:")
MAC = re.compile(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b", re.IGNORECASE)
SECRET = re.compile(r"(\S*(?:pass|secret|token|key)\S*=)\S+", re.IGNORECASE)
CAPABILITIES = {1: "power management", 5: "MSI", 9: "vendor specific", 16: "PCI Express", 17: "MSI-X"}
STRUCTURES = {1: "common", 2: "notify", 3: "ISR", 4: "device", 5: "PCI configuration access", 8: "shared memory"}
INTRODUCTION = """\
virtio-report {version}: please attach this to the report, after a look whether all of it may be seen by others.
MAC addresses, and values on the command line that look like secrets, are left out.
Say, too: what you did, what you expected, what happened; the command line of the hypervisor and its version;
and whether it happens with the C modules (lsvirtio(1) and the admin guide say how to go back to them).
"""


@dataclass
class Sources:
    """Where the report is made from."""

    sysfs: Path
    procfs: Path
    boot: Path

    def modules(self) -> list[str]:
        """The modules, loaded or with parameters, that have to do with virtio."""
        names = listed(self.sysfs / "module")
        return [name for name in names if "virtio" in name or name in ("vdpa", "vduse")]

    def pci(self) -> list[Path]:
        """The PCI functions that are virtio devices."""
        found = (self.sysfs / "bus/pci/devices" / name for name in listed(self.sysfs / "bus/pci/devices"))
        return [path for path in found if read(path / "vendor").strip() == "0x1af4"]


def read(path: Path) -> str:
    """What is in PATH, or in parentheses why that cannot be known."""
    try:
        return path.read_text(errors="replace")
    except OSError as error:
        return f"({path}: {error.strerror})\n"


def listed(path: Path) -> list[str]:
    """The names in the directory PATH; none if it cannot be read."""
    try:
        return sorted(entry.name for entry in path.iterdir())
    except OSError:
        return []


def program(*command: str) -> str:
    """What COMMAND prints, or in parentheses why it printed nothing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"({command[0]}: {error.strerror if isinstance(error, OSError) else 'no answer in time'})\n"
    return done.stdout + (f"({command[0]}: {done.stderr.strip()})\n" if done.returncode != 0 else "")


def lsvirtio(sources: Sources, *options: str) -> str:
    """What lsvirtio prints."""
    here = Path(__file__).resolve().parent
    beside = [str(path) for path in (here / "lsvirtio", here / "lsvirtio.py") if path.is_file()]
    found = beside[0] if beside else shutil.which("lsvirtio")
    if found is None:
        return "(lsvirtio is neither beside this program nor in PATH)\n"
    return program(sys.executable, found, "--sysfs", str(sources.sysfs), *options)


def system(sources: Sources) -> str:
    """Kernel, machine and command line."""
    uname = os.uname()
    lines = [
        f"{uname.sysname} {uname.release} {uname.version} {uname.machine}",
        read(sources.procfs / "version").strip(),
    ]
    for name in ("sys_vendor", "product_name", "product_version", "bios_version"):
        path = sources.sysfs / "class/dmi/id" / name
        if path.exists():
            lines.append(f"{name}: {read(path).strip()}")
    lines.append(f"processors online: {read(sources.sysfs / 'devices/system/cpu/online').strip()}")
    lines += [
        line for line in read(sources.procfs / "meminfo").splitlines() if line.startswith(("MemTotal", "MemAvail"))
    ]
    lines.append(f"tainted: {read(sources.procfs / 'sys/kernel/tainted').strip()}")
    lines.append("command line: " + SECRET.sub(r"\1...", read(sources.procfs / "cmdline").strip()))
    return "\n".join(lines)


def configuration(sources: Sources) -> str:
    """The lines of the kernel's configuration that matter here."""
    packed = sources.procfs / "config.gz"
    try:
        text = gzip.decompress(packed.read_bytes()).decode(errors="replace")
    except OSError:
        text = read(sources.boot / f"config-{os.uname().release}")
    lines = [line for line in text.splitlines() if CONFIG.match(line)]
    return "\n".join(lines) or text


def modules(sources: Sources) -> str:
    """Each module, with its file and its parameters."""
    parts = []
    for name in sources.modules():
        directory = sources.sysfs / "module" / name
        lines = [f"{name}:"]
        for key in ("taint", "srcversion", "version", "refcnt"):
            if (directory / key).exists():
                lines.append(f"    {key}: {read(directory / key).strip()}")
        parameters = [
            f"{key}={read(directory / 'parameters' / key).strip()}" for key in listed(directory / "parameters")
        ]
        lines += [f"    parameter {parameter}" for parameter in parameters]
        if (directory / "initstate").exists():
            keys = ("filename:", "vermagic:", "signer:", "depends:")
            lines += [f"    {line}" for line in program("modinfo", name).splitlines() if line.startswith((*keys, "("))]
        else:
            lines.append("    built in")
        parts.append("\n".join(lines))
    return "\n".join(parts) or "(no module of virtio)"


def log_lines(text: str, wanted: list[str]) -> list[str]:
    """The lines of a kernel's log TEXT that name one of WANTED, and all of what the kernel complains about."""
    found = []
    rest = 0
    for line in text.splitlines():
        # It has a place of its own.
        if COMMAND_LINE.search(line):
            continue
        if SPLAT.search(line):
            rest = SPLAT_LINES
        if rest or any(word in line for word in wanted):
            found.append(line)
        rest = 0 if SPLAT_END.search(line) else max(rest - 1, 0)
    return found


def log(sources: Sources) -> str:
    """What the kernel said of virtio, and its complaints."""
    text = program("dmesg")
    if text.startswith("(dmesg"):
        return text
    wanted = ["virtio", "virtqueue", "vring", "1af4", *(path.name for path in sources.pci())]
    lines = log_lines(text, wanted)
    dropped = [f"({len(lines) - LOG_LINES} lines before these)"] if len(lines) > LOG_LINES else []
    return "\n".join([*dropped, *lines[-LOG_LINES:]]) or "(no line of it is about virtio)"


def interrupts(sources: Sources) -> str:
    """The interrupts of virtio devices."""
    header, *lines = read(sources.procfs / "interrupts").splitlines()
    return "\n".join([header, *(line for line in lines if "virtio" in line)])


def debugfs(sources: Sources) -> str:
    """Every file of the stack in debugfs that can be read."""
    base = sources.sysfs / "kernel/debug/virtio"
    if not os.access(base, os.R_OK):
        return f"({base} is not there, or for root only)"
    parts = []
    for device in listed(base):
        for name in listed(base / device):
            # Some can be written to only; root may try to read those, too.
            if (base / device / name).stat().st_mode & 0o444:
                parts.append(f"{device}/{name}:\n{read(base / device / name).rstrip()}")
    return "\n".join(parts) or "(empty)"


def hexdump(data: bytes) -> Iterator[str]:
    """DATA in lines of 16 bytes."""
    for at in range(0, len(data), 16):
        yield f"    {at:03x}: {data[at : at + 16].hex(' ')}"


def capabilities(config: bytes) -> Iterator[str]:
    """The list of capabilities in the configuration space CONFIG, which a device wrote: nothing in it is believed."""
    if len(config) < 64 or not config[6] & 0x10:
        return
    at, seen = config[0x34] & 0xFC, set()
    while at >= 64 and at + 2 <= len(config) and at not in seen:
        seen.add(at)
        kind = CAPABILITIES.get(config[at], f"capability {config[at]:#x}")
        if config[at] == 9 and at + 16 <= len(config):
            where, length = (int.from_bytes(config[at + n : at + n + 4], "little") for n in (8, 12))
            structure = STRUCTURES.get(config[at + 3], f"type {config[at + 3]}")
            kind = f"virtio {structure}: BAR {config[at + 4]}, offset {where:#x}, {length:#x} bytes"
        elif config[at] == 17 and at + 4 <= len(config):
            control = int.from_bytes(config[at + 2 : at + 4], "little")
            kind = f"MSI-X: {(control & 0x7FF) + 1} vectors, {'on' if control & 0x8000 else 'off'}"
        yield f"    capability at {at:#04x}: {kind}"
        at = config[at + 1] & 0xFC
    if at in seen:
        yield f"    the list of capabilities comes back to {at:#04x}"


def pci(sources: Sources) -> str:
    """Each virtio function: ids, registers, capabilities, configuration space."""
    parts = []
    for path in sources.pci():
        lines = [f"{path.name}:"]
        for name in ("device", "subsystem_device", "revision", "irq", "power_state", "current_link_speed"):
            if (path / name).exists():
                lines.append(f"    {name}: {read(path / name).strip()}")
        numbered = enumerate(read(path / "resource").splitlines())
        lines += [f"    resource {at}: {line}" for at, line in numbered if line.strip("0x ")]
        try:
            config = (path / "config").read_bytes()[:256]
        except OSError as error:
            lines.append(f"    (configuration space: {error.strerror})")
        else:
            lines += [*capabilities(config), *hexdump(config)]
        parts.append("\n".join(lines))
    return "\n".join(parts) or "(no virtio function)"


SECTIONS: dict[str, Callable[[Sources], str]] = {
    "system": system,
    "devices": lambda sources: lsvirtio(sources, "-v"),
    "modules": modules,
    "kernel log": log,
    "interrupts": interrupts,
    "debugfs": debugfs,
    "PCI": pci,
    "kernel configuration": configuration,
    "devices, for programs": lambda sources: lsvirtio(sources, "--json"),
}


def report(sources: Sources) -> str:
    """The whole report."""
    parts = [INTRODUCTION.format(version=VERSION), time.strftime("%Y-%m-%d %H:%M:%S %z\n")]
    if os.geteuid() != 0:
        parts.append("Not run by root: debugfs, the kernel's log and most of the PCI registers may be missing.\n")
    for title, section in SECTIONS.items():
        try:
            text = section(sources)
        except (OSError, ValueError, IndexError) as error:
            text = f"({title}: {type(error).__name__}: {error})"
        parts.append(f"== {title} ==\n{text.rstrip()}\n")
    return MAC.sub("xx:xx:xx:xx:xx:xx", "\n".join(parts))


def parser() -> argparse.ArgumentParser:
    """The grammar of the command line."""
    top = argparse.ArgumentParser(
        prog="virtio-report", description="Collect what a bug report needs.", epilog="See virtio-report(1)."
    )
    top.add_argument("-o", "--output", type=Path, metavar="FILE", help="write to FILE, which must not exist")
    top.add_argument("--sysfs", type=Path, default=Path("/sys"), metavar="DIR", help="where sysfs is (default: /sys)")
    top.add_argument("--procfs", type=Path, default=Path("/proc"), metavar="DIR", help="where procfs is")
    top.add_argument("--boot", type=Path, default=Path("/boot"), metavar="DIR", help="where config-RELEASE may be")
    top.add_argument("--version", action="version", version=f"virtio-report {VERSION}")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    options = parser().parse_args(arguments)
    if not (options.sysfs / "module").is_dir():
        print(f"virtio-report: there is no sysfs at {options.sysfs}.", file=sys.stderr)
        return 1
    sources = Sources(options.sysfs, options.procfs, options.boot)
    try:
        if options.output is None:
            sys.stdout.write(report(sources))
            sys.stdout.flush()
        else:
            # For its owner alone: who else may see it is up to him.
            descriptor = os.open(options.output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as stream:
                stream.write(report(sources))
    except BrokenPipeError:
        # Whoever read it has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"virtio-report: {options.output or 'the output'}: {error.strerror}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
