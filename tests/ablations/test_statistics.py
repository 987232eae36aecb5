"""Statistics over seeds, against scipy's own tests and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from mindllm_jax.ablations.statistics import (
    Interval,
    baseline_detectable,
    detectable,
    holm,
    interval,
    paired_difference,
    verdict,
)


def test_the_interval_is_scipys():
    values = [1.0, 2.0, 4.0, 8.0]
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    found = interval(values)
    assert found.mean == 3.75 and found.seeds == 4
    np.testing.assert_allclose([found.low, found.high], [expected.low, expected.high])


def test_one_seed_has_no_bounds():
    assert interval([2.0]) == Interval(2.0, -math.inf, math.inf, 1)
    assert paired_difference([2.0], [1.0]).detectable == math.inf


def test_the_paired_test_is_scipys():
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=8), generator.normal(size=8)
    found = paired_difference(list(a), list(b))
    assert found.p_value == pytest.approx(stats.ttest_rel(a, b)[1])
    assert found.interval.mean == pytest.approx(np.mean(a - b))


def test_fewer_than_six_seeds_have_no_p_value():
    assert paired_difference([1.0, 2.0, 4.0, 3.0, 9.0], [0.0] * 5).p_value is None


def test_differences_that_are_all_equal_are_certain():
    assert paired_difference([1.0] * 6, [0.0] * 6).p_value == 0.0
    assert paired_difference([1.0] * 6, [1.0] * 6).p_value == 1.0


def test_unpaired_seeds_are_refused():
    with pytest.raises(ValueError, match="2 and 1 values make no pairs"):
        paired_difference([1.0, 2.0], [1.0])


@pytest.mark.parametrize(("seeds", "tests"), [(5, 1), (8, 1), (8, 6)])
def test_the_detectable_difference_is_detected_four_times_in_five(seeds: int, tests: int):
    """Where it is the smallest p-value of so many tests, which Holm multiplies by their number."""
    generator = np.random.default_rng(1)
    smallest = detectable(1 / math.sqrt(seeds), seeds, tests)
    draws = generator.normal(smallest, 1.0, size=(4000, seeds))
    found = np.abs(np.mean(draws, axis=1)) / stats.sem(draws, axis=1) > stats.t.ppf(1 - 0.025 / tests, seeds - 1)
    assert 0.72 < np.mean(found) < 0.87


def test_independent_variants_spread_by_the_root_of_two():
    values = [1.0, 2.0, 4.0]
    error = float(np.std(values, ddof=1)) / math.sqrt(3)
    assert baseline_detectable(values, 3) == pytest.approx(detectable(math.sqrt(2) * error, 3))
    smaller = math.sqrt(2) * error / 2
    assert baseline_detectable(values, 12) == pytest.approx(detectable(smaller, 12))
    assert baseline_detectable([1.0], 6) == math.inf


def test_holm_multiplies_by_what_is_left_and_never_falls():
    np.testing.assert_allclose(holm([0.04, 0.01, 0.03], 3), [0.06, 0.03, 0.06])
    np.testing.assert_allclose(holm([0.01], 4), [0.04])
    assert holm([0.9, 0.8], 2) == [1.0, 1.0] and holm([], 2) == []


@pytest.mark.parametrize(
    ("mean", "p_value", "direction", "expected"),
    [
        (-1.0, 0.04, "lower", "yes"),
        (-1.0, 0.04, "higher", "no"),
        (1.0, 0.04, "higher", "yes"),
        (1.0, 0.04, "lower", "no"),
        (1.0, 0.06, "higher", "cannot tell at this scale"),
        (1.0, None, "higher", "cannot tell at this scale"),
    ],
)
def test_verdicts(mean: float, p_value: float | None, direction, expected: str):
    assert verdict(mean, p_value, direction) == expected
