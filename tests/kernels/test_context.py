"""Rows split over devices: their balanced order, and attention over it."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec
from numerics import SEED, assert_same

from mindllm_jax.kernels.flash_attention import balanced, block_ranges, flash_attention, natural

SPEC = PartitionSpec("data", "context", "tensor", None)


def mesh(context: int) -> jax.sharding.Mesh:
    sizes = (1, context, 8 // context)
    return jax.make_mesh(sizes, ("data", "context", "tensor"), axis_types=(AxisType.Auto,) * 3)


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_each_device_holds_a_chunk_of_either_end(devices: int) -> None:
    tokens = jnp.arange(32, dtype=jnp.int32)[None]
    with jax.set_mesh(mesh(devices)):
        ordered = jax.jit(functools.partial(balanced, partition=SPEC))(tokens)
        back = jax.jit(functools.partial(natural, partition=SPEC))(ordered)
    chunks = np.arange(32).reshape(2 * devices, -1)
    expected = [chunks[[c, 2 * devices - 1 - c]].ravel() for c in range(devices)]
    np.testing.assert_array_equal(np.asarray(ordered).reshape(devices, -1), expected)
    np.testing.assert_array_equal(back, tokens)
    # So the allowed pairs of causal attention are as many on each device.
    assert len({int((1 + rows).sum()) for rows in np.asarray(ordered).reshape(devices, -1)}) == 1


@pytest.mark.long
@pytest.mark.parametrize(
    ("devices", "options"), [(4, {}), (2, {"window": 150}), (2, {"causal": False}), (2, {"q_offset": 40})], ids=str
)
def test_split_rows_give_what_whole_rows_give(devices: int, options: dict[str, Any]) -> None:
    """Packed rows in float64, blocks of 128 inside of the chunks: output, log-sum-exp and all gradients."""
    rng = np.random.default_rng(SEED)
    with jax.enable_x64(True):
        length = 256 * devices
        q, k, v = (jnp.asarray(rng.standard_normal((2, length, heads, 16))) for heads in (8, 4, 4))
        ids = jnp.asarray(np.sort(rng.integers(0, 5, (2, length)), axis=1), jnp.int32)

        def attend(q: jax.Array, k: jax.Array, v: jax.Array, partition: Any = None) -> Any:
            order = functools.partial(balanced if partition else lambda x, **_: x, partition=partition)
            back = functools.partial(natural if partition else lambda x, **_: x, partition=partition)

            def outputs(q: jax.Array, k: jax.Array, v: jax.Array) -> Any:
                out, lse = flash_attention(
                    *map(order, (q, k, v)),
                    segment_ids=order(ids),
                    block_ranges=block_ranges(ids),
                    partition=partition,
                    return_lse=True,
                    **options,
                )
                return back(out), back(lse)

            (out, lse), vjp = jax.vjp(outputs, q, k, v)
            return out, lse, *vjp((jnp.cos(out), jnp.where(jnp.isfinite(lse), jnp.sin(lse), 0.0)))

        whole = jax.jit(attend)(q, k, v)
        with jax.set_mesh(mesh(devices)):
            split = jax.jit(functools.partial(attend, partition=SPEC))(q, k, v)
        for got, expected in zip(split, whole, strict=True):
            finite = np.isfinite(expected)
            np.testing.assert_array_equal(np.isfinite(got), finite)
            assert_same(got[finite], expected[finite], "float64")


def test_lengths_that_cannot_be_split() -> None:
    q = jnp.ones((1, 24, 8, 16))
    with jax.set_mesh(mesh(8)):
        with pytest.raises(ValueError, match=r"length = 24 is not a multiple of 16: two chunks for each of the 8"):
            flash_attention(q, q, q, partition=SPEC)
        with pytest.raises(ValueError, match=r"length = 24 is not a multiple of 16"):
            balanced(q, SPEC)
