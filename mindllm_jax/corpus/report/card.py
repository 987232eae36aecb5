"""The data card: what went into a corpus, what was dropped and why, and what is in it, as one page and one JSON."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mindllm_jax.corpus.executors import step_name
from mindllm_jax.corpus.filters.base import KEPT
from mindllm_jax.corpus.report.summary import SourceSummary, read_summaries
from mindllm_jax.files import write_text
from mindllm_jax.reporting.page import Figure, Page, Paragraph, Sample, Section, write_page
from mindllm_jax.reporting.plots import line_plot
from mindllm_jax.reporting.tables import Cell, Table

# What datatrove's own filters drop they do not count by source: it is the difference between the blocks around them.
_COPIES, _NEAR = "exact copy", "near-duplicate"


class Outcome(NamedTuple):
    """Of documents of one source in one block: how many, and their UTF-8 bytes."""

    block: str
    source: str
    reason: str
    documents: int
    bytes: int


def write_card(folder: Path, tokens: Mapping[str, int] | None = None, *, chosen: Path | None = None) -> Path:
    """Writes `card.html` and `card.json` into the folder of a corpus that is done.

    Args:
        folder: `CleanCorpus.output`.
        tokens: by source, where a store was made of the corpus.
        chosen: the folder of what was chosen by score (`chosen_folder`), if the card is that of it, and written there.

    Returns the path of the page.
    """
    steps = list(_steps(folder / "logs"))
    outcomes = list(_outcomes(steps))
    summaries = read_summaries(str(folder / "summary"))
    reasons = dropped(outcomes, summaries)
    scores: dict[str, Any] = {}
    if chosen:
        scores = json.loads((chosen / "parts.json").read_text())
        more = [*_steps(folder / "scored/logs"), *_steps(chosen / "logs")]
        by_score = list(_outcomes(more))
        for outcome in by_score:
            if outcome.reason != KEPT:
                reasons[outcome.source].update({outcome.reason: outcome.documents, KEPT: -outcome.documents})
        steps, outcomes = steps + more, outcomes + by_score
        summaries = read_summaries(str(chosen / "summary"))
    found = {
        "tokens": dict(tokens or {}),
        "sources": {
            source: {"lang": lang, **{k: v for k, v in vars(s).items() if k != "samples"}}
            for (lang, source), s in summaries.items()
        },
        "outcomes": [outcome._asdict() for outcome in outcomes],
        # The filter of exact copies has the time of the steps behind it in its own.
        "seconds": {step["name"]: round(step["seconds"], 1) for step in steps if "stage 3" not in step["name"]},
        "benchmarks": _benchmarks(folder, steps),
        "clusters": json.loads((folder / "work/clusters/clusters.json").read_text()),
        "scores": scores,
    }
    place = chosen or folder
    write_text(place / "card.json", json.dumps(found, ensure_ascii=False, indent=1) + "\n")
    write_page(place / "card.html", _page(found, reasons, summaries))
    return place / "card.html"


def _steps(logs: Path) -> Iterator[dict[str, Any]]:
    """datatrove's statistics of each step, with those of its tasks added up: the seconds, and by label [n, total]."""
    for stage in sorted(path for path in logs.iterdir() if path.is_dir()):
        steps: list[dict[str, Any]] = []
        for task in sorted((stage / "stats").glob("*.json")):
            for number, step in enumerate(json.loads(task.read_text("utf-8"))):
                if number == len(steps):
                    steps.append({"name": step_name(step["name"]), "seconds": 0.0, "stats": {}})
                steps[number]["seconds"] += _sums(step["time_stats"])[1]
                for label, value in step["stats"].items():
                    sums = zip(steps[number]["stats"].get(label, (0, 0)), _sums(value), strict=True)
                    steps[number]["stats"][label] = tuple(map(sum, sums))
        yield from steps


def _sums(value: Any) -> tuple[int, float]:
    """How many values, and their total. datatrove leaves out how many where it is one, and writes ones as their sum."""
    return (value.get("n", 1), value["total"]) if isinstance(value, dict) else (value, value)


def _outcomes(steps: list[dict[str, Any]]) -> Iterator[Outcome]:
    for step in steps:
        for label, (documents, size) in step["stats"].items():
            source, bar, reason = label.partition("|")
            if bar and source not in ("replaced", "lines", "found", "bad"):
                yield Outcome(step["name"], source, reason, documents, size)


def _benchmarks(folder: Path, steps: list[dict[str, Any]]) -> dict[str, Any]:
    path = folder / "work/benchmarks/benchmarks.json"
    if not path.exists():
        return {}
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for step in steps:
        for label, (documents, _) in step["stats"].items():
            if label.startswith("found|"):
                _, benchmark, source = label.split("|")
                found[benchmark][source] += documents
    return {name: {**counts, "found": dict(found[name])} for name, counts in json.loads(path.read_text()).items()}


