"""Packed rows: every conversation once, whole, and blind to its neighbours."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st
from numerics import assert_same

from mindllm_jax.batching.chat_format import EncodedConversation
from mindllm_jax.instruct.packed import PackedRows
from mindllm_jax.instruct.tuning_rows import EpochRows
from mindllm_jax.rows import Batch
from mindllm_jax.training.load_run import load_decoder

PAD, LENGTH = 0, 16


def conversations(lengths: list[int]) -> list[EncodedConversation]:
    """Conversations of distinct ids, of which about half are said, the first never."""
    rng = np.random.default_rng(0)
    ids = np.split(np.arange(1, sum(lengths) + 1, dtype=np.int32), np.cumsum(lengths)[:-1])
    return [EncodedConversation(one, np.append(False, rng.random(len(one) - 1) < 0.5)) for one in ids]


def pack(some: list[EncodedConversation], seed: int = 0) -> PackedRows:
    return PackedRows.pack(some, sequence_length=LENGTH, pad_id=PAD, seed=seed)


def unpacked(batch: Batch) -> list[tuple[list[int], list[int], list[float], list[int]]]:
    """Tokens, targets, weights and positions of every segment of every row."""
    segments = []
    for tokens, targets, weights, ids, positions in zip(*map(np.asarray, batch), strict=True):
        for segment in range(1, ids.max() + 1):
            here = ids == segment
            segments.append(tuple(field[here].tolist() for field in (tokens, targets, weights, positions)))
    return segments


LENGTHS = st.lists(st.integers(2, LENGTH + 1), min_size=1, max_size=40)


@given(lengths=LENGTHS, seed=st.integers(0, 5))
def test_every_conversation_is_in_one_row_whole(lengths: list[int], seed: int) -> None:
    some = conversations(lengths)
    rows = pack(some, seed)
    batch = rows.read(np.arange(len(rows)))
    expected = [
        (ids[:-1].tolist(), ids[1:].tolist(), loss_mask[1:].astype(float).tolist(), list(range(len(ids) - 1)))
        for ids, loss_mask in some
    ]
    assert sorted(unpacked(batch)) == sorted(expected)


@given(lengths=LENGTHS)
def test_padding_stands_at_the_end_and_counts_nothing(lengths: list[int]) -> None:
    rows = pack(conversations(lengths))
    batch = rows.read(np.arange(len(rows) + 2))
    padding = batch.segment_ids == 0
    assert np.all(np.diff(padding.astype(int), axis=1) >= 0)
    assert padding[-2:].all(), "past the end there are rows of padding"
    assert not batch.weights[padding].any() and not batch.positions[padding].any()
    assert (batch.tokens[padding] == PAD).all() and (batch.targets[padding] == PAD).all()
    assert [field.dtype for field in batch] == [np.int32, np.int32, np.float32, np.int32, np.int32]


@given(lengths=LENGTHS)
def test_rows_are_as_few_as_first_fit_makes_them(lengths: list[int]) -> None:
    rows = pack(conversations(lengths))
    places = sum(length - 1 for length in lengths)
    assert -(-places // LENGTH) <= len(rows) <= max(1, 2 * places // LENGTH + 1)


def test_the_seed_orders_the_rows() -> None:
    some = conversations([5] * 30)
    assert np.array_equal(pack(some).ids, pack(some).ids)
    assert not np.array_equal(pack(some, 0).ids, pack(some, 1).ids)
    assert not np.array_equal(pack(some).ids, np.concatenate([one.ids for one in some])), "not the order of the files"


def test_a_conversation_longer_than_a_row() -> None:
    with pytest.raises(ValueError, match="a conversation of 18 ids does not fit a row of 16 tokens"):
        pack(conversations([4, 18]))


@pytest.mark.parametrize("count", [1, 7, 40])
def test_an_epoch_has_every_row_once(count: int) -> None:
    packed = pack(conversations([LENGTH + 1] * count))
    rows = EpochRows(packed, seed=3)
    epochs = [rows.read(np.arange(e * count, (e + 1) * count)).tokens for e in range(3)]
    for epoch in epochs:
        assert sorted(epoch[:, 0].tolist()) == sorted(packed.read(np.arange(count)).tokens[:, 0].tolist())
    if count > 1:
        assert not np.array_equal(epochs[0], epochs[1])
    somewhere = np.array([2 * count, 0, count])
    assert np.array_equal(rows.read(somewhere).tokens, np.stack([epochs[2][0], epochs[0][0], epochs[1][0]]))


def test_packed_rows_are_a_dataset_of_grain() -> None:
    packed = pack(conversations([5, 9, 12, 3, 16]))
    rows = EpochRows(packed, seed=3)
    read = rows.read(np.arange(12))
    for field, wanted in zip(rows[4:].batch(4)[1], read, strict=True):
        assert np.array_equal(field, wanted[8:12])
    assert rows.map(lambda row: row.tokens.tolist())[7] == read.tokens[7].tolist()
    assert [row.tokens.tolist() for row in packed] == packed.read(np.arange(len(packed))).tokens.tolist()


def test_a_conversation_does_not_see_its_neighbours(base: Path) -> None:
    rows = pack(conversations([6, 5, 7]))
    (row,) = (rows.read(np.array([index])) for index in range(len(rows)))
    decoder = load_decoder(base).decoder
    compiled = nnx.jit(lambda decoder, b: decoder(b.tokens, segment_ids=b.segment_ids, positions=b.positions))

    def forward(batch: Batch) -> np.ndarray:
        return np.asarray(compiled(decoder, Batch(*map(jnp.asarray, batch))))

    hidden = forward(row)
    for segment in (1, 2, 3):
        inside = row.segment_ids == segment
        other = row._replace(tokens=np.where(inside, row.tokens, row.tokens + 7))
        changed = forward(other)
        assert np.array_equal(changed[inside], hidden[inside])
        assert not np.array_equal(changed[~inside], hidden[~inside])
        count = int(inside.sum())
        alone = Batch(*(np.zeros_like(field) for field in row))
        for field, whole in zip(alone, row, strict=True):
            field[:, :count] = whole[inside]
        assert_same(forward(alone)[0, :count], hidden[inside], "float32")
