"""What every block shares: it mends a document or names a reason to drop it, and keeps account of both."""

from __future__ import annotations

from abc import abstractmethod

from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.writers.disk_base import DiskWriter

KEPT = "kept"


class Block(BaseFilter):
    """A step that looks at one document at a time.

    What it does is counted by source and outcome: documents and UTF-8 bytes as they came in under `SOURCE|kept` or
    `SOURCE|REASON`, in datatrove's statistics of the task, next to the seconds the block took.

    Args:
        exclusion_writer: writes the dropped documents, with the reason as `filter_reason`; they are gone without one.
    """

    def __init__(self, exclusion_writer: DiskWriter | None = None) -> None:
        super().__init__(exclusion_writer)  # pyright: ignore[reportArgumentType]  its annotation forgets None

    @abstractmethod
    def judge(self, document: Document) -> str | None:
        """Mends the document in place. Returns None to keep it, or the reason to drop it, in a few words."""

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """What datatrove calls."""
        size = len(doc.text.encode())
        reason = self.judge(doc)
        self.stat_update(f"{doc.metadata['source']}|{reason or KEPT}", value=size, unit="doc")
        return True if reason is None else (False, reason)
