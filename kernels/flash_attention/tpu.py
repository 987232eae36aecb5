"""Attention on TPU: Pallas kernels that visit only the tiles that the masks leave.

The keys and values of a row (or a long span of it) stay in VMEM while all tiles of queries pass over them, so the loop
over tiles of keys is inside the kernel, with bounds that are data, passed by scalar prefetch: a skipped tile costs
nothing, and the cost is that of the visited tiles. Tiles that need no mask are computed without one.

Forward: softmax in one pass with a running maximum (Dao et al. 2022, algorithm 1), exponentials to the base 2.
Backward: one kernel for all three gradients, five products a tile. It works on transposed scores [S T], so that the
log-sum-exp is a row and three of the five products need no transpose; the gradients of keys and values are summed in
VMEM in float32 over the queries, and each of several spans returns its part of the queries' gradient. Sums run in a
fixed order, without atomics.

In the shapes below, T and S are the queries and keys of a tile.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from mindllm_jax.kernels.flash_attention.problem import (
    FORBIDDEN,
    LEAST_MAXIMUM,
    Masking,
    Settings,
    backward_statistics,
)
from mindllm_jax.kernels.flash_attention.tpu_tiles import Tile, tile_sizes, vmem
from mindllm_jax.kernels.flash_attention.visits import documents, visits

LANES = 128
LOG2_E = math.log2(math.e)
NT = (((1,), (1,)), ((), ()))  # contracts the last axes of both: a product with a transposed right side
TN = (((0,), (0,)), ((), ()))


class Shape(NamedTuple):
    """The sizes of one call, and its tile."""

    batch: int
    heads: int
    kv_heads: int
    head_dim: int
    keys: int  # without padding
    q_tiles: int
    k_tiles: int
    spans: int
    tile: Tile

    @property
    def group(self) -> int:
        """Query heads per key-value head."""
        return self.heads // self.kv_heads


class Scalars(NamedTuple):
    """The arrays that are prefetched into scalar memory."""

    offset: Any  # [1]
    start: Any  # [B, query tiles]: tiles of keys to visit
    stop: Any
    q_document: Any  # [B, query tiles]: the document of a tile that lies in one, or -1; None without segments
    k_document: Any  # [B, key tiles], or -2


def forward(
    q: jax.Array, k: jax.Array, v: jax.Array, masking: Masking, settings: Settings
) -> tuple[jax.Array, jax.Array]:
    """Returns the output [B T N H] in q's dtype and the log-sum-exp [B T N]."""
    shape = _shape(q, k, tile_sizes("forward", q.dtype, q.shape, k.shape))
    tile, dims, length = shape.tile, shape.head_dim, q.shape[1]
    scalars, segments = _masks(masking, settings, shape)

    def keys_block(b: Any, n: Any, i: Any, span: Any, scalars: Scalars) -> tuple[Any, ...]:
        # A span that is not visited is not fetched: the index stays at a neighbouring one.
        tiles = tile.span // tile.keys
        last = jnp.maximum(scalars.stop[b, i] - 1, 0) // tiles
        return b, n // shape.group, jnp.clip(span, jnp.minimum(scalars.start[b, i] // tiles, last), last), 0

    def segment_block(b: Any, n: Any, i: Any, span: Any, scalars: Scalars) -> tuple[Any, ...]:
        return b, 0, keys_block(b, n, i, span, scalars)[2]

    blocks = {
        "q": _Block((1, 1, tile.queries, dims), lambda b, n, i, span, _: (b, n, i, 0)),
        "k": _Block((1, 1, tile.span, dims), keys_block),
        "q_segments": _Block((1, 1, tile.queries), lambda b, n, i, span, _: (b, 0, i)),
        "k_segments": _Block((1, 1, tile.span), segment_block),
        "row": _Block((1, 1, 1, tile.queries), lambda b, n, i, span, _: (b, n, 0, i)),
    }
    padded = shape.q_tiles * tile.queries
    out, lse = _call(
        partial(_forward_kernel, shape, settings),
        scalars,
        [_heads_first(q, padded), *(_heads_first(x, shape.k_tiles * tile.keys) for x in (k, v)), *segments],
        grid=(shape.batch, shape.heads, shape.q_tiles, shape.spans),
        semantics=("parallel", "parallel", "parallel", "arbitrary"),
        in_blocks=[blocks["q"], blocks["k"], blocks["k"], blocks["q_segments"], blocks["k_segments"]],
        out_blocks=[blocks["q"], blocks["row"]],
        out_shapes=[
            jax.ShapeDtypeStruct((shape.batch, shape.heads, padded, dims), q.dtype),
            jax.ShapeDtypeStruct((shape.batch, shape.heads, 1, padded), jnp.float32),
        ],
        scratch=[(tile.queries, LANES), (tile.queries, LANES), (tile.queries, dims)],
        cost=_cost(shape, products=2, arrays=4, dtype=q.dtype),
        name="flash_attention_forward",
    )
    return out.transpose(0, 2, 1, 3)[:, :length], lse[:, :, 0, :length].transpose(0, 2, 1)


