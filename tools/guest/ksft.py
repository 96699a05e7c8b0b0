# SPDX-License-Identifier: GPL-2.0
"""For selftests that drive a guest from the host: each case is a function, the output is KTAP.

    def unplug(config: Config) -> None:
        config.command = "..."
        with Guest(config) as guest:
            ...
            passed(guest)

    run(unplug)

The arguments on the command line are those of `guest run`; every case gets a Config of its own.
"""

import signal
import sys
import traceback
from collections.abc import Callable

from guest import cli, paths
from guest.errors import EXIT_INTERRUPTED, UserError
from guest.run import Config, Guest

Case = Callable[[Config], None]


class Skip(Exception):
    """Raised by a case that cannot be run here; its text is the reason."""


def passed(guest: Guest, status: int = 0) -> None:
    """Let GUEST end; AssertionError unless it is healthy and its command ended with STATUS."""
    result = guest.finish()
    if result.reason is not None:
        raise AssertionError(f"{result.reason} (console: {paths.shown(result.console)})")
    if result.status != status:
        raise AssertionError(f"the command ended with status {result.status}, not {status}")


def configuration(case: str) -> Config:
    """The Config of one case; its logs go into a directory of its own."""
    config = cli.configuration(cli.parser().parse_args(["run", *sys.argv[1:]]), ["true"])
    if config.log is not None:
        config.log = config.log / case
    return config


def run(*cases: Case) -> None:
    """Run CASES and end the program: status 0 if none has failed."""
    # Ended from outside, it still cleans up: guests and their files go when their `with` block is left.
    signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit(EXIT_INTERRUPTED))
    print(f"KTAP version 1\n1..{len(cases)}", flush=True)
    failed = False
    for number, case in enumerate(cases, 1):
        name = case.__name__
        try:
            case(configuration(name))
        except Skip as reason:
            print(f"ok {number} {name} # SKIP {reason}", flush=True)
        except (AssertionError, UserError, OSError, RuntimeError) as error:
            for line in traceback.format_exc().splitlines():
                print(f"# {line}")
            print(f"not ok {number} {name} # {' '.join(str(error).split())}", flush=True)
            failed = True
        else:
            print(f"ok {number} {name}", flush=True)
    sys.exit(1 if failed else 0)
