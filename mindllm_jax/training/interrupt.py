"""Stops a run at the end of a step instead of within one."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Self

import jax
from jax.experimental import multihost_utils

_STOPPING = b"stopping after this step or measurement, with everything saved; Ctrl-C again ends the run at once\n"


class StopSignal:
    """While active, the first SIGINT, SIGTERM or SIGHUP requests a stop; a second SIGINT interrupts at once.

    Clusters announce preemption by SIGTERM; a terminal that closes sends SIGHUP. A signal that is ignored stays so,
    as SIGINT in a background job and SIGHUP under nohup. Outside the main thread, where Python allows no handlers, it
    does nothing. With several processes jax handles SIGTERM, in all that get it, and makes them agree on the step.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, signal._HANDLER] = {}  # pyright: ignore[reportPrivateUsage]

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.requested:
            with contextlib.suppress(OSError):  # written past Python's streams, which a handler may not enter again
                os.write(2, _STOPPING)
        self.request()

    def request(self) -> None:
        """Requests a stop, as a signal does; idempotent."""
        if not self.requested and jax.process_count() > 1:
            signal.raise_signal(signal.SIGTERM)
        self.requested = True

    def at(self, step: int) -> bool:
        """Returns whether to save and stop after this step, the same in all processes; all must call it.

        Several processes agree on a step that none has reached: a second call with the same step changes nothing.
        """
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self.requested

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            numbers = [signal.SIGINT, signal.SIGHUP]
            if jax.process_count() == 1:
                numbers.append(signal.SIGTERM)
            for number in numbers:
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
