# SPDX-License-Identifier: GPL-2.0
"""Breaks each rule once, in a copy of a small tree, and expects the checker to say where.

usage: python3 -m unittest discover -s tools/testing/layering
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import check
import layers
from rust_tokens import Source

HERE = Path(__file__).resolve().parents[1]
RUST = "// SPDX-License-Identifier: GPL-2.0\n\n"
HASH = "# SPDX-License-Identifier: GPL-2.0\n"
FORBID = "#![forbid(unsafe_code)]\n\n"
# Put together, so that this file passes the rules that it tests.
TASK = "TO" + "DO"
GENERATED = "@" + "generated"

SPEC = "rust/virtio_spec/virtio_spec.rs"
RING = "rust/virtqueue/virtqueue.rs"
LEAF = "drivers/char/hw_random/virtio_rng.rs"
BUS = "rust/virtio/bus.rs"
CORE = "rust/virtio/virtio.rs"
KBUILD = "Kbuild"

# A tree without findings, with the traps that a checker of text would fall into.
CLEAN = {
    SPEC: RUST
    + """//! Says unsafe and use kernel:: in a doc comment.

#![no_std]
#![forbid(unsafe_code)]

pub mod balloon;

/* unsafe { } /* nested use std::mem; */ */
/// Text with `unsafe { }`.
pub const TEXT: &str = "unsafe { use kernel::prelude; panic!() } // \\" ";
pub const RAW: &str = r#"unsafe " { "#;
pub const QUOTE: char = '"';
pub fn first<'a>(text: &'a str) -> Option<char> {
    text.chars().next()
}
""",
    "rust/virtio_spec/balloon.rs": RUST + "//! A module named like a crate.\n\nuse crate::TEXT;\n",
    "rust/virtio_spec/Cargo.toml": HASH + '[package]\nname = "virtio_spec"\n\n[dependencies]\nzerocopy = "=0.8.54"\n',
    RING: RUST
    + "//! Rings.\n\n"
    + FORBID
    + """use virtio_spec::{balloon, TEXT};

/// A local name that is also a crate's.
pub const NAME: &str = balloon::NAME;

#[cfg(test)]
mod tests {
    fn fails() {
        None::<u8>.unwrap();
    }
}
""",
    CORE: RUST + "//! The core.\n\nuse virtio_bindings as bindings;\nuse virtio_ring::Ring;\n",
    BUS: RUST
    + """//! The bus.

// SAFETY: It has no state.
unsafe impl Send for Bus {}

/// A contract.
///
/// # Safety
///
/// None.
#[inline]
pub(crate) unsafe fn contract() {}

impl Contract for Bus {
    unsafe fn from_trait() {}
}

fn call(callback: unsafe extern "C" fn(u8), table: &Table) -> u8 {
    // SAFETY: The contract holds.
    let value = take(
        1,
        unsafe { contract() },
    );
    // PANIC: The table has one entry.
    table.first().unwrap();
    value
}
""",
    "rust/virtio/capi.rs": RUST
    + """//! The C ABI.

/// For C.
#[no_mangle]
pub extern "C" fn is_virtio_device() {}
""",
    LEAF: RUST
    + "//! A leaf driver.\n\n"
    + FORBID
    + """use kernel::{c_str, prelude::*};
