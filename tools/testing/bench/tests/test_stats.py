# SPDX-License-Identifier: GPL-2.0
"""Judging times."""

import unittest

from bench import stats

# Nanoseconds per request, made up around a plausible one: the spread of a quiet machine.
QUIET = [
    9314.8, 9402.1, 9288.5, 9350.0, 9371.4, 9299.9, 9410.3, 9333.3, 9360.2, 9345.7,
    9320.4, 9390.8, 9308.6, 9377.7, 9342.0, 9365.1, 9328.9, 9399.5, 9316.2, 9355.6,
]  # fmt: skip
# The same load while somebody else compiled.
DISTURBED = [
    9314.8, 17657.6, 9288.5, 23761.4, 9371.4, 14466.9, 9410.3, 19333.3, 9360.2, 9345.7,
    21320.4, 9390.8, 9308.6, 15377.7, 9342.0, 28365.1, 9328.9, 9399.5, 18316.2, 9355.6,
]  # fmt: skip


class Judging(unittest.TestCase):
    def test_the_same_times_are_no_difference(self) -> None:
        found = stats.judge(QUIET, QUIET[::-1])
        self.assertEqual(found.verdict, "no difference that matters")
        self.assertTrue(found.low <= 1.0 <= found.high)
        self.assertLess(found.high - found.low, 0.02)

    def test_half_as_fast_again_is_slower(self) -> None:
        found = stats.judge(QUIET, [1.5 * time for time in QUIET])
        self.assertEqual(found.verdict, "slower")
        self.assertAlmostEqual(found.ratio, 1.5)

    def test_a_third_less_is_faster(self) -> None:
        self.assertEqual(stats.judge(QUIET, [0.6 * time for time in QUIET]).verdict, "faster")

    def test_a_tenth_is_no_difference_that_matters(self) -> None:
        found = stats.judge(QUIET, [1.1 * time for time in QUIET])
        self.assertEqual(found.verdict, "no difference that matters")

    def test_a_busy_machine_is_refused(self) -> None:
        with self.assertRaisesRegex(stats.TooNoisy, "quartiles of C"):
            stats.judge(DISTURBED, QUIET)
        with self.assertRaisesRegex(stats.TooNoisy, "quartiles of Rust"):
            stats.judge(QUIET, DISTURBED)

    def test_few_pairs_are_refused(self) -> None:
        with self.assertRaisesRegex(stats.TooNoisy, "19 pairs"):
            stats.judge(QUIET[:19], QUIET[:19])

    def test_the_interval_holds_the_median_and_is_repeatable(self) -> None:
        low, high = stats.interval(QUIET)
        self.assertEqual((low, high), stats.interval(QUIET))
        self.assertTrue(low < sorted(QUIET)[10] < high)


if __name__ == "__main__":
    unittest.main()
