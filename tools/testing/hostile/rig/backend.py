# SPDX-License-Identifier: GPL-2.0
"""The processes of the lying device: built, started, stopped."""

import os
import signal
import subprocess
import time
from pathlib import Path

from guest import paths, step
from guest.errors import UserError

from rig.scenario import HERE, Case

CRATE = HERE / "backend"
TARGET = paths.BUILD / "hostile/target"
START_SECONDS = 10.0


def build() -> Path:
    """Build the backend; returns the program."""
    command = ["cargo", "build", "--quiet", "--release", "--target-dir", str(TARGET)]
    step.run("hostile-backend", "building the lying device", command, cwd=CRATE)
    return TARGET / "release/hostile-backend"


class Backend:
    """One device's process; it may be stopped, continued, killed and started again."""

    def __init__(self, program: Path, case: Case, directory: Path, log: Path) -> None:
        self._program = program
        self._case = case
        self.socket = directory / f"{case.name}.sock"
        self.log = log
        self.log.write_bytes(b"")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, honest: bool = False) -> None:
        """Start the process and wait for its socket; HONEST: without any lie."""
        self.socket.unlink(missing_ok=True)
        words = ["packed"] if self._case.layout == "packed" else []
        words += ["honest"] if honest else []
        with self.log.open("ab") as stream:
            self._process = subprocess.Popen(
                [str(self._program), str(self.socket), str(self._case.scenario.path), *words],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env={**os.environ, "RUST_BACKTRACE": "1"},
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.socket.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise UserError(f"the lying device did not start: {self.log.read_text().strip()}")
            time.sleep(0.02)

    @property
    def ended(self) -> bool:
        """Whether the process has ended, by itself or otherwise."""
        return self._process is None or self._process.poll() is not None

    def told(self) -> int:
        """Lies that the log tells of."""
        return self.log.read_text(errors="replace").count("lie: ")

    def send(self, number: signal.Signals) -> None:
        """Send signal NUMBER to the process."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def close(self) -> None:
        """End the process, stopped or not."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
