"""A random sample of a stream of documents, drawn in one pass and independent of the stream's order."""

import heapq

from mindllm_jax.hashing import hash64
from mindllm_jax.text.documents import Document


class SmallestHashes:
    """Keeps the documents whose names have the smallest hashes, as many as it takes to reach a number of UTF-8 bytes.

    The memory is that of the texts kept.
    """

    def __init__(self, share: int, seed: int) -> None:
        self._share, self._seed = share, seed
        # (minus hash, document, bytes of its text): a heap with the largest hash on top.
        self._kept: list[tuple[int, Document, int]] = []
        self._bytes = 0
        # A dropped hash bounds all later ones: otherwise a short text could enter after a long one was dropped, in one
        # order of the stream and not in another.
        self._bound = 2**64

    def add(self, document: Document) -> None:
        """Offers a document; its source and id decide."""
        key = hash64(self._seed, document.source, document.id)
        if key < self._bound:
            size = len(document.text.encode())
            heapq.heappush(self._kept, (-key, document, size))
            self._bytes += size
            self.shrink(self._share)

    def shrink(self, share: int) -> None:
        """Lowers the number of bytes to reach."""
        self._share = share
        while self._kept and self._bytes - self._kept[0][2] >= share:
            key, _, size = heapq.heappop(self._kept)
            self._bytes -= size
            self._bound = -key

    def documents(self) -> list[Document]:
        """Returns the documents of the sample, by hash."""
        return [document for _, document, _ in sorted(self._kept, key=lambda kept: -kept[0])]
