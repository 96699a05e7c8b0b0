# SPDX-License-Identifier: GPL-2.0
"""Scenario files, and the mutator on memory of its own."""

import mmap
import random
import tempfile
import unittest
from pathlib import Path

from guest.errors import UserError
from rig import fuzz, planted, ram, scenario
from rig.verdict import HANG, SURVIVED, Verdict


class Files(unittest.TestCase):
    def read(self, text: str) -> scenario.Scenario:
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "07-x.toml"
            path.write_text(text)
            return scenario.read(path)

    def test_all_files_are_read(self) -> None:
        found = scenario.everything()
        self.assertGreater(len(found), 50)
        self.assertEqual(len({one.name for one in found}), len(found))

    def test_name_begins_with_the_row(self) -> None:
        for one in scenario.everything():
            self.assertEqual(int(one.name.split("-")[0]), one.row, one.name)

    def test_a_word_that_is_not_known(self) -> None:
        with self.assertRaises(UserError):
            self.read('row = 7\ndevice = "rng"\ninjector = "magic"\nexpected = ["failed"]\n')
        with self.assertRaises(UserError):
            self.read('row = 7\ndevice = "rng"\ninjector = "backend"\nexpected = ["luck"]\n')

    def test_what_is_not_run_says_why(self) -> None:
        with self.assertRaises(UserError):
            self.read('row = 7\ndevice = "any"\ninjector = "none"\n')
        one = self.read('row = 7\ndevice = "any"\ninjector = "none"\nwhy = "so"\n')
        self.assertEqual(scenario.cases([one], []), [])

    def test_cases_are_layouts(self) -> None:
        one = self.read(
            'row = 7\ndevice = "rng"\ninjector = "backend"\nexpected = ["failed"]\nlayouts = ["split", "packed"]\n'
        )
        self.assertEqual([case.name for case in scenario.cases([one], [])], ["07-x[split]", "07-x[packed]"])
        with self.assertRaises(UserError):
            scenario.cases([one], ["08"])


class Made(unittest.TestCase):
    def test_a_seed_is_a_scenario(self) -> None:
        for seed in range(200):
            self.assertEqual(fuzz.scenario(seed), fuzz.scenario(seed))
            self.assertIn(self.read(fuzz.scenario(seed)).injector, ("ram", "backend"))

    def read(self, text: str) -> scenario.Scenario:
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "00-x.toml"
            path.write_text(text)
            return scenario.read(path)

    def test_faults_can_be_planted(self) -> None:
        every = scenario.everything()
        for fault in planted.FAULTS:
            self.assertEqual((planted.paths.TOP / fault.path).read_text().count(fault.old), 1, fault.name)
            self.assertEqual(len(scenario.cases(every, [fault.case])), 1)
        self.assertEqual(len(scenario.cases(every, [planted.C_CASE])), 1)


class Verdicts(unittest.TestCase):
    def test_only_expected_ways_are_good(self) -> None:
        self.assertTrue(Verdict(SURVIVED, "", 1.0, "failed").good(("failed",)))
        self.assertFalse(Verdict(SURVIVED, "", 1.0, "unaffected").good(("failed",)))
        self.assertFalse(Verdict(HANG, "", 1.0).good(("failed",)))


QUEUE = {"vring-num": 8, "vring-desc": 4096, "vring-avail": 8192, "vring-used": 12288}


class Writes(unittest.TestCase):
    def writes(self, table: dict[str, ram.Kind], seed: int) -> list[tuple[int, bytes]]:
        choice = random.Random(seed)
        found = []
        with mmap.mmap(-1, 1 << 16) as memory:
            for _ in range(200):
                found += table[choice.choice(sorted(table))](QUEUE, memory, choice)
        return found

    def test_a_seed_is_a_sequence(self) -> None:
        for table in (ram.SPLIT, ram.PACKED):
            self.assertEqual(self.writes(table, 7), self.writes(table, 7))
            self.assertNotEqual(self.writes(table, 7), self.writes(table, 8))

    def test_addresses_of_buffers_are_left_alone(self) -> None:
        for table in (ram.SPLIT, ram.PACKED):
            for at, value in self.writes(table, 9):
                self.assertGreaterEqual(at, 4096)
                if at < 8192:
                    self.assertGreaterEqual((at - 4096) % 16, 8)
                    self.assertLessEqual((at - 4096) % 16 + len(value), 16)


if __name__ == "__main__":
    unittest.main()
