"""Rows against a token-by-token account of what they must hold."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mindllm_jax.rows import Batch, SampledRows
from mindllm_jax.store.rows import SplitRows, read_rows
from mindllm_jax.store.store import TokenStore


def expected_row(stream: list[int], start: int, targets: int, length: int, doc: int, pad: int) -> list[list]:
    """The five fields of one row, written down one token at a time."""
    row: list[list] = [[], [], [], [], []]
    segment, position = 1, -1
    for i in range(length):
        token, target = stream[(start + i) % len(stream)], stream[(start + i + 1) % len(stream)]
        if token == doc and i > 0:
            segment, position = segment + 1, -1
        position += 1
        values = [token, target, 1.0, segment, position] if i < targets else [pad, pad, 0.0, 0, 0]
        for field, value in zip(row, values, strict=True):
            field.append(value)
    return row


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=8),
    rows=st.lists(st.tuples(st.integers(0, 100), st.integers(0, 16)), min_size=1, max_size=5),
    length=st.integers(2, 16),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_rows_match_a_token_by_token_reference(count_store, lengths, rows, length: int) -> None:
    store = count_store({"a": ("zh", lengths)})
    stream = store.windows([("a", "train", 0)], sum(lengths))[0].tolist()
    targets = np.array([min(length, wanted) for _, wanted in rows])
    batch = read_rows(store, [("a", "train", start) for start, _ in rows], targets, length)
    assert [field.dtype for field in batch] == [np.int32, np.int32, np.float32, np.int32, np.int32]
    for number, (start, _) in enumerate(rows):
        wanted = expected_row(stream, start, int(targets[number]), length, doc=1, pad=0)
        assert [field[number].tolist() for field in batch] == wanted


def targets_of(batch: Batch) -> list[int]:
    return np.asarray(batch.targets)[np.asarray(batch.weights) > 0].tolist()


@pytest.mark.parametrize("length", [2, 7, 20, 33, 34, 100])
def test_a_split_is_read_from_beginning_to_end(count_store, length: int) -> None:
    store = count_store({"a": ("zh", [9, 1, 4, 19]), "b": ("zh", [40])})
    rows = SplitRows(store, "a", "train", length)
    stream = store.windows([("a", "train", 0)], 33)[0].tolist()
    assert len(rows) == -(-33 // length)
    batch = rows.read(np.arange(len(rows)))
    assert targets_of(batch) == [*stream[1:], store.manifest.doc_id]


def test_every_held_out_byte_is_a_target_once(text_store: TokenStore) -> None:
    for source in text_store.sources:
        rows = SplitRows(text_store, source, "held_out", 32)
        info = text_store.split(source, "held_out")
        targets = targets_of(rows.read(np.arange(len(rows))))
        assert len(targets) == info.tokens
        assert text_store.tokenizer.token_bytes[targets].sum() == info.bytes
        assert targets.count(text_store.manifest.doc_id) == info.documents


def test_rows_past_the_end_are_padding(count_store) -> None:
    rows = SplitRows(count_store({"a": ("zh", [9, 4])}), "a", "train", 5)
    whole, beyond = rows.read(np.array([0, 1, 2])), rows.read(np.array([2, 3, 50]))
    assert np.asarray(beyond.weights).sum(axis=1).tolist() == [3, 0, 0]
    assert not np.asarray(beyond.segment_ids)[1:].any()
    np.testing.assert_array_equal(whole.tokens[2], beyond.tokens[0])


def test_an_empty_split_has_no_rows(count_store) -> None:
    rows = SplitRows(count_store({"a": ("zh", [9])}), "a", "held_out", 5)
    assert len(rows) == 0
    with pytest.raises(IndexError, match="the split held_out of a is empty"):
        rows.read(np.array([0]))


def test_an_unknown_source(count_store) -> None:
    with pytest.raises(ValueError, match="has no source 'b'; it has a"):
        SplitRows(count_store({"a": ("zh", [9])}), "b", "train", 5)


def test_a_sample_is_some_rows_in_their_order_and_then_padding(count_store) -> None:
    rows = SplitRows(count_store({"a": ("zh", [50, 73])}), "a", "train", 3)
    sample = SampledRows(rows, 7, seed=0)
    batch, whole = sample.read(np.arange(10)), rows.read(np.arange(41))
    numbers = [int(np.flatnonzero((whole.tokens == row).all(axis=1))[0]) for row in np.asarray(batch.tokens)[:7]]
    assert len(sample) == 7 and numbers == sorted(set(numbers))
    assert not np.asarray(batch.weights)[7:].any() and np.asarray(batch.weights)[:6].all()
    everything = SampledRows(rows, 1000, seed=0)
    assert len(everything) == 41
    for field, expected in zip(everything.read(np.arange(44)), rows.read(np.arange(44)), strict=True):
        np.testing.assert_array_equal(field, expected)


@pytest.mark.parametrize(("size", "count"), [(9, 2), (60, 5)])
def test_a_sample_takes_every_row_equally_often(count_store, size: int, count: int) -> None:
    """So its mean estimates that of all rows without bias."""
    rows = SplitRows(count_store({"a": ("zh", [4 * size])}), "a", "train", 4)
    draws = 3000
    taken = np.bincount(np.concatenate([SampledRows(rows, count, seed)._numbers for seed in range(draws)]))
    expected = draws * count / size
    assert np.square(taken - expected).sum() / expected < size + 5 * (2 * size) ** 0.5, "chi-squared"
