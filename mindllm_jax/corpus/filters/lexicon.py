"""Documents with too many words of a list of the user's."""

from __future__ import annotations

import re
from pathlib import Path

from datatrove.data import Document
from datatrove.pipeline.writers.disk_base import DiskWriter

from mindllm_jax.corpus.filters.base import CleaningFilter
from mindllm_jax.text.codepoints import codepoints, han


class Lexicon(CleaningFilter):
    """Drops documents that hold `count` different entries of a list.

    Args:
        path: UTF-8, an entry a line; blank lines and lines that begin with `#` do not count. Entries without Han
            characters are found as whole words, those with some anywhere; case does not matter.
        count: how many different ones; one that is part of another that was found is not counted.
        exclusion_writer: see `CleaningFilter`.

    Raises:
        OSError: there is no such file.
        ValueError: it holds no entry.
    """

    name = "Lexicon"

    def __init__(self, path: str, count: int = 3, exclusion_writer: DiskWriter | None = None) -> None:
        super().__init__(exclusion_writer)
        lines = (line.strip() for line in Path(path).read_text("utf-8-sig").split("\n"))
        entries = {line.lower() for line in lines if line and not line.startswith("#")}
        if not entries:
            raise ValueError(f"{path} holds no entry; give a file with a word or phrase a line")
        self.entries, self.count = sorted(entries, key=lambda entry: (-len(entry), entry)), count

    def apply(self, document: Document) -> str | None:
        """See `CleaningFilter.apply`."""
        text = document.text.lower()
        found: list[str] = []
        for entry in self.entries:
            # One search for each entry: an alternation of thousands is tried anew at every character.
            if entry in text and not any(entry in longer for longer in found) and _stands_alone(entry, text):
                found.append(entry)
                if len(found) >= self.count:
                    return "lexicon"
        return None


def _stands_alone(entry: str, text: str) -> bool:
    """Whether an entry is in a text as a word; Han characters beside it are no part of a word."""
    if han()[codepoints(entry)].any():
        return True
    letter = r"[^\W\u3007\u3400-\u9fff\uf900-\ufaff\U00020000-\U000323af]"
    return re.search(rf"(?<!{letter}){re.escape(entry)}(?!{letter})", text) is not None
