"""The metrics of a run: metrics.jsonl, and TensorBoard events."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mindllm_jax.files import write_bytes
from mindllm_jax.reporting.run import metrics_lines

log = logging.getLogger(__name__)


class MetricsWriter:
    """Appends one line per call to `workdir/metrics.jsonl`, and the same values to TensorBoard.

    `start_step`: lines of later steps, left by a run that died after its latest checkpoint, are removed first, so that
    every step has one line; -1 removes all. A writer that is not active, on all hosts but the first, writes nothing.
    Numbers that are not finite become null, as JSON lacks them. TensorBoard is optional: errors of its files are logged
    as a warning.

    Attributes:
        failure: the error of writing metrics.jsonl, with the file's name; None without one. `write` does not raise it,
            so that the run can be saved before it ends.

    Raises OSError when metrics.jsonl cannot be opened, ValueError when a line of it is damaged.
    """

    def __init__(self, workdir: Path, start_step: int, *, active: bool = True):
        self._file, self._events = None, None
        self.failure: OSError | None = None
        if not active:
            return
        self._path = workdir / "metrics.jsonl"
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            if self._path.exists():
                kept = (line for line, row in metrics_lines(self._path) if (row["step"] or 0) <= start_step)
                write_bytes(self._path, b"".join(kept))
            self._file = self._path.open("a", encoding="utf-8")
        except OSError as error:
            raise self._not_written(error) from None
        try:
            self._events = _Events(workdir / "tensorboard", start_step)
        except OSError as error:
            self._give_up_events(error)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the values of one step, with the time in seconds since the epoch."""
        if self._file is None or self.failure:
            return
        numbers = {name: value if math.isfinite(value) else None for name, value in values.items()}
        try:
            self._file.write(json.dumps({"step": step, "time": time.time(), **numbers}, allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            self.failure = self._not_written(error)
        if self._events is not None:
            try:
                self._events.write(step, values)
            except OSError as error:
                self._give_up_events(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._events is not None:
            self._events.close()
        if self._file is not None:
            try:
                with self._file:
                    os.fsync(self._file.fileno())
            except OSError as error:
                self.failure = self.failure or self._not_written(error)

    def _not_written(self, error: OSError) -> OSError:
        return OSError(f"{self._path} cannot be written: {error.strerror or error}")

    def _give_up_events(self, error: OSError) -> None:
        log.warning("no more TensorBoard events are written: %s", error)
        self._events = None


class _Events:
    """TensorBoard's event file, written synchronously so that errors reach the caller."""

    def __init__(self, folder: Path, start_step: int):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2, summary_pb2

        folder.mkdir(parents=True, exist_ok=True)
        # Generated at import by protoc: type checkers do not know their contents.
        self._messages: tuple[Any, Any] = event_pb2, summary_pb2
        # Absolute, as tensorboardX takes a path that begins with "gs:" or "s3:" for one of a bucket.
        self._writer = EventsWriter(str((folder / "events").absolute()))
        # TensorBoard drops the events of an earlier process from this step on.
        session = self._messages[0].SessionLog(status=self._messages[0].SessionLog.START)
        self._write(start_step + 1, session_log=session)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one event with all values."""
        _, messages = self._messages
        scalars = [messages.Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(step, summary=messages.Summary(value=scalars))

    def _write(self, step: int, **content: Any) -> None:
        self._writer.write_event(self._messages[0].Event(wall_time=time.time(), step=step, **content))
        self._writer.flush()

    def close(self) -> None:
        """Closes the file, which is already written."""
        try:
            self._writer.close()
        except OSError as error:
            log.warning("TensorBoard events: %s", error)


def evaluated_steps(workdir: Path) -> set[int]:
    """Returns the steps that have an evaluation in the run's metrics.jsonl: its lines without a loss.

    Raises ValueError that names a damaged line, which MetricsWriter would refuse.
    """
    path = workdir / "metrics.jsonl"
    rows = [row for _, row in metrics_lines(path)] if path.exists() else []
    return {int(row["step"] or 0) for row in rows if "loss" not in row}
