"""A mixture is a dataset of Grain: a notebook indexes, slices, maps and batches the rows that training reads."""

import sys
from itertools import islice
from typing import Any

import grain
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from mindllm_jax.mixture.rows import MixtureRows
from mindllm_jax.mixture.settings import Mixture
from mindllm_jax.rows import Batch, Rows, SampledRows
from mindllm_jax.store.rows import SplitRows

LENGTH = 16


@pytest.fixture
def rows(count_store) -> MixtureRows:
    store = count_store({"poems": ("zh", [7] * 40), "news": ("en", [12] * 30)})
    return MixtureRows(Mixture("", sequence_length=LENGTH), store, steps=100, global_batch_size=8)


def assert_same_fields(found: Any, wanted: Any) -> None:
    assert isinstance(found, Batch)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        assert_array_equal(one, other)


def row_of(batch: Batch, number: int) -> Batch:
    return Batch(*(field[number] for field in batch))


def test_a_row_by_its_number(rows: MixtureRows) -> None:
    assert isinstance(rows, grain.MapDataset) and len(rows) == sys.maxsize
    read = rows.read(np.arange(40))
    for number in (0, 7, 39):
        assert_same_fields(rows[number], row_of(read, number))
    assert rows[3].tokens.shape == (LENGTH,)


def test_slices_maps_and_batches(rows: MixtureRows) -> None:
    read = rows.read(np.arange(100))
    assert len(rows[10:20]) == 10
    assert_same_fields(rows[10:20][3], row_of(read, 13))
    assert_same_fields(rows[5::3][4], row_of(read, 17))
    assert rows.map(lambda row: int(row.tokens.sum()))[6] == read.tokens[6].sum()
    assert_same_fields(rows.batch(8)[2], rows.read(np.arange(16, 24)))
    for number, row in enumerate(islice(rows[:20].to_iter_dataset(), 20)):
        assert_same_fields(row, row_of(read, number))


def test_finite_rows_end_and_repeat(rows: MixtureRows, count_store) -> None:
    split = SplitRows(count_store({"a": ("zh", [30, 5, 70])}), "a", "train", 12)
    for finite in (split, SampledRows(split, 4, seed=0)):
        read = finite.read(np.arange(len(finite)))
        assert [row.tokens.tolist() for row in finite] == read.tokens.tolist()
        assert_same_fields(finite.repeat(2)[len(finite) + 1], row_of(read, 1))
        shuffled = finite.shuffle(seed=0).batch(len(finite))[0]
        assert isinstance(shuffled, Batch) and shuffled.tokens.sum() == read.tokens.sum()
    assert list(SplitRows(count_store({"a": ("zh", [30])}), "a", "held_out", 12)) == []


def test_rows_are_read_together_where_grain_asks_for_many(rows: MixtureRows) -> None:
    asked: list[list[int]] = []

    class Counted(Rows):
        def __len__(self) -> int:
            return 100

        def read(self, indices: np.ndarray) -> Batch:
            asked.append(indices.tolist())
            return rows.read(indices)

    read = Counted(LENGTH)[10:20]._getitems([0, 5])
    assert asked == [[10, 15]]
    assert_same_fields(read[1], row_of(rows.read(np.arange(20)), 15))


def test_no_rows() -> None:
    class Empty(Rows):
        def __len__(self) -> int:
            return 0

        def read(self, indices: np.ndarray) -> Batch:
            raise AssertionError

    with pytest.raises(IndexError, match="there are no rows"):
        Empty(LENGTH)[0]
