"""Signal to noise of benchmarks: whether a score separates models, or moves as much between checkpoints of one.

After Heineman et al., "Signal and Noise" (arXiv 2508.13144): signal is the largest difference between models, noise the
standard deviation over the last checkpoints of a run, both over the mean score. A model's score is the mean over its
last checkpoints; the noise is the root mean square of the runs' deviations about their own mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Signal(NamedTuple):
    """The signal and noise of one score.

    Attributes:
        scores: the mean over the last checkpoints, by model.
        signal: largest difference between two models, over the mean of all.
        noise: standard deviation over the last checkpoints of a run, over the mean of all.
    """

    scores: dict[str, float]
    signal: float
    noise: float

    @property
    def ratio(self) -> float:
        """Returns signal over noise; infinite where no checkpoint differs from another of its run."""
        return self.signal / self.noise if self.noise else float("inf")


def signal(scores: Mapping[str, Sequence[float]]) -> Signal:
    """Returns signal and noise of a score, from those of the last checkpoints of each model.

    A benchmark's range grows with the number of models, so ratios compare benchmarks on the same models alone. Raises
    ValueError for fewer than two models, for a model with fewer than two checkpoints, and for a mean of 0.
    """
    if len(scores) < 2:
        raise ValueError(f"the signal is a difference between models, and there is {', '.join(scores) or 'none'} alone")
    for model, values in scores.items():
        if len(values) < 2:
            raise ValueError(f"{model} has {len(values)} checkpoints: the noise needs two or more")
    means = {model: float(np.mean(values)) for model, values in scores.items()}
    mean = abs(float(np.mean(list(means.values()))))
    if not mean:
        raise ValueError("the mean of the scores is 0: signal and noise are relative to it")
    noise = float(np.sqrt(np.mean([np.var(values, ddof=1) for values in scores.values()])))
    return Signal(means, (max(means.values()) - min(means.values())) / mean, noise / mean)


def scores_of(result: Mapping[str, Any]) -> dict[str, float]:
    """Returns the scores in the content of an eval.json by name: bits per byte by language, and every task's metrics.

    Counts, standard errors and chance are no scores.
    """
    scores = {f"bits per byte, {language}": value for language, value in result.get("bits_per_byte", {}).items()}
    for task, metrics in result.get("tasks", {}).items():
        for name, value in metrics.items():
            if isinstance(value, float) and name != "chance" and not name.endswith("_stderr"):
                scores[f"{name}, {task}"] = value
    return scores
