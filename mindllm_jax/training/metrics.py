"""Numbers of a run: metrics.jsonl for machines, TensorBoard events, and one line for people."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from mindllm_jax.files import parse_json, write_bytes


class MetricsWriter:
    """Appends one line of numbers a call to `workdir/metrics.jsonl` and the same to TensorBoard.

    `start_step`: lines of later steps, left by a run that died after its last checkpoint, are removed first, so that
    every step stands there once. A writer that is not active, on all hosts but the first, writes nothing.
    """

    def __init__(self, workdir: Path, start_step: int, *, active: bool = True):
        self._file, self._events = None, None
        if not active:
            return
        from tensorboardX import SummaryWriter

        workdir.mkdir(parents=True, exist_ok=True)
        path = workdir / "metrics.jsonl"
        if path.exists():
            write_bytes(path, b"".join(line for line in _complete(path) if _step(line, path) <= start_step))
        self._file = path.open("a", encoding="utf-8")
        self._events = SummaryWriter(str(workdir / "tensorboard"), purge_step=start_step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the values of one step, with the time in seconds since the epoch."""
        if self._file is None or self._events is None:
            return
        self._file.write(json.dumps({"step": step, "time": time.time(), **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None and self._events is not None:
            os.fsync(self._file.fileno())
            self._file.close()
            self._events.close()


def _complete(path: Path) -> list[bytes]:
    """Whole lines of the file; a killed run may leave half a line at the end."""
    return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"}\n")]


def _step(line: bytes, path: Path) -> int:
    step = parse_json(line, str(path)).get("step")
    if not isinstance(step, int):
        raise ValueError(f"{path}: damaged: a line has no `step`: {line[:80].decode()}; remove it")
    return step
