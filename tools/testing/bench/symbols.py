# SPDX-License-Identifier: GPL-2.0
"""Addresses of a guest without KASLR, turned into modules and functions."""

import bisect
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from guest import toolchain

KERNEL = "vmlinux"
USER = "user"

# Lines of /proc/kallsyms and System.map that are about code: address, type, name, and perhaps a module.
_LINE = re.compile(r"^([0-9a-f]{16}) [tTwW] (\S+)(?:\s+\[(\S+)\])?$")


@dataclass(frozen=True, order=True)
class Symbol:
    """A function of the kernel, or of MODULE."""

    address: int
    name: str
    module: str = KERNEL


def parse(lines: Iterable[str]) -> list[Symbol]:
    """Functions in LINES of kallsyms or System.map; of several names for one address the first."""
    found: dict[int, Symbol] = {}
    for line in lines:
        match = _LINE.match(line.rstrip("\n"))
        if match is None:
            continue
        address = int(match.group(1), 16)
        # Labels of the compiler and of Kconfig's padding are no functions.
        if address >> 63 and not match.group(2).startswith((".", "__pfx_")):
            found.setdefault(address, Symbol(address, match.group(2), match.group(3) or KERNEL))
    return sorted(found.values())


class Table:
    """All functions of a running guest."""

    def __init__(self, symbols: Iterable[Symbol]) -> None:
        self._symbols = sorted(symbols)
        self._addresses = [symbol.address for symbol in self._symbols]

    @classmethod
    def of(cls, system_map: Path, module_lines: Iterable[str]) -> "Table":
        """The kernel's symbols from SYSTEM_MAP, those of its modules from MODULE_LINES of /proc/kallsyms."""
        with system_map.open() as stream:
            kernel = parse(stream)
        modules = [symbol for symbol in parse(module_lines) if symbol.module != KERNEL]
        return cls([*kernel, *modules])

    def find(self, address: int) -> Symbol:
        """The function that ADDRESS is in; address 0 is user space."""
        index = bisect.bisect_right(self._addresses, address) - 1
        return self._symbols[index] if index >= 0 else Symbol(0, USER, USER)

    @cached_property
    def readable(self) -> dict[str, str]:
        """Demangled names of the Rust functions."""
        return demangled(symbol.name for symbol in self._symbols if symbol.name.startswith("_R"))


def demangled(names: Iterable[str]) -> dict[str, str]:
    """NAMES with what a person calls them, by LLVM's demangler."""
    mangled = sorted(set(names))
    if not mangled:
        return {}
    # A suffix such as .llvm.123 is the compiler's; the demangler would give up.
    plain = [re.sub(r"\.(llvm|cold|part)\b.*$", "", name) for name in mangled]
    command = [f"llvm-cxxfilt{toolchain.llvm()}" if toolchain.llvm().startswith("-") else "llvm-cxxfilt"]
    done = subprocess.run(command, input="\n".join(plain) + "\n", capture_output=True, text=True, check=True)
    return dict(zip(mangled, done.stdout.splitlines(), strict=True))
