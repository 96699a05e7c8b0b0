# SPDX-License-Identifier: GPL-2.0
"""What a case came to."""

from dataclasses import dataclass

SURVIVED = "survived"
HANG = "hang"
SPLAT = "splat"
CORRUPTION = "corruption"
LOST = "lost"
# The lie was never told, or the rig itself failed: says nothing about the driver, and is a failure all the same.
UNTOLD = "untold"
WORDS = (SURVIVED, HANG, SPLAT, CORRUPTION, LOST, UNTOLD)


@dataclass(frozen=True)
class Verdict:
    """WORD is one of those above; WAY says of `survived` how; DETAIL is for people; SECONDS until it was clear."""

    word: str
    detail: str
    seconds: float
    way: str = ""

    def text(self) -> str:
        """For a KTAP line or a table."""
        what = f"{self.word}: {self.way}" if self.way else self.word
        return f"{what} in {self.seconds:.1f} s" + (f" ({self.detail})" if self.detail else "")

    def good(self, expected: tuple[str, ...]) -> bool:
        """Whether it survived in one of the ways that are EXPECTED."""
        return self.word == SURVIVED and self.way in expected
