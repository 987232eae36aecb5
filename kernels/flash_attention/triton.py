"""Attention on GPUs: the launches of the Triton kernels, and launching them from JAX.

A `Launch` holds everything but the launcher, so that torch can run the same kernels (tests and benchmarks do). From JAX
jax-triton launches them; `_run` alone depends on its version.
"""

from __future__ import annotations

import importlib.metadata
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mindllm_jax.kernels.flash_attention import tiles
from mindllm_jax.kernels.flash_attention.problem import Masking, Settings, backward_statistics
from mindllm_jax.kernels.flash_attention.visits import bounds, visits, whole_tiles
from mindllm_jax.kernels.target import target

LOG2_E = math.log2(math.e)
JAX_TRITON = {"0.3.1": "out_shape", "0.4.1": "out_type"}
"""Versions of jax-triton that lower the kernels in our tests, and their names of the argument for output shapes."""
COMPUTE_CAPABILITY = {
    "NVIDIA A100": 80,
    "NVIDIA H100": 90,
    "NVIDIA H200": 90,
    "NVIDIA B200": 100,
    "NVIDIA GB200": 100,
}


class Tile(NamedTuple):
    """Positions in a tile of queries and of keys, and the compiler's settings."""

    queries: int
    keys: int
    warps: int
    stages: int


class Launch(NamedTuple):
    """One launch of a kernel with its arrays, scalars, outputs and constants, in this order."""

    kernel: str  # in triton_kernels
    arrays: tuple[jax.Array, ...]
    scalars: tuple[int, ...]
    outputs: tuple[jax.ShapeDtypeStruct, ...]
    grid: tuple[int, int]
    constants: dict[str, Any]
    tile: Tile


def tile_sizes(kernel: str, dtype: Any, head_dim: int, length: int) -> Tile:
    """Returns the table's tile for this number of keys; float32, which is for tests, has a tile of its own."""
    if dtype == jnp.float32:
        return Tile(32, 32, 8, 1)
    row = tiles.row(kernel, head_dim, length, otherwise="GPU")
    assert row.warps is not None and row.stages is not None
    return Tile(row.queries, row.keys, row.warps, row.stages)


def forward(
    q: jax.Array, k: jax.Array, v: jax.Array, masking: Masking, settings: Settings
) -> tuple[jax.Array, jax.Array]:
    """Returns the output [B T N H] in q's dtype and the log-sum-exp [B T N]."""
    out, lse = _run(forward_launch(q, k, v, masking, settings))
    return out, lse


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
    query_launch, key_launch = backward_launches(q, k, v, masking, settings, out, lse, d_out, d_lse)
    (dq,), (dk, dv) = _run(query_launch), _run(key_launch)
    return dq, dk, dv


