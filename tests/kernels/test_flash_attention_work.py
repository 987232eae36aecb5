"""What the implementations of attention promise besides their numbers."""

from __future__ import annotations

import functools
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, PartitionSpec
from numerics import SEED, assert_same

from mindllm_jax.kernels.flash_attention import RESIDUAL_NAME, block_ranges, flash_attention

STATIC = ("causal", "window", "implementation")


def attended(q: jax.Array, k: jax.Array, v: jax.Array, **options: Any) -> jax.Array:
    out = jax.jit(flash_attention, static_argnames=STATIC)(q, k, v, **options)
    assert isinstance(out, jax.Array)
    return out


def test_skipped_tiles_are_not_read() -> None:
    """Values that no query may see are NaN, except in tiles that some query has to visit: 0 x NaN would show."""
    rng = np.random.default_rng(SEED)
    q, k, v = (rng.standard_normal((1, 512, 2, 16), dtype=np.float32) for _ in range(3))
    ids = np.repeat([[1, 2, 3, 4]], 128, axis=1)
    for options, seen in (
        ({"q_offset": -256}, slice(0, 256)),
        ({"window": 64, "q_offset": 320}, slice(256, 512)),
        ({"segment_ids": (jnp.asarray(ids[:, 128:256]), jnp.asarray(ids)), "causal": False}, slice(128, 256)),
    ):
        poisoned = np.full_like(v, np.nan)
        poisoned[:, seen] = v[:, seen]
        length = 128 if "segment_ids" in options else 512
        arrays = (jnp.asarray(x) for x in (q[:, :length], k, poisoned))
        assert np.isfinite(attended(*arrays, implementation="xla", **options)).all(), options


def test_block_ranges_are_used_and_change_nothing() -> None:
    q = jnp.asarray(np.random.default_rng(SEED).standard_normal((1, 256, 1, 16)), jnp.float32)
    ids = jnp.repeat(jnp.array([[1, 2]]), 128, axis=1)
    ranges = block_ranges(ids)
    for name in ("reference", "xla"):
        attend = functools.partial(attended, q, q, q, segment_ids=ids, implementation=name)
        assert_same(attend(block_ranges=ranges), attend(), "float32")
    nothing = jax.tree.map(jnp.zeros_like, ranges)
    assert (attended(q, q, q, segment_ids=ids, block_ranges=nothing, implementation="xla") == 0).all()


def test_no_matrix_of_scores() -> None:
    """At 4,096 tokens nothing that the compiled gradient holds has as many elements as one head's scores."""
    length = 4096
    x = jax.ShapeDtypeStruct((1, length, 2, 16), jnp.float32)
    ids = jax.ShapeDtypeStruct((1, length), jnp.int32)

    def loss(q: jax.Array, k: jax.Array, v: jax.Array, ids: jax.Array) -> jax.Array:
        return attended(q, k, v, segment_ids=ids, implementation="xla").sum()

    compiled = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(x, x, x, ids).compile()
    sizes = [
        math.prod(map(int, shape.split(","))) for shape in re.findall(r"\w\d+\[([\d,]+)\]", compiled.as_text() or "")
    ]
    assert sizes and max(sizes) < length**2 / 8
    memory = compiled.memory_analysis()
    assert memory is not None and memory.temp_size_in_bytes < length**2 / 2


def test_remat_keeps_outputs_by_name() -> None:
    q = jnp.ones((1, 8, 2, 16))

    def exponentials(policy: Any) -> int:
        @functools.partial(jax.checkpoint, policy=policy)
        def layer(q: jax.Array) -> jax.Array:
            return jnp.sin(attended(q, q, q, implementation="xla")).sum()

        return str(jax.make_jaxpr(jax.grad(layer))(q)).count("= exp ")

    policies = jax.checkpoint_policies
    kept = exponentials(policies.save_only_these_names(RESIDUAL_NAME))
    again = exponentials(policies.nothing_saveable)
    assert kept < again == exponentials(policies.save_only_these_names("another name"))


def test_sharded_equals_whole() -> None:
    rng = np.random.default_rng(SEED)
    q, k, v = (jnp.asarray(rng.standard_normal((4, 64, heads, 16)), jnp.float32) for heads in (8, 4, 4))
    ids = jnp.asarray(np.sort(rng.integers(0, 4, (4, 64)), axis=1), jnp.int32)
    mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)

    def attend(q: jax.Array, k: jax.Array, v: jax.Array, offset: jax.Array, partition: Any = None) -> Any:
        def outputs(q: jax.Array, k: jax.Array, v: jax.Array) -> Any:
            return flash_attention(q, k, v, segment_ids=ids, q_offset=offset, partition=partition, return_lse=True)

        (out, lse), vjp = jax.vjp(outputs, q, k, v)
        return out, *vjp((jnp.cos(out), jnp.where(jnp.isfinite(lse), lse, 0.0)))

    whole = jax.jit(attend)(q, k, v, jnp.int32(3))
    with jax.set_mesh(mesh):
        spec = PartitionSpec(("data", "fsdp"), None, "tensor", None)
        sharded = jax.jit(functools.partial(attend, partition=spec))(q, k, v, jnp.int32(3))
    assert sharded[0].sharding.shard_shape(q.shape) == (1, 64, 4, 16)
    for got, expected in zip(sharded, whole, strict=True):
        assert_same(got, expected, "float32")
