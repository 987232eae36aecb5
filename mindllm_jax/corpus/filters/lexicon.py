"""Drops documents with too many entries of a user-supplied word list."""

from __future__ import annotations

import re
from pathlib import Path

from datatrove.data import Document
from datatrove.pipeline.writers.disk_base import DiskWriter

from mindllm_jax.corpus.filters.base import CleaningFilter
from mindllm_jax.text.codepoints import codepoints, han


class Lexicon(CleaningFilter):
    """Drops documents with at least `min_entries` different entries of a list.

    Args:
        path: UTF-8, an entry per line; blank lines and lines that begin with `#` are ignored. Entries without Han
            characters match whole words, others match anywhere; case does not matter.
        min_entries: different entries that drop a document; an entry within a longer one that matched does not count.
        exclusion_writer: see `CleaningFilter`.

    Raises:
        OSError: there is no such file.
        ValueError: it has no entry.
    """

    name = "Lexicon"

    def __init__(self, path: str, min_entries: int = 3, exclusion_writer: DiskWriter | None = None) -> None:
        super().__init__(exclusion_writer)
        lines = (line.strip() for line in Path(path).read_text("utf-8-sig").split("\n"))
        entries = {line.lower() for line in lines if line and not line.startswith("#")}
        if not entries:
            raise ValueError(f"{path} has no entry; give a file with one word or phrase per line")
        self.entries = sorted(entries, key=lambda entry: (-len(entry), entry))
        self.min_entries = min_entries

    def apply(self, document: Document) -> str | None:
        """Cleans the document in place; returns a drop reason or None."""
        text = document.text.lower()
        matched: list[str] = []
        for entry in self.entries:
            # One search per entry: an alternation of thousands is tried at every character.
            if entry in text and not any(entry in longer for longer in matched) and _is_word(entry, text):
                matched.append(entry)
                if len(matched) >= self.min_entries:
                    return "lexicon entries"
        return None


def _is_word(entry: str, text: str) -> bool:
    """Whether an entry occurs in a text as a word; adjacent Han characters are not part of a word."""
    if han()[codepoints(entry)].any():
        return True
    letter = r"[^\W\u3007\u3400-\u9fff\uf900-\ufaff\U00020000-\U000323af]"
    return re.search(rf"(?<!{letter}){re.escape(entry)}(?!{letter})", text) is not None
