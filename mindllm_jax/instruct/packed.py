"""Conversations packed into rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from mindllm_jax.batching.chat_format import EncodedConversation
from mindllm_jax.batching.packing import first_fit
from mindllm_jax.hashing import hash64, permute
from mindllm_jax.rows import Batch, Rows


class PackedRows(Rows):
    """Finite rows of T tokens, each of one or more conversations, every conversation in one row.

    A conversation of n ids takes n - 1 tokens: all ids but the last are inputs, all but the first are targets. Each is
    a segment with positions from 0, independent of its neighbours. Only the assistant's tokens have weight.

    The arrays are those of all conversations, one after the other in the order of their rows:

    Attributes:
        ids: int32 [N].
        loss_mask: bool [N], True on the assistant's tokens.
        conversations: int64 [C + 1], the place in `ids` where each conversation begins, and the end of the last.
        rows: int64 [R + 1], the first conversation of each row, and C.
    """

    def __init__(
        self,
        ids: np.ndarray,
        loss_mask: np.ndarray,
        conversations: np.ndarray,
        rows: np.ndarray,
        *,
        sequence_length: int,
        pad_id: int,
    ) -> None:
        super().__init__(sequence_length)
        self.ids, self.loss_mask, self.conversations, self.rows = ids, loss_mask, conversations, rows
        self._pad_id = pad_id

    @classmethod
    def pack(
        cls, conversations: Sequence[EncodedConversation], *, sequence_length: int, pad_id: int, seed: int
    ) -> Self:
        """Packs by first fit, in a random order that is independent of the files' order.

        Raises ValueError for a conversation of more than `sequence_length` + 1 ids.
        """
        key = hash64(seed, "packing")
        order = np.argsort([permute(i, len(conversations), key) for i in range(len(conversations))]).tolist()
        lengths = [len(conversations[i].ids) - 1 for i in order]
        packing = first_fit(lengths, sequence_length)
        if len(packing.too_long):
            raise ValueError(f"a conversation of {max(lengths) + 1} ids does not fit a row of {sequence_length} tokens")
        packed = [conversations[order[item]] for bin in packing.bins for item in bin]
        return cls(
            np.concatenate([np.empty(0, np.int32), *(one.ids for one in packed)]),
            np.concatenate([np.empty(0, bool), *(one.loss_mask for one in packed)]),
            np.cumsum([0, *(len(one.ids) for one in packed)], dtype=np.int64),
            np.cumsum([0, *map(len, packing.bins)], dtype=np.int64),
            sequence_length=sequence_length,
            pad_id=pad_id,
        )

    def __len__(self) -> int:
        return len(self.rows) - 1

    def read(self, indices: np.ndarray) -> Batch:
        """Reads the rows of the given numbers, as `Rows.read`."""
        shape = len(indices), self.sequence_length
        batch = Batch(
            tokens=np.full(shape, self._pad_id, np.int32),
            targets=np.full(shape, self._pad_id, np.int32),
            weights=np.zeros(shape, np.float32),
            segment_ids=np.zeros(shape, np.int32),
            positions=np.zeros(shape, np.int32),
        )
        for row, index in enumerate(indices):
            if index < len(self):
                self._fill(Batch(*(field[row] for field in batch)), int(index))
        return batch

    def _fill(self, row: Batch, index: int) -> None:
        """Writes one row into arrays [T] of padding."""
        begin = 0
        first, behind = self.rows[index : index + 2]
        for segment, conversation in enumerate(range(first, behind), start=1):
            start, end = self.conversations[conversation : conversation + 2]
            tokens = slice(begin, begin + end - start - 1)
            row.tokens[tokens] = self.ids[start : end - 1]
            row.targets[tokens] = self.ids[start + 1 : end]
            row.weights[tokens] = self.loss_mask[start + 1 : end]
            row.segment_ids[tokens] = segment
            row.positions[tokens] = np.arange(end - start - 1)
            begin = tokens.stop
