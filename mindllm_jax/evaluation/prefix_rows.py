"""Rows of batches from sequences, with every shared prefix computed once in a batch.

There are two levels. A *near* prefix and all that continues it fit into a row and lie in one, as the answers to a
question behind it. A *far* prefix is continued by more than a row holds, as the examples of a few-shot prompt by a
subject's questions: it begins a row, and other rows of the same batch continue it.

A near prefix of P tokens that n sequences continue saves (n - 1) P tokens; a far one half a row less, because no
other sequences are in the last row behind it. Those that save the most are chosen, with at least SHORTEST tokens each.
A level costs another call of attention per layer, so it is used where it saves at least LEVEL_COST of all tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, takewhile
from typing import NamedTuple

import numpy as np

from mindllm_jax.batching.packing import first_fit
from mindllm_jax.evaluation.prefixes import Shared, common_lengths, shared_prefixes

SHORTEST = 16  # tokens of a shared prefix
LEVEL_COST = 0.05  # of the time of a forward pass


class Segment(NamedTuple):
    """Tokens of a row from one sequence, or of a prefix."""

    tokens: np.ndarray
    position: int  # of the first of them within the sequence
    sequence: int | None  # its number; None: a prefix
    far: bool = False  # whether it continues the far prefix of its row
    near: int | None = None  # how many segments before it the near prefix stands that it continues


class Row(NamedTuple):
    """Segments, and the row of the same batch whose first segment is their far prefix."""

    segments: list[Segment]
    far_row: int

    @property
    def sequences(self) -> list[int]:
        """The numbers of the sequences that end in the row, in order."""
        return [segment.sequence for segment in self.segments if segment.sequence is not None]


Family = list[Segment]
"""A near prefix and the segments that continue it, or a segment alone; its segments stay together in a row."""


class Levels(NamedTuple):
    """The shared prefixes of both levels; none where a level is not worth its cost."""

    far: list[Shared]
    near: list[Shared]


def shared_levels(tokens: Sequence[np.ndarray], firsts: Sequence[int], length: int, *, far: bool = True) -> Levels:
    """Returns the prefixes that are worth sharing.

    Args:
        tokens: of each sequence, at most `length`; ordered by the first `firsts` of them.
        firsts: the tokens of each sequence that may be shared.
        length: tokens of a row.
        far: whether to look for far prefixes, which need batches of several rows.
    """
    sizes = np.concatenate([[0], np.cumsum([len(ids) for ids in tokens])])
    common = common_lengths([ids[:first] for ids, first in zip(tokens, firsts, strict=True)])
    given = np.zeros(len(tokens), np.int64)  # tokens that the far prefix of each sequence has
    group = np.full(len(tokens), -1)

    def saved(shared: Shared, near: bool) -> int:
        count, before = shared.stop - shared.start, int(given[shared.start])
        more = (count - 1) * (shared.length - before)
        rest = int(sizes[shared.stop] - sizes[shared.start]) - count * before - more
        crosses = group[shared.start] != group[shared.stop - 1]
        usable = shared.length - before >= SHORTEST and near == (rest <= length) and not crosses
        return max(0, more if near else more - length // 2) if usable else 0

    def worth(choice: list[Shared], near: bool) -> list[Shared]:
        return choice if sum(saved(shared, near) for shared in choice) >= LEVEL_COST * sizes[-1] else []

    long = worth(shared_prefixes(common, lambda shared: saved(shared, near=False)), near=False) if far else []
    for number, shared in enumerate(long):
        given[shared.start : shared.stop], group[shared.start : shared.stop] = shared.length, number
    return Levels(long, worth(shared_prefixes(common, lambda shared: saved(shared, near=True)), near=True))


def rows_of(tokens: Sequence[np.ndarray], levels: Levels, length: int, count: int) -> list[list[Row]]:
    """Returns batches of up to `count` rows of up to `length` tokens, which hold every sequence once.

    A far prefix is in every batch that continues it. `count` is at least 2 where there are far prefixes.
    """
    batches: list[list[Row]] = []
    for shared in levels.far:
        families = list(_families(tokens, levels.near, shared.start, shared.stop, shared.length))
        _add_behind(batches, Segment(tokens[shared.start][: shared.length], 0, None), families, length, count)
    borders = [0, *chain.from_iterable((shared.start, shared.stop) for shared in levels.far), len(tokens)]
    alone = [
        family
        for start, stop in zip(borders[::2], borders[1::2], strict=True)
        for family in _families(tokens, levels.near, start, stop, 0)
    ]
    alone.sort(key=_size, reverse=True)  # longest first packs well
    for members in first_fit([_size(family) for family in alone], length).bins:
        batch = _open_batch(batches, count)
        batch.append(Row([segment for number in members for segment in alone[number]], 0))
    return batches


def _families(
    tokens: Sequence[np.ndarray], near: Sequence[Shared], start: int, stop: int, given: int
) -> Iterator[Family]:
    """Yields the families of some sequences, without the `given` first tokens, which a far prefix has."""
    far, number = given > 0, start
    for shared in near:
        if not start <= shared.start < stop:
            continue
        yield from ([Segment(tokens[n][given:], given, n, far)] for n in range(number, shared.start))
        family = [Segment(tokens[shared.start][given : shared.length], given, None, far)]
        for n in range(shared.start, shared.stop):
            family.append(Segment(tokens[n][shared.length :], shared.length, n, far, near=len(family)))
        yield family
        number = shared.stop
    yield from ([Segment(tokens[n][given:], given, n, far)] for n in range(number, stop))


def _add_behind(batches: list[list[Row]], prefix: Segment, families: list[Family], length: int, count: int) -> None:
    """Adds the families, behind their far prefix, to the batches."""
    # In no order of length, so that every batch has short ones to fill its rows.
    pending = [families[n] for n in np.random.default_rng(0).permutation(len(families))]
    while pending:
        batch = _open_batch(batches, count)
        free = count - len(batch)
        fitting = _fitting(pending, free * length - len(prefix.tokens))
        items = [[prefix], *sorted(pending[:fitting], key=_size, reverse=True)]
        bins = first_fit([_size(item) for item in items], length).bins
        home = len(batch)
        if free == 1 and len(bins[0]) == 1:
            batches.append([])  # the prefix alone fills the last row
            continue
        batch.extend(Row([segment for number in row for segment in items[number]], home) for row in bins[:free])
        pending = [items[number] for row in bins[free:] for number in row] + pending[fitting:]


def _open_batch(batches: list[list[Row]], count: int) -> list[Row]:
    """Returns the last batch, a new one where it is full."""
    if not batches or len(batches[-1]) == count:
        batches.append([])
    return batches[-1]


def _fitting(families: Sequence[Family], room: int) -> int:
    """Returns how many of the first families have at most `room` tokens together."""
    return sum(1 for _ in takewhile(lambda total: total <= room, accumulate(map(_size, families))))


def _size(family: Family) -> int:
    return sum(len(segment.tokens) for segment in family)
