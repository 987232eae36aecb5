"""Global batches: rows read ahead by Grain and placed over the devices of all processes."""

import signal
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grain
import jax
import numpy as np
from absl import flags

from mindllm_jax.checks import require_at_least
from mindllm_jax.process import exit_with_parent
from mindllm_jax.rows import ENDLESS, Batch, Rows


@dataclass(frozen=True)
class Loader:
    """Settings of reading ahead, in every process of the run; rows do not depend on them.

    Attributes:
        prefetch: number of batches that are read ahead.
        threads: number of batches that are read at the same time, at most `prefetch`. The reads of one batch are
            concurrent already; two threads overlap them with the Python work of another batch, more hide the latency
            of a bucket.
        worker_processes: number of processes that read, by Grain's `mp_prefetch`; 0 reads in threads of the training
            process. Each worker starts a Python process that opens the store again, and passes batches on in shared
            memory (/dev/shm). On two cores workers are slower than threads (`benchmarks/loader.py`).
    """

    prefetch: int = 2
    threads: int = 2
    worker_processes: int = 0

    def __post_init__(self) -> None:
        require_at_least(self, 1, "prefetch", "threads")
        require_at_least(self, 0, "worker_processes")


class GlobalBatches(grain.DatasetIterator[Batch]):
    """A Grain iterator over batches; each holds the next B rows, whatever the devices and processes.

    Every process reads only the rows that its devices hold, all rows of a batch at the same time. An error of the
    reader is raised by the iteration and closes it; after that `next` raises ValueError. Finite rows end with the batch
    that holds the last of them, filled up with padding.

    The state is that of a Grain iterator over the rows, `{"next_index": rows read}`: equal on all processes and
    independent of the batch size, so that a run resumes with other ones. `grain.checkpoint.CheckpointSave` takes the
    iterator; a run stores the number itself (see `training.position`).

    Close it, or use it as a context manager.
    """

    def __init__(
        self,
        rows: Rows,
        global_batch_size: int,
        sharding: jax.sharding.NamedSharding,
        *,
        first_row: int = 0,
        loader: Loader = Loader(),
    ) -> None:
        """
        Args:
            rows: the dataset of rows.
            global_batch_size: B, over all processes.
            sharding: of a [B T] array.
            first_row: the first row of the first batch.
            loader: how batches are read ahead.

        Raises ValueError when the sharding cannot divide B rows of T tokens evenly.
        """
        super().__init__()
        self._iterator: grain.DatasetIterator[Batch] | None = None
        if global_batch_size < 1:
            raise ValueError(f"global_batch_size = {global_batch_size}: must be at least 1")
        self._rows, self._sharding, self._loader = rows, sharding, loader
        self._shape = (global_batch_size, rows.sequence_length)
        _require_even(self._shape, sharding)
        slices = sharding.addressable_devices_indices_map(self._shape).values()
        self._held = np.unique([np.arange(global_batch_size)[index[0]] for index in slices if index is not None])
        self.set_state({"next_index": first_row})

    def __next__(self) -> Batch:
        self._assert_not_closed()
        try:
            batch = next(self._started())
        except StopIteration:
            raise
        except BaseException:
            self.close()  # or the next call would leave these rows out
            raise
        self._next_row = min(self._next_row + self._shape[0], len(self._rows))
        return batch

    def get_state(self) -> dict[str, Any]:
        """Returns the number of rows read, as `{"next_index": rows}`."""
        return {"next_index": self._next_row}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to a row, as `get_state` gives it. Raises IndexError for one that the rows do not have."""
        self._assert_not_closed()
        row = state["next_index"]
        if not 0 <= row <= len(self._rows):
            raise IndexError(f"next_index = {row}: there are {len(self._rows)} rows")
        self._stop()
        self._next_row = row

    def start_prefetch(self) -> None:
        """Starts to read before the first batch is asked for."""
        self._assert_not_closed()
        self._started().start_prefetch()

    def close(self) -> None:
        """Stops reading ahead and drops the batches that are ready; a read that has begun may end afterwards."""
        self._closed = True
        self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _started(self) -> grain.DatasetIterator[Batch]:
        if self._iterator is None:
            options = grain.ReadOptions(
                num_threads=min(self._loader.threads, self._loader.prefetch), prefetch_buffer_size=self._loader.prefetch
            )
            batches = _HeldRows(self._rows, self._next_row, self._shape[0], self._held)
            if self._loader.worker_processes:
                if not flags.FLAGS.is_parsed():  # this program has no absl flags, and Grain's workers read some
                    flags.FLAGS.mark_as_parsed()
                workers = grain.MultiprocessingOptions(num_workers=self._loader.worker_processes)
                read = batches.to_iter_dataset(options).mp_prefetch(workers, worker_init_fn=_start_worker)
                dataset = read.map(self._place)
            else:
                dataset = batches.map(self._place).to_iter_dataset(options)
            self._iterator = iter(dataset)
        return self._iterator

    def _stop(self) -> None:
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None

    def _place(self, local: Batch) -> Batch:
        """Makes global arrays of the rows that this process holds."""

        def placed(field: np.ndarray) -> jax.Array:
            def part(index: tuple[slice, ...] | None) -> np.ndarray:
                assert index is not None
                rows = np.arange(self._shape[0])[index[0]]
                return field[np.searchsorted(self._held, rows[0]) :][: len(rows), index[1]]

            return jax.make_array_from_callback(self._shape, self._sharding, part)

        return Batch(*(placed(np.asarray(field)) for field in local))


class _HeldRows(grain.MapDataset[Batch]):
    """Batch n of the rows from `first_row` on: those of its rows that this process holds."""

    def __init__(self, rows: Rows, first_row: int, global_batch_size: int, held: np.ndarray) -> None:
        super().__init__(rows)
        self._rows, self._size, self._held = rows, global_batch_size, first_row + held
        left = len(rows) - first_row
        self._length = left // global_batch_size if len(rows) == ENDLESS else -(-left // global_batch_size)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        return self.slice(index) if isinstance(index, slice) else self._rows.read(self._held + index * self._size)


def _start_worker(_: int, __: int) -> None:
    """Keeps a worker alive when the run's process group is signalled, and no longer than the run, which saves first."""
    exit_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _require_even(shape: tuple[int, int], sharding: jax.sharding.NamedSharding) -> None:
    try:
        sharding.shard_shape(shape)
    except ValueError:
        raise ValueError(
            f"a batch of {shape[0]} rows of {shape[1]} tokens cannot be divided evenly over the mesh"
            f" {dict(sharding.mesh.shape)} as {sharding.spec}; make the rows of a batch a multiple of the devices that"
            " share them"
        ) from None