def forward_launch(q: jax.Array, k: jax.Array, v: jax.Array, masking: Masking, settings: Settings) -> Launch:
    """Returns the launch of the forward pass, for the output and the log-sum-exp."""
    batch, length, heads, _ = q.shape
    tile = tile_sizes("forward", q.dtype, q.shape[3], k.shape[1])
    outputs = (jax.ShapeDtypeStruct(q.shape, q.dtype), jax.ShapeDtypeStruct((batch, length, heads), jnp.float32))
    tables = _tables(q, k, masking, settings, tile)
    arrays = (q, k, v, *_segments(masking), bounds(*tables), masking.q_offset.reshape(1))
    grid = (-(-length // tile.queries), batch * heads)
    constants = _constants(q, k, masking, settings, tile)
    return Launch("forward_kernel", arrays, (length, k.shape[1]), outputs, grid, constants, tile)


def backward_launches(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    masking: Masking,
    settings: Settings,
    out: jax.Array,
    lse: jax.Array,
    d_out: jax.Array,
    d_lse: jax.Array,
) -> tuple[Launch, Launch]:
    """Returns the launches of the backward pass, for the gradient of q and for those of k and v."""
    batch, length, heads, _ = q.shape
    shift, lse = backward_statistics(out, lse, d_out, d_lse)
    lse *= LOG2_E  # exponentials are to the base 2
    shift, lse = shift.swapaxes(1, 2), lse.swapaxes(1, 2)  # a tile of queries reads consecutive numbers
    before, after = (q, k, v, *_segments(masking)), (masking.q_offset.reshape(1), d_out, lse, shift)

    tile = tile_sizes("backward_queries", q.dtype, q.shape[3], k.shape[1])
    meet, whole = _tables(q, k, masking, settings, tile)
    query_launch = Launch(
        "backward_queries_kernel",
        (*before, bounds(meet, whole), *after),
        (length, k.shape[1]),
        (jax.ShapeDtypeStruct(q.shape, q.dtype),),
        (-(-length // tile.queries), batch * heads),
        _constants(q, k, masking, settings, tile),
        tile,
    )
    tile = tile_sizes("backward_keys", q.dtype, q.shape[3], k.shape[1])
    meet, whole = _tables(q, k, masking, settings, tile)
    key_launch = Launch(
        "backward_keys_kernel",
        (*before, bounds(meet.swapaxes(1, 2), whole.swapaxes(1, 2)), *after),
        (length, k.shape[1]),
        (jax.ShapeDtypeStruct(k.shape, k.dtype), jax.ShapeDtypeStruct(v.shape, v.dtype)),
        (-(-k.shape[1] // tile.keys), batch * k.shape[2]),
        _constants(q, k, masking, settings, tile),
        tile,
    )
    return query_launch, key_launch


def _tables(
    q: jax.Array, k: jax.Array, masking: Masking, settings: Settings, tile: Tile
) -> tuple[jax.Array, jax.Array]:
    """Returns the pairs of tiles to visit, and those that need no mask, nor have positions behind an end.

    Both are bool [B, query tiles, key tiles].
    """
    queries = (-(-q.shape[1] // tile.queries), tile.queries)
    keys = (-(-k.shape[1] // tile.keys), tile.keys)
    start, stop = visits(masking, settings, batch=q.shape[0], queries=queries, keys=keys)
    j = jnp.arange(keys[0], dtype=jnp.int32)
    meet = (start[..., None] <= j) & (j < stop[..., None])
    whole = whole_tiles(masking, settings, batch=q.shape[0], queries=queries, keys=keys, kv_length=k.shape[1])
    whole &= ((jnp.arange(queries[0]) + 1) * tile.queries <= q.shape[1])[:, None]
    return meet, whole


def _segments(masking: Masking) -> tuple[jax.Array, jax.Array]:
    """Returns the segment ids, or arrays that the kernels do not read."""
    if masking.q_segments is None or masking.kv_segments is None:
        unused = jnp.zeros((1,), jnp.int32)
        return unused, unused
    return masking.q_segments, masking.kv_segments


def _constants(q: jax.Array, k: jax.Array, masking: Masking, settings: Settings, tile: Tile) -> dict[str, Any]:
    head_dim = q.shape[3]
    return {
        "N": q.shape[2],
        "K": k.shape[2],
        "H": head_dim,
        "D": max(16, 1 << (head_dim - 1).bit_length()),
        "Q": tile.queries,
        "S": tile.keys,
        "CAUSAL": settings.causal,
        "WINDOW": settings.window,
        "SEGMENTS": masking.q_segments is not None,
        "SCALE": settings.scale,
        "CAP": settings.logit_cap,
        "EXACT": q.dtype == jnp.float32,
    }


def _run(launch: Launch) -> tuple[jax.Array, ...]:
    """Launches through jax-triton. Raises ImportError for an untested version of it."""
    version = importlib.metadata.version("jax-triton")
    if version not in JAX_TRITON:
        raise ImportError(
            f"implementation='triton' is tested with jax-triton {', '.join(JAX_TRITON)}; {version} is installed"
        )
    import jax_triton
    from jax_triton import triton_lib

    from mindllm_jax.kernels.flash_attention import triton_kernels

    if version == "0.4.1":
        # Its rule for dead code lacks an argument of jax 0.12; without it JAX's default applies.
        triton_lib.pe.dce_rules.pop(triton_lib.triton_kernel_call_p, None)
    kind = target().device_kind
    # None: jax-triton queries the GPU, which fails for a topology.
    capability = next((number for name, number in COMPUTE_CAPABILITY.items() if kind.startswith(name)), None)
    outputs = jax_triton.triton_call(
        *launch.arrays,
        *launch.scalars,
        kernel=getattr(triton_kernels, launch.kernel),
        grid=launch.grid,
        num_warps=launch.tile.warps,
        num_stages=launch.tile.stages,
        compute_capability=capability,
        **{JAX_TRITON[version]: launch.outputs},
        **launch.constants,
    )
    return tuple(outputs) if isinstance(outputs, list | tuple) else (outputs,)
