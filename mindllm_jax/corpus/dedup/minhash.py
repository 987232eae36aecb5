"""MinHash signatures over n-grams of words or, in Chinese, of characters, to detect near-duplicates.

datatrove's own signature splits Chinese into words first, which takes nine tenths of its time. These n-grams are of
`text.ngrams`, an array operation; and a text, its full-width form and its conversion to the other Chinese script have
the same signature. The buckets are in datatrove's format: its next stage finds the pairs.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from datatrove.data import Document
from datatrove.io import DataFolderLike, get_datafolder
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.utils.hashing import HashConfig

from mindllm_jax.corpus.dedup.batches import Batch, batch_of, batches
from mindllm_jax.corpus.dedup.facts import DTYPE, facts
from mindllm_jax.corpus.filters.base import rules_source
from mindllm_jax.corpus.settings import MinHash
from mindllm_jax.text.ngrams import span_hashes

_BLOCK = 4096
_LONG_LINE = 60
_SENTENCE_ENDS = np.zeros(0x10000, np.bool_)
_SENTENCE_ENDS[[ord(sign) for sign in ".!?;:。！？；：…\"'”’」』)）"]] = True


def stock_config(config: MinHash) -> MinhashConfig:
    """Returns the settings of datatrove's stages after the signatures."""
    return MinhashConfig(
        num_buckets=config.buckets,
        hashes_per_bucket=config.hashes_per_bucket,
        seed=config.seed,
        hash_config=HashConfig(precision=32, hash_fc="sha1"),
    )


class Signer:
    """Signs texts: a signature is b = buckets x hashes_per_bucket hashes."""

    def __init__(self, config: MinHash) -> None:
        self._config = config
        random = np.random.default_rng(config.seed)
        size = (config.buckets * config.hashes_per_bucket, 1)
        # x -> a x + b modulo 2^32 with odd a permutes all hashes.
        self._factors = random.integers(0, 2**32, size, dtype=np.uint32) | np.uint32(1)
        self._terms = random.integers(0, 2**32, size, dtype=np.uint32)
        self._permuted = np.empty((len(self._factors), _BLOCK), np.uint32)

    def sign(self, batch: Batch) -> np.ndarray:
        """Returns the signatures of the texts of a batch that have tokens, uint32 [m, b]."""
        (hashes, _, is_han), bounds, owners = batch.tokens, batch.bounds, batch.owners
        sizes = np.diff(bounds)
        han = np.diff(np.concatenate([[0], np.cumsum(is_han)])[bounds])
        n = np.minimum(np.where(2 * han >= sizes, self._config.ngram_chars, self._config.ngram_words), sizes)
        ends = np.arange(len(hashes)) + n[owners]
        whole = (ends <= bounds[1:][owners]).nonzero()[0]  # the tokens that begin an n-gram within their text
        high = (span_hashes(hashes, whole, ends[whole]) >> np.uint64(32)).astype(np.uint32)
        signed = sizes.nonzero()[0]
        first = np.searchsorted(owners[whole], signed)
        least = np.full((len(self._factors), len(signed)), 0xFFFFFFFF, np.uint32)
        for start in range(0, len(high), _BLOCK):
            block = high[start : start + _BLOCK]
            permuted = np.multiply(block, self._factors, out=self._permuted[:, : len(block)])
            permuted += self._terms
            begun, following = np.searchsorted(first, (start + 1, start + len(block)))
            texts = slice(begun - 1, following)
            of_texts = least[:, texts]
            begins = np.maximum(first[texts] - start, 0)
            np.minimum(of_texts, np.minimum.reduceat(permuted, begins, axis=1), out=of_texts)
        return least.T


class Signatures(PipelineStep):
    """Writes, for each shard of documents, its buckets of signatures and a table for choosing among duplicates.

    It takes 4 x buckets x hashes_per_bucket bytes of memory per document of the shard.

    Args:
        folder: gets `bucket_BBB/RANK.minhash.sig` in datatrove's format, sorted, and `table/RANK.npy`.
        config: settings.
        priorities: see `CleanCorpus.priorities`.
    """

    type = "🫂 - DEDUP"
    name = "Signatures"

    def __init__(self, folder: DataFolderLike, config: MinHash, priorities: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.folder, self.config, self.priorities = get_datafolder(folder), config, priorities

    def run(self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1) -> None:
        """Reads a shard."""
        signer, dtype = Signer(self.config), table_dtype(self.config)
        places = {source: place for place, source in enumerate(self.priorities)}
        numbers, signatures, table, seen = [], [], [np.zeros(0, dtype)], 0
        for documents in batches(data or ()):
            with self.track_time():
                texts = [document.text for document in documents]
                batch = batch_of(texts)
                signed = np.diff(batch.bounds) > 0
                of_batch = signer.sign(batch)
                numbers.append(seen + signed.nonzero()[0])
                signatures.append(of_batch)
                rows = np.zeros(len(texts), dtype)
                rows["source"] = [places.get(rules_source(document), len(places)) for document in documents]
                rows["prose"], rows["rest"] = prose(batch)
                rows["facts"] = facts(batch, texts)
                rows["bits"][signed] = (of_batch & 0xFF).astype(np.uint8)
                table.append(rows)
                seen += len(texts)
        with self.track_time():
            none = np.zeros((0, self.config.buckets * self.config.hashes_per_bucket), np.uint32)
            self._write_buckets(np.concatenate([none, *signatures]), np.concatenate([none[:, 0], *numbers]), rank)
            with self.folder.open(f"table/{rank:05d}.npy", "wb") as file:
                np.save(file, np.concatenate(table), allow_pickle=False)

    def _write_buckets(self, signatures: np.ndarray, numbers: np.ndarray, rank: int) -> None:
        for bucket in range(self.config.buckets):
            columns = signatures[
                :, bucket * self.config.hashes_per_bucket : (bucket + 1) * self.config.hashes_per_bucket
            ]
            records = np.concatenate([columns, numbers[:, None]], axis=1).astype("<u4")
            with self.folder.open(f"bucket_{bucket:03d}/{rank:05d}.minhash.sig", "wb") as file:
                file.write(records[np.lexsort(records.T[::-1])].tobytes())


def table_dtype(config: MinHash) -> np.dtype:
    """Returns the type of a row per document: the place of its source, characters, facts, and eight bits of each hash.

    `prose` and `rest` are the characters of its sentences and of its other lines, see `prose`; for `facts` see there.
    Eight bits are enough to estimate the similarity of a pair (b-bit MinHash, arXiv 0910.3349).
    """
    return np.dtype(
        [
            ("source", "<u2"),
            ("prose", "<u4"),
            ("rest", "<u4"),
            ("facts", DTYPE),
            ("bits", "u1", (config.buckets * config.hashes_per_bucket,)),
        ]
    )


def prose(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Returns the characters of each text's lines that are long or end a sentence, and of its other lines, int64 [n].

    A site's frame adds only other lines to an article. A text without any sentence counts as prose.
    """
    ends = (batch.points == 10).nonzero()[0]
    sizes = np.diff(ends, prepend=-1) - 1
    last = np.minimum(batch.points[np.maximum(ends - 1, 0)], 0xFFFF)
    in_sentences = np.where((sizes >= _LONG_LINE) | _SENTENCE_ENDS[last], sizes, 0)
    lines = np.searchsorted(ends, batch.offsets)
    every, sentences = (np.diff(np.append(0, np.cumsum(x))[lines]) for x in (sizes, in_sentences))
    return np.where(sentences > 0, sentences, every), np.where(sentences > 0, every - sentences, 0)
