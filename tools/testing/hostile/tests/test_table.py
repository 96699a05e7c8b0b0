# SPDX-License-Identifier: GPL-2.0
"""What results look like for people."""

import re
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from guest import paths
from rig import scenario, table
from rig.verdict import HANG, SURVIVED, Verdict


class Page(unittest.TestCase):
    def test_each_stack_has_its_verdict(self) -> None:
        everything = scenario.everything()
        cases = scenario.cases(everything, [])[:3]
        left_out = [one for one in everything if one.injector == "none"]
        with tempfile.TemporaryDirectory() as name, mock.patch.object(table, "DIRECTORY", Path(name)):
            results = table.Results("debug")
            results.put("c", cases[0], Verdict(HANG, "blocked", 120.0))
            results.put("rust", cases[0], Verdict(SURVIVED, "", 0.4, "recovered"))
            results.put("rust", cases[1], Verdict(SURVIVED, "", 0.4, "unaffected"))
            page = table.page(cases, left_out, results, "debug")
        rows = [line for line in page.splitlines() if "``" in line and line.startswith('   "')]
        self.assertEqual(len(rows), 3)
        self.assertTrue(rows[0].endswith(f'"``{cases[0].name}``","{cases[0].scenario.title}","*hang*","recovered"'))
        self.assertTrue(rows[1].endswith('"not run","unaffected"'))
        self.assertTrue(rows[2].endswith('"not run","not run"'))
        self.assertIn("Of 3 cases, C survives 0 and Rust 2.", page)
        self.assertTrue(all(one.why in page for one in left_out if '"' not in one.why))

    def test_the_page_in_the_documentation_has_every_case(self) -> None:
        page = (paths.TOP / "Documentation/virtio/hostile-results.rst").read_text()
        shown = re.findall(r'^   "\d+","``(.*?)``"', page, re.M)
        self.assertEqual(shown, [case.name for case in scenario.cases(scenario.everything(), [])])
        self.assertNotIn("not run", page)
