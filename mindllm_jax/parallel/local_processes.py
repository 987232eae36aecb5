"""Launches a command as several local processes and ends them together."""

from __future__ import annotations

import ctypes
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

GRACE = 5.0  # seconds that the others get after one failed
STOP_GRACE = 60.0  # seconds that all get to save after SIGTERM or Ctrl-C


def end_with_parent() -> None:
    """Makes Linux send this process SIGTERM when its parent is killed: the `preexec_fn` of a new process."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def run_processes(command: Sequence[str], environments: Sequence[Mapping[str, str]]) -> int:
    """Runs the command once in each environment and returns the status of the first that failed, or 0.

    SIGTERM and SIGINT are forwarded to all processes; those that run longer than STOP_GRACE after it, or get a second
    signal, are killed. When one process fails the others, which may wait for it forever, are killed after GRACE. On
    Linux all get SIGTERM when this process is killed.

    Raises OSError when the command cannot be run.
    """
    signals = list[int]()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: signals.append(number))
    # In process groups of their own, so that Ctrl-C does not reach them: every signal is forwarded once.
    running = [
        subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, process_group=0, preexec_fn=end_with_parent
        )
        for environment in environments
    ]
    status = _wait(running, signals)
    return 128 - status if status < 0 else status


def _wait(running: list[subprocess.Popen[bytes]], signals: list[int]) -> int:
    status, kill_at, forwarded = 0, math.inf, 0
    while alive := [process for process in running if process.poll() is None]:
        failed = [number for number, process in enumerate(running) if process.returncode]
        if failed and not status:
            status = running[failed[0]].returncode
            if not signals:
                kill_at = time.monotonic() + GRACE
                print(f"process {failed[0]} failed; the others are stopped in {GRACE:.0f} s", file=sys.stderr)
        for number in signals[forwarded:]:
            kill_at = time.monotonic() + (0 if forwarded else STOP_GRACE)
            forwarded += 1
            _send(alive, number)
        if time.monotonic() > kill_at:
            _send(alive, signal.SIGKILL)
        time.sleep(0.1)
    return status or next((process.returncode for process in running if process.returncode), 0)


def _send(processes: list[subprocess.Popen[bytes]], number: int) -> None:
    """Sends a signal to the processes and their children."""
    for process in processes:
        os.killpg(process.pid, number)
