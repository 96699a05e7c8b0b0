# SPDX-License-Identifier: GPL-2.0
"""The command line of `tools/check/check`."""

import argparse
import os
import signal
import sys
import time
from types import FrameType

from guest import kernel, paths
from guest.errors import EXIT_INTERRUPTED, UserError
from guest.step import StepFailed, elapsed

from check import suite_guest, suite_host, suite_hostile, suite_kunit, suite_style
from check.ktap import FAIL
from check.report import Report

SUITES = {
    "host": suite_host.run,
    "style": suite_style.run,
    "kunit": suite_kunit.run,
    "guest": suite_guest.run,
    "hostile": suite_hostile.run,
}


# Which guest kernels a suite builds for or boots.
KERNELS = {"host": (), "style": ("release",), "kunit": ("debug",), "guest": paths.FLAVOURS, "hostile": ("debug",)}


def prepare(suites: list[str]) -> None:
    """Build the guest kernels that SUITES need: minutes that belong to no test."""
    # The tests are about our guest kernels, whatever `make modules` was pointed at.
    for name in ("KDIR", "MO"):
        os.environ.pop(name, None)
    for flavour in paths.FLAVOURS:
        if any(flavour in KERNELS[name] for name in suites):
            kernel.build(flavour)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Run the suites named on the command line, or all; returns the exit status."""
    parser = argparse.ArgumentParser(prog="check", description="Run the tests.")
    parser.add_argument("--long", action="store_true", help="long fuzz runs, many repetitions")
    parser.add_argument("--only", default="", metavar="TEXT", help="only tests whose name contains TEXT")
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"any of {' '.join(SUITES)} (default: all)")
    options = parser.parse_args()
    unknown = [name for name in options.suites if name not in SUITES]
    if unknown:
        parser.error(f"there is no suite {unknown[0]}; there are {', '.join(SUITES)}")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    report = Report(only=options.only)
    begin = time.monotonic()
    suites = options.suites or list(SUITES)
    try:
        prepare(suites if not options.only else [])
    except (UserError, StepFailed) as error:
        report.result("guest kernels", FAIL, time.monotonic() - begin, str(error))
        suites = [name for name in suites if not KERNELS[name]]
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    for name in suites:
        start = time.monotonic()
        try:
            SUITES[name](report, options.long)
        except UserError as error:
            report.result(name, FAIL, 0.0, str(error))
        except StepFailed as error:
            report.result(name, FAIL, 0.0, f"{error} failed")
        except KeyboardInterrupt:
            print("interrupted.", file=sys.stderr)
            return EXIT_INTERRUPTED
        print(f"# {name}: {elapsed(time.monotonic() - start)}", flush=True)
    print(f"# {elapsed(time.monotonic() - begin)}")
    print(report.last_line())
    return report.status()
