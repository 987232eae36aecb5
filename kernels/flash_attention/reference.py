"""Attention by its formula, with the full [B N T S] matrix: the reference for the other implementations.

Vaswani et al. 2017, section 3.2.1. Scores, softmax and sums are float32 (float64 for float64 input); the two products
take their operands in the input's dtype, as in every implementation.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mindllm_jax.kernels.flash_attention.problem import Masking, Settings


def forward(
    q: jax.Array, k: jax.Array, v: jax.Array, masking: Masking, settings: Settings
) -> tuple[jax.Array, jax.Array]:
    """Returns the output [B T N H] in q's dtype and the log-sum-exp [B T N]."""
    batch, length, heads, head_dim = q.shape
    kv_heads = k.shape[2]
    wide = jnp.promote_types(q.dtype, jnp.float32)
    grouped = q.reshape(batch, length, kv_heads, heads // kv_heads, head_dim)
    scores = jnp.einsum("btkgh,bskh->bkgts", grouped, k, preferred_element_type=wide) * settings.scale
    if settings.logit_cap is not None:
        scores = settings.logit_cap * jnp.tanh(scores / settings.logit_cap)
    scores = jnp.where(_allowed(length, k.shape[1], masking, settings), scores, -jnp.inf)

    highest = jax.lax.stop_gradient(scores.max(-1, keepdims=True))
    exponentials = jnp.exp(scores - jnp.where(jnp.isfinite(highest), highest, 0))
    total = exponentials.sum(-1, keepdims=True)
    empty = total == 0
    total = jnp.where(empty, 1, total)  # before the division and the logarithm, so that their gradients stay finite
    lse = jnp.where(empty, -jnp.inf, jnp.log(total) + highest)
    weights = (exponentials / total).astype(v.dtype)
    out = jnp.einsum("bkgts,bskh->btkgh", weights, v, preferred_element_type=wide).astype(q.dtype)
    return out.reshape(q.shape), lse[..., 0].transpose(0, 3, 1, 2).reshape(batch, length, heads)


def backward(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    masking: Masking,
    settings: Settings,
    out: jax.Array,
    lse: jax.Array,
    d_out: jax.Array,
    d_lse: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the gradients of q, k and v, by automatic differentiation of `forward`."""
    del out, lse
    return jax.vjp(lambda q, k, v: forward(q, k, v, masking, settings), q, k, v)[1]((d_out, d_lse))


def _allowed(length: int, kv_length: int, masking: Masking, settings: Settings) -> jax.Array:
    """Returns the mask, broadcastable to [B 1 1 T S]; ranges only allow to skip, and nothing is skipped."""
    distance = masking.q_offset + jnp.arange(length)[:, None] - jnp.arange(kv_length)
    allowed = jnp.ones((1, 1, 1, length, kv_length), bool)
    if settings.causal:
        allowed &= distance >= 0
    if settings.window is not None:
        allowed &= distance < settings.window
    if masking.q_segments is not None and masking.kv_segments is not None:
        same = masking.q_segments[:, :, None] == masking.kv_segments[:, None, :]
        allowed &= (same & (masking.kv_segments != 0)[:, None, :])[:, None, None]
    return allowed
