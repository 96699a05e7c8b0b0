# SPDX-License-Identifier: GPL-2.0
"""Our modules: built, installed and removed through the kernel's own build system."""

import fcntl
import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from guest import apt, kernel, modules, paths, rust_project, step, toolchain
from guest.errors import UserError


def own_kdir() -> Path | None:
    """The kernel that KDIR= names, if it does."""
    own = os.environ.get("KDIR")
    return Path(own).resolve() if own else None


def output_directory(flavour: str) -> Path:
    """Where our modules are built: MO=, else a directory named after the kernel."""
    chosen = os.environ.get("MO")
    if chosen:
        return Path(chosen).resolve()
    own = own_kdir()
    return paths.module_dir(modules.kernel_release(own) if own else flavour)


class Target:
    """One kernel to build for, and the output directory (MO=) that goes with it."""

    def __init__(self, flavour: str) -> None:
        own = own_kdir()
        self.kdir = own or kernel.build(flavour)
        kernel.check_kdir(self.kdir)
        self.version = modules.kernel_release(self.kdir)
        self.output = output_directory(flavour)
        self.name = self.output.name

    def make(self, goal: str, *variables: str, suffix: str = "") -> list[str]:
        """Command line of the kernel's make for GOAL, in the output directory with SUFFIX."""
        output = self.output.with_name(self.output.name + suffix)
        output.mkdir(parents=True, exist_ok=True)
        arguments = toolchain.make_arguments()
        if not re.search(r"^CONFIG_CC_IS_CLANG=y$", (self.kdir / ".config").read_text(), re.MULTILINE):
            arguments = [item for item in arguments if not item.startswith("LLVM=")]
        base = ["make", "-C", str(self.kdir), f"M={paths.TOP}", f"MO={output}", *arguments]
        return [*base, *variables, *toolchain.jobs(), goal]


def build(flavour: str) -> Path:
    """Build our modules; returns their directory."""
    target = Target(flavour)
    with _Locked(target.output):
        step.run(f"modules-{target.name}", f"building modules for {target.version}", target.make("modules"))
        modules.note_kernel(target.output, target.kdir)
    return target.output


def clippy(flavour: str) -> None:
    """Compile everything under clippy, warnings being errors, in an output directory of its own."""
    target = Target(flavour)
    command = target.make("modules", "CLIPPY=1", "KRUSTFLAGS=-Dwarnings", suffix="-clippy")
    with _Locked(target.output.with_name(target.output.name + "-clippy")):
        step.run(f"clippy-{target.name}", f"clippy for {target.version}", command)


def rustdoc(flavour: str) -> None:
    """The documentation of our crates, below the output directory."""
    target = Target(flavour)
    with _Locked(target.output):
        command = target.make("modules", "VIRTIO_RUSTDOC=1")
        step.run(f"rustdoc-{target.name}", f"rustdoc for {target.version}", command)


def rust_analyzer(flavour: str) -> None:
    """rust-project.json for rust-analyzer, at the top of the tree."""
    # Built first: rust-analyzer reads the generated bindings.
    build(flavour)
    target = Target(flavour)
    with _Locked(target.output):
        step.run("rust-analyzer", "rust-project.json", target.make("rust-analyzer"))
        rust_project.write(target.output / "rust-project.json", paths.TOP, target.output)


class _Locked:
    """One build at a time in an output directory: two would write the same files."""

    def __init__(self, output: Path) -> None:
        output.parent.mkdir(parents=True, exist_ok=True)
        self._stream = (output.parent / f".{output.name}.lock").open("w")

    def __enter__(self) -> None:
        fcntl.flock(self._stream, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self._stream.close()


def installed(target: Target) -> Path:
    """Where modules_install puts our modules."""
    base = os.environ.get("INSTALL_MOD_PATH", "")
    return Path(f"{base}/lib/modules/{target.version}/updates")


def install(flavour: str) -> None:
    """modules_install: into updates/, which depmod prefers to the kernel's own; not what is experimental."""
    build(flavour)
    target = Target(flavour)
    # With INSTALL_MOD_PATH the kernel's make runs depmod there; without modules.order that fails.
    step.run("modules_install", f"installing modules into {installed(target)}", target.make("modules_install"))
    if os.environ.get("EXPERIMENTAL") != "1":
        where = installed(target)
        if remove(path for name in modules.EXPERIMENTAL for path in where.glob(f"**/{name}.ko*")):
            depmod(target)


def remove(files: Iterable[Path]) -> int:
    """Remove FILES, and tell how many there were."""
    removed = 0
    for path in list(files):
        path.unlink()
        removed += 1
    return removed


def depmod(target: Target) -> None:
    """Have the modules that are installed listed anew."""
    base = os.environ.get("INSTALL_MOD_PATH") or "/"
    command = ["depmod", "-b", base, target.version]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError(f"depmod failed: {done.stderr.strip()}")


def uninstall(flavour: str) -> None:
    """Remove what modules_install put there; the kernel's own modules are in force again."""
    target = Target(flavour)
    where = installed(target)
    ours = [path.relative_to(target.output) for path in sorted(target.output.rglob("*.ko"))]
    removed = remove(path for name in ours for path in where.glob(f"{name}*"))
    if where.is_dir() and not any(where.iterdir()):
        where.rmdir()
    depmod(target)
    print(f"removed {removed} modules from {where}")


def rustfmt(check: bool) -> None:
    """Format our Rust files, or with CHECK only say which are not formatted."""
    skip = {"build", "target", ".git"}
    files = [
        str(path.relative_to(paths.TOP))
        for path in sorted(paths.TOP.rglob("*.rs"))
        if not skip & set(path.relative_to(paths.TOP).parts) and "generated" not in path.name
    ]
    command = [toolchain.tool("RUSTFMT", "rustfmt"), *(["--check"] if check else []), *files]
    step.run("rustfmt", f"rustfmt of {len(files)} files", command, cwd=paths.TOP)


def bindgen() -> None:
    """Install our bindgen into the cache, if it is not there."""
    root = toolchain.bindgen_root()
    if (root / "bin/bindgen").exists():
        return
    cargo = toolchain.tool("CARGO", "cargo")
    command = [cargo, "install", "bindgen-cli", "--version", toolchain.BINDGEN_VERSION, "--locked", "--root", str(root)]
    step.run("bindgen", f"building bindgen {toolchain.BINDGEN_VERSION}", command)


def backports() -> apt.Suite:
    """The backports suite of this machine's Debian, beside its own suites."""
    return apt.Suite(f"{apt.codename()}-backports", with_own=True)
