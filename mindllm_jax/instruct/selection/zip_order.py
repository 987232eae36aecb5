"""ZIP's greedy order (arXiv 2407.06645): texts that keep the compression ratio of the selection low.

A round has three stages: of all texts, the `_FIRST` with the lowest ratio known so far have it computed anew, together
with what is selected; the `_SECOND` lowest of these are compared among each other, and `_THIRD` of them are selected
one by one, each the one with which those of this round compress least. Ratios are bytes over those of zlib at level 9.
The texts here are the messages, joined by line breaks; the published code takes the text of a Python list of records.
There, a text that loses in the third stage does not come back; here it does.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np

_FIRST, _SECOND, _THIRD = 10_000, 200, 100


class _Compressed:
    """A text that grows, with its size compressed; trying a text costs no more than that text."""

    def __init__(self) -> None:
        self._state, self._bytes, self._written = zlib.compressobj(9), 0, 0

    def ratio_with(self, content: bytes) -> float:
        """Returns the compression ratio with a text added."""
        state = self._state.copy()
        size = self._written + len(state.compress(content)) + len(state.flush())
        return (self._bytes + len(content)) / size

    def add(self, content: bytes) -> Self:
        """Adds a text."""
        self._written += len(self._state.compress(content))
        self._bytes += len(content)
        return self


def zip_order(texts: Sequence[str]) -> Iterator[int]:
    """Yields the numbers of the texts in ZIP's order."""
    contents = [f"{text}\n".encode() for text in texts]
    ratios = np.array([_Compressed().ratio_with(content) for content in contents])
    left, selected = np.ones(len(contents), np.bool_), _Compressed()
    while left.any():
        candidates = np.flatnonzero(left)
        first = candidates[np.argsort(ratios[candidates], kind="stable")[:_FIRST]]
        ratios[first] = [selected.ratio_with(contents[i]) for i in first]
        second = first[np.argsort(ratios[first], kind="stable")[:_SECOND]].tolist()
        of_round = _Compressed()
        for _ in range(min(_THIRD, len(second))):
            best = min(second, key=lambda i: of_round.ratio_with(contents[i]))
            second.remove(best)
            of_round.add(contents[best])
            left[best] = False
            selected.add(contents[best])
            yield best
