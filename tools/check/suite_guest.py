# SPDX-License-Identifier: GPL-2.0
"""Suite `guest`: the selftests in tools/testing/selftests/virtio.

A test says in comments in which guests it runs, one line a guest:

    # guest LABEL: ARGUMENTS OF `guest run`
    # long LABEL: THE SAME, ONLY IN `make check-long`
    # guest *: ARGUMENTS FOR ALL OF THEM

A shell script (NAME.sh) runs inside that guest.  A Python program (NAME.py) runs on the host, gets the
arguments and starts the guest itself, so that it can unplug, suspend, or look from outside.  Both
print KTAP on their standard output; every KTAP case counts as a test.  `make check-long` sets LONG=1 for
them, and gives them four times as long.
"""

import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from guest import build, console, kernel, paths, root
from guest.errors import UserError

from check import command, ktap
from check.ktap import FAIL
from check.report import Report, log_path

SELFTESTS = paths.TOP / "tools/testing/selftests"
OURS = SELFTESTS / "virtio"
GUEST = str(paths.TOP / "tools/guest/guest")
DEFAULT_TIMEOUT = 300.0
# Guests wait as much as they work: for timers, for suspends, for the host.
GUESTS_AT_ONCE = 2
# Files of the kernel's selftests that ours read.
KSELFTEST = ("kselftest/ktap_helpers.sh",)

_HEADER = re.compile(r"^# (guest|long) ([\w.-]+):(.*)$", re.MULTILINE)
_COMMON = re.compile(r"^# guest \*:(.*)$", re.MULTILINE)
_LONG = re.compile(r"^# long$", re.MULTILINE)


# Arguments of Report.result.
Outcome = tuple[str, str, float, str, Path]


@dataclass(frozen=True)
class Instance:
    """One test program in one guest."""

    program: Path
    label: str
    arguments: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of the instance in the report."""
        return f"guest/{self.program.stem}[{self.label}]"

    def option(self, name: str, default: str) -> str:
        """Value of option NAME among the arguments."""
        if name in self.arguments:
            return self.arguments[self.arguments.index(name) + 1]
        return default


def instances(long: bool) -> Iterator[Instance]:
    """All instances; those marked `# long LABEL`, or of programs marked `# long`, only if LONG."""
    for program in sorted([*OURS.glob("*.sh"), *OURS.glob("*.py")]):
        text = program.read_text()
        headers = _HEADER.findall(text)
        if not headers or (_LONG.search(text) and not long):
            continue
        common = [word for line in _COMMON.findall(text) for word in shlex.split(line)]
        for kind, label, arguments in headers:
            if kind == "long" and not long:
                continue
            yield Instance(program, label, (*shlex.split(arguments), *common))


def selftests_directory() -> Path:
    """A copy of our selftests with what they need of the kernel's, laid out as in the kernel tree."""
    staged = paths.BUILD / "selftests"
    shutil.rmtree(staged, ignore_errors=True)
    shutil.copytree(OURS, staged / "virtio", ignore=shutil.ignore_patterns("__pycache__", "*.py"))
    for name in KSELFTEST:
        source = kernel.fetch() / "tools/testing/selftests" / name
        if not source.is_file():
            raise UserError(f"the kernel source lacks tools/testing/selftests/{name}.")
        (staged / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, staged / name)
    return staged


def argv(instance: Instance, staged: Path, logs: Path, limit: float, long: bool) -> tuple[str, ...]:
    """Command line of INSTANCE, each guest of which has LIMIT seconds."""
    # The last one counts.
    arguments = (*instance.arguments, "--timeout", f"{limit:g}")
    if instance.program.suffix == ".py":
        return (sys.executable, str(instance.program), *arguments, "--log", str(logs))
    script = f"cd /selftests/virtio && {'LONG=1 ' if long else ''}exec sh ./{instance.program.name}"
    files = ("--file", f"selftests={staged}", "--log", str(logs))
    return (GUEST, "run", *arguments, *files, "--", script)


def failure_of_qemu(logs: Path) -> str | None:
    """How QEMU failed by itself in a guest with its logs below LOGS; `None` if it did not."""
    for path in logs.rglob("console.log"):
        text = console.read(path)
        if console.stale_breakpoint(text):
            return "ran a breakpoint that was gone"
        if console.never_began(text):
            return "had a kernel that waited before its first program"
        if console.died_of_qemu(text, console.read(path.with_name("qemu.stderr"))):
            return "failed an assertion of its own"
    return None


def run_one(instance: Instance, staged: Path, long: bool) -> list[Outcome]:
    """Run INSTANCE; what each of its cases came to."""
    begin = time.monotonic()
    log = log_path(f"{instance.name}/output")
    environment = {"PYTHONPATH": str(paths.TOP / "tools"), **({"LONG": "1"} if long else {})}
    guest_limit = float(instance.option("--timeout", f"{DEFAULT_TIMEOUT:g}")) * (4 if long else 1)
    # A host program may boot several guests one after the other.
    limit = guest_limit * 4 if instance.program.suffix == ".py" else guest_limit + 120
    arguments = argv(instance, staged, log.parent, guest_limit, long)
    status = command.execute(arguments, log, environment, limit)
    if failure := failure_of_qemu(log.parent):
        # Nothing of ours has a part in it.  Once is enough: it is seen in one guest of hundreds.
        print(f"# {instance.name}: QEMU {failure}; started again", flush=True)
        status = command.execute(arguments, log, environment, limit)
    took = time.monotonic() - begin
    parser = ktap.parse(log.read_text(errors="replace"))
    share = took / max(len(parser.cases), 1)
    outcomes: list[Outcome] = [
        (f"{instance.name} {case.name}", case.state, share, case.detail, log) for case in parser.cases
    ]
    failed = any(case.state == FAIL for case in parser.cases)
    if not parser.cases:
        outcomes.append((instance.name, FAIL, took, f"no KTAP on its output, status {status}", log))
    elif status not in (0, command.KSFT_SKIP) and not failed:
        outcomes.append((f"{instance.name} the guest itself", FAIL, took, f"status {status}", log))
    return outcomes


def run(report: Report, long: bool) -> None:
    """Run the suite."""
    chosen = [instance for instance in instances(long) if report.wants(instance.name)]
    # The slowest first: at the end none of them runs alone.
    chosen.sort(key=lambda instance: instance.option("--kernel", "release") != "debug")
    for flavour in sorted({instance.option("--kernel", "release") for instance in chosen}, reverse=True):
        build.build(flavour)
    if any(instance.option("--root", "initramfs") != "initramfs" for instance in chosen):
        root.build()
    staged = selftests_directory()
    with ThreadPoolExecutor(max_workers=GUESTS_AT_ONCE) as pool:
        try:
            for outcomes in pool.map(lambda instance: run_one(instance, staged, long), chosen):
                for outcome in outcomes:
                    report.result(*outcome)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            command.stop_all()
            raise
