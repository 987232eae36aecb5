"""The mixture is exact: proportions in every window, every token once an epoch, each row a function of its number."""

import hashlib
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from mindllm_jax.mixture.rows import MixtureRows
from mindllm_jax.mixture.settings import Mixture
from mindllm_jax.rows import Batch
from mindllm_jax.store.store import TokenStore

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


def mixture(**changes: Any) -> Mixture:
    return Mixture(**({"store": "", "sequence_length": LENGTH} | changes))


def mixed(store: TokenStore, *, steps: int = 100, global_batch_size: int = 8, **changes: Any) -> MixtureRows:
    return MixtureRows(mixture(**changes), store, steps=steps, global_batch_size=global_batch_size)


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
    batch = mixed(store).read(np.arange(1000, 1400))
    chinese = np.array([SOURCES[name][0] == "zh" for name in source_of_rows(batch)])
    per_window = np.convolve(chinese, np.ones(5, int), mode="valid")
    assert set(per_window.tolist()) == {2}


def test_sources_of_a_language_end_their_epochs_together(store: TokenStore) -> None:
    rows = mixed(store, weights={"zh": 1})
    epoch = rows_in_epoch("poems") + rows_in_epoch("laws")
    for start in (0, epoch, 7 * epoch):
        names = Counter(source_of_rows(rows.read(np.arange(start, start + epoch))))
        assert names == {"poems": rows_in_epoch("poems"), "laws": rows_in_epoch("laws")}


def test_sources_have_their_shares_in_windows(store: TokenStore) -> None:
    rows = mixed(store, weights={"en": 1})
    share = rows_in_epoch("news") / (rows_in_epoch("news") + rows_in_epoch("books"))
    is_news = np.array([name == "news" for name in source_of_rows(rows.read(np.arange(500)))])
    for width in (10, 50, 200):
        counts = np.convolve(is_news, np.ones(width, int), mode="valid")
        assert np.abs(counts - share * width).max() <= 1


@pytest.mark.parametrize("epoch", [0, 1, 9])
@pytest.mark.parametrize("name", SOURCES)
def test_every_token_is_a_target_once_an_epoch(store: TokenStore, name: str, epoch: int) -> None:
    rows = mixed(store, weights={SOURCES[name][0]: 1}, sources=(name,))
    size = rows_in_epoch(name)
    batch = rows.read(np.arange(epoch * size, (epoch + 1) * size))
    targets = np.asarray(batch.targets)[np.asarray(batch.weights) > 0]
    stream = store.windows([(name, "train", 0)], store.split(name, "train").tokens)[0]
    assert sorted(targets.tolist()) == sorted(stream.tolist())
    # What is left over is in one row.
    assert np.count_nonzero(np.min(np.asarray(batch.weights), axis=1) == 0) == (len(stream) % LENGTH > 0)


def test_a_row_holds_consecutive_tokens_and_their_followers(store: TokenStore) -> None:
    batch = mixed(store).read(np.arange(300))
    stream_after: dict[int, int] = {}
    for name in SOURCES:
        stream = store.windows([(name, "train", 0)], store.split(name, "train").tokens + 1)[0]
        stream_after |= {int(a): int(b) for a, b in pairwise(stream) if a != 1}
    for tokens, targets, weights in zip(batch.tokens, batch.targets, batch.weights, strict=True):
        real = int(np.sum(weights))
        np.testing.assert_array_equal(tokens[1:real], targets[: real - 1])
        assert all(stream_after[int(a)] == b for a, b in zip(tokens[:real], targets[:real], strict=True) if a != 1)


def test_documents_are_cut_elsewhere_in_each_epoch(store: TokenStore) -> None:
    rows = mixed(store, weights={"en": 1}, sources=("books",))
    size = rows_in_epoch("books")
    batch = rows.read(np.arange(20 * size))
    firsts = np.asarray(batch.tokens)[:, 0].reshape(20, size)
    # Of the 20 grids hardly any two are the same.
    assert len({tuple(sorted(epoch)) for epoch in firsts.tolist()}) >= 12


