#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Plots of build/bench: `plot.py DIRECTORY`.  Runs in a virtual environment that has matplotlib."""

import csv
import re
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib as mpl  # type: ignore[import-not-found]

mpl.use("Agg")
import matplotlib.pyplot as plt  # type: ignore[import-not-found]

C, RUST = "#4c72b0", "#dd8452"
# The rows of a plot that a person can still read.
MOST_FUNCTIONS = 24


def read(path: Path) -> list[dict[str, str]]:
    """The lines of a CSV file."""
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def save(figure: plt.Figure, directory: Path, name: str) -> None:
    """FIGURE as PNG and SVG."""
    for suffix in ("png", "svg"):
        # No date, so that the same numbers give the same file.
        metadata = {"Date": None} if suffix == "svg" else None
        figure.savefig(directory / f"{name}.{suffix}", bbox_inches="tight", dpi=120, metadata=metadata)
    plt.close(figure)


def ratios(directory: Path) -> None:
    """Bars of Rust/C of the instructions in the stack, a line a workload and layout."""
    lines = [line for line in read(directory / "results.csv") if line["metric"] == "stack" and line["ratio"]]
    groups: dict[str, dict[str, tuple[float, bool]]] = defaultdict(dict)
    for line in lines:
        groups[line["workload"]][line["layout"]] = float(line["ratio"]), float(line["spread"]) <= 0.01
    layouts = list(dict.fromkeys(line["layout"] for line in lines))
    height = 0.8 / max(len(layouts), 1)
    figure, axes = plt.subplots(figsize=(8, 0.9 + 0.14 * len(groups) * max(len(layouts), 2)))
    colours = plt.get_cmap("tab10")
    for index, layout in enumerate(layouts):
        for row, (_, values) in enumerate(groups.items()):
            if layout not in values:
                continue
            ratio, usable = values[layout]
            axes.barh(
                row + (index - len(layouts) / 2 + 0.5) * height,
                ratio,
                height,
                color=colours(index),
                alpha=1.0 if usable else 0.35,
            )
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_yticks(range(len(groups)), list(groups))
    axes.invert_yaxis()
    axes.set_xlabel("instructions of the virtio stack per operation, Rust / C (pale: the runs differ by over 1 %)")
    # Not what the bars bring along: the first workload does not have all layouts.
    handles = [plt.Rectangle((0, 0), 1, 1, color=colours(index)) for index in range(len(layouts))]
    axes.legend(handles, layouts, fontsize="small", loc="upper right")
    save(figure, directory, "ratios")


def short(name: str) -> str:
    """NAME of a function without the arguments of its generics."""
    depth, out = 0, ""
    for index, letter in enumerate(name):
        if letter == "<" and index > 0:
            depth += 1
        elif letter == ">" and depth:
            depth -= 1
        elif not depth:
            out += letter
    return out.lstrip("<").replace(">", "")[:60]


def functions(directory: Path, workload: str, layout: str, name: str) -> None:
    """Where the instructions of one workload go: a bar a function, C above, Rust below."""
    found = [
        line for line in read(directory / "functions.csv") if (line["workload"], line["layout"]) == (workload, layout)
    ]
    figure, both = plt.subplots(1, 2, figsize=(13, 5), sharex=True)
    for axes, side, title, colour in zip(both, ("c", "rust"), ("C", "Rust"), (C, RUST), strict=True):
        costs = {f"{short(line['function'])} [{line['module']}]": float(line[side] or 0) for line in found}
        top = sorted((name for name, cost in costs.items() if cost > 0.5), key=lambda name: -costs[name])
        top = top[:MOST_FUNCTIONS]
        axes.barh(top, [costs[name] for name in top], color=colour)
        axes.tick_params(axis="y", labelsize=7)
        axes.invert_yaxis()
        axes.set_title(f"{title}: {sum(costs.values()):.0f} instructions per operation", fontsize=10)
    figure.suptitle(f"{workload}, {layout}", fontsize=11)
    figure.tight_layout()
    save(figure, directory, name)


def main() -> int:
    """Plot what is in the directory named on the command line."""
    directory = Path(sys.argv[1])
    mpl.rcParams["svg.hashsalt"] = "bench"
    ratios(directory)
    chosen = dict.fromkeys(
        (line["workload"], line["layout"])
        for line in read(directory / "functions.csv")
        # Of the many depths and layouts of a block device, those that differ most from each other.
        if not line["workload"].startswith("blk") or re.search(r"-read-(4|64)K-qd32$", line["workload"])
    )
    for workload, layout in chosen:
        functions(directory, workload, layout, f"functions-{workload}-{layout}")
    print(f"{1 + len(chosen)} plots, each as PNG and SVG")
    return 0


if __name__ == "__main__":
    sys.exit(main())
