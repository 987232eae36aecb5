"""The filter that cuts the items of benchmarks out of documents, or drops the documents."""

from __future__ import annotations

import numpy as np
from datatrove.data import Document
from datatrove.io import DataFolderLike, get_datafolder
from datatrove.pipeline.writers.disk_base import DiskWriter

from mindllm_jax.corpus.contamination.index import SIEVE_SHIFT, Index, indexed_tokens, read_index
from mindllm_jax.corpus.filters.base import CleaningFilter
from mindllm_jax.corpus.outcomes import record
from mindllm_jax.corpus.settings import Decontamination
from mindllm_jax.text.codepoints import codepoints
from mindllm_jax.text.ngrams import ngrams


class Decontaminate(CleaningFilter):
    """Cuts or drops documents with items of benchmarks.

    It records an outcome `benchmark item` per benchmark that a document has items of, and names these benchmarks in
    the metadata of what it drops. The index takes about 20 bytes of memory per token of the benchmarks, its sieve 64
    MiB.
    """

    name = "Decontaminate"

    def __init__(
        self, folder: DataFolderLike, config: Decontamination, exclusion_writer: DiskWriter | None = None
    ) -> None:
        super().__init__(exclusion_writer)
        self.folder, self.config = get_datafolder(folder), config
        self._index: Index | None = None

    def apply(self, document: Document) -> str | None:
        """Cleans the document in place; returns a drop reason or None."""
        if self._index is None:
            self._index = read_index(self.folder)
        benchmarks, lines = contamination(document.text, self._index, self.config)
        if not benchmarks:
            return None
        size = len(document.text.encode())
        for name in benchmarks:
            record(self, document.metadata["source"], "benchmark item", name, bytes=size)
        document.metadata["benchmarks"] = benchmarks
        if self.config.action == "drop":
            return "benchmark item"
        left = [line for number, line in enumerate(document.text.split("\n")) if number not in lines]
        document.text = "\n".join(left).strip()
        return None if document.text else "benchmark item"


def contamination(text: str, index: Index, config: Decontamination) -> tuple[list[str], set[int]]:
    """Returns the benchmarks of which a text has items, and the numbers of the lines with these items."""
    tokens = indexed_tokens(text)
    # An item of one language may stand in a text of the other: try both n, if the text has enough tokens of its kind.
    han = int(tokens.is_han.sum())
    lengths = [(config.ngram_words, 2 * (len(tokens.hashes) - han)), (config.ngram_chars, 2 * han)]
    fitting = {n for n, size in lengths if size >= n <= len(tokens.hashes)}
    parts = [_hits(tokens.hashes, n, index) for n in sorted(fitting)]
    if not any(len(hits) for hits, _, _ in parts):
        return [], set()
    hits, ends, places = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    hit_ngrams = np.unique(places)
    passages = np.concatenate([index.passages[index.first[n] : index.first[n + 1]] for n in hit_ngrams])
    candidates, counts = np.unique(passages, return_counts=True)
    complete = candidates[counts >= config.min_ngram_share * index.sizes[candidates]]
    if not len(complete):
        return [], set()
    names = sorted({index.names[index.benchmark[passage]] for passage in complete})
    of_complete = [
        n for n in hit_ngrams if np.isin(index.passages[index.first[n] : index.first[n + 1]], complete).any()
    ]
    held = np.isin(places, of_complete)
    breaks = np.flatnonzero(codepoints(text) == ord("\n"))
    first, last = (np.searchsorted(breaks, tokens.starts[side[held]]) for side in (hits, ends))
    return names, {line for a, b in zip(first, last, strict=True) for line in range(a, b + 1)}


def _hits(hashes: np.ndarray, n: int, index: Index) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns, of each n-gram that the index has, its first and last token and its place in the index."""
    grams = ngrams(hashes, n)
    maybe = np.flatnonzero(index.sieve[grams >> SIEVE_SHIFT])
    places = np.minimum(np.searchsorted(index.ngrams, grams[maybe]), len(index.ngrams) - 1)
    indexed = index.ngrams[places] == grams[maybe]
    return maybe[indexed], maybe[indexed] + n - 1, places[indexed]
