"""From pairs to what is removed: one document of each cluster of near-duplicates stays, the best by a stated rule."""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np
from datatrove.data import Document
from datatrove.io import DataFolder, DataFolderLike, get_datafolder
from datatrove.pipeline.base import PipelineStep

from mindllm_jax.corpus.settings import MinHash


class Cluster(PipelineStep):
    """Joins the pairs that datatrove's buckets found, and writes which documents of which shard go.

    The document that stays is of the source with the highest priority, of these the longest, of these the first. The
    one task of this step holds 16 bytes a pair and buckets x hashes bytes for each document that is in one: the only
    part of the pipeline whose memory grows with the corpus.

    Args:
        pairs: the folder of datatrove's `MinhashDedupBuckets`.
        signatures: the folder of `Signatures`.
        output: gets `SHARD.remove` for datatrove's `MinhashDedupFilter`, and `clusters.json`.
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
        """Joins all pairs; one task."""
        with self.track_time():
            # A pair is two documents, a document its shard and its number there.
            pairs = _read_pairs(self.pairs)
            documents, places = np.unique(pairs, return_inverse=True)
            places = places.reshape(-1, 2)
            table = _read_rows(self.signatures, documents)
            places = places[_alike(table["bits"], places) >= self.config.similarity]
            labels = _components(places, len(documents))
            # By cluster, and in it the best first.
            order = np.lexsort((documents, -table["characters"].astype(np.int64), table["source"], labels))
            first = np.concatenate([[True], labels[order[1:]] != labels[order[:-1]]])[: len(order)]
            self._write(documents[np.sort(order[~first])])
            sizes = np.bincount(labels) if len(labels) else np.zeros(0, np.int64)
            found = {
                "pairs": len(pairs),
                "alike": len(places),
                "clusters": int((sizes > 1).sum()),
                "largest": int(sizes.max(initial=0)),
                "removed": int((~first).sum()),
            }
            with self.output.open("clusters.json", "w") as file:
                json.dump(found, file)

    def _write(self, removed: np.ndarray) -> None:
        shards, numbers = removed >> np.uint64(32), (removed & np.uint64(0xFFFFFFFF)).astype("<u4")
        for shard in np.unique(shards):
            with self.output.open(f"{int(shard):06d}.remove", "wb") as file:
                file.write(numbers[shards == shard].tobytes())


def _read_pairs(folder: DataFolder) -> np.ndarray:
    """uint64 [P 2]: shard and number in the shard, as one, of both documents of each pair."""
    parts = []
    for name in folder.list_files(glob_pattern="*.dups"):
        with folder.open(name, "rb") as file:
            numbers = np.frombuffer(file.read(), "<u4").astype(np.uint64)
        parts.append(np.sort((numbers[0::2] << np.uint64(32) | numbers[1::2]).reshape(-1, 2), axis=1))
    return np.unique(np.concatenate(parts), axis=0) if parts else np.zeros((0, 2), np.uint64)


def _read_rows(folder: DataFolder, documents: np.ndarray) -> np.ndarray:
    """The rows of the tables of `Signatures` for documents, which are sorted."""
    rows = []
    shards = documents >> np.uint64(32)
    for shard in np.unique(shards):
        with folder.open(f"table/{int(shard):05d}.npy", "rb") as file:
            table = np.load(file, allow_pickle=False)
        rows.append(table[documents[shards == shard] & np.uint64(0xFFFFFFFF)])
    if rows:
        return np.concatenate(rows)
    return np.zeros(0, [("source", "<u2"), ("characters", "<u4"), ("bits", "(1,)u1")])


def _alike(bits: np.ndarray, places: np.ndarray) -> np.ndarray:
    """float [P]: the estimated Jaccard similarity of each pair. Of unequal hashes, one in 256 agrees in eight bits."""
    equal = np.zeros(len(places))
    for start in range(0, len(places), 1 << 16):
        part = places[start : start + (1 << 16)]
        equal[start : start + (1 << 16)] = (bits[part[:, 0]] == bits[part[:, 1]]).mean(1)
    return (equal - 1 / 256) / (1 - 1 / 256)


def _components(places: np.ndarray, size: int) -> np.ndarray:
    """int32 [size]: the number of each document's cluster."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(places), np.bool_), (places[:, 0], places[:, 1])), shape=(size, size))
    return connected_components(graph, directed=False)[1] if size else np.zeros(0, np.int32)
