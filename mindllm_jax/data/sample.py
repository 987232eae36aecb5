"""A random sample of a stream, taken in one pass, that does not depend on the stream's order."""

import heapq

from mindllm_jax.data.hashing import hash64


class SmallestHashes:
    """Keeps the texts whose names have the smallest hashes, as many as it takes to reach a number of UTF-8 bytes.

    The memory is that of the texts kept.
    """

    def __init__(self, share: int) -> None:
        self._share = share
        self._kept: list[tuple[int, str, int]] = []  # (minus hash, text, bytes): a heap with the largest hash on top
        self._bytes = 0
        # What was let go once stays out. Without this a short text could slip in after a long one had to go, in one
        # order of the stream and not in another.
        self._bound = 2**64

    def add(self, name: tuple[int | str, ...], text: str) -> None:
        """Offers a text; its name decides."""
        key = hash64(*name)
        if key < self._bound:
            size = len(text.encode())
            heapq.heappush(self._kept, (-key, text, size))
            self._bytes += size
            self.shrink(self._share)

    def shrink(self, share: int) -> None:
        """Lowers the number of bytes to reach."""
        self._share = share
        while self._kept and self._bytes - self._kept[0][2] >= share:
            key, _, size = heapq.heappop(self._kept)
            self._bytes -= size
            self._bound = -key

    def texts(self) -> list[str]:
        """The texts kept, by hash."""
        return [text for _, text, _ in sorted(self._kept, reverse=True)]
