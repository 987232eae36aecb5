"""Attention over tiles, in plain XLA: no [B N T S] buffer, and only the tiles that the masks leave.

Softmax in one pass over the keys with a running maximum (Milakov and Gimelshein 2018), tile by tile, and a backward
that recomputes the weights from the saved log-sum-exp (Dao et al. 2022, algorithms 1 and 4). Both directions are
three loops: groups of rows, tiles of queries, tiles of keys. The bounds of the innermost are data, so causal, windowed,
packed and offset masks cost what they leave. Sums run in a fixed order.

In the shapes below, R is the rows of a group, T and S are a tile's queries and keys, and G = N / K.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from mindllm_jax.kernels.block_ranges import BLOCK
from mindllm_jax.kernels.flash_attention.problem import (
    FORBIDDEN,
    LEAST_MAXIMUM,
    Masking,
    Settings,
    backward_statistics,
)
from mindllm_jax.kernels.flash_attention.visits import visits
from mindllm_jax.kernels.target import target


class Tile(NamedTuple):
    """The number of rows of the batch, queries and keys in a tile."""

    rows: int
    queries: int
    keys: int


class Group(NamedTuple):
    """A group of rows of the batch; all groups are stacked along a leading axis."""

    q: jax.Array  # [R, T of all tiles, K, G, H]
    k: jax.Array  # [R, S of all tiles, K, H]
    v: jax.Array
    q_segments: jax.Array | None
    kv_segments: jax.Array | None
    start: jax.Array  # for each tile of queries, the tiles of keys to visit: start <= j < stop
    stop: jax.Array


def tile_sizes(batch: int, heads: int, length: int, kv_length: int) -> Tile:
    """Returns a block of queries and one of keys, and the most rows whose scores fit in a CPU's cache.

    Rows of a group visit the same tiles, which costs more for longer packed rows: they get smaller groups. An
    accelerator gets longer tiles and more rows, because there the number of steps dominates.
    """
    scores, longest = (min(2**18, 2**27 // length), BLOCK) if target().platform == "cpu" else (2**25, 8 * BLOCK)
    queries, keys = min(length, BLOCK), min(kv_length, longest)
    limit = scores // (heads * queries * keys)
    rows = max(rows for rows in range(1, batch + 1) if batch % rows == 0 and rows <= max(1, limit))
    return Tile(rows, queries, keys)


def forward(
    q: jax.Array, k: jax.Array, v: jax.Array, masking: Masking, settings: Settings
) -> tuple[jax.Array, jax.Array]:
    """Returns the output [B T N H] in q's dtype and the log-sum-exp [B T N]."""
    batch, length, heads, head_dim = q.shape
    tile = tile_sizes(batch, heads, length, k.shape[1])
    wide = jnp.promote_types(q.dtype, jnp.float32)

    def of_group(group: Group) -> tuple[jax.Array, jax.Array]:
        def of_queries(i: jax.Array) -> tuple[jax.Array, jax.Array]:
            q_tile = _queries(group.q, i, tile)

            def add_keys(j: jax.Array, state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
                highest, total, out = state
                scores = _scores(q_tile, _keys(group.k, j, tile), settings)
                scores = jnp.where(_allowed(group, i, j, tile, masking.q_offset, settings), scores, FORBIDDEN)
                new_highest = jnp.maximum(highest, scores.max(-1))
                weights = jnp.exp(scores - new_highest[..., None])
                shrink = jnp.exp(highest - new_highest)
                v_tile = _keys(group.v, j, tile)
                more = jnp.einsum("rkgts,rksh->rkgth", weights.astype(v.dtype), v_tile, preferred_element_type=wide)
                return new_highest, total * shrink + weights.sum(-1), out * shrink[..., None] + more

            zeros = jnp.zeros(q_tile.shape[:-1], wide)
            state = (zeros + LEAST_MAXIMUM, zeros, jnp.zeros(q_tile.shape, wide))
            highest, total, out = lax.fori_loop(group.start[i], group.stop[i], add_keys, state)
            out = out / jnp.where(total == 0, 1, total)[..., None]
            lse = jnp.where(total == 0, -jnp.inf, highest + jnp.log(total))
            return _heads_last(out).astype(q.dtype), _heads_last(lse)

        out, lse = lax.map(of_queries, jnp.arange(group.start.shape[0]))
        return _join_tiles(out), _join_tiles(lse)

    out, lse = lax.map(of_group, _groups(q, k, v, masking, settings, tile))
    return out.reshape(batch, -1, heads, head_dim)[:, :length], lse.reshape(batch, -1, heads)[:, :length]


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
    """Returns the gradients of q, k and v."""
    batch, length, heads, head_dim = q.shape
    tile = tile_sizes(batch, heads, length, k.shape[1])
    wide = jnp.promote_types(q.dtype, jnp.float32)
    shift, lse = backward_statistics(out, lse, d_out, d_lse)

    groups = (
        _groups(q, k, v, masking, settings, tile),
        _query_groups(d_out, k.shape[2], tile),
        _query_groups(lse, k.shape[2], tile, fill=-LEAST_MAXIMUM),
        _query_groups(shift, k.shape[2], tile),
    )

    def of_group(args: tuple[Group, jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        group, d_outs, lses, shifts = args

        def of_queries(
            sums: tuple[jax.Array, jax.Array], i: jax.Array
        ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
            q_tile, d_out_tile = _queries(group.q, i, tile), _queries(d_outs, i, tile)
            lse_tile, shift_tile = _queries(lses, i, tile)[..., None], _queries(shifts, i, tile)[..., None]

            def add_keys(j: jax.Array, state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
                dq, dk, dv = state
                k_tile, v_tile = _keys(group.k, j, tile), _keys(group.v, j, tile)
                scores = _scores(q_tile, k_tile, settings)
                allowed = _allowed(group, i, j, tile, masking.q_offset, settings)
                weights = jnp.exp(jnp.where(allowed, scores, FORBIDDEN) - lse_tile)
                d_weights = jnp.einsum("rkgth,rksh->rkgts", d_out_tile, v_tile, preferred_element_type=wide)
                d_scores = weights * (d_weights + shift_tile)
                if settings.logit_cap is not None:
                    d_scores *= 1 - (scores / settings.logit_cap) ** 2
                weights, d_scores = weights.astype(q.dtype), d_scores.astype(q.dtype)
                dq += jnp.einsum("rkgts,rksh->rkgth", d_scores, k_tile, preferred_element_type=wide)
                dk = _add(dk, j, jnp.einsum("rkgth,rkgts->rkhs", q_tile, d_scores, preferred_element_type=wide), tile)
                dv = _add(
                    dv, j, jnp.einsum("rkgth,rkgts->rkhs", d_out_tile, weights, preferred_element_type=wide), tile
                )
                return dq, dk, dv

            state = (jnp.zeros(q_tile.shape, wide), *sums)
            dq, dk, dv = lax.fori_loop(group.start[i], group.stop[i], add_keys, state)
            return (dk, dv), _heads_last(dq * settings.scale).astype(q.dtype)

        zeros = jnp.zeros_like(group.k, wide).transpose(0, 2, 3, 1)
        (dk, dv), dq = lax.scan(of_queries, (zeros, zeros), jnp.arange(group.start.shape[0]))
        dk, dv = (dk * settings.scale).transpose(0, 3, 1, 2), dv.transpose(0, 3, 1, 2)
        return _join_tiles(dq), dk.astype(k.dtype), dv.astype(v.dtype)

    dq, dk, dv = lax.map(of_group, groups)
    return dq.reshape(batch, -1, heads, head_dim)[:, :length], dk.reshape(k.shape), dv.reshape(v.shape)


def _query_groups(x: jax.Array, kv_heads: int, tile: Tile, fill: float = 0) -> jax.Array:
    """Reshapes [B T N ...] to [B / R, R, T of all tiles, K, G, ...]."""
    batch, length, heads, *rest = x.shape
    padding = ((0, 0), (0, -length % tile.queries)) + ((0, 0),) * (x.ndim - 2)
    x = jnp.pad(x, padding, constant_values=fill)
    return x.reshape(batch // tile.rows, tile.rows, -1, kv_heads, heads // kv_heads, *rest)


def _groups(q: jax.Array, k: jax.Array, v: jax.Array, masking: Masking, settings: Settings, tile: Tile) -> Group:
    """Splits the batch into groups, with the tiles to visit."""
    batch, kv_length, kv_heads, _ = k.shape
    count = batch // tile.rows
    q = _query_groups(q, kv_heads, tile)
    tiles, key_tiles = q.shape[2] // tile.queries, -(-kv_length // tile.keys)
    visited = visits(masking, settings, batch=batch, queries=(tiles, tile.queries), keys=(key_tiles, tile.keys))
    start, stop = (x.reshape(count, tile.rows, tiles) for x in visited)
    start, stop = start.min(1), stop.max(1)

    q_segments, kv_segments = masking.q_segments, masking.kv_segments
    if q_segments is not None and kv_segments is not None:
        # Padding is -1 among the keys and 0 among the queries, which never match.
        kv_segments = jnp.where(kv_segments == 0, -1, kv_segments).reshape(count, tile.rows, -1)
        q_segments = jnp.pad(q_segments, ((0, 0), (0, -q_segments.shape[1] % tile.queries)))
        q_segments = q_segments.reshape(count, tile.rows, -1)

    k, v = (x.reshape(count, tile.rows, kv_length, kv_heads, -1) for x in (k, v))
    return Group(q, k, v, q_segments, kv_segments, start, stop)


def _queries(x: jax.Array, i: jax.Array, tile: Tile) -> jax.Array:
    """Returns tile i [R K G T ...] of [R, T of all tiles, K, G, ...]."""
    x = lax.dynamic_slice_in_dim(x, i * tile.queries, tile.queries, axis=1)
    return jnp.moveaxis(x, 1, 3)


def _keys(x: jax.Array, j: jax.Array, tile: Tile) -> jax.Array:
    """Returns tile j [R K S H] of [R, S of all tiles, K, H]; the last begins earlier if it would exceed the end."""
    x = lax.dynamic_slice_in_dim(x, j * tile.keys, tile.keys, axis=1)
    return jnp.moveaxis(x, 1, 2)


def _heads_last(x: jax.Array) -> jax.Array:
    """Moves the heads of [R K G T ...] back: [R T K G ...]."""
    return jnp.moveaxis(x, 3, 1)


def _add(total: jax.Array, j: jax.Array, part: jax.Array, tile: Tile) -> jax.Array:
    """Adds a part to tile j of [R, K, H, S of all tiles]."""
    old = lax.dynamic_slice_in_dim(total, j * tile.keys, tile.keys, axis=3)
    return lax.dynamic_update_slice_in_dim(total, old + part, j * tile.keys, axis=3)


def _join_tiles(tiles: jax.Array) -> jax.Array:
    """Concatenates the tiles [tiles, R, T, ...] to [R, T of all tiles, ...]."""
    tiles = jnp.moveaxis(tiles, 0, 1)
    return tiles.reshape(tiles.shape[0], -1, *tiles.shape[3:])


def _scores(q: jax.Array, k: jax.Array, settings: Settings) -> jax.Array:
    """Returns the scaled and capped products [R K G T S]."""
    wide = jnp.promote_types(q.dtype, jnp.float32)
    scores = jnp.einsum("rkgth,rksh->rkgts", q, k, preferred_element_type=wide) * settings.scale
    return scores if settings.logit_cap is None else settings.logit_cap * jnp.tanh(scores / settings.logit_cap)


def _allowed(
    group: Group, i: jax.Array, j: jax.Array, tile: Tile, q_offset: jax.Array, settings: Settings
) -> jax.Array:
    """Returns the mask of a tile, broadcastable to [R K G T S]."""
    kv_length = group.k.shape[1]
    query = q_offset + i * tile.queries + jnp.arange(tile.queries)[:, None]
    key = jnp.minimum(j * tile.keys, kv_length - tile.keys) + jnp.arange(tile.keys)
    allowed = jnp.ones((1, 1), bool)
    if kv_length % tile.keys:
        allowed &= key >= j * tile.keys  # the last tile skips the keys that it shares with the one before
    if settings.causal:
        allowed &= query >= key
    if settings.window is not None:
        allowed &= query - key < settings.window
    if group.q_segments is None or group.kv_segments is None:
        return allowed
    q_segments = lax.dynamic_slice_in_dim(group.q_segments, i * tile.queries, tile.queries, axis=1)
    kv_segments = lax.dynamic_slice_in_dim(group.kv_segments, j * tile.keys, tile.keys, axis=1)
    return (allowed & (q_segments[:, :, None] == kv_segments[:, None, :]))[:, None, None]
