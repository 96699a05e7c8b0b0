#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The shell that the other tests talk to: it loses nothing, and says how a guest ended.

# guest *: --timeout 60
# guest release: --kernel release --smp 2
"""

import signal

from guest import ksft
from guest.ksft import Shell
from guest.run import Config, Guest

ROUNDS = 20
LINE = "x" * 900


def children_end_while_it_reads(config: Config) -> None:
    """Commands that end in the background take nothing of a line that comes or goes meanwhile."""
    Shell.prepare(config)
    with Guest(config) as guest:
        shell = Shell(guest)
        for _ in range(ROUNDS):
            shell("for time in 1 2 3 4 5 6 7 8 9; do usleep ${time}000 & done")
            assert shell(f"echo {LINE}") == LINE
        shell.start("exit 3")
        ksft.passed(guest, status=3)


def says_how_it_ended(config: Config) -> None:
    """A command that does not end says why: QEMU's status, or the shell's."""
    for end, told in ((signal.SIGKILL, "with status -9"), (None, "its shell ended with status 7")):
        Shell.prepare(config)
        with Guest(config) as guest:
            shell = Shell(guest)
            if end is not None:
                guest.machine.process.send_signal(end)
            for command in ("sleep 1; exit 7", "true"):
                try:
                    shell(command)
                except AssertionError as reason:
                    assert told in str(reason), reason
                else:
                    raise AssertionError(f"{command!r} ended well in a guest that is gone")


if __name__ == "__main__":
    ksft.run(children_end_while_it_reads, says_how_it_ended)
