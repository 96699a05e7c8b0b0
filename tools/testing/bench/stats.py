# SPDX-License-Identifier: GPL-2.0
"""Ratios of times: medians, and how far to trust them."""

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# Fewer pairs say nothing.
PAIRS = 20
RESAMPLES = 4000
CONFIDENCE = 0.95
# Quartiles of one side further apart than this, relative to its median: the machine does other things.
NOISY = 0.25
# Rust is called slower or faster only if the whole interval is beyond this factor.
LIMIT = 1.25


class TooNoisy(Exception):
    """The measurements cannot be judged; the text says why."""


@dataclass(frozen=True)
class Judgement:
    """The median ratio Rust/C of times, its confidence interval, and the word for it."""

    ratio: float
    low: float
    high: float
    verdict: str


def noise(times: Sequence[float]) -> float:
    """Distance between the quartiles of TIMES, relative to their median."""
    first, middle, third = statistics.quantiles(times, n=4)
    return (third - first) / middle


def interval(ratios: Sequence[float], seed: int = 1) -> tuple[float, float]:
    """Bootstrap confidence interval of the median of RATIOS; the same for the same SEED."""
    source = random.Random(seed)
    medians = sorted(statistics.median(source.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    cut = int(RESAMPLES * (1 - CONFIDENCE) / 2)
    return medians[cut], medians[-1 - cut]


def judge(c: Sequence[float], rust: Sequence[float]) -> Judgement:
    """Compare times that were taken in turn, C[i] beside RUST[i]; TooNoisy if they do not allow it."""
    if len(c) != len(rust):
        raise ValueError("times come in pairs")
    if len(c) < PAIRS:
        raise TooNoisy(f"{len(c)} pairs; {PAIRS} are needed")
    for name, times in (("C", c), ("Rust", rust)):
        found = noise(times)
        if found > NOISY:
            raise TooNoisy(
                f"the quartiles of {name} are {100 * found:.0f} % of the median apart, over {100 * NOISY:g} %"
            )
    ratios = [ours / theirs for ours, theirs in zip(rust, c, strict=True)]
    low, high = interval(ratios)
    if low > LIMIT:
        verdict = "slower"
    elif high < 1 / LIMIT:
        verdict = "faster"
    else:
        verdict = "no difference that matters"
    return Judgement(statistics.median(ratios), low, high, verdict)
