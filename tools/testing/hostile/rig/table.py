# SPDX-License-Identifier: GPL-2.0
"""Results of cases, kept in build/hostile, and the table made of them."""

import fcntl
import json
from dataclasses import asdict
from pathlib import Path

from guest import paths

from rig.scenario import STACKS, Case, Scenario
from rig.verdict import Verdict

DIRECTORY = paths.BUILD / "hostile"


# By stack, then by case.
Known = dict[str, dict[str, dict[str, str | float]]]


class Results:
    """The last verdict of each case on each stack, on one guest kernel."""

    def __init__(self, kernel: str) -> None:
        self._path = DIRECTORY / f"results-{kernel}.json"
        self._known = self._read()

    def _read(self) -> Known:
        known: Known = json.loads(self._path.read_text()) if self._path.exists() else {}
        return known

    def put(self, stack: str, case: Case, verdict: Verdict) -> None:
        """Remember VERDICT, beside what other runs at the same time remember."""
        DIRECTORY.mkdir(parents=True, exist_ok=True)
        with self._path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._known = self._read()
            self._known.setdefault(stack, {})[case.name] = asdict(verdict)
            self._path.write_text(json.dumps(self._known, indent=1, sort_keys=True) + "\n")

    def get(self, stack: str, case: Case) -> Verdict | None:
        """The last verdict of CASE on STACK."""
        found = self._known.get(stack, {}).get(case.name)
        if found is None:
            return None
        return Verdict(str(found["word"]), str(found["detail"]), float(found["seconds"]), str(found["way"]))


def _cell(verdict: Verdict | None) -> str:
    if verdict is None:
        return "not run"
    word = verdict.way if verdict.way else f"**{verdict.word}**"
    return f"{word}, {verdict.seconds:.1f} s"


def markdown(cases: list[Case], left_out: list[Scenario], results: Results) -> str:
    """The table: C beside Rust, a row a case; and what is left out, with the reason."""
    lines = [
        "| Row | Case | What the device does | C | Rust |",
        "|---|---|---|---|---|",
    ]
    for case in cases:
        cells = {stack: _cell(results.get(stack, case)) for stack in STACKS}
        scenario = case.scenario
        lines.append(f"| {scenario.row} | `{case.name}` | {scenario.title} | {cells['c']} | {cells['rust']} |")
    lines += [
        "",
        "Survived: unaffected, recovered (errors, then it worked again) or failed (errors, in bounded time).",
        "In bold: not survived.  Not run: there is no driver in Rust yet.",
        "",
    ]
    if left_out:
        lines += ["| Row | Not here | Why |", "|---|---|---|"]
        lines += [f"| {one.row} | {one.title} | {one.why} |" for one in left_out]
        lines.append("")
    return "\n".join(lines)


def write(text: str) -> Path:
    """Keep the table; returns where."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    path = DIRECTORY / "table.md"
    path.write_text(text)
    return path
