# SPDX-License-Identifier: GPL-2.0
"""Tests that are a command: status 0 passes, 4 skips (as in kselftest), anything else fails."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from guest import paths

from check.ktap import FAIL, PASS, SKIP
from check.report import Report, log_path

KSFT_SKIP = 4

_running: set[subprocess.Popen[bytes]] = set()


@dataclass(frozen=True)
class Command:
    """One test."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 1800.0


def execute(argv: Sequence[str], log: Path, env: Mapping[str, str], timeout: float) -> int | None:
    """Run ARGV in the source tree with its output in LOG; exit status, or None after TIMEOUT seconds."""
    with log.open("wb") as stream:
        stream.write(f"$ {' '.join(argv)}\n".encode())
        stream.flush()
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, **env},
            cwd=paths.TOP,
            start_new_session=True,
        )
        _running.add(process)
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            stream.write(f"no end within {timeout:g} seconds\n".encode())
            return None
        finally:
            _running.discard(process)
            if process.poll() is None:
                # A guest cleans up after itself when it is asked to end.
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


def stop_all() -> None:
    """Ask every command that runs in another thread to end."""
    for process in tuple(_running):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)


def run(test: Command, report: Report) -> None:
    """Run TEST and report it, if it was asked for."""
    if not report.wants(test.name):
        return
    begin = report.begin(test.name)
    log = log_path(test.name)
    try:
        status = execute(test.argv, log, test.env, test.timeout)
    except OSError as error:
        report.result(test.name, FAIL, 0.0, f"cannot be run: {error}")
        return
    took = time.monotonic() - begin
    if status == 0:
        report.result(test.name, PASS, took)
    elif status == KSFT_SKIP:
        report.result(test.name, SKIP, took, log=log)
    else:
        reason = "timeout" if status is None else f"status {status}"
        report.result(test.name, FAIL, took, reason, log)
