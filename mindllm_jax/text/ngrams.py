"""Hashes of tokens and of runs of tokens (shingles), for finding texts that share wording.

A token is a Han character, or a run of letters and digits. Spaces, punctuation, case, width and the choice between
simplified and traditional characters leave no trace in the hashes (see `codepoints.canonical`).
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from mindllm_jax.text.codepoints import HAN, WORD, canonical, classes, codepoints

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
    han = kinds == HAN
    # A word begins and ends where the class changes to WORD and from it.
    word = np.zeros(len(points) + 2, np.bool_)
    np.equal(kinds, WORD, out=word[1:-1])
    starts = (han | (word[1:-1] & ~word[:-2])).nonzero()[0]
    ends = (han | (word[1:-1] & ~word[2:])).nonzero()[0] + 1
    return Tokens(span_hashes(points, starts, ends), starts, han[starts])


def shingles(hashes: np.ndarray, n: int) -> np.ndarray:
    """uint64: a hash of each n tokens in a row; of all of them where there are fewer, none where there are none."""
    n = min(n, len(hashes))
    if not n:
        return hashes[:0]
    sums, inverse = _sums(hashes)
    return mix((sums[n:] - sums[:-n]) * inverse[: len(hashes) - n + 1])


def span_hashes(values: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """uint64: a hash of each span of values, [start, end), at a cost that does not depend on the spans' lengths."""
    sums, inverse = _sums(values)
    return mix((sums[ends] - sums[starts]) * inverse[starts])


def mix(x: np.ndarray) -> np.ndarray:
    """uint64 to uint64, one to one: every bit of the result depends on every bit of x (splitmix64's finalizer)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _sums(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sums of values times powers, up to each, and the inverses of the powers.

    A hash is a polynomial over its span: the difference of two sums, brought to the same power. All modulo 2^64.
    """
    power, inverse = _powers(1 << max(16, (len(values) - 1).bit_length()))
    sums = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values * power[: len(values)], out=sums[1:])
    return sums, inverse


@cache
def _powers(size: int) -> tuple[np.ndarray, np.ndarray]:
    def powers(base: int) -> np.ndarray:
        factors = np.full(size, base, np.uint64)
        factors[:1] = 1
        return np.multiply.accumulate(factors)

    return powers(_BASE), powers(pow(_BASE, -1, 2**64))
