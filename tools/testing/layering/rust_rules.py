# SPDX-License-Identifier: GPL-2.0
"""The rules about Rust files: where unsafe may be, how it is justified, and what may panic."""

from __future__ import annotations

from collections.abc import Iterator

import layers
from layers import Kind
from report import Finding
from rust_tokens import Source

_PANIC_MACROS = frozenset({"panic", "todo", "unimplemented", "unreachable"})
_PANIC_METHODS = frozenset({"unwrap", "expect"})
_LINKED_SYMBOL = frozenset({"no_mangle", "export_name"})


def check(path: str, source: Source) -> Iterator[Finding]:
    """Every finding about the Rust file at `path`, imports left out."""
    yield from _module_doc(path, source)
    yield from _unsafe_is_fenced(path, source)
    yield from _unsafe_is_justified(path, source)
    yield from _attributes(path, source)
    if layers.is_kernel_rust(path):
        yield from _panics(path, source)
        yield from _belongs_to_a_layer(path, source)


def _module_doc(path: str, source: Source) -> Iterator[Finding]:
    first_doc = next((comment for comment in source.comments if comment.is_doc), None)
    first_code = source.tokens[0].line if source.tokens else len(source.lines) + 1
    if first_doc is None or not first_doc.is_inner_doc or first_doc.line > first_code:
        yield Finding(path, 1, "the file does not begin with a //! line that says what it is")


def _belongs_to_a_layer(path: str, source: Source) -> Iterator[Finding]:
    crate = layers.crate_of(path)
    if crate is None:
        yield Finding(path, 1, "the file belongs to no crate of the layer table")
        return
    if crate.kind is not Kind.CORE and crate.is_root(path) and not _forbids_unsafe(source):
        sentence = f"{crate.kind.value} {crate.name} does not say #![forbid(unsafe_code)]"
        yield Finding(path, 1, sentence)


def _forbids_unsafe(source: Source) -> bool:
    return any(
        inner and {"forbid", "unsafe_code"} <= {token.text for token in source.tokens[start:end]}
        for start, end, inner in source.attributes()
    )


def _unsafe_is_fenced(path: str, source: Source) -> Iterator[Finding]:
    if not layers.is_kernel_rust(path) or layers.may_be_unsafe(path):
        return
    crate = layers.crate_of(path)
    place = f"{crate.kind.value} {crate.name}" if crate else "this file"
    for token in source.tokens:
        if token.kind == "ident" and token.text == "unsafe":
            yield Finding(path, token.line, f"unsafe is not allowed in {place}")


def _unsafe_is_justified(path: str, source: Source) -> Iterator[Finding]:
    for index, token in enumerate(source.tokens):
        if token.kind != "ident" or token.text != "unsafe":
            continue
        after = source.text_at(index + 1)
        if after in ("{", "impl") or _is_extern_block(source, index):
            what = "impl" if after == "impl" else "block"
            if not _has_safety_comment(source, index):
                yield Finding(path, token.line, f"unsafe {what} without a // SAFETY: comment")
        elif after == "trait" or _declares_function(source, index):
            what = "trait" if after == "trait" else "fn"
            excused = _in_trait_impl(source, index) or _in_macro_call(source, index)
            if not excused and not _has_safety_section(source, index):
                yield Finding(path, token.line, f"unsafe {what} without a # Safety section")


def _after_abi(source: Source, index: int) -> int:
    """The index behind `unsafe`, `extern` and an ABI string."""
    index += 1
    if source.text_at(index) == "extern":
        index += 1
        if index < len(source.tokens) and source.tokens[index].kind == "string":
            index += 1
    return index


def _is_extern_block(source: Source, index: int) -> bool:
    at = _after_abi(source, index)
    return at > index + 1 and source.text_at(at) == "{"


def _declares_function(source: Source, index: int) -> bool:
    at = _after_abi(source, index)
    named = at + 1 < len(source.tokens) and source.tokens[at + 1].kind == "ident"
    return source.text_at(at) == "fn" and named


def _has_safety_comment(source: Source, index: int) -> bool:
    """Whether the unsafe at `index` is explained: on its line, above it, or above its statement."""
    if "SAFETY:" in source.comments_on(source.tokens[index].line):
        return True
    lines = {source.tokens[at].line for at in _statement(source, index)}
    return any("SAFETY:" in comment.text for line in lines for comment in source.block_above(line))


