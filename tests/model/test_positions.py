"""Rotary positions far into a row, in narrow types: against the formula in float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numerics import SEED, relative_error

from mindllm_jax.model.config import Model
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.model.positions import rope_angles, rotate

LAST = 8191
HALF_ULP = float(jnp.finfo(jnp.bfloat16).eps) / 2


def turned(x: np.ndarray, position: int, base: float) -> np.ndarray:
    """x [... H] turned as complex numbers, in float64."""
    half = x.shape[-1] // 2
    spin = np.exp(1j * position * base ** (-np.arange(half) / half))
    z = (x[..., :half] + 1j * x[..., half:]) * spin
    return np.concatenate([z.real, z.imag], -1)


@pytest.mark.parametrize("base", [10_000.0, 500_000.0])
def test_a_far_pair_turns_with_one_rounding(base: float) -> None:
    """In float32 up to the angle's own rounding, half a unit in the last place of 8191; in bfloat16 rounded once."""
    rng = np.random.default_rng(SEED)
    x = jnp.asarray(rng.standard_normal((2, 1, 4, 128)), jnp.bfloat16)
    expected = turned(np.asarray(x, np.float64), LAST, base)
    positions = jnp.full((2, 1), LAST, jnp.int32)
    for name, bound in (("float32", LAST * 2.0**-24), ("bfloat16", HALF_ULP)):
        dtype = jnp.dtype(name)
        found = jax.jit(lambda x, dtype=dtype: rotate(x, rope_angles(positions, 128, base, dtype)))(x.astype(dtype))
        assert found.dtype == dtype
        error = np.abs(np.asarray(found, np.float64) - expected)
        lengths = np.hypot(*np.split(np.asarray(x, np.float64), 2, axis=-1))
        # Of a pair, because a coordinate that is nearly zero has the error of the other one.
        assert (np.hypot(*np.split(error, 2, axis=-1)) <= bound * 1.5 * lengths).all()
    assert relative_error(found, expected) < 0.5 * HALF_ULP  # of many roundings the root mean square


def test_cached_keys_far_into_a_row_are_turned_as_exactly() -> None:
    """The first layer's keys at position 8191 are those at position 0, turned and rounded once."""
    config = Model(
        vocab_size=50,
        layers=1,
        width=32,
        heads=2,
        head_dim=16,
        mlp_dim=32,
        max_seq_len=LAST + 1,
        compute_dtype="bfloat16",
    )
    decoder = Decoder(config, rngs=nnx.Rngs(SEED))
    tokens = jnp.arange(20, dtype=jnp.int32)[:, None]

    @nnx.jit
    def keys(decoder: Decoder, position: jax.Array) -> jax.Array:
        cache = decoder.new_cache(len(tokens), 8)
        cache = cache._replace(lengths=jnp.full(len(tokens), position))
        return decoder.decode(tokens, cache)[1].layers[0].keys

    near, far = (np.asarray(keys(decoder, jnp.int32(at))[0, :, :, at % 8], np.float64) for at in (0, LAST))
    assert relative_error(far, turned(near, LAST, config.rope_theta)) < 0.5 * HALF_ULP
