"""Borderline documents of each quality rule: a page of documents just kept and just dropped."""

from __future__ import annotations

import heapq
from collections import defaultdict
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple

from mindllm_jax.corpus.filters.quality import bounds
from mindllm_jax.corpus.reading.shard import ReadShard
from mindllm_jax.corpus.settings import CleanCorpus
from mindllm_jax.reporting.page import Page, Paragraph, Sample, Section, write_page

_SHOWN, _CHARACTERS = 3, 500


class _Limit(NamedTuple):
    """One limit of a rule; `side` is `min` or `max`."""

    lang: str
    reason: str
    side: str
    value: float


class _Nearest:
    """The documents nearest to a limit, on both sides."""

    def __init__(self) -> None:
        self.kept: list[tuple[float, int, str, str]] = []
        self.dropped: list[tuple[float, int, str, str]] = []

    def add(self, entry: tuple[float, int, str, str], kept: bool) -> None:
        nearest = self.kept if kept else self.dropped
        heapq.heappush(nearest, entry)
        if len(nearest) > _SHOWN:
            heapq.heappop(nearest)


def write_borderline(config: CleanCorpus, documents: int = 3000) -> Path:
    """Writes `borderline.html` into the folder of a corpus, from the first documents of each of its shards.

    Args:
        config: its rules are shown; they may differ from those that the corpus was made with.
        documents: about how many documents are read in total.

    Returns the path of the page. Raises FileNotFoundError if the corpus has no extracted text yet.
    """
    folder = Path(config.output)
    shards = sorted((folder / "work/text").glob("*.jsonl.zst"))
    if not shards:
        raise FileNotFoundError(f"{folder} has no text yet: run the command without --borderline first")
    limits: dict[_Limit, _Nearest] = defaultdict(_Nearest)
    reader, of_each = ReadShard(str(folder / "work/text")), max(1, documents // len(shards))
    number = count()
    for shard in shards:
        for document in islice(reader.run(rank=int(shard.name.partition(".")[0])), of_each):
            for bound in bounds(document, config.rules):
                label = f"{bound.value:.4g}: {document.metadata['source']} {document.id}"
                for side, limit in (("min", bound.min), ("max", bound.max)):
                    # No value can be beyond these.
                    if limit == (0 if side == "min" else float("inf")):
                        continue
                    kept = bound.value >= limit if side == "min" else bound.value <= limit
                    entry = (-abs(bound.value - limit), next(number), label, document.text[:_CHARACTERS])
                    limits[_Limit(document.metadata["lang"], bound.reason, side, limit)].add(entry, kept)
    write_page(folder / "borderline.html", _page(limits))
    return folder / "borderline.html"


def _page(limits: dict[_Limit, _Nearest]) -> Page:
    sections = []
    for limit, nearest in sorted(limits.items()):
        parts: list[Paragraph | Sample] = []
        for title, entries in (("just kept", nearest.kept), ("just dropped", nearest.dropped)):
            parts.append(Paragraph(title if entries else f"none {title}"))
            parts += [Sample("", text, label) for _, _, label, text in sorted(entries, reverse=True)]
        sections.append(Section(f"{limit.lang}: {limit.reason}, {limit.side} {limit.value:g}", parts))
    return Page("Borderline documents", "Documents nearest to the limit of each quality rule, on both sides", sections)
