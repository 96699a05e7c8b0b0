# SPDX-License-Identifier: GPL-2.0
"""Cases made of a seed: random lies of the entropy device, or random writes to its rings."""

import random
from pathlib import Path

from rig import table
from rig.scenario import LAYOUTS, Case, read

# Bits with which no queue would work at all: the transport's, and those that give addresses another meaning.
UNTOUCHED = {28, 29, 30, 32, 33, 34, 35, 36, 37, 38, 40, 41}
NUMBERS = (0, 1, 2, 63, 64, 65, 2047, 2048, 2049, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF)
SEEDS = 1 << 32


def _number(choice: random.Random, limit: int = 1 << 32) -> int:
    return choice.choice((choice.choice(NUMBERS), choice.randrange(64), choice.getrandbits(32))) % limit


def _lie(choice: random.Random, packed: bool) -> list[str]:
    """A lie with one or two of the things a device may do wrong."""
    lines = [f"from = {choice.randint(1, 6)}", f"times = {choice.choice((1, 1, 2, 5))}"]
    stale = choice.choice(("stale", "free"))
    table = {
        "id": f"id = {_number(choice)}",
        "named": f'id = "{stale}"',
        "len": f"len = {_number(choice)}",
        "write": f"write = {choice.randrange(2048)}",
        "repeat": f"repeat = {choice.randint(1, 80)}",
        "quiet": "quiet = true",
        "interrupts": f"interrupts = {choice.randint(1, 200)}",
        "delay": f"delay = {choice.randint(1, 300)}",
    }
    if packed:
        table["ahead"] = f"ahead = {choice.randint(1, 200)}"
    else:
        table["index"] = f"index = {choice.choice((1, -1)) * _number(choice, 65536)}"
        table["avail"] = "avail = true"
    names = sorted(table)
    for name in choice.sample(names, choice.choice((1, 1, 2))):
        if table[name].split()[0] not in {line.split()[0] for line in lines}:
            lines.append(table[name])
    if not packed and choice.random() < 0.3:
        lines += [
            "",
            "[[lie.descriptors]]",
            f"set_flags = {choice.randrange(8)}",
            f"clear_flags = {choice.randrange(8)}",
            f"next = {_number(choice, 65536)}",
            f"len = {_number(choice)}",
        ]
    return lines


def scenario(seed: int) -> str:
    """The scenario file that SEED stands for."""
    choice = random.Random(seed)
    layout = choice.choice(LAYOUTS)
    ram = choice.random() < 0.3
    lines = [
        "# SPDX-License-Identifier: GPL-2.0",
        "row = 0",
        f'title = "made of seed {seed}"',
        'device = "rng"',
        f'injector = "{"ram" if ram else "backend"}"',
        f'layouts = ["{layout}"]',
        'expected = ["unaffected", "recovered", "failed"]',
        # An honest device works after the lies; the desynchronised reader may take its deadline once.
        "rounds = 1",
        "",
    ]
    if ram:
        lines += [
            "[ram]",
            f"seed = {seed}",
            f"count = {choice.randint(1, 16)}",
            f"every = {choice.choice((0, 0.01, 0.1))}",
        ]
        return "\n".join(lines) + "\n"
    if choice.random() < 0.3:
        bits = sorted(set(range(64)) - UNTOUCHED)
        lines += ["[features]", f"set = {sorted(choice.sample(bits, choice.randint(1, 20)))}", ""]
    for _ in range(choice.choice((1, 1, 2))):
        lines += ["[[lie]]", *_lie(choice, layout == "packed"), ""]
    return "\n".join(lines)


def case(seed: int) -> Case:
    """The case of SEED; its file is kept in build/hostile/fuzz."""
    directory = table.DIRECTORY / "fuzz"
    directory.mkdir(parents=True, exist_ok=True)
    path: Path = directory / f"seed-{seed}.toml"
    path.write_text(scenario(seed))
    made = read(path)
    return Case(made, made.layouts[0])
