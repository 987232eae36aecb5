"""The comparison of two computations of the same logits."""

import math

import numpy as np
import pytest

from mindllm_jax.interop import conformance


@pytest.mark.parametrize("place", [0, 1, 2])
def test_logits_that_are_not_finite_are_no_proof(place: int) -> None:
    """Wherever they stand: a plain maximum keeps the number where NaN is compared with it."""
    ours = [np.zeros((2, 3), np.float32) for _ in range(3)]
    theirs = [np.full_like(row, np.nan) if index == place else row for index, row in enumerate(ours)]
    compared = conformance._compared("theirs", ours, theirs, 1e-4)
    assert not compared["passed"] and math.isnan(compared["max_difference"])
    assert conformance._compared("theirs", ours, ours, 1e-4)["passed"]
