"""Ranges of key tiles that each tile of queries visits, for every kind of mask."""

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
    """Returns the visits by the mask: causality, window, offset and documents.

    queries and keys: the number of tiles, and positions in a tile: a multiple or a divisor of BLOCK, or any smaller
    number for a single tile.
    """
    (q_tiles, q_tile), (k_tiles, k_tile) = queries, keys
    # int32 also in 64-bit mode, where arange returns int64 and the bounds of loops would differ in dtype.
    first = masking.q_offset + jnp.arange(q_tiles, dtype=jnp.int32) * q_tile
    stop = jnp.full((batch, q_tiles), k_tiles, jnp.int32)
    start = jnp.zeros_like(stop)
    if settings.causal:
        stop = jnp.minimum(stop, (first + q_tile - 1) // k_tile + 1)
    if settings.window is not None:
        start = jnp.maximum(start, (first - settings.window + 1) // k_tile)
    if masking.q_segments is not None and masking.kv_segments is not None:
        ranges = masking.ranges or block_ranges((masking.q_segments, masking.kv_segments))
        # A tile is several blocks, or a block several tiles.
        repeats, blocks = max(1, BLOCK // q_tile), max(1, q_tile // BLOCK)
        missing = ((0, 0), (0, max(0, q_tiles * blocks - ranges.start.shape[1] * repeats)))

        def of_tiles(of_blocks: jax.Array, fill: int) -> jax.Array:
            padded = jnp.pad(jnp.repeat(of_blocks, repeats, axis=1), missing, constant_values=fill)
            return padded[:, : q_tiles * blocks].reshape(batch, q_tiles, blocks)

        starts, stops = of_tiles(ranges.start, k_tiles * k_tile // BLOCK + 1), of_tiles(ranges.stop, 0)
        start = jnp.maximum(start, starts.min(-1) * BLOCK // k_tile)
        stop = jnp.minimum(stop, -(-stops.max(-1) * BLOCK // k_tile))
    return Visits(start, stop)


def bounds(meet: jax.Array, whole: jax.Array) -> jax.Array:
    """Returns the loop bounds of kernels with a separate loop for tiles that need no mask: int32 [B X 4].

    meet and whole [B X Y]: whether tile x of one side has to visit tile y of the other, and whether the mask allows all
    pairs of the two. A row of the result is start <= whole_start <= whole_stop <= stop: all tiles to visit lie between
    the first and the last, and all tiles from the second to the third are whole.
    """
    y = jnp.arange(meet.shape[-1], dtype=jnp.int32)
    last = jnp.int32(meet.shape[-1])
    stop = jnp.where(meet, y + 1, 0).max(-1)
    start = jnp.minimum(jnp.where(meet, y, last).min(-1), stop)
    whole &= meet
    whole_start = jnp.minimum(jnp.where(whole, y, last).min(-1), stop)
    whole_stop = jnp.minimum(jnp.where(~whole & (y > whole_start[..., None]), y, last).min(-1), stop)
    return jnp.stack([start, whole_start, whole_stop, stop], axis=-1)


def whole_tiles(
    masking: Masking,
    settings: Settings,
    *,
    batch: int,
    queries: tuple[int, int],
    keys: tuple[int, int],
    kv_length: int,
) -> jax.Array:
    """Returns whether the mask allows all pairs of two tiles: bool [B, query tiles, key tiles]."""
    (q_tiles, q_tile), (k_tiles, k_tile) = queries, keys
    first_query = (masking.q_offset + jnp.arange(q_tiles, dtype=jnp.int32) * q_tile)[:, None]
    first_key = jnp.arange(k_tiles, dtype=jnp.int32) * k_tile
    whole = jnp.broadcast_to(first_key + k_tile <= kv_length, (batch, q_tiles, k_tiles))
    if settings.causal:
        whole &= first_key + k_tile - 1 <= first_query
    if settings.window is not None:
        whole &= first_query + q_tile - 1 - first_key < settings.window
    if masking.q_segments is not None and masking.kv_segments is not None:
        q_ids = documents(masking.q_segments, q_tiles, q_tile, -1)
        whole &= q_ids[:, :, None] == documents(masking.kv_segments, k_tiles, k_tile, -2)[:, None]
    return whole


def documents(ids: jax.Array, tiles: int, tile: int, otherwise: int) -> jax.Array:
    """Returns the document of each tile that lies within one, `otherwise` for other tiles: [B tiles]."""
    ids = jnp.pad(ids, ((0, 0), (0, tiles * tile - ids.shape[1]))).reshape(ids.shape[0], tiles, tile)
    return jnp.where((ids == ids[:, :, :1]).all(-1) & (ids[:, :, 0] != 0), ids[:, :, 0], otherwise)