def _forward_kernel(shape: Shape, settings: Settings, scalars: Scalars, *refs: Any) -> None:
    q_ref, k_ref, v_ref, *segments, out_ref, lse_ref, highest_ref, total_ref, sum_ref = refs
    tile = shape.tile
    b, i, span = pl.program_id(0), pl.program_id(2), pl.program_id(3)

    @pl.when(span == 0)
    def _() -> None:
        highest_ref[...] = jnp.full_like(highest_ref, LEAST_MAXIMUM)
        total_ref[...] = jnp.zeros_like(total_ref)
        sum_ref[...] = jnp.zeros_like(sum_ref)

    def add_keys(j: jax.Array, keys: Any, masked: bool) -> None:
        scores = _product(q_ref[0, 0], k_ref[0, 0, keys], NT) * _base(settings)
        scores = _capped(scores, settings)
        if masked:
            allowed = _allowed(shape, settings, scalars, i, j, transposed=False)
            if segments:
                allowed &= _column(segments[0][0]) == segments[1][0, :, keys]
            scores = jnp.where(allowed, scores, FORBIDDEN)
        # Statistics of a query fill a row of lanes: copies of the maximum, and parts of the total, added up at the end.
        # Reductions and broadcasts across lanes would otherwise dominate the forward pass.
        before = highest_ref[...]
        highest = jnp.maximum(before, scores.max(axis=1, keepdims=True))
        weights = jnp.exp2(scores - _across(highest, tile.keys))
        shrink = jnp.exp2(before - highest)
        highest_ref[...] = highest
        total_ref[...] = total_ref[...] * shrink + sum(
            weights[:, lane : lane + LANES] for lane in range(0, tile.keys, LANES)
        )
        values = v_ref[0, 0, keys]
        sum_ref[...] = sum_ref[...] * _across(shrink, shape.head_dim) + _product(weights.astype(values.dtype), values)

    _for_each_visit(shape, settings, scalars, b, i, span, add_keys)

    @pl.when(span == shape.spans - 1)
    def _() -> None:
        total = jnp.broadcast_to(total_ref[...].sum(axis=1, keepdims=True), total_ref.shape)
        empty = total == 0
        total = jnp.where(empty, 1.0, total)
        out_ref[0, 0] = (sum_ref[...] / _across(total, shape.head_dim)).astype(out_ref.dtype)
        lse = jnp.where(empty, -jnp.inf, highest_ref[...] / LOG2_E + jnp.log(total))
        lse_ref[0, 0] = lse.T[:1, : tile.queries]


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
    shape = _shape(q, k, tile_sizes("backward", q.dtype, q.shape, k.shape))
    tile, dims, length = shape.tile, shape.head_dim, q.shape[1]
    scalars, segments = _masks(masking, settings, shape)
    shift, lse = backward_statistics(out, lse, d_out, d_lse)
    lse *= LOG2_E  # exponentials are to the base 2

    def head(k: Any, g: Any) -> Any:
        return k * shape.group + g

    blocks = {
        "q": _Block((1, 1, tile.queries, dims), lambda b, k, span, g, i, _: (b, head(k, g), i, 0)),
        "k": _Block((1, 1, tile.span, dims), lambda b, k, span, g, i, _: (b, k, span, 0)),
        "row": _Block((1, 1, 1, tile.queries), lambda b, k, span, g, i, _: (b, head(k, g), 0, i)),
        "q_segments": _Block((1, 1, tile.queries), lambda b, k, span, g, i, _: (b, 0, i)),
        "k_segments": _Block((1, 1, tile.span), lambda b, k, span, g, i, _: (b, 0, span)),
        "part": _Block((1, 1, 1, tile.queries, dims), lambda b, k, span, g, i, _: (span, b, head(k, g), i, 0)),
    }
    padded, kv_padded = shape.q_tiles * tile.queries, shape.k_tiles * tile.keys
    kv_shape = jax.ShapeDtypeStruct((shape.batch, shape.kv_heads, kv_padded, dims), k.dtype)
    part_dtype = q.dtype if shape.spans == 1 else jnp.float32
    parts, dk, dv = _call(
        partial(_backward_kernel, shape, settings),
        scalars,
        [
            *(_heads_first(x, padded) for x in (q, d_out)),
            *(_heads_first(x, kv_padded) for x in (k, v)),
            *(_rows_first(x, padded) for x in (lse, shift)),
            *segments,
        ],
        grid=(shape.batch, shape.kv_heads, shape.spans, shape.group, shape.q_tiles),
        semantics=("parallel", "parallel", "arbitrary", "arbitrary", "arbitrary"),
        in_blocks=[blocks[x] for x in ("q", "q", "k", "k", "row", "row", "q_segments", "k_segments")],
        out_blocks=[blocks["part"], blocks["k"], blocks["k"]],
        out_shapes=[
            jax.ShapeDtypeStruct((shape.spans, shape.batch, shape.heads, padded, dims), part_dtype),
            kv_shape,
            kv_shape,
        ],
        scratch=[(tile.queries, dims), (tile.span, dims), (tile.span, dims)],
        cost=_cost(shape, products=5, arrays=8, dtype=q.dtype),
        name="flash_attention_backward",
    )
    dq = parts[0] if shape.spans == 1 else parts.sum(0).astype(q.dtype)
    dq, dk, dv = (x.transpose(0, 2, 1, 3) for x in (dq, dk, dv))
    return dq[:, :length], dk[:, : k.shape[1]], dv[:, : k.shape[1]]


