"""A profiler trace of a range of steps."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax


class ProfileWindow:
    """Traces the steps `window[0]` to `window[1]`, both included, into a folder; does nothing without a window.

    A run that resumes inside the window traces its remaining steps; one that ends inside it keeps its trace. Each trace
    is in a folder `step_FIRST`: the profiler names files by the second, and a trace would replace one of that second.
    """

    def __init__(self, window: tuple[int, int] | None, folder: Path):
        self._window, self._folder = window, folder
        self._running = False

    def before(self, step: int) -> None:
        """Starts the trace if `step`, which is about to run, lies in the window."""
        if self._window and not self._running and self._window[0] <= step <= self._window[1]:
            jax.profiler.start_trace(str(self._folder / f"step_{step}"))
            self._running = True

    def after(self, step: int, results: Any) -> None:
        """Ends the trace after the window's last step, once its `results` are ready."""
        if self._running and self._window and step >= self._window[1]:
            jax.block_until_ready(results)
            self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._running:
            with contextlib.suppress(Exception) if error else contextlib.nullcontext():
                self._stop()

    def _stop(self) -> None:
        self._running = False
        jax.profiler.stop_trace()
