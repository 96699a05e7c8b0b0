# SPDX-License-Identifier: GPL-2.0
"""The command line of `tools/testing/bench/bench`."""

import argparse
import csv
import os
import signal
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from guest import build as modules_build
from guest import kernel, paths, pytools, step
from guest.errors import EXIT_INTERRUPTED, UserError
from guest.step import StepFailed

from bench import build, clock, host, results, runner, stats
from bench.results import Row, Run
from bench.runner import Functions, Measured, Side
from bench.workloads import WORKLOADS, Boot

OUTPUT = build.OUTPUT
# The columns of the Markdown table; results.csv has all metrics.
COLUMNS = ("stack", "ring", "driver", "pci", "kicks", "interrupts", "alloc calls")


def parser() -> argparse.ArgumentParser:
    """The grammar of the command line."""
    top = argparse.ArgumentParser(prog="bench", description="What the Rust stack costs, beside the C stack.")
    verbs = top.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="count instructions, kicks and interrupts of workloads in guests")
    run.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"any of {' '.join(WORKLOADS)} (default: all)")
    run.add_argument("--against", metavar="c|DIR", help="compare with the C stack, or with our modules built in DIR")
    run.add_argument("--repeats", type=int, default=3, metavar="N", help="guests for each stack (default: 3)")
    run.add_argument("--modules", type=Path, metavar="DIR", help="our built modules (default: build them)")
    host_verb = verbs.add_parser("host", help="count the instructions of the rings alone, in a process")
    host_verb.add_argument("--criterion", action="store_true", help="time the Rust ring as well")
    verbs.add_parser("plot", help="plot what `run` has written")
    time = verbs.add_parser("clock", help="compare times, on a machine with hardware virtualisation")
    time.add_argument("workloads", nargs="*", metavar="WORKLOAD", help="(default: blk)")
    time.add_argument("--pairs", type=int, default=stats.PAIRS, metavar="N", help=f"guests (default: {stats.PAIRS})")
    time.add_argument("--modules", type=Path, metavar="DIR", help="our built modules (default: build them)")
    return top


def boots_of(names: list[str]) -> list[Boot]:
    """The guests of the workloads NAMES."""
    unknown = [name for name in names if name not in WORKLOADS]
    if unknown:
        raise UserError(f"there is no workload {unknown[0]}; there are {', '.join(WORKLOADS)}.")
    return [boot for name in names for boot in WORKLOADS[name]()]


def sides(options: argparse.Namespace) -> tuple[Side, Side | None]:
    """The side that is judged, and the one that it is compared with."""
    ours = options.modules.resolve() if options.modules else modules_build.build("release")
    rust = Side("rust", ours)
    if options.against is None:
        return rust, None
    if options.against == "c":
        return rust, Side("c", ours)
    other = Path(options.against).resolve()
    if not any(other.rglob("*.ko")):
        raise UserError(f"--against {options.against}: neither `c` nor a directory with modules.")
    return rust, Side("rust", other)


def write_functions(path: Path, c: Sequence[Functions], rust: Sequence[Functions]) -> None:
    """Instructions per operation of each function of the stack, medians of the runs."""
    table: dict[tuple[str, str, str, str], list[float | None]] = defaultdict(lambda: [None, None])
    for column, runs in enumerate((c, rust)):
        for key in {key for run in runs for key in run}:
            table[key][column] = statistics.median(run.get(key, 0.0) for run in runs)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["workload", "layout", "module", "function", "c", "rust"])
        for key, values in sorted(table.items()):
            writer.writerow([*key, *(results.number(value) for value in values)])


def report(c: list[list[Measured]], rust: list[list[Measured]]) -> list[Row]:
    """Merge the runs of all guests and write the files; C and RUST have a list of guests for each repeat."""

    def merged(repeats: list[list[Measured]]) -> list[Run]:
        return [{key: value for one in guests for key, value in one.metrics.items()} for guests in repeats]

    def functions(repeats: list[list[Measured]]) -> list[Functions]:
        return [{key: value for one in guests for key, value in one.functions.items()} for guests in repeats]

    table = results.rows(merged(c), merged(rust))
    results.write_csv(OUTPUT / "results.csv", table)
    write_functions(OUTPUT / "functions.csv", functions(c), functions(rust))
    stacks = {side: guests[0][0].stack for side, guests in (("C", c), ("Rust", rust)) if guests}
    text = "Instructions, kicks, interrupts and calls per operation: C / Rust = ratio.\n\n"
    text += "".join(f"- {side}: {stack}\n" for side, stack in stacks.items())
    text += f"\n{results.markdown(table, COLUMNS)}"
    (OUTPUT / "results.md").write_text(text)
    print(f"\n{text}")
    bad = [row for row in table if not row.usable]
    print(f"{len(table)} results, {len(bad)} unusable (spread over {100 * results.USABLE:g} %).")
    print(f"Written: {paths.shown(OUTPUT)}/results.csv, results.md, functions.csv")
    return table


def run(options: argparse.Namespace) -> int:
    """Carry out `bench run`: each guest alternates between the stacks, ABBA."""
    if options.repeats < 1:
        raise UserError("--repeats: at least one.")
    boots = boots_of(options.workloads or list(WORKLOADS))
    kernel.build("release")
    judged, other = sides(options)
    found: dict[str, list[list[Measured]]] = {"c": [], "rust": []}
    for repeat in range(options.repeats):
        order = [("c", other), ("rust", judged)]
        for column, side in order if repeat % 2 == 0 else reversed(order):
            if side is None:
                continue
            guests = []
            for boot in boots:
                print(f"{boot.label}: {column}, repeat {repeat + 1} of {options.repeats}", flush=True)
                guests.append(runner.run(boot, side, OUTPUT / "raw" / f"{boot.label}-{column}-{repeat}"))
            found[column].append(guests)
    report(found["c"], found["rust"])
    return plot(options) if other is not None else 0


def plot(_: argparse.Namespace) -> int:
    """Carry out `bench plot`."""
    if not (OUTPUT / "results.csv").is_file():
        raise UserError("there is nothing to plot: `bench run --against c` comes first.")
    command = [str(pytools.directory("plots") / "python"), str(build.HERE / "plot.py"), str(OUTPUT)]
    step.run("bench-plot", f"plots in {paths.shown(OUTPUT)}", command)
    return 0


def run_host(options: argparse.Namespace) -> int:
    """Carry out `bench host`."""
    return host.run(options.criterion)


def run_clock(options: argparse.Namespace) -> int:
    """Carry out `bench clock`."""
    boots = boots_of(options.workloads or ["blk"])
    clock.demand_hardware()
    ours = options.modules.resolve() if options.modules else modules_build.build("release")
    return clock.run(boots, Side("c", ours), Side("rust", ours), options.pairs)


VERBS = {"run": run, "host": run_host, "plot": plot, "clock": run_clock}


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Entry point; returns the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    options = parser().parse_args()
    # The numbers are about our guest kernel, whatever `make modules` was pointed at.
    for name in ("KDIR", "MO"):
        os.environ.pop(name, None)
    try:
        return VERBS[options.verb](options)
    except UserError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except StepFailed:
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted.", file=sys.stderr)
        return EXIT_INTERRUPTED
