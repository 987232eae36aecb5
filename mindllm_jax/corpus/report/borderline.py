"""What the rules of quality do at their edges: documents just kept and just dropped by each, to be read by a person."""

from __future__ import annotations

import heapq
from collections import defaultdict
from itertools import count
from pathlib import Path
from typing import NamedTuple

from mindllm_jax.corpus.filters.quality import bounds
from mindllm_jax.corpus.settings import CleanCorpus
from mindllm_jax.reporting.page import Page, Paragraph, Sample, Section, write_page

_SHOWN, _CHARACTERS = 3, 500


class _Limit(NamedTuple):
    """One side of a bound: `side` is `least` or `most`."""

    lang: str
    reason: str
    side: str
    value: float


class _Edge:
    """The documents nearest to a limit, on both sides."""

    def __init__(self) -> None:
        self.kept: list[tuple[float, int, str, str]] = []
        self.dropped: list[tuple[float, int, str, str]] = []

    def add(self, entry: tuple[float, int, str, str], kept: bool) -> None:
        nearest = self.kept if kept else self.dropped
        heapq.heappush(nearest, entry)
        if len(nearest) > _SHOWN:
            heapq.heappop(nearest)


def write_thresholds(config: CleanCorpus, documents: int = 3000) -> Path:
    """Writes `thresholds.html` into the folder of a corpus, from the first documents of each of its shards.

    Args:
        config: whose rules are shown; they may differ from those that the corpus was made with.
        documents: about how many are looked at in all.

    Raises FileNotFoundError where the corpus has not come so far.
    """
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.utils.logging import logger

    folder = Path(config.output)
    shards = sorted((folder / "work/text").glob("*.jsonl.zst"))
    if not shards:
        raise FileNotFoundError(f"{folder} has no text yet: run the command without --thresholds first")
    edges: dict[_Limit, _Edge] = defaultdict(_Edge)
    logger.disable("datatrove")
    reader = JsonlReader(str(folder / "work/text"), glob_pattern="*.jsonl.zst", limit=max(1, documents // len(shards)))
    number = count()
    for rank in range(len(shards)):
        for document in reader.run(None, rank, len(shards)):
            for bound in bounds(document, config.rules):
                label = f"{bound.value:.4g}: {document.metadata['source']} {document.id}"
                for side, limit in (("least", bound.least), ("most", bound.most)):
                    # No value can be on the other side of these.
                    if limit == (0 if side == "least" else float("inf")):
                        continue
                    kept = bound.value >= limit if side == "least" else bound.value <= limit
                    entry = (-abs(bound.value - limit), next(number), label, document.text[:_CHARACTERS])
                    edges[_Limit(document.metadata["lang"], bound.reason, side, limit)].add(entry, kept)
    write_page(folder / "thresholds.html", _page(edges))
    return folder / "thresholds.html"


def _page(edges: dict[_Limit, _Edge]) -> Page:
    sections = []
    for limit, edge in sorted(edges.items()):
        parts: list[Paragraph | Sample] = []
        for title, entries in (("just kept", edge.kept), ("just dropped", edge.dropped)):
            parts.append(Paragraph(title if entries else f"none {title}"))
            parts += [Sample("", text, label) for _, _, label, text in sorted(entries, reverse=True)]
        sections.append(Section(f"{limit.lang}: {limit.reason}, at {limit.side} {limit.value:g}", parts))
    return Page("Thresholds", "Documents nearest to each rule's limit, on both sides of it", sections)
