# SPDX-License-Identifier: GPL-2.0
"""`bench clock`: wall-clock time, on machines with hardware virtualisation that works, and only there."""

import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from guest import accel, kernel, modules, paths
from guest.errors import UserError
from guest.run import Config, Guest

from bench import build, stats
from bench.runner import Side, parse_regions
from bench.workloads import Boot

TIMEOUT = 300.0
QEMU = "qemu-system-x86_64"

# workload@layout: nanoseconds per operation, guest after guest
Times = dict[str, list[float]]


def demand_hardware() -> None:
    """Refuse a machine where time means nothing: guests are emulated."""
    image = modules.kernel_image(kernel.cached("release"))
    if accel.choose("auto", QEMU, image) != accel.KVM:
        raise UserError(
            "bench clock: no hardware virtualisation that works here; times under emulation mean nothing."
            " `bench run` counts instead."
        )


def times(boot: Boot, side: Side, raw: Path) -> dict[str, float]:
    """Nanoseconds per operation of each region of one guest."""
    shutil.rmtree(raw, ignore_errors=True)
    config = Config(
        command="set -e\n" + boot.command,
        stack=side.stack,
        modules=side.modules,
        more_modules=list(boot.modules),
        smp=str(boot.smp),
        memory=str(boot.memory),
        default_devices=False,
        qemu_args=list(boot.qemu),
        accel="kvm",
        append=list(boot.kernel_arguments),
        files={"guest/load": build.load()},
        timeout=TIMEOUT,
        log=raw,
    )
    with Guest(config) as guest:
        result = guest.finish()
        output = guest.output.decode(errors="replace")
    if result.reason or result.status:
        raise UserError(f"guest {boot.label} on {side.stack}: {result.reason or f'status {result.status}'}")
    return {
        f"{region.workload}@{region.layout}": region.nanoseconds / region.operations
        for region in parse_regions(output)
        # The time of what the shell did is not taken.
        if region.nanoseconds
    }


def run(boots: Sequence[Boot], c: Side, rust: Side, pairs: int) -> int:
    """Time PAIRS of guests of each of BOOTS, in turn; returns 1 if Rust is slower somewhere or nothing can be said."""
    demand_hardware()
    if pairs < stats.PAIRS:
        raise UserError(f"--pairs: at least {stats.PAIRS}.")
    found: dict[str, Times] = {"c": defaultdict(list), "rust": defaultdict(list)}
    for pair in range(pairs):
        print(f"pair {pair + 1} of {pairs}", flush=True)
        order = [("c", c), ("rust", rust)]
        for column, side in order if pair % 2 == 0 else reversed(order):
            for boot in boots:
                for name, value in times(boot, side, build.OUTPUT / "raw/clock").items():
                    found[column][name].append(value)
    lines = ["| workload | Rust/C | 95 % | verdict |", "|---|---|---|---|"]
    bad = False
    for name, theirs in found["c"].items():
        try:
            one = stats.judge(theirs, found["rust"][name])
        except stats.TooNoisy as error:
            bad = True
            lines.append(f"| {name} | | | not judged: {error} |")
            continue
        bad = bad or one.verdict == "slower"
        lines.append(f"| {name} | {one.ratio:.3f} | {one.low:.3f} to {one.high:.3f} | {one.verdict} |")
    text = "\n".join(lines) + "\n"
    (build.OUTPUT / "clock.md").write_text(text)
    print(f"\n{text}\nWritten: {paths.shown(build.OUTPUT)}/clock.md")
    return 1 if bad else 0