def test_rows_are_in_a_new_order_in_each_epoch(store: TokenStore) -> None:
    rows = mixed(store, weights={"zh": 1}, sources=("laws",))
    size = rows_in_epoch("laws")
    firsts = np.asarray(rows.read(np.arange(4 * size)).tokens)[:, 0].reshape(4, size)
    steps = [np.diff(epoch).tolist() for epoch in firsts]
    assert all(len(set(epoch)) > size // 2 for epoch in steps)
    assert len(set(map(tuple, steps))) == 4


def test_a_row_is_a_function_of_seed_and_number(store: TokenStore) -> None:
    numbers = np.random.default_rng(0).permutation(400)[:100]
    rows = mixed(store, seed=3)
    whole = rows.read(np.arange(400))
    for field, wanted in zip(rows.read(numbers), whole, strict=True):
        np.testing.assert_array_equal(field, wanted[numbers])
    again, other = (mixed(store, seed=seed).read(np.arange(400)) for seed in (3, 4))
    np.testing.assert_array_equal(again.tokens, whole.tokens)
    assert np.any(other.tokens != whole.tokens)


@pytest.mark.parametrize(
    ("changes", "sha256"),
    [
        ({}, "19c91c6f33b44abb281b68a5676f605aceca4195549d68bee64ac3127d173a3e"),
        ({"weights": {"en": 1}, "seed": 7}, "ba3d0205e47c2c74d57be220d8c6a84b9d9476babcfd7753cd7b83a7738bf1fe"),
    ],
)
def test_rows_are_the_recorded_ones(store: TokenStore, changes: dict[str, Any], sha256: str) -> None:
    """A run resumes with the same rows; these were recorded before there were stages and orders."""
    batch = mixed(store, **changes).read(np.r_[0:400, 10**9 : 10**9 + 100])
    assert hashlib.sha256(b"".join(np.ascontiguousarray(field).tobytes() for field in batch)).hexdigest() == sha256


def test_the_order_of_the_weights_does_not_matter(store: TokenStore) -> None:
    one, other = (
        mixed(store, weights=weights).read(np.arange(50)).tokens for weights in ({"zh": 2, "en": 3}, {"en": 3, "zh": 2})
    )
    np.testing.assert_array_equal(one, other)


def test_rows_far_from_the_start(store: TokenStore) -> None:
    assert mixed(store).read(np.array([10**15])).tokens.shape == (1, LENGTH)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"weights": {"zh": 1, "fr": 1}},
            "names the language 'fr', which no source of the store .* has; it has en, zh",
        ),
        ({"sources": ("poem",)}, "names 'poem', not in the store .*; did you mean 'poems'"),
        ({"sources": ("x",)}, "names 'x', not in the store .*; it has books, laws, news, poems"),
        ({"sources": ("poems",)}, "names no source of the language 'en', which has a weight"),
        ({"sources": ("poems", "news"), "weights": {"zh": 1}}, "names 'news', whose language 'en' has no weight"),
        (
            {"sequence_length": 280, "sources": ("books", "laws", "news", "poems")},
            "source poems has 280 tokens to train on, too few for a row of 280 and its last",
        ),
    ],
)
def test_settings_that_the_store_cannot_meet(store: TokenStore, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mixed(store, **changes)


ORDERS = (
    {},
    {"order": "blocked", "blocks": (("news", "poems"),)},
    {"chunk_rows": {"books": 5, "laws": 3}},
)
STAGES = ({"name": "English", "share": 1, "weights": {"en": 1}}, {"name": "both", "share": 2})


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_the_same_rows_in_any_order(store: TokenStore, order: dict[str, Any]) -> None:
    settings = {"stages": STAGES, "max_epochs": 9, "source_weights": {"poems": 0.5}}
    plain, ordered = (mixed(store, **settings, **changes).read(np.arange(800)) for changes in ({}, order))

    def rows(batch: Batch) -> list[bytes]:
        return sorted(b"".join(np.asarray(field)[row].tobytes() for field in batch) for row in range(800))

    assert rows(ordered) == rows(plain)
    assert not order or np.any(ordered.tokens != plain.tokens)


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_a_run_resumes_and_hosts_share_it_in_any_order(store: TokenStore, order: dict[str, Any]) -> None:
    settings = {"stages": STAGES, "max_epochs": 9, **order}
    whole = mixed(store, **settings).read(np.arange(800))
    later = mixed(store, **settings)
    for numbers in (np.arange(333, 800), np.arange(265, 270), np.arange(1, 800, 7)):
        np.testing.assert_array_equal(later.read(numbers).tokens, whole.tokens[numbers])


def test_a_stage_does_not_begin_its_sources_again(store: TokenStore) -> None:
    """Epochs run on over stages: the second begins inside the first epoch, and every token is still read once in it."""
    names = ("books", "news")
    size = sum(map(rows_in_epoch, names))
    stages = ({"name": "one", "share": 30}, {"name": "two", "share": size - 30, "source_weights": {}})
    rows = mixed(store, weights={"en": 1}, stages=stages, steps=size, global_batch_size=1)
    batch = rows.read(np.arange(size))
    targets = np.asarray(batch.targets)[np.asarray(batch.weights) > 0]
    streams = [store.windows([(name, "train", 0)], store.split(name, "train").tokens)[0] for name in names]
    # Each stage rounds its counts, so one row may come from the next epoch of the other source.
    twice = Counter(targets.tolist()) - Counter(np.concatenate(streams).tolist())
    assert twice.total() <= LENGTH
