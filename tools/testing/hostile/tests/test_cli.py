# SPDX-License-Identifier: GPL-2.0
"""Which cases are run."""

import tempfile
import unittest
from pathlib import Path

from guest.errors import UserError
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


class Swaps(unittest.TestCase):
    def test_drivers_are_of_the_stack_those_on_trial_too(self) -> None:
        for stack in scenario.STACKS:
            self.assertEqual(set(cli.swaps(stack, []).values()) - {stack}, set())
        self.assertEqual(cli.swaps("rust", ["virtio_blk=c"])["virtio_blk"], "c")

    def test_nobody_swaps_what_no_case_uses(self) -> None:
        for word in ("virtio_pci=c", "virtio_net", "virtio_net=go"):
            with self.assertRaises(UserError):
                cli.swaps("rust", [word])
