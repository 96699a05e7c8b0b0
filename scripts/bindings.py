#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Makes two bindgen outputs share their types.

bindings.py names KERNEL.rs         lists the structs, unions and enums that it defines, each as
                                    "complete NAME" or, if it is only declared, "incomplete NAME"
bindings.py drop NAMES.txt OURS.rs  prints OURS.rs without the types that are incomplete in both,
                                    so that the kernel crate's are used

The outputs may be formatted or on one line: bindgen formats only where it finds rustfmt.
"""

import re
import sys
from pathlib import Path

# bindgen has two ways to write a type that is only declared.
INCOMPLETE = r"(?:pub )?(?:_unused ?: ?\[ ?u8 ?; ?0(?:usize)? ?\]|_address ?: ?u8) ?,?\s*\}"
DEFINITION = re.compile(
    r"\bpub (?:struct|union|enum) ([A-Za-z_]\w*)\s*(?:<[^>{;(]*>)?\s*"
    rf"(?:(\{{\s*{INCOMPLETE})|[{{(;])"
)
DECLARATION = re.compile(rf"(?:#\s?\[[^\]]*\]\s*)*pub struct ([A-Za-z_]\w*)\s*\{{\s*{INCOMPLETE}")
# Unnamed types are numbered: the numbers of two outputs have nothing to do with each other.
UNNAMED = re.compile(r"__bindgen_ty_|^_bindgen_ty_|^__Bindgen|^__Incomplete")

# bindgen defines the type where bitfields are; the kernel crate has this for its own.
BITFIELD_IMPL = """
// SAFETY: `__BindgenBitfieldUnit<Storage>` is a newtype around `Storage`.
unsafe impl<Storage> Zeroable for __BindgenBitfieldUnit<Storage> where Storage: Zeroable {}
"""


def names(kernel: Path) -> None:
    """Lists types; aliases are left out, since a second alias of one type is the same type."""
    for match in DEFINITION.finditer(kernel.read_text()):
        if not UNNAMED.search(match[1]):
            print("incomplete" if match[2] else "complete", match[1])


def drop(listing: Path, ours: Path) -> None:
    """Prints `ours` without the declarations of types that `listing` calls incomplete."""
    words = (line.split() for line in listing.read_text().splitlines())
    incomplete = {name for kind, name in words if kind == "incomplete"}
    text = DECLARATION.sub(lambda m: "" if m[1] in incomplete else m[0], ours.read_text())
    print(text)
    if "pub struct __BindgenBitfieldUnit" in text:
        print(BITFIELD_IMPL)


if __name__ == "__main__":
    {"names": names, "drop": drop}[sys.argv[1]](*map(Path, sys.argv[2:]))
