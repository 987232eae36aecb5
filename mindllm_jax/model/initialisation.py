"""Initial values of weight matrices, with their logical axis names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from mindllm_jax.model.config import Bias, Model

EMBEDDING_STDDEV = 0.02


def matrix(
    config: Model, rngs: nnx.Rngs, axes: Sequence[str], shape: Sequence[int], *, inputs: int, gain: float = 1.0
) -> nnx.Param[jax.Array]:
    """Returns a weight with Xavier-normal values times `gain`; the first `inputs` axes of `shape` are contracted.

    The standard deviation is gain * sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010), as DeepNorm asks for.
    """
    fan_in, fan_out = math.prod(shape[:inputs]), math.prod(shape[inputs:])
    stddev = gain * math.sqrt(2 / (fan_in + fan_out))
    return normal(config, rngs, axes, shape, stddev=stddev, inputs=inputs)


def normal(
    config: Model, rngs: nnx.Rngs, axes: Sequence[str], shape: Sequence[int], *, stddev: float, **metadata: Any
) -> nnx.Param[jax.Array]:
    """Returns a weight with normal values of the given standard deviation. axes: logical names, one per axis."""
    values = stddev * jax.random.normal(rngs.params(), shape, config.param_dtype)
    return nnx.Param(values, axes=tuple(axes), **metadata)


def bias(config: Model, kind: Bias, axes: Sequence[str], shape: Sequence[int]) -> nnx.Param[jax.Array] | None:
    """Returns a bias of zeros, without weight decay, or None where `Model.biases` lacks its kind."""
    if kind not in config.biases:
        return None
    return nnx.Param(jnp.zeros(shape, config.param_dtype), axes=tuple(axes), decay=False)
