"""The rows of a mixture, from the token store."""

import numpy as np

from mindllm_jax.hashing import hash64, permute
from mindllm_jax.mixture.schedule import Schedule
from mindllm_jax.mixture.settings import Mixture, rows_in_epoch
from mindllm_jax.rows import Batch, TrainingRows
from mindllm_jax.store.rows import read_rows
from mindllm_jax.store.store import TokenStore


class MixtureRows(TrainingRows):
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
        schedule = Schedule(mixture, rows_in_epoch(mixture, store), steps=steps, global_batch_size=global_batch_size)
        super().__init__(mixture.sequence_length, steps * global_batch_size if schedule.depends_on_length else None)
        self._store, self._seed, self._schedule = store, mixture.seed, schedule
        self._tokens = [store.split(source.name, "train").tokens for source in schedule.sources]

    def read(self, indices: np.ndarray) -> Batch:
        """See `Rows.read`."""
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
