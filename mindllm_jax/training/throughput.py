"""Training steps per second, without pauses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Throughput:
    """Counts steps and their seconds since the last `rate`.

    Steps run asynchronously on the device, so wait for them before a pause.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self._clock = clock
        self._steps, self._seconds = 0, 0.0
        self._since: float | None = clock()  # None while paused

    def step(self) -> None:
        """Counts one step."""
        self._steps += 1

    def rate(self) -> float:
        """Returns steps per second since the last call, and resets the counter."""
        now = self._clock()
        seconds = self._seconds + (0.0 if self._since is None else now - self._since)
        rate = self._steps / max(seconds, 1e-9)
        self._steps, self._seconds = 0, 0.0
        if self._since is not None:
            self._since = now
        return rate

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Excludes the seconds of the block."""
        if self._since is not None:
            self._seconds += self._clock() - self._since
        self._since = None
        try:
            yield
        finally:
            self._since = self._clock()
