"""The rows of a scheduler's cache: whose they are, which tokens they hold, and which one a new request gets."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from mindllm_jax.batching.buckets import power_of_two
from mindllm_jax.generation.requests import Ticket

LEAST_SHARED = 16
"""Tokens below which a shared beginning is computed again, because a row beside the busy ones matters more."""


@dataclass
class Row:
    """One row of the cache.

    Attributes:
        ticket: the request that has the row; None: it is free.
        tokens: those in the cache, which stay when the request has ended.
        pending: the rest of the prompt.
        used: when a request took it last.
    """

    ticket: Ticket | None = None
    tokens: list[int] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)
    used: float = 0.0

    @property
    def decodes(self) -> bool:
        """Whether the row has a request whose prompt is in the cache."""
        return self.ticket is not None and not self.pending

    def take(self, ticket: Ticket, tokens: Sequence[int]) -> None:
        """Gives the row to a request whose prompt begins with `tokens`, which the cache of the row has."""
        self.ticket, self.tokens, self.used = ticket, list(tokens), time.monotonic()
        self.pending = [int(id) for id in ticket.request.prompt[len(tokens) :]]

    def advance(self, count: int) -> None:
        """Notes that `count` pending tokens are in the cache."""
        self.tokens += self.pending[:count]
        self.pending = self.pending[count:]

    def release(self) -> None:
        """Frees the row; its tokens stay."""
        self.ticket, self.pending = None, []


class Parts(NamedTuple):
    """Parts of the prompts of neighbouring rows, which are computed together.

    Attributes:
        first: index of the first row.
        tokens: for each row, those of its part.
        start: the number of tokens that each row has before.
    """

    first: int
    tokens: list[list[int]]
    start: int


def next_parts(rows: Sequence[Row], longest: int, most: int, size: Callable[[int], int]) -> Parts | None:
    """Returns the next parts of pending prompts, of a power of two of at most `most` rows; None: nothing is pending.

    The rows begin with the first one that has a pending prompt. All have equally many tokens, and parts of one size.

    Args:
        rows: all rows of the cache.
        longest: tokens of a part at most.
        most: parts at most.
        size: returns the tokens to which a part of so many is padded.
    """
    first = next((index for index, row in enumerate(rows) if row.pending), None)
    if first is None:
        return None
    start, part = len(rows[first].tokens), size(min(longest, len(rows[first].pending)))
    equal = [
        bool(row.pending) and len(row.tokens) == start and size(min(longest, len(row.pending))) == part
        for row in rows[first : first + most]
    ]
    neighbours = equal.index(False) if False in equal else len(equal)
    count = power_of_two(neighbours + 1) // 2
    return Parts(first, [row.pending[:longest] for row in rows[first : first + count]], start)


def waits_for_a_pending(rows: Sequence[Row], prompt: Sequence[int], windows: Sequence[int | None]) -> bool:
    """Returns whether a row will have, once its prompt is computed, more of a prompt's beginning than any has now."""
    now = max(_shared(row.tokens, prompt, windows) for row in rows)
    soon = (_shared(row.ticket.request.prompt, prompt, windows) for row in rows if row.pending and row.ticket)
    return max(soon, default=0) >= now + LEAST_SHARED


def choose_row(rows: Sequence[Row], prompt: Sequence[int], windows: Sequence[int | None]) -> tuple[int, int, int]:
    """Returns the free row that a prompt gets, the row with the tokens that it begins with, and the number of these.

    A free row that has these tokens is taken as it is. Otherwise the free row that leaves the busy rows closest
    together is taken, of several the one used longest ago, and a busy row's tokens are copied into it.
    """
    free = [index for index, row in enumerate(rows) if row.ticket is None]
    busy = [index for index, row in enumerate(rows) if row.ticket is not None]
    shared = [_shared(row.tokens, prompt, windows) for row in rows]
    best_free = max(free, key=lambda index: shared[index])
    best_busy = max(busy, key=lambda index: shared[index], default=best_free)
    if shared[best_free] >= LEAST_SHARED and shared[best_busy] < shared[best_free] + LEAST_SHARED:
        return best_free, best_free, shared[best_free]

    def span(index: int) -> int:
        return power_of_two(max([*busy, index]) - min([*busy, index]) + 1)

    target = min(free, key=lambda index: (span(index), rows[index].used))
    if shared[best_busy] >= LEAST_SHARED:
        return target, best_busy, shared[best_busy]
    return target, target, 0


def _shared(tokens: Sequence[int], prompt: Sequence[int], windows: Sequence[int | None]) -> int:
    """Returns the number of tokens at the beginning of both that the cache of a row still has, all before the last.

    The last token of a prompt is always computed, for its logits. A layer with a window has dropped what its window
    has passed, so its tokens are of use as a whole alone.
    """
    most = min(len(tokens), len(prompt) - 1)
    differ = np.flatnonzero(np.asarray(tokens[:most]) != np.asarray(prompt[:most]))
    equal = int(differ[0]) if len(differ) else most
    dropped = any(window is not None and len(tokens) > window for window in windows)
    return 0 if dropped and equal < len(tokens) else equal
