"""Measurements kept one by one in a file of JSON lines: a benchmark that is cut resumes where it was."""

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

ENDED = "the process ended twice while this was measured"


class TimeUp(Exception):
    """Raised by what is measured when it was cut for want of time: nothing is kept of it."""


class Kept:
    """The measurements of a benchmark by key; those of other sources, versions or hardware do not count.

    What ended the process twice is not tried a third time.
    """

    def __init__(self, path: Path | None, limit: float = math.inf):
        """path: the file, or None to keep nothing; limit: seconds from now after which nothing more is begun."""
        self._path, self._until = path, time.monotonic() + limit
        self._of = digest()
        self._found: dict[Hashable, Any] = {}
        self._begun = collections.Counter[Hashable]()
        self.complete = True  # until the time was too short for something
        for line in self._lines():
            if line["of"] != self._of:
                continue
            key = tuple(line["key"])
            if "found" in line:
                self._found[key] = line["found"]
            else:
                self._begun[key] += -1 if "cut" in line else 1

    def measure(self, key: tuple[Any, ...], function: Callable[[], Any]) -> Any:
        """What `function` returned for this key, a JSON value, now or in an earlier process.

        None where the time is up; {"failed": reason} where it ended the process twice.
        """
        if key in self._found:
            return self._found[key]
        if self._begun[key] > 1:
            return {"failed": ENDED}
        if time.monotonic() > self._until:
            self.complete = False
            return None
        self._append({"of": self._of, "key": key})
        try:
            found = function()
        except TimeUp:
            self.complete = False
            self._append({"of": self._of, "key": key, "cut": True})
            return None
        self._append({"of": self._of, "key": key, "found": found})
        self._found[key] = found
        return found

    def left(self) -> float:
        """Returns the seconds until the time is up, at least 0."""
        return max(0.0, self._until - time.monotonic())

    def _lines(self) -> list[dict[str, Any]]:
        if self._path is None or not self._path.exists():
            return []
        content = self._path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:  # cut while it was written
            write_bytes(self._path, whole)
        return [json.loads(line) for line in whole.splitlines()]

    def _append(self, line: dict[str, Any]) -> None:
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
