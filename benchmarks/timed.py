"""The time that a call takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

Result = TypeVar("Result")


class Spent(NamedTuple):
    """Seconds on the clock, and of the processors by all threads of this process."""

    wall: float
    processor: float


def timed(call: Callable[[], Result]) -> tuple[Spent, Result]:
    """Returns what a call takes and what it returns."""
    wall, processor = time.perf_counter(), time.process_time()
    result = call()
    return Spent(time.perf_counter() - wall, time.process_time() - processor), result
