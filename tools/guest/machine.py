# SPDX-License-Identifier: GPL-2.0
"""One QEMU process: started, talked to, and gone when it has to be."""

import contextlib
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from guest.errors import UserError

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Trailer:
    """Splits the command channel into output and the exit status that ends it.

    The guest ends its output with NUL, a nonce of this run, a space, the status, NUL.
    """

    def __init__(self, nonce: str) -> None:
        self._mark = b"\0" + nonce.encode() + b" "
        self._pending = b""
        self.status: int | None = None

    def feed(self, data: bytes) -> bytes:
        """Take DATA from the channel; return what is output for certain."""
        if self.status is not None:
            return b""
        self._pending += data
        at = self._pending.find(self._mark)
        if at >= 0:
            found = re.match(rb"(\d+)\0", self._pending[at + len(self._mark) :])
            if found:
                self.status = int(found.group(1))
                output, self._pending = self._pending[:at], b""
                return output
            output, self._pending = self._pending[:at], self._pending[at:]
            return output
        # Hold back only what may be the beginning of the mark.
        keep = 0
        for size in range(min(len(self._mark) - 1, len(self._pending)), 0, -1):
            if self._mark.startswith(self._pending[-size:]):
                keep = size
                break
        cut = len(self._pending) - keep
        output, self._pending = self._pending[:cut], self._pending[cut:]
        return output

    def rest(self) -> bytes:
        """What was held back, once the channel is closed."""
        output, self._pending = self._pending, b""
        return output if self.status is None else b""


class Machine:
    """A running QEMU with its command channel on a socket pair."""

    def __init__(
        self,
        args: list[str],
        command_port: tuple[str, ...],
        stderr: Path,
        trailer: Trailer,
        sink: Callable[[bytes], None],
    ) -> None:
        self._trailer = trailer
        self._sink = sink
        ours, theirs = socket.socketpair()
        self.channel = ours
        channel = ["-chardev", f"socket,id=command,fd={theirs.fileno()}", *command_port]
        with stderr.open("ab") as stream:
            try:
                self.process = subprocess.Popen(
                    [*args, *channel],
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=stream,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                    preexec_fn=_die_with_parent,  # noqa: PLW1509 (no threads here)
                )
            except FileNotFoundError:
                raise UserError(f"{args[0]} is missing: `make deps` installs it.") from None
            finally:
                theirs.close()

    @property
    def status(self) -> int | None:
        """Exit status of the command, once it has ended."""
        return self._trailer.status

    def send(self, data: bytes) -> None:
        """Bytes for the command's standard input."""
        self.channel.sendall(data)

    def pump(self, timeout: float) -> bool:
        """Pass on output for at most TIMEOUT seconds; False once the channel is closed."""
        self.channel.settimeout(max(timeout, 0.001))
        try:
            data = self.channel.recv(65536)
        except TimeoutError:
            return True
        except ConnectionResetError:
            data = b""
        output = self._trailer.feed(data) if data else self._trailer.rest()
        if output:
            self._sink(output)
        return bool(data)

    def wait(self, timeout: float) -> bool:
        """Wait for QEMU to exit by itself; False if it has not within TIMEOUT seconds."""
        deadline = time.monotonic() + timeout
        while self.pump(min(1.0, deadline - time.monotonic())):
            if time.monotonic() > deadline:
                return False
        try:
            self.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """End QEMU and everything it started, now."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.channel.close()


class Qmp:
    """The few words of QEMU's monitor protocol that tests need."""

    def __init__(self, path: Path, timeout: float = 20.0) -> None:
        self._timeout = timeout
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        self._socket.connect(str(path))
        self._stream = self._socket.makefile("rw", encoding="utf-8")
        self.events: list[dict[str, Any]] = []
        self._read()
        self.command("qmp_capabilities")

    def _read(self) -> dict[str, Any]:
        line = self._stream.readline()
        if not line:
            raise ConnectionError("QEMU closed its monitor")
        message: dict[str, Any] = json.loads(line)
        return message

    def command(self, name: str, /, **arguments: Any) -> Any:
        """Carry out command NAME; returns what QEMU returns, raises RuntimeError with QEMU's words on an error."""
        self._stream.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        self._stream.flush()
        while True:
            message = self._read()
            if "event" in message:
                self.events.append(message)
            elif "error" in message:
                raise RuntimeError(f"{name}: {message['error']['desc']}")
            elif "return" in message:
                return message["return"]

    def event(self, name: str, timeout: float | None = None) -> dict[str, Any]:
        """The next event NAME, from those already here or still to come; TimeoutError after TIMEOUT seconds."""
        deadline = time.monotonic() + (self._timeout if timeout is None else timeout)
        while True:
            for index, message in enumerate(self.events):
                if message["event"] == name:
                    return self.events.pop(index)
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                message = self._read()
            finally:
                self._socket.settimeout(self._timeout)
            if "event" in message:
                self.events.append(message)

    def close(self) -> None:
        """Leave the monitor."""
        self._stream.close()
        self._socket.close()
