"""The rows of a mixture, read from the token store."""

import numpy as np

from mindllm_jax.hashing import hash64, permute
from mindllm_jax.mixture.schedule import Schedule
from mindllm_jax.mixture.settings import Mixture, rows_in_epoch
from mindllm_jax.rows import Batch, TrainingRows
from mindllm_jax.store.rows import read_rows
from mindllm_jax.store.store import TokenStore


class MixtureRows(TrainingRows):
    """Rows of the train splits, mixed and endless: a `grain.MapDataset`, as all `Rows`.

    A row holds T consecutive tokens of one source; `mindllm_jax.mixture` defines which. The proportions by rows are the
    proportions by tokens, but for the padding at the end of an epoch. Without source weights and caps all sources of a
    language end their epochs together.

        mixture = Mixture("runs/demo/store", sequence_length=256)
        rows = MixtureRows(mixture, TokenStore.open(mixture.store), steps=1000, global_batch_size=32)
        rows[0].tokens                           # int32 [T], the first row that training reads
        rows[32:64].batch(32)[0].targets         # int32 [B T], the targets of step 2
        rows.places(np.array([0]))               # [(source, start in its stream, number of targets)]
    """

    def __init__(self, mixture: Mixture, store: TokenStore, *, steps: int, global_batch_size: int) -> None:
        """Lays the rows out for a run.

        Args:
            mixture: the settings.
            store: the token store.
            steps: steps of the run, which stages, caps, blocks and chunks are laid out over. A shuffled mixture
                without stages, caps and chunks gives the same rows whatever the length of the run.
            global_batch_size: rows of a step.

        Raises ValueError for a language or source that is not in the store, a source too short for one row where
        it is named or its language has no other, and as `Schedule` does.
        """
        schedule = Schedule(mixture, rows_in_epoch(mixture, store), steps=steps, global_batch_size=global_batch_size)
        super().__init__(mixture.sequence_length, steps * global_batch_size if schedule.depends_on_length else None)
        self._store, self._seed, self._schedule = store, mixture.seed, schedule
        self._tokens = [store.split(source.name, "train").tokens for source in schedule.sources]

    def read(self, indices: np.ndarray) -> Batch:
        """Reads the rows of the given numbers, as `Rows.read`."""
        places = self.places(indices)
        windows = [(source, "train", start) for source, start, _ in places]
        return read_rows(self._store, windows, np.array([targets for *_, targets in places]), self.sequence_length)

    def places(self, indices: np.ndarray) -> list[tuple[str, int, int]]:
        """Returns the source of each row, where in its stream the row begins, and how many of its targets count."""
        return [self._place(index) for index in indices.tolist()]

    def _place(self, index: int) -> tuple[str, int, int]:
        number, source_row = self._schedule.source_row(index)
        source, tokens = self._schedule.sources[number], self._tokens[number]
        epoch, position = divmod(source_row, source.rows)
        row = permute(position, source.rows, hash64(self._seed, "order", source.name, epoch))
        cut = hash64(self._seed, "cut", source.name, epoch) % tokens
        begin = row * self.sequence_length
        return source.name, cut + begin, min(tokens - begin, self.sequence_length)
