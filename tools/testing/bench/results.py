# SPDX-License-Identifier: GPL-2.0
"""Results of several runs: medians, spread, and the files under build/bench."""

import csv
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# A count that moves by more than this from run to run measures something else than the driver.
USABLE = 0.01

# workload, layout, metric
Key = tuple[str, str, str]
# One run: what was measured, by key.
Run = Mapping[Key, float]

COLUMNS = ("workload", "layout", "metric", "c", "rust", "ratio", "spread")


@dataclass(frozen=True)
class Row:
    """One line of results.csv: medians of both stacks; None for a stack that was not measured."""

    key: Key
    c: float | None
    rust: float | None
    spread: float

    @property
    def ratio(self) -> float | None:
        """Rust over C, None if either is missing or C is zero."""
        if self.c is None or self.rust is None or self.c == 0:
            return None
        return self.rust / self.c

    @property
    def usable(self) -> bool:
        """Whether the runs agreed."""
        return self.spread <= USABLE


def spread(values: Sequence[float]) -> float:
    """Largest difference between VALUES, relative to their median."""
    low, high = min(values), max(values)
    if low == high:
        return 0.0
    middle = statistics.median(values)
    return (high - low) / middle if middle else float("inf")


def rows(c: Sequence[Run], rust: Sequence[Run]) -> list[Row]:
    """One row for each key that every run of a stack has, in the order of the first run."""
    sides: dict[Key, dict[str, list[float]]] = defaultdict(lambda: {"c": [], "rust": []})
    for side, runs in (("c", c), ("rust", rust)):
        for run in runs:
            for key, value in run.items():
                sides[key][side].append(value)
    found = []
    for key, values in sides.items():
        if len(values["c"]) not in (0, len(c)) or len(values["rust"]) not in (0, len(rust)):
            raise ValueError(f"some runs lack {' '.join(key)}")
        medians = {side: statistics.median(some) if some else None for side, some in values.items()}
        worst = max(spread(some) for some in values.values() if some)
        found.append(Row(key, medians["c"], medians["rust"], worst))
    return found


def number(value: float | None) -> str:
    """VALUE with two decimals, three if it is small; empty for None."""
    if value is None:
        return ""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.2f}"


def write_csv(path: Path, table: Iterable[Row]) -> None:
    """TABLE as results.csv."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for row in table:
            ratio = "" if row.ratio is None else f"{row.ratio:.4f}"
            writer.writerow([*row.key, number(row.c), number(row.rust), ratio, f"{row.spread:.5f}"])


def read_csv(path: Path) -> list[Row]:
    """What write_csv wrote."""
    with path.open(newline="") as stream:
        return [
            Row(
                (line["workload"], line["layout"], line["metric"]),
                float(line["c"]) if line["c"] else None,
                float(line["rust"]) if line["rust"] else None,
                float(line["spread"]),
            )
            for line in csv.DictReader(stream)
        ]


def markdown(table: Iterable[Row], metrics: Sequence[str]) -> str:
    """A table with a line for each workload and layout; each of METRICS is `C -> Rust (ratio)`."""
    cells: dict[tuple[str, str], dict[str, Row]] = defaultdict(dict)
    for row in table:
        workload, layout, metric = row.key
        cells[workload, layout][metric] = row
    lines = [
        f"| workload | layout | {' | '.join(metrics)} |",
        f"|---|---|{'---|' * len(metrics)}",
    ]
    for (workload, layout), found in cells.items():
        lines.append(f"| {workload} | {layout} | {' | '.join(_cell(found.get(metric)) for metric in metrics)} |")
    return "\n".join(lines) + "\n"


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    both = " / ".join(number(value) for value in (row.c, row.rust) if value is not None)
    ratio = "" if row.ratio is None else f" = {row.ratio:.2f}"
    return both + ratio + ("" if row.usable else f" (unusable: spread {100 * row.spread:.1f} %)")
