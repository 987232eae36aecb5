"""Statistics over seeds: intervals, paired differences, corrected p-values, detectable differences, verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

CONFIDENCE = 0.95
POWER = 0.8
LEAST_SEEDS = 6
"""Below so many pairs there is neither a p-value nor a verdict: a spread of few values is hardly known."""

Verdict = Literal["yes", "no", "cannot tell at this scale", "not run"]


class Interval(NamedTuple):
    """A mean over seeds with its 95 % confidence interval by Student's t; unbounded for a single seed."""

    mean: float
    low: float
    high: float
    seeds: int


class PairedDifference(NamedTuple):
    """A mean difference by seed, variant minus baseline.

    Attributes:
        interval: the mean and its 95 % interval.
        p_value: of Student's paired t-test in two tails; None below `LEAST_SEEDS` pairs.
        detectable: as `detectable`, of as many seeds.
    """

    interval: Interval
    p_value: float | None
    detectable: float


def interval(values: Sequence[float]) -> Interval:
    """Returns the mean of values and its 95 % interval, `mean +- t(0.975, n - 1) * s / sqrt(n)`."""
    from scipy import stats

    count, mean = len(values), float(np.mean(values))
    if count < 2:
        return Interval(mean, -math.inf, math.inf, count)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * _standard_error(values)
    return Interval(mean, mean - half, mean + half, count)


def paired_difference(variant: Sequence[float], baseline: Sequence[float], tests: int = 1) -> PairedDifference:
    """Returns the difference of two variants over the same seeds, in the same order.

    tests: as in `detectable`.

    Raises ValueError for no pair, and where the numbers of seeds differ.
    """
    from scipy import stats

    if not variant or len(variant) != len(baseline):
        raise ValueError(f"{len(variant)} and {len(baseline)} values make no pairs")
    differences = [a - b for a, b in zip(variant, baseline, strict=True)]
    spread = _standard_error(differences) if len(differences) > 1 else math.inf
    p_value = None
    if len(differences) >= LEAST_SEEDS:
        mean = abs(float(np.mean(differences)))
        size = mean / spread if spread else math.inf if mean else 0.0
        p_value = float(2 * stats.t.sf(size, len(differences) - 1))
    return PairedDifference(interval(differences), p_value, detectable(spread, len(differences), tests))


def detectable(standard_error: float, seeds: int, tests: int = 1) -> float:
    """Returns the smallest difference that a two-sided t-test detects at 5 %, corrected, with a power of about 80 %.

    The usual approximation `(t(1 - 0.025 / tests, n - 1) + t(0.8, n - 1)) * standard error`; infinite for a single
    seed. By the noncentral t its power is 70 to 80 % with 3 to 6 seeds, less with more tests. It has Bonferroni's
    correction for the number of tests, which is Holm's for the smallest p-value.
    """
    from scipy import stats

    if seeds < 2:
        return math.inf
    level = 1 - (1 - CONFIDENCE) / (2 * max(1, tests))
    return float(stats.t.ppf(level, seeds - 1) + stats.t.ppf(POWER, seeds - 1)) * standard_error


def baseline_detectable(values: Sequence[float], seeds: int, tests: int = 1) -> float:
    """Returns the detectable difference that the spread of a baseline lets expect of `seeds` seeds.

    It assumes a variant with the baseline's spread that shares none of its noise: differences have sqrt(2) times the
    standard deviation of the values.
    """
    if len(values) < 2:
        return math.inf
    return detectable(math.sqrt(2) * float(np.std(values, ddof=1)) / math.sqrt(seeds), seeds, tests)


def holm(p_values: Sequence[float], tests: int) -> list[float]:
    """Returns p-values corrected for the number of tests (Holm, "A simple sequentially rejective multiple test", 1979).

    tests: planned ones, at least as many as there are p-values.
    """
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (tests - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def verdict(mean: float, p_value: float | None, direction: Literal["lower", "higher"]) -> Verdict:
    """Returns whether a mean difference has a direction: yes or no where its corrected p-value is at most 0.05."""
    if p_value is None or p_value > 1 - CONFIDENCE:
        return "cannot tell at this scale"
    return "yes" if (mean < 0) == (direction == "lower") else "no"


def _standard_error(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))
