# SPDX-License-Identifier: GPL-2.0
"""Which crates a Rust file, a Kbuild file or a Cargo manifest names, and whether it may."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass

import layers
from layers import Crate, Kind
from report import Finding
from rust_tokens import Source

_CRATE_CALL = re.compile(r"\$\(call\s+crate\s*,\s*([^,\s]+)\.o\s*,\s*(\w+)\s*,([^)]*)\)")
_RUSTFLAGS = re.compile(r"RUSTFLAGS_([\w./-]+)\.o\b(.*)")
_EXTERN = re.compile(r"--extern[=\s]+(?:\w+:)?(\w+)")
_KNOWN = frozenset(crate.name for crate in layers.CRATES) | layers.FOREIGN


@dataclass(frozen=True)
class Import:
    """A path that starts outside the crate, and the line that it is on."""

    path: tuple[str, ...]
    line: int


class _UseTrees:
    """The paths of every use declaration, and the names that they bring in."""

    def __init__(self, source: Source) -> None:
        self.paths: list[Import] = []
        self.names: set[str] = set()
        self.spans: list[range] = []
        for index, token in enumerate(source.tokens):
            if token.kind == "ident" and token.text == "use" and _starts_item(source, index):
                end = index
                while end < len(source.tokens) and source.text_at(end) != ";":
                    end += 1
                self.spans.append(range(index, end))
                self._tree(source, index + 1, end, ())

    def _tree(self, source: Source, index: int, end: int, prefix: tuple[str, ...]) -> None:
        path, line = prefix, source.tokens[index].line if index < end else 0
        while index < end:
            token = source.tokens[index]
            if token.text == "{":
                close = source.partner(index)
                for start, stop in _split(source, index + 1, close if close else end):
                    self._tree(source, start, stop, path)
                return
            if token.text == "as":
                self.paths.append(Import(path, line))
                self._bind(source.text_at(index + 1), path)
                return
            if token.kind == "ident":
                path, line = (*path, token.text.removeprefix("r#")), token.line
            index += 1
        if path and path != prefix:
            self.paths.append(Import(path, line))
            self._bind(path[-1] if path[-1] != "self" else path[-2] if path[1:] else "", path)
        elif path:
            self.paths.append(Import(path, line))

    def _bind(self, name: str, path: tuple[str, ...]) -> None:
        if path != (name,):
            self.names.add(name)


def _starts_item(source: Source, index: int) -> bool:
    """Whether `use` at `index` is a declaration, and not the `use<>` of a captured lifetime."""
    return source.text_at(index + 1) != "<"


def _split(source: Source, index: int, end: int) -> Iterator[tuple[int, int]]:
    start = index
    while index < end:
        if source.text_at(index) == "{":
            index = source.partner(index) or end
        elif source.text_at(index) == ",":
            yield start, index
            start = index + 1
        index += 1
    if start < end:
        yield start, end


def declared_modules(source: Source) -> set[str]:
    """The names of the modules that the file declares."""
    return {
        source.text_at(index + 1)
        for index, token in enumerate(source.tokens)
        if token.kind == "ident" and token.text == "mod"
    }


def imports_of(source: Source, local: set[str]) -> Iterator[Import]:
    """Everything that the file names outside its crate, whose own modules are `local`."""
    uses = _UseTrees(source)
    inside_use = {index for span in uses.spans for index in span}
    shadowed = local | uses.names
    for found in uses.paths:
        head = found.path[0]
        if head in _KNOWN and (head not in local):
            yield found
    for index, token in enumerate(source.tokens):
        if token.kind != "ident" or token.text not in _KNOWN:
            continue
        before, after = source.text_at(index - 1), source.text_at(index + 1)
        if before == "crate" and source.text_at(index - 2) == "extern":
            yield Import((token.text,), token.line)
        elif after == "::" and index not in inside_use:
            global_path = before == "::" and not _is_path_part(source, index - 2)
            relative = before != "::" and token.text not in shadowed
            if global_path or relative:
                yield Import((token.text, source.text_at(index + 2)), token.line)


def _is_path_part(source: Source, index: int) -> bool:
    if not 0 <= index < len(source.tokens):
        return False
    token = source.tokens[index]
    return token.kind == "ident" or token.text == ">"


def _objection(crate: Crate, path: tuple[str, ...]) -> str | None:
    """Why `crate` may not name `path`, or nothing if it may."""
    head, written = path[0], "::".join(path[:2])
    target = layers.crate_named(head)
    if head == crate.name:
        return None
    if crate.kind is Kind.PURE:
        if target is not None and target.kind is Kind.PURE and target.rank < crate.rank:
            return None
        if head not in layers.PURE_FOREIGN:
            return f"pure crate {crate.name} must not import {head}"
    if crate.kind is Kind.LEAF and any(path[: len(banned)] == banned for banned in layers.BINDING_PATHS):
        return f"{crate.kind.value} {crate.name} must not import bindings ({written})"
    if target is not None and target.rank >= crate.rank:
        return f"{crate.name} must not import {head}, which is not below it"
    return None


def check_rust(path: str, source: Source, local: set[str]) -> Iterator[Finding]:
    """Findings about what the Rust file at `path` imports."""
    crate = layers.crate_of(path)
    if crate is None:
        return
    seen: set[tuple[int, str]] = set()
    for found in imports_of(source, local):
        objection = _objection(crate, found.path)
        if objection and (found.line, objection) not in seen:
            seen.add((found.line, objection))
            yield Finding(path, found.line, objection)


def check_kbuild(path: str, text: str) -> Iterator[Finding]:
    """Findings about the crates that the Kbuild file at `path` gives to each crate."""
    for line, logical in _logical_lines(text):
        given: list[tuple[str, list[str]]] = []
        if call := _CRATE_CALL.search(logical):
            given.append((call.group(1), call.group(3).split()))
        elif flags := _RUSTFLAGS.search(logical):
            given.append((flags.group(1), _EXTERN.findall(flags.group(2))))
        for target, names in given:
            crate = layers.crate_of(target + ".rs")
            for name in names:
                objection = _objection(crate, (name,)) if crate else None
                if objection:
                    yield Finding(path, line, f"--extern: {objection}")


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    start, logical = 1, ""
    for number, line in enumerate(text.split("\n"), 1):
        if not logical:
            start = number
        if line.lstrip().startswith("#"):
            continue
        if line.endswith("\\"):
            logical += line[:-1] + " "
            continue
        yield start, logical + line
        logical = ""


def check_cargo(path: str, text: str) -> Iterator[Finding]:
    """Findings about the dependencies of a pure crate's Cargo manifest."""
    crate = next(
        (crate for crate in layers.CRATES if path == f"{crate.path}/Cargo.toml"),
        None,
    )
    if crate is None:
        return
    try:
        manifest = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        yield Finding(path, 1, f"manifest cannot be read: {error}")
        return
    for name in manifest.get("dependencies", {}):
        objection = _objection(crate, (name.replace("-", "_"),))
        if objection:
            lines = text.split("\n")
            line = next((n for n, text in enumerate(lines, 1) if text.startswith(name)), 1)
            yield Finding(path, line, objection)
