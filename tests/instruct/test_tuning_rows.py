"""Datasets by weight and replayed text: the proportions, and that every row is read."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindllm_jax.batching.chat_format import EncodedConversation
from mindllm_jax.instruct.packed import PackedRows
from mindllm_jax.instruct.tuning_rows import REPLAY, TuningRows
from mindllm_jax.rows import Batch, TrainingRows

LENGTH = 8


def packed(count: int, first: int) -> PackedRows:
    """So many rows of one conversation each, which begins with a token of its own."""
    some = [
        EncodedConversation(np.full(LENGTH + 1, first + i, np.int32), np.ones(LENGTH + 1, bool)) for i in range(count)
    ]
    return PackedRows.pack(some, sequence_length=LENGTH, pad_id=0, seed=0)


class Numbered(TrainingRows):
    """Rows whose tokens are 1000 and more: text that is replayed."""

    def read(self, indices: np.ndarray) -> Batch:
        tokens = np.repeat(1000 + indices[:, None], LENGTH, axis=1).astype(np.int32)
        ones = np.ones_like(tokens)
        return Batch(tokens, tokens, ones.astype(np.float32), ones, ones)

    def places(self, indices: np.ndarray) -> list[int]:
        return indices.tolist()


@given(
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    weights=st.lists(st.sampled_from([0.5, 1.0, 2.0, 3.0]), min_size=4, max_size=4),
    share=st.sampled_from([0.0, 0.1, 0.25, 0.5]),
)
def test_every_window_has_the_proportions(sizes: list[int], weights: list[float], share: float) -> None:
    datasets = {str(i): packed(size, 100 * i) for i, size in enumerate(sizes)}
    of_dataset = dict(zip(datasets, weights, strict=False))
    replay = Numbered(LENGTH, None) if share else None
    rows = TuningRows(datasets, of_dataset, seed=1, replay=replay, share=share)
    places = rows.places(np.arange(400))
    counts = Counter(name for name, _ in places)
    assert counts[REPLAY] == pytest.approx(400 * share, abs=1)
    total = sum(weight * size for weight, size in zip(weights, sizes, strict=False))
    for name, size in zip(datasets, sizes, strict=True):
        assert counts[name] == pytest.approx(400 * (1 - share) * of_dataset[name] * size / total, abs=len(sizes))
    assert [number for name, number in places if name == REPLAY] == list(range(counts[REPLAY]))


def test_equal_weights_read_every_row_once_an_epoch() -> None:
    datasets = {"a": packed(3, 10), "b": packed(7, 20)}
    tokens = TuningRows(datasets, {}, seed=0).read(np.arange(10)).tokens[:, 0].tolist()
    assert sorted(tokens) == [10, 11, 12, *range(20, 27)]


def test_rows_are_read_as_their_places_say() -> None:
    datasets = {"a": packed(3, 10), "b": packed(7, 20)}
    rows = TuningRows(datasets, {"a": 4.0}, seed=5, replay=Numbered(LENGTH, None), share=0.3)
    numbers = np.array([19, 3, 3, 40, 0, 7])
    batch = rows.read(numbers)
    for row, (name, place) in enumerate(rows.places(numbers)):
        source = Numbered(LENGTH, None) if name == REPLAY else datasets[name]
        for field, wanted in zip(batch, source.read(np.array([place])), strict=True):
            assert np.array_equal(field[row], wanted[0])


def test_a_dataset_of_weight_0_is_not_read() -> None:
    rows = TuningRows({"a": packed(3, 10), "b": packed(7, 20)}, {"b": 0.0}, seed=0)
    assert {name for name, _ in rows.places(np.arange(30))} == {"a"}
