# SPDX-License-Identifier: GPL-2.0
"""What a machine lacks: a clippy of another release than rustc does not do."""

import unittest
from collections.abc import Sequence
from unittest import mock

from guest import doctor, toolchain

RUSTC = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)"


def clippy_of(printed: str, rustc: str = RUSTC) -> bool:
    """Whether the need is met by a clippy that prints PRINTED, beside RUSTC."""

    def version(command: Sequence[str]) -> str:
        return printed if "clippy" in command[0] else rustc

    with mock.patch.object(toolchain, "version", version):
        return next(item for item in doctor.PACKAGES if item.name == "clippy-driver").met()


class Clippy(unittest.TestCase):
    def test_of_the_same_release(self) -> None:
        self.assertTrue(clippy_of("clippy 0.1.96 (ac68faa20 2026-05-25)"))

    def test_of_another_release(self) -> None:
        self.assertFalse(clippy_of("clippy 0.1.95 (59807616e1 2026-04-14)"))

    def test_none(self) -> None:
        self.assertFalse(clippy_of(""))

    def test_before_there_is_a_rustc(self) -> None:
        self.assertFalse(clippy_of("clippy 0.1.96 (ac68faa20 2026-05-25)", ""))


if __name__ == "__main__":
    unittest.main()
