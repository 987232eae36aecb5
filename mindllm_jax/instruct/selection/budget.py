"""Takes conversations in an order within a budget, evenly by group, without near-duplicates."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np


class Taken(NamedTuple):
    """The selected conversations.

    Attributes:
        chosen: int64, in the order in which they were taken.
        near_duplicates: number of conversations that were passed over as such.
    """

    chosen: np.ndarray
    near_duplicates: int


def take(
    order: Sequence[int] | np.ndarray,
    tokens: np.ndarray,
    groups: Sequence[Hashable],
    *,
    max_conversations: int | None,
    max_tokens: int | None,
    is_new: Callable[[int], bool] = lambda row: True,
) -> Taken:
    """Takes conversations within the budget, each from the group that has the least so far.

    One that is longer than what is left of `max_tokens` is passed over, so that the last ones taken are shorter than
    their order alone would have them: of a budget of many conversations a small part. A group's part is counted in
    tokens where `max_tokens` is given, else in conversations. A group that has no more conversations leaves its part to
    the others.

    Args:
        order: the conversations that may be taken, the first first.
        tokens: int64 [n], tokens of every conversation.
        groups: [n], the group of every conversation.
        max_conversations, max_tokens: the budget; None: no limit.
        is_new: whether a conversation is no near-duplicate of those taken; asked once, right before it is taken.
    """
    waiting: dict[Hashable, deque[int]] = {}
    for row in map(int, order):
        waiting.setdefault(groups[row], deque()).append(row)
    # Groups with equal parts are served in the order of their first conversations.
    least = [(0, place, group) for place, group in enumerate(waiting)]
    heapq.heapify(least)
    chosen, spent, near_duplicates = list[int](), 0, 0
    while least and (max_conversations is None or len(chosen) < max_conversations):
        part, place, group = heapq.heappop(least)
        row = waiting[group].popleft()
        size = int(tokens[row])
        if max_tokens is None or spent + size <= max_tokens:
            if is_new(row):
                chosen.append(row)
                spent += size
                part += 1 if max_tokens is None else size
            else:
                near_duplicates += 1
        if waiting[group]:
            heapq.heappush(least, (part, place, group))
    return Taken(np.array(chosen, np.int64), near_duplicates)