def _backward_kernel(shape: Shape, settings: Settings, scalars: Scalars, *refs: Any) -> None:
    q_ref, d_out_ref, k_ref, v_ref, lse_ref, shift_ref, *segments = refs[:-6]
    dq_ref, dk_ref, dv_ref, dq_sum, dk_sum, dv_sum = refs[-6:]
    b, span, g, i = pl.program_id(0), pl.program_id(2), pl.program_id(3), pl.program_id(4)

    @pl.when((g == 0) & (i == 0))
    def _() -> None:
        dk_sum[...] = jnp.zeros_like(dk_sum)
        dv_sum[...] = jnp.zeros_like(dv_sum)

    dq_sum[...] = jnp.zeros_like(dq_sum)

    def add_keys(j: jax.Array, keys: Any, masked: bool) -> None:
        q, d_out, k = q_ref[0, 0], d_out_ref[0, 0], k_ref[0, 0, keys]
        scores = _capped(_product(k, q, NT) * _base(settings), settings)
        d_weights = _product(v_ref[0, 0, keys], d_out, NT)
        weights = jnp.exp2(scores - lse_ref[0, 0])
        if masked:
            allowed = _allowed(shape, settings, scalars, i, j, transposed=True)
            if segments:
                allowed &= _column(segments[1][0, :, keys]) == segments[0][0]
            weights = jnp.where(allowed, weights, 0.0)
        d_scores = weights * (d_weights + shift_ref[0, 0])
        if settings.logit_cap is not None:
            d_scores *= 1 - (scores / (settings.logit_cap * LOG2_E)) ** 2
        weights, d_scores = weights.astype(q.dtype), d_scores.astype(q.dtype)
        dv_sum[keys] += _product(weights, d_out)
        dk_sum[keys] += _product(d_scores, q)
        dq_sum[...] += _product(d_scores, k, TN)

    _for_each_visit(shape, settings, scalars, b, i, span, add_keys)
    dq_ref[0, 0, 0] = (dq_sum[...] * settings.scale).astype(dq_ref.dtype)

    @pl.when((g == shape.group - 1) & (i == shape.q_tiles - 1))
    def _() -> None:
        dk_ref[0, 0] = (dk_sum[...] * settings.scale).astype(dk_ref.dtype)
        dv_ref[0, 0] = dv_sum[...].astype(dv_ref.dtype)


