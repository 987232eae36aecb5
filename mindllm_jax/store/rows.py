"""Rows: fixed lengths of a token stream, ready for a training step."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from mindllm_jax.hashing import hash64, permute
from mindllm_jax.store.store import TokenStore

Array = np.ndarray | jax.Array


class Batch(NamedTuple):
    """B rows of T tokens.

    Attributes:
        tokens: int32 [B T], what the model reads.
        targets: int32 [B T], what it shall say after each token: the next token, and at a document's end `<doc>`.
        weights: float32 [B T], of each target in the loss; 0 for padding.
        segment_ids: int32 [B T], 1 for the first document of a row and one more for each that follows; 0 for padding.
        positions: int32 [B T], 0 at the first token of each document in the row.
    """

    tokens: Array
    targets: Array
    weights: Array
    segment_ids: Array
    positions: Array


class Rows(Protocol):
    """Rows of T tokens by number, each a pure function of its number."""

    @property
    def sequence_length(self) -> int:
        """T."""
        ...

    def read(self, indices: np.ndarray) -> Batch:
        """The rows of the given numbers, int64 [B]. Past the end of finite rows there are rows of padding."""
        ...


class TrainingRows(Rows, Protocol):
    """Endless rows in the order in which a run reads them."""

    @property
    def planned_rows(self) -> int | None:
        """The number of rows that the order is laid out over; None where it does not depend on the length of a run."""
        ...

    def places(self, indices: np.ndarray) -> list[Any]:
        """What each row of the given numbers is made of, as JSON values; int64 [B] to a list of B."""
        ...


class FiniteRows(Rows, Protocol):
    """Rows of which there are only so many."""

    def __len__(self) -> int: ...


def read_rows(
    store: TokenStore, places: Sequence[tuple[str, str, int]], targets: np.ndarray, sequence_length: int
) -> Batch:
    """Rows that begin at the given places of the store's streams.

    A row begins anywhere in a document; `<doc>` begins each further one. The model reads it as the first token of the
    document it begins, and says it as the last of the document it ends.

    Args:
        store: where the tokens are.
        places: (source, split, start) of each row.
        targets: int [B], how many targets of each row count; the rest of the row is padding.
        sequence_length: T.
    """
    manifest = store.manifest
    windows = store.windows(places, sequence_length + 1)
    tokens = windows[:, :-1].copy()
    begins = tokens == manifest.doc_id
    begins[:, 0] = True
    column = np.arange(sequence_length, dtype=np.int32)
    batch = Batch(
        tokens=tokens,
        targets=windows[:, 1:].copy(),
        weights=np.ones(tokens.shape, np.float32),
        segment_ids=np.cumsum(begins, axis=1, dtype=np.int32),
        positions=column - np.maximum.accumulate(begins * column, axis=1),
    )
    for row in np.flatnonzero(targets < sequence_length):
        for field, padding in zip(batch, (manifest.pad_id, manifest.pad_id, 0, 0, 0), strict=True):
            field[row, targets[row] :] = padding
    return batch


class SplitRows:
    """A split of one source from beginning to end, every target once; for bits per byte.

    A split of N tokens has N targets, the ids of its documents and a `<doc>` at the end of each, and ceil(N / T) rows;
    the last one is filled up with padding.
    """

    def __init__(self, store: TokenStore, source: str, split: str, sequence_length: int) -> None:
        """Raises ValueError for a source or split that is not in the store."""
        self.sequence_length = sequence_length
        self._store, self._source, self._split = store, source, split
        self._tokens = store.split(source, split).tokens

    def __len__(self) -> int:
        return -(-self._tokens // self.sequence_length)

    def read(self, indices: np.ndarray) -> Batch:
        """See `Rows`."""
        if not self._tokens:
            raise IndexError(f"the split {self._split} of {self._source} is empty: it has no rows")
        starts = np.asarray(indices, np.int64) * self.sequence_length
        # Rows past the end read from the beginning again, and none of it counts.
        targets = np.clip(self._tokens - starts, 0, self.sequence_length)
        places = [(self._source, self._split, int(start)) for start in starts]
        return read_rows(self._store, places, targets, self.sequence_length)


class SampledRows:
    """A simple random sample of finite rows, without replacement, in their order; all rows where it asks for as many.

    Which rows these are depends on the seed, their number and how many are asked for, and on nothing else.
    """

    def __init__(self, rows: FiniteRows, count: int, seed: int) -> None:
        self.sequence_length = rows.sequence_length
        size, key = len(rows), hash64(seed, "sample")
        self._rows = rows
        self._numbers = np.sort([permute(i, size, key) for i in range(min(count, size))]).astype(np.int64)

    def __len__(self) -> int:
        return len(self._numbers)

    def read(self, indices: np.ndarray) -> Batch:
        """See `Rows`."""
        past_the_end = len(self._rows)
        return self._rows.read(np.append(self._numbers, past_the_end)[np.minimum(indices, len(self))])
