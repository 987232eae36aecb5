"""Exact copies of documents, by datatrove's stages; this is what they compare and prefer."""

from __future__ import annotations

from collections.abc import Callable

from datatrove.data import Document
from datatrove.pipeline.dedup.exact_dedup import ExactDedupConfig


def exact_config(priorities: tuple[str, ...] = ()) -> ExactDedupConfig:
    """Texts are copies if they differ in blanks at most.

    The one that stays is of the first source in `priorities`, of these the one that comes first in its shard.
    """
    return ExactDedupConfig(content_getter=_content, document_priority=_priority(priorities))


# datatrove reads the type of the content from the annotation, which must be the type itself.
def _content(document: Document):
    return " ".join(document.text.split()).encode()


_content.__annotations__["return"] = bytes


def _priority(priorities: tuple[str, ...]) -> Callable[[Document], int]:
    places = {source: place for place, source in enumerate(priorities)}

    def priority(document: Document) -> int:
        return len(places) + 1 - places.get(document.metadata["source"], len(places))

    return priority
