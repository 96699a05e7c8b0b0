# SPDX-License-Identifier: GPL-2.0
"""Long steps: one line with the elapsed time, a log, and the end of that log when a step fails."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from guest import paths

TAIL = 25


class StepFailed(Exception):
    """A step failed; everything there is to say has been printed."""


def verbose() -> bool:
    """Whether V=1 asks for all output."""
    return os.environ.get("V", "0") not in ("", "0")


def elapsed(seconds: float) -> str:
    """SECONDS as `7 s` or `3 min 07 s`."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def run(
    name: str,
    title: str,
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    append: bool = False,
) -> None:
    """Run COMMAND as step NAME, its output in build/log/NAME.log; raises StepFailed if it fails.

    On a terminal the line of TITLE counts the seconds; elsewhere it is printed when the step begins and
    when it ends.  With V=1 the output goes to the terminal as well.  ENV is added to the environment.
    """
    paths.LOGS.mkdir(parents=True, exist_ok=True)
    log = paths.LOGS / f"{name}.log"
    live = sys.stdout.isatty() and not verbose()
    begin = time.monotonic()
    if not live:
        print(f"{title} ...", flush=True)
    with log.open("ab" if append else "wb") as stream:
        # The jobserver of a make above us is inherited: close_fds would cut it off.
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if verbose() else stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            close_fds=False,
        )
        try:
            if process.stdout is not None:
                for line in process.stdout:
                    stream.write(line)
                    sys.stdout.buffer.write(line)
                    sys.stdout.buffer.flush()
            _wait(process, title, begin if live else None)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    took = elapsed(time.monotonic() - begin)
    if process.returncode == 0:
        print(f"\r\033[K{title}: {took}" if live else f"{title}: done in {took}", flush=True)
        return
    if live:
        print("\r\033[K", end="")
    print(f"{title}: FAILED after {took}", flush=True)
    tail(log)
    raise StepFailed(title)


def _wait(process: subprocess.Popen[bytes], title: str, begin: float | None) -> None:
    """Wait for PROCESS; with BEGIN, count the seconds on the terminal."""
    while begin is not None:
        print(f"\r\033[K{title} ... {elapsed(time.monotonic() - begin)}", end="", flush=True)
        try:
            process.wait(1.0)
        except subprocess.TimeoutExpired:
            continue
        return
    process.wait()


def tail(log: Path, lines: int = TAIL) -> None:
    """Print the last LINES of LOG and where the whole of it is."""
    text = log.read_text(errors="replace").splitlines() if log.exists() else []
    for line in text[-lines:]:
        print(f"  {line}")
    print(f"The whole log: {paths.shown(log)}", flush=True)
