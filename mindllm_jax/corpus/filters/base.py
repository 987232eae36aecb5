"""The base of all cleaning filters: each cleans a document or names a reason to drop it, and records the outcome."""

from __future__ import annotations

from abc import abstractmethod

from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.writers.disk_base import DiskWriter

from mindllm_jax.corpus.outcomes import record


def rules_source(document: Document) -> str:
    """Returns the source whose settings hold for a document: of a stray one, the source that it came from."""
    return document.metadata.get("declared_source", document.metadata["source"])


class CleaningFilter(BaseFilter):
    """A step that looks at one document at a time.

    It records one outcome per document, `kept` or `dropped`, under the source that the document has after the step.

    Args:
        exclusion_writer: writes the dropped documents, with the reason as `filter_reason`; None discards them.
    """

    def __init__(self, exclusion_writer: DiskWriter | None = None) -> None:
        super().__init__(exclusion_writer)  # pyright: ignore[reportArgumentType]  its annotation forgets None

    @abstractmethod
    def apply(self, document: Document) -> str | None:
        """Cleans the document in place; returns a drop reason or None."""

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Applies the filter and records the outcome; datatrove calls this."""
        size = len(doc.text.encode())
        reason = self.apply(doc)
        record(self, doc.metadata["source"], "dropped" if reason else "kept", reason or "", bytes=size)
        return True if reason is None else (False, reason)
