"""The content of one source of a clean corpus in numbers; the data card shows them."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SAMPLES = 5
"""Documents of a source that are kept as samples."""


@dataclass
class SourceSummary:
    """Counts over the documents of one source in one language.

    Attributes:
        documents, bytes, characters: sums; bytes of UTF-8.
        lengths: documents by log2 of their characters, rounded down.
        entropies: documents by the entropy of their own distribution of characters in bits, rounded down to halves.
        scripts, sites, decades, regions, genders: counts; `decades` of the years that a text mentions.
        samples: the documents whose ids have the smallest hashes: `[hash, id, beginning]`.
    """

    documents: int = 0
    bytes: int = 0
    characters: int = 0
    lengths: Counter[str] = field(default_factory=Counter)
    entropies: Counter[str] = field(default_factory=Counter)
    scripts: Counter[str] = field(default_factory=Counter)
    sites: Counter[str] = field(default_factory=Counter)
    decades: Counter[str] = field(default_factory=Counter)
    regions: Counter[str] = field(default_factory=Counter)
    genders: Counter[str] = field(default_factory=Counter)
    samples: list[list[str]] = field(default_factory=list)

    def merge(self, other: SourceSummary) -> None:
        """Adds the counts and samples of other documents."""
        for name, value in vars(other).items():
            if isinstance(value, Counter):
                getattr(self, name).update(value)
            elif isinstance(value, int):
                setattr(self, name, getattr(self, name) + value)
        self.offer(other.samples)

    def offer(self, samples: list[list[str]]) -> None:
        """Keeps the samples with the smallest hashes."""
        self.samples = heapq.nsmallest(SAMPLES, [*self.samples, *samples])


Summaries = dict[tuple[str, str], SourceSummary]
"""Summaries by language and source."""


def rows(summaries: Summaries) -> list[dict[str, Any]]:
    """Returns summaries as JSON objects."""
    return [{"source": source, "lang": lang, **vars(summary)} for (lang, source), summary in summaries.items()]


def from_rows(rows: Sequence[Mapping[str, Any]]) -> Summaries:
    """Reads what `rows` made; those of the same language and source are merged."""
    summaries: Summaries = {}
    for row in rows:
        summary = SourceSummary()
        for name in vars(summary):
            setattr(summary, name, Counter(row[name]) if isinstance(row[name], dict) else row[name])
        summaries.setdefault((row["lang"], row["source"]), SourceSummary()).merge(summary)
    return dict(sorted(summaries.items()))
