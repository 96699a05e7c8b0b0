# SPDX-License-Identifier: GPL-2.0
"""Between QEMU's network device and the backend: what QEMU sends too early comes with what it stands on.

QEMU enables the rings of a vhost-user network device before it has set any feature.  The crate that the
backend stands on takes VHOST_USER_SET_VRING_ENABLE only once VHOST_USER_F_PROTOCOL_FEATURES is set, and ends
the connection.  So the first one is preceded by a VHOST_USER_SET_FEATURES of that bit alone.
"""

import array
import contextlib
import os
import socket
import struct
import threading
from pathlib import Path

# Of the vhost-user protocol: request, flags, bytes that follow.
HEADER = struct.Struct("<III")
SET_FEATURES, SET_VRING_ENABLE = 2, 18
VERSION = 1
F_PROTOCOL_FEATURES = 30
# A message has at most so many file descriptors (VHOST_MEMORY_BASELINE_NREGIONS), and bytes.
MOST_FILES = 8
MOST_BYTES = 1 << 16


def feature_message() -> bytes:
    """A VHOST_USER_SET_FEATURES of VHOST_USER_F_PROTOCOL_FEATURES alone."""
    return HEADER.pack(SET_FEATURES, VERSION, 8) + struct.pack("<Q", 1 << F_PROTOCOL_FEATURES)


def receive(stream: socket.socket) -> tuple[bytes, list[int]]:
    """The next message and its files; nothing at the end."""
    message, files = b"", array.array("i")
    wanted = HEADER.size
    while len(message) < wanted:
        data, more, _flags, _address = socket.recv_fds(stream, wanted - len(message), MOST_FILES)
        if not data:
            return b"", []
        files.extend(more)
        message += data
        if len(message) == HEADER.size:
            wanted += min(HEADER.unpack(message)[2], MOST_BYTES)
    return message, files.tolist()


class Front:
    """A socket for QEMU before the backend's; ends with either side, or when closed."""

    def __init__(self, path: Path, backend: Path) -> None:
        self.path = path
        self._backend = backend
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            qemu, _ = self._listener.accept()
            backend = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._ends = [qemu, backend]
            backend.connect(str(self._backend))
            threading.Thread(target=self._back, args=(backend, qemu), daemon=True).start()
            self._forth(qemu, backend)

    def _forth(self, qemu: socket.socket, backend: socket.socket) -> None:
        """What QEMU asks, with its files."""
        with_features = False
        with contextlib.suppress(OSError):
            while True:
                message, files = receive(qemu)
                if not message:
                    break
                request = HEADER.unpack(message[: HEADER.size])[0]
                if request == SET_VRING_ENABLE and not with_features:
                    backend.sendall(feature_message())
                with_features |= request in (SET_FEATURES, SET_VRING_ENABLE)
                socket.send_fds(backend, [message], files)
                for file in files:
                    os.close(file)
        self.close()

    def _back(self, backend: socket.socket, qemu: socket.socket) -> None:
        """What the backend answers."""
        with contextlib.suppress(OSError):
            while answer := backend.recv(MOST_BYTES):
                qemu.sendall(answer)
        self.close()

    def close(self) -> None:
        """Close both ends."""
        for end in (*self._ends, self._listener):
            # `close` alone leaves a thread waiting that reads.
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self.path.unlink(missing_ok=True)
