"""Items of benchmarks in the training text are found by the runs of words and characters they share, and taken out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from datatrove.data import Document
from datatrove.io import DataFolderLike, get_datafolder
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.writers.disk_base import DiskWriter

from mindllm_jax.corpus.contamination.items import benchmark_files, items
from mindllm_jax.corpus.filters.base import CleaningFilter
from mindllm_jax.corpus.outcomes import record
from mindllm_jax.corpus.settings import Decontamination
from mindllm_jax.text.codepoints import codepoints
from mindllm_jax.text.ngrams import Tokens, shingles, span_hashes, tokens

_SIEVE_BITS = 26
_SIEVE_SHIFT = np.uint64(64 - _SIEVE_BITS)


class Index(NamedTuple):
    """The runs of all passages of all benchmarks.

    Attributes:
        runs: uint64 [R], sorted, each once.
        first: int64 [R + 1], where the passages of each run begin in `passages`.
        passages: int32, the passages that have a run.
        sizes: int32 [P], how many runs each passage has.
        benchmark: int16 [P], whose it is, by its place in `names`.
        names: of the benchmarks.
        sieve: bool [2^26], whether some run begins with these 26 bits: most tokens need no search in `runs`.
    """

    runs: np.ndarray
    first: np.ndarray
    passages: np.ndarray
    sizes: np.ndarray
    benchmark: np.ndarray
    names: list[str]
    sieve: np.ndarray


class WriteIndex(PipelineStep):
    """Reads the raw files and writes the index, and how many items were too short to be looked for. One task."""

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


def build_index(config: Decontamination) -> tuple[Index, dict[str, dict[str, int]]]:
    """The index, and by benchmark its items, passages and items too short to be looked for.

    A passage is a text of an item that is long enough for a run, else all texts of the item together.
    """
    runs, passages, sizes, benchmark = [], [], [], []
    counts: dict[str, dict[str, int]] = {}
    files = benchmark_files(Path(config.benchmarks))
    total = 0
    for number, (name, paths) in enumerate(files.items()):
        counts[name] = {"items": 0, "passages": 0, "too short": 0}
        for path in paths:
            rows = [texts for texts in items(path) if any(texts)]
            found = _passages(rows, config)
            runs.append(found.runs)
            passages.append(np.repeat(np.arange(total, total + len(found.sizes), dtype=np.int32), found.sizes))
            sizes.append(found.sizes)
            total += len(found.sizes)
            counts[name]["items"] += len(rows)
            counts[name]["passages"] += len(found.sizes)
            counts[name]["too short"] += found.too_short
        benchmark.append(np.full(total - sum(map(len, benchmark)), number, np.int16))
    all_runs, of_passages = np.concatenate(runs), np.concatenate(passages)
    order = np.argsort(all_runs, kind="stable")
    unique, first = np.unique(all_runs[order], return_index=True)
    index = Index(
        unique,
        np.append(first, len(all_runs)),
        of_passages[order],
        np.concatenate(sizes),
        np.concatenate(benchmark),
        list(files),
        _sieve(unique),
    )
    return index, counts


class _Passages(NamedTuple):
    """uint64 runs, each once in a passage, passage after passage; int32 how many each has; items without one."""

    runs: np.ndarray
    sizes: np.ndarray
    too_short: int


def _passages(rows: list[list[str]], config: Decontamination) -> _Passages:
    """All at once, because a benchmark is a hundred thousand short texts."""
    texts = [text for row in rows for text in row]
    ends = np.cumsum([len(text) + 1 for text in texts], dtype=np.int64)
    found = _kept("\n".join(texts))
    # The tokens of text t are borders[t] to borders[t + 1].
    borders = np.concatenate([[0], np.searchsorted(found.starts, ends)])
    han = np.concatenate([[0], np.cumsum(found.is_han)])
    spans: list[tuple[int, int, int]] = []
    first, too_short = 0, 0
    for row in rows:
        last = first + len(row)
        own = [(int(borders[text]), int(borders[text + 1])) for text in range(first, last)]
        lengths = [(a, b, _run_length(int(han[b] - han[a]), b - a, config)) for a, b in own]
        long = [(a, b, n) for a, b, n in lengths if b - a >= n]
        if not long:
            a, b = own[0][0], own[-1][1]
            n = _run_length(int(han[b] - han[a]), b - a, config)
            long = [(a, b, n)] if b - a >= n else []
        too_short += not long
        spans += long
        first = last
    if not spans:
        return _Passages(np.zeros(0, np.uint64), np.zeros(0, np.int32), too_short)
    begins, stops, n = (np.array(column, np.int64) for column in zip(*spans, strict=True))
    counts = stops - begins - n + 1
    starts = np.repeat(begins - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts) + np.arange(counts.sum())
    runs = span_hashes(found.hashes, starts, starts + np.repeat(n, counts))
    passage = np.repeat(np.arange(len(spans)), counts)
    order = np.lexsort((runs, passage))
    runs, passage = runs[order], passage[order]
    once = np.concatenate([[True], (runs[1:] != runs[:-1]) | (passage[1:] != passage[:-1])])
    return _Passages(runs[once], np.bincount(passage[once], minlength=len(spans)).astype(np.int32), too_short)


class Decontaminate(CleaningFilter):
    """Drops or cuts documents that hold items of benchmarks.

    It records an outcome `benchmark item` per benchmark that a document has items of, and names these benchmarks in
    the metadata of what it drops.
    Holds the index in memory: about 20 bytes a token of the benchmarks, and 64 MiB for the sieve.
    """

    name = "Decontaminate"

    def __init__(
        self, folder: DataFolderLike, config: Decontamination, exclusion_writer: DiskWriter | None = None
    ) -> None:
        super().__init__(exclusion_writer)
        self.folder, self.config = get_datafolder(folder), config
        self._index: Index | None = None

    def apply(self, document: Document) -> str | None:
        """See `CleaningFilter.apply`."""
        if self._index is None:
            self._index = read_index(self.folder)
        found, lines = contamination(document.text, self._index, self.config)
        if not found:
            return None
        size = len(document.text.encode())
        for name in found:
            record(self, document.metadata["source"], "benchmark item", name, bytes=size)
        document.metadata["benchmarks"] = found
        if self.config.action == "drop":
            return "benchmark"
        left = [line for number, line in enumerate(document.text.split("\n")) if number not in lines]
        document.text = "\n".join(left).strip()
        return None if document.text else "benchmark"


def read_index(folder: DataFolderLike) -> Index:
    """The index that `WriteIndex` wrote."""
    with get_datafolder(folder).open("index.npz", "rb") as file, np.load(file, allow_pickle=False) as arrays:
        return Index(**{**dict(arrays), "names": arrays["names"].tolist(), "sieve": _sieve(arrays["runs"])})


def contamination(text: str, index: Index, config: Decontamination) -> tuple[list[str], set[int]]:
    """The benchmarks of which a text holds items, and the numbers of the lines that hold these."""
    found = _kept(text)
    # An item of one language may stand in a text of the other: both lengths of runs, if half of one can be there.
    han = int(found.is_han.sum())
    lengths = {config.words: 2 * (len(found.hashes) - han), config.characters: 2 * han}
    parts = [_hits(found.hashes, n, index) for n, there in lengths.items() if there >= n <= len(found.hashes)]
    if not any(len(hits) for hits, _, _ in parts):
        return [], set()
    hits, ends, places = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    hit_runs = np.unique(places)
    passages = np.concatenate([index.passages[index.first[run] : index.first[run + 1]] for run in hit_runs])
    candidates, counts = np.unique(passages, return_counts=True)
    complete = candidates[counts >= config.share * index.sizes[candidates]]
    if not len(complete):
        return [], set()
    names = sorted({index.names[index.benchmark[passage]] for passage in complete})
    own = [run for run in hit_runs if np.isin(index.passages[index.first[run] : index.first[run + 1]], complete).any()]
    held = np.isin(places, own)
    breaks = np.flatnonzero(codepoints(text) == ord("\n"))
    first, last = (np.searchsorted(breaks, found.starts[side[held]]) for side in (hits, ends))
    return names, {line for a, b in zip(first, last, strict=True) for line in range(a, b + 1)}


def _hits(hashes: np.ndarray, n: int, index: Index) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each run of n tokens that the index has: its first and last token, its place in the index."""
    runs = shingles(hashes, n)
    maybe = np.flatnonzero(index.sieve[runs >> _SIEVE_SHIFT])
    places = np.minimum(np.searchsorted(index.runs, runs[maybe]), len(index.runs) - 1)
    there = index.runs[places] == runs[maybe]
    return maybe[there], maybe[there] + n - 1, places[there]


def _kept(text: str) -> Tokens:
    """The tokens but for the letters before choices: an item may have been written down with or without them."""
    found = tokens(text)
    kept = ~np.isin(found.hashes, _letters())
    return Tokens(found.hashes[kept], found.starts[kept], found.is_han[kept])


def _sieve(runs: np.ndarray) -> np.ndarray:
    sieve = np.zeros(1 << _SIEVE_BITS, np.bool_)
    sieve[runs >> _SIEVE_SHIFT] = True
    return sieve


def _run_length(han: int, size: int, config: Decontamination) -> int:
    return config.characters if 2 * han >= size else config.words


@cache
def _letters() -> np.ndarray:
    return tokens("A B C D E F G H").hashes
