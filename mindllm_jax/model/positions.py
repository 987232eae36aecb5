"""Rotary position embedding (Su et al. 2021)."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def rope_angles(positions: jax.Array, head_dim: int, base: float, dtype: jnp.dtype) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine of the angles position * base^(-2i/H).

    positions: [B T] int. Returns two arrays [B T 1 H/2]; the angles are formed in float32 (float64 for float64),
    because in bfloat16 positions above 256 would fall together.
    """
    wide = jnp.promote_types(dtype, jnp.float32)
    frequencies = base ** (-jnp.arange(0, head_dim, 2, dtype=wide) / head_dim)
    angles = positions[..., None, None].astype(wide) * frequencies
    return jnp.cos(angles).astype(dtype), jnp.sin(angles).astype(dtype)


def rotate(x: jax.Array, angles: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Turns the pairs (x_i, x_{i+H/2}) of x [B T N H] by the angles, as GPT-NeoX and Llama order them."""
    cos, sin = angles
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
