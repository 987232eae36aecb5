"""What the error of a computation may be: the one place where tolerances of numerics tests live.

A bound that is a number hangs on the processor it was found on: instruction sets and thread counts order sums
differently. So an error is held against that of a plain implementation on the same machine. Where that happens to be
good, a floor of a few units in the last place takes over.
"""

from __future__ import annotations

import os
from typing import Any

import jax.numpy as jnp
import numpy as np

SEED = int(os.environ.get("MINDLLM_TEST_SEED", "0"))
"""Seed of the random inputs; `MINDLLM_TEST_SEED=1 make test` tries others."""

FACTOR = 2
"""How many times the plain implementation's error an error may be."""

ULPS = 8
"""The floor, in units in the last place (machine epsilons) of the dtype in which sums are formed."""


def relative_error(found: Any, truth: Any) -> float:
    """The Frobenius norm of the difference over that of the truth, both of any shape, in float64."""
    found, truth = np.asarray(found, np.float64), np.asarray(truth, np.float64)
    assert found.shape == truth.shape, (found.shape, truth.shape)
    difference, norm = np.linalg.norm(found - truth), np.linalg.norm(truth)
    return float(difference / norm) if norm else float(difference)


def floor(dtype: Any) -> float:
    """The relative error that is always allowed.

    Sums of bfloat16 are formed in float32, and only they differ between machines: rounding to bfloat16 does not.
    """
    return ULPS * float(jnp.finfo(jnp.promote_types(dtype, jnp.float32)).eps)


def allowed(plain: float, dtype: Any) -> float:
    """The relative error allowed where a plain implementation in the same dtype has the relative error `plain`."""
    return max(FACTOR * plain, floor(dtype))


def assert_as_exact(found: dict[str, float], plain: dict[str, float], dtype: Any) -> None:
    """Asserts that each relative error is allowed beside that of the plain implementation with the same name."""
    assert found.keys() == plain.keys()
    worse = {name: (error, plain[name]) for name, error in found.items() if not error <= allowed(plain[name], dtype)}
    assert not worse, f"errors beside the plain implementation's: {worse}; at least {floor(dtype):.1e} is allowed"


def assert_same(found: Any, expected: Any, dtype: Any, name: str = "") -> None:
    """Asserts that two programs for one result, neither of them the truth, are each within the floor of it."""
    error = relative_error(found, expected)
    assert error <= 2 * floor(dtype), f"{name} differs by {error:.1e}; at most {2 * floor(dtype):.1e} is allowed"
