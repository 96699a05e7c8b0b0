# SPDX-License-Identifier: GPL-2.0
"""KVM or TCG: KVM only after a guest has really booted with it.

That /dev/kvm opens proves nothing: some hosts offer one that aborts QEMU, or crawls, with an
unmodified guest.
"""

import json
import os
import subprocess
import tempfile
from pathlib import Path

from guest import paths
from guest.cpio import Archive
from guest.initramfs import busybox

PROBE_SECONDS = 10

# Without five-level paging: KASAN reports nonsense while the boot processor is identified with it.
TCG = ["-accel", "tcg", "-cpu", "max,la57=off"]
# With a thread for each processor QEMU 10.0 may fail an assertion in iotlb_to_section() when one of them moves a BAR
# while another reads a register.
TCG_SINGLE = ["-accel", "tcg,thread=single", "-cpu", "max,la57=off"]
KVM = ["-accel", "kvm", "-cpu", "host"]

_INIT = b"""#!/bin/busybox sh
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox printf 'kvm-probe-%s\\n' booted >/dev/ttyS0
/bin/busybox poweroff -f
"""


def _boots_with_kvm(qemu: str, image: Path) -> bool:
    """Whether a guest gets to userspace with KVM within PROBE_SECONDS."""
    with tempfile.TemporaryDirectory(prefix="guest-probe-") as work:
        initrd = Path(work) / "initrd"
        with initrd.open("wb") as stream:
            archive = Archive(stream)
            archive.directory("dev")
            archive.character_device("dev/console", 5, 1)
            archive.file("bin/busybox", busybox())
            archive.data("init", _INIT, 0o755)
            archive.close()
        command = [
            qemu, *KVM, "-M", "q35", "-m", "256", "-nodefaults", "-no-user-config", "-display", "none",
            "-no-reboot", "-serial", "stdio", "-kernel", str(image), "-initrd", str(initrd),
            "-append", "console=ttyS0 quiet panic=-1",
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=PROBE_SECONDS,
                check=False,
                cwd=work,
            )
        except subprocess.TimeoutExpired:
            return False
        return b"kvm-probe-booted" in done.stdout


def choose(wish: str, qemu: str, image: Path) -> list[str]:
    """QEMU arguments for the accelerator WISH: `tcg`, `tcg-single`, `kvm`, or `auto`.

    `auto` asks a probe guest once per host boot.
    """
    if wish == "tcg" or (wish == "auto" and not os.access("/dev/kvm", os.R_OK | os.W_OK)):
        return TCG
    if wish == "tcg-single":
        return TCG_SINGLE
    if wish == "kvm":
        return KVM
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    key = {"boot": boot, "qemu": qemu, "image": str(image), "built": image.stat().st_mtime}
    record = paths.cache() / "kvm-probe.json"
    try:
        known = json.loads(record.read_text())
    except (OSError, ValueError):
        known = {}
    if known.get("key") != key:
        known = {"key": key, "kvm": _boots_with_kvm(qemu, image)}
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(known, indent=1) + "\n")
    return KVM if known["kvm"] else TCG
