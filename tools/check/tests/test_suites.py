# SPDX-License-Identifier: GPL-2.0
"""How the suites find their tests, and what they do with output that is none."""

import tempfile
import unittest
from pathlib import Path
from unittest import mock

from guest import paths

from check import suite_guest, suite_host, suite_style
from check.ktap import FAIL
from check.report import Report
from check.suite_guest import Instance
from check.suite_kunit import cases


class Host(unittest.TestCase):
    def test_the_target_directory_stands_before_the_first_cargo(self) -> None:
        seen = []
        with tempfile.TemporaryDirectory() as name:
            target = Path(name) / "target"
            with (
                mock.patch.object(suite_host, "TARGET", target),
                mock.patch.object(suite_host, "run_command", lambda _test, _report: seen.append(target.is_dir())),
            ):
                suite_host.run(Report(), long=False)
        self.assertTrue(seen)
        self.assertTrue(all(seen))


class Guests(unittest.TestCase):
    def test_every_selftest_names_its_guests(self) -> None:
        programs = [*suite_guest.OURS.glob("*.sh"), *suite_guest.OURS.glob("*.py")]
        found = {instance.program for instance in suite_guest.instances(long=True)}
        self.assertEqual(found, set(programs))
        self.assertTrue(programs)

    def test_every_guest_has_a_name_and_a_log_of_its_own(self) -> None:
        names = [instance.name for instance in suite_guest.instances(long=True)]
        self.assertEqual(sorted(names), sorted(set(names)))

    def test_long_guests_are_left_to_check_long(self) -> None:
        short = {instance.name for instance in suite_guest.instances(long=False)}
        long = {instance.name for instance in suite_guest.instances(long=True)}
        self.assertLess(short, long)
        self.assertIn("guest/cdrivers[packed-direct]", long - short)

    def test_options(self) -> None:
        instance = Instance(Path("rng.sh"), "debug", ("--kernel", "debug"))
        self.assertEqual(instance.name, "guest/rng[debug]")
        self.assertEqual(instance.option("--kernel", "release"), "debug")
        self.assertEqual(instance.option("--root", "initramfs"), "initramfs")


class Style(unittest.TestCase):
    def test_licence(self) -> None:
        with tempfile.TemporaryDirectory(dir=paths.TOP) as name:
            good, bad = Path(name) / "good.c", Path(name) / "bad.c"
            good.write_text("// SPDX-License-Identifier: GPL-2.0\n")
            bad.write_text("int x;\n")
            self.assertEqual([Path(path).name for path in suite_style.without_spdx([good, bad])], ["bad.c"])


class KUnit(unittest.TestCase):
    def test_silence_is_a_failure(self) -> None:
        self.assertEqual([case.state for case in cases("[    1.0] booted\n")], [FAIL])


if __name__ == "__main__":
    unittest.main()