use virtio::Device;
use virtio_spec::rng;
""",
    KBUILD: HASH
    + "$(eval $(call crate,rust/virtio/virtio.o,virtio,virtio_spec virtio_ring))\n"
    + "RUSTFLAGS_drivers/char/hw_random/virtio_rng.o := --extern virtio --extern virtio_spec\n",
    "Documentation/virtio/todo.rst": ".. SPDX-License-Identifier: GPL-2.0\n\n[ZONED]\n",
    "tools/run.sh": "#!/bin/sh\n" + HASH + f"echo $(DESTDIR)/{'root'}/x  # {TASK}[ZONED]\n",
    "README.md": "No licence line is asked of this one.\n",
}


class Tree:
    """A copy of the small tree that a test may break."""

    def __init__(self, root: Path) -> None:
        """Writes the tree below `root`."""
        self.root = root
        for path, text in CLEAN.items():
            self.write(path, text)

    def write(self, path: str, text: str | bytes) -> None:
        """Gives the file at `path` this content."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())

    def append(self, path: str, text: str) -> int:
        """Adds `text` to a file; the value is the line that it starts on."""
        old = (self.root / path).read_text()
        self.write(path, old + text)
        return old.count("\n") + 1

    def run(self) -> tuple[int, list[str]]:
        """The exit status of the checker as a program, and the lines that it printed."""
        command = [sys.executable, "-B", str(HERE / "check.py"), str(self.root)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.stderr:
            raise AssertionError(done.stderr)
        return done.returncode, done.stdout.splitlines()


class CheckTest(unittest.TestCase):
    """One negative test for each rule."""

    def setUp(self) -> None:
        """Makes a fresh copy."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.tree = Tree(Path(directory.name))

    def expect(self, path: str, line: int, words: str) -> None:
        """The checker fails, and says exactly one thing, which is this."""
        status, lines = self.tree.run()
        self.assertEqual(1, status, lines)
        self.assertEqual(1, len(lines), lines)
        self.assertTrue(lines[0].startswith(f"{path}:{line}: "), lines)
        self.assertIn(words, lines[0])

    def breaks(self, path: str, text: str, words: str, offset: int = 0) -> None:
        """Adding `text` to the file at `path` is found at its line number `offset`."""
        self.expect(path, self.tree.append(path, text) + offset, words)

    def test_a_clean_tree_passes(self) -> None:
        self.assertEqual((0, []), self.tree.run())

    # Imports

    def test_pure_crate_imports_kernel(self) -> None:
        self.breaks(SPEC, "use kernel::prelude::*;\n", "must not import kernel")

    def test_pure_crate_imports_std(self) -> None:
        self.breaks(RING, "fn f() {\n    std::process::abort()\n}\n", "import std", 1)

    def test_pure_crate_imports_alloc(self) -> None:
        self.breaks(RING, "extern crate alloc;\n", "must not import alloc")

    def test_pure_crate_imports_upwards(self) -> None:
        self.breaks(SPEC, "use ::virtqueue::Ring;\n", "must not import virtqueue")

    def test_pure_crate_imports_in_a_group(self) -> None:
        self.breaks(SPEC, "use {\n    core::fmt,\n    virtio_bindings::x,\n};\n", "bindings", 2)

    def test_pure_crate_depends_on_a_foreign_crate(self) -> None:
        self.breaks("rust/virtio_spec/Cargo.toml", 'libc = "=0.2.0"\n', "must not import libc")

    def test_core_imports_a_driver(self) -> None:
        self.breaks(CORE, "use virtio_pci::Transport;\n", "which is not below it")

    def test_core_imports_an_abstraction_by_path(self) -> None:
        self.breaks(CORE, "fn f() { netdev::register() }\n", "import netdev")

    def test_abstractions_do_not_import_each_other(self) -> None:
        path = "rust/abstractions/netdev.rs"
        self.tree.write(path, RUST + "//! Net devices.\n\nuse block_mq::Request;\n")
        self.expect(path, 5, "which is not below it")

    def test_leaf_driver_imports_bindings(self) -> None:
        self.breaks(LEAF, "use virtio_bindings as raw;\n", "must not import bindings")

    def test_leaf_driver_imports_kernel_bindings(self) -> None:
        text = "use kernel::{\n    bindings,\n    types::Opaque,\n};\n"
        self.breaks(LEAF, text, "must not import bindings", 1)

    def test_leaf_driver_names_kernel_bindings_in_a_path(self) -> None:
        self.breaks(LEAF, "type T = kernel::bindings::gfp_t;\n", "must not import bindings")

    def test_kbuild_gives_a_crate_upwards(self) -> None:
        text = "$(eval $(call crate,rust/virtio_ring/virtio_ring.o,virtio_ring,virtqueue virtio))\n"
        self.breaks(KBUILD, text, "--extern: virtio_ring must not import virtio,")

    def test_kbuild_gives_a_leaf_driver_bindings(self) -> None:
        text = f"RUSTFLAGS_{LEAF[:-3]}.o += \\\n\t--extern virtio_bindings\n"
        self.breaks(KBUILD, text, "--extern: leaf driver")

    def test_a_crate_is_not_in_the_table(self) -> None:
        self.tree.write("rust/new/new.rs", RUST + "//! New.\n")
        self.expect("rust/new/new.rs", 1, "no crate of the layer table")

    # unsafe

    def test_unsafe_in_a_leaf_driver(self) -> None:
        text = "fn f() {\n    // SAFETY: It is not.\n    unsafe { g() }\n}\n"
        self.breaks(LEAF, text, "unsafe is not allowed in leaf driver virtio_rng", 2)

    def test_unsafe_in_a_pure_crate(self) -> None:
        self.breaks(RING, "// SAFETY: No.\nunsafe impl Send for X {}\n", "in pure crate", 1)

    def test_unsafe_in_an_unlisted_file_of_the_core(self) -> None:
        text = "/// # Safety\n///\n/// No.\nunsafe fn f() {}\n"
        self.breaks(CORE, text, "unsafe is not allowed in core crate virtio", 3)

    def test_leaf_driver_does_not_forbid_unsafe(self) -> None:
        self.tree.write(LEAF, CLEAN[LEAF].replace(FORBID, ""))
        self.expect(LEAF, 1, "#![forbid(unsafe_code)]")

    def test_pure_crate_only_denies_unsafe(self) -> None:
        self.tree.write(RING, CLEAN[RING].replace("forbid", "deny"))
        self.expect(RING, 1, "#![forbid(unsafe_code)]")

    def test_unsafe_block_without_a_reason(self) -> None:
        self.breaks(BUS, "fn f() {\n    unsafe { g() }\n}\n", "block without a // SAFETY:", 1)

    def test_the_reason_of_another_statement_does_not_count(self) -> None:
        text = "fn f() {\n    // SAFETY: First.\n    unsafe { g() };\n    unsafe { h() }\n}\n"
        self.breaks(BUS, text, "block without a // SAFETY:", 3)

    def test_the_reason_of_another_arm_does_not_count(self) -> None:
        text = (
            "fn f() {\n    match x {\n        // SAFETY: First.\n        1 => unsafe { g() },\n"
            "        _ => unsafe { h() },\n    }\n}\n"
        )
        self.breaks(BUS, text, "block without a // SAFETY:", 4)

    def test_unsafe_impl_without_a_reason(self) -> None:
        self.breaks(BUS, "\nunsafe impl Sync for Bus {}\n", "impl without a // SAFETY:", 1)

    def test_unsafe_fn_without_a_section(self) -> None:
        text = '\n/// Docs.\npub unsafe extern "C" fn f() {}\n'
        self.breaks(BUS, text, "unsafe fn without a # Safety section", 2)

    # Attributes and panics

    def test_c_symbol_outside_of_the_abi(self) -> None:
        self.breaks(BUS, '#[no_mangle]\nextern "C" fn f() {}\n', "in capi.rs only")

    def test_module_wide_allow(self) -> None:
        self.breaks(CORE, "#![allow(dead_code)]\n", "switched off for the whole module")

    def test_panics(self) -> None:
        for text in ("todo!()", "unimplemented!()", "panic!()", "x.unwrap()", 'x.expect("y")'):
            with self.subTest(text):
                self.tree.write(CORE, CLEAN[CORE])
                self.breaks(CORE, f"fn f() {{\n    {text}\n}}\n", "may panic", 1)

    def test_a_panic_reason_of_another_line_does_not_count(self) -> None:
        text = "fn f() {\n    // PANIC: No.\n    x.unwrap();\n    y.unwrap();\n}\n"
        self.breaks(CORE, text, ".unwrap() may panic", 3)

    # Every file

    def test_no_licence(self) -> None:
        for path, line in (("tools/x.py", 1), ("Makefile", 1), ("ci.yml", 1), ("d/x.rst", 1)):
            with self.subTest(path):
                self.tree.write(path, "text\n")
                self.expect(path, line, "no SPDX-License-Identifier")
                (self.tree.root / path).unlink()

    def test_no_licence_after_the_interpreter(self) -> None:
        self.tree.write("tools/x", "#!/bin/sh\n")
        self.tree.write("tools/x.sh", "#!/bin/sh\necho\n" + HASH)
        self.expect("tools/x.sh", 2, "no SPDX-License-Identifier")

    def test_no_module_doc(self) -> None:
        self.tree.write(CORE, RUST + "/// Not of the module.\nuse virtio_ring::Ring;\n")
        self.expect(CORE, 1, "does not begin with a //! line")

    def test_too_long(self) -> None:
        self.tree.write("tools/x.py", HASH + "x = 1\n" * layers.MAX_LINES)
        self.expect("tools/x.py", 801, "801 lines are too many")

    def test_generated_may_be_long(self) -> None:
        self.tree.write("tools/x.py", HASH + f"# {GENERATED}\n" + "x = 1\n" * layers.MAX_LINES)
        self.assertEqual((0, []), self.tree.run())

    def test_open_task(self) -> None:
        self.breaks(CORE, f"// {TASK}: later\n", "without a code")

    def test_open_task_with_an_unknown_code(self) -> None:
        self.breaks(CORE, f"// {TASK}[NOWHERE]: later\n", "[NOWHERE] is not in Documentation/")

    def test_machine_path(self) -> None:
        for place in ("home", "root", "work"):
            with self.subTest(place):
                self.tree.write("README.md", f"See\n/{place}/me/tree.\n")
                self.expect("README.md", 2, "somebody's machine")

    def test_built_files(self) -> None:
        cases = {
            "virtio.ko": b"text",
            "Cargo.lock": b"text",
            "tool": b"\x7fELF\x02",
            "blob": b"a\0b",
        }
        for path, content in cases.items():
            with self.subTest(path):
                self.tree.write(path, content)
                self.expect(path, 1, "does not belong into the tree")
                (self.tree.root / path).unlink()

    def test_source_that_is_not_text(self) -> None:
        self.tree.write("tools/x.py", HASH.encode() + b"\xff\n")
        self.expect("tools/x.py", 1, "not UTF-8")


class RealTreeTest(unittest.TestCase):
    """The rules bite on a copy of the tree that they are for."""

    def setUp(self) -> None:
        """Copies what git would take."""
        root = HERE.parents[2]
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.copy = Path(directory.name)
        self.files = check.files_of(root)
        for path in self.files:
            (self.copy / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / path, self.copy / path)

    def assert_found(self, path: str, text: str, words: str) -> None:
        """Appending `text` to the file at `path` is found there."""
        file = self.copy / path
        old = file.read_text()
        file.write_text(old + text)
        line = old.count("\n") + text.count("\n")
        found = [str(finding) for finding in check.check(self.copy)]
        file.write_text(old)
        hits = [sentence for sentence in found if sentence.startswith(f"{path}:{line}: ")]
        self.assertTrue(any(words in hit for hit in hits), found)

    def roots(self, kind: layers.Kind) -> list[str]:
        """The root modules of the crates of that kind."""
        return [
            path
            for path in self.files
            if (crate := layers.crate_of(path)) and crate.kind is kind and crate.is_root(path)
        ]

    def test_unsafe_in_every_leaf_driver(self) -> None:
        leaves = self.roots(layers.Kind.LEAF)
        self.assertTrue(leaves)
        for path in leaves:
            with self.subTest(path):
                self.assert_found(path, "fn f() { unsafe { g() } }\n", "unsafe is not allowed")

    def test_kernel_in_every_pure_crate(self) -> None:
        pure = self.roots(layers.Kind.PURE)
        self.assertEqual(2, len(pure))
        for path in pure:
            with self.subTest(path):
                self.assert_found(path, "use kernel::prelude::*;\n", "must not import kernel")


class LexerTest(unittest.TestCase):
    """What is code and what is not."""

    def words(self, text: str) -> list[str]:
        """The identifiers of the code."""
        return [token.text for token in Source(text).tokens if token.kind == "ident"]

    def test_literals_and_comments_are_not_code(self) -> None:
        for text in (
            'a "unsafe" b',
            'a "\\"unsafe" b',
            'a r"unsafe\\" b',
            'a r##"unsafe"# "## b',
            'a br#"unsafe"# b',
            'a c"unsafe" b',
            "a // unsafe\n b",
            "a /* unsafe /* unsafe */ unsafe */ b",
            "a '\"' b",
            "a '\\'' b",
            "a b'\"' b",
        ):
            with self.subTest(text):
                self.assertEqual(["a", "b"], self.words(text))

    def test_lifetimes_do_not_open_a_literal(self) -> None:
        self.assertEqual(["a", "unsafe", "b"], self.words("a<'x> unsafe 'y b"))

    def test_unfinished_text_ends(self) -> None:
        for text in ("/* a", 'r#"a', '"a', "'"):
            with self.subTest(text):
                Source(text)

    def test_lines(self) -> None:
        tokens = Source('a\n"\n\n"\n/*\n*/ b').tokens
        lines = [(token.text, token.line) for token in tokens if token.kind == "ident"]
        self.assertEqual([("a", 1), ("b", 6)], lines)