def dropped(outcomes: list[Outcome], summaries: Mapping[tuple[str, str], SourceSummary]) -> dict[str, Counter[str]]:
    """Documents by source and what became of them: reasons, and `kept`."""
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    into: dict[str, Counter[str]] = defaultdict(Counter)
    kept: dict[str, Counter[str]] = defaultdict(Counter)
    order: list[str] = []
    for outcome in outcomes:
        if outcome.block not in order:
            order.append(outcome.block)
        into[outcome.block][outcome.source] += outcome.documents
        if outcome.reason == KEPT:
            kept[outcome.block][outcome.source] += outcome.documents
        else:
            reasons[outcome.source][outcome.reason] += outcome.documents
    for (_, source), summary in summaries.items():
        reasons[source][KEPT] = summary.documents
    last = order[-1]
    for source, count in kept["Language"].items():
        if copies := count - into["Drop repeats"][source]:
            reasons[source][_COPIES] = copies
    for source, count in kept[last].items():
        if near := count - reasons[source][KEPT]:
            reasons[source][_NEAR] = near
    return dict(reasons)


def _page(
    found: dict[str, Any], reasons: Mapping[str, Counter[str]], summaries: Mapping[tuple[str, str], SourceSummary]
) -> Page:
    languages = sorted({lang for lang, _ in summaries})
    total = {lang: SourceSummary() for lang in languages}
    for (lang, _), summary in summaries.items():
        total[lang].merge(summary)
    lead = ", ".join(f"{lang}: {s.documents:,} documents, {s.bytes / 1e6:,.1f} MB" for lang, s in total.items())
    sections = [
        Section("Sources", [_sources(found["tokens"], summaries)]),
        Section("What was dropped", [*_reasons(reasons), _costs(found)]),
        Section("Lengths and entropies", _distributions(total)),
        *([Section("Items of benchmarks found", [_contamination(found["benchmarks"])])] if found["benchmarks"] else []),
        *([Section("Bits per token", [_scores(found["scores"])])] if found["scores"] else []),
        Section("What the text is about", _composition(total)),
        Section("Samples", _samples(summaries)),
    ]
    return Page("Data card", lead, sections)


def _sources(tokens: Mapping[str, int], summaries: Mapping[tuple[str, str], SourceSummary]) -> Table:
    rows: list[list[Cell]] = [
        [source, lang, s.documents, s.bytes / 1e6, s.characters, tokens.get(source), s.scripts.get("traditional")]
        for (lang, source), s in summaries.items()
    ]
    return Table(("source", "lang", "documents", "MB", "characters", "tokens", "traditional script"), rows)


def _reasons(reasons: Mapping[str, Counter[str]]) -> list[Table]:
    total = sum(reasons.values(), Counter())
    by_reason: list[list[Cell]] = [
        [reason, documents, ", ".join(f"{source} {counts[reason]:,}" for source, counts in _largest(reasons, reason))]
        for reason, documents in total.most_common()
    ]
    by_source: list[list[Cell]] = [
        [
            source,
            counts.total(),
            counts[KEPT],
            counts[KEPT] / counts.total(),
            ", ".join(f"{reason} {n:,}" for reason, n in counts.most_common(5) if reason != KEPT),
        ]
        for source, counts in sorted(reasons.items())
    ]
    return [
        Table(("outcome", "documents", "most of them in"), by_reason),
        Table(("source", "documents", "kept", "share kept", "dropped for"), by_source),
    ]


def _largest(reasons: Mapping[str, Counter[str]], reason: str) -> list[tuple[str, Counter[str]]]:
    return sorted((item for item in reasons.items() if item[1][reason]), key=lambda item: -item[1][reason])[:4]


def _costs(found: dict[str, Any]) -> Table:
    clusters = found["clusters"]
    seconds = sorted(found["seconds"].items(), key=lambda step: -step[1])
    return Table(
        ("step", "seconds of all tasks"),
        [[name, value] for name, value in seconds if value >= 1],
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
            "Lengths of documents",
        ),
        Figure(
            line_plot(entropies, x_label="bits a character", y_label="% of documents", y_min=0),
            "Entropy of each document's own distribution of characters",
        ),
    ]


def _contamination(benchmarks: dict[str, Any]) -> Table:
    rows: list[list[Cell]] = [
        [
            name,
            counts["items"],
            counts["too short"],
            sum(counts["found"].values()),
            ", ".join(f"{source} {n}" for source, n in Counter(counts["found"]).most_common(4)),
        ]
        for name, counts in benchmarks.items()
    ]
    return Table(("benchmark", "items", "too short to look for", "documents with items", "most of them in"), rows)


def _scores(scores: dict[str, Any]) -> Table:
    columns = ("source", "documents scored", "10 % have at most", "50 %", "90 %")
    rows = [[source, found["documents"], *found["quantiles"]] for source, found in scores.items()]
    return Table(columns, rows, "under the model of Scoring.run, before documents were chosen by them")


def _composition(total: Mapping[str, SourceSummary]) -> list[Paragraph | Table]:
    parts: list[Paragraph | Table] = [
        Paragraph(
            "Counted by lists of words, so these are what texts mention, not what they are: years by decade, regions of"
            " China by name, words that say a gender."
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
        parts.append(Table(("decade", "years named"), [list(row) for row in decades], lang))
        parts.append(Table(("site or source", "documents"), [list(row) for row in summary.sites.most_common(20)], lang))
    return parts


def _samples(summaries: Mapping[tuple[str, str], SourceSummary]) -> list[Sample]:
    return [
        Sample("", text, f"{lang} {source}: {id}")
        for (lang, source), summary in summaries.items()
        for _, id, text in summary.samples[:2]
    ]
