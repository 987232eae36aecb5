"""Attention of one new token per row to those in the cache.

The cache is read in blocks of slots, up to the longest row: reading all of it at once copies what no row has filled,
and moves every block through memory several times.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mindllm_jax.model.cache import LayerCache, Rows
from mindllm_jax.shapes import FloatBTNH

BLOCK = 256
"""Slots that are read at a time. A CPU keeps the scores of a block in its cache; more blocks make more steps."""

FORBIDDEN = -1e30


def attend_to_cached(
    query: FloatBTNH, cache: LayerCache, layer: jax.Array, rows: Rows, *, scale: float | None
) -> FloatBTNH:
    """Returns softmax attention [b 1 N H] of queries [b 1 N H] to all tokens of their rows, themselves included.

    The order of the slots does not matter: a ring holds what a query may see. Scores and sums are float32 (float64 for
    float64). The output of a row without a new token means nothing.

    Args:
        query: of the newest token of each row.
        cache: with the newest tokens.
        layer: the index of the layer in the cache.
        rows: as they were before the newest tokens.
        scale: factor of the scores; None: H ** -0.5.
    """
    batch, _, heads, head_dim = query.shape
    wide = jnp.promote_types(query.dtype, jnp.float32)
    key_heads, size = cache.keys.shape[2], min(BLOCK, cache.slots)
    grouped = query.reshape(batch, key_heads, heads // key_heads, head_dim)
    factor = head_dim**-0.5 if scale is None else scale
    filled = (rows.lengths + rows.counts)[:, None, None, None]

    def add_block(block: jax.Array, sums: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        highest, total, out = sums
        start = jnp.minimum(block * size, cache.slots - size)  # the last block may begin in the one before
        keys, values = cache.read_slots(layer, rows, start, size)
        slots = start + jnp.arange(size)
        scores = jnp.einsum("bkgh,bksh->bkgs", grouped, keys, preferred_element_type=wide) * factor
        scores = jnp.where((slots >= block * size) & (slots < filled), scores, FORBIDDEN)
        new_highest = jnp.maximum(highest, scores.max(-1, keepdims=True))
        weights, shrink = jnp.exp(scores - new_highest), jnp.exp(highest - new_highest)
        more = jnp.einsum("bkgs,bksh->bkgh", weights.astype(values.dtype), values, preferred_element_type=wide)
        return new_highest, total * shrink + weights.sum(-1, keepdims=True), out * shrink + more

    zeros = jnp.zeros((*grouped.shape[:-1], 1), wide)
    longest = jnp.clip(rows.start + 1, 1, cache.slots)
    blocks = (longest + size - 1) // size
    _, total, out = jax.lax.fori_loop(0, blocks, add_block, (zeros + FORBIDDEN, zeros, jnp.zeros(grouped.shape, wide)))
    return (out / total).astype(query.dtype).reshape(query.shape)
