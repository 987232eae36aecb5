"""The mixture is exact: proportions in every window, every token once an epoch, each row a function of its number."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindllm_jax.data.mixture import Mixture, MixtureRows, deal
from mindllm_jax.data.rows import Batch
from mindllm_jax.data.store import TokenStore

# Lengths of documents. The ids of the sources' tokens follow each other, so a token says which source it is of.
SOURCES = {
    "poems": ("zh", [7] * 40),
    "laws": ("zh", [101] * 9),
    "books": ("en", [50, 3, 400, 1, 77, 150] * 2),
    "news": ("en", [12] * 30),
}
LENGTH = 16


@pytest.fixture
def store(count_store) -> TokenStore:
    return count_store(SOURCES)


def mixture(**changes: object) -> Mixture:
    return Mixture(**({"store": "", "sequence_length": LENGTH} | changes))  # pyright: ignore[reportArgumentType]


def source_of_rows(batch: Batch) -> list[str]:
    """By the largest token of each row: the ids of the sources follow each other."""
    ends, following = {}, 2
    for name, (_, lengths) in SOURCES.items():
        following += sum(lengths) - len(lengths)
        ends[name] = following
    return [next(name for name, end in ends.items() if token < end) for token in np.max(batch.tokens, axis=1)]


def rows_in_epoch(name: str) -> int:
    return -(-sum(SOURCES[name][1]) // LENGTH)


def test_languages_have_their_weights_in_every_window(store: TokenStore) -> None:
    batch = MixtureRows(mixture(), store).read(np.arange(1000, 1400))
    chinese = np.array([SOURCES[name][0] == "zh" for name in source_of_rows(batch)])
    per_window = np.convolve(chinese, np.ones(5, int), mode="valid")
    assert set(per_window.tolist()) == {2}


def test_sources_of_a_language_end_their_epochs_together(store: TokenStore) -> None:
    rows = MixtureRows(mixture(weights={"zh": 1}), store)
    epoch = rows_in_epoch("poems") + rows_in_epoch("laws")
    for start in (0, epoch, 7 * epoch):
        names = Counter(source_of_rows(rows.read(np.arange(start, start + epoch))))
        assert names == {"poems": rows_in_epoch("poems"), "laws": rows_in_epoch("laws")}


def test_sources_have_their_shares_in_windows(store: TokenStore) -> None:
    rows = MixtureRows(mixture(weights={"en": 1}), store)
    share = rows_in_epoch("news") / (rows_in_epoch("news") + rows_in_epoch("books"))
    is_news = np.array([name == "news" for name in source_of_rows(rows.read(np.arange(500)))])
    for width in (10, 50, 200):
        counts = np.convolve(is_news, np.ones(width, int), mode="valid")
        assert np.abs(counts - share * width).max() <= 1


@pytest.mark.parametrize("epoch", [0, 1, 9])
@pytest.mark.parametrize("name", SOURCES)
def test_every_token_is_a_target_once_an_epoch(store: TokenStore, name: str, epoch: int) -> None:
    rows = MixtureRows(mixture(weights={SOURCES[name][0]: 1}, sources=(name,)), store)
    size = rows_in_epoch(name)
    batch = rows.read(np.arange(epoch * size, (epoch + 1) * size))
    targets = np.asarray(batch.targets)[np.asarray(batch.weights) > 0]
    stream = store.windows([(name, "train", 0)], store.split(name, "train").tokens)[0]
    assert sorted(targets.tolist()) == sorted(stream.tolist())
    # What is left over is in one row.
    assert np.count_nonzero(np.min(np.asarray(batch.weights), axis=1) == 0) == (len(stream) % LENGTH > 0)


def test_a_row_holds_consecutive_tokens_and_their_followers(store: TokenStore) -> None:
    batch = MixtureRows(mixture(), store).read(np.arange(300))
    stream_after: dict[int, int] = {}
    for name in SOURCES:
        stream = store.windows([(name, "train", 0)], store.split(name, "train").tokens + 1)[0]
        stream_after |= {int(a): int(b) for a, b in pairwise(stream) if a != 1}
    for tokens, targets, weights in zip(batch.tokens, batch.targets, batch.weights, strict=True):
        real = int(np.sum(weights))
        np.testing.assert_array_equal(tokens[1:real], targets[: real - 1])
        assert all(stream_after[int(a)] == b for a, b in zip(tokens[:real], targets[:real], strict=True) if a != 1)


def test_documents_are_cut_elsewhere_in_each_epoch(store: TokenStore) -> None:
    rows = MixtureRows(mixture(weights={"en": 1}, sources=("books",)), store)
    size = rows_in_epoch("books")
    batch = rows.read(np.arange(20 * size))
    firsts = np.asarray(batch.tokens)[:, 0].reshape(20, size)
    # Of the 20 grids hardly any two are the same.
    assert len({tuple(sorted(epoch)) for epoch in firsts.tolist()}) >= 12


def test_rows_are_in_a_new_order_in_each_epoch(store: TokenStore) -> None:
    rows = MixtureRows(mixture(weights={"zh": 1}, sources=("laws",)), store)
    size = rows_in_epoch("laws")
    firsts = np.asarray(rows.read(np.arange(4 * size)).tokens)[:, 0].reshape(4, size)
    steps = [np.diff(epoch).tolist() for epoch in firsts]
    assert all(len(set(epoch)) > size // 2 for epoch in steps)
    assert len(set(map(tuple, steps))) == 4


def test_a_row_is_a_function_of_seed_and_number(store: TokenStore) -> None:
    numbers = np.random.default_rng(0).permutation(400)[:100]
    rows = MixtureRows(mixture(seed=3), store)
    whole = rows.read(np.arange(400))
    for field, wanted in zip(rows.read(numbers), whole, strict=True):
        np.testing.assert_array_equal(field, wanted[numbers])
    again, other = (MixtureRows(mixture(seed=seed), store).read(np.arange(400)) for seed in (3, 4))
    np.testing.assert_array_equal(again.tokens, whole.tokens)
    assert np.any(other.tokens != whole.tokens)


def test_the_order_of_the_weights_does_not_matter(store: TokenStore) -> None:
    one, other = (
        MixtureRows(mixture(weights=weights), store).read(np.arange(50)).tokens
        for weights in ({"zh": 2, "en": 3}, {"en": 3, "zh": 2})
    )
    np.testing.assert_array_equal(one, other)


def test_rows_far_from_the_start(store: TokenStore) -> None:
    assert MixtureRows(mixture(), store).read(np.array([10**15])).tokens.shape == (1, LENGTH)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(0, 10**9))
def test_dealing_is_exact_over_every_period_and_counts_up(weights: list[int], start: int) -> None:
    period = sum(weights)
    dealt = [deal(index, weights) for index in range(start * period, (start + 1) * period)]
    assert Counter(which for which, _ in dealt) == dict(enumerate(weights))
    for which, weight in enumerate(weights):
        assert [count for who, count in dealt if who == which] == list(range(start * weight, (start + 1) * weight))


@given(st.lists(st.integers(1, 60), min_size=2, max_size=8), st.integers(1, 300))
def test_dealing_is_even(weights: list[int], items: int) -> None:
    counts = Counter(deal(index, weights)[0] for index in range(items))
    for which, weight in enumerate(weights):
        # Each rounding is off by a half at most, and the later ones bear a part of what the earlier ones were off.
        bound = 0.5 if which == 0 or len(weights) == 2 else len(weights) / 2
        assert abs(counts[which] - items * weight / sum(weights)) <= bound


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": {}}, "Mixture.weights is empty"),
        ({"weights": {"zh": 0}}, r"Mixture.weights\['zh'\] must be a whole number of at least 1, not 0"),
        ({"weights": {"zh": 1.5}}, "must be a whole number of at least 1, not 1.5"),
        ({"weights": {"zh": True}}, "must be a whole number of at least 1, not True"),
        ({"sequence_length": 1}, "Mixture.sequence_length must be at least 2, not 1"),
    ],
)
def test_bad_settings(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mixture(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": {"zh": 1, "fr": 1}}, "names the language 'fr', of which the store .* has nothing; it has en, zh"),
        ({"sources": ("poem",)}, "names 'poem', which is not in the store .*; did you mean 'poems'"),
        ({"sources": ("x",)}, "names 'x', which is not in the store .*; it has books, laws, news, poems"),
        ({"sources": ("poems",)}, "names no source of the language 'en', which has a weight"),
        ({"sources": ("poems", "news"), "weights": {"zh": 1}}, "names 'news', whose language 'en' has no weight"),
        (
            {"sequence_length": 280},
            "source poems has 280 tokens to train on, too few for a row of 280 and its last",
        ),
    ],
)
def test_what_the_store_cannot_give(store: TokenStore, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MixtureRows(mixture(**changes), store)
