"""Which tiles of keys each tile of queries has to visit, for masks of any kind."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mindllm_jax.kernels.block_ranges import BLOCK, block_ranges
from mindllm_jax.kernels.flash_attention.problem import Masking, Settings


class Visits(NamedTuple):
    """Tile i of row b's queries meets keys in the tiles start[b, i] <= j < stop[b, i]; int32 [B, query tiles]."""

    start: jax.Array
    stop: jax.Array


def visits(
    masking: Masking, settings: Settings, *, batch: int, queries: tuple[int, int], keys: tuple[int, int]
) -> Visits:
    """Visits from what is known of the mask: causality, window, offset and documents.

    queries and keys: how many tiles, and positions in a tile: a multiple of BLOCK, or fewer where there is one tile.
    """
    (q_tiles, q_tile), (k_tiles, k_tile) = queries, keys
    # int32 also in 64-bit mode, where arange alone would give int64 and the bounds of loops would differ in type.
    first = masking.q_offset + jnp.arange(q_tiles, dtype=jnp.int32) * q_tile
    stop = jnp.full((batch, q_tiles), k_tiles, jnp.int32)
    start = jnp.zeros_like(stop)
    if settings.causal:
        stop = jnp.minimum(stop, (first + q_tile - 1) // k_tile + 1)
    if settings.window is not None:
        start = jnp.maximum(start, (first - settings.window + 1) // k_tile)
    if masking.q_segments is not None and masking.kv_segments is not None:
        ranges = masking.ranges or block_ranges((masking.q_segments, masking.kv_segments))
        blocks = max(1, q_tile // BLOCK)
        missing = ((0, 0), (0, q_tiles * blocks - ranges.start.shape[1]))
        nothing = k_tiles * k_tile // BLOCK + 1
        starts = jnp.pad(ranges.start, missing, constant_values=nothing).reshape(batch, q_tiles, blocks)
        stops = jnp.pad(ranges.stop, missing).reshape(batch, q_tiles, blocks)
        start = jnp.maximum(start, starts.min(-1) * BLOCK // k_tile)
        stop = jnp.minimum(stop, -(-stops.max(-1) * BLOCK // k_tile))
    return Visits(start, stop)
