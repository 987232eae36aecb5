"""Rotary position embedding (Su et al. 2021)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from mindllm_jax.shapes import FloatBTNH, IntBT

Angles = tuple[jax.Array, jax.Array]
"""Cosine and sine, [B T 1 H/2] each."""


def rope_angles(positions: IntBT, head_dim: int, theta: float, dtype: jnp.dtype) -> Angles:
    """Returns cosine and sine of the angles position * theta^(-2i/H), [B T 1 H/2] each.

    They are float32, or float64 where `dtype`, that of the activations, is: bfloat16 would merge positions above 256.
    """
    wide = jnp.promote_types(dtype, jnp.float32)
    frequencies = theta ** (-np.arange(0, head_dim, 2) / head_dim)  # in float64: position 8191 multiplies their error
    angles = positions[..., None, None].astype(wide) * jnp.asarray(frequencies, wide)
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: FloatBTNH, angles: Angles) -> FloatBTNH:
    """Rotates the pairs (x_i, x_{i+H/2}) of x [B T N H] by the angles, in the order of GPT-NeoX and Llama.

    The rotation is computed in the angles' dtype and rounded once, to x's.
    """
    cos, sin = angles
    first, second = jnp.split(x.astype(cos.dtype), 2, axis=-1)
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x.dtype)
