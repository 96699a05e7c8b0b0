# SPDX-License-Identifier: GPL-2.0
"""Which cases are run."""

import tempfile
import unittest
from pathlib import Path

from rig import cli, runner, scenario


class Ours(unittest.TestCase):
    def test_a_device_without_a_driver_of_ours_waits(self) -> None:
        cases = scenario.cases(scenario.everything(), [])
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            how = runner.Options(modules=directory)
            self.assertEqual(cli.ours(cases, how), [])
            (directory / "virtio-rng.ko").touch()
            (directory / "virtio_blk.ko").touch()
            self.assertEqual({case.scenario.device for case in cli.ours(cases, how)}, {"rng", "blk"})
