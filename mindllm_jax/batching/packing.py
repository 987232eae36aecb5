"""Packing: first fit of items into bins of one capacity, as conversations into rows."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Packing(NamedTuple):
    """Items by bin.

    Attributes:
        bins: the numbers of each bin's items, int64, in increasing order.
        too_long: int64, the numbers of items longer than a bin.
    """

    bins: list[np.ndarray]
    too_long: np.ndarray


def first_fit(lengths: Sequence[int] | np.ndarray, capacity: int) -> Packing:
    """Puts each item, in the order given, into the first bin that has room for it; O(n log n).

    It opens at most 1.7 times as many bins as the best packing (Dósa and Sgall, "First Fit bin packing: a tight
    analysis", 2013).

    Args:
        lengths: int [n], each at least 1.
        capacity: size of a bin; longer items are in no bin.

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
    """Returns the bin of each item, int64 [n]."""
    leaves = 1 << max(0, len(lengths) - 1).bit_length()
    # A binary tree over the bins, root at 1, of the most room in any bin below. Unopened bins have all of it, so the
    # first bin with room is a new one when no open bin has enough.
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
