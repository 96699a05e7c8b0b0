# SPDX-License-Identifier: GPL-2.0
"""What the runner prints: a line a test, the end of a failed test's log, and the count."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from guest import paths, step

from check.ktap import FAIL, PASS, SKIP


@dataclass
class Report:
    """Counts results and prints them as they come."""

    only: str = ""
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def wants(self, name: str) -> bool:
        """Whether test NAME was asked for."""
        return self.only in name

    def result(self, name: str, state: str, seconds: float, detail: str = "", log: Path | None = None) -> None:
        """One test NAME ended with STATE; DETAIL is a reason, LOG shown if it failed."""
        self.passed += state == PASS
        self.failed += state == FAIL
        self.skipped += state == SKIP
        reason = f": {detail}" if detail and state != PASS else ""
        print(f"{state} {name} ({seconds:.1f} s){reason}", flush=True)
        if state == FAIL and log is not None:
            step.tail(log)

    def begin(self, name: str) -> float:
        """Say on a terminal what runs now; returns the time."""
        if sys.stdout.isatty():
            print(f"\033[2m... {name}\033[0m\r\033[K", end="", flush=True)
        return time.monotonic()

    def last_line(self) -> str:
        """The count, in the one form that machines read."""
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"

    def status(self) -> int:
        """Exit status of the run: a run without a single test has failed."""
        return 0 if self.failed == 0 and self.passed > 0 else 1


def log_path(name: str) -> Path:
    """Log of test NAME below build/log/check."""
    clean = "".join(char if char.isalnum() or char in "-_./" else "_" for char in name)
    path = paths.LOGS / "check" / f"{clean}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
