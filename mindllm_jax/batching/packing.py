"""Packing: which items share a row."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Packing(NamedTuple):
    """Items by bin.

    Attributes:
        bins: for each bin the numbers of its items, int64, in increasing order.
        too_long: int64, the items that fit no bin.
    """

    bins: list[np.ndarray]
    too_long: np.ndarray


def first_fit(lengths: Sequence[int] | np.ndarray, capacity: int) -> Packing:
    """Puts each item, in the order given, into the first bin that has room for it; O(n log n).

    It opens at most 1.7 times as many bins as the best packing (Dósa and Sgall, "First Fit bin packing: a tight
    analysis", 2013).

    Args:
        lengths: int [n], each at least 1.
        capacity: what a bin holds. A longer item is put nowhere: cut it before, or do without it.

    Raises ValueError when a length or the capacity is below 1.
    """
    lengths = np.asarray(lengths, np.int64)
    if capacity < 1 or lengths.min(initial=1) < 1:
        raise ValueError(f"lengths and capacity must be at least 1, not {lengths.min(initial=1)} and {capacity}")
    fitting = np.flatnonzero(lengths <= capacity)
    bin_of = _first_fit(lengths[fitting].tolist(), capacity)
    by_bin = np.argsort(bin_of, kind="stable")
    borders = np.flatnonzero(np.diff(bin_of[by_bin])) + 1
    bins = np.split(fitting[by_bin], borders) if len(fitting) else []
    return Packing(bins, np.flatnonzero(lengths > capacity))


def _first_fit(lengths: list[int], capacity: int) -> np.ndarray:
    """The bin of each item, int64 [n]."""
    leaves = 1 << max(0, len(lengths) - 1).bit_length()
    # A binary tree over the bins, root at 1: the most room that a bin below has. Bins not yet open have all of it, so
    # the first bin with room is the next new one when no open one has any.
    room = [capacity] * (2 * leaves)
    bin_of = np.empty(len(lengths), np.int64)
    for item, length in enumerate(lengths):
        node = 1
        while node < leaves:
            node *= 2
            if room[node] < length:
                node += 1
        bin_of[item] = node - leaves
        room[node] -= length
        while node > 1:
            node //= 2
            room[node] = max(room[2 * node], room[2 * node + 1])
    return bin_of
