"""Rank correlations of scores with a quality that people can read, raw and with the answer's length partialled out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

_RESAMPLES = 1000
_LEAST = 30  # conversations, below which an interval means little


class Correlation(NamedTuple):
    """Spearman's rank correlation of a score with the quality, and its 95 % bootstrap intervals.

    Attributes:
        conversations: number with a score and a quality.
        raw: the correlation.
        raw_interval: its interval.
        partial: with the ranks of the answer's length partialled out of both.
        partial_interval: its interval.
    """

    conversations: int
    raw: float
    raw_interval: tuple[float, float]
    partial: float
    partial_interval: tuple[float, float]

    def shown(self) -> tuple[str, str | None]:
        """Returns both correlations with their intervals as text; None for a partial one that there is not."""
        return _text(self.raw, self.raw_interval), (
            None if np.isnan(self.partial) else _text(self.partial, self.partial_interval)
        )


def _text(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"


def ranks(values: np.ndarray) -> np.ndarray:
    """Returns the rank of each value from 1, float64 [n]; equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def rank_correlations(
    columns: Mapping[str, np.ndarray], quality: np.ndarray, length: np.ndarray, seed: int = 0
) -> dict[str, Correlation]:
    """Returns the correlation of each column with the quality; a column needs 30 values beside a quality.

    Intervals are percentiles of 1,000 bootstrap samples of conversations, whose ranks are those of all of them.
    """
    found = {}
    for name, values in columns.items():
        common = np.isfinite(values) & np.isfinite(quality) & np.isfinite(length)
        if common.sum() < _LEAST or len(np.unique(values[common])) < 2 or len(np.unique(quality[common])) < 2:
            continue
        x, y, z = (ranks(some[common]) for some in (values, quality, length))
        rng = np.random.default_rng(seed)
        drawn = np.array([_of_ranks(*(some[rows] for some in (x, y, z))) for rows in _samples(rng, len(x))])
        # A column that is the length itself has no partial correlation.
        low, high = np.percentile(drawn, (2.5, 97.5), axis=0)
        raw, partial = _of_ranks(x, y, z)
        found[name] = Correlation(
            len(x), raw, (float(low[0]), float(high[0])), partial, (float(low[1]), float(high[1]))
        )
    return found


def _samples(rng: np.random.Generator, size: int) -> list[np.ndarray]:
    return [rng.integers(0, size, size) for _ in range(_RESAMPLES)]


def _of_ranks(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[float, float]:
    """Returns the correlation of x and y, and with z partialled out; NaN where z tells x or y altogether."""
    with np.errstate(invalid="ignore", divide="ignore"):
        (_, xy, xz), (_, _, yz), _ = np.corrcoef((x, y, z))
        rest = (1 - xz**2) * (1 - yz**2)
        return float(xy), float((xy - xz * yz) / np.sqrt(rest)) if rest > 1e-12 else float("nan")
