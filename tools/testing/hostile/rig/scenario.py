# SPDX-License-Identifier: GPL-2.0
"""Scenario files: what is in them, and the cases that they make."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guest.errors import UserError

HERE = Path(__file__).resolve().parents[1]
SCENARIOS = HERE / "scenarios"

DEVICES = ("rng", "blk", "net")
INJECTORS = ("backend", "ram", "process", "qmp", "none")
LAYOUTS = ("split", "packed")
STACKS = ("rust", "c")
# How a case may survive: nothing was noticed; errors, then it worked again; errors to the end, in bounded time.
WAYS = ("unaffected", "recovered", "failed")


@dataclass(frozen=True)
class Scenario:
    """One file: a row of the threat list and the lie that stands for it.

    `injector` is who lies: our backend, the mutator of guest RAM, a signal to the backend's process, QEMU's
    monitor, or `none` for a row that cannot be had here; `why` says then who has it.  `expected` are the ways
    to survive that are good enough.  `options` is what is left of the file for the injector and the workload.
    """

    path: Path
    row: int
    title: str
    device: str
    injector: str
    expected: tuple[str, ...]
    layouts: tuple[str, ...] = ("split",)
    quick: bool = True
    why: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the file without its suffix."""
        return self.path.stem


@dataclass(frozen=True)
class Case:
    """A scenario in one ring layout."""

    scenario: Scenario
    layout: str

    @property
    def name(self) -> str:
        """The scenario's name, and the layout."""
        return f"{self.scenario.name}[{self.layout}]"


def _of(path: Path, data: dict[str, Any], key: str, allowed: tuple[str, ...]) -> str:
    value = data.pop(key, "")
    if value not in allowed:
        raise UserError(f"{path.name}: {key} = {value!r} is none of {' '.join(allowed)}.")
    return str(value)


def read(path: Path) -> Scenario:
    """The scenario in PATH; UserError if it says what the rig does not know."""
    try:
        data = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path.name}: {error}") from None
    injector = _of(path, data, "injector", INJECTORS)
    expected = tuple(data.pop("expected", ()))
    layouts = tuple(data.pop("layouts", ("split",)))
    wrong = [way for way in expected if way not in WAYS] + [one for one in layouts if one not in LAYOUTS]
    if wrong:
        raise UserError(f"{path.name}: the rig does not know {wrong[0]!r}.")
    if injector == "none" and not data.get("why"):
        raise UserError(f"{path.name}: a row that is not run needs a line `why`.")
    if injector != "none" and not expected:
        raise UserError(f"{path.name}: `expected` names no way to survive.")
    return Scenario(
        path=path,
        row=int(data.pop("row", 0)),
        title=str(data.pop("title", "")),
        device=_of(path, data, "device", (*DEVICES, "any")),
        injector=injector,
        expected=expected,
        layouts=layouts,
        quick=bool(data.pop("quick", True)),
        why=str(data.pop("why", "")),
        options=data,
    )


def everything() -> list[Scenario]:
    """All scenarios, by row."""
    return sorted((read(path) for path in SCENARIOS.glob("*.toml")), key=lambda one: (one.row, one.name))


def cases(scenarios: list[Scenario], words: list[str]) -> list[Case]:
    """The cases of SCENARIOS that can be run and whose name contains one of WORDS (all without any)."""
    found = [Case(one, layout) for one in scenarios if one.injector != "none" for layout in one.layouts]
    chosen = [case for case in found if not words or any(word in case.name for word in words)]
    for word in words:
        if not any(word in case.name for case in found):
            raise UserError(f"no case is called {word}; `hostile list` shows them.")
    return chosen
