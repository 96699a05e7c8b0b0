# SPDX-License-Identifier: GPL-2.0
"""The count and the exit status."""

import contextlib
import io
import unittest

from check.ktap import FAIL, PASS, SKIP
from check.report import Report


def report(*states: str) -> Report:
    made = Report()
    with contextlib.redirect_stdout(io.StringIO()):
        for state in states:
            made.result("a test", state, 0.0)
    return made


class Counting(unittest.TestCase):
    def test_last_line(self) -> None:
        self.assertEqual(report(PASS, PASS, FAIL, SKIP).last_line(), "2 passed, 1 failed, 1 skipped")

    def test_status(self) -> None:
        self.assertEqual(report(PASS, SKIP).status(), 0)
        self.assertEqual(report(PASS, FAIL).status(), 1)

    def test_nothing_run_is_a_failure(self) -> None:
        self.assertEqual(report().status(), 1)
        self.assertEqual(report(SKIP).status(), 1)


if __name__ == "__main__":
    unittest.main()
