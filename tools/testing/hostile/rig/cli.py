# SPDX-License-Identifier: GPL-2.0
"""The command line of `tools/testing/hostile/hostile`."""

import argparse
import random
import signal
import sys
import time
from types import FrameType

from guest import build, modules, paths
from guest.errors import EXIT_INTERRUPTED, UserError
from guest.step import StepFailed

from rig import backend, fuzz, planted, runner, scenario, table, workload
from rig.scenario import Case
from rig.verdict import UNTOLD

# Seeds that share a guest.
AT_ONCE = 12


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def swaps(stack: str, words: list[str]) -> dict[str, str]:
    """Whose drivers are not as STACK has them by default: those on trial, and those that WORDS name."""
    found = dict.fromkeys(modules.EXPERIMENTAL, stack)
    for word in words:
        name, _, whose = word.partition("=")
        if name not in workload.DRIVERS.values() or whose not in scenario.STACKS:
            drivers = ", ".join(sorted(workload.DRIVERS.values()))
            raise UserError(f"--swap {word}: write DRIVER=c or DRIVER=rust, with one of {drivers}.")
        found[name] = whose
    return found


def prepared(options: argparse.Namespace, stack: str) -> runner.Options:
    """How OPTIONS want cases to be run on STACK."""
    how = runner.Options(stack=stack, kernel=options.kernel, program=backend.build())
    how.modules = build.output_directory(options.kernel)
    how.swaps = swaps(stack, getattr(options, "swap", []))
    return how


def report(cases: list[Case], how: runner.Options, first: int = 1) -> int:
    """Run CASES and print a KTAP line each, numbered from FIRST; returns how many were not as expected."""
    results = table.Results(how.kernel)
    bad = 0
    for number, (case, verdict) in enumerate(runner.run(cases, how), first):
        good = verdict.good(case.scenario.expected)
        bad += not good
        driver = workload.DRIVERS[case.scenario.device]
        # The table has one column for each language, and no mixtures.
        pure = how.swaps.get(driver, how.stack) == how.stack
        if pure and case.scenario.path.parent == scenario.SCENARIOS:
            results.put(how.stack, case, verdict)
        print(f"{'ok' if good else 'not ok'} {number} {case.name} # {verdict.text()}", flush=True)
    return bad


def ours(cases: list[Case], how: runner.Options) -> list[Case]:
    """Those of CASES whose device has a driver among our built modules."""
    there = {modules.module_name(path) for path in (how.modules or paths.BUILD).rglob("*.ko")}
    return [case for case in cases if workload.DRIVERS[case.scenario.device] in there]


def run(options: argparse.Namespace) -> int:
    """`hostile run`: a KTAP line a case."""
    chosen = scenario.cases(scenario.everything(), options.case)
    if options.quick:
        chosen = [case for case in chosen if case.scenario.quick]
    part, _, parts = options.part.partition("/")
    if not (part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)):
        raise UserError(f"--part {options.part}: write K/N, with K from 1 to N.")
    how = prepared(options, options.stack)
    if options.ours:
        chosen = ours(chosen, how)
    chosen = chosen[int(part) - 1 :: int(parts)]
    print(f"KTAP version 1\n1..{len(chosen)}", flush=True)
    return 1 if report(chosen, how) else 0


def show(_options: argparse.Namespace) -> int:
    """`hostile list`: every row, and why where it is not run."""
    for one in scenario.everything():
        what = f"not here: {one.why}" if one.injector == "none" else f"{one.injector}, {' '.join(one.layouts)}"
        print(f"{one.row:3} {one.name:28} {one.device:4} {one.title} ({what})")
    return 0


def tabulate(options: argparse.Namespace) -> int:
    """`hostile table`: run what has no result yet on either stack, and print the table."""
    scenarios = scenario.everything()
    chosen = scenario.cases(scenarios, options.case)
    for stack in () if options.known else scenario.STACKS:
        results = table.Results(options.kernel)
        missing = [case for case in chosen if options.again or results.get(stack, case) is None]
        if missing:
            how = prepared(options, stack)
            # The others wait for a driver in Rust.
            missing = ours(missing, how) if stack == "rust" else missing
        if missing:
            print(f"# {stack}")
            report(missing, how)
    left_out = [one for one in scenarios if one.injector == "none"]
    results = table.Results(options.kernel)
    text = table.markdown(chosen, left_out, results)
    print(text)
    page = table.page(chosen, left_out, results, options.kernel)
    for path in (table.write(text, "table.md"), table.write(page, "table.rst")):
        print(f"written to {paths.shown(path)}", file=sys.stderr)
    return 0


