"""Selects among near-duplicates: the best document by a stated rule is kept, the others are removed."""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np
from datatrove.data import Document
from datatrove.io import DataFolder, DataFolderLike, get_datafolder
from datatrove.pipeline.base import PipelineStep

from mindllm_jax.corpus.dedup.facts import differ
from mindllm_jax.corpus.dedup.minhash import table_dtype
from mindllm_jax.corpus.settings import MinHash

_REACH = 8
"""A document is compared with so many of those after it in a bucket."""


class Cluster(PipelineStep):
    """Reads the pairs that datatrove's buckets found, and writes which documents of each shard are removed.

    Documents of the source with the highest priority are better; of these those with more prose, by steps of a tenth;
    of these the one with the least around it, such as a site's menu; of these the first. From the best to the worst a
    document is kept unless it is similar to a kept one and has the same facts (`facts.py`): so each removed document
    is similar to a kept one, which connected components do not guarantee. The one task of this step takes 16 bytes per
    pair and 270 + buckets x hashes_per_bucket bytes per document in a pair: the only part of the pipeline whose memory
    grows with the corpus.

    Args:
        pairs: the folder of datatrove's `MinhashDedupBuckets`.
        signatures: the folder of `Signatures`.
        output: gets `SHARD.remove`, the numbers of the documents to drop as uint32, and `clusters.json`.
        config: settings.
    """

    type = "🫂 - DEDUP"
    name = "Cluster"

    def __init__(
        self, pairs: DataFolderLike, signatures: DataFolderLike, output: DataFolderLike, config: MinHash
    ) -> None:
        super().__init__()
        self.pairs, self.signatures, self.output = map(get_datafolder, (pairs, signatures, output))
        self.config = config

    def run(self, data: Iterable[Document] | None = None, rank: int = 0, world_size: int = 1) -> None:
        """Reads all pairs; one task."""
        with self.track_time():
            # A pair is two documents, a document its shard and its number in the shard.
            pairs = _read_pairs(self.pairs)
            documents, places = np.unique(pairs, return_inverse=True)
            places = places.reshape(-1, 2)
            table = _read_rows(self.signatures, documents)
            places = places[_similarity(table["bits"], places) >= self.config.min_similarity]
            # A tenth more prose is a longer version; less is the same text in another frame.
            versions = np.round(np.log(table["prose"].astype(np.float64) + 1) / np.log(1.1))
            order = np.lexsort((documents, -table["prose"].astype(np.int64), table["rest"], -versions, table["source"]))
            keepers = _settled_keepers(table, places, order, self.config)
            removed = keepers != np.arange(len(documents))
            self._write(documents[removed])
            sizes = np.bincount(keepers[removed], minlength=1)
            counts = {
                "pairs": len(pairs),
                "alike": len(places),
                "clusters": int((sizes > 0).sum()),
                "largest": int(sizes.max() + 1) if removed.any() else 0,
                "removed": int(removed.sum()),
            }
            with self.output.open("clusters.json", "w") as file:
                json.dump(counts, file)

    def _write(self, removed: np.ndarray) -> None:
        shards, numbers = removed >> np.uint64(32), (removed & np.uint64(0xFFFFFFFF)).astype("<u4")
        for shard in np.unique(shards):
            with self.output.open(f"{int(shard):06d}.remove", "wb") as file:
                file.write(numbers[shards == shard].tobytes())


def _read_pairs(folder: DataFolder) -> np.ndarray:
    """Returns uint64 [P, 2]: of both documents of each pair, shard and number in the shard as one number."""
    parts = [np.zeros((0, 2), np.uint64)]
    for name in folder.list_files(glob_pattern="*.dups"):
        with folder.open(name, "rb") as file:
            numbers = np.frombuffer(file.read(), "<u4").astype(np.uint64)
        pairs = (numbers[0::2] << np.uint64(32) | numbers[1::2]).reshape(-1, 2)
        # datatrove pairs each document of a bucket with the next, and other documents may stand between two similar
        # ones. `chained`: the pairs from each document to the one `distance` further on are links of a chain.
        chained = np.ones(len(pairs), np.bool_)
        for distance in range(min(_REACH, len(pairs))):
            first, last = pairs[: len(pairs) - distance, 0], pairs[distance:, 1]
            parts.append(np.sort(np.stack([first, last], axis=1)[chained], axis=1))
            chained = chained[:-1] & (pairs[distance : len(pairs) - 1, 1] == pairs[distance + 1 :, 0])
    return np.unique(np.concatenate(parts), axis=0)


def _read_rows(folder: DataFolder, documents: np.ndarray) -> np.ndarray:
    """Reads the rows of the tables of `Signatures` for sorted documents."""
    rows = []
    shards = documents >> np.uint64(32)
    for shard in np.unique(shards):
        with folder.open(f"table/{int(shard):05d}.npy", "rb") as file:
            table = np.load(file, allow_pickle=False)
        rows.append(table[documents[shards == shard] & np.uint64(0xFFFFFFFF)])
    if rows:
        return np.concatenate(rows)
    return np.zeros(0, table_dtype(MinHash(buckets=1, hashes_per_bucket=1)))


def _similarity(bits: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Estimates the Jaccard similarity of each pair, float [P]. Of unequal hashes, one in 256 agrees in eight bits."""
    equal = np.zeros(len(places))
    for start in range(0, len(places), 1 << 16):
        part = places[start : start + (1 << 16)]
        equal[start : start + (1 << 16)] = (bits[part[:, 0]] == bits[part[:, 1]]).mean(1)
    return (equal - 1 / 256) / (1 - 1 / 256)


def _settled_keepers(table: np.ndarray, places: np.ndarray, order: np.ndarray, config: MinHash) -> np.ndarray:
    """Returns what `_keepers` does, after the kept documents at both ends of every pair were compared as well.

    Of many copies of one text a bucket pairs near neighbours only, so that some are kept far from each other.
    """
    keepers = _keepers(table, places, order, config)
    compared = np.zeros((0, 2), np.int64)
    while True:
        met = np.sort(keepers[places], axis=1)
        met = np.unique(met[met[:, 0] != met[:, 1]], axis=0)
        met = met[_similarity(table["bits"], met) >= config.min_similarity]
        met = np.unique(np.concatenate([compared, met]), axis=0)
        if len(met) == len(compared):
            return keepers
        compared = met
        keepers = _keepers(table, np.concatenate([places, met]), order, config)


def _keepers(table: np.ndarray, places: np.ndarray, order: np.ndarray, config: MinHash) -> np.ndarray:
    """Returns for each document, int64, the kept one in its place; itself if it is kept. `order` has the best first.

    A document is compared with the kept documents that it was paired with, and with those kept in place of the others.
    Similarity to a removed document is not enough: of a chain of versions, each a little different, one of every
    stretch is kept.
    """
    both = np.concatenate([places, places[:, ::-1]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    borders = np.searchsorted(both[:, 0], np.arange(len(order) + 1))
    keepers = np.full(len(order), -1)
    for document in order:
        near = keepers[both[borders[document] : borders[document + 1], 1]]
        near = np.unique(near[near >= 0])
        pairs = np.stack([np.full(len(near), document), near], axis=1)
        near = near[_similarity(table["bits"], pairs) >= config.min_similarity]
        if config.compare_facts:
            near = [place for place in near if not differ(table["facts"][document], table["facts"][place])]
        keepers[document] = near[0] if len(near) else document
    return keepers
