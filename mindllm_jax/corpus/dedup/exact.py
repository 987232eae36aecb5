"""Exact copies of documents: datatrove finds them, `DropCopies` drops them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from datatrove.data import Document
from datatrove.io import DataFolder, DataFolderLike, get_datafolder
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup.exact_dedup import ExactDedupConfig
from datatrove.pipeline.writers.disk_base import DiskWriter
from datatrove.utils.typeshelper import ExtensionHelperSD

from mindllm_jax.corpus.filters.base import CleaningFilter, rules_source

_COUNT = np.dtype([("document", "<u4"), ("copies", "<u4")])


def exact_config(priorities: tuple[str, ...] = (), short_sources: tuple[str, ...] = ()) -> ExactDedupConfig:
    """Returns datatrove's settings. Texts are copies if they differ in white space at most.

    The copy that is kept is of the first source in `priorities`; among these of one in `short_sources`, because the
    rules of quality drop fewer of theirs; among these it has the lowest number in its shard.
    """
    return ExactDedupConfig(content_getter=_content, document_priority=_priority(priorities, short_sources))


# datatrove reads the type of the content from the annotation, which must be the type itself.
def _content(document: Document):
    return " ".join(document.text.split()).encode()


_content.__annotations__["return"] = bytes


def _priority(priorities: tuple[str, ...], short_sources: tuple[str, ...]) -> Callable[[Document], int]:
    places = {source: place for place, source in enumerate(priorities)}

    def priority(document: Document) -> int:
        source = rules_source(document)
        return 2 * (len(places) - places.get(source, len(places))) + 1 + (source in short_sources)

    return priority


class SkipCopies(PipelineStep):
    """Passes on the documents of a shard without the copies that datatrove's `ExactFindDedups` found.

    It records nothing: it is for stages that only look at documents which `DropCopies` drops elsewhere.
    """

    type = "🫂 - DEDUP"
    name = "Skip copies"

    def __init__(self, folder: DataFolderLike) -> None:
        super().__init__()
        self.folder = get_datafolder(folder)

    def run(self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Reads a shard."""
        copies = set(_read(self.folder, rank, ExtensionHelperSD.stage_2_duplicates, np.dtype("<u4")).tolist())
        yield from (document for number, document in enumerate(data or ()) if number not in copies)


class DropCopies(CleaningFilter):
    """Drops the copies that datatrove's `ExactFindDedups` found; writes the number of copies as `duplicate_count`.

    It must see the documents of the shard as `ExactDedupSignature` did.
    """

    name = "Drop copies"

    def __init__(self, folder: DataFolderLike, exclusion_writer: DiskWriter | None = None) -> None:
        super().__init__(exclusion_writer)
        self.folder = get_datafolder(folder)
        self._number = -1
        self._copies: set[int] = set()
        self._counts: dict[int, int] = {}

    def run(self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Reads a shard."""
        self._number = -1
        self._copies = set(_read(self.folder, rank, ExtensionHelperSD.stage_2_duplicates, np.dtype("<u4")).tolist())
        self._counts = dict(_read(self.folder, rank, ExtensionHelperSD.stage_2_counts, _COUNT).tolist())
        yield from super().run(data or (), rank, world_size)

    def apply(self, document: Document) -> str | None:
        """Cleans the document in place; returns a drop reason or None."""
        self._number += 1
        if self._number in self._copies:
            return "exact copy"
        document.metadata["duplicate_count"] = self._counts.get(self._number, 0)
        return None


def _read(folder: DataFolder, rank: int, suffix: str, dtype: np.dtype) -> np.ndarray:
    """Returns the records of a shard in all partitions."""
    parts = [np.zeros(0, dtype)]
    for partition in folder.list_files(include_directories=True, recursive=False):
        if folder.exists(name := f"{partition}/{rank:05d}{suffix}"):
            with folder.open(name, "rb") as file:
                parts.append(np.frombuffer(file.read(), dtype))
    return np.concatenate(parts)