def _statement(source: Source, index: int) -> Iterator[int]:
    """The tokens from that at `index` back to the start of its statement, arm or field."""
    yield index
    # Without a bracket around it, a comma ends what belongs together: an arm, a field.
    nested = _is_nested(source, index)
    at = index - 1
    while at >= 0:
        text = source.text_at(at)
        if text in (";", "{", "}") or (text == "," and not nested):
            return
        if text in (")", "]") and (start := source.partner(at)) is not None:
            at = start
        elif text in ("(", "["):
            nested = _is_nested(source, at)
        yield at
        at -= 1


def _is_nested(source: Source, index: int) -> bool:
    """Whether the innermost bracket around token `index` is a round or a square one."""
    at = index - 1
    while at >= 0:
        text = source.text_at(at)
        if text in ("(", "["):
            return True
        if text == "{":
            return False
        if text in (")", "]", "}") and (start := source.partner(at)) is not None:
            at = start
        at -= 1
    return False


def _item_line(source: Source, index: int) -> int:
    """The line on which the item that holds the unsafe at `index` starts, its visibility too."""
    while True:
        before = source.text_at(index - 1)
        if before in ("pub", "const"):
            index -= 1
        elif before == ")" and (start := source.partner(index - 1)) is not None:
            index = start
        else:
            return source.tokens[index].line


def _has_safety_section(source: Source, index: int) -> bool:
    block = source.block_above(_item_line(source, index))
    return any(comment.is_doc and "# Safety" in comment.text for comment in block)


def _in_trait_impl(source: Source, index: int) -> bool:
    """Whether the function at `index` implements a trait, which has the # Safety section."""
    brace = source.enclosing_brace(index)
    if brace is None:
        return False
    header: list[str] = []
    at = brace - 1
    while at >= 0 and source.text_at(at) not in (";", "{", "}"):
        header.append(source.text_at(at))
        at -= 1
    return "impl" in header and "for" in header


def _in_macro_call(source: Source, index: int) -> bool:
    """Whether the function at `index` is an argument of a macro, which states the contract."""
    brace = source.enclosing_brace(index)
    return brace is not None and source.text_at(brace - 1) == "!"


def _attributes(path: str, source: Source) -> Iterator[Finding]:
    for start, end, inner in source.attributes():
        names = {token.text for token in source.tokens[start:end] if token.kind == "ident"}
        line = source.tokens[start].line
        if inner and names & {"allow", "expect"} and path not in layers.ALLOW_ATTRIBUTE:
            yield Finding(path, line, "a lint is switched off for the whole module")
        in_kernel = layers.is_kernel_rust(path)
        if in_kernel and names & _LINKED_SYMBOL and not path.endswith("/" + layers.C_ABI_FILE):
            yield Finding(path, line, f"C symbols are defined in {layers.C_ABI_FILE} only")


def _test_tokens(source: Source) -> set[int]:
    """The tokens of items that exist only in tests."""
    inside: set[int] = set()
    for start, end, inner in source.attributes():
        names = [token.text for token in source.tokens[start:end] if token.kind == "ident"]
        is_test = names[:1] == ["kunit_tests"] or (names[:1] == ["cfg"] and "test" in names)
        if is_test and "not" not in names:
            last = len(source.tokens) - 1 if inner else source.item_end(end + 1)
            inside.update(range(start, last + 1))
    return inside


def _panics(path: str, source: Source) -> Iterator[Finding]:
    in_tests = _test_tokens(source)
    for index, token in enumerate(source.tokens):
        if token.kind != "ident" or index in in_tests:
            continue
        before, after = source.text_at(index - 1), source.text_at(index + 1)
        macro = token.text in _PANIC_MACROS and after == "!"
        method = token.text in _PANIC_METHODS and before == "." and after == "("
        if not (macro or method):
            continue
        above = source.block_above(token.line)
        reasons = [source.comments_on(token.line), *(comment.text for comment in above)]
        if not any("PANIC:" in reason for reason in reasons):
            called = f"{token.text}!" if macro else f".{token.text}()"
            yield Finding(path, token.line, f"{called} may panic and no // PANIC: says why not")
