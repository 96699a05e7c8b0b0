# SPDX-License-Identifier: GPL-2.0
"""The proof that the rig sees a driver that trusts the device: faults planted in a copy of the tree."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from guest import paths, step
from guest.errors import UserError

from rig import table


@dataclass(frozen=True)
class Fault:
    """In PATH, OLD becomes NEW; CASE is the one that must not end well then."""

    name: str
    path: str
    old: str
    new: str
    case: str


# The C driver waits for ever once its queue is broken.
C_CASE = "01-used-id-range[split]"

FAULTS = (
    Fault(
        "a used id is narrowed before it is compared",
        "rust/virtqueue/slots.rs",
        "if id >= u32::from(self.size()) {",
        "if id as u16 >= self.size() {",
        "01-used-id-wide[split]",
    ),
    Fault(
        "a reader has no deadline",
        "drivers/char/hw_random/virtio_rng.rs",
        "const READ_DEADLINE_MS: u32 = 30_000;",
        "const READ_DEADLINE_MS: u32 = 30_000_000;",
        "54-silence[split]",
    ),
)


def sources() -> list[str]:
    """Files of the tree that are, or could be, committed."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=paths.TOP, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError("faults are planted in a copy of a git work tree, and this is none.")
    return sorted({name for name in done.stdout.split("\0") if (paths.TOP / name).is_file()})


def plant(tree: Path) -> None:
    """Put the faults into TREE; UserError if the code they are about has changed."""
    for fault in FAULTS:
        path = tree / fault.path
        text = path.read_text()
        if text.count(fault.old) != 1:
            raise UserError(f"{fault.path} has no single {fault.old!r}: a planted fault has to follow the code.")
        path.write_text(text.replace(fault.old, fault.new))


def build(kernel: str) -> Path:
    """Modules for guest kernel KERNEL from a copy of the tree with all faults; returns their directory."""
    tree = table.DIRECTORY / "planted"
    for name in sources():
        target = tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() or target.read_bytes() != (paths.TOP / name).read_bytes():
            shutil.copy(paths.TOP / name, target)
    plant(tree)
    command = [sys.executable, "tools/guest/guest", "modules", "--kernel", kernel]
    step.run("hostile-planted", "building a copy with planted faults", command, cwd=tree)
    return tree / "build" / kernel
