"""Residual schemes: the place of the norm, and the scale of a branch at the start."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from flax import nnx

from mindllm_jax.model.config import Model
from mindllm_jax.shapes import FloatBTD


class Residual(NamedTuple):
    """Constants of a residual scheme for a decoder of L layers.

    alpha scales the stream before the branch is added. A branch has two matrices in a row that are scaled at the start,
    each in units of Glorot's: `inner` is the gain of the value and up projections, `outer` that of out and down.
    """

    alpha: float
    inner: float
    outer: float
    norm_first: bool


def residual_scheme(config: Model) -> Residual:
    """Returns the scheme named by `config.residual`.

    `deepnorm` takes the constants of a decoder-only model, alpha = (2L)^(1/4) and beta = (8L)^(-1/4) for both matrices
    (DeepNet, Wang et al. 2022, table 1); `post_norm` is the plain x <- norm(x + f(x)); `pre_norm` is x <- x +
    f(norm(x)) with the projections into the stream started at 1/sqrt(2L), so that the variance of the stream does not
    grow with depth at the start (GPT-2).
    """
    branches = 2 * config.layers
    if config.residual == "deepnorm":
        beta = (4 * branches) ** -0.25
        return Residual(branches**0.25, beta, beta, norm_first=False)
    if config.residual == "post_norm":
        return Residual(1.0, 1.0, 1.0, norm_first=False)
    return Residual(1.0, 1.0, branches**-0.5, norm_first=True)


def add_branch(scheme: Residual, norm: nnx.Module, branch: Callable[[FloatBTD], FloatBTD], x: FloatBTD) -> FloatBTD:
    """Adds one branch (attention or feed-forward) to the residual stream x [B T D]."""
    if scheme.norm_first:
        return x + branch(norm(x))  # pyright: ignore[reportCallIssue]  nnx.Module declares no __call__
    return norm(scheme.alpha * x + branch(x))  # pyright: ignore[reportCallIssue]
