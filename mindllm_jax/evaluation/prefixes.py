"""Prefixes that token sequences share, chosen so that computing each once saves the most tokens.

In lexicographic order the sequences that share a prefix are neighbours, and the prefixes form a tree: that of the
intervals of common lengths. A chosen prefix excludes those above and below it in the tree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np


class Shared(NamedTuple):
    """The first `length` tokens, which the sequences from number `start` to `stop` (exclusive) have in common."""

    length: int
    start: int
    stop: int


class _Open(NamedTuple):
    """A prefix whose last sequence is not reached yet, and the best choice below it."""

    length: int
    start: int
    best: list[int]  # one number: the tokens that the choice saves
    choice: list[Shared]


def common_lengths(sequences: Sequence[np.ndarray]) -> list[int]:
    """Returns the number of tokens that each sequence shares with the next one, one number less than sequences."""

    def common(one: np.ndarray, other: np.ndarray) -> int:
        size = min(len(one), len(other))
        differ = one[:size] != other[:size]
        return int(differ.argmax()) if differ.any() else size

    return [common(*pair) for pair in pairwise(sequences)]


def shared_prefixes(common: Sequence[int], saved: Callable[[Shared], int]) -> list[Shared]:
    """Returns prefixes of different sequences that save the most, in order; O(n log n) for a tree of usual depth.

    common: of `common_lengths`, for sequences in lexicographic order. saved: the tokens that a prefix saves; 0 where it
    is not to be used.
    """
    stack = [_Open(0, 0, [0], [])]
    for number, length in enumerate([*common, 0], start=1):
        start = number - 1
        while stack[-1].length > length:
            closed = stack.pop()
            start, own = closed.start, Shared(closed.length, closed.start, number)
            best, choice = closed.best[0], closed.choice
            if (tokens := saved(own)) > best:
                best, choice = tokens, [own]
            if stack[-1].length < length:
                stack.append(_Open(length, start, [0], []))
            stack[-1].best[0] += best
            stack[-1].choice.extend(choice)
        if stack[-1].length < length:
            stack.append(_Open(length, start, [0], []))
    return stack[0].choice
