"""Residual schemes: the place of the norm, and the scale of a branch at the start."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from flax import nnx

from mindllm_jax.model.config import Model
from mindllm_jax.shapes import FloatBTD


class Residual(NamedTuple):
    """Constants of a residual scheme for a decoder of L layers.

    alpha scales the stream before the branch is added; beta scales the initial value, output and feed-forward weights.
    """

    alpha: float
    beta: float
    norm_first: bool


def residual_scheme(config: Model) -> Residual:
    """Returns the scheme named by `config.residual`.

    `deepnorm` takes the constants of a decoder-only model, alpha = (2L)^(1/4) and beta = (8L)^(-1/4) (DeepNet, Wang et
    al. 2022, table 1); `post_norm` is the plain x <- norm(x + f(x)); `pre_norm` is x <- x + f(norm(x)) with branches
    started at 1/sqrt(2L), so that the variance of the stream does not grow with depth at the start (GPT-2).
    """
    layers = config.layers
    if config.residual == "deepnorm":
        return Residual((2 * layers) ** 0.25, (8 * layers) ** -0.25, norm_first=False)
    if config.residual == "post_norm":
        return Residual(1.0, 1.0, norm_first=False)
    return Residual(1.0, (2 * layers) ** -0.5, norm_first=True)


def add_branch(scheme: Residual, norm: nnx.Module, branch: Callable[[FloatBTD], FloatBTD], x: FloatBTD) -> FloatBTD:
    """Adds one branch (attention or feed-forward) to the residual stream x [B T D]."""
    if scheme.norm_first:
        return x + branch(norm(x))  # pyright: ignore[reportCallIssue]  nnx.Module declares no __call__
    return norm(scheme.alpha * x + branch(x))  # pyright: ignore[reportCallIssue]
