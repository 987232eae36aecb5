"""A cache of a model's answers on disk, so that an evaluation that was cut resumes and answers nothing twice.

    {"key": "6f0c…", "answer": {"log": -1.25, "greedy": false, …}, "check": "91ab03f2"}

A line is the answer to one request. The key is a hash of weights, protocol and request; the check is a hash of the
answer, because a flipped digit would still be a number.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax

from mindllm_jax.files import json_sha256, naming, parse_json
from mindllm_jax.parallel.together import bytes_from_first, together

log = logging.getLogger(__name__)

NAME = "answers.jsonl"
TOKENS_AT_A_TIME = 1 << 20  # of requests, all that are lost when an evaluation is cut

Answer = dict[str, Any]  # JSON values


class Answers:
    """The answers in `folder`/answers.jsonl, which the first process reads and appends to.

    A last line without an end was cut off while it was written, and is removed. Another damaged line is logged, with
    its number, and its request is answered again.

    Raises OSError, in every process, where the file cannot be read.
    """

    def __init__(self, folder: Path, weights: str) -> None:
        """weights: what `weights_identity` returns."""
        self.path, self.weights = folder / NAME, weights
        self._answers: dict[str, Answer] = {}
        self._end = 0  # of the last whole line, in bytes
        together(self._read)

    def known(self, keys: Sequence[str]) -> dict[str, Answer]:
        """Returns the answers there are by key, the first process's in every process."""
        mine = {key: self._answers[key] for key in keys if key in self._answers}
        return json.loads(bytes_from_first(json.dumps(mine).encode()))

    def add(self, answers: Mapping[str, Answer]) -> None:
        """Appends answers, by key, and waits until the disk has them. Raises OSError, in every process."""
        self._answers |= answers
        together(lambda: self._write(answers))

    def _write(self, answers: Mapping[str, Answer]) -> None:
        if jax.process_index() or not answers:
            return
        lines = "".join(
            json.dumps({"key": key, "answer": answer, "check": _hash(answer)[:8]}) + "\n"
            for key, answer in answers.items()
        )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with naming(self.path), self.path.open("ab") as file:
            if file.tell() > self._end:
                file.truncate(self._end)
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())
            self._end = file.tell()

    def _read(self) -> None:
        if jax.process_index() or not self.path.exists():
            return
        content = self.path.read_bytes()
        self._end = content.rfind(b"\n") + 1
        for number, line in enumerate(content[: self._end].splitlines(), start=1):
            try:
                entry = parse_json(line, f"{self.path}, line {number}")
                if entry.get("check") != _hash(entry.get("answer"))[:8]:
                    raise ValueError(f"{self.path}, line {number}: damaged: it does not match its checksum")
                if entry["answer"].get("log") != entry["answer"].get("log"):  # NaN differs from itself
                    raise ValueError(f"{self.path}, line {number}: the log-likelihood is not a number")
            except ValueError as error:
                log.warning("%s; its request is answered again", error)
                continue
            self._answers[entry["key"]] = entry["answer"]


def request_key(weights: str, protocol: Mapping[str, Any], kind: str, arguments: Sequence[Any]) -> str:
    """Returns the key of a request.

    Args:
        weights: what `weights_identity` returns.
        protocol: what `Protocol.record` returns.
        kind: the method that is asked, as `loglikelihood`.
        arguments: JSON values.
    """
    return _hash([weights, dict(protocol), kind, *arguments])


def parts(sizes: Sequence[int], title: str) -> Iterator[tuple[slice, str]]:
    """Yields consecutive parts of requests, after each of which answers are kept, and a title with its number.

    sizes: tokens of each request; a part has TOKENS_AT_A_TIME, or is one longer request.
    """
    starts, total = [0], 0
    for number, size in enumerate(sizes):
        if total and total + size > TOKENS_AT_A_TIME:
            starts.append(number)
            total = 0
        total += size
    for number, (start, end) in enumerate(pairwise([*starts, len(sizes)]), start=1):
        yield slice(start, end), title if len(starts) == 1 else f"{title}, part {number} of {len(starts)}"


def _hash(value: Any) -> str:
    return json_sha256(value, sort_keys=True, ensure_ascii=False)
