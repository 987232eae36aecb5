"""Rotary position embedding (Su et al. 2021)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def rope_angles(positions: jax.Array, head_dim: int, base: float, dtype: jnp.dtype) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine of the angles position * base^(-2i/H).

    positions: [B T] int; dtype: of the activations. Returns two arrays [B T 1 H/2] in float32, or in float64 where
    `dtype` is: in bfloat16 positions above 256 would fall together.
    """
    wide = jnp.promote_types(dtype, jnp.float32)
    frequencies = base ** (-np.arange(0, head_dim, 2) / head_dim)  # in float64: position 8191 multiplies their error
    angles = positions[..., None, None].astype(wide) * jnp.asarray(frequencies, wide)
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: jax.Array, angles: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Turns the pairs (x_i, x_{i+H/2}) of x [B T N H] by the angles, as GPT-NeoX and Llama order them.

    The pairs turn in the angles' dtype, and the result is rounded once, to x's.
    """
    cos, sin = angles
    first, second = jnp.split(x.astype(cos.dtype), 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)
