"""Near-duplicates: `DropNearDuplicates` drops the documents that `Cluster` listed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from datatrove.data import Document
from datatrove.io import DataFolderLike, get_datafolder
from datatrove.pipeline.writers.disk_base import DiskWriter

from mindllm_jax.corpus.filters.base import CleaningFilter


class DropNearDuplicates(CleaningFilter):
    """Drops the documents in `SHARD.remove`. It must see the documents of the shard as `Signatures` did."""

    name = "Drop near-duplicates"

    def __init__(self, folder: DataFolderLike, exclusion_writer: DiskWriter | None = None) -> None:
        super().__init__(exclusion_writer)
        self.folder = get_datafolder(folder)
        self._number = -1
        self._removed: set[int] = set()

    def run(self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Reads a shard."""
        self._number, self._removed = -1, set()
        if self.folder.exists(name := f"{rank:06d}.remove"):
            with self.folder.open(name, "rb") as file:
                self._removed = set(np.frombuffer(file.read(), "<u4").tolist())
        yield from super().run(data or (), rank, world_size)

    def apply(self, document: Document) -> str | None:
        """Cleans the document in place; returns a drop reason or None."""
        self._number += 1
        return "near-duplicate" if self._number in self._removed else None
