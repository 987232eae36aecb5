"""Splits long texts into parts, which the rules judge one by one."""

from __future__ import annotations

import math
import re
from bisect import bisect
from collections.abc import Iterable, Iterator

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from mindllm_jax.text.documents import part_id

_FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.M)
# Ends of parts, the better first: paragraphs, lines, sentences.
_ENDS = (re.compile(r"\n[ \t]*\n+"), re.compile(r"\n"), re.compile(r"[。！？]|[.!?](?=\s)"))


class Split(PipelineStep):
    """Splits documents of more than `max_chars` characters; the parts have the ids `ID/part1`, `ID/part2`, …

    One rule that a book breaks in one chapter, such as a table of its names, then drops a part and not the book. All
    parts of a document are held out, or none (`text/documents.py`).
    """

    type = "✂ - SPLIT"
    name = "Split long texts"

    def __init__(self, max_chars: int) -> None:
        super().__init__()
        self.max_chars = max_chars

    def run(self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Reads a shard."""
        for document in data or ():
            if len(document.text) <= self.max_chars:
                yield document
                continue
            with self.track_time():
                texts = split(document.text, self.max_chars)
            for number, text in enumerate(texts, start=1):
                yield Document(text, part_id(document.id, number), metadata=dict(document.metadata))


def split(text: str, max_chars: int) -> list[str]:
    """Returns parts of about equal length, at most `max_chars` characters each.

    They end at a paragraph outside of code fences, else at a line, a sentence or anywhere.
    """
    fences = [fence.start() for fence in _FENCE.finditer(text)]
    parts: list[str] = []
    start = 0
    while (rest := len(text) - start) > max_chars:
        size = math.ceil(rest / math.ceil(rest / max_chars))
        last = start + min(max_chars, size + size // 8)
        end = _end(text, start + size // 2, last, fences)
        parts.append(text[start:end].strip("\n"))
        start = end
    parts.append(text[start:].strip("\n"))
    return [part for part in parts if part.strip()]


def _end(text: str, first: int, last: int, fences: list[int]) -> int:
    """Returns the last good end of a part from `first` to `last`."""
    for pattern in _ENDS:
        ends = [match.end() for match in pattern.finditer(text, first, last)]
        outside = [end for end in ends if bisect(fences, end - 1) % 2 == 0]
        if outside or (ends and pattern is not _ENDS[0]):
            return (outside or ends)[-1]
    return last
