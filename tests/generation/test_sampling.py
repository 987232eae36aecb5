"""The next token: greedy, temperature, top-k, top-p."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mindllm_jax.generation.sampling import CANDIDATES, Choices, Sampling, choices, sample

compiled = jax.jit(sample)

LOGITS = np.array([2.0, -1.0, 0.5, 3.0, 0.5, -4.0], np.float32)


def by(rows: int, temperature: float, top_k: int | None = None, top_p: float = 1.0) -> Choices:
    return choices([Sampling(temperature, top_k, top_p)] * rows)


def draws(count: int, settings: Choices) -> np.ndarray:
    """Frequencies of the tokens among `count` draws from LOGITS."""
    keys = jax.random.split(jax.random.key(0), count)
    ids = compiled(jnp.tile(LOGITS, (count, 1)), keys, settings)
    assert ids.dtype == jnp.int32
    return np.bincount(np.asarray(ids), minlength=len(LOGITS)) / count


def test_temperature_zero_takes_the_most_probable() -> None:
    logits = jnp.stack([LOGITS, -LOGITS, jnp.zeros_like(LOGITS)])
    ids = sample(logits, jax.random.split(jax.random.key(0), 3), by(3, 0.0, 3, 0.9))
    assert ids.tolist() == [3, 5, 0]


@pytest.mark.parametrize("top_k", [None, 5])
def test_a_tiny_temperature_takes_the_most_probable(top_k: int | None) -> None:
    logits = jnp.tile(10 * LOGITS, (20, 1))  # two of them become infinite
    assert set(compiled(logits, jax.random.split(jax.random.key(0), 20), by(20, 2e-38, top_k)).tolist()) == {3}


@pytest.mark.parametrize("temperature", [0.5, 2.0])
@pytest.mark.parametrize(("top_k", "top_p"), [(None, 1.0), (3, 1.0), (100, 1.0), (None, 0.9), (2, 0.9), (5, 0.3)])
def test_frequencies_follow_the_formula(temperature: float, top_k: int | None, top_p: float) -> None:
    count = 20_000
    weights = np.exp(LOGITS.astype(np.float64) / temperature)
    # Of the two equal logits the first is the more probable one, so k = 3 takes exactly three tokens.
    order = np.argsort(-LOGITS, kind="stable")
    fewest = 1 + int(np.searchsorted(np.cumsum(weights[order]) / weights.sum(), top_p))
    expected = np.zeros_like(weights)
    kept = order[: min(fewest, top_k or len(order))]
    expected[kept] = weights[kept]
    expected /= expected.sum()
    deviation = np.sqrt(expected * (1 - expected) / count)
    assert np.all(np.abs(draws(count, by(count, temperature, top_k, top_p)) - expected) <= 5 * deviation)


def test_rows_of_one_call_have_their_own_settings() -> None:
    rows = [Sampling(0.0), Sampling(1.0, None), Sampling(1.0, 1), Sampling(1.0, None, 0.01)] * 500
    ids = np.asarray(compiled(jnp.tile(LOGITS, (2000, 1)), jax.random.split(jax.random.key(3), 2000), choices(rows)))
    assert set(ids[0::4]) == set(ids[2::4]) == set(ids[3::4]) == {3}
    assert set(ids[1::4]) >= {0, 2, 3, 4}


def test_a_row_draws_the_same_beside_other_rows() -> None:
    keys = jax.random.split(jax.random.key(1), 8)
    logits = jax.random.normal(jax.random.key(2), (8, 50))
    together = compiled(logits, keys, by(8, 1.0, 10)).tolist()
    reversed_rows = compiled(logits[::-1], keys[::-1], by(8, 1.0, 10)).tolist()
    assert reversed_rows[::-1] == together
    assert len(set(compiled(jnp.tile(logits[0], (8, 1)), keys, by(8, 1.0, 10)).tolist())) > 1, (
        "each row has its own key"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -0.1}, r"Sampling\.temperature = -0\.1: must be at least 0"),
        ({"top_k": 0}, r"Sampling\.top_k = 0: must be 1 to 256, or None for all tokens"),
        ({"top_k": 257}, r"Sampling\.top_k = 257: must be 1 to 256"),
        ({"top_p": 0.0}, r"Sampling\.top_p = 0\.0: must be above 0 and at most 1"),
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


def test_draws_are_those_of_float64() -> None:
    """Mixed settings over a vocabulary larger than the candidates, with the noise that the keys give."""
    rng, rows, size = np.random.default_rng(1), 600, 1000
    logits = (rng.normal(size=(rows, size)) * rng.choice([0.5, 3, 10], (rows, 1))).astype(np.float32)
    settings = [
        Sampling(
            float(rng.choice([0, 0.3, 1, 1.7])),
            None if rng.random() < 0.4 else int(rng.integers(1, CANDIDATES + 1)),
            1.0 if rng.random() < 0.4 else float(rng.uniform(0.01, 0.99)),
        )
        for _ in range(rows)
    ]
    keys = jax.random.split(jax.random.key(0), rows)
    drawn = np.asarray(compiled(jnp.asarray(logits), keys, choices(settings)))
    few, all_ = (
        np.asarray(jax.vmap(lambda key, count=count: jax.random.gumbel(key, (count,)))(keys), np.float64)
        for count in (CANDIDATES, size)
    )
    for row, (by, token) in enumerate(zip(settings, drawn, strict=True)):
        scaled = logits[row].astype(np.float64) / (np.float32(by.temperature) or 1)
        order = np.argsort(-scaled, kind="stable")[:CANDIDATES]
        if by.temperature == 0:
            expected = order[0]
        elif by.top_k is None and by.top_p == 1:
            expected = np.argmax(scaled + all_[row])
        else:
            weights = np.exp(scaled - scaled.max())
            before = np.cumsum(weights[order]) - weights[order]
            allowed = before / weights.sum() < np.float32(by.top_p)
            allowed[by.top_k or CANDIDATES :] = False
            expected = order[np.argmax(np.where(allowed, scaled[order] + few[row], -np.inf))]
        assert token == expected, (row, by)


def test_draws_where_jax_has_types_of_64_bits() -> None:
    with jax.enable_x64(True):
        ids = sample(jnp.asarray(LOGITS)[None], jax.random.split(jax.random.key(0), 1), by(1, 1.0))
    assert ids.dtype == jnp.int32


@pytest.mark.parametrize("temperature", [float("inf"), 1e39])
def test_a_temperature_beyond_float32_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="must be a finite number"):
        Sampling(temperature)
