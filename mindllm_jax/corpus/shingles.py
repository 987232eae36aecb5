"""Hashes of tokens and of runs of tokens (shingles), for finding texts that share wording.

A token is a Han character, or a run of letters and digits. Spaces, punctuation, case, width and the choice between
simplified and traditional characters leave no trace in the hashes (see `codepoints.canonical`).
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from mindllm_jax.corpus.codepoints import HAN, SEPARATOR, WORD, canonical, classes, codepoints

# Odd, so that it has an inverse modulo 2^64.
_BASE = 0x9E3779B97F4A7C15


class Tokens(NamedTuple):
    """The n tokens of a text in their order.

    Attributes:
        hashes: uint64 [n].
        starts: int64 [n], the character at which each begins.
        is_han: bool [n], which are Han characters.
    """

    hashes: np.ndarray
    starts: np.ndarray
    is_han: np.ndarray


def tokens(text: str) -> Tokens:
    """The tokens of a text."""
    points = canonical()[codepoints(text)]
    kinds = classes()[points]
    before = np.concatenate([[SEPARATOR], kinds[:-1]])
    after = np.concatenate([kinds[1:], [SEPARATOR]])
    starts = np.flatnonzero((kinds == HAN) | ((kinds == WORD) & (before != WORD)))
    ends = np.flatnonzero((kinds == HAN) | ((kinds == WORD) & (after != WORD))) + 1
    return Tokens(span_hashes(points, starts, ends), starts, kinds[starts] == HAN)


def shingles(hashes: np.ndarray, n: int) -> np.ndarray:
    """uint64: a hash of each n tokens in a row; of all of them where there are fewer, none where there are none."""
    starts = np.arange(max(min(1, len(hashes)), len(hashes) - n + 1))
    return span_hashes(hashes, starts, np.minimum(starts + n, len(hashes)))


def span_hashes(values: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """uint64: a hash of each span of values, [start, end), at a cost that does not depend on the spans' lengths."""
    # A polynomial over each span: the difference of two sums of powers, brought to the same power. All modulo 2^64.
    power, inverse = _powers(1 << max(16, (len(values) - 1).bit_length()))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(values * power[: len(values)], dtype=np.uint64)])
    return mix((sums[ends] - sums[starts]) * inverse[starts])


def mix(x: np.ndarray) -> np.ndarray:
    """uint64 to uint64, one to one: every bit of the result depends on every bit of x (splitmix64's finalizer)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@cache
def _powers(size: int) -> tuple[np.ndarray, np.ndarray]:
    def powers(base: int) -> np.ndarray:
        factors = np.full(size, base, np.uint64)
        factors[:1] = 1
        return np.multiply.accumulate(factors)

    return powers(_BASE), powers(pow(_BASE, -1, 2**64))
