"""Ranges of key blocks that each block of queries visits when documents are packed into rows."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

BLOCK = 128
"""Positions in a block of queries or keys; the tiles of implementations are multiples of it."""

SegmentIds = jax.Array | tuple[jax.Array, jax.Array]
"""int32 ids of documents, [B T] for queries and keys alike or a pair ([B T], [B S]); 0 is padding."""


class BlockRanges(NamedTuple):
    """Block i of row b's queries meets its own documents only in key blocks start[b, i] <= j < stop[b, i].

    int32 [B, ceil(T / BLOCK)]; start > stop where there is no such block. Blocks outside the range may be skipped;
    inside a visited block the segment ids still mask.
    """

    start: jax.Array
    stop: jax.Array


def block_ranges(segment_ids: SegmentIds) -> BlockRanges:
    """Returns the ranges of a batch, which all layers share, forward and backward.

    They contain every pair of equal non-zero ids. Where ids grow along a row, as after packing, they contain no block
    without such a pair.
    """
    q_ids, kv_ids = segment_ids if isinstance(segment_ids, tuple) else (segment_ids, segment_ids)
    q_low, q_high = _extent(q_ids)
    kv_low, kv_high = _extent(kv_ids)
    # Two blocks can share an id only if the intervals of their ids overlap.
    overlap = (q_low[:, :, None] <= kv_high[:, None, :]) & (kv_low[:, None, :] <= q_high[:, :, None])
    blocks = jnp.arange(overlap.shape[-1], dtype=jnp.int32)
    return BlockRanges(
        start=jnp.where(overlap, blocks, overlap.shape[-1]).min(-1),
        stop=jnp.where(overlap, blocks + 1, 0).max(-1),
    )


def _extent(ids: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the lowest and highest id of each block [B, blocks]; a block of padding has low > high."""
    batch, length = ids.shape
    ids = jnp.pad(ids, ((0, 0), (0, -length % BLOCK))).reshape(batch, -1, BLOCK)
    return jnp.where(ids == 0, jnp.iinfo(ids.dtype).max, ids).min(-1), ids.max(-1)
