# SPDX-License-Identifier: GPL-2.0
"""Suite `kunit`: the KUnit suites in our modules, in the debug guest."""

import time
from pathlib import Path

from guest import build, console, modules, paths

from check import command, ktap
from check.ktap import FAIL, PASS, Case
from check.report import Report, log_path

NAME = "kunit"
GUEST = str(paths.TOP / "tools/guest/guest")
TIMEOUT = 900.0

# Every module of ours is loaded, also those that no device of this guest asks for.
LOAD_ALL = """
for module in $(find "/lib/modules/$(uname -r)/updates" -name '*.ko'); do
	name=$(basename "$module" .ko)
	modprobe "$name" || { echo "cannot load $name"; exit 1; }
	echo "loaded $name"
done
"""


def cases(text: str) -> list[Case]:
    """All KUnit cases of a console; a console without any is a failure."""
    parser = ktap.parse(text)
    if not parser.cases:
        return [Case("documents", FAIL, "the console holds no KTAP document")]
    return parser.cases


def run(report: Report, long: bool) -> None:
    """Run the suite; LONG changes nothing here."""
    del long
    if not report.wants(NAME):
        return
    build.build("debug")
    begin = report.begin(NAME)
    log = log_path(f"{NAME}/guest")
    logs = log.parent
    argv = (
        *(GUEST, "run", "--kernel", "debug", "--kunit", "--timeout", f"{TIMEOUT:g}", "--log", str(logs)),
        *(arg for name in modules.EXPERIMENTAL for arg in ("--swap", f"{name}=rust")),
        *("--", LOAD_ALL),
    )
    status = command.execute(argv, log, {}, TIMEOUT + 60)
    took = time.monotonic() - begin
    for case in cases(console.read(Path(logs / "console.log"))):
        report.result(f"{NAME}/{case.name}", case.state, 0.0, case.detail, logs / "console.log")
    name = f"{NAME}/all modules load, without a splat"
    if status == 0:
        report.result(name, PASS, took)
    else:
        report.result(name, FAIL, took, f"status {status}", log)
