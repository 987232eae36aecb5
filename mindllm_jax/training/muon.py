"""Muon (Jordan 2024): the momentum of a matrix, orthogonalised."""

from __future__ import annotations

import math
from typing import Any

import jax
import optax

UPDATE_RMS = 0.2
"""The root mean square of Adam's updates (Liu et al. 2025, arXiv 2502.16982, section 2.2). Muon's updates are scaled to
it, so that one learning rate serves both."""


def scale_by_muon(dimensions: Any, *, momentum: float, epsilon: float) -> optax.GradientTransformation:
    """Returns Muon's update rule for a tree of matrices, stacked along the axes that `dimensions` does not name.

    With gradient G at step t from 1: M <- momentum M + (1 - momentum) G, and Nesterov's look ahead
    U = momentum M / (1 - momentum^(t + 1)) + (1 - momentum) G / (1 - momentum^t). U divided by its Frobenius norm +
    epsilon goes through five Newton-Schulz steps, X <- 3.4445 X - 4.7750 (X X^T) X + 2.0315 (X X^T)^2 X, and is
    multiplied by UPDATE_RMS sqrt(max(rows, columns)).

    dimensions: `optax.contrib.MuonDimensionNumbers` of each matrix [rows, columns], and `optax.MaskedNode()` for other
    parameters.
    """

    def rescale(updates: Any, _: Any) -> Any:
        return jax.tree.map(_rescale, updates, dimensions)

    return optax.chain(
        optax.contrib.scale_by_muon(beta=momentum, eps=epsilon, weight_dimension_numbers=dimensions),
        optax.stateless(rescale),
    )


def _rescale(update: jax.Array, axes: optax.contrib.MuonDimensionNumbers) -> jax.Array:
    rows, columns = (math.prod(update.shape[axis] for axis in side) for side in axes)  # pyright: ignore
    return update * (UPDATE_RMS * math.sqrt(max(rows, columns)))
