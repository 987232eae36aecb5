"""Normalisation over the width, computed in float32."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from mindllm_jax.model.config import Model


class Norm(nnx.Module):
    """RMSNorm (Zhang and Sennrich 2019) or LayerNorm over the last axis, with a learned scale (and bias).

    Maps [... D] to [... D] in the dtype of its input; the statistics are float32 (float64 for float64 parameters).
    """

    def __init__(self, config: Model):
        self.scale = nnx.Param(jnp.ones((config.width,), config.param_dtype), axes=("norm",))
        is_layernorm = config.norm == "layernorm"
        self.bias = nnx.Param(jnp.zeros((config.width,), config.param_dtype), axes=("norm",)) if is_layernorm else None
        self.epsilon = config.norm_epsilon

    def __call__(self, x: jax.Array) -> jax.Array:
        return _normalised(x, self.scale[...], None if self.bias is None else self.bias[...], self.epsilon)


# The backward pass keeps the input alone and computes the statistics again.
@partial(jax.checkpoint, static_argnums=3)
def _normalised(x: jax.Array, scale: jax.Array, bias: jax.Array | None, epsilon: float) -> jax.Array:
    wide = x.astype(scale.dtype)
    if bias is not None:
        wide = wide - jnp.mean(wide, axis=-1, keepdims=True)
    wide = wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + epsilon) * scale
    return (wide if bias is None else wide + bias).astype(x.dtype)
