# SPDX-License-Identifier: GPL-2.0
"""For selftests that drive a guest from the host: each case is a function, the output is KTAP.

    def unplug(config: Config) -> None:
        config.command = "..."
        with Guest(config) as guest:
            ...
            passed(guest)

    run(unplug)

The arguments on the command line are those of `guest run`; every case gets a Config of its own.  Cases that
can share a guest are run by run_in_one().
"""

import contextlib
import re
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from guest import cli, paths
from guest.errors import EXIT_INTERRUPTED, UserError
from guest.run import Config, Guest

Case = Callable[[Config], None]
# What the cases of run_in_one share.
Shared = TypeVar("Shared")


class Skip(Exception):
    """Raised by a case that cannot be run here; its text is the reason."""


def passed(guest: Guest, status: int = 0) -> None:
    """Let GUEST end; AssertionError unless it is healthy and its command ended with STATUS."""
    result = guest.finish()
    if result.reason is not None:
        raise AssertionError(f"{result.reason} (console: {paths.shown(result.console)})")
    if result.status != status:
        raise AssertionError(f"the command ended with status {result.status}, not {status}")


class Shell:
    """A shell in a guest whose command is LOOP, a command at a time."""

    # When a child in the background ends, busybox forgets the part of a line that it has read, and what it has not yet
    # written of one that it prints.  So neither may have to wait: the terminal gives lines, and a pipe takes them.
    LOOP = (
        "stty icanon; mkfifo /run/shell; (cat /run/shell &); exec >/run/shell 2>&1; "
        """echo @0; while read -r line; do eval "$line" </dev/null; printf '\\n@%d\\n' "$?"; done"""
    )

    # Characters of a command, less than what a terminal (N_TTY_BUF_SIZE) keeps of a line.
    LONGEST = 4000

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self._end: str | None = None
        # What is sent before the serial port is set up is lost.
        self.result()

    @classmethod
    def prepare(cls, config: Config) -> None:
        """Make CONFIG a guest that a Shell can talk to."""
        config.command = cls.LOOP
        config.stdin = True

    def start(self, command: str) -> None:
        """Give the guest COMMAND, which is one line, and do not wait for its end; AssertionError if it is gone."""
        assert len(command) < self.LONGEST, f"a terminal takes no line of {len(command)} characters"
        try:
            self.guest.send(command)
        except OSError:
            raise AssertionError(f"no guest for {command!r}: {self._reason()}") from None

    def result(self) -> tuple[str, int]:
        """Wait for the end of the command that was started: what it printed, and its status."""
        printed: list[str] = []
        for line in self.guest.lines():
            if found := re.fullmatch(r"@(\d+)", line):
                return "\n".join(printed).strip(), int(found.group(1))
            printed.append(line)
        raise AssertionError(f"a command did not end: {self._reason()} It printed {printed}")

    def _reason(self) -> str:
        """Why the guest is gone: what its console or QEMU's stderr shows, or that its time is over."""
        if self._end is None:
            result = self.guest.finish()
            self._end = result.reason or f"its shell ended with status {result.status}."
        return self._end

    def __call__(self, command: str) -> str:
        """What COMMAND prints; AssertionError if it fails."""
        self.start(command)
        printed, status = self.result()
        assert status == 0, f"status {status} of {command!r}: {printed}"
        return printed

    def wait(self, condition: str, seconds: float = 30) -> None:
        """Until the command CONDITION succeeds; AssertionError after SECONDS."""
        self(f"for _ in $(seq {seconds * 10:.0f}); do {condition} && break; sleep 0.1; done; {condition}")


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A directory for the files of one case."""
    with tempfile.TemporaryDirectory(prefix="ksft-") as name:
        yield Path(name)


def configuration(case: str) -> Config:
    """The Config of one case; its logs go into a directory of its own."""
    config = cli.configuration(cli.parser().parse_args(["run", *sys.argv[1:]]), ["true"])
    if config.log is not None:
        config.log = config.log / case
    return config


def run(*cases: Case) -> None:
    """Run CASES, each with a configuration of its own, and end the program: status 0 if none has failed."""
    _begin(len(cases))
    results = []
    for number, case in enumerate(cases, 1):
        results.append(_one(number, case.__name__, partial(_alone, case)))
    sys.exit(0 if all(results) else 1)


def run_in_one(
    start: Callable[[Config], contextlib.AbstractContextManager[Shared]], *cases: Callable[[Shared], None]
) -> None:
    """Run CASES one after the other in what START makes, and end the program: status 0 if none has failed.

    What START does after it yields is a case too, by the name of START: to look whether the guest is healthy.
    """
    _begin(len(cases) + 1)
    results = []

    def together() -> None:
        with start(configuration(start.__name__)) as shared:
            for number, case in enumerate(cases, 1):
                results.append(_one(number, case.__name__, partial(case, shared)))

    results.append(_one(len(cases) + 1, start.__name__, together))
    sys.exit(0 if all(results) else 1)


def _alone(case: Case) -> None:
    case(configuration(case.__name__))


def _begin(count: int) -> None:
    # Ended from outside, it still cleans up: guests and their files go when their `with` block is left.
    signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit(EXIT_INTERRUPTED))
    print(f"KTAP version 1\n1..{count}", flush=True)


def _one(number: int, name: str, case: Callable[[], None]) -> bool:
    """Run CASE and print its result; False if it failed."""
    try:
        case()
    except Skip as reason:
        print(f"ok {number} {name} # SKIP {reason}", flush=True)
    except (AssertionError, UserError, OSError, RuntimeError) as error:
        for line in traceback.format_exc().splitlines():
            print(f"# {line}")
        print(f"not ok {number} {name} # {' '.join(str(error).split())}", flush=True)
        return False
    else:
        print(f"ok {number} {name}", flush=True)
    return True
