"""The time that a suite takes, told when the first of its runs has made some steps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mindllm_jax.reporting.run import read_metrics

STEPS = 20  # that are measured


class Speed(NamedTuple):
    """Seconds of a run before its first step, with compilation, and of a step; those of evaluations are not known."""

    start: float
    step: float

    def seconds(self, runs: int, steps: float) -> float:
        """Returns the seconds of so many runs, of so many steps in total."""
        return runs * self.start + steps * self.step


def speed(rows: list[dict[str, float]], started: float) -> Speed | None:
    """Returns the speed of a run that was begun or resumed at `started`, in seconds of the epoch.

    rows: of its metrics. None before `STEPS` steps lie between two of its rows of the loss.
    """
    own = [row for row in rows if "loss" in row and row["time"] >= started]
    if not own or own[-1]["step"] - own[0]["step"] < STEPS:
        return None
    first, last = own[0], own[-1]
    step = (last["time"] - first["time"]) / (last["step"] - first["step"])
    before = own[1]["step"] - first["step"]  # of the first row; a resumed run begins with a later step than 1
    return Speed(max(0.0, first["time"] - started - before * step), step)


@contextmanager
def told(folder: Path, tell: Callable[[Speed], None], every: float = 1.0) -> Iterator[None]:
    """Calls `tell` once with the speed of the run in a folder, from a thread, while the block runs.

    every: seconds between two looks at its metrics.
    """
    started, over = time.time(), threading.Event()

    def look() -> None:
        while not over.wait(every):
            try:
                found = speed(read_metrics(folder), started)
            except (OSError, ValueError):  # nothing is logged yet
                continue
            if found is not None:
                tell(found)
                return

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
