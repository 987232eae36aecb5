"""First fit, against the obvious way to do it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindllm_jax.batching.packing import first_fit

CAPACITY = 20


def plain_first_fit(lengths: list[int]) -> list[list[int]]:
    bins: list[list[int]] = []
    for item, length in enumerate(lengths):
        if length > CAPACITY:
            continue
        for members in bins:
            if sum(lengths[i] for i in members) + length <= CAPACITY:
                members.append(item)
                break
        else:
            bins.append([item])
    return bins


@given(st.lists(st.integers(1, CAPACITY + 2), max_size=60))
def test_every_item_is_in_the_first_bin_with_room(lengths: list[int]) -> None:
    packing = first_fit(lengths, CAPACITY)
    assert [members.tolist() for members in packing.bins] == plain_first_fit(lengths)
    assert packing.too_long.tolist() == [i for i, length in enumerate(lengths) if length > CAPACITY]


def test_many_items() -> None:
    lengths = np.random.default_rng(0).integers(1, 600, 20_000)
    packing = first_fit(lengths, 512)
    sums = [lengths[members].sum() for members in packing.bins]
    assert max(sums) <= 512
    assert np.sort(np.concatenate([*packing.bins, packing.too_long])).tolist() == list(range(20_000))
    # Items up to the size of a bin leave some of it empty.
    assert np.mean(sums) > 0.9 * 512


@pytest.mark.parametrize(("lengths", "capacity"), [([3, 0], 4), ([-1], 4), ([3], 0)])
def test_lengths_and_capacity_below_one(lengths: list[int], capacity: int) -> None:
    with pytest.raises(ValueError, match="lengths and capacity must be at least 1"):
        first_fit(lengths, capacity)
