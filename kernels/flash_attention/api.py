"""`flash_attention`: checks of the arguments, choice of the implementation, sharding and differentiation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec

from mindllm_jax.kernels.block_ranges import BLOCK, BlockRanges, SegmentIds
from mindllm_jax.kernels.capabilities import Capabilities, choose
from mindllm_jax.kernels.flash_attention import context, peers, reference, tpu, triton, xla
from mindllm_jax.kernels.flash_attention.problem import Masking, Settings
from mindllm_jax.kernels.partition import axes_of, check_divisible
from mindllm_jax.kernels.target import target

RESIDUAL_NAME = "attention_out"
"""The name of the outputs and log-sum-exps in remat policies."""


@dataclass(frozen=True)
class Implementation:
    """Two functions, with the signatures of `reference`, and their capabilities."""

    forward: Callable[..., tuple[jax.Array, jax.Array]]
    backward: Callable[..., tuple[jax.Array, jax.Array, jax.Array]]
    capabilities: Capabilities


@dataclass(frozen=True)
class Peer:
    """A differentiable function of another library that returns the output alone, and its capabilities."""

    attend: Callable[..., jax.Array]
    capabilities: Capabilities


COMMON = frozenset(["grouped heads", "causal=False", "window"])
FEATURES = COMMON | {
    "segment_ids", "block_ranges", "keys apart from queries", "q_offset", "logit_cap", "partition", "return_lse",
    "head_dim above 256",
}  # fmt: skip
FLOATS = frozenset(["bfloat16", "float32", "float64"])
NARROW = frozenset(["bfloat16"])
GPU, TPU = frozenset(["gpu"]), frozenset(["tpu"])

IMPLEMENTATIONS: dict[str, Implementation | Peer] = {
    "tpu": Implementation(tpu.forward, tpu.backward, Capabilities(TPU, FLOATS - {"float64"}, FEATURES)),
    "triton": Implementation(
        triton.forward,
        triton.backward,
        Capabilities(
            GPU,
            FLOATS - {"float64"},
            FEATURES - {"head_dim above 256"},
            requires=("jax_triton", "gpu"),
            versions=tuple(triton.JAX_TRITON),
        ),
    ),
    "xla": Implementation(xla.forward, xla.backward, Capabilities(None, FLOATS, FEATURES)),
    "reference": Implementation(reference.forward, reference.backward, Capabilities(None, FLOATS, FEATURES)),
    # Peers come last, where xla precedes them for every call. In float32 some of their products round to bfloat16.
    "cudnn": Peer(peers.cudnn, Capabilities(GPU, NARROW, COMMON)),
    "tokamax": Peer(peers.tokamax, Capabilities(GPU, NARROW, COMMON | {"logit_cap"}, requires=("tokamax", "peers"))),
    # It may ignore the ranges, which only allow to skip.
    "splash": Peer(peers.splash, Capabilities(TPU, NARROW, COMMON | {"logit_cap", "segment_ids", "block_ranges"})),
}
"""Implementations by name, in order of preference."""


def flash_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    segment_ids: SegmentIds | None = None,
    block_ranges: BlockRanges | None = None,
    q_offset: int | jax.Array = 0,
    causal: bool = True,
    window: int | None = None,
    scale: float | None = None,
    logit_cap: float | None = None,
    partition: PartitionSpec | None = None,
    return_lse: bool = False,
    implementation: str | None = None,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """Computes softmax attention with grouped heads without a [B N T S] buffer; differentiable in q, k and v.

    Args:
        q: [B T N H], bfloat16, float32 or float64; k and v the same.
        k: [B S K H]. Head n of q reads head n // (N / K).
        v: [B S K H].
        segment_ids: integer [B T] when T == S, or a pair ([B T], [B S]); not negative. Only equal ids see each other;
            0 is padding, which sees and is seen by nothing.
        block_ranges: from `block_ranges(segment_ids)`, computed once for all layers; given together with segment_ids.
        q_offset: absolute position of the first query, a Python or traced integer; keys begin at 0.
        causal: the query at position p sees the keys up to p.
        window: the query at position p sees keys after p - window. Needs causal.
        scale: factor on the scores; H ** -0.5 by default.
        logit_cap: scores become logit_cap * tanh(scores / logit_cap) (Gemma 2, section 2).
        partition: PartitionSpec of q over the current mesh; it splits batch, length and heads, also of k and v. Where
            it splits the length, the rows of q, k, v and segment_ids are in the order of `balanced`, and block_ranges
            are those of the natural order.
        return_lse: also return the log-sum-exp of each query's scores, [B T N] in float32 or wider; differentiable.
        implementation: a name in IMPLEMENTATIONS; None takes the first that supports the call.

    Returns:
        [B T N H] in q's dtype, and the log-sum-exp if requested. A query without keys has output 0, log-sum-exp -inf
        and gradient 0.

    Raises:
        ValueError: an argument does not fit, or the implementation does not support the call.
    """
    _check_arrays(q, k, v)
    _check_settings(causal, window, logit_cap)
    q_segments, kv_segments = _segments(segment_ids, q, k)
    _check_ranges(block_ranges, q, q_segments)
    if partition is not None:
        _check_partition(partition, q, k)
    used = {
        "grouped heads": q.shape[2] != k.shape[2],
        "segment_ids": segment_ids is not None,
        "block_ranges": block_ranges is not None,
        "keys apart from queries": isinstance(segment_ids, tuple) or q.shape[1] != k.shape[1],
        "q_offset": not (isinstance(q_offset, int) and q_offset == 0),
        "causal=False": not causal,
        "window": window is not None,
        "logit_cap": logit_cap is not None,
        "partition": partition is not None,
        "return_lse": return_lse,
        "head_dim above 256": q.shape[-1] > 256,
    }
    name = choose(
        {name: entry.capabilities for name, entry in IMPLEMENTATIONS.items()},
        implementation,
        platform=target().platform,
        dtype=q.dtype.name,
        features=frozenset(feature for feature, is_used in used.items() if is_used),
    )
    settings = Settings(causal, window, q.shape[-1] ** -0.5 if scale is None else scale, logit_cap)
    masking = Masking(jnp.asarray(q_offset, jnp.int32), q_segments, kv_segments, block_ranges)
    entry = IMPLEMENTATIONS[name]
    if isinstance(entry, Peer):
        return entry.attend(q, k, v, masking, settings)
    out, lse = _attend_with_gradients(_Call(entry, settings, partition), q, k, v, masking)
    return (out, lse) if return_lse else out


@dataclass(frozen=True)
class _Call:
    implementation: Implementation
    settings: Settings
    partition: PartitionSpec | None

    def sharded(self, function: Callable[..., Any], in_specs: str) -> Callable[..., Any]:
        """Maps a function over the shards of `partition`; in_specs has a letter for each argument.

        "h" is an array [B, T or S, heads, ...] and "m" the masking; all results are of the first kind.
        """
        if self.partition is None:
            return function
        batch, length = axes_of(self.partition, 0), axes_of(self.partition, 1)
        heads = PartitionSpec(batch, length, axes_of(self.partition, 2))
        everywhere: Any = PartitionSpec()
        rows: Any = PartitionSpec(batch)
        segments: Any = PartitionSpec(batch, length)
        specs = {"h": heads, "m": Masking(everywhere, segments, segments, rows)}
        return jax.shard_map(function, in_specs=tuple(specs[x] for x in in_specs), out_specs=heads, check_vma=False)


def _attend(call: _Call, q: jax.Array, k: jax.Array, v: jax.Array, masking: Masking) -> tuple[jax.Array, jax.Array]:
    def attend_shard(q: jax.Array, k: jax.Array, v: jax.Array, masking: Masking) -> tuple[jax.Array, jax.Array]:
        return call.implementation.forward(q, k, v, masking, call.settings)

    length = context.splitting_axes(call.partition)
    forward = partial(context.forward, attend_shard, length) if length else attend_shard
    return call.sharded(forward, "hhhm")(q, k, v, masking)


def _attend_forward(call: _Call, *args: Any) -> tuple[tuple[jax.Array, jax.Array], tuple[Any, ...]]:
    out, lse = checkpoint_name(_attend(call, *args), RESIDUAL_NAME)
    return (out, lse), (*args, out, lse)


def _attend_backward(call: _Call, residuals: tuple[Any, ...], gradients: tuple[jax.Array, jax.Array]) -> Any:
    def attend_shard_backward(
        q: jax.Array, k: jax.Array, v: jax.Array, masking: Masking, *results: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        return call.implementation.backward(q, k, v, masking, call.settings, *results)

    length = context.splitting_axes(call.partition)
    backward = partial(context.backward, attend_shard_backward, length) if length else attend_shard_backward
    return (*call.sharded(backward, "hhhmhhhh")(*residuals, *gradients), None)


# Differentiation is outside the shard_map: both directions are mapped functions, and nothing is summed over shards.
_attend_with_gradients = jax.custom_vjp(_attend, nondiff_argnums=(0,))
_attend_with_gradients.defvjp(_attend_forward, _attend_backward)


def _check_arrays(q: jax.Array, k: jax.Array, v: jax.Array) -> None:
    for name, x in (("q", q), ("k", k), ("v", v)):
        if x.ndim != 4:
            raise ValueError(f"{name} has shape {x.shape}; it must be [batch, length, heads, head_dim]")
    if k.shape != v.shape:
        raise ValueError(f"k and v must have one shape; they have {k.shape} and {v.shape}")
    if q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3]:
        raise ValueError(f"q and k must agree in batch and head_dim; their shapes are {q.shape} and {k.shape}")
    if q.shape[2] % k.shape[2]:
        raise ValueError(f"q has {q.shape[2]} heads; that must be a multiple of the {k.shape[2]} heads of k and v")
    if not q.dtype == k.dtype == v.dtype:
        raise ValueError(f"q, k and v must have one dtype; they have {q.dtype}, {k.dtype} and {v.dtype}")


def _check_settings(causal: bool, window: int | None, logit_cap: float | None) -> None:
    if window is not None and window < 1:
        raise ValueError(f"window = {window}; it must be at least 1, the query's own position")
    if window is not None and not causal:
        raise ValueError(f"window = {window} needs causal=True: it counts keys backwards from the query")
    if logit_cap is not None and logit_cap <= 0:
        raise ValueError(f"logit_cap = {logit_cap}; it must be positive")


def _segments(
    segment_ids: SegmentIds | None, q: jax.Array, k: jax.Array
) -> tuple[jax.Array, jax.Array] | tuple[None, None]:
    """Returns the ids of queries and of keys."""
    if segment_ids is None:
        return None, None
    if not isinstance(segment_ids, tuple) and q.shape[1] != k.shape[1]:
        raise ValueError(
            f"segment_ids is one array, but there are {q.shape[1]} queries and {k.shape[1]} keys: "
            "give a pair (of the queries, of the keys)"
        )
    q_ids, kv_ids = segment_ids if isinstance(segment_ids, tuple) else (segment_ids, segment_ids)
    for name, ids, x in (("queries", q_ids, q), ("keys", kv_ids, k)):
        if ids.shape != x.shape[:2]:
            raise ValueError(f"segment_ids of the {name} have shape {ids.shape}; the {name} are {x.shape[:2]}")
        if not jnp.issubdtype(ids.dtype, jnp.integer):
            raise ValueError(f"segment_ids of the {name} are {ids.dtype}; they must be integers")
    return q_ids.astype(jnp.int32), kv_ids.astype(jnp.int32)


def _check_ranges(ranges: BlockRanges | None, q: jax.Array, q_segments: jax.Array | None) -> None:
    if ranges is None:
        return
    if q_segments is None:
        raise ValueError("block_ranges are given without the segment_ids they were computed from: give both")
    expected = (q.shape[0], -(-q.shape[1] // BLOCK))
    if ranges.start.shape != expected or ranges.stop.shape != expected:
        raise ValueError(
            f"block_ranges have shapes {ranges.start.shape} and {ranges.stop.shape}; for q of shape {q.shape} "
            f"in blocks of {BLOCK} they must be {expected}"
        )


def _check_partition(partition: PartitionSpec, q: jax.Array, k: jax.Array) -> None:
    if axes_of(partition, 3):
        raise ValueError(f"partition = {partition} splits head_dim; it may split batch, length and heads only")
    if length := context.splitting_axes(partition):
        context.check_halves(q.shape[1], length)
        context.check_halves(k.shape[1], length)
    check_divisible("batch of q", q.shape[0], axes_of(partition, 0))
    check_divisible("heads of q", q.shape[2], axes_of(partition, 2))
    check_divisible("heads of k and v", k.shape[2], axes_of(partition, 2))
