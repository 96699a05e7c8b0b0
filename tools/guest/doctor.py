# SPDX-License-Identifier: GPL-2.0
"""What a machine needs: one sentence for each thing that is missing, and its installation."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from guest import apt, build, step, toolchain

LOG = "deps"


@dataclass(frozen=True)
class Item:
    """One need: what it is for, how to see that it is met, and the Debian package that meets it."""

    name: str
    purpose: str
    met: Callable[[], bool]
    package: str = ""
    backport: bool = False


def command(name: str) -> Callable[[], bool]:
    """Whether program NAME is in PATH or one of the administrator's directories."""
    return lambda: shutil.which(name) is not None or shutil.which(name, path="/usr/sbin:/sbin") is not None


def file(path: str) -> Callable[[], bool]:
    """Whether there is a file that matches the glob PATH."""
    return lambda: any(Path("/").glob(path.lstrip("/")))


def _static_busybox() -> bool:
    found = shutil.which("busybox")
    if found is None:
        return False
    return b"ld-linux" not in Path(found).read_bytes()[:4096]


def _qemu() -> bool:
    found = re.search(r"version (\d+)\.", toolchain.version(["qemu-system-x86_64", "--version"]))
    return found is not None and int(found.group(1)) >= 10


def _same_llvm() -> bool:
    done = subprocess.run([toolchain.rustc(), "-vV"], capture_output=True, text=True, check=False)
    ours = re.search(r"LLVM version: (\d+)", done.stdout)
    theirs = re.search(r"version (\d+)", toolchain.version([toolchain.clang(), "--version"]))
    return ours is not None and theirs is not None and ours.group(1) == theirs.group(1)


def _rustc() -> bool:
    # Not any rustc of the PATH: a rustup one has no rust-src of the same version beside it.
    if "RUSTC" not in os.environ and not (toolchain.DEBIAN_BIN / "rustc").exists():
        return False
    return toolchain.version([toolchain.rustc(), "--version"]) != ""


def _rust_src() -> bool:
    done = subprocess.run([toolchain.rustc(), "--print", "sysroot"], capture_output=True, text=True, check=False)
    return (Path(done.stdout.strip()) / "lib/rustlib/src/rust/library/core/src/lib.rs").exists()


def _clippy() -> bool:
    # Not any clippy of the PATH: it reads what rustc made of the kernel, which takes the same release.
    driver = toolchain.tool("CLIPPY_DRIVER", "clippy-driver")
    ours = re.search(r"rustc 1\.(\d+)", toolchain.version([toolchain.rustc(), "--version"]))
    theirs = re.search(r"clippy 0\.1\.(\d+)", toolchain.version([driver, "--version"]))
    return ours is not None and theirs is not None and ours.group(1) == theirs.group(1)


def _guarded(check: Callable[[], bool]) -> bool:
    try:
        return check()
    except OSError:
        return False


