# SPDX-License-Identifier: GPL-2.0
"""The guest kernels: source, configuration, build, and where the result is.

A kernel is built once per machine, in a directory of the user's cache whose name holds a hash of
everything it is made from.  An output tree contains its own path, so it is built in place; the
file .complete is written last and is what makes it usable.
"""

import fcntl
import hashlib
import os
import re
import shutil
from pathlib import Path

from guest import apt, paths, step, toolchain
from guest.errors import UserError

SUITE = "trixie-backports"
PACKAGE = "linux-source-7.3"
VERSION = "7.3"
FRAGMENTS = Path(__file__).resolve().parent / "kernel"
COMPLETE = ".complete"
SOURCE_STAMP = ".rust-virtio-source"


def source() -> Path:
    """The kernel source: KSRC, else the one in the cache (which may not be there yet)."""
    own = os.environ.get("KSRC")
    return Path(own).resolve() if own else paths.cache() / "src" / PACKAGE


def source_version(directory: Path) -> str:
    """VERSION.PATCHLEVEL.SUBLEVEL of the kernel source in DIRECTORY."""
    makefile = directory / "Makefile"
    if not makefile.is_file():
        raise UserError(f"{directory} is no kernel source: it has no Makefile.")
    text = makefile.read_text()
    numbers = [re.search(rf"^{name} = (\d+)$", text, re.MULTILINE) for name in ("VERSION", "PATCHLEVEL", "SUBLEVEL")]
    if None in numbers:
        raise UserError(f"{directory} is no kernel source: its Makefile names no version.")
    return ".".join(number.group(1) for number in numbers if number)


def fetch() -> Path:
    """The kernel source, downloaded and unpacked if it is not there."""
    directory = source()
    if (directory / "Makefile").is_file() or os.environ.get("KSRC"):
        source_version(directory)
        return directory
    suite = apt.Suite(SUITE, with_own=False)
    log = "kernel-source"
    suite.update(log)
    work = paths.cache() / "src/unpack"
    shutil.rmtree(work, ignore_errors=True)
    package = suite.download(PACKAGE, work, log)
    step.run(log, f"unpacking {package.name}", ["dpkg", "-x", str(package), str(work)], append=True)
    archive = work / f"usr/src/{PACKAGE}.tar.xz"
    step.run(log, f"unpacking {archive.name}", ["tar", "-x", "-f", str(archive), "-C", str(work)], append=True)
    # Complete, so that a broken download is never taken for the source.
    (work / PACKAGE).rename(directory)
    shutil.rmtree(work)
    return directory


def fragment(flavour: str) -> str:
    """The configuration that FLAVOUR asks for."""
    return "".join((FRAGMENTS / f"{name}.config").read_text() for name in ("common", flavour))


def directory(flavour: str) -> Path:
    """Build directory of FLAVOUR for this source and toolchain."""
    where = source()
    release = source_version(where) if (where / "Makefile").is_file() else f"{VERSION} of {SUITE}"
    identity = "\0".join((release, str(where), fragment(flavour), toolchain.fingerprint()))
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    return paths.cache() / "kernel" / f"{flavour}-{digest}"


def cached(flavour: str) -> Path:
    """Build directory of the guest kernel FLAVOUR, which must have been built."""
    where = directory(flavour)
    if not (where / COMPLETE).exists():
        raise UserError(f"there is no {flavour} guest kernel yet: `make kernel` builds it.")
    return where


def lost(config: str, wanted: str) -> list[str]:
    """Lines of the fragment WANTED that the configuration CONFIG does not have."""
    present = set(config.splitlines())
    missing = []
    for line in wanted.splitlines():
        if not line.startswith("CONFIG_"):
            continue
        name, _, value = line.partition("=")
        kept = not any(f"{name}={other}" in present for other in ("y", "m")) if value == "n" else line in present
        if not kept:
            missing.append(line)
    return missing


def build(flavour: str) -> Path:
    """The guest kernel FLAVOUR, built if it is not there; returns its build directory."""
    src = fetch()
    where = directory(flavour)
    where.mkdir(parents=True, exist_ok=True)
    with (where.parent / f"{where.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (where / COMPLETE).exists():
            _build(src, where, flavour)
    return where


def _build(src: Path, where: Path, flavour: str) -> None:
    wanted = fragment(flavour)
    allconfig = where / "fragment.config"
    allconfig.write_text(wanted)
    make = [
        *("make", "-C", str(src), f"O={where}", *toolchain.make_arguments()),
        *("KBUILD_BUILD_USER=guest", "KBUILD_BUILD_HOST=guest"),
    ]
    # Variables of a make above us (MO=, M=, V=) are meant for the modules, not for the kernel.
    env = {"MAKEFLAGS": "", "MFLAGS": "", "MAKEOVERRIDES": ""}
    log = f"kernel-{flavour}"
    configure = [*make, f"KCONFIG_ALLCONFIG={allconfig}", "allnoconfig"]
    step.run(log, f"configuring the {flavour} kernel", configure, env=env)
    missing = lost((where / ".config").read_text(), wanted)
    if missing:
        raise UserError(f"the {flavour} kernel's configuration lost {', '.join(missing)}: a dependency is not met.")
    targets = [*make, f"-j{os.cpu_count() or 1}", "bzImage", "modules"]
    step.run(log, f"building the {flavour} kernel", targets, env=env, append=True)
    (where / COMPLETE).write_text(toolchain.fingerprint() + "\n")


def check_kdir(kdir: Path) -> None:
    """Refuse a kernel that our modules cannot be built for, in one sentence."""
    release = kdir / "include/config/kernel.release"
    if not release.is_file():
        raise UserError(f"KDIR={kdir} is not a built kernel (no include/config/kernel.release).")
    version = release.read_text().strip()
    if not re.match(rf"{re.escape(VERSION)}([.\-+]|$)", version):
        raise UserError(f"KDIR={kdir} is kernel {version}; these modules are for {VERSION}.")
    config = kdir / "include/config/auto.conf"
    text = config.read_text() if config.is_file() else ""
    if not re.search(r"^CONFIG_RUST=y$", text, re.MULTILINE):
        raise UserError(f"KDIR={kdir} was built without CONFIG_RUST: build that kernel with CONFIG_RUST=y.")
    if not (kdir / "Module.symvers").is_file() or not list((kdir / "rust").glob("libkernel.rmeta")):
        raise UserError(f"KDIR={kdir} is configured but not built (no Module.symvers or rust/libkernel.rmeta).")
    built_with = re.search(r'^CONFIG_RUSTC_VERSION_TEXT="(.*)"$', text, re.MULTILINE)
    ours = toolchain.version([toolchain.rustc(), "--version"])
    if built_with and built_with.group(1) != ours:
        raise UserError(
            f"KDIR={kdir} was built with {built_with.group(1)}, but RUSTC is {ours}: name the same with RUSTC=."
        )
