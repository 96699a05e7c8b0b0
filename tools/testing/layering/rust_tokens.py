# SPDX-License-Identifier: GPL-2.0
"""A lexer for Rust, as exact as the rules need: it never takes a comment or a string for code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<line_comment>//[^\n]*)
  | (?P<block_comment>/\*)
  | (?P<raw_string>(?:b|c|br|cr)?r(?P<hashes>\#*)")
  | (?P<string>(?:b|c)?"(?:[^"\\]|\\.)*")
  | (?P<char>b?'(?:[^'\\\n]|\\(?:x[0-9a-fA-F]{2}|u\{[^}]*\}|.))')
  | (?P<lifetime>'[A-Za-z_]\w*)
  | (?P<ident>(?:r\#)?[^\W\d]\w*)
  | (?P<number>\d[\w]*(?:\.\d[\w]*)?)
  | (?P<path>::)
  | (?P<arrow>=>)
  | (?P<punct>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_BLOCK_EDGE = re.compile(r"/\*|\*/")


@dataclass(frozen=True)
class Token:
    """One token of code; comments and white space are none."""

    kind: str
    text: str
    line: int


@dataclass(frozen=True)
class Comment:
    """One comment, from its first to its last line."""

    text: str
    line: int
    last_line: int

    @property
    def is_inner_doc(self) -> bool:
        """Whether the comment documents the module that holds it."""
        return self.text.startswith(("//!", "/*!"))

    @property
    def is_doc(self) -> bool:
        """Whether the comment is documentation at all."""
        outer = self.text.startswith(("///", "/**")) and not self.text.startswith(("////", "/***"))
        return outer or self.is_inner_doc


class Source:
    """A Rust file: tokens, comments, and which of the two is on which line."""

    def __init__(self, text: str) -> None:
        self.lines = text.split("\n")
        self.tokens: list[Token] = []
        self.comments: list[Comment] = []
        self._lex(text)
        self._comment_at = {
            line: comment for comment in self.comments for line in range(comment.line, comment.last_line + 1)
        }
        self._first_token_at: dict[int, int] = {}
        for index, token in enumerate(self.tokens):
            self._first_token_at.setdefault(token.line, index)
        self._partner = _match_brackets(self.tokens)

    def _lex(self, text: str) -> None:
        position, line = 0, 1
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:  # `.` matches everything, so there always is one.
                raise AssertionError("the lexer cannot be stuck")
            kind, end = match.lastgroup or "punct", match.end()
            if match.group("raw_string") is not None:
                kind = "string"
                closing = '"' + match.group("hashes")
                found = text.find(closing, end)
                end = len(text) if found < 0 else found + len(closing)
            elif kind == "block_comment":
                end = _end_of_block_comment(text, end)
            body = text[position:end]
            last_line = line + body.count("\n")
            if kind in ("line_comment", "block_comment"):
                self.comments.append(Comment(body, line, last_line))
            elif kind != "space":
                self.tokens.append(Token(kind, body, line))
            position, line = end, last_line

    def text_at(self, index: int) -> str:
        """The text of token `index`, or nothing if there is none."""
        return self.tokens[index].text if 0 <= index < len(self.tokens) else ""

    def partner(self, index: int) -> int | None:
        """The index of the bracket that belongs to the bracket at `index`."""
        return self._partner.get(index)

    def comments_on(self, line: int) -> str:
        """The comment text on `line`, if any."""
        comment = self._comment_at.get(line)
        return comment.text if comment else ""

    def block_above(self, line: int) -> list[Comment]:
        """The comments right above `line`, nearest first; attributes in between are skipped."""
        found: list[Comment] = []
        line -= 1
        while line > 0:
            comment = self._comment_at.get(line)
            first = self._first_token_at.get(line)
            if first is not None:
                start = self._attribute_start(first)
                if start is None:
                    break
                line = start - 1
            elif comment is not None:
                found.append(comment)
                line = comment.line - 1
            else:
                break
        return found

    def _attribute_start(self, index: int) -> int | None:
        """The first line of the attribute that owns the line of token `index`, if one does."""
        line = self.tokens[index].line
        for start in range(index, -1, -1):
            if self.tokens[start].text == "#" and self.text_at(start + 1) == "[":
                end = self.partner(start + 1)
                if end is None or self.tokens[end].line < line:
                    return None
                after = end + 1
                if after < len(self.tokens) and self.tokens[after].line == self.tokens[end].line:
                    return None
                return self.tokens[start].line
            if self.text_at(start) in (";", "{", "}"):
                return None
        return None

    def attributes(self) -> Iterator[tuple[int, int, bool]]:
        """Each attribute as first token, closing bracket, and whether it is an inner one."""
        for index, token in enumerate(self.tokens):
            if token.text != "#":
                continue
            inner = self.text_at(index + 1) == "!"
            opening = index + 2 if inner else index + 1
            if self.text_at(opening) == "[" and (end := self.partner(opening)) is not None:
                yield index, end, inner

    def item_end(self, index: int) -> int:
        """The last token of the item that starts at `index`, attributes before it left out."""
        while index < len(self.tokens):
            text = self.text_at(index)
            if text in ("(", "[") and (end := self.partner(index)) is not None:
                index = end
            elif text == "{":
                return self.partner(index) or len(self.tokens) - 1
            elif text == ";":
                return index
            index += 1
        return len(self.tokens) - 1

    def enclosing_brace(self, index: int) -> int | None:
        """The opening brace around token `index`, if there is one."""
        index -= 1
        while index >= 0:
            text = self.text_at(index)
            if text == "{":
                return index
            if text in (")", "]", "}") and (start := self.partner(index)) is not None:
                index = start
            index -= 1
        return None


def _end_of_block_comment(text: str, position: int) -> int:
    depth = 1
    while depth:
        edge = _BLOCK_EDGE.search(text, position)
        if edge is None:
            return len(text)
        depth += 1 if edge.group() == "/*" else -1
        position = edge.end()
    return position


def _match_brackets(tokens: list[Token]) -> dict[int, int]:
    opening = {")": "(", "]": "[", "}": "{"}
    partner: dict[int, int] = {}
    stack: list[int] = []
    for index, token in enumerate(tokens):
        if token.kind != "punct":
            continue
        if token.text in opening.values():
            stack.append(index)
        elif token.text in opening and stack and tokens[stack[-1]].text == opening[token.text]:
            start = stack.pop()
            partner[start], partner[index] = index, start
    return partner
