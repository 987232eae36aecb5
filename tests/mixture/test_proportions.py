"""Apportionment is exact and even; caps are kept, and demands are met whenever they can be."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindllm_jax.mixture.proportions import allocate, apportion, recipient


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(0, 10**9))
def test_turns_are_exact_over_every_period_and_count_up(weights: list[int], start: int) -> None:
    period = sum(weights)
    received = [recipient(index, weights) for index in range(start * period, (start + 1) * period)]
    assert Counter(which for which, _ in received) == dict(enumerate(weights))
    for which, weight in enumerate(weights):
        assert [count for who, count in received if who == which] == list(range(start * weight, (start + 1) * weight))


@given(st.lists(st.integers(1, 60), min_size=2, max_size=8), st.integers(1, 300))
def test_turns_are_even(weights: list[int], items: int) -> None:
    counts = Counter(recipient(index, weights)[0] for index in range(items))
    for which, weight in enumerate(weights):
        # Each rounding is off by a half at most, and the later ones bear a part of what the earlier ones were off.
        bound = 0.5 if which == 0 or len(weights) == 2 else len(weights) / 2
        assert abs(counts[which] - items * weight / sum(weights)) <= bound


@given(st.lists(st.integers(0, 60), min_size=1, max_size=8).filter(any), st.integers(0, 500))
def test_counts_after_turns_are_apportioned(weights: list[int], items: int) -> None:
    counts = Counter(recipient(index, weights)[0] for index in range(items))
    assert apportion(items, weights) == [counts[which] for which in range(len(weights))]


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[int], list[list[int]], list[int | None]]:
    """Demands of up to four stages, weights and caps of up to four sources; each stage has a source."""
    sources = draw(st.integers(1, 4))
    demands = draw(st.lists(st.integers(0, 100), min_size=1, max_size=4))
    weights = [
        draw(st.lists(st.integers(0, 9), min_size=sources, max_size=sources).filter(any)) for _ in range(len(demands))
    ]
    caps = draw(st.lists(st.none() | st.integers(0, 150), min_size=sources, max_size=sources))
    return demands, weights, caps


def most(demands: list[int], weights: list[list[int]], caps: list[int | None]) -> int:
    """The most rows that any allocation gives, by the theorem of maximal flow and minimal cut."""
    cuts = []
    for chosen in range(1 << len(demands)):
        kept = [stage for stage in range(len(demands)) if chosen >> stage & 1]
        used = {source for stage in kept for source, weight in enumerate(weights[stage]) if weight}
        limits = [caps[source] for source in used]
        if None not in limits:
            rest = sum(demands) - sum(demands[stage] for stage in kept)
            cuts.append(rest + sum(limit for limit in limits if limit is not None))
    return min(cuts)


@given(problems())
def test_caps_hold_and_demands_are_met_where_they_can_be(problem: tuple) -> None:
    demands, weights, caps = problem
    rows = allocate(demands, weights, caps)
    for row, demand, own in zip(rows, demands, weights, strict=True):
        assert sum(row) <= demand
        assert all(count >= 0 and (weight or not count) for count, weight in zip(row, own, strict=True))
    for column, cap in zip(zip(*rows, strict=True), caps, strict=True):
        assert cap is None or sum(column) <= cap
    assert sum(map(sum, rows)) == most(demands, weights, caps)


@given(problems())
def test_without_caps_rows_are_apportioned_by_weights(problem: tuple) -> None:
    demands, weights, caps = problem
    rows = allocate(demands, weights, [None] * len(caps))
    assert rows == [apportion(demand, own) for demand, own in zip(demands, weights, strict=True)]


@pytest.mark.parametrize(
    ("demands", "weights", "caps", "rows"),
    [
        # The first is cut to its cap by the same factor in both stages; the others share the rest by their weights.
        ([400, 800], [[2, 1, 1], [2, 1, 1]], [300, None, None], [[100, 150, 150], [200, 300, 300]]),
        # What the second takes over exceeds its own cap.
        ([400], [[2, 1, 1]], [100, 120, None], [[100, 120, 180]]),
        # The second stage has one source only, so the first stage leaves it to that.
        ([14, 5], [[1, 1], [0, 1]], [10, 10], [[9, 5], [0, 5]]),
        # The shortage is thirty.
        ([100], [[1, 1]], [30, 40], [[30, 40]]),
    ],
)
def test_caps(demands: list[int], weights: list[list[int]], caps: list[int | None], rows: list) -> None:
    assert allocate(demands, weights, caps) == rows
