# SPDX-License-Identifier: GPL-2.0
"""One guest from configuration to numbers."""

import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from guest import kernel, modules, paths
from guest.errors import UserError
from guest.run import Config, Guest

from bench import build, counts
from bench.counts import Counts
from bench.results import Key
from bench.symbols import Table
from bench.workloads import Boot

# Events of QEMU's virtio core, and what is counted by them.
EVENTS = {"virtio_queue_notify": "kicks", "virtio_notify": "interrupts"}

SYMBOLS = "\ngrep '\\[' /proc/kallsyms | sed 's/^/symbol /'\n"
TIMEOUT = 1800.0

# Instructions by whom, in the order of the tables.
GROUPS = ("ring", "core", "pci", "driver")

# workload, layout, module, function: instructions per operation
Functions = dict[tuple[str, str, str, str], float]


@dataclass(frozen=True)
class Region:
    """A line `region NAME OPERATIONS NANOSECONDS` of the guest's."""

    workload: str
    layout: str
    operations: int
    nanoseconds: int


@dataclass
class Measured:
    """What one guest gave."""

    stack: str
    metrics: dict[Key, float]
    functions: Functions


@dataclass(frozen=True)
class Side:
    """What is compared: STACK as `guest run` knows it, with our modules from MODULES."""

    stack: str
    modules: Path


def parse_regions(output: str) -> list[Region]:
    """The regions that OUTPUT of a guest names, in order."""
    found = re.findall(r"^region ([^\s@]+)@(\S+) (\d+) (\d+)$", output, re.MULTILINE)
    return [Region(name, layout, int(operations), int(time)) for name, layout, operations, time in found]


def configuration(boot: Boot, side: Side, raw: Path) -> Config:
    """The guest of BOOT; counts and QEMU's log go to RAW."""
    trace = [word for event in EVENTS for word in ("-trace", event)]
    # One instruction is one nanosecond: what happens when does not depend on the host.
    exact = ["-icount", "shift=0,sleep=off"]
    counting = ["-plugin", f"{build.plugin()},out={raw / 'counts'}", "-d", "plugin", "-D", str(raw / "qemu.log")]
    return Config(
        command="set -e\n" + boot.command + SYMBOLS,
        stack=side.stack,
        # A driver on trial is ours only if that is asked for.
        swaps={name: side.stack for name in sorted(boot.driver) if name in modules.EXPERIMENTAL},
        modules=side.modules,
        more_modules=list(boot.modules),
        smp=str(boot.smp),
        memory=str(boot.memory),
        default_devices=False,
        qemu_args=[*exact, *counting, *trace, *boot.qemu],
        accel="tcg",
        append=list(boot.kernel_arguments),
        files={"guest/load": build.load()},
        stdin=boot.host is not None,
        timeout=TIMEOUT,
        log=raw,
    )


def run(boot: Boot, side: Side, raw: Path) -> Measured:
    """Start the guest of BOOT with the modules of SIDE and read its counts; RAW is a directory for what it writes."""
    shutil.rmtree(raw, ignore_errors=True)
    raw.mkdir(parents=True)
    with Guest(configuration(boot, side, raw)) as guest:
        if boot.host is not None:
            boot.host(guest)
        result = guest.finish()
        output = guest.output.decode(errors="replace")
        stack = guest.selection.line()
    (raw / "output").write_text(output)
    if result.reason or result.status:
        reason = result.reason or f"its command ended with status {result.status}: {_last_line(output)}"
        raise UserError(f"guest {boot.label} on {side.stack}: {reason} (see {paths.shown(raw)})")
    return evaluate(boot, stack, output, raw)


def _last_line(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip() and not line.startswith("symbol ")]
    return lines[-1] if lines else "no output"


def evaluate(boot: Boot, stack: str, output: str, raw: Path) -> Measured:
    """The numbers of a guest that printed OUTPUT and left its counts in RAW."""
    lines = [line.removeprefix("symbol ") for line in output.splitlines() if line.startswith("symbol ")]
    table = Table.of(kernel.cached("release") / "System.map", lines)
    regions = parse_regions(output)
    with (raw / "counts").open() as stream:
        counted = list(counts.regions(stream, table))
    with (raw / "qemu.log").open(errors="replace") as stream:
        logged = list(counts.log_counts(stream, EVENTS))
    if not len(regions) == len(counted) == len(logged):
        raise UserError(
            f"guest {boot.label}: {len(regions)} regions were announced, {len(counted)} counted and"
            f" {len(logged)} logged (see {paths.shown(raw)})"
        )
    measured = Measured(stack, {}, {})
    for region, one, events in zip(regions, counted, logged, strict=True):
        for metric, value in _metrics(boot, one, events):
            measured.metrics[region.workload, region.layout, metric] = value / region.operations
        for (module, name), count in one.instructions.items():
            if counts.group(module, boot.driver) is not None:
                key = (region.workload, region.layout, module, table.readable.get(name, name))
                value = measured.functions.get(key, 0.0) + count / region.operations
                measured.functions[key] = value
    return measured


def _metrics(boot: Boot, one: Counts, events: Counter[str]) -> Iterator[tuple[str, float]]:
    groups = {name: one.group(name, boot.driver) for name in GROUPS}
    groups["kernel crate"] = one.rust_in_kernel()
    yield "stack", sum(groups.values())
    yield from groups.items()
    for metric in EVENTS.values():
        yield metric, events[metric]
    for kind in counts.CALLS:
        yield f"{kind} calls", one.calls(kind)
    yield "total", one.total()
    yield "rep iterations", one.rep
