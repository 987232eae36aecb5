"""Stops a run at the end of a step instead of within one."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

import jax
from jax.experimental import multihost_utils


class StopSignal:
    """While active, the first SIGINT, SIGTERM or SIGHUP requests a stop; a second SIGINT interrupts at once.

    Clusters announce preemption by SIGTERM; a terminal that closes sends SIGHUP, which nohup ignores. Outside the main
    thread, where Python allows no handlers, it does nothing. With several processes jax handles SIGTERM, in all that
    get it, and makes them agree on the step.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, signal._HANDLER] = {}  # pyright: ignore[reportPrivateUsage]

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.request()

    def request(self) -> None:
        """Requests a stop, as a signal does; idempotent."""
        if not self.requested and jax.process_count() > 1:
            signal.raise_signal(signal.SIGTERM)
        self.requested = True

    def at(self, step: int) -> bool:
        """Returns whether to save and stop after this step, the same in all processes; all must call it."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self.requested

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            numbers = [signal.SIGINT]
            if jax.process_count() == 1:
                numbers.append(signal.SIGTERM)
            if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
                numbers.append(signal.SIGHUP)
            for number in numbers:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
