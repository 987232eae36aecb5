"""Documents with too many words of a list of the user's."""

from __future__ import annotations

import re
from pathlib import Path

from datatrove.data import Document
from datatrove.pipeline.writers.disk_base import DiskWriter

from mindllm_jax.corpus.blocks.block import Block


class Lexicon(Block):
    """Drops documents that hold `count` different entries of a list.

    Args:
        path: UTF-8, an entry a line; blank lines and lines that begin with `#` do not count. Entries of letters are
            found as whole words in any case, those with Han characters anywhere.
        count: how many different ones.
        exclusion_writer: see `Block`.

    Raises:
        OSError: there is no such file.
        ValueError: it holds no entry.
    """

    name = "Lexicon"

    def __init__(self, path: str, count: int = 3, exclusion_writer: DiskWriter | None = None) -> None:
        super().__init__(exclusion_writer)
        lines = (line.strip() for line in Path(path).read_text("utf-8-sig").split("\n"))
        entries = sorted({line.lower() for line in lines if line and not line.startswith("#")}, key=len, reverse=True)
        if not entries:
            raise ValueError(f"{path} holds no entry; give a file with a word or phrase a line")
        bounded = (rf"\b{re.escape(entry)}\b" if entry.isascii() else re.escape(entry) for entry in entries)
        self.regex, self.count = re.compile("|".join(bounded)), count

    def judge(self, document: Document) -> str | None:
        """See `Block`."""
        found: set[str] = set()
        for match in self.regex.finditer(document.text.lower()):
            found.add(match[0])
            if len(found) >= self.count:
                return "lexicon"
        return None
