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

from mindllm_jax.corpus.dedup.facts import DTYPE, facts
from mindllm_jax.corpus.filters.base import rules_source
from mindllm_jax.corpus.settings import MinHash
from mindllm_jax.text.codepoints import codepoints
from mindllm_jax.text.ngrams import Tokens, ngrams, tokens

_BLOCK = 1024
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
    """Signs texts: a signature is uint32 [buckets x hashes_per_bucket]."""

    def __init__(self, config: MinHash) -> None:
        self._config = config
        random = np.random.default_rng(config.seed)
        size = (config.buckets * config.hashes_per_bucket, 1)
        # x -> a x + b modulo 2^32 with odd a permutes all hashes.
        self._factors = random.integers(0, 2**32, size, dtype=np.uint32) | np.uint32(1)
        self._terms = random.integers(0, 2**32, size, dtype=np.uint32)

    def sign(self, hashed: Tokens) -> np.ndarray | None:
        """Returns the signature of the tokens of a text, or None if there are none."""
        if not len(hashed.hashes):
            return None
        mostly_han = 2 * np.count_nonzero(hashed.is_han) >= len(hashed.is_han)
        n = self._config.ngram_chars if mostly_han else self._config.ngram_words
        high = (ngrams(hashed.hashes, n) >> np.uint64(32)).astype(np.uint32)
        least = np.full(len(self._factors), 0xFFFFFFFF, np.uint32)
        for start in range(0, len(high), _BLOCK):
            permuted = high[start : start + _BLOCK] * self._factors
            permuted += self._terms
            np.minimum(least, permuted.min(1), out=least)
        return least


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
        signer, places = Signer(self.config), {source: place for place, source in enumerate(self.priorities)}
        numbers, signatures, table = [], [], []
        for number, document in enumerate(data or ()):
            with self.track_time():
                hashed = tokens(document.text)
                signature = signer.sign(hashed)
                place = places.get(rules_source(document), len(places))
                bits = np.zeros(self.config.buckets * self.config.hashes_per_bucket, np.uint8)
                if signature is not None:
                    numbers.append(number)
                    signatures.append(signature)
                    bits = (signature & 0xFF).astype(np.uint8)
                table.append((place, *prose(document.text), facts(document.text, hashed), bits))
        size = self.config.buckets * self.config.hashes_per_bucket
        with self.track_time():
            self._write_buckets(np.array(signatures, np.uint32).reshape(-1, size), np.array(numbers, np.uint32), rank)
            dtype = table_dtype(self.config)
            with self.folder.open(f"table/{rank:05d}.npy", "wb") as file:
                np.save(file, np.array(table, dtype), allow_pickle=False)

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


def prose(text: str) -> tuple[int, int]:
    """Returns the characters of the lines that are long or end a sentence, and those of the other lines.

    A site's frame adds only other lines to an article. A text without any sentence counts as prose.
    """
    points = codepoints(text)
    ends = np.append((points == 10).nonzero()[0], len(points))
    sizes = np.diff(ends, prepend=-1) - 1
    last = points[np.maximum(ends - 1, 0)] if len(points) else ends
    sentences = int(sizes[(sizes >= _LONG_LINE) | _SENTENCE_ENDS[np.minimum(last, 0xFFFF)]].sum())
    rest = int(sizes.sum()) - sentences
    return (sentences, rest) if sentences else (rest, 0)
