"""A random sample of a stream in one pass, which does not depend on the order of the stream."""

from __future__ import annotations

import heapq
from itertools import count
from typing import Generic, TypeVar

Item = TypeVar("Item")


class SmallestHashes(Generic[Item]):
    """Keeps the items with the smallest hashes, as few as reach a total size.

    Args:
        size: to reach, in the unit of the items' sizes; by default a number of items.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        # (minus hash, minus number, item, size of the item): a heap with the largest hash on top.
        self._kept: list[tuple[int, int, Item, int]] = []
        self._numbers = count()
        self._total = 0
        # A removed hash and all larger ones stay removed. Otherwise a small item could follow a large one that was
        # removed, in one order of the stream and not in another.
        self._bound = 2**64

    def add(self, key: int, item: Item, size: int = 1) -> None:
        """Offers an item.

        Args:
            key: its hash, a uniform number below 2^64 that depends on the item alone.
            item: is kept as it is.
            size: at least 1, or 0 for an empty item.
        """
        if key < self._bound:
            heapq.heappush(self._kept, (-key, -next(self._numbers), item, size))
            self._total += size
            self.shrink(self._size)

    def shrink(self, size: int) -> None:
        """Lowers the total size to reach."""
        self._size = size
        while self._kept and self._total - self._kept[0][3] >= size:
            key, _, _, removed = heapq.heappop(self._kept)
            self._total -= removed
            self._bound = -key

    def items(self) -> list[Item]:
        """Returns the items in the order of their hashes."""
        return [item for _, _, item, _ in sorted(self._kept, key=lambda kept: -kept[0])]
