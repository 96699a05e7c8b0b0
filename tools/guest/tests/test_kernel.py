# SPDX-License-Identifier: GPL-2.0
"""A kernel that our modules cannot be built for is refused in one sentence, before anything runs."""

import tempfile
import unittest
from pathlib import Path

from guest import modules, toolchain
from guest.errors import UserError
from guest.kernel import check_kdir


class Kdir(unittest.TestCase):
    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.kdir = Path(temporary.name)

    def write(self, name: str, text: str) -> None:
        path = self.kdir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def built(self, release: str = "7.3.4", options: str = "CONFIG_RUST=y\n") -> None:
        self.write("include/config/kernel.release", f"{release}\n")
        self.write("include/config/auto.conf", options)
        self.write("Module.symvers", "")
        self.write("rust/libkernel.rmeta", "")

    def assert_refused(self, words: str) -> None:
        with self.assertRaises(UserError) as caught:
            check_kdir(self.kdir)
        sentence = str(caught.exception)
        self.assertIn(words, sentence)
        self.assertNotIn("\n", sentence)

    def test_good(self) -> None:
        self.built()
        check_kdir(self.kdir)

    def test_not_built(self) -> None:
        self.assert_refused("not a built kernel")

    def test_wrong_version(self) -> None:
        self.built(release="7.30.1")
        self.assert_refused("is kernel 7.30.1")

    def test_without_rust(self) -> None:
        self.built(options="CONFIG_MODULES=y\n")
        self.assert_refused("without CONFIG_RUST")

    def test_only_configured(self) -> None:
        self.built()
        (self.kdir / "Module.symvers").unlink()
        self.assert_refused("not built")

    def test_another_rustc(self) -> None:
        ours = toolchain.version([toolchain.rustc(), "--version"])
        self.built(options='CONFIG_RUST=y\nCONFIG_RUSTC_VERSION_TEXT="rustc 1.0.0"\n')
        self.assert_refused(f"RUSTC is {ours}")


class BuiltFor(unittest.TestCase):
    def test_modules_of_another_kernel_are_refused(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            ours, kernel, other = (Path(name) / part for part in ("ours", "kernel", "other"))
            ours.mkdir()
            modules.check_kernel(ours, kernel)
            modules.note_kernel(ours, kernel)
            modules.check_kernel(ours, kernel)
            with self.assertRaisesRegex(UserError, "other"):
                modules.check_kernel(ours, other)


if __name__ == "__main__":
    unittest.main()
