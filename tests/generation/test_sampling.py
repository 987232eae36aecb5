"""The next token: greedy, temperature, top-k."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mindllm_jax.generation.sampling import Sampling, sample

# One program for all temperatures, as in the engine.
compiled = jax.jit(sample, static_argnames="top_k")

LOGITS = np.array([2.0, -1.0, 0.5, 3.0, 0.5, -4.0], np.float32)


def draws(count: int, temperature: float, top_k: int | None) -> np.ndarray:
    """Frequencies of the tokens among `count` draws from LOGITS."""
    keys = jax.random.split(jax.random.key(0), count)
    ids = compiled(jnp.tile(LOGITS, (count, 1)), keys, temperature, top_k)
    assert ids.dtype == jnp.int32
    return np.bincount(np.asarray(ids), minlength=len(LOGITS)) / count


def test_temperature_zero_takes_the_most_probable() -> None:
    logits = jnp.stack([LOGITS, -LOGITS, jnp.zeros_like(LOGITS)])
    ids = sample(logits, jax.random.split(jax.random.key(0), 3), *Sampling(temperature=0.0, top_k=3).choice)
    assert ids.tolist() == [3, 5, 0]


@pytest.mark.parametrize("temperature", [0.5, 2.0])
@pytest.mark.parametrize("top_k", [None, 3, 100])
def test_frequencies_follow_the_formula(temperature: float, top_k: int | None) -> None:
    count = 20_000
    expected = np.exp(LOGITS.astype(np.float64) / temperature)
    # Of the two equal logits the first is the more probable one, so k = 3 takes exactly three tokens.
    order = np.argsort(-LOGITS, kind="stable")
    expected[order[top_k:] if top_k else []] = 0
    expected /= expected.sum()
    deviation = np.sqrt(expected * (1 - expected) / count)
    assert np.all(np.abs(draws(count, temperature, top_k) - expected) <= 5 * deviation)


def test_a_row_draws_the_same_beside_other_rows() -> None:
    keys = jax.random.split(jax.random.key(1), 8)
    logits = jax.random.normal(jax.random.key(2), (8, 50))
    together = compiled(logits, keys, 1.0, 10).tolist()
    reversed_rows = compiled(logits[::-1], keys[::-1], 1.0, 10).tolist()
    assert reversed_rows[::-1] == together
    assert len(set(compiled(jnp.tile(logits[0], (8, 1)), keys, 1.0, 10).tolist())) > 1, "each row has its own key"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -0.1}, r"Sampling\.temperature = -0\.1: must be at least 0"),
        ({"top_k": 0}, r"Sampling\.top_k = 0: must be at least 1, or None for all tokens"),
        ({"seed": 2**31}, r"Sampling\.seed = 2147483648: must be at least 0 and below 2\^31"),
        ({"max_tokens": 0}, r"Sampling\.max_tokens = 0: must be at least 1"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(**settings)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("asked", "positions", "expected"), [(None, 512, 128), (None, 96, 48), (None, 1, 1), (300, 96, 300)]
)
def test_new_tokens_fit_a_small_model_unless_they_are_set(asked: int | None, positions: int, expected: int) -> None:
    assert Sampling(max_tokens=asked).new_tokens(positions) == expected
