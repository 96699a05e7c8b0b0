# SPDX-License-Identifier: GPL-2.0
"""Reads KTAP (Documentation/dev-tools/ktap.rst of the kernel), also out of a kernel console.

A console may hold many documents, each begun by a version line, with other lines in between and
a time stamp before each line.  Only leaves are cases; a parent that fails although its leaves do not
becomes a case of its own.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_STAMP = re.compile(r"^(?:<\d+>)?\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ")
_VERSION = re.compile(r"^( *)(?:KTAP version 1|TAP version 1[34])\s*$")
_PLAN = re.compile(r"^( *)1\.\.(\d+)(?:\s*#\s*SKIP\s*(.*))?\s*$")
_RESULT = re.compile(r"^( *)(not ok|ok) +(\d+)(?: +-)? *([^#]*?) *(?:# *(.*))?$")
_BAIL = re.compile(r"^ *Bail out! *(.*)$")
_INDENT = 2

PASS, FAIL, SKIP = "ok", "not ok", "SKIP"


@dataclass(frozen=True)
class Case:
    """One leaf: its name with those of its parents, its state, and what was said about it."""

    name: str
    state: str
    detail: str = ""


@dataclass
class _Level:
    """What is known of one level of indentation since its last result line."""

    plan: int | None = None
    results: int = 0
    cases: list[Case] = field(default_factory=list)


def _state(word: str, directive: str) -> tuple[str, str]:
    """State and detail of a result line."""
    if directive.upper().startswith("SKIP") and word == PASS:
        return SKIP, directive[4:].strip()
    if directive.upper().startswith("XFAIL"):
        return PASS, directive
    return word, directive


class Parser:
    """Collects the cases of one or more KTAP documents, line by line."""

    def __init__(self) -> None:
        self.cases: list[Case] = []
        self.documents = 0
        self._levels: dict[int, _Level] = {}

    def feed(self, lines: Iterable[str]) -> None:
        """Take LINES, with or without the kernel's time stamps."""
        for line in lines:
            self._line(_STAMP.sub("", line.rstrip("\r\n")))

    def finish(self) -> list[Case]:
        """End the last document; all cases of all documents."""
        self._close()
        return self.cases

    def _line(self, line: str) -> None:
        if found := _VERSION.match(line):
            depth = len(found.group(1)) // _INDENT
            if depth == 0:
                self._close()
                self.documents += 1
                self._levels[0] = _Level()
            elif self._levels:
                self._levels[depth] = _Level()
        elif not self._levels:
            return
        elif found := _PLAN.match(line):
            level = self._level(len(found.group(1)) // _INDENT)
            level.plan = int(found.group(2))
            if level.plan == 0 and found.group(3) is not None:
                level.cases.append(Case("all", SKIP, found.group(3)))
        elif found := _RESULT.match(line):
            self._result(found)
        elif found := _BAIL.match(line):
            self._level(0).cases.append(Case("bail out", FAIL, found.group(1)))

    def _level(self, depth: int) -> _Level:
        return self._levels.setdefault(depth, _Level())

    def _result(self, found: re.Match[str]) -> None:
        depth = len(found.group(1)) // _INDENT
        name = found.group(4) or found.group(3)
        state, detail = _state(found.group(2), found.group(5) or "")
        inner = [self._levels.pop(key) for key in sorted(self._levels) if key > depth]
        level = self._level(depth)
        level.results += 1
        if not inner:
            level.cases.append(Case(name, state, detail))
            return
        cases: list[Case] = []
        for one in inner:
            cases += self._ended(one)
        level.cases += [Case(f"{name}.{case.name}", case.state, case.detail) for case in cases]
        if state == FAIL and all(case.state != FAIL for case in cases):
            level.cases.append(Case(name, FAIL, detail or "the suite failed outside its cases"))

    @staticmethod
    def _ended(level: _Level) -> list[Case]:
        """The cases of LEVEL, and one more if its plan was not kept."""
        if level.plan is not None and level.plan != level.results:
            detail = f"{level.plan} results announced, {level.results} came"
            return [*level.cases, Case("plan", FAIL, detail)]
        return level.cases

    def _close(self) -> None:
        # Deeper levels are still here only if their parent never reported: they end here too.
        for depth in sorted(self._levels, reverse=True):
            level = self._levels[depth]
            if depth > 0 and (level.cases or level.plan):
                self.cases += level.cases
                self.cases.append(Case("end", FAIL, "the document ends within a suite"))
            elif depth == 0:
                if level.plan is None:
                    level.cases.append(Case("plan", FAIL, "the document has no plan"))
                self.cases += self._ended(level)
        self._levels = {}


def parse(text: str) -> Parser:
    """All documents in TEXT."""
    parser = Parser()
    parser.feed(text.splitlines())
    parser.finish()
    return parser
