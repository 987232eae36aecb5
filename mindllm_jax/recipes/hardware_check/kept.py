"""Measurements recorded one by one in a file of JSON lines, so that an interrupted benchmark resumes."""

from __future__ import annotations

import collections
import json
import math
import os
import time
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

from mindllm_jax.files import write_bytes
from mindllm_jax.recipes.hardware_check.machine import digest

ENDED = "the process ended twice during this measurement"


class TimeUp(Exception):
    """Raised by a measurement that the time limit cut; nothing is recorded of it."""


class Kept:
    """The recorded measurements of a benchmark by key; those of other sources, versions or hardware are ignored.

    A measurement that ended the process twice is not tried a third time.
    """

    def __init__(self, path: Path | None, limit: float = math.inf):
        """path: the file, or None to record nothing; limit: seconds from now after which no measurement begins."""
        self._path, self._deadline = path, time.monotonic() + limit
        self._digest = digest()
        self._values: dict[Hashable, Any] = {}
        self._attempts = collections.Counter[Hashable]()
        self.complete = True  # False once the time was too short for a measurement
        for line in self._lines():
            if line["digest"] != self._digest:
                continue
            key = tuple(line["key"])
            if "value" in line:
                self._values[key] = line["value"]
            else:
                self._attempts[key] += -1 if "cut" in line else 1

    def measure(self, key: tuple[Any, ...], function: Callable[[], Any]) -> Any:
        """Returns the JSON value of `function` for this key, from the file or by calling it.

        None if the time is up; {"failed": reason} if it ended the process twice.
        """
        if key in self._values:
            return self._values[key]
        if self._attempts[key] > 1:
            return {"failed": ENDED}
        if time.monotonic() > self._deadline:
            self.complete = False
            return None
        self._append({"digest": self._digest, "key": key})
        try:
            value = function()
        except TimeUp:
            self.complete = False
            self._append({"digest": self._digest, "key": key, "cut": True})
            return None
        self._append({"digest": self._digest, "key": key, "value": value})
        self._values[key] = value
        return value

    def left(self) -> float:
        """Returns the seconds until the time is up, at least 0."""
        return max(0.0, self._deadline - time.monotonic())

    def _lines(self) -> list[dict[str, Any]]:
        if self._path is None or not self._path.exists():
            return []
        content = self._path.read_bytes()
        complete = content[: content.rfind(b"\n") + 1]
        if complete != content:  # the process ended while writing
            write_bytes(self._path, complete)
        return [json.loads(line) for line in complete.splitlines()]

    def _append(self, line: dict[str, Any]) -> None:
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
