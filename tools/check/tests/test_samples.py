# SPDX-License-Identifier: GPL-2.0
"""The bpftrace samples use events and fields that the modules have."""

import re
import unittest

from guest import paths

SCRIPTS = sorted((paths.TOP / "samples/bpftrace").glob("*.bt"))


def events() -> dict[str, set[str]]:
    """The fields of each trace event."""
    text = (paths.TOP / "rust/virtio_ring/trace.h").read_text()
    found = {}
    for name, body in re.findall(r"^TRACE_EVENT\((\w+),(.*?)^\);", text, re.DOTALL | re.MULTILINE):
        found[name] = set(re.findall(r"__(?:field\([^,]*,|string\()\s*(\w+)", body))
    return found


class Bpftrace(unittest.TestCase):
    def test_there_are_some(self) -> None:
        self.assertGreaterEqual(len(SCRIPTS), 3)
        self.assertIn("num_added", events()["virtio_kick"])
        self.assertIn("device", events()["virtio_kick"])

    def test_fields(self) -> None:
        for script in SCRIPTS:
            text = re.sub(r"/\*.*?\*/", "", script.read_text(), flags=re.DOTALL)
            probes = re.findall(r"^tracepoint:virtio:(\w+)\n(.*?)^\}", text, re.DOTALL | re.MULTILINE)
            self.assertTrue(probes, script)
            for event, body in probes:
                self.assertIn(event, events(), script)
                self.assertLessEqual(set(re.findall(r"args->(\w+)", body)), events()[event], f"{script}: {event}")

    def test_what_is_kept_by_queue_is_cleared(self) -> None:
        for script in SCRIPTS:
            text = script.read_text()
            kept = set(re.findall(r"(@\w+)\[args->vq", text))
            self.assertEqual(kept, set(re.findall(r"clear\((@\w+)\)", text)), script)
