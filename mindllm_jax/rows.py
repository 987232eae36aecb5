"""Rows of T tokens, which a training step or an evaluation reads in batches, as datasets of Grain."""

import sys
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import grain
import jax
import numpy as np

from mindllm_jax.hashing import hash64, permute

Array = np.ndarray | jax.Array

ENDLESS = sys.maxsize
"""The length of rows without an end, as Grain has it."""


class Batch(NamedTuple):
    """B rows of T tokens; a single row has the same fields without the axis B.

    Attributes:
        tokens: int32 [B T], the inputs.
        targets: int32 [B T], the next-token targets; `<doc>` at the end of a document.
        weights: float32 [B T], of each target in the loss; 0 for padding.
        segment_ids: int32 [B T], 1 for the first document of a row and one more for each that follows; 0 for padding.
        positions: int32 [B T], 0 at the first token of each document in the row.
    """

    tokens: Array
    targets: Array
    weights: Array
    segment_ids: Array
    positions: Array


class Rows(grain.MapDataset[Batch]):
    """Rows of T tokens by number, each a pure function of its number: a `grain.MapDataset` of single rows.

    It can be indexed, sliced, mapped and batched as any dataset of Grain:

        rows = MixtureRows(mixture, TokenStore.open(mixture.store), steps=1000, global_batch_size=32)
        rows[5].tokens                                                  # int32 [T]
        texts = rows[1000:].map(lambda row: tokenizer.decode(row.tokens))
        rows.batch(8)[0].targets                                        # int32 [8 T]

    Indexing reads one row. Training and evaluation take the rows of a batch by `read`, all at the same time.

    Attributes:
        sequence_length: T.
    """

    def __init__(self, sequence_length: int) -> None:
        super().__init__()
        self.sequence_length = sequence_length

    @abstractmethod
    def read(self, indices: np.ndarray) -> Batch:
        """Returns the rows of the given numbers, int64 [B]. Past the end of finite rows there are rows of padding."""

    def __getitem__(self, index: Any) -> Any:  # Grain's overloads: a slice gives a dataset, a number a row
        if isinstance(index, slice):
            return self.slice(index)
        return self._getitems([index])[0]

    def _getitems(self, indices: Sequence[int]) -> list[Batch]:
        """Returns single rows. Numbers past the end begin again, which is how Grain counts epochs."""
        if not len(self):
            raise IndexError("there are no rows")
        batch = self.read(np.array([index % len(self) for index in indices], np.int64))
        return [Batch(*fields) for fields in zip(*batch, strict=True)]


class TrainingRows(Rows):
    """Endless rows in the order in which a run reads them.

    Attributes:
        planned_rows: number of rows that the order is laid out over; None where it does not depend on a run's length.
    """

    def __init__(self, sequence_length: int, planned_rows: int | None) -> None:
        super().__init__(sequence_length)
        self.planned_rows = planned_rows

    def __len__(self) -> int:
        return ENDLESS

    @abstractmethod
    def places(self, indices: np.ndarray) -> list[Any]:
        """Returns the origin of each row of the given numbers, int64 [B], as a JSON value."""


class SampledRows(Rows):
    """A simple random sample of finite rows, without replacement, in their order; all rows where it asks for as many.

    The sample depends on the seed, the number of rows and the size of the sample alone.
    """

    def __init__(self, rows: Rows, count: int, seed: int) -> None:
        super().__init__(rows.sequence_length)
        size, key = len(rows), hash64(seed, "sample")
        self._rows = rows
        self._numbers = np.sort([permute(i, size, key) for i in range(min(count, size))]).astype(np.int64)

    def __len__(self) -> int:
        return len(self._numbers)

    def read(self, indices: np.ndarray) -> Batch:
        """Reads the rows of the given numbers, as `Rows.read`."""
        past_the_end = len(self._rows)
        return self._rows.read(np.append(self._numbers, past_the_end)[np.minimum(indices, len(self))])
