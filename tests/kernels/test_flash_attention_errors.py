"""What attention refuses, and what it says."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, PartitionSpec

from mindllm_jax.kernels.flash_attention import BlockRanges, flash_attention


def zeros(*shape: int, dtype: Any = jnp.float32) -> jax.Array:
    return jnp.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"q": zeros(2, 8, 16)}, r"q has shape \(2, 8, 16\); it must be \[batch, length, heads, head_dim\]"),
        ({"v": zeros(2, 9, 2, 16)}, r"k and v must have one shape; they have \(2, 8, 2, 16\) and \(2, 9, 2, 16\)"),
        ({"q": zeros(3, 8, 4, 16)}, r"q and k must agree in batch and head_dim; .*\(3, 8, 4, 16\)"),
        ({"q": zeros(2, 8, 4, 32)}, r"q and k must agree in batch and head_dim"),
        ({"q": zeros(2, 8, 3, 16)}, r"q has 3 heads; that must be a multiple of the 2 heads of k and v"),
        ({"q": zeros(2, 8, 4, 16, dtype=jnp.bfloat16)}, r"one dtype; they have bfloat16, float32 and float32"),
        ({"segment_ids": zeros(2, 9, dtype=int)}, r"segment_ids of the queries have shape \(2, 9\).*are \(2, 8\)"),
        ({"segment_ids": zeros(2, 8)}, r"segment_ids of the queries are float32; they must be integers"),
        (
            {"segment_ids": (zeros(2, 8, dtype=int), zeros(2, 9, dtype=int))},
            r"segment_ids of the keys have shape \(2, 9\); the keys are \(2, 8\)",
        ),
        (
            {"q": zeros(2, 1, 4, 16), "segment_ids": zeros(2, 8, dtype=int)},
            r"segment_ids is one array, but there are 1 queries and 8 keys: give a pair",
        ),
        ({"window": 0}, r"window = 0; it must be at least 1"),
        ({"window": 4, "causal": False}, r"window = 4 needs causal=True"),
        ({"logit_cap": 0.0}, r"logit_cap = 0.0; it must be positive"),
        ({"block_ranges": BlockRanges(zeros(2, 1), zeros(2, 1))}, r"block_ranges are given without the segment_ids"),
        (
            {"block_ranges": BlockRanges(zeros(2, 4), zeros(2, 4)), "segment_ids": zeros(2, 8, dtype=int)},
            r"block_ranges have shapes \(2, 4\) .* they must be \(2, 1\)",
        ),
        (
            {"implementation": "quick"},
            r"implementation='quick' is unknown; known are cudnn, reference, splash, tokamax, tpu, triton, xla",
        ),
        ({"partition": PartitionSpec("data")}, r"no mesh is set: call under jax.set_mesh"),
    ],
)
def test_refusals(changes: dict[str, Any], message: str) -> None:
    arguments = {"q": zeros(2, 8, 4, 16), "k": zeros(2, 8, 2, 16), "v": zeros(2, 8, 2, 16), **changes}
    with pytest.raises(ValueError, match=message):
        flash_attention(**arguments)


def test_an_implementation_of_other_hardware() -> None:
    q = jnp.ones((1, 8, 2, 16))
    with pytest.raises(ValueError, match=r"'tpu' runs on tpu, not on cpu\. For this call reference, xla can\."):
        flash_attention(q, q, q, implementation="tpu")


def test_dtype_that_nothing_takes() -> None:
    q = zeros(2, 8, 4, 16, dtype=jnp.float16)
    reasons = r"no implementation supports this call\. tpu runs on tpu, not on cpu; .* xla takes .*not float16"
    with pytest.raises(ValueError, match=reasons):
        flash_attention(q, q, q)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (PartitionSpec(None, None, None, "data"), r"partition = .* splits head_dim; it may split batch, length and"),
        (PartitionSpec("dat"), r"partition names the axis 'dat'; the mesh has data, tensor"),
        (PartitionSpec("data"), r"batch of q = 2 is not a multiple of the 4 shards of partition axes \('data',\)"),
        (PartitionSpec(None, None, "data"), r"heads of k and v = 2 is not a multiple of the 4 shards"),
    ],
)
def test_partitions_that_cannot_be(spec: PartitionSpec, message: str) -> None:
    mesh = jax.make_mesh((4, 2), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
    with jax.set_mesh(mesh), pytest.raises(ValueError, match=message):
        flash_attention(zeros(2, 8, 4, 16), zeros(2, 8, 2, 16), zeros(2, 8, 2, 16), partition=spec)
