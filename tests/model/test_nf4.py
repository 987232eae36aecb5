"""NF4: its values, its errors, its products and their gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindllm_jax.model.linear import matmul
from mindllm_jax.model.nf4 import BLOCK, NF4, VALUES, quantized


def test_values_are_quantiles_of_the_normal_distribution() -> None:
    """Appendix E of the paper: seven quantiles below zero, zero, and eight above, over the largest."""
    normal = pytest.importorskip("scipy.stats").norm
    offset = 0.9677083  # the mean of 1 - 1/32 and 1 - 1/30, as in bitsandbytes
    above = normal.ppf(np.linspace(offset, 0.5, 9)[:-1])
    below = -normal.ppf(np.linspace(offset, 0.5, 8)[:-1])
    expected = np.sort(np.concatenate([above, below, [0.0]]))
    np.testing.assert_allclose(VALUES, expected / expected.max(), atol=1e-6)


def plain(weight: np.ndarray) -> np.ndarray:
    """The nearest value of every weight of blocks [n 64], in float64."""
    scales = np.abs(weight).max(axis=1, keepdims=True)
    shares = np.divide(weight, scales, out=np.zeros_like(weight), where=scales > 0)
    nearest = np.argmin(np.abs(shares[..., None] - np.asarray(VALUES)), axis=-1)
    return np.asarray(VALUES)[nearest] * scales


@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.0, 1e-6, 1.0, 1e4]), blocks=st.integers(1, 3))
def test_a_weight_becomes_the_nearest_value_of_its_block(seed: int, scale: float, blocks: int) -> None:
    """For every place of the axis: query's [L I N H], out's [L N I D], and the feed-forward layer's [L I F]."""
    rng = np.random.default_rng(seed)
    rows = np.asarray(jnp.asarray(scale * rng.standard_normal((6 * blocks, BLOCK)), jnp.bfloat16), np.float32)
    expected = plain(rows.astype(np.float64)).reshape(2, 3, blocks * BLOCK)
    weight = rows.reshape(2, 3, blocks * BLOCK)
    for order in ((0, 2, 1), (0, 1, 2), (2, 0, 1)):
        axis = order.index(2) - 3
        held = quantized(jnp.asarray(weight.transpose(order)), axis)
        assert held.codes.dtype == jnp.uint8 and held.size == weight.size
        assert held.codes.nbytes + held.scales.nbytes == 4.5 / 8 * weight.size
        found = np.asarray(held.dequantized(jnp.float32)).transpose(np.argsort(order))
        # A weight in the middle of two values may go to either.
        np.testing.assert_allclose(np.abs(found - weight), np.abs(expected - weight), atol=1e-6 * scale)


def test_it_is_the_same_from_a_wider_dtype() -> None:
    weight = jax.random.normal(jax.random.key(0), (128, 5))
    narrow, wide = (quantized(one, -2) for one in (weight.astype(jnp.bfloat16), weight))
    assert jax.tree.all(jax.tree.map(np.array_equal, narrow, wide))


def test_quantizing_takes_no_memory_of_wide_numbers() -> None:
    weight = jax.ShapeDtypeStruct((4, 512, 256), jnp.bfloat16)
    memory = jax.jit(partial(quantized, axis=-2)).lower(weight).compile().memory_analysis()
    assert memory is not None and memory.temp_size_in_bytes < 5 * 4 * 512 * 256


@pytest.mark.parametrize(("inputs", "shape"), [(1, (64, 2, 64)), (2, (2, 64, 96)), (1, (128, 96))])
def test_products_and_gradients_are_those_of_the_dequantized_matrix(inputs: int, shape: tuple[int, ...]) -> None:
    keys = jax.random.split(jax.random.key(1), 3)
    x = jax.random.normal(keys[0], (2, 3, *shape[:inputs]))
    held = quantized(jax.random.normal(keys[1], shape), inputs - 1 - len(shape))
    matrix = held.dequantized(jnp.float32)
    dy = jax.random.normal(keys[2], (2, 3, *shape[inputs:]))

    def pulled(weight: jax.Array | NF4) -> tuple[jax.Array, jax.Array]:
        product, pull = jax.vjp(lambda x: matmul(x, weight, inputs), x)
        return product, *pull(dy)

    for found, expected in zip(pulled(held), pulled(matrix), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_the_backward_pass_keeps_four_bits() -> None:
    held = quantized(jax.random.normal(jax.random.key(0), (64, 64)), -2)
    _, pull = jax.vjp(lambda x: matmul(x, held), jnp.ones((1, 2, 64)))
    kept = sum(leaf.nbytes for leaf in jax.tree.leaves(pull) if leaf.size > 16)
    assert kept <= 4.5 / 8 * 64 * 64 + 2 * 64 * 4, "not the matrix, of 16 KiB"
