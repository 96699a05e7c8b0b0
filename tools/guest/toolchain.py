# SPDX-License-Identifier: GPL-2.0
"""The compilers the guest kernels and, by default, our modules are built with.

A machine may have a rustup rustc first in PATH, which lacks the kernel's rust-src: Debian's is
named by its path.  clang has the LLVM of rustc, which CONFIG_RUST_INLINE_HELPERS needs.
"""

import os
import shutil
import subprocess
from pathlib import Path

from guest import paths

LLVM = "-22"
BINDGEN_VERSION = "0.73.2"
DEBIAN_BIN = Path("/usr/bin")


def bindgen_root() -> Path:
    """Where `make deps` installs bindgen."""
    return paths.cache() / "bindgen" / BINDGEN_VERSION


def bindgen() -> str:
    """The bindgen to use: BINDGEN, else our own."""
    return os.environ.get("BINDGEN") or str(bindgen_root() / "bin/bindgen")


def tool(variable: str, name: str) -> str:
    """The program in the environment's VARIABLE, else Debian's, else the one in PATH."""
    chosen = os.environ.get(variable)
    if chosen:
        return chosen
    debian = DEBIAN_BIN / name
    return str(debian) if debian.exists() else shutil.which(name) or name


def rustc() -> str:
    """The Rust compiler of kernel and modules."""
    return tool("RUSTC", "rustc")


def llvm() -> str:
    """The kernel build's LLVM= value; empty for gcc."""
    return os.environ.get("LLVM", LLVM)


def make_arguments() -> list[str]:
    """Variables for the kernel's make."""
    arguments = [f"LLVM={llvm()}"] if llvm() else []
    return [
        *arguments,
        f"RUSTC={rustc()}",
        f"HOSTRUSTC={tool('HOSTRUSTC', 'rustc')}",
        f"RUSTDOC={tool('RUSTDOC', 'rustdoc')}",
        f"RUSTFMT={tool('RUSTFMT', 'rustfmt')}",
        f"CLIPPY_DRIVER={tool('CLIPPY_DRIVER', 'clippy-driver')}",
        f"BINDGEN={bindgen()}",
    ]


def version(command: list[str]) -> str:
    """First line of what COMMAND prints, empty if it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout else ""


def clang() -> str:
    """The C compiler's name."""
    return f"clang{llvm()}" if llvm().startswith("-") else "clang"


def fingerprint() -> str:
    """Versions of everything that decides what a kernel build contains."""
    compilers = [[rustc(), "--version"], [clang(), "--version"], [bindgen(), "--version"]]
    return "\n".join(version(command) for command in compilers)


def jobs() -> list[str]:
    """-j for a make of our own: nothing if a make above us has a jobserver, else all processors."""
    flags = os.environ.get("MAKEFLAGS", "")
    return [] if "jobserver" in flags else [f"-j{os.cpu_count() or 1}"]
