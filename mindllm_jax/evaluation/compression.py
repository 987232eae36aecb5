"""Baselines without a neural network on the same bytes: xz and a byte-level n-gram model.

The byte 0xFF, which UTF-8 never contains, ends a document, so that every method pays for the ends as a language model
pays for `<doc>`; bits are divided by the bytes of the texts alone.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

END = b"\xff"
_CHUNK_BYTES = 1 << 24  # text counted at the same time; bounds the memory of counting


def xz_bits(documents: Sequence[bytes]) -> float:
    """Returns the bits of the documents in one `xz -9` file. xz never sees the training text."""
    return 8.0 * len(lzma.compress(b"".join(text + END for text in documents), preset=9))


class _Level(NamedTuple):
    """The n-grams of one length n, and the contexts (their first n - 1 bytes) in which they occur."""

    ngrams: np.ndarray  # uint64, sorted; the last byte is the lowest
    counts: np.ndarray  # int64, c(h b)
    contexts: np.ndarray  # uint64, sorted
    totals: np.ndarray  # int64, c(h): sum of the counts in a context
    kinds: np.ndarray  # int64, T(h): number of different bytes that follow it
    discount: float


class NGram:
    """Interpolated Kneser-Ney model of bytes: Kneser and Ney 1995 in the interpolated form of Chen and Goodman 1999.

    p_n(b | h) = (max(c(h b) - D_n, 0) + D_n T(h) p_{n-1}(b | h')) / c(h), where c counts occurrences in the training
    text for the longest n-grams and different bytes in front for the shorter ones, c(h) is the sum of c(h b) over b,
    T(h) the number of different bytes seen after h, h' is h without its oldest byte, D_n = n_1 / (n_1 + 2 n_2) with
    n_k the number of n-grams of count k, and p_0 = 1/256. After an unseen context p_n is p_{n-1}.
    """

    def __init__(self, documents: Iterable[bytes], order: int = 5):
        if not 2 <= order <= 8:
            raise ValueError(f"n-grams of {order} bytes: must be 2 to 8")
        self.order = order
        parts = [np.unique(_keys(chunk, order), return_counts=True) for chunk in _chunks(documents, order)]
        if not parts:
            raise ValueError("there is no text to count n-grams in")
        ngrams, counts = _merge(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        self._levels = [_level(ngrams, counts)]
        for length in range(order - 1, 0, -1):
            ngrams, counts = _merge(ngrams & _mask(length), np.ones_like(ngrams, np.int64))
            self._levels.insert(0, _level(ngrams, counts))

    def bits(self, documents: Iterable[bytes]) -> float:
        """Returns the bits of the documents under the model, the end of each included."""
        total = 0.0
        for chunk in _chunks(documents, self.order):
            keys = _keys(chunk, self.order)
            p = np.full(len(keys), 1 / 256)
            for length, level in enumerate(self._levels, start=1):
                ngrams = keys & _mask(length)
                contexts = ngrams >> np.uint64(8)
                count = _look_up(level.ngrams, level.counts, ngrams)
                of = _look_up(level.contexts, level.totals, contexts)
                backed_off = level.discount * _look_up(level.contexts, level.kinds, contexts) * p
                known = np.maximum(count - level.discount, 0) + backed_off
                p = np.where(of > 0, known / np.maximum(of, 1), p)
            total -= float(np.log2(p).sum())
        return total


def _level(ngrams: np.ndarray, counts: np.ndarray) -> _Level:
    contexts, first = np.unique(ngrams >> np.uint64(8), return_index=True)
    kinds = np.diff(np.append(first, len(ngrams)))
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    # In a short text every byte may be frequent; the unseen ones need a share too.
    discount = once / (once + 2 * twice) if once else 0.5
    return _Level(ngrams, counts, contexts, np.add.reduceat(counts, first), kinds, discount)


def _chunks(documents: Iterable[bytes], order: int) -> Iterator[np.ndarray]:
    """Yields the bytes of documents, with `order` - 1 ends around each, so that no context crosses a document."""
    texts: list[bytes] = []
    size = 0
    for text in documents:
        texts.append(text)
        size += len(text)
        if size >= _CHUNK_BYTES:
            yield _framed(texts, order)
            texts, size = [], 0
    if texts:
        yield _framed(texts, order)


def _framed(texts: Iterable[bytes], order: int) -> np.ndarray:
    frame = END * max(order - 1, 1)
    return np.frombuffer(frame + b"".join(text + frame for text in texts), np.uint8)


def _keys(chunk: np.ndarray, order: int) -> np.ndarray:
    """Returns the n-gram at each predicted byte: the bytes of the texts, and one end after each text."""
    wide = chunk.astype(np.uint64)
    keys = np.zeros(len(chunk) - order + 1, np.uint64)
    for i in range(order):
        keys = (keys << np.uint64(8)) | wide[i : i + len(keys)]
    ends = chunk == END[0]
    predicted = ~ends
    predicted[1:] |= ends[1:] & ~ends[:-1]
    return keys[predicted[order - 1 :]]


def _mask(length: int) -> np.uint64:
    return np.uint64((1 << 8 * length) - 1)


def _merge(keys: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns sorted distinct keys with the sums of their counts."""
    order = np.argsort(keys, kind="stable")
    keys, counts = keys[order], counts[order]
    first = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    return keys[first], np.add.reduceat(counts, first)


def _look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Returns the value of each wanted key, 0 where `keys` lacks it."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0)
