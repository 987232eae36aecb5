"""Random orders: each item once, and all orders alike."""

from collections import Counter
from itertools import permutations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mindllm_jax.hashing import hash64, permute


@given(st.integers(1, 600), st.integers(0, 2**64 - 1))
@example(32, 0)
@example(33, 0)
@example(64, 1)
@example(65, 2**64 - 1)
def test_each_item_has_its_own_place(size: int, key: int) -> None:
    assert sorted(permute(index, size, key) for index in range(size)) == list(range(size))


def test_a_large_range_is_not_stored() -> None:
    places = {permute(index, 10**12, 7) for index in range(1000)}
    assert len(places) == 1000
    assert max(places) < 10**12


def test_the_orders_of_four_items_are_equally_likely() -> None:
    counts = Counter(tuple(permute(index, 4, hash64(key)) for index in range(4)) for key in range(24_000))
    assert counts.keys() == set(permutations(range(4)))
    # Chi-squared of 23 degrees of freedom: 49.7 is exceeded by chance once in a thousand.
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 49.7


@pytest.mark.parametrize("size", [40, 64, 100])
def test_two_neighbours_go_anywhere(size: int) -> None:
    pairs = Counter((permute(0, size, hash64(key)), permute(1, size, hash64(key))) for key in range(20_000))
    expected = 20_000 / (size * (size - 1))
    freedom = size * (size - 1) - 1
    spread = sum((pairs[a, b] - expected) ** 2 / expected for a in range(size) for b in range(size) if a != b)
    # Of so many degrees of freedom chi-squared is nearly normal: five standard deviations.
    assert abs(spread - freedom) < 5 * (2 * freedom) ** 0.5
