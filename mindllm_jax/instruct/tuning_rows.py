"""The rows of a tuning run: datasets of conversations by weight, and pre-training text between them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mindllm_jax.hashing import hash64, permute
from mindllm_jax.instruct.packed import PackedRows
from mindllm_jax.mixture.proportions import recipient
from mindllm_jax.rows import Batch, TrainingRows

_UNIT = 1_000_000  # weights and shares are rounded to a millionth

REPLAY = "(replay)"


class EpochRows(TrainingRows):
    """Endless epochs of packed rows; each epoch has every row once, in another order."""

    def __init__(self, rows: PackedRows, seed: int) -> None:
        super().__init__(rows.sequence_length, planned_rows=None)
        self._rows, self._seed = rows, seed

    def read(self, indices: np.ndarray) -> Batch:
        """Reads the rows of the given numbers, as `Rows.read`."""
        return self._rows.read(np.array(self.places(indices)))

    def places(self, indices: np.ndarray) -> list[int]:
        """Returns the number of each row among the packed rows."""
        size = len(self._rows)
        epochs = [divmod(int(index), size) for index in indices]
        return [permute(row, size, hash64(self._seed, "order", epoch)) for epoch, row in epochs]


class TuningRows(TrainingRows):
    """Endless rows in which datasets and replayed text take turns, so that every window has the proportions.

    A dataset's share is its rows times its weight; with equal weights every dataset ends its epochs together with the
    others. All rows have T tokens, so that shares of rows are shares of tokens.

        rows = TuningRows({"law": law, "general": general}, {"law": 2.0}, seed=0)
        rows.places(np.array([0]))               # [("law", 17)], the dataset and its packed row
    """

    def __init__(
        self,
        datasets: Mapping[str, PackedRows],
        weights: Mapping[str, float],
        *,
        seed: int,
        replay: TrainingRows | None = None,
        share: float = 0.0,
    ) -> None:
        """Lays out the turns.

        Args:
            datasets: the packed rows, by name; at least one of a weight above 0.
            weights: of datasets; 1 by default.
            seed: decides the order of each epoch.
            replay: rows of pre-training text, as long as the packed rows.
            share: the share of these in all rows, below 1.
        """
        chosen = {name: rows for name, rows in datasets.items() if weights.get(name, 1.0)}
        super().__init__(next(iter(chosen.values())).sequence_length, replay.planned_rows if replay else None)
        self._names: list[str] = list(chosen)
        self._parts: list[TrainingRows] = [EpochRows(rows, seed) for rows in chosen.values()]
        self._weights = _whole([weights.get(name, 1.0) * len(rows) for name, rows in chosen.items()])
        self._shares = [1, 0]
        if replay is not None:
            self._names.append(REPLAY)
            self._parts.append(replay)
            self._shares = _whole([1 - share, share])

    def read(self, indices: np.ndarray) -> Batch:
        """Reads the rows of the given numbers, as `Rows.read`."""
        turns = [self._turn(int(index)) for index in indices]
        batch: Batch | None = None
        for part in sorted({part for part, _ in turns}):
            places = [place for place, (owner, _) in enumerate(turns) if owner == part]
            some = self._parts[part].read(np.array([turns[place][1] for place in places], np.int64))
            if batch is None:
                batch = Batch(*(np.empty((len(turns), *field.shape[1:]), field.dtype) for field in some))
            for field, values in zip(batch, some, strict=True):
                np.asarray(field)[places] = values
        assert batch is not None, "a batch has a row"
        return batch

    def places(self, indices: np.ndarray) -> list[tuple[str, Any]]:
        """Returns the dataset of each row, or `REPLAY`, and its place there."""
        turns = [self._turn(int(index)) for index in indices]
        return [(self._names[part], self._parts[part].places(np.array([row]))[0]) for part, row in turns]

    def _turn(self, index: int) -> tuple[int, int]:
        """Returns the part whose turn a row is, and how many of its rows came before."""
        replays, index = recipient(index, self._shares)
        return (len(self._parts) - 1, index) if replays else recipient(index, self._weights)


def _whole(weights: Sequence[float]) -> list[int]:
    """Returns whole numbers in these proportions, none of them 0."""
    rounded = [max(1, round(weight * _UNIT)) for weight in weights]
    return [weight // math.gcd(*rounded) for weight in rounded]
