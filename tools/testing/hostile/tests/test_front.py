# SPDX-License-Identifier: GPL-2.0
"""What stands between QEMU's network device and the backend."""

import os
import socket
import struct
import tempfile
import unittest
from pathlib import Path

from rig import front

ENABLE = front.HEADER.pack(front.SET_VRING_ENABLE, front.VERSION, 8) + struct.pack("<II", 0, 1)
FEATURES = front.HEADER.pack(front.SET_FEATURES, front.VERSION, 8) + struct.pack("<Q", 1 << 32)


class Messages(unittest.TestCase):
    def setUp(self) -> None:
        directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        listener = self.enterContext(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        listener.bind(str(directory / "backend"))
        listener.listen(1)
        listener.settimeout(10)
        self.front = front.Front(directory / "front", directory / "backend")
        self.addCleanup(self.front.close)
        self.qemu = self.enterContext(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        self.qemu.settimeout(10)
        self.qemu.connect(str(self.front.path))
        self.backend = self.enterContext(listener.accept()[0])
        self.backend.settimeout(10)

    def test_features_come_before_what_needs_them(self) -> None:
        self.qemu.sendall(ENABLE + ENABLE)
        heard = [front.receive(self.backend)[0] for _ in range(3)]
        self.assertEqual(heard, [front.feature_message(), ENABLE, ENABLE])

    def test_features_of_qemu_are_enough(self) -> None:
        self.qemu.sendall(FEATURES + ENABLE)
        self.assertEqual([front.receive(self.backend)[0] for _ in range(2)], [FEATURES, ENABLE])

    def test_files_come_along(self) -> None:
        read, write = os.pipe()
        socket.send_fds(self.qemu, [ENABLE[:5]], [write])
        self.qemu.sendall(ENABLE[5:])
        os.close(write)
        front.receive(self.backend)
        message, (file,) = front.receive(self.backend)
        self.assertEqual(message, ENABLE)
        os.write(file, b"x")
        os.close(file)
        self.assertEqual(os.read(read, 2), b"x")
        os.close(read)

    def test_answers_go_back(self) -> None:
        self.backend.sendall(b"answer")
        self.assertEqual(self.qemu.recv(100), b"answer")

    def test_the_end_of_one_is_the_end_of_the_other(self) -> None:
        self.backend.close()
        self.assertEqual(self.qemu.recv(100), b"")
