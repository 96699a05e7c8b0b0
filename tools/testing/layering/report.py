# SPDX-License-Identifier: GPL-2.0
"""What a rule has to say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Finding:
    """One breach of one rule, at one line."""

    path: str
    line: int
    sentence: str

    def __str__(self) -> str:
        """The finding as editors understand it."""
        return f"{self.path}:{self.line}: {self.sentence}"
