# SPDX-License-Identifier: GPL-2.0
"""A guest that does one command after the other, each with a limit of time."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from guest import console
from guest.run import Config, Guest

# A guest that has begun within so many seconds is on a machine that has time for it.
BOOT_SECONDS = 60.0
BOOT_LIMIT = 900.0


class Hang(Exception):
    """A command did not end in time."""


class Lost(Exception):
    """The guest is gone: it crashed, was reset, or QEMU ended."""


@dataclass
class Reply:
    """What a command printed, its exit status, and how long it took in seconds."""

    text: str
    status: int
    seconds: float

    def words(self, first: str) -> list[str]:
        """The words after FIRST on the last line that begins with it; empty if there is none."""
        lines = re.findall(rf"^{first}\b(.*)$", self.text, re.MULTILINE)
        return str(lines[-1]).split() if lines else []


class Session:
    """Commands for the shell loop of guest.sh in a running GUEST."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self._seen = 0
        self._console = 0
        self._later: list[tuple[float, Callable[[], None]]] = []
        begin = time.monotonic()
        # How much longer than usual everything takes: limits grow with it.
        self.slowness = 1.0
        self.wait_for(r"ready\s*$", BOOT_LIMIT)
        self.slowness = max(1.0, (time.monotonic() - begin) / BOOT_SECONDS)
        # Before any lie is told: a machine that has no time for the guest shows as a soft lockup.
        splat = self.splat()
        if splat:
            raise Lost(splat)

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """Do WHAT in SECONDS, or at the next wait after that."""
        self._later.append((time.monotonic() + seconds, what))

    def forget(self) -> None:
        """Nothing is left to be done later."""
        self._later.clear()

    def _due(self) -> None:
        now = time.monotonic()
        due = [what for at, what in self._later if at <= now]
        self._later = [(at, what) for at, what in self._later if at > now]
        for what in due:
            what()

    def wait_for(self, pattern: str, limit: float) -> str:
        """Output up to a line that PATTERN matches; Hang after LIMIT seconds, Lost if the guest has ended.

        On a machine that is busy with other things, LIMIT is longer.
        """
        limit *= self.slowness
        deadline = time.monotonic() + limit
        compiled = re.compile(rf"^{pattern}", re.MULTILINE)
        while True:
            text = bytes(self.guest.output[self._seen :]).decode(errors="replace")
            found = compiled.search(text)
            if found and "\n" in text[found.start() :]:
                self._seen += len(text[: text.index("\n", found.start()) + 1].encode())
                return text
            if self.guest.machine.status is not None:
                raise Lost("the shell of the guest ended")
            self._due()
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise Hang(f"no answer within {limit:g} s")
            if not self.guest.machine.pump(min(remaining, 0.05 if self._later else 0.5)):
                raise Lost("the guest ended")

    def send(self, command: str) -> None:
        """Begin COMMAND; `finish` waits for its end."""
        self.guest.send(command)

    def finish(self, limit: float) -> Reply:
        """The reply to what was sent last."""
        begin = time.monotonic()
        text = self.wait_for(r"end (\d+)\s*$", limit)
        status = re.findall(r"^end (\d+)\s*$", text, re.MULTILINE)
        return Reply(text, int(status[0]), time.monotonic() - begin)

    def do(self, command: str, limit: float) -> Reply:
        """Carry out COMMAND within LIMIT seconds."""
        self.send(command)
        return self.finish(limit)

    def splat(self) -> str | None:
        """The first splat on the console since this was asked last, as a sentence."""
        text = console.read(self.guest.console)
        new, self._console = text[self._console :], len(text)
        found = console.scan(new, self.guest.config.allow)
        return f"{found.what}: {found.line}" if found else None


def configuration(stack: str, kernel: str, drivers: list[str], timeout: float) -> Config:
    """A guest with shared memory whose command is the shell loop of guest.sh for DRIVERS."""
    return Config(
        command=f". /guest/hostile.sh; serve {' '.join(drivers)}",
        stack=stack,
        kernel=kernel,
        default_devices=False,
        load=False,
        stdin=True,
        timeout=timeout,
        append=["rng_core.default_quality=0"],
        kmemleak=False,
    )
