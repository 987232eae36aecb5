"""From pairs to what is removed: of near-duplicates the best by a stated rule stays, the others go."""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np
from datatrove.data import Document
from datatrove.io import DataFolder, DataFolderLike, get_datafolder
from datatrove.pipeline.base import PipelineStep

from mindllm_jax.corpus.settings import MinHash

_REACH = 8
"""Documents that met in a bucket are compared with so many of those after them."""


class Cluster(PipelineStep):
    """Looks at the pairs that datatrove's buckets found, and writes which documents of which shard go.

    Documents of the source with the highest priority are better, of these the longest, of these the first. From the
    best to the worst each stays, unless one that stays is alike: so what goes is alike to something that stays, which
    connected components do not promise. The one task of this step holds 16 bytes for each two documents that met,
    and buckets x hashes bytes for each document that is in a pair: the only part of the pipeline whose memory grows
    with the corpus.

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
        """Looks at all pairs; one task."""
        with self.track_time():
            # A pair is two documents, a document its shard and its number there.
            pairs = _read_pairs(self.pairs)
            documents, places = np.unique(pairs, return_inverse=True)
            places = places.reshape(-1, 2)
            table = _read_rows(self.signatures, documents)
            places = places[_alike(table["bits"], places) >= self.config.similarity]
            order = np.lexsort((documents, -table["characters"].astype(np.int64), table["source"]))
            keepers = _keepers(table["bits"], places, order, self.config.similarity)
            removed = keepers != np.arange(len(documents))
            self._write(documents[removed])
            sizes = np.bincount(keepers[removed], minlength=1)
            found = {
                "pairs": len(pairs),
                "alike": len(places),
                "clusters": int((sizes > 0).sum()),
                "largest": int(sizes.max() + 1) if removed.any() else 0,
                "removed": int(removed.sum()),
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
    parts = [np.zeros((0, 2), np.uint64)]
    for name in folder.list_files(glob_pattern="*.dups"):
        with folder.open(name, "rb") as file:
            numbers = np.frombuffer(file.read(), "<u4").astype(np.uint64)
        pairs = (numbers[0::2] << np.uint64(32) | numbers[1::2]).reshape(-1, 2)
        # Of the documents that met in a bucket datatrove pairs each with the next, and the two that are alike may have
        # others between them. `chained`: the pairs from each one to the one `distance` further on are links of a chain.
        chained = np.ones(len(pairs), np.bool_)
        for distance in range(min(_REACH, len(pairs))):
            first, last = pairs[: len(pairs) - distance, 0], pairs[distance:, 1]
            parts.append(np.sort(np.stack([first, last], axis=1)[chained], axis=1))
            chained = chained[:-1] & (pairs[distance : len(pairs) - 1, 1] == pairs[distance + 1 :, 0])
    return np.unique(np.concatenate(parts), axis=0)


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


def _keepers(bits: np.ndarray, places: np.ndarray, order: np.ndarray, similarity: float) -> np.ndarray:
    """int64: for each document the one that stays in its place, itself if it stays. `order` has the best first.

    Compared are those it was paired with and stay, and those for which the others it was paired with went. Being alike
    to one that goes is not enough: of a chain of versions, each a little different, one of every stretch stays.
    """
    both = np.concatenate([places, places[:, ::-1]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    borders = np.searchsorted(both[:, 0], np.arange(len(order) + 1))
    keepers = np.full(len(order), -1)
    for document in order:
        near = keepers[both[borders[document] : borders[document + 1], 1]]
        near = np.unique(near[near >= 0])
        pairs = np.stack([np.full(len(near), document), near], axis=1)
        near = near[_alike(bits, pairs) >= similarity]
        keepers[document] = near[0] if len(near) else document
    return keepers
