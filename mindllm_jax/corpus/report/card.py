"""The data card of a corpus: its sources, what was dropped and why, and what the text is about.

`card.json` has all of its numbers; `card.html` shows them. Neither knows the filters of the pipeline by name.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from mindllm_jax.corpus.report.card_changes import changes, largest, made, unreadable
from mindllm_jax.corpus.report.source_summary import SourceSummary, Summaries, from_rows
from mindllm_jax.files import read_json, write_text
from mindllm_jax.reporting.page import Figure, Page, Paragraph, Sample, Section, write_page
from mindllm_jax.reporting.plots import line_plot
from mindllm_jax.reporting.tables import Cell, Table

_KEPT = "kept"


def write_card(folder: Path, card: dict[str, Any]) -> Path:
    """Writes `card.json` and `card.html` into the folder of a corpus.

    Args:
        folder: `CleanCorpus.output` or `Scoring.output`.
        card: see `collect`.

    Returns the path of the page.
    """
    write_page(folder / "card.html", _page(card))
    # Last: it marks a finished corpus.
    write_text(folder / "card.json", json.dumps(card, ensure_ascii=False, indent=1) + "\n")
    return folder / "card.html"


def card_once(folder: Path, content: Callable[[], dict[str, Any]]) -> Path:
    """Writes the card of a corpus that has none, and returns the path of the page.

    A finished corpus keeps its card: `work`, from which it was made, may be deleted.
    """
    return folder / "card.html" if (folder / "card.json").exists() else write_card(folder, content())


def add_tokens(folder: Path, tokens: Mapping[str, int]) -> Path:
    """Writes the tokens of its sources into the card of a corpus; returns the path of the page."""
    card = read_json(folder / "card.json")
    own = {row["source"] for row in card["sources"]}
    return write_card(folder, {**card, "tokens": {name: count for name, count in tokens.items() if name in own}})


def decisions(card: Mapping[str, Any]) -> dict[str, Counter[str]]:
    """Returns by source the documents that were dropped, by reason, and the documents that were kept."""
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in card["outcomes"]:
        if outcome["kind"] == "dropped":
            reasons[outcome["source"]][outcome["reason"]] += outcome["documents"]
    for row in card["sources"]:
        reasons[row["source"]][_KEPT] += row["documents"]
    return dict(reasons)


def _page(card: Mapping[str, Any]) -> Page:
    summaries = from_rows(card["sources"])
    total = {lang: SourceSummary() for lang in sorted({lang for lang, _ in summaries})}
    for (lang, _), summary in summaries.items():
        total[lang].merge(summary)
    lead = ", ".join(f"{lang}: {s.documents:,} documents, {s.bytes / 1e6:,.1f} MB" for lang, s in total.items())
    dropped = [*_decisions(decisions(card)), *unreadable(card["outcomes"])]
    sections = [
        Section("Sources", [_sources(card["tokens"], summaries)]),
        Section("What was dropped", dropped),
        Section("What was changed inside kept documents", changes(card["outcomes"])),
        Section("Cost", [_costs(card["seconds"], card["clusters"])]),
        Section("Lengths and entropies", _distributions(total)),
        *([Section("Benchmark items", [_contamination(card["benchmarks"])])] if card["benchmarks"] else []),
        *([Section("Bits per token", [_scores(card["scores"])])] if card["scores"] else []),
        Section("What the text is about", _composition(total)),
        Section("Samples", _samples(summaries)),
        Section("How it was made", made(card)),
    ]
    return Page("Data card", lead, sections)


def _sources(tokens: Mapping[str, int], summaries: Summaries) -> Table:
    rows: list[list[Cell]] = [
        [source, lang, s.documents, s.bytes / 1e6, s.characters, tokens.get(source), s.scripts.get("traditional")]
        for (lang, source), s in summaries.items()
    ]
    return Table(("source", "lang", "documents", "MB", "characters", "tokens", "traditional script"), rows)


def _decisions(reasons: Mapping[str, Counter[str]]) -> list[Table]:
    total = sum(reasons.values(), Counter())
    by_reason: list[list[Cell]] = [
        [reason, documents, largest((source, counts[reason]) for source, counts in reasons.items())]
        for reason, documents in total.most_common()
    ]
    by_source: list[list[Cell]] = [
        [
            source,
            counts.total(),
            counts[_KEPT],
            counts[_KEPT] / counts.total(),
            ", ".join(f"{reason} {n:,}" for reason, n in counts.most_common(5) if reason != _KEPT),
        ]
        for source, counts in sorted(reasons.items())
    ]
    return [
        Table(("outcome", "documents", "largest sources"), by_reason),
        Table(("source", "documents", "kept", "share kept", "dropped for"), by_source),
    ]


def _costs(seconds: Iterable[Mapping[str, Any]], clusters: Mapping[str, int]) -> Table:
    rows = sorted(([row["stage"], row["step"], row["seconds"]] for row in seconds), key=lambda row: -row[2])
    return Table(
        ("stage", "step", "seconds of all tasks"),
        [row for row in rows if row[2] >= 1],
        f"near-duplicates: {clusters['clusters']:,} clusters, the largest of {clusters['largest']:,} documents,"
        f" {clusters['removed']:,} removed",
    )


def _distributions(total: Mapping[str, SourceSummary]) -> list[Figure]:
    def shares(counts: Counter[str]) -> tuple[list[float], list[float]]:
        keys = sorted(map(float, counts))
        return keys, [100 * counts[f"{key:g}" if f"{key:g}" in counts else str(key)] / counts.total() for key in keys]

    lengths = {lang: shares(summary.lengths) for lang, summary in total.items()}
    entropies = {lang: shares(summary.entropies) for lang, summary in total.items()}
    return [
        Figure(
            line_plot(lengths, x_label="log2 of characters", y_label="% of documents", y_min=0),
            "Length of documents",
        ),
        Figure(
            line_plot(entropies, x_label="bits per character", y_label="% of documents", y_min=0),
            "Entropy of each document's own distribution of characters",
        ),
    ]


def _contamination(benchmarks: Mapping[str, Any]) -> Table:
    rows: list[list[Cell]] = [
        [
            name,
            counts["items"],
            counts["too short"],
            sum(counts["documents"].values()),
            largest(counts["documents"].items()),
        ]
        for name, counts in benchmarks.items()
    ]
    return Table(("benchmark", "items", "too short to look for", "documents with items", "largest sources"), rows)


def _scores(scores: Mapping[str, Any]) -> Table:
    columns = ("source", "documents scored", "10th percentile", "median", "90th percentile")
    rows = [[source, score["documents"], *score["quantiles"]] for source, score in scores.items()]
    return Table(columns, rows, "under the model of Scoring.run, before documents were chosen by them")


def _composition(total: Mapping[str, SourceSummary]) -> list[Paragraph | Table]:
    parts: list[Paragraph | Table] = [
        Paragraph(
            "Counted with word lists, so these are mentions: years by decade, regions of China by name, gendered words."
        )
    ]
    for lang, summary in total.items():
        genders, scripts = summary.genders, summary.scripts
        parts.append(
            Table(
                ("gendered words", "count", "share"),
                [[name, n, n / max(1, genders.total())] for name, n in genders.most_common()],
                lang,
            )
        )
        if scripts:
            parts.append(Table(("script", "documents"), [list(row) for row in scripts.most_common()], lang))
        if summary.regions:
            parts.append(Table(("region", "mentions"), [list(row) for row in summary.regions.most_common(20)], lang))
        decades = sorted(summary.decades.items())
        parts.append(Table(("decade", "mentions of its years"), [list(row) for row in decades], lang))
        parts.append(Table(("site or source", "documents"), [list(row) for row in summary.sites.most_common(20)], lang))
    return parts


def _samples(summaries: Summaries) -> list[Sample]:
    return [
        Sample("", text, f"{lang} {source}: {id}")
        for (lang, source), summary in summaries.items()
        for _, id, text in summary.samples[:2]
    ]
