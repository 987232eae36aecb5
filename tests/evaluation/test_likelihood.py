from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numerics import SEED

from mindllm_jax.evaluation import likelihood
from mindllm_jax.evaluation.likelihood import Query, likelihoods
from mindllm_jax.model.decoder import Decoder

LogProbabilities = Callable[[Decoder, Sequence[int]], np.ndarray]


LogOf = Callable[[Sequence[int], Sequence[int]], float]


@pytest.fixture(scope="module")
def log_of(decoder: Decoder, log_probabilities: LogProbabilities) -> LogOf:
    """Log-probability of a continuation after a context, from one pass over the whole."""

    def compute(context: Sequence[int], continuation: Sequence[int]) -> float:
        whole = [*context, *continuation]
        places = np.arange(len(context) - 1, len(whole) - 1)
        return float(log_probabilities(decoder, whole[:-1])[places, list(continuation)].sum())

    return compute


@pytest.fixture(scope="module")
def queries() -> list[Query]:
    """Contexts and continuations of many lengths, some sharing all but the last token."""
    random = np.random.default_rng(SEED)

    def ids(most: int) -> list[int]:
        return random.integers(0, 300, random.integers(1, most)).tolist()

    shared = ids(30)
    return [Query(ids(40), ids(20)) for _ in range(40)] + [Query(shared, [letter]) for letter in (5, 6, 7, 8)]


def test_likelihoods_are_those_of_the_whole_sequence(decoder: Decoder, queries: list[Query], log_of: LogOf) -> None:
    for query, answer in zip(queries, likelihoods(decoder, queries), strict=True):
        assert answer.log == pytest.approx(log_of(query.context, query.continuation), rel=5e-6)
        assert answer.cut == 0


@pytest.mark.parametrize("batch_size", [1, 5])
def test_batches_and_devices_change_nothing(
    decoder: Decoder, wide_decoder: Decoder, queries: list[Query], batch_size: int
) -> None:
    expected = likelihoods(decoder, queries)
    found = likelihoods(wide_decoder, queries, batch_size=batch_size)
    assert [answer.log for answer in found] == pytest.approx([answer.log for answer in expected], rel=5e-6)
    assert [answer.greedy for answer in found] == [answer.greedy for answer in expected]


def test_greedy_matches_decoding(decoder: Decoder, log_probabilities: LogProbabilities) -> None:
    context, tokens = [3, 14, 15], [3, 14, 15]
    for _ in range(6):
        tokens.append(int(log_probabilities(decoder, tokens)[-1].argmax()))
    best = tokens[3:]
    queries = [Query(context, best), Query(context, best[:3]), Query(context, [*best[:-1], best[-1] + 1])]
    assert [answer.greedy for answer in likelihoods(decoder, queries)] == [True, True, False]


def test_letters_share_one_forward_pass(decoder: Decoder, queries: list[Query]) -> None:
    assert len(likelihood._sequences(queries, decoder.config.max_seq_len)) == 41
    assert len({answer.log for answer in likelihoods(decoder, queries[-4:])}) == 4


def test_one_program_serves_queries_of_all_lengths(decoder: Decoder) -> None:
    before = likelihood._score._cache_size()  # pyright: ignore
    likelihoods(decoder, [Query([1] * n, [2] * m) for n in range(1, 33) for m in (1, 2, 3, 7, 11)], batch_size=3)
    assert likelihood._score._cache_size() - before == 1  # pyright: ignore


def test_long_queries_are_cut_on_the_left_and_counted(decoder: Decoder, log_of: LogOf) -> None:
    longest = decoder.config.max_seq_len
    tokens = np.random.default_rng(1).integers(0, 300, longest + 11).tolist()
    query = Query(tokens[:-5], tokens[-5:])
    (answer,) = likelihoods(decoder, [query])
    assert answer.cut == 10
    assert answer.log == pytest.approx(log_of(tokens[10:-5], tokens[-5:]), rel=5e-6)
    (fits,) = likelihoods(decoder, [Query(tokens[10:-5], tokens[-5:])])
    assert fits.cut == 0 and fits.log == pytest.approx(answer.log, rel=5e-6)


def test_a_continuation_alone_too_long_counts_by_its_end(decoder: Decoder, log_of: LogOf) -> None:
    longest = decoder.config.max_seq_len
    tokens = np.random.default_rng(2).integers(0, 300, longest + 7).tolist()
    (answer,) = likelihoods(decoder, [Query(tokens[:2], tokens[2:])])
    assert answer.cut == 6
    assert answer.log == pytest.approx(log_of(tokens[6:7], tokens[7:]), rel=5e-6)


def test_nothing_is_certain_and_needs_no_pass(decoder: Decoder) -> None:
    assert likelihoods(decoder, [Query([1, 2], [])]) == [(0.0, True, 0)]
    assert likelihoods(decoder, []) == []


def test_a_model_that_is_not_finite_answers_nothing(decoder: Decoder) -> None:
    """Of four NaNs the first would be the largest, and every A would be right."""
    broken = nnx.clone(decoder)
    broken.embedding[...] = jnp.full_like(broken.embedding[...], jnp.nan)
    with pytest.raises(ValueError, match="a log-likelihood is not a number: parameters"):
        likelihoods(broken, [Query([1, 2], [3])])


def test_an_empty_context_is_refused(decoder: Decoder) -> None:
    with pytest.raises(ValueError, match="needs a context"):
        likelihoods(decoder, [Query([], [1])])
