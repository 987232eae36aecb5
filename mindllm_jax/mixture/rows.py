"""The rows of a mixture, from the token store."""

import sys

import grain
import numpy as np

from mindllm_jax.hashing import hash64, permute
from mindllm_jax.mixture.schedule import Schedule
from mindllm_jax.mixture.settings import Mixture, rows_in_epoch
from mindllm_jax.store.rows import Batch, read_rows
from mindllm_jax.store.store import TokenStore


class MixtureRows:
    """Rows of the train splits, mixed; endless. Row r is a pure function of the store, the settings and r.

    A row holds T consecutive tokens of one source. An epoch of a source of N tokens is ceil(N / T) rows in a random
    order: the stream, which is a circle, cut into rows from a place that changes with the epoch, so that documents are
    cut elsewhere each time. The last of them, where T does not divide N, is filled up with padding of weight 0, so that
    every token is a target exactly once in an epoch.

    Which source a row is of follows from its number by the `Schedule` of the run. Where no source has a weight or a cap
    of its own, all sources of a language end their epochs together. The proportions by rows are the proportions by
    tokens, but for the padding.
    """

    def __init__(self, mixture: Mixture, store: TokenStore, *, steps: int, global_batch_size: int) -> None:
        """
        Args:
            mixture: the settings.
            store: where the tokens are.
            steps: of the run, which stages, caps, blocks and runs are parts of. A shuffled mixture without stages and
                caps gives the same rows whatever the length of the run.
            global_batch_size: rows of a step.

        Raises ValueError for a language or source that is not in the store, a source too short for one row, and as
        `Schedule` does.
        """
        self.sequence_length = mixture.sequence_length
        self._store = store
        self._seed = mixture.seed
        schedule = Schedule(mixture, rows_in_epoch(mixture, store), steps=steps, global_batch_size=global_batch_size)
        self.planned_rows = steps * global_batch_size if schedule.depends_on_length else None
        self._sources = [source.name for source in schedule.sources]
        self._tokens = [store.split(source, "train").tokens for source in self._sources]
        # Shuffled and repeated by source, then mixed: a shuffle of the mixture would lose proportions and epochs.
        self._order = grain.MapDataset.select_from_datasets(
            [self._rows_of(number, source.rows) for number, source in enumerate(schedule.sources)], _Selection(schedule)
        )

    def read(self, indices: np.ndarray) -> Batch:
        """See `Rows`."""
        places = self.places(indices)
        windows = [(source, "train", start) for source, start, _ in places]
        return read_rows(self._store, windows, np.array([targets for *_, targets in places]), self.sequence_length)

    def places(self, indices: np.ndarray) -> list[tuple[str, int, int]]:
        """Returns the source of each row, where in its stream the row begins, and how many of its targets count."""
        found = []
        for index in indices:
            place = self._order[int(index)]
            assert place is not None  # only a filter gives None
            number, epoch, row = place
            source, before = self._sources[number], row * self.sequence_length
            cut = hash64(self._seed, "cut", source, epoch) % self._tokens[number]
            found.append((source, cut + before, min(self._tokens[number] - before, self.sequence_length)))
        return found

    def _rows_of(self, number: int, rows: int) -> grain.MapDataset[tuple[int, int, int]]:
        """The rows of one source, endless: (number of the source, epoch, row of the epoch's grid)."""
        source = self._sources[number]

        def shuffled(index: int, row: int) -> tuple[int, int, int]:
            epoch = index // rows
            return number, epoch, permute(row, rows, hash64(self._seed, "order", source, epoch))

        return grain.MapDataset.range(rows).repeat().map_with_index(shuffled)


class _Selection(grain.transforms.DatasetSelectionMap):
    """A schedule as Grain takes it. Grain's own `mix` rounds the proportions."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> tuple[int, int]:
        return self._schedule.place(index)
