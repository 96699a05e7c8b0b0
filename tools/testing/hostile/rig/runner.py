# SPDX-License-Identifier: GPL-2.0
"""Runs cases: several share a guest until one of them does not survive."""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from guest import console, modules, paths
from guest.run import Config, Guest

from rig import injector, workload
from rig.scenario import Case
from rig.session import Hang, Lost, Session, configuration
from rig.verdict import HANG, LOST, SPLAT, SURVIVED, UNTOLD, Verdict

GUEST_SECONDS = 3600.0
KEEP_LOGS = 60
MEMORY = "512M"
POWEROFF_SECONDS = 120.0


@dataclass
class Options:
    """How cases are run."""

    stack: str = "rust"
    kernel: str = "debug"
    modules: Path | None = None
    program: Path = Path()
    log: Path = paths.BUILD / "hostile/log"
    kmemleak: bool = False
    # Drivers that are another's than the stack's by default.
    swaps: dict[str, str] = field(default_factory=dict)


def run_case(session: Session, device: injector.Device) -> Verdict:
    """The verdict of one case in a running guest."""
    begin = time.monotonic()
    try:
        verdict = workload.run(session, device.case, device.slot, lambda number: device.before(session, number))
    except Hang as error:
        verdict = Verdict(HANG, str(error), time.monotonic() - begin)
    except Lost as error:
        verdict = Verdict(LOST, str(error), time.monotonic() - begin)
    finally:
        session.forget()
    splat = session.splat()
    if splat:
        # The kernel's own word for what the rig calls a hang.
        stuck = splat.startswith(("a hung task", "a soft lockup"))
        return Verdict(HANG if stuck else SPLAT, splat, verdict.seconds)
    if verdict.word == SURVIVED and not device.told():
        return Verdict(UNTOLD, "the device told no lie", verdict.seconds)
    return verdict


def at_end(session: Session, guest: Guest) -> Verdict | None:
    """Switch the guest off; a verdict if it shows something that belongs to no single case."""
    begin = time.monotonic()
    session.send("exit 0")
    off = guest.machine.wait(POWEROFF_SECONDS)
    took = time.monotonic() - begin
    splat = session.splat()
    if splat:
        return Verdict(SPLAT, splat, took)
    ours = {modules.module_name(path) for path in guest.selection.rust.values()} | set(guest.selection.choice)
    leak = console.leaks(console.read(guest.console), ours)
    if leak:
        return Verdict(SPLAT, f"{leak.what}: {leak.line}", took)
    return None if off else Verdict(HANG, "the guest does not switch off", took)


def prune(directory: Path) -> None:
    """Leave room in DIRECTORY for the logs of one more guest."""
    old = sorted(directory.glob("*/"), key=lambda entry: entry.stat().st_mtime)
    for entry in old[: max(0, len(old) - KEEP_LOGS)]:
        shutil.rmtree(entry, ignore_errors=True)


def in_one_guest(cases: list[Case], options: Options) -> Iterator[tuple[Case, Verdict]]:
    """Verdicts of CASES, up to the first one that did not survive, in one guest."""
    drivers = sorted({workload.DRIVERS[case.scenario.device] for case in cases})
    config: Config = configuration(options.stack, options.kernel, drivers, GUEST_SECONDS)
    config.modules = options.modules
    config.swaps = {name: whose for name, whose in options.swaps.items() if name in drivers}
    config.kmemleak = options.kmemleak
    prune(options.log)
    logs = options.log / f"{time.strftime('%Y%m%d-%H%M%S')}-{options.stack}-{cases[0].name}"
    logs.mkdir(parents=True, exist_ok=True)
    config.log = logs
    config.files = {"guest/hostile.sh": paths.TOP / "tools/testing/hostile/guest.sh"}
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hostile-")))
        config.qemu_args = [
            *("-object", f"memory-backend-file,id=ram,size={MEMORY},mem-path={work}/ram,share=on"),
            *("-machine", "memory-backend=ram"),
        ]
        there = [injector.device(case, number, options.program, work, logs) for number, case in enumerate(cases)]
        for made in there:
            stack.callback(made.close)
            config.qemu_args += made.start()
        guest = stack.enter_context(Guest(config))
        try:
            session = Session(guest)
        except (Hang, Lost) as error:
            if len(cases) == 1:
                yield cases[0], Verdict(UNTOLD, f"the guest did not begin: {error}", 0.0)
            return
        for one in there:
            verdict = run_case(session, one)
            if one is there[-1] and verdict.word == SURVIVED:
                # What shows only now belongs to one of them: not to be told which.
                verdict = at_end(session, guest) or verdict
            yield one.case, verdict
            if verdict.word != SURVIVED:
                return


def run(cases: list[Case], options: Options) -> Iterator[tuple[Case, Verdict]]:
    """Verdicts of CASES; one that does not survive is the last of its guest."""
    rest, most = list(cases), injector.MOST
    while rest:
        now, done = rest[:most], 0
        for case, verdict in in_one_guest(now, options):
            yield case, verdict
            done += 1
        rest = rest[done:]
        # A device with which QEMU does not even begin is found by trying fewer.
        most = injector.MOST if done else max(1, len(now) // 2)
