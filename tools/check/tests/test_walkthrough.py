# SPDX-License-Identifier: GPL-2.0
"""A page that explains a program: what it quotes, and what is said if that is not the program."""

import shutil
import tempfile
import unittest
from pathlib import Path

from guest import paths

from check import walkthrough


class Walkthrough(unittest.TestCase):
    def setUp(self) -> None:
        self.top = Path(tempfile.mkdtemp(prefix="walkthrough-"))
        self.addCleanup(shutil.rmtree, self.top)
        for name in (walkthrough.PAGE, walkthrough.PROGRAM):
            (self.top / name).parent.mkdir(parents=True)
            shutil.copyfile(paths.TOP / name, self.top / name)

    def change(self, name: Path, old: str, new: str) -> list[str]:
        text = (self.top / name).read_text()
        self.assertIn(old, text)
        (self.top / name).write_text(text.replace(old, new, 1))
        return walkthrough.problems(self.top)

    def test_nothing_is_changed(self) -> None:
        self.assertEqual(walkthrough.problems(self.top), [])
        self.assertGreater(len(walkthrough.quoted((self.top / walkthrough.PAGE).read_text())), 50)

    def test_the_program(self) -> None:
        found = self.change(walkthrough.PROGRAM, "DeviceWritable<16>", "DeviceWritable<32>")
        self.assertEqual(found[1], f"{walkthrough.PROGRAM} has: type Queue = Virtqueue<DeviceWritable<32>>;")

    def test_a_line_more_at_the_end(self) -> None:
        found = self.change(
            walkthrough.PROGRAM,
            "    fn remove(_data: Pin<&Data>) {}\n}\n",
            "    fn remove(_data: Pin<&Data>) {}\n}\nx\n",
        )
        self.assertEqual(found, [f"{walkthrough.PAGE} has: (end)", f"{walkthrough.PROGRAM} has: x"])

    def test_the_page(self) -> None:
        self.assertTrue(self.change(walkthrough.PAGE, "    queue.add(", "    queue.put("))

    def test_indentation(self) -> None:
        self.assertTrue(self.change(walkthrough.PAGE, "            Ok(KVec", "        Ok(KVec"))

    def test_a_page_without_code(self) -> None:
        (self.top / walkthrough.PAGE).write_text("nothing\n")
        (self.top / walkthrough.PROGRAM).write_text("// nothing\n")
        self.assertTrue(walkthrough.problems(self.top))
