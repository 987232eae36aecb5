"""The parts of the data card that tell what changed inside documents, what could not be read, and how it was made."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mindllm_jax.reporting.page import Details, Paragraph, Sample
from mindllm_jax.reporting.tables import Cell, Table

_EXAMPLES = 3
"""Examples of each change of a step, over all sources."""


def changes(outcomes: Sequence[Mapping[str, Any]]) -> list[Paragraph | Table | Sample]:
    """Returns what each step changed inside the documents that it passed on, by source and rule, with examples."""
    changed = [outcome for outcome in outcomes if outcome["kind"] == "changed"]
    if not changed:
        return [Paragraph("Nothing was changed.")]
    by_rule = defaultdict(list)
    for outcome in changed:
        by_rule[outcome["filter"], outcome["reason"]].append(outcome)
    totals: list[list[Cell]] = [
        [*key, *_sums(group), largest((outcome["source"], outcome["documents"]) for outcome in group)]
        for key, group in by_rule.items()
    ]
    rows: list[list[Cell]] = [
        [outcome["source"], outcome["filter"], outcome["reason"], *_sums([outcome])]
        for outcome in sorted(changed, key=lambda outcome: (outcome["source"], outcome["filter"], outcome["reason"]))
    ]
    counted = ("documents", "lines or markers", "kB")
    return [
        Paragraph("Counted by each step in the documents that it passed on; later steps may drop some of them."),
        Table(("step", "removed or replaced", *counted, "largest sources"), totals),
        *_damage(outcomes),
        Table(("source", "step", "removed or replaced", *counted), rows),
        *_examples(by_rule),
    ]


def unreadable(outcomes: Iterable[Mapping[str, Any]]) -> list[Table]:
    """Returns a table of unreadable input, if there is any."""
    groups = defaultdict(list)
    for outcome in outcomes:
        if outcome["kind"] == "unreadable":
            groups[outcome["filter"], outcome["reason"]].append(outcome)
    rows: list[list[Cell]] = [
        [
            *key,
            sum(outcome["documents"] for outcome in group),
            sum(outcome["bytes"] for outcome in group) / 1e6,
            largest((outcome["source"], outcome["documents"]) for outcome in group),
        ]
        for key, group in groups.items()
    ]
    return [Table(("step", "unreadable input", "documents", "MB", "largest sources"), rows)] if rows else []


def made(card: Mapping[str, Any]) -> list[Table | Details]:
    """Returns the command, commit and date of the card, its inputs and its settings."""
    record, settings = card["made"], dict(card["settings"])
    files = settings.pop("files", [])
    rows: list[list[Cell]] = [
        *([name, record[name]] for name in ("date", "command", "commit")),
        ["versions", ", ".join(f"{name} {version}" for name, version in record["versions"].items())],
    ]
    return [
        Table(("", "value"), rows),
        Table(("input", "MB"), [[name, None if size is None else size / 1e6] for name, size in files]),
        Details("Settings that the documents depend on", json.dumps(settings, ensure_ascii=False, indent=1)),
    ]


def largest(counts: Iterable[tuple[str, int]]) -> str:
    """Returns the four largest counts with their names, as text."""
    ordered = sorted(((name, n) for name, n in counts if n), key=lambda item: -item[1])[:4]
    return ", ".join(f"{name} {n:,}" for name, n in ordered)


def _sums(group: Iterable[Mapping[str, Any]]) -> list[Cell]:
    documents = parts = size = 0
    for outcome in group:
        documents += outcome["documents"]
        parts += outcome["parts"]
        size += outcome["bytes"]
    return [documents, parts or None, size / 1e3]


def _damage(outcomes: Iterable[Mapping[str, Any]]) -> list[Paragraph | Table]:
    """Returns the documents whose text a removal of lines damaged, by source and rule."""
    by_source: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        if outcome["kind"] == "damaged":
            by_source[outcome["source"]][outcome["reason"]] += outcome["documents"]
    if not by_source:
        return [Paragraph("No removal of lines broke a rule for damage: a sentence, a heading or code cut apart.")]
    rows: list[list[Cell]] = [[source, rule, n] for source, rules in by_source.items() for rule, n in rules.items()]
    return [Table(("source", "damage by the removal of lines", "documents"), rows)]


def _examples(by_rule: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]) -> Iterator[Sample]:
    for (step, reason), group in by_rule.items():
        shown = [(outcome["source"], example) for outcome in group for example in outcome["examples"][:1]]
        shown += [(outcome["source"], example) for outcome in group for example in outcome["examples"][1:]]
        for source, example in shown[:_EXAMPLES]:
            yield Sample("", example, f"{step}, {reason}: {source}")