PACKAGES = (
    Item("make", "the build", command("make"), "make"),
    Item("git", "the host tests", command("git"), "git"),
    Item("gcc", "the host's own tools in a kernel build", command("gcc"), "gcc"),
    Item("g++", "the fuzz targets", command("g++"), "g++"),
    Item("rustc", "kernel and modules", _rustc, "rustc-web"),
    Item("rust-src", "the kernel's core library, from the same rustc", _rust_src, "rust-web-src"),
    Item("rustfmt", "the style check", lambda: _tool("rustfmt"), "rustfmt-web"),
    Item("clippy-driver", "the style check", _clippy, "rust-web-clippy"),
    Item("clang", "kernel and modules", command(toolchain.clang()), "clang-22"),
    Item("lld", "kernel and modules", command(f"ld.lld{toolchain.llvm()}"), "lld-22"),
    Item("llvm", "kernel and modules", command(f"llvm-nm{toolchain.llvm()}"), "llvm-22"),
    Item("libclang", "bindgen", file("/usr/lib/llvm-22/lib/libclang*.so*"), "libclang-22-dev"),
    Item("libelf", "objtool", file("/usr/include/libelf.h"), "libelf-dev"),
    Item("libdw", "a build with symbol versions", file("/usr/include/elfutils/libdw.h"), "libdw-dev"),
    Item("openssl headers", "the kernel's host tools", file("/usr/include/openssl/ssl.h"), "libssl-dev"),
    Item("flex", "Kconfig", command("flex"), "flex"),
    Item("bison", "Kconfig", command("bison"), "bison"),
    Item("bc", "the kernel build", command("bc"), "bc"),
    Item("cpio", "the kernel build", command("cpio"), "cpio"),
    Item("zstd", "the kernel image", command("zstd"), "zstd"),
    Item("xz", "the kernel source", command("xz"), "xz-utils"),
    Item("rsync", "the kernel's selftests", command("rsync"), "rsync"),
    Item("kmod", "module dependencies in the guest", command("depmod"), "kmod"),
    Item("pahole", "type information of the kernel", command("pahole"), "dwarves"),
    Item("busybox", "the initramfs (a static one)", _static_busybox, "busybox-static"),
    Item("e2fsprogs", "disks of the guest", command("mke2fs"), "e2fsprogs"),
    Item("mmdebstrap", "the guest root", command("mmdebstrap"), "mmdebstrap"),
    Item("shellcheck", "the style check", command("shellcheck"), "shellcheck"),
    Item("debhelper", "the Debian package", command("dh"), "debhelper"),
    Item("dh_dkms", "the Debian package", command("dh_dkms"), "dh-dkms"),
    Item("mandoc", "the style check", command("mandoc"), "mandoc"),
    Item("valgrind", "`bench host`", command("valgrind"), "valgrind"),
    Item("python3-venv", "documentation, plots and virtme-ng", lambda: _module("ensurepip"), "python3-venv"),
    Item("QEMU 10", "the guest", _qemu, "qemu-system-x86", backport=True),
    Item("storage daemon", "the disk by vhost-user", command("qemu-storage-daemon"), "qemu-utils", backport=True),
    Item("SeaBIOS", "the guest", file("/usr/share/seabios/bios-256k.bin"), "seabios", backport=True),
    Item("iPXE", "network devices of the guest", file("/usr/lib/ipxe/qemu/*.rom"), "ipxe-qemu", backport=True),
)


def _tool(name: str) -> bool:
    return (toolchain.DEBIAN_BIN / name).exists() or shutil.which(name) is not None


def _module(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _cargo_missing() -> bool:
    return shutil.which("cargo") is None


def missing() -> list[Item]:
    """The packages that this machine lacks."""
    return [item for item in PACKAGES if not _guarded(item.met)]


def bindgen_works() -> bool:
    """Whether the bindgen we use runs."""
    return toolchain.version([toolchain.bindgen(), "--version"]) != ""


def report() -> int:
    """Print a sentence for each thing that is missing; returns the exit status."""
    lacking = missing()
    for item in lacking:
        suite = f"-t {apt.codename()}-backports " if item.backport else ""
        print(f"{item.name} is missing ({item.purpose}): `make deps` (apt-get install {suite}{item.package}).")
    count = len(lacking)
    if not bindgen_works():
        print(f"bindgen {toolchain.BINDGEN_VERSION} is missing (the modules): `make deps` (cargo install).")
        count += 1
    if _cargo_missing():
        print("cargo is missing (bindgen and the host tests): `make deps` (apt-get install cargo-web).")
        count += 1
    if (not lacking or all(item.package not in ("rustc-web", "clang-22") for item in lacking)) and not _same_llvm():
        print(
            "rustc and clang have different LLVM versions, which RUST_INLINE_HELPERS forbids:"
            " name matching ones with RUSTC= and LLVM=-N."
        )
        count += 1
    if count == 0:
        print("Everything that `make run` and `make check` need is here.")
    return 1 if count else 0


def install() -> int:
    """Install what is missing; returns the exit status."""
    lacking = missing()
    own = [item.package for item in lacking if not item.backport]
    newer = [item.package for item in lacking if item.backport]
    if _cargo_missing():
        own.append("cargo-web")
    if own or newer:
        step.run(LOG, "package lists", apt.as_root(["apt-get", "update"]))
    if own:
        apt.install(own, LOG)
    if newer:
        suite = build.backports()
        suite.update(LOG)
        # Together, so that firmware and QEMU come from the same suite.
        apt.install(["qemu-system-x86", "qemu-utils", "seabios", "ipxe-qemu"], LOG, suite)
    if not bindgen_works():
        build.bindgen()
    importlib.invalidate_caches()
    sys.stdout.flush()
    return report()
