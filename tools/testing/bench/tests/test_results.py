# SPDX-License-Identifier: GPL-2.0
"""Medians, spread, and the files that carry them."""

import tempfile
import unittest
from pathlib import Path

from bench import results
from bench.runner import parse_regions

KEY = ("blk-read", "split", "ring")


class Rows(unittest.TestCase):
    def test_ratio_of_medians(self) -> None:
        (row,) = results.rows([{KEY: 100.0}, {KEY: 101.0}, {KEY: 100.0}], [{KEY: 80.0}, {KEY: 80.0}, {KEY: 80.0}])
        self.assertEqual((row.c, row.rust, row.ratio), (100.0, 80.0, 0.8))
        self.assertAlmostEqual(row.spread, 0.01)
        self.assertTrue(row.usable)

    def test_the_worse_side_decides_whether_it_is_usable(self) -> None:
        (row,) = results.rows([{KEY: 100.0}, {KEY: 100.0}], [{KEY: 80.0}, {KEY: 82.0}])
        self.assertFalse(row.usable)
        self.assertIn("unusable", results.markdown([row], ["ring"]))

    def test_one_stack_alone_has_no_ratio(self) -> None:
        (row,) = results.rows([], [{KEY: 80.0}])
        self.assertEqual((row.c, row.ratio), (None, None))

    def test_nothing_against_something_is_no_ratio(self) -> None:
        (row,) = results.rows([{KEY: 0.0}], [{KEY: 1.0}])
        self.assertIsNone(row.ratio)
        self.assertTrue(row.usable)

    def test_zero_in_some_runs_is_unusable(self) -> None:
        self.assertEqual(results.spread([0.0, 0.0, 1.0]), float("inf"))

    def test_a_missing_result_is_an_error(self) -> None:
        with self.assertRaises(ValueError):
            results.rows([{KEY: 1.0}, {}], [])

    def test_csv_comes_back(self) -> None:
        rows = [results.Row(KEY, 542.53, 875.34, 0.0), results.Row(("rng", "packed", "kicks"), None, 1.0, 0.5)]
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "results.csv"
            results.write_csv(path, rows)
            self.assertEqual(results.read_csv(path), rows)


class Regions(unittest.TestCase):
    def test_lines_of_the_load(self) -> None:
        output = "256\nregion blk-read-4K-qd1@split+indirect 256 1000\nsymbol x\nregion rng@packed 8 0\n"
        found = [(one.workload, one.layout, one.operations) for one in parse_regions(output)]
        self.assertEqual(found, [("blk-read-4K-qd1", "split+indirect", 256), ("rng", "packed", 8)])


if __name__ == "__main__":
    unittest.main()
