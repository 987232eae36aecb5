"""The progress of an evaluation's tasks, with the time left."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import jax
from rich.console import Console
from rich.markup import escape

from mindllm_jax.reporting.units import unit_of


class TaskProgress:
    """Prints a line to stderr as each task is done, in the first process; `items` are their numbers by task.

    The time left is that of the items left at the mean time of an item so far, so it is rough where tasks differ.
    """

    def __init__(self, items: Mapping[str, int]) -> None:
        self._items, self._count, self._begin = dict(items), len(items), time.monotonic()
        self._done = self._number = 0
        self._console = Console(stderr=True, quiet=jax.process_index() != 0, highlight=False)

    def done(self, name: str, summary: Mapping[str, Any]) -> None:
        """Reports a finished task by its first metric."""
        scores = (unit_of(metric).line(metric, value) for metric, value in summary.items() if isinstance(value, float))
        self._line(name, next(scores, "done"))

    def failed(self, name: str, error: Exception) -> None:
        """Reports a failed task."""
        self._line(name, f"failed: {type(error).__name__}: {error}")

    def _line(self, name: str, text: str) -> None:
        self._number += 1
        self._done += self._items.pop(name)
        elapsed = time.monotonic() - self._begin
        left = elapsed / max(1, self._done) * sum(self._items.values())
        times = f"{elapsed / 60:.1f} min, about {left / 60:.1f} min left" if self._items else f"{elapsed / 60:.1f} min"
        self._console.print(escape(f"task {self._number} of {self._count}, {name}: {text}; {times}"), soft_wrap=True)
