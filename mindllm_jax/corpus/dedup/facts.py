"""Facts of a document, to tell a copy from another document of the same form.

The pages of two functions, two towns or two quarters of a company may share nine tenths of their wording. What differs
is a name, again and again, or the numbers. Edits of a copy differ from each other, so they change neither the words
that a text repeats nor most of its numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from mindllm_jax.corpus.dedup.batches import Batch, places_in_text
from mindllm_jax.text.codepoints import canonical
from mindllm_jax.text.ngrams import tokens

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


def facts(batch: Batch, texts: Sequence[str]) -> np.ndarray:
    """Returns the facts of the texts of a batch, `DTYPE` [n].

    They are those of the first 4,096 tokens of each. Words of Han are pairs of characters; words of one letter and
    words such as "the" are left out. Numbers have two digits or more.
    """
    count = len(texts)
    hashes, starts, is_han = batch.tokens
    owners = batch.owners
    if np.diff(batch.bounds).max(initial=0) > _MAX_TOKENS:
        early = places_in_text(owners, count) < _MAX_TOKENS
        hashes, starts, is_han, owners = hashes[early], starts[early], is_han[early], owners[early]
    first = batch.points[starts]
    digits = (first >= 48) & (first <= 57)
    # The last character of a text counts as long.
    following = np.minimum(starts + 1, batch.offsets[1:][owners] - 2)
    long = canonical()[batch.points[following]] > 0
    is_word = long & ~digits & ~is_han
    is_pair = is_han[:-1] & is_han[1:] & (owners[:-1] == owners[1:])
    words = _Values(_short(hashes[is_word]), owners[is_word])
    pairs = _Values(_short(hashes[:-1][is_pair] * _FACTOR + hashes[1:][is_pair]), owners[:-1][is_pair])

    table = np.zeros(count, DTYPE)
    names, counts = _unique(_joined(words, pairs))
    repeated = counts >= _MIN_COUNT
    names, counts = names.of(repeated), counts[repeated]
    common = _common()
    rare = common[np.minimum(np.searchsorted(common, names.hashes), len(common) - 1)] != names.hashes
    names, counts = names.of(rare), counts[rare]
    order = np.lexsort((names.hashes, -counts, names.owners))
    names, counts = names.of(order), counts[order]
    _fill(table["names"], names)
    _fill(table["counts"], _Values(np.minimum(counts, 255), names.owners))

    ends = batch.offsets[:-1] + np.fromiter(map(_title_end, texts), np.int64, count)
    in_title = _joined(
        words.of(starts[is_word] < ends[words.owners]), pairs.of(starts[:-1][is_pair] < ends[pairs.owners])
    )
    _fill(table["title"], in_title.of(np.argsort(in_title.owners, kind="stable")))

    numbers, _ = _unique(_Values(_short(hashes[digits & long]), owners[digits & long]))
    _fill(table["numbers"], numbers)
    table["size"] = np.minimum(np.bincount(numbers.owners, minlength=count), 0xFFFF)
    return table


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


class _Values(NamedTuple):
    """Hashes, uint32 [m], or counts of them, with the text that each is of, int64 [m]."""

    hashes: np.ndarray
    owners: np.ndarray

    def of(self, chosen: np.ndarray) -> _Values:
        """Returns those at places, or those that a mask is true for."""
        return _Values(self.hashes[chosen], self.owners[chosen])


def _joined(one: _Values, other: _Values) -> _Values:
    return _Values(*(np.concatenate(both) for both in zip(one, other, strict=True)))


def _unique(values: _Values) -> tuple[_Values, np.ndarray]:
    """Returns the different hashes of each text, sorted by text and hash, and how often each occurs."""
    keys = values.owners.astype(np.uint64) << np.uint64(32) | values.hashes
    keys, counts = np.unique(keys, return_counts=True)
    return _Values(keys.astype(np.uint32), (keys >> np.uint64(32)).astype(np.int64)), counts


def _fill(column: np.ndarray, values: _Values) -> None:
    """Writes the first values of each text, which are sorted by text, into its row of a column."""
    places = places_in_text(values.owners, len(column))
    fit = places < column.shape[1]
    column[values.owners[fit], places[fit]] = values.hashes[fit]


def _title_end(text: str) -> int:
    """Returns where the first line ends, or 0 if it is longer than a title."""
    begin = len(text) - len(text.lstrip())
    end = text.find("\n", begin)
    end = len(text) if end < 0 else end
    return end if end - begin <= _MAX_TITLE_CHARS else 0


@cache
def _common() -> np.ndarray:
    return np.unique(_short(tokens(_FUNCTION_WORDS).hashes))
