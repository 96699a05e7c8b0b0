# SPDX-License-Identifier: GPL-2.0
"""Results of cases, kept in build/hostile, and the table made of them."""

import csv
import fcntl
import io
import json
from dataclasses import asdict
from pathlib import Path

from guest import paths

from rig.scenario import STACKS, Case, Scenario
from rig.verdict import SURVIVED, Verdict

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


# The page of the documentation that comes out of the table; times are left out, so that it changes with verdicts alone.
PAGE = """\
.. SPDX-License-Identifier: GPL-2.0

======================================
What hostile devices do to the drivers
======================================

Made by ``tools/testing/hostile/hostile table``, as ``build/hostile/table.rst``, on the {kernel} kernel
(:doc:`testing`).  Not survived: *hang*, *splat*, *corruption*, *lost*.  Survived: unaffected, recovered (errors,
then it worked again) or failed (errors, in bounded time).  {counts}

.. csv-table::
   :header: "Row", "Case", "What the device does", "C", "Rust"
   :widths: 5, 25, 40, 15, 15

{rows}
What cannot be had on the machines where this is tested, and where it is tried instead:

.. csv-table::
   :header: "Row", "What", "Why not"
   :widths: 5, 40, 55

{left_out}"""


def _rows(rows: list[list[str]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    return "".join(f"   {line}\n" for line in stream.getvalue().splitlines())


def page(cases: list[Case], left_out: list[Scenario], results: Results, kernel: str) -> str:
    """The table as a page of the documentation."""
    rows = []
    survived = {"c": 0, "rust": 0}
    for case in cases:
        row = [str(case.scenario.row), f"``{case.name}``", case.scenario.title]
        for stack in survived:
            verdict = results.get(stack, case)
            survived[stack] += verdict is not None and verdict.word == SURVIVED
            row.append("not run" if verdict is None else verdict.way or f"*{verdict.word}*")
        rows.append(row)
    counts = f"Of {len(cases)} cases, C survives {survived['c']} and Rust {survived['rust']}."
    reasons = [[str(one.row), one.title, one.why] for one in left_out]
    return PAGE.format(kernel=kernel, counts=counts, rows=_rows(rows), left_out=_rows(reasons))


def write(text: str, name: str) -> Path:
    """Keep the table as NAME; returns where."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    path = DIRECTORY / name
    path.write_text(text)
    return path