def replay(options: argparse.Namespace) -> int:
    """`hostile replay`: the cases that seeds stand for."""
    cases = [fuzz.case(seed) for seed in options.seed]
    print(f"KTAP version 1\n1..{len(cases)}", flush=True)
    return 1 if report(cases, prepared(options, options.stack)) else 0


def search(options: argparse.Namespace) -> int:
    """`hostile fuzz`: seeds one after the other until the time is over."""
    how = prepared(options, options.stack)
    end = time.monotonic() + options.seconds
    seed = options.first if options.first is not None else random.SystemRandom().randrange(fuzz.SEEDS)
    number, bad = 1, 0
    print(f"KTAP version 1\n# seeds from {seed}", flush=True)
    while number == 1 or time.monotonic() < end:
        bad += report([fuzz.case(seed + more) for more in range(AT_ONCE)], how, number)
        seed, number = seed + AT_ONCE, number + AT_ONCE
    print(f"1..{number - 1}")
    return 1 if bad else 0


def prove(options: argparse.Namespace) -> int:
    """`hostile planted`: the rig must see what a driver does wrong: planted faults, and the C driver."""
    every = scenario.everything()
    how = prepared(options, "rust")
    how.modules = planted.build(options.kernel)
    runs = [(fault.name, fault.case, how) for fault in planted.FAULTS]
    runs.append(("the C driver waits for ever", planted.C_CASE, prepared(options, "c")))
    print(f"KTAP version 1\n1..{len(runs)}", flush=True)
    blind = 0
    for number, (name, word, options_of_run) in enumerate(runs, 1):
        (case,) = scenario.cases(every, [word])
        (_, verdict), *_ = runner.run([case], options_of_run)
        seen = verdict.word != UNTOLD and not verdict.good(case.scenario.expected)
        blind += not seen
        print(f"{'ok' if seen else 'not ok'} {number} seen: {name} # {case.name} {verdict.text()}", flush=True)
    return 1 if blind else 0


def parser() -> argparse.ArgumentParser:
    """The grammar of the command line."""
    top = argparse.ArgumentParser(prog="hostile", description="Devices that lie, and what becomes of the guest.")
    verbs = top.add_subparsers(dest="verb", required=True)

    def verb(name: str, work: object, summary: str) -> argparse.ArgumentParser:
        one = verbs.add_parser(name, help=summary, description=summary)
        one.set_defaults(work=work)
        if name != "list":
            one.add_argument("--kernel", choices=paths.FLAVOURS, default="debug", help="guest kernel (default: debug)")
        if name in ("run", "replay", "fuzz"):
            one.add_argument("--stack", choices=scenario.STACKS, default="rust", help="whose modules (default: rust)")
        if name in ("run", "replay", "fuzz"):
            one.add_argument(
                "--swap",
                action="append",
                default=[],
                metavar="DRIVER=c|rust",
                help="another driver than the stack's (default: all are the stack's, those on trial too)",
            )
        if name in ("run", "table"):
            one.add_argument("case", nargs="*", metavar="CASE", help="part of a case's name (default: all)")
        return one

    one = verb("run", run, "run cases; a KTAP line each")
    one.add_argument("--quick", action="store_true", help="only those that `make check` runs")
    one.add_argument("--ours", action="store_true", help="only devices that have a driver in Rust")
    one.add_argument("--part", default="1/1", metavar="K/N", help="every Nth case, beginning with the Kth")
    verb("list", show, "say what there is, and what cannot be had here")
    one = verb("table", tabulate, "C beside Rust; cases without a result are run first")
    one.add_argument("--again", action="store_true", help="run also those that have a result")
    one.add_argument("--known", action="store_true", help="run none")
    one = verb("replay", replay, "run what a seed of `fuzz` stands for")
    one.add_argument("seed", nargs="+", type=int, metavar="SEED")
    one = verb("fuzz", search, "run random lies for some time")
    one.add_argument("seconds", type=float, metavar="SECONDS")
    one.add_argument("--first", type=int, metavar="SEED", help="begin with this seed")
    verb("planted", prove, "plant faults in a copy of the tree, and see that the rig sees them")
    return top


def main() -> int:
    """Entry point; returns the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    options = parser().parse_args()
    try:
        return int(options.work(options))
    except UserError as error:
        print(f"hostile: {error}", file=sys.stderr)
        return 2
    except StepFailed:
        return 1
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
