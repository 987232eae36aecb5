"""Rows cut from the streams of a token store."""

from collections.abc import Sequence

import numpy as np

from mindllm_jax.rows import Batch, Rows
from mindllm_jax.store.store import TokenStore


def read_rows(
    store: TokenStore, places: Sequence[tuple[str, str, int]], targets: np.ndarray, sequence_length: int
) -> Batch:
    """Reads rows of T consecutive tokens from the given places of the store's streams.

    A row begins anywhere in a document; `<doc>` begins each further one. It is an input as the first token of the
    document that it begins, and a target as the last of the document that it ends.

    Args:
        store: the token store.
        places: (source, split, start) of each row.
        targets: int [B], how many targets of each row count; the rest of the row is padding.
        sequence_length: T.
    """
    manifest = store.manifest
    windows = store.windows(places, sequence_length + 1)
    tokens = windows[:, :-1].copy()
    segment_ids, positions = _segments(tokens == manifest.doc_id)
    batch = Batch(
        tokens=tokens,
        targets=windows[:, 1:].copy(),
        weights=np.ones(tokens.shape, np.float32),
        segment_ids=segment_ids,
        positions=positions,
    )
    for row in np.flatnonzero(targets < sequence_length):
        for field, padding in zip(batch, (manifest.pad_id, manifest.pad_id, 0, 0, 0), strict=True):
            field[row, targets[row] :] = padding
    return batch


def _segments(begins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns segment ids and positions, int32 [B T], of the documents that begin at the True tokens, bool [B T].

    Documents are few among the tokens: arithmetic by document takes half the time of a cumulative sum over the tokens.
    """
    begins[:, 0] = True
    rows, length = begins.shape
    starts = np.flatnonzero(begins)
    lengths = np.diff(starts, append=begins.size)
    row_of = starts // length
    first_of = np.searchsorted(starts, np.arange(rows) * length)[row_of]
    segments = (np.arange(1, len(starts) + 1) - first_of).astype(np.int32)
    positions = np.arange(begins.size, dtype=np.int32) - np.repeat(starts.astype(np.int32), lengths)
    return np.repeat(segments, lengths).reshape(begins.shape), positions.reshape(begins.shape)


class SplitRows(Rows):
    """A split of one source from beginning to end, every target once; for bits per byte.

    A split of N tokens has N targets, the ids of its documents and a `<doc>` at the end of each, and ceil(N / T) rows;
    the last one is filled up with padding.
    """

    def __init__(self, store: TokenStore, source: str, split: str, sequence_length: int) -> None:
        """Raises ValueError for a source or split that is not in the store."""
        super().__init__(sequence_length)
        self._store, self._source, self._split = store, source, split
        self._tokens = store.split(source, split).tokens

    def __len__(self) -> int:
        return -(-self._tokens // self.sequence_length)

    def read(self, indices: np.ndarray) -> Batch:
        """Reads the rows of the given numbers, as `Rows.read`."""
        if not self._tokens:
            raise IndexError(f"the split {self._split} of {self._source} is empty: it has no rows")
        starts = np.asarray(indices, np.int64) * self.sequence_length
        # Rows past the end read from the beginning again, and none of it counts.
        targets = np.clip(self._tokens - starts, 0, self.sequence_length)
        places = [(self._source, self._split, int(start)) for start in starts]
        return read_rows(self._store, places, targets, self.sequence_length)
