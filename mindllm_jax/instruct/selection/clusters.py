"""Buckets of a score: the exact optimum in one dimension, K-means, quantiles, or fixed edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mindllm_jax.checks import require_at_least, require_seed


@dataclass(frozen=True)
class Buckets:
    """Settings of the buckets that a score is divided into.

    Attributes:
        method: "exact" minimises the squared distance to the means of `count` buckets (Ckmeans.1d.dp; dynamic
            programming, Wang and Song 2011), "kmeans" is scikit-learn's K-means, which may end in a local optimum;
            "quantiles" have equally many conversations; "edges" are given.
        count: number of buckets; of "edges" it is one more than there are edges, whatever this says.
        edges: borders between buckets, increasing; a value on a border is in the bucket above it.
        seed: of K-means.
    """

    method: Literal["exact", "kmeans", "quantiles", "edges"] = "exact"
    count: int = 6
    edges: tuple[float, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(self, 1, "count")
        require_seed(self, "seed")
        if (self.method == "edges") != bool(self.edges):
            raise ValueError(f"Buckets.edges = {self.edges}: give edges exactly with Buckets.method = 'edges'")
        if any(not low < high for low, high in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError(f"Buckets.edges = {self.edges}: must increase")


def bucket_numbers(values: np.ndarray, config: Buckets) -> np.ndarray:
    """Returns the bucket of each value, int64 [n], 0 for the lowest; -1 for values that are not finite.

    There may be fewer buckets than set where there are few distinct values.

    Raises ImportError where the method needs a package that is not installed.
    """
    finite = np.isfinite(values)
    numbers = np.full(len(values), -1, np.int64)
    some = values[finite]
    if len(some):
        numbers[finite] = _numbers(some, config)
    return numbers


def bucket_ranges(values: np.ndarray, numbers: np.ndarray) -> list[tuple[float, float]]:
    """Returns the lowest and the highest value of each bucket; NaN for one without values."""
    ranges = []
    for bucket in range(int(numbers.max(initial=-1)) + 1):
        some = values[numbers == bucket]
        ranges.append((float(some.min()), float(some.max())) if len(some) else (np.nan, np.nan))
    return ranges


def _numbers(values: np.ndarray, config: Buckets) -> np.ndarray:
    if config.method == "edges":
        return np.searchsorted(config.edges, values, "right")
    if config.method == "quantiles":
        return np.searchsorted(np.quantile(values, np.arange(1, config.count) / config.count), values, "right")
    count = min(config.count, len(np.unique(values)))
    labels = _exact(values, count) if config.method == "exact" else _kmeans(values, count, config.seed)
    return _ordered(values, labels, count)


def _exact(values: np.ndarray, count: int) -> np.ndarray:
    try:
        import ckwrap
    except ImportError as error:
        raise ImportError("Buckets.method = 'exact' needs ckwrap: pip install 'mindllm-jax[select]'") from error
    return np.asarray(ckwrap.ckmeans(values, count).labels)


def _kmeans(values: np.ndarray, count: int, seed: int) -> np.ndarray:
    try:
        from sklearn.cluster import KMeans
    except ImportError as error:
        raise ImportError("Buckets.method = 'kmeans' needs scikit-learn: pip install 'mindllm-jax[select]'") from error
    means = KMeans(count, n_init=10, random_state=seed)  # pyright: ignore[reportArgumentType]  a number is documented
    return means.fit_predict(values[:, None])


def _ordered(values: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Renumbers labels so that they increase with the values."""
    means: Sequence[float] = [values[labels == label].mean() for label in range(count)]
    return np.argsort(np.argsort(means))[labels]
