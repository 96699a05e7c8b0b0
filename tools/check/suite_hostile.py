# SPDX-License-Identifier: GPL-2.0
"""Suite `hostile`: devices that lie to our modules, on the debug kernel.  Every case counts as a test."""

import time
from concurrent.futures import ThreadPoolExecutor

from guest import build, paths

from check import command, ktap
from check.ktap import FAIL
from check.report import Report, log_path

NAME = "hostile"
RIG = str(paths.TOP / "tools/testing/hostile/hostile")
TIMEOUT = 5400.0
# Guests wait as much as they work, most of all for the deadlines of drivers.
AT_ONCE = 2


def runs(long: bool) -> list[tuple[str, tuple[str, ...]]]:
    """Names and arguments of the rig's runs."""
    which = ("--ours",) if long else ("--ours", "--quick")
    found = [(f"{NAME}/part-{part}", ("run", *which, "--part", f"{part}/{AT_ONCE}")) for part in range(1, AT_ONCE + 1)]
    if long:
        # The proof that the rig sees a driver that trusts the device.
        found.append((f"{NAME}/planted", ("planted",)))
    return found


def run(report: Report, long: bool) -> None:
    """Run the suite; LONG adds slow cases and the planted faults."""
    chosen = [(name, words) for name, words in runs(long) if report.wants(name)]
    if not chosen:
        return
    build.build("debug")

    def one(item: tuple[str, tuple[str, ...]]) -> tuple[int | None, float]:
        begin = time.monotonic()
        status = command.execute((RIG, *item[1]), log_path(item[0]), {}, TIMEOUT)
        return status, time.monotonic() - begin

    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        try:
            outcomes = list(pool.map(one, chosen))
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            command.stop_all()
            raise
    for (name, _), (status, took) in zip(chosen, outcomes, strict=True):
        log = log_path(name)
        parser = ktap.parse(log.read_text(errors="replace"))
        for case in parser.cases:
            report.result(f"{NAME}/{case.name}", case.state, took / len(parser.cases), case.detail, log)
        if not any(case.state == FAIL for case in parser.cases) and (status != 0 or not parser.cases):
            report.result(name, FAIL, took, f"status {status}", log)
