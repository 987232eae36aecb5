"""Global batches: rows placed over the devices of all processes, read ahead."""

import queue
import threading
from collections.abc import Iterator, Sized
from types import TracebackType

import jax
import numpy as np

from mindllm_jax.store.rows import Batch, Rows


class GlobalBatches:
    """Iterates over (number, batch); batch n holds B rows from n B on, whatever the devices and processes.

    Numbers count from 0, rows from `first_row`. Every process reads only the rows that its devices hold. A thread reads
    and places batches ahead; what fails in it is raised by the iteration. Finite rows end with the batch that holds the
    last of them, filled up with padding.

    Close it, or use it as a context manager.
    """

    def __init__(
        self,
        rows: Rows,
        global_batch_size: int,
        sharding: jax.sharding.NamedSharding,
        *,
        first_row: int = 0,
        prefetch: int = 2,
    ) -> None:
        """
        Args:
            rows: where they come from.
            global_batch_size: B, over all processes.
            sharding: of a [B T] array.
            first_row: the first row of the first batch.
            prefetch: how many batches may lie ready.

        Raises ValueError when the sharding cannot divide B rows of T tokens evenly.
        """
        if min(global_batch_size, prefetch) < 1:
            raise ValueError(
                f"global_batch_size and prefetch must be at least 1, not {global_batch_size} and {prefetch}"
            )
        self._rows, self._sharding = rows, sharding
        self._shape = (global_batch_size, rows.sequence_length)
        _require_even(self._shape, sharding)
        self._first_row = first_row
        self._count = -(-(len(rows) - first_row) // global_batch_size) if isinstance(rows, Sized) else None
        slices = sharding.addressable_devices_indices_map(self._shape).values()
        self._held = np.unique([np.arange(global_batch_size)[index[0]] for index in slices if index is not None])
        self._ready: queue.Queue[tuple[int, Batch] | BaseException | None] = queue.Queue(prefetch)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[tuple[int, Batch]]:
        return self

    def __next__(self) -> tuple[int, Batch]:
        if self._closed.is_set():
            raise StopIteration
        item = self._ready.get()
        if isinstance(item, tuple):
            return item
        self.close()
        if item is None:
            raise StopIteration
        raise item

    def close(self) -> None:
        """Stops the thread and drops what lies ready."""
        self._closed.set()
        while self._thread.is_alive():
            # The thread may wait for a free place.
            while not self._ready.empty():
                self._ready.get_nowait()
            self._thread.join(0.01)

    def __enter__(self) -> "GlobalBatches":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _work(self) -> None:
        number = 0
        try:
            while not self._closed.is_set() and (self._count is None or number < self._count):
                self._ready.put((number, self._place(number)))
                number += 1
            self._ready.put(None)
        except BaseException as error:
            self._ready.put(error)

    def _place(self, number: int) -> Batch:
        local = self._rows.read(self._first_row + number * self._shape[0] + self._held)

        def placed(field: np.ndarray) -> jax.Array:
            def part(index: tuple[slice, ...] | None) -> np.ndarray:
                assert index is not None
                rows = np.arange(self._shape[0])[index[0]]
                return field[np.searchsorted(self._held, rows[0]) :][: len(rows), index[1]]

            return jax.make_array_from_callback(self._shape, self._sharding, part)

        return Batch(*(placed(np.asarray(field)) for field in local))


def _require_even(shape: tuple[int, int], sharding: jax.sharding.NamedSharding) -> None:
    try:
        sharding.shard_shape(shape)
    except ValueError:
        raise ValueError(
            f"a batch of {shape[0]} rows of {shape[1]} tokens cannot be divided evenly over the mesh"
            f" {dict(sharding.mesh.shape)} as {sharding.spec}; make the rows of a batch a multiple of the devices that"
            " share them"
        ) from None
