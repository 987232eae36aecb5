"""Hashes of tokens and of their n-grams, to detect texts that share wording.

A token is a Han character, or a word of letters and digits. Spaces, punctuation, case, width and the choice between
simplified and traditional characters do not change the hashes (see `codepoints.canonical`).
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from mindllm_jax.text.codepoints import HAN, WORD, canonical, classes, codepoints

# Odd, so that it has an inverse modulo 2^64.
_BASE = 0x9E3779B97F4A7C15


class Tokens(NamedTuple):
    """The n tokens of a text in order.

    Attributes:
        hashes: uint64 [n].
        starts: int64 [n], the character at which each token begins.
        is_han: bool [n], whether it is a Han character.
    """

    hashes: np.ndarray
    starts: np.ndarray
    is_han: np.ndarray


def tokens(text: str) -> Tokens:
    """Splits a text into tokens and hashes them."""
    points = canonical()[codepoints(text)]
    kinds = classes()[points]
    han = kinds == HAN
    # A word begins and ends where the class changes to WORD and from it.
    word = np.zeros(len(points) + 2, np.bool_)
    np.equal(kinds, WORD, out=word[1:-1])
    starts = (han | (word[1:-1] & ~word[:-2])).nonzero()[0]
    ends = (han | (word[1:-1] & ~word[2:])).nonzero()[0] + 1
    return Tokens(span_hashes(points, starts, ends), starts, han[starts])


def ngrams(hashes: np.ndarray, n: int) -> np.ndarray:
    """Returns a uint64 hash per n-gram of token hashes; one for all tokens if there are fewer than n, none if none."""
    n = min(n, len(hashes))
    if not n:
        return hashes[:0]
    sums, inverse = _sums(hashes)
    return mix((sums[n:] - sums[:-n]) * inverse[: len(hashes) - n + 1])


def span_hashes(values: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Returns a uint64 hash per span [start, end) of values, at a cost that does not depend on the spans' lengths."""
    sums, inverse = _sums(values)
    return mix((sums[ends] - sums[starts]) * inverse[starts])


def mix(x: np.ndarray) -> np.ndarray:
    """Mixes the bits of uint64 numbers one to one: the finalizer of SplitMix64 (Steele, Lea and Flood, 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _sums(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the cumulative sums of values times powers, and the inverses of the powers.

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
