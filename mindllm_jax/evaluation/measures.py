"""Measures of items from the log-likelihoods of their choices, or of their answer alone.

Accuracy of a small model is near chance on most benchmarks; the probability and the bits of the right answer change
earlier (arXiv 2504.11393). Everything is float64, and every measure comes with its standard error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

ITEM_MEASURES = ("acc", "acc_bytes", "probability", "bits_per_byte")
"""Measures of the multiple-choice tasks that score a right choice (`scores_right_choice`); see `item_measures`."""

ANSWER_MEASURES = ("bits_per_byte",)
"""Those of a task that scores the likelihood of its answer alone, as arithmetic."""


class ScoredItem(NamedTuple):
    """The log-likelihoods of an item's choices in nats, float64 [C] for C choices."""

    logs: np.ndarray  # log p(choice | prompt)
    alone: np.ndarray | None  # log p(choice) without the prompt, where it was asked for
    sizes: np.ndarray  # UTF-8 bytes of each choice, at least 1
    right: tuple[int, ...]  # the numbers of the right choices


class Estimate(NamedTuple):
    """A mean over items and its standard error, NaN for one item."""

    value: float
    error: float


def scored_item(sample: Mapping[str, Any]) -> ScoredItem:
    """Reads an item from a record of `samples_TASK.jsonl`, or from one in memory, of a multiple-choice task."""
    logs = np.array([float(log) for log, _ in sample["filtered_resps"]], np.float64)
    sizes = np.array([max(1, len(text.encode())) for text in sample["choices"]], np.float64)
    alone = logs[len(sizes) :] if len(logs) == 2 * len(sizes) else None
    return ScoredItem(logs[: len(sizes)], alone, sizes, tuple(sample["right"]))


def item_measures(item: ScoredItem) -> dict[str, float]:
    """Returns the measures of one item by name.

    acc: whether the likeliest choice is right, the first of equal ones. acc_bytes: so by log-likelihood per byte.
    acc_mutual_info: so by log p(choice | prompt) - log p(choice), where the latter is known. probability: of the right
    choices, where the probabilities of the choices are scaled to sum to 1. bits_per_byte: -log2 p of the likeliest
    right choice over its bytes.
    """
    logs, alone, sizes, right = item
    best = max(right, key=lambda number: logs[number])
    measures = {
        "acc": float(int(np.argmax(logs)) in right),
        "acc_bytes": float(int(np.argmax(logs / sizes)) in right),
        "probability": float(probabilities(item)[list(right)].sum()),
        "bits_per_byte": float(-logs[best] / math.log(2) / sizes[best]),
    }
    if alone is not None:
        measures["acc_mutual_info"] = float(int(np.argmax(logs - alone)) in right)
    return measures


def sample_measures(sample: Mapping[str, Any]) -> dict[str, float]:
    """Returns the measures of the item of a record of `samples_TASK.jsonl`, or of one in memory.

    Those of `item_measures` for multiple choice; bits_per_byte for a task that scores its answer alone, whose only
    choice is not marked as right; none for generations and others.
    """
    if "right" in sample:
        return item_measures(scored_item(sample))
    if "choices" in sample:
        found = item_measures(scored_item({**sample, "right": [0]}))
        return {name: found[name] for name in ANSWER_MEASURES}
    return {}


def probabilities(item: ScoredItem) -> np.ndarray:
    """Returns the probabilities of the choices, float64 [C], scaled to sum to 1."""
    scaled = np.exp(item.logs - item.logs.max())
    return scaled / scaled.sum()


def means(each: Sequence[Mapping[str, float]]) -> dict[str, Estimate]:
    """Returns the means over items of their measures; one that some items lack is left out."""
    return {
        name: mean([one[name] for one in each]) for name in (each[0] if each else {}) if all(name in e for e in each)
    }


def chance(items: Sequence[ScoredItem]) -> float:
    """Returns the accuracy of choosing at random, which is also its mean probability of the right choices."""
    return mean([len(item.right) / len(item.logs) for item in items]).value


def mean(values: Sequence[float]) -> Estimate:
    """Returns the mean and its standard error, the sample deviation over the root of the count."""
    array = np.asarray(values, np.float64)
    error = array.std(ddof=1) / math.sqrt(len(array)) if len(array) > 1 else math.nan
    return Estimate(float(array.mean()), float(error))
