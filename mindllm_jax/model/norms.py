"""Normalisation over the width, computed in float32.

A norm maps [... D] to [... D] in the dtype of its input; its statistics are float32 (float64 for float64 parameters).
Its parameters have `decay=False`: weight decay leaves them out.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from mindllm_jax.model.config import Model


class RMSNorm(nnx.Module):
    """RMSNorm over the last axis, with a learned scale (Zhang and Sennrich 2019)."""

    def __init__(self, config: Model):
        self.scale = nnx.Param(jnp.ones((config.width,), config.param_dtype), axes=("norm",), decay=False)
        self.epsilon = config.norm_epsilon

    def __call__(self, x: jax.Array) -> jax.Array:
        return _rms(x, self.scale[...], self.epsilon)


class LayerNorm(nnx.Module):
    """LayerNorm over the last axis, with a learned scale and bias (Ba et al. 2016)."""

    def __init__(self, config: Model):
        self.scale = nnx.Param(jnp.ones((config.width,), config.param_dtype), axes=("norm",), decay=False)
        self.bias = nnx.Param(jnp.zeros((config.width,), config.param_dtype), axes=("norm",), decay=False)
        self.epsilon = config.norm_epsilon

    def __call__(self, x: jax.Array) -> jax.Array:
        return _layer(x, self.scale[...], self.bias[...], self.epsilon)


NORMS = {"rmsnorm": RMSNorm, "layernorm": LayerNorm}
"""Norms by their name in `Model.norm`."""


# Their backward passes keep the input alone and recompute the statistics.
@partial(jax.checkpoint, static_argnums=2)
def _rms(x: jax.Array, scale: jax.Array, epsilon: float) -> jax.Array:
    wide = x.astype(scale.dtype)
    wide = wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + epsilon) * scale
    return wide.astype(x.dtype)


@partial(jax.checkpoint, static_argnums=3)
def _layer(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> jax.Array:
    wide = x.astype(scale.dtype)
    wide = wide - jnp.mean(wide, axis=-1, keepdims=True)
    wide = wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + epsilon) * scale
    return (wide + bias).astype(x.dtype)
