# SPDX-License-Identifier: GPL-2.0
"""Which kernel modules a guest gets: the kernel's own, ours, and whose twin wins."""

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from guest.errors import UserError

# The two that the Rust drivers link against; they are exchanged together.
CORE = ("virtio_ring", "virtio")

# In a directory of our modules: the kernel that they were built for.
BUILT_FOR = ".kernel"


def module_name(path: Path) -> str:
    """The name lsmod shows for a .ko file."""
    return path.stem.replace("-", "_")


def kernel_release(kdir: Path) -> str:
    """Version string of the kernel built in KDIR, as uname -r prints it."""
    release = kdir / "include/config/kernel.release"
    if not release.is_file():
        raise UserError(f"{kdir} is not a built kernel: include/config/kernel.release is missing.")
    return release.read_text().strip()


def note_kernel(ours: Path, kdir: Path) -> None:
    """Note in OURS, a directory of our modules, that they were built for the kernel in KDIR."""
    (ours / BUILT_FOR).write_text(f"{kdir.resolve()}\n")


def check_kernel(ours: Path, kdir: Path) -> None:
    """Refuse the modules in OURS if they are known to have been built for another kernel than that in KDIR."""
    note = ours / BUILT_FOR
    # They would load if the version is the same, and then find structures of another shape.
    if note.is_file() and note.read_text().strip() != str(kdir.resolve()):
        raise UserError(f"{ours} holds modules for the kernel in {note.read_text().strip()}: build them for {kdir}.")


def kernel_image(kdir: Path) -> Path:
    """The bootable image of the kernel built in KDIR."""
    image = kdir / "arch/x86/boot/bzImage"
    if not image.is_file():
        raise UserError(f"{kdir} holds no arch/x86/boot/bzImage: build the kernel first.")
    return image


@dataclass
class Selection:
    """The modules of one guest, by lsmod name."""

    c: dict[str, Path]
    rust: dict[str, Path]
    choice: dict[str, str] = field(default_factory=dict)
    unloadable: list[str] = field(default_factory=list)

    def twins(self) -> list[str]:
        """Names that exist in both languages."""
        return sorted(self.c.keys() & self.rust.keys())

    def line(self) -> str:
        """`name=rust` or `name=c` of each module that this project replaces or will replace."""
        line = " ".join(f"{name}={whose}" for name, whose in self.choice.items())
        missing = [name for name in self.unloadable if name.startswith("virtio") or name in self.choice]
        return line + (f" (without symbols they need: {' '.join(missing)})" if missing else "")


def find(kdir: Path, ours: Path) -> Selection:
    """The modules of the kernel built in KDIR and those below OURS (which need not exist)."""
    order = kdir / "modules.order"
    if not order.is_file():
        raise UserError(f"{kdir} holds no modules.order: build the kernel's modules first.")
    paths = [kdir / line.removesuffix(".o").removesuffix(".ko") for line in order.read_text().split()]
    c = {module_name(path): path.with_name(path.name + ".ko") for path in paths}
    rust = {module_name(path): path for path in sorted(ours.rglob("*.ko"))}
    return Selection(c, rust)


# Ours that do not yet do all that the kernel's own do: in Rust only where a swap says so.
EXPERIMENTAL = ("virtio_balloon",)

# Everything architecture.md replaces, in load order, for the line that tells whose is whose.
REPLACEABLE = (*CORE, "virtio_pci", "virtio_rng", "virtio_blk", "virtio_net", "virtio_balloon")


def choose(selection: Selection, stack: str, swaps: dict[str, str]) -> None:
    """Fill in SELECTION.choice: STACK for all, exchanged one by one as SWAPS say."""
    for name, whose in swaps.items():
        if name not in selection.c and name not in selection.rust:
            raise UserError(f"--swap {name}={whose}: there is no module {name}.")
        if whose == "rust" and name not in selection.rust:
            raise UserError(f"--swap {name}=rust: {name} has not been built in Rust; `make modules` lists what is.")
        if whose == "c" and name not in selection.c:
            raise UserError(f"--swap {name}=c: the kernel has no module {name}.")
    names = [name for name in REPLACEABLE if name in selection.c or name in selection.rust]
    names += [name for name in selection.twins() if name not in names]
    for name in names:
        ours = name in selection.rust and (name not in EXPERIMENTAL or name not in selection.c)
        default = "rust" if stack == "rust" and ours else "c"
        selection.choice[name] = swaps.get(name, default)
    if stack == "rust" and "rust" not in selection.choice.values() and "c" not in swaps.values():
        raise UserError("none of our modules has been built for this kernel: `make modules` does.")


