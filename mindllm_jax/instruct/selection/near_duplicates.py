"""Near-duplicates among conversations, by MinHash: of two, the one that comes later in an order is dropped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from mindllm_jax.corpus.settings import MinHash

_BATCH = 512  # texts that are signed together


class NearDuplicates:
    """Says of texts, one after the other, whether a text before was nearly the same.

    Signatures are those of `corpus.dedup.minhash`. Two texts are compared where they share one of b buckets; they are
    near-duplicates where at least `min_similarity` of their hashes are equal, an estimate of the Jaccard similarity.
    """

    def __init__(self, min_similarity: float) -> None:
        self._config = MinHash(min_similarity=min_similarity)
        self._kept: list[np.ndarray] = []
        self._buckets: defaultdict[tuple[int, bytes], list[int]] = defaultdict(list)

    def signatures(self, texts: Sequence[str]) -> np.ndarray:
        """Returns the signatures of texts, uint32 [n, b * h]; zeros for a text without letters.

        Raises ImportError where datatrove or OpenCC, which the corpus's signatures need, is not installed.
        """
        try:
            from mindllm_jax.corpus.dedup.batches import batch_of
            from mindllm_jax.corpus.dedup.minhash import Signer
        except ImportError as error:
            raise ImportError("Selection.min_similarity needs the extra: pip install 'mindllm-jax[data]'") from error
        signer, size = Signer(self._config), self._config.buckets * self._config.hashes_per_bucket
        signed = np.zeros((len(texts), size), np.uint32)
        for start in range(0, len(texts), _BATCH):
            batch = batch_of(texts[start : start + _BATCH])
            numbers = start + np.flatnonzero(np.diff(batch.bounds))
            if len(numbers):
                signed[numbers] = signer.sign(batch)
        return signed

    def add(self, signature: np.ndarray) -> bool:
        """Returns whether a signature is new, and remembers it if so; texts without letters are always new."""
        if not signature.any():
            return True
        width = self._config.hashes_per_bucket
        keys = [
            (bucket, signature[bucket * width : (bucket + 1) * width].tobytes())
            for bucket in range(self._config.buckets)
        ]
        met = {number for key in keys for number in self._buckets.get(key, ())}
        if any(np.mean(self._kept[number] == signature) >= self._config.min_similarity for number in met):
            return False
        for key in keys:
            self._buckets[key].append(len(self._kept))
        self._kept.append(signature)
        return True