def _for_each_visit(
    shape: Shape,
    settings: Settings,
    scalars: Scalars,
    b: jax.Array,
    i: jax.Array,
    span: jax.Array,
    add_keys: Callable[[jax.Array, Any, bool], None],
) -> None:
    """Calls `add_keys(tile of keys, its slice of the span, whether a mask is needed)` for the tiles to visit."""
    tile = shape.tile
    tiles = tile.span // tile.keys

    def visit(j: jax.Array, _: None) -> None:
        keys = pl.ds(pl.multiple_of((j - span * tiles) * tile.keys, tile.keys), tile.keys)
        whole = _without_mask(shape, settings, scalars, b, i, j)
        pl.when(whole)(lambda: add_keys(j, keys, masked=False))
        pl.when(jnp.logical_not(whole))(lambda: add_keys(j, keys, masked=True))

    start = jnp.maximum(scalars.start[b, i], span * tiles)
    stop = jnp.minimum(scalars.stop[b, i], (span + 1) * tiles)
    lax.fori_loop(start, stop, visit, None)


def _without_mask(
    shape: Shape, settings: Settings, scalars: Scalars, b: jax.Array, i: jax.Array, j: jax.Array
) -> jax.Array:
    """Returns whether the mask allows all pairs of query tile i and key tile j."""
    tile = shape.tile
    first_query, first_key = scalars.offset[0] + i * tile.queries, j * tile.keys
    whole = first_key + tile.keys <= shape.keys
    if settings.causal:
        whole &= first_key + tile.keys - 1 <= first_query
    if settings.window is not None:
        whole &= first_query + tile.queries - 1 - first_key < settings.window
    if scalars.q_document is not None:
        whole &= scalars.q_document[b, i] == scalars.k_document[b, j]
    return whole


def _allowed(
    shape: Shape, settings: Settings, scalars: Scalars, i: jax.Array, j: jax.Array, *, transposed: bool
) -> jax.Array:
    """Returns the mask of a tile without documents: [T S], or [S T]."""
    tile = shape.tile
    size, q_axis, k_axis = ((tile.keys, tile.queries), 1, 0) if transposed else ((tile.queries, tile.keys), 0, 1)
    key = j * tile.keys + lax.broadcasted_iota(jnp.int32, size, k_axis)
    distance = scalars.offset[0] + i * tile.queries + lax.broadcasted_iota(jnp.int32, size, q_axis) - key
    allowed = key < shape.keys
    if settings.causal:
        allowed &= distance >= 0
    if settings.window is not None:
        allowed &= distance < settings.window
    return allowed


def _product(x: jax.Array, y: jax.Array, dimensions: Any = (((1,), (0,)), ((), ()))) -> jax.Array:
    # Float32 means float32: by default the matrix unit would round its operands to bfloat16.
    precision = lax.Precision.HIGHEST if x.dtype == jnp.float32 else None
    return lax.dot_general(x, y, dimensions, precision=precision, preferred_element_type=jnp.float32)


def _base(settings: Settings) -> float:
    """Returns the factor on the products: to the base 2 without a cap, else that inside the cap's tanh."""
    return settings.scale * LOG2_E if settings.logit_cap is None else settings.scale / settings.logit_cap


def _capped(scores: jax.Array, settings: Settings) -> jax.Array:
    return scores if settings.logit_cap is None else settings.logit_cap * LOG2_E * jnp.tanh(scores)


