# SPDX-License-Identifier: GPL-2.0
"""virtio-report on trees of files."""

import contextlib
import gzip
import io
import os
import shutil
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from lsvirtio import virtio_report
from lsvirtio.tests.fake_sysfs import rust_stack

LOG = """\
[    0.000000] Command line: virtio_net.napi_tx=0 password=hunter2
[    0.100000] input: keyboard
[    1.000000] virtio_blk virtio0: [vda] 64 512-byte logical blocks
[    1.100000] virtio_net virtio1: Assigned random MAC address 52:54:00:12:34:56
[    1.200000] e1000 0000:00:09.0: link is up
[    1.300000] pci 0000:00:02.0: enabling device
[    2.000000] ------------[ cut here ]------------
[    2.000001] WARNING: CPU: 0 PID: 1 at lib/some.c:1
[    2.000002] Call Trace:
[    2.000003] ---[ end trace 0000000000000000 ]---
[    3.000000] input: mouse
"""


def virtio_space() -> bytearray:
    """A configuration space with MSI-X, a common configuration, and a list that comes back."""
    config = bytearray(256)
    config[6] = 0x10
    config[0x34] = 0x40
    config[0x40:0x44] = bytes((0x11, 0x50, 0x02, 0x80))
    config[0x50:0x60] = (
        bytes((9, 0x40, 16, 1, 4, 0, 0, 0)) + (0x1000).to_bytes(4, "little") + (56).to_bytes(4, "little")
    )
    return config


class Report(unittest.TestCase):
    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="virtio-report-"))
        self.addCleanup(shutil.rmtree, self.root)
        fake = rust_stack(self.root / "sys")
        fake.link("bus/pci/devices/0000:00:02.0", "devices/pci0000:00/0000:00:02.0")
        fake.write("module/virtio_blk/parameters/queue_depth", "64")
        fake.write("devices/pci0000:00/0000:00:02.0/resource", "0x0 0x0 0x0\n0xfe000000 0xfe000fff 0x40200")
        (self.root / "sys/devices/pci0000:00/0000:00:02.0/config").write_bytes(virtio_space())
        proc = self.root / "proc"
        proc.mkdir()
        (proc / "cmdline").write_text("root=/dev/vda rd.luks.key=abc quiet\n")
        (proc / "interrupts").write_text("      CPU0\n 24:  1  PCI-MSIX  virtio0-config\n  0:  2  IO-APIC  timer\n")
        config = "CONFIG_VIRTIO=m\n# CONFIG_RUST is not set\nCONFIG_EXT4_FS=y\n"
        (proc / "config.gz").write_bytes(gzip.compress(config.encode()))

    def run_it(self, *more: str, log: str = LOG) -> tuple[int, str, str]:
        real = virtio_report.program

        def program(*command: str) -> str:
            return {"dmesg": log, "modinfo": "filename: /m.ko\nauthor: x\n"}.get(command[0]) or real(*command)

        out, err = io.StringIO(), io.StringIO()
        places = [f"--{kind}fs={self.root / kind}" for kind in ("sys", "proc")]
        with (
            mock.patch.object(virtio_report, "program", program),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            status = virtio_report.main([*places, f"--boot={self.root}", *more])
        return status, out.getvalue(), err.getvalue()

    def section(self, title: str) -> str:
        status, out, err = self.run_it()
        self.assertEqual((status, err), (0, ""))
        return out.split(f"== {title} ==\n")[1].split("\n== ")[0]

    def test_every_section_says_something(self) -> None:
        for title in virtio_report.SECTIONS:
            self.assertGreater(len(self.section(title)), 10, title)
            self.assertNotIn("Error", self.section(title), title)

    def test_devices(self) -> None:
        self.assertIn("virtio_blk (Rust)", self.section("devices"))
        self.assertIn('"schema": 1', self.section("devices, for programs"))

    def test_modules(self) -> None:
        text = self.section("modules")
        self.assertIn(
            "virtio_blk:\n    taint: O\n    srcversion: 0123456789ABCDEF\n    parameter queue_depth=64\n", text
        )
        self.assertIn("    filename: /m.ko", text)
        self.assertNotIn("author", text)

    def test_log(self) -> None:
        text = self.section("kernel log")
        for line in ("[vda] 64", "enabling device", "cut here", "Call Trace", "end trace"):
            self.assertIn(line, text)
        for line in ("keyboard", "e1000", "mouse"):
            self.assertNotIn(line, text)

    def test_a_long_log_is_cut(self) -> None:
        _, out, _ = self.run_it(log="virtio\n" * (virtio_report.LOG_LINES + 5))
        self.assertIn("(5 lines before these)", out)

    def test_what_is_left_out(self) -> None:
        _, out, _ = self.run_it()
        for secret in ("hunter2", "abc", "52:54:00"):
            self.assertNotIn(secret, out)
        self.assertIn("root=/dev/vda rd.luks.key=... quiet", out)
        self.assertIn("Assigned random MAC address xx:xx", out)

    def test_debugfs(self) -> None:
        text = self.section("debugfs")
        self.assertIn("virtio0/queues:\nindex name", text)
        self.assertIn("virtio0/statistics:\n", text)

    def test_pci(self) -> None:
        text = self.section("PCI")
        self.assertIn("    resource 1: 0xfe000000", text)
        self.assertNotIn("resource 0", text)
        self.assertIn("capability at 0x40: MSI-X: 3 vectors, on", text)
        self.assertIn("capability at 0x50: virtio common: BAR 4, offset 0x1000, 0x38 bytes", text)
        self.assertIn("comes back to 0x40", text)

    def test_absurd_capabilities(self) -> None:
        for config in (b"", bytes(64), b"\xff" * 256, b"\xff" * 70):
            self.assertLess(len(list(virtio_report.capabilities(config))), 64)

    def test_configuration(self) -> None:
        text = self.section("kernel configuration")
        self.assertEqual(text.strip(), "CONFIG_VIRTIO=m\n# CONFIG_RUST is not set")

    def test_what_is_not_there_is_named(self) -> None:
        shutil.rmtree(self.root / "proc")
        shutil.rmtree(self.root / "sys/kernel/debug")
        status, out, _ = self.run_it(log="")
        self.assertEqual(status, 0)
        for path in ("proc/cmdline", "proc/interrupts", "kernel/debug/virtio is not there"):
            self.assertIn(path, out)

    def test_output(self) -> None:
        path = self.root / "report.txt"
        self.assertEqual(self.run_it("-o", str(path)), (0, "", ""))
        self.assertIn("== PCI ==", path.read_text())
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        status, _, err = self.run_it("-o", str(path))
        self.assertEqual((status, err), (1, f"virtio-report: {path}: {os.strerror(17)}.\n"))

    def test_no_sysfs(self) -> None:
        shutil.rmtree(self.root / "sys")
        status, out, err = self.run_it()
        self.assertEqual((status, out), (1, ""))
        self.assertIn("there is no sysfs at", err)
