"""Facts of a document, to tell a copy from another document of the same form.

The pages of two functions, two towns or two quarters of a company may share nine tenths of their wording. What differs
is a name, again and again, or the numbers. Edits of a copy differ from each other, so they change neither the words
that a text repeats nor most of its numbers.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from mindllm_jax.text.codepoints import canonical, codepoints
from mindllm_jax.text.ngrams import Tokens, tokens

NAMES, NUMBERS, TITLE = 32, 16, 8
"""Repeated words, numbers, and words of the title of a document that are compared."""

_MAX_TITLE_CHARS, _MAX_TOKENS = 80, 4096
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_MIN_COUNT, _MIN_NUMBERS, _MIN_SHARED_NUMBERS = 3, 4, 0.5

_FUNCTION_WORDS = (
    "a about after all also an and any are as at be been but by can do does each for from had has have he her his how i"
    " if in into is it its may more must no not of on one only or other our out s shall she should so some such t than"
    " that the their them then there these they this to two under up use used was we were what when where which who"
    " will with would you your"
)

DTYPE = np.dtype(
    [
        ("names", "<u4", (NAMES,)),
        ("counts", "u1", (NAMES,)),
        ("title", "<u4", (TITLE,)),
        ("numbers", "<u4", (NUMBERS,)),
        ("size", "<u2"),
    ]
)
"""The facts of a document: its most frequent words with their counts, the words of its title (the first line, if it is
short), the smallest hashes of its numbers, and how many different numbers it has. Empty places are 0."""


def facts(text: str, hashed: Tokens) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """Returns the facts of a text, in the order of `DTYPE`.

    They are those of its first 4,096 tokens. Words of Han are pairs of characters; words of one letter and words such
    as "the" are left out. Numbers have two digits or more.
    """
    hashed = Tokens(*(values[:_MAX_TOKENS] for values in hashed))
    points = codepoints(text)
    first = points[hashed.starts]
    digits = (first >= 48) & (first <= 57)
    long = canonical()[points[np.minimum(hashed.starts + 1, len(points) - 1)]] > 0
    is_word = long & ~digits & ~hashed.is_han
    is_pair = hashed.is_han[:-1] & hashed.is_han[1:]
    words = _short(hashed.hashes[is_word])
    pairs = _short(hashed.hashes[:-1][is_pair] * _FACTOR + hashed.hashes[1:][is_pair])
    values, counts = np.unique(np.concatenate([words, pairs]), return_counts=True)
    values, counts = values[counts >= _MIN_COUNT], counts[counts >= _MIN_COUNT]
    common = _common()
    rare = common[np.minimum(np.searchsorted(common, values), len(common) - 1)] != values
    values, counts = values[rare], counts[rare]
    order = np.lexsort((values, -counts))[:NAMES]
    numbers = np.unique(_short(hashed.hashes[digits & long]))
    end = _title_end(text)
    in_title = np.concatenate(
        [words[hashed.starts[is_word] < end][:TITLE], pairs[hashed.starts[:-1][is_pair] < end][:TITLE]]
    )
    return (
        _padded(values[order], NAMES, np.uint32),
        _padded(np.minimum(counts[order], 255), NAMES, np.uint8),
        _padded(in_title[:TITLE], TITLE, np.uint32),
        _padded(numbers[:NUMBERS], NUMBERS, np.uint32),
        min(len(numbers), 0xFFFF),
    )


def differ(one: Any, other: Any) -> bool:
    """Whether two documents are about different things.

    Each repeats a word that the other lacks, each repeats a word of its title that the other lacks, or most of their
    numbers differ.
    """
    own, foreign = _missing(one, other), _missing(other, one)
    return (
        bool(own.any() and foreign.any())
        and (
            (_is_frequent(one, own, other) and _is_frequent(other, foreign, one))
            or (_in_title(one, own, other) and _in_title(other, foreign, one))
        )
    ) or _numbers_differ(one, other)


def _missing(one: Any, other: Any) -> np.ndarray:
    """Returns which repeated words of a document the other does not repeat, bool [NAMES]."""
    return ~np.isin(one["names"], other["names"]) & (one["counts"] > 0)


def _is_frequent(one: Any, own: np.ndarray, other: Any) -> bool:
    """Whether a word of a document's own is so frequent that it would be among the repeated words of a copy."""
    if least := int(other["counts"][-1]):
        return bool((one["counts"][own] > 2 * least).any())
    return bool((one["counts"][own] >= _MIN_COUNT + 1).any())


def _in_title(one: Any, own: np.ndarray, other: Any) -> bool:
    """Whether a word of a document's own is in its title and not in that of the other."""
    named = one["names"][own]
    return bool((np.isin(named, one["title"]) & ~np.isin(named, other["title"])).any())


def _numbers_differ(one: Any, other: Any) -> bool:
    least = min(int(one["size"]), int(other["size"]))
    if least < _MIN_NUMBERS:
        return False
    mine, theirs = (row["numbers"][: min(NUMBERS, int(row["size"]))] for row in (one, other))
    union = np.union1d(mine, theirs)[:NUMBERS]
    jaccard = len(np.intersect1d(np.intersect1d(mine, theirs), union)) / len(union)
    shared = jaccard / (1 + jaccard) * (int(one["size"]) + int(other["size"]))
    return shared < _MIN_SHARED_NUMBERS * least


def _short(hashes: np.ndarray) -> np.ndarray:
    return (hashes >> np.uint64(32)).astype(np.uint32) | np.uint32(1)


def _padded(values: np.ndarray, size: int, kind: Any) -> np.ndarray:
    padded = np.zeros(size, kind)
    padded[: len(values)] = values
    return padded


def _title_end(text: str) -> int:
    """Returns where the first line ends, or 0 if it is longer than a title."""
    begin = len(text) - len(text.lstrip())
    end = text.find("\n", begin)
    end = len(text) if end < 0 else end
    return end if end - begin <= _MAX_TITLE_CHARS else 0


@cache
def _common() -> np.ndarray:
    return np.unique(_short(tokens(_FUNCTION_WORDS).hashes))