def stage(selection: Selection, kdir: Path, root: Path) -> Path:
    """Lay out lib/modules/VERSION below ROOT with links to the modules, and run depmod over it.

    Chosen Rust modules are in updates/, which depmod prefers; Rust modules that were not
    chosen are in /lib/modules/rust, so that a test can load them by path.
    """
    if stack_is_empty(selection):
        raise UserError(f"{kdir} has no modules: nothing of virtio could be loaded.")
    version = kernel_release(kdir)
    base = root / "lib/modules" / version
    for name, path in selection.c.items():
        link(path, base / "kernel" / path.relative_to(kdir), name)
    blacklist = []
    for name, path in selection.rust.items():
        has_twin = name in selection.c
        if has_twin and selection.choice[name] == "c":
            link(path, root / "lib/modules/rust" / path.name, name)
            continue
        link(path, base / "updates" / path.name, name)
        if not has_twin:
            blacklist.append(name)
    for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        if (kdir / name).is_file():
            shutil.copyfile(kdir / name, base / name)
    resolve(selection, kdir, root, version)
    # A sample may match the same device as the driver proper; only its name loads it.
    conf = root / "etc/modprobe.d/guest.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text("".join(f"blacklist {name}\n" for name in blacklist))
    return base


def prune(base: Path, selection: Selection, more: list[str]) -> None:
    """Leave below BASE what has to do with virtio, what MORE names, and what those need: little boots fast."""
    needs: dict[str, list[Path]] = {}
    for line in (base / "modules.dep").read_text().splitlines():
        target, _, rest = line.partition(":")
        needs[module_name(Path(target))] = [base / target, *(base / one for one in rest.split())]
    unknown = [name for name in more if name.replace("-", "_") not in needs]
    if unknown:
        raise UserError(f"--module {unknown[0]}: the kernel has no such module.")
    wanted = {name.replace("-", "_") for name in more} | set(selection.choice) | set(selection.rust)
    wanted |= {name for name in needs if "virtio" in name}
    keep = {path for name in wanted for path in needs.get(name, [])}
    for path in base.rglob("*.ko"):
        if path not in keep:
            path.unlink()


def stack_is_empty(selection: Selection) -> bool:
    """True for a kernel without a single module file."""
    return not any(path.is_file() for path in selection.c.values())


def link(target: Path, name: Path, module: str) -> None:
    """A symbolic link NAME to the module file TARGET, which must exist."""
    if not target.is_file():
        raise UserError(f"module {module} is listed but {target} is missing: build the modules again.")
    name.parent.mkdir(parents=True, exist_ok=True)
    name.symlink_to(target.resolve())


def resolve(selection: Selection, kdir: Path, root: Path, version: str) -> None:
    """Run depmod and note which modules lack symbols; one of ours among them is an error here, not in the guest."""
    command = ["depmod", "-b", str(root), "-e", "-E", str(kdir / "Module.symvers"), version]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError(f"depmod failed: {done.stderr.strip()}")
    unknown = {
        module_name(Path(line.split("/")[-1].split(" ")[0]))
        for line in done.stderr.splitlines()
        if "unknown symbol" in line
    }
    selection.unloadable = sorted(unknown)
    ours = [name for name in selection.unloadable if selection.choice.get(name) == "rust"]
    if ours:
        raise UserError(
            f"these modules need symbols that no other chosen module has: {', '.join(ours)}"
            " (virtio_ring and virtio are exchanged together, and Rust drivers need the Rust ones)."
        )
