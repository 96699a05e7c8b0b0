# SPDX-License-Identifier: GPL-2.0
"""rust-project.json for rust-analyzer: the kernel's crates, and ours, which the kernel's generator cannot find.

It looks for crates in the directories of Makefiles; all of ours are listed in scripts/crates.mk.
"""

import json
import re
from pathlib import Path
from typing import Any

from guest.errors import UserError

_CRATE = re.compile(r"\$\(call crate,([^,]+)\.o,([^,]+),([^)]*)\)")
# What Kbuild gives every Rust object of a module.
_KERNEL = ("core", "ffi", "build_error", "macros", "pin_init", "zerocopy", "zerocopy_derive", "kernel")


def extend(project: dict[str, Any], crates_mk: str, top: Path, output: Path) -> None:
    """Add the crates that the text CRATES_MK lists to PROJECT; generated files are in OUTPUT."""
    index = {crate["display_name"]: number for number, crate in enumerate(project["crates"])}
    if "kernel" not in index:
        raise UserError("the kernel's rust-project.json has no crate `kernel`.")
    kernel = project["crates"][index["kernel"]]
    listed = _CRATE.findall(crates_mk)
    if not listed:
        raise UserError("scripts/crates.mk lists no crate.")
    for place, name, dependencies in listed:
        names = [*_KERNEL, *dependencies.split()]
        missing = [one for one in names if one not in index]
        if missing:
            raise UserError(f"scripts/crates.mk: crate {name} needs {missing[0]}, which is not listed before it.")
        index[name] = len(project["crates"])
        project["crates"].append(
            {
                "display_name": name,
                "root_module": str(top / f"{place}.rs"),
                "is_workspace_member": True,
                "deps": [{"crate": index[one], "name": one} for one in names],
                "cfg": [*kernel["cfg"], "MODULE"],
                "edition": kernel["edition"],
                "env": {**kernel["env"], "VIRTIO_OBJTREE": str(output)},
                "source": {"include_dirs": [str(top), str(output)], "exclude_dirs": []},
            }
        )


def write(generated: Path, top: Path, output: Path) -> None:
    """TOP/rust-project.json from the one that the kernel's make has written to GENERATED."""
    project = json.loads(generated.read_text())
    extend(project, (top / "scripts/crates.mk").read_text(), top, output)
    (top / "rust-project.json").write_text(json.dumps(project, indent=2) + "\n")
