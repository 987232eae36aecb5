"""The index of benchmarks: the n-grams of their items, to detect the items in documents."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from datatrove.data import Document
from datatrove.io import DataFolder, DataFolderLike, get_datafolder
from datatrove.pipeline.base import PipelineStep

from mindllm_jax.corpus.contamination.items import benchmark_files, items
from mindllm_jax.corpus.settings import Decontamination
from mindllm_jax.text.codepoints import canonical, codepoints
from mindllm_jax.text.ngrams import Tokens, span_hashes, tokens

_SIEVE_BITS = 26
SIEVE_SHIFT = np.uint64(64 - _SIEVE_BITS)
# An n-gram of one token again and again, or of numbers, stands in tables and refrains of any text. Of the passages of
# MMLU to LegalBench 2 in 1,000 have no other: formulas.
_MIN_DIFFERENT = 0.5  # share of different tokens in an n-gram
_MIN_WORDS = 3  # tokens of an n-gram that are no numbers


class Index(NamedTuple):
    """The n-grams of all passages of all benchmarks; G n-grams, P passages.

    A passage is a text of an item if that has an n-gram, else all texts of the item together. Only n-grams count of
    which at least half the tokens are different and three are no numbers.

    Attributes:
        ngrams: uint64 [G], hashes, sorted and unique.
        first: int64 [G + 1], where the passages of each n-gram begin in `passages`.
        passages: int32, the passages that have an n-gram.
        sizes: int32 [P], n-grams of each passage.
        benchmark: int16 [P], the benchmark of each passage, by its place in `names`.
        names: of the benchmarks.
        sieve: bool [2^26], whether some n-gram begins with these 26 bits: most n-grams of a text need no search.
    """

    ngrams: np.ndarray
    first: np.ndarray
    passages: np.ndarray
    sizes: np.ndarray
    benchmark: np.ndarray
    names: list[str]
    sieve: np.ndarray


class WriteIndex(PipelineStep):
    """Reads the raw files of the benchmarks and writes the index and the counts of `build_index`. One task."""

    type = "🦠 - DECONT"
    name = "Index of benchmarks"

    def __init__(self, folder: DataFolderLike, config: Decontamination) -> None:
        super().__init__()
        self.folder, self.config = get_datafolder(folder), config

    def run(self, data: Iterable[Document] | None = None, rank: int = 0, world_size: int = 1) -> None:
        """Writes `index.npz` and `benchmarks.json`."""
        with self.track_time():
            index, counts = build_index(self.config)
            with self.folder.open("index.npz", "wb") as file:
                arrays = {**index._asdict(), "names": np.array(index.names)}
                del arrays["sieve"]
                np.savez(file, allow_pickle=False, **arrays)
            with self.folder.open("benchmarks.json", "w") as file:
                json.dump(counts, file, indent=1)


def read_index(folder: DataFolderLike) -> Index:
    """Reads the index that `WriteIndex` wrote; a process reads it once for all its shards."""
    folder = get_datafolder(folder)
    return _read_index(folder, folder.modified("index.npz"))


@lru_cache(1)
def _read_index(folder: DataFolder, modified: datetime) -> Index:
    with folder.open("index.npz", "rb") as file, np.load(file, allow_pickle=False) as arrays:
        return Index(**{**dict(arrays), "names": arrays["names"].tolist(), "sieve": _sieve(arrays["ngrams"])})


def build_index(config: Decontamination) -> tuple[Index, dict[str, dict[str, int]]]:
    """Returns the index, and by benchmark its `items`, `passages` and items `too short`, without a counted n-gram."""
    ngrams, passages, sizes, benchmark = [], [], [], []
    counts: dict[str, dict[str, int]] = {}
    files = benchmark_files(Path(config.benchmarks))
    total = 0
    for number, (name, paths) in enumerate(files.items()):
        counts[name] = {"items": 0, "passages": 0, "too short": 0}
        for path in paths:
            rows = [texts for texts in items(path) if any(texts)]
            part = item_passages(rows, config)
            ngrams.append(part.ngrams)
            passages.append(np.repeat(np.arange(total, total + len(part.sizes), dtype=np.int32), part.sizes))
            sizes.append(part.sizes)
            total += len(part.sizes)
            counts[name]["items"] += len(rows)
            counts[name]["passages"] += len(part.sizes)
            counts[name]["too short"] += part.too_short
        benchmark.append(np.full(total - sum(map(len, benchmark)), number, np.int16))
    all_ngrams, of_passages = np.concatenate(ngrams), np.concatenate(passages)
    order = np.argsort(all_ngrams, kind="stable")
    unique, first = np.unique(all_ngrams[order], return_index=True)
    index = Index(
        unique,
        np.append(first, len(all_ngrams)),
        of_passages[order],
        np.concatenate(sizes),
        np.concatenate(benchmark),
        list(files),
        _sieve(unique),
    )
    return index, counts


def indexed_tokens(text: str) -> Tokens:
    """Returns the tokens of a text without the letters before choices, which some copies of an item leave out."""
    all_tokens = tokens(text)
    kept = ~np.isin(all_tokens.hashes, _choice_letters())
    return Tokens(all_tokens.hashes[kept], all_tokens.starts[kept], all_tokens.is_han[kept])


class Passages(NamedTuple):
    """The n-grams of passages: uint64, unique per passage, passage after passage; int32 [P] how many; items without."""

    ngrams: np.ndarray
    sizes: np.ndarray
    too_short: int


def item_passages(rows: list[list[str]], config: Decontamination) -> Passages:
    """Returns the n-grams of items, each its texts; of all items of a file at once, because they are short and many."""
    texts = [text for row in rows for text in row]
    ends = np.cumsum([len(text) + 1 for text in texts], dtype=np.int64)
    text = "\n".join(texts)
    joined = indexed_tokens(text)
    first_characters = canonical()[codepoints(text)[joined.starts]]
    number = (first_characters >= ord("0")) & (first_characters <= ord("9"))
    lengths = (config.ngram_words, config.ngram_chars)
    distances = _repeat_distances(joined.hashes, max(lengths))
    counted = {n: np.concatenate([[0], np.cumsum(_counts(distances, number, n))]) for n in lengths}

    def has_ngram(first: int, last: int, n: int) -> bool:
        return last - first >= n and counted[n][last - n + 1] > counted[n][first]

    # The tokens of text t are borders[t] to borders[t + 1].
    borders = np.concatenate([[0], np.searchsorted(joined.starts, ends)])
    han = np.concatenate([[0], np.cumsum(joined.is_han)])
    spans: list[tuple[int, int, int]] = []
    first, too_short = 0, 0
    for row in rows:
        last = first + len(row)
        parts = [(int(borders[text]), int(borders[text + 1])) for text in range(first, last)]
        spans_of_row = [(a, b, _ngram_length(int(han[b] - han[a]), b - a, config)) for a, b in parts]
        long = [span for span in spans_of_row if has_ngram(*span)]
        if not long:
            a, b = parts[0][0], parts[-1][1]
            n = _ngram_length(int(han[b] - han[a]), b - a, config)
            long = [(a, b, n)] if has_ngram(a, b, n) else []
        too_short += not long
        spans += long
        first = last
    if not spans:
        return Passages(np.zeros(0, np.uint64), np.zeros(0, np.int32), too_short)
    begins, stops, n = (np.array(column, np.int64) for column in zip(*spans, strict=True))
    counts = stops - begins - n + 1
    starts = np.repeat(begins - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts) + np.arange(counts.sum())
    n, passage = np.repeat(n, counts), np.repeat(np.arange(len(spans)), counts)
    kept = np.zeros(len(starts), np.bool_)
    for length, sums in counted.items():
        of_length = n == length
        kept[of_length] = np.diff(sums)[starts[of_length]] > 0
    starts, n, passage = starts[kept], n[kept], passage[kept]
    ngrams = span_hashes(joined.hashes, starts, starts + n)
    order = np.lexsort((ngrams, passage))
    ngrams, passage = ngrams[order], passage[order]
    unique = np.concatenate([[True], (ngrams[1:] != ngrams[:-1]) | (passage[1:] != passage[:-1])])
    return Passages(ngrams[unique], np.bincount(passage[unique], minlength=len(spans)).astype(np.int32), too_short)


def _repeat_distances(hashes: np.ndarray, n: int) -> np.ndarray:
    """Returns how many tokens before each one the same one stands, uint16, n if not among the n - 1 before it."""
    distances = np.full(len(hashes), n, np.uint16)
    for lag in range(n - 1, 0, -1):
        np.putmask(distances[lag:], hashes[lag:] == hashes[:-lag], lag)
    return distances


def _counts(distances: np.ndarray, number: np.ndarray, n: int) -> np.ndarray:
    """Returns whether each n-gram counts (see `Index`), bool [tokens - n + 1].

    Args:
        distances: of `_repeat_distances`.
        number: bool, whether each token is a number.
        n: tokens of an n-gram.
    """
    if len(distances) < n:
        return np.zeros(0, np.bool_)
    repeats = _window_sums(distances < n, n)
    # Some are of a token before the n-gram: exact for the few with many.
    many = np.flatnonzero(n - repeats < _MIN_DIFFERENT * n)
    repeats[many] = (distances[many[:, None] + np.arange(n)] <= np.arange(n)).sum(1)
    return (n - repeats >= _MIN_DIFFERENT * n) & (_window_sums(~number, n) >= _MIN_WORDS)


def _window_sums(values: np.ndarray, n: int) -> np.ndarray:
    sums = np.zeros(len(values) + 1, np.int32)
    np.cumsum(values, out=sums[1:])
    return sums[n:] - sums[:-n]


def _sieve(ngrams: np.ndarray) -> np.ndarray:
    sieve = np.zeros(1 << _SIEVE_BITS, np.bool_)
    sieve[ngrams >> SIEVE_SHIFT] = True
    return sieve


def _ngram_length(han: int, size: int, config: Decontamination) -> int:
    return config.ngram_chars if 2 * han >= size else config.ngram_words


@cache
def _choice_letters() -> np.ndarray:
    return tokens("A B C D E F G H").hashes
