# SPDX-License-Identifier: GPL-2.0
"""The guest root: a small Debian with the tools that tests need, as a directory and as a disk image.

It holds no kernel: modules come from the initramfs of each run (enter-root), or, for
virtme-ng, are laid out in the directory for one run.
"""

import fcntl
import hashlib
import os
import shutil
from pathlib import Path

from guest import apt, paths, step
from guest.errors import UserError

# The release after the oldest host: its fio, ethtool and iproute2 know this kernel's interfaces.
SUITE = "trixie"
PACKAGES = (
    "bpftool",
    "busybox-static",
    "e2fsprogs",
    "ethtool",
    "fio",
    "iperf3",
    "iproute2",
    "iputils-ping",
    "jq",
    "kmod",
    "procps",
    "python3",
    "python3-yaml",
    "rng-tools-debian",
    "socat",
    "stress-ng",
    "tcpdump",
    "udev",
    "xfsprogs",
)
EXCLUDED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
IMAGE_SIZE = "3G"
COMPLETE = ".complete"


def directory() -> Path:
    """Where the root of this package list is, or will be."""
    digest = hashlib.sha256("\0".join((SUITE, *PACKAGES, *EXCLUDED)).encode()).hexdigest()[:12]
    return paths.cache() / "root" / f"{SUITE}-{digest}"


def tree() -> Path:
    """The root as a directory, which must have been made."""
    if not (directory() / COMPLETE).exists():
        raise UserError("there is no guest root yet: `make guest-root` makes it.")
    return directory() / "tree"


def cached() -> Path:
    """The root as an ext4 image, which must have been made."""
    return tree().with_name("root.ext4")


def build() -> Path:
    """The guest root, made if it is not there; returns its image."""
    where = directory()
    where.mkdir(parents=True, exist_ok=True)
    with (where.parent / f"{where.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (where / COMPLETE).exists():
            _build(where)
    return cached()


def _build(where: Path) -> None:
    if os.geteuid() != 0:
        raise UserError("the guest root is made as root: `sudo make guest-root` (the initramfs guests need none).")
    target, image = where / "tree", where / "root.ext4"
    shutil.rmtree(target, ignore_errors=True)
    image.unlink(missing_ok=True)
    excludes = [f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED]
    command = [
        *("mmdebstrap", "--mode=root", "--variant=minbase", f"--include={','.join(PACKAGES)}", *excludes),
        *("--aptopt=APT::Install-Recommends false", SUITE, str(target)),
        f"deb [signed-by={apt.KEYRING}] {apt.mirror()} {SUITE} main",
    ]
    step.run("guest-root", f"guest root ({SUITE}, {len(PACKAGES)} packages)", command)
    (target / "usr/lib/modules").mkdir(parents=True, exist_ok=True)
    (target / "etc/modprobe.d").mkdir(parents=True, exist_ok=True)
    (target / "etc/hostname").write_text("guest\n")
    # A name server of the host means nothing in a guest.
    (target / "etc/resolv.conf").write_text("")
    make = ["mke2fs", "-q", "-t", "ext4", "-L", "guest-root", "-d", str(target), str(image), IMAGE_SIZE]
    step.run("guest-root", "image of the guest root", make, append=True)
    (where / COMPLETE).write_text("")


def disk(image: Path, device: str) -> list[str]:
    """QEMU arguments for IMAGE as a disk of kind DEVICE; nothing is ever written to the image."""
    return [
        *("-drive", f"if=none,id=guest-root,format=raw,snapshot=on,file={image}"),
        *("-device", f"{device},drive=guest-root,serial=guest-root"),
    ]
