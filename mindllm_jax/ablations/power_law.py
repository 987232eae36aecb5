"""A power law of training FLOPs, fitted to small runs and compared with a larger one that it had not seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mindllm_jax.ablations.statistics import CONFIDENCE

_HUBER = 1e-3  # of the logarithm of the loss, as Hoffmann et al. 2022, appendix D.2
_SEED = 0


class PowerLaw(NamedTuple):
    """The law `loss = factor * flops ** -exponent`."""

    factor: float
    exponent: float

    def __call__(self, flops: float) -> float:
        """Returns the loss that is predicted for a run of so many FLOPs."""
        return self.factor * flops**-self.exponent


class Prediction(NamedTuple):
    """A law, and the loss that it predicts for a run that it was not fitted to.

    Attributes:
        law: fitted to all runs.
        value: predicted loss.
        low: of the 95 % interval, as of `predict`.
        high: of that interval.
    """

    law: PowerLaw
    value: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """The predicted loss with its interval."""
        bounds = f"{self.low:.4f} to {self.high:.4f}" if math.isfinite(self.high) else "a size has one run"
        return f"{self.value:.4f} ({bounds})"


def fit(flops: Sequence[float], losses: Sequence[float]) -> PowerLaw:
    """Returns the power law with the least Huber loss of the logarithms of the losses (delta 1e-3).

    The problem is convex in the two coefficients, so that one start is enough. A floor under the loss, as in larger
    studies, cannot be told from the exponent over the few sizes of a small ladder.

    Raises ValueError for runs of fewer than two different FLOPs, or losses that are not above 0.
    """
    from scipy.optimize import least_squares

    if len(set(flops)) < 2 or min(losses) <= 0:
        raise ValueError("a power law needs runs of two or more different FLOPs, with losses above 0")
    x, y = np.log(np.asarray(flops, float)), np.log(np.asarray(losses, float))
    centre = x.mean()
    start = np.polynomial.Polynomial.fit(x - centre, y, 1).convert().coef
    found = least_squares(lambda c: c[0] + c[1] * (x - centre) - y, np.resize(start, 2), loss="huber", f_scale=_HUBER)
    height, slope = found.x
    return PowerLaw(float(np.exp(height - slope * centre)), float(-slope))


def predict(
    flops: Sequence[float], losses: Sequence[Sequence[float]], at: float, *, resamples: int = 1000
) -> Prediction:
    """Returns the loss at `at` FLOPs by the law of smaller runs, with a 95 % interval over the runs of each size.

    The interval is Student's in the logarithm of the loss, with the standard deviation of a bootstrap that draws the
    runs of each size, whose spread it has multiplied by sqrt(n / (n - 1)) before; the percentiles of a bootstrap of so
    few runs are too narrow. Where a size has one run there is no bound.

    Args:
        flops: of the runs of each size.
        losses: of the runs of each size, one or more.
        at: FLOPs of the run that is predicted.
        resamples: of the bootstrap.
    """
    from scipy import stats

    draw = np.random.default_rng(_SEED)
    groups = [np.log(np.asarray(group, float)) for group in losses]
    repeated = np.repeat(flops, [len(group) for group in groups]).tolist()
    law = fit(repeated, np.exp(np.concatenate(groups)).tolist())
    if min(map(len, groups)) < 2:
        return Prediction(law, law(at), -math.inf, math.inf)
    freedom = sum(len(group) - 1 for group in groups)
    spread = [np.mean(one) + (one - np.mean(one)) * math.sqrt(len(one) / (len(one) - 1)) for one in groups]
    values = [
        math.log(fit(repeated, np.exp(np.concatenate([draw.choice(one, len(one)) for one in spread])).tolist())(at))
        for _ in range(resamples)
    ]
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * float(np.std(values, ddof=1))
    return Prediction(law, law(at), law(at) * math.exp(-half), law(at) * math.exp(half))