def _across(x: jax.Array, width: int) -> jax.Array:
    """Broadcasts [n, LANES] with equal lanes to [n, width]."""
    return jnp.concatenate([x] * -(-width // LANES), axis=1)[:, :width]


def _column(row: jax.Array) -> jax.Array:
    """Transposes [1, n] to [n, 1]."""
    return jnp.broadcast_to(row, (LANES, row.shape[1])).T[:, :1]


def _shape(q: jax.Array, k: jax.Array, tile: Tile) -> Shape:
    batch, length, heads, head_dim = q.shape
    spans = -(-k.shape[1] // tile.span)
    k_tiles = spans * (tile.span // tile.keys)
    return Shape(batch, heads, k.shape[2], head_dim, k.shape[1], -(-length // tile.queries), k_tiles, spans, tile)


def _masks(masking: Masking, settings: Settings, shape: Shape) -> tuple[Scalars, list[jax.Array]]:
    """Returns the scalars, and the segment ids [B 1 T] and [B 1 S] of the padded rows, or none."""
    tile = shape.tile
    visited = visits(
        masking,
        settings,
        batch=shape.batch,
        queries=(shape.q_tiles, tile.queries),
        keys=(shape.k_tiles, tile.keys),
    )
    offset = masking.q_offset.reshape(1)
    if masking.q_segments is None or masking.kv_segments is None:
        return Scalars(offset, *visited, None, None), []

    def padded(ids: jax.Array, tiles: int, size: int) -> jax.Array:
        return jnp.pad(ids, ((0, 0), (0, tiles * size - ids.shape[1])))

    q_ids = padded(masking.q_segments, shape.q_tiles, tile.queries)
    kv_ids = padded(masking.kv_segments, shape.k_tiles, tile.keys)
    q_documents = documents(q_ids, shape.q_tiles, tile.queries, -1)
    scalars = Scalars(offset, *visited, q_documents, documents(kv_ids, shape.k_tiles, tile.keys, -2))
    # Padding is -1 among the keys and 0 among the queries, which never match.
    return scalars, [q_ids[:, None], jnp.where(kv_ids == 0, -1, kv_ids)[:, None]]


def _heads_first(x: jax.Array, length: int) -> jax.Array:
    """Pads and transposes [B T N H] to [B N `length` H]."""
    return jnp.pad(x, ((0, 0), (0, length - x.shape[1]), (0, 0), (0, 0))).transpose(0, 2, 1, 3)


def _rows_first(x: jax.Array, length: int) -> jax.Array:
    """Pads and transposes [B T N] to [B N 1 `length`]."""
    return jnp.pad(x, ((0, 0), (0, length - x.shape[1]), (0, 0))).transpose(0, 2, 1)[:, :, None]


class _Block(NamedTuple):
    size: tuple[int, ...]
    index: Callable[..., tuple[Any, ...]]  # of the grid's indices and the scalars


def _call(
    kernel: Callable[..., None],
    scalars: Scalars,
    arrays: list[jax.Array],
    *,
    grid: tuple[int, ...],
    semantics: tuple[Any, ...],
    in_blocks: list[_Block],
    out_blocks: list[_Block],
    out_shapes: list[jax.ShapeDtypeStruct],
    scratch: list[tuple[int, ...]],
    cost: pl.CostEstimate,
    name: str,
) -> list[jax.Array]:
    """Runs a kernel `(scalars, *refs)`; in_blocks beyond the number of arrays are ignored."""
    present = [x for x in scalars if x is not None]

    def as_scalars(refs: tuple[Any, ...]) -> Scalars:
        return Scalars(*refs, *([None] * (len(scalars) - len(present))))

    def spec(block: _Block) -> pl.BlockSpec:
        count = len(grid)
        return pl.BlockSpec(block.size, lambda *args: block.index(*args[:count], as_scalars(args[count:])))

    return pl.pallas_call(
        lambda *refs: kernel(as_scalars(refs[: len(present)]), *refs[len(present) :]),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=len(present),
            grid=grid,
            in_specs=[spec(block) for block in in_blocks[: len(arrays)]],
            out_specs=[spec(block) for block in out_blocks],
            scratch_shapes=[pltpu.VMEM(size, jnp.float32) for size in scratch],
        ),
        out_shape=out_shapes,
        compiler_params=pltpu.CompilerParams(dimension_semantics=semantics, vmem_limit_bytes=vmem()),
        cost_estimate=cost,
        name=name,
    )(*present, *arrays)


def _cost(shape: Shape, *, products: int, arrays: int, dtype: Any) -> pl.CostEstimate:
    """Estimates the cost for the compiler's scheduler: that of causal rows without documents."""
    pairs = shape.batch * shape.heads * shape.q_tiles * shape.tile.queries * shape.keys // 2
    size = shape.batch * shape.heads * shape.q_tiles * shape.tile.queries * shape.head_dim
    return pl.CostEstimate(
        flops=2 * products * pairs * shape.head_dim,
        bytes_accessed=arrays * size * jnp.dtype(dtype).itemsize,
        transcendentals=pairs,
    )
