# SPDX-License-Identifier: GPL-2.0
"""Suite `host`: what needs no kernel. The pure crates under cargo, and the tests of these tools."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from guest import paths

from check import command
from check.command import Command
from check.command import run as run_command
from check.report import Report

FUZZ_SECONDS = 20
FUZZ_SECONDS_LONG = 1200
# Fuzzers and loom have one thread each.
AT_ONCE = 2
PROPTEST_CASES_LONG = "20000"
# More than an index of 16 bits counts.
VRINGH_TRANSFERS = 100_000
VRINGH_TRANSFERS_LONG = 2_000_000
TARGET = paths.TOP / "target"


def tests(long: bool) -> Iterator[Command]:
    """All tests of the suite; LONG asks for many more random cases."""
    cases = {"PROPTEST_CASES": PROPTEST_CASES_LONG} if long else {}
    yield Command("host/cargo-test", ("cargo", "test", "--workspace", "--quiet"), cases)
    # loom replaces the atomics at compile time, hence a target directory of its own.
    loom = {"RUSTFLAGS": "--cfg loom", "CARGO_TARGET_DIR": str(TARGET / "loom"), "LOOM_MAX_PREEMPTIONS": "3"}
    yield Command(
        "host/loom", ("cargo", "test", "--release", "--quiet", "-p", "virtqueue-tests", "--test", "loom"), loom
    )
    transfers = VRINGH_TRANSFERS_LONG if long else VRINGH_TRANSFERS
    yield Command("host/vringh", (str(paths.TOP / "tools/testing/vringh/vringh"), str(transfers)))
    seconds = FUZZ_SECONDS_LONG if long else FUZZ_SECONDS
    for target in sorted((paths.TOP / "tools/testing/fuzz/fuzz_targets").glob("*.rs")):
        argv = (str(paths.TOP / "tools/testing/fuzz/run"), target.stem, str(seconds))
        yield Command(f"host/fuzz-{target.stem}", argv, timeout=seconds + 1800.0)
    for package in ("guest", "check", "lsvirtio"):
        unittest = (sys.executable, "-m", "unittest", "discover", "-t", "tools", "-s", f"tools/{package}/tests")
        yield Command(f"host/tools-{package}", unittest)
    hostile = "tools/testing/hostile"
    unittest = (sys.executable, "-m", "unittest", "discover", "-t", hostile, "-s", f"{hostile}/tests")
    yield Command("host/tools-hostile", unittest, {"PYTHONPATH": str(paths.TOP / "tools")})
    bench = (sys.executable, "-m", "unittest", "discover", "-t", "tools/testing", "-s", "tools/testing/bench/tests")
    yield Command("host/tools-bench", bench, {"PYTHONPATH": str(paths.TOP / "tools")})


def run(report: Report, long: bool) -> None:
    """Run the suite."""
    # cargo moves a fresh target directory into its place, and with it away what a second cargo has begun in there.
    TARGET.mkdir(exist_ok=True)
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        try:
            for _ in pool.map(lambda test: run_command(test, report), tests(long)):
                pass
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            command.stop_all()
            raise
