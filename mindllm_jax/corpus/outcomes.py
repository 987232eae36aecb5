"""Outcomes: what a step of the pipeline did to documents, counted by source, kind and reason.

datatrove keeps statistics of a task as numbers by label. An outcome is encoded in such labels and decoded from them in
this module and nowhere else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

from datatrove.pipeline.base import PipelineStep

Kind = Literal["kept", "dropped", "changed", "damaged", "unreadable", "benchmark item"]
"""`kept` and `dropped` are the decisions of a filter, one per document that it sees. Parts of `changed` documents were
removed or replaced; in `damaged` ones a change breaks a rule of `dedup/damage.py`; a `benchmark item` is in a document;
`unreadable` input has no document."""

EXAMPLES = 2
"""Examples of each outcome that a task keeps."""

_PREFIX, _EXAMPLE = "outcome ", "example "


class Outcome(NamedTuple):
    """A count of documents that had the same outcome.

    Attributes:
        filter: name of the step.
        source: of the documents.
        kind: see `Kind`.
        reason: why they were dropped or unreadable, what was changed, or the name of the benchmark; "" for `kept`.
        documents: how many.
        bytes: their UTF-8 bytes before the step; of `changed`, the bytes removed or replaced.
        parts: lines, markers or other parts that were removed or replaced; 0 where the step does not count them.
        examples: the beginnings of some of these parts.
    """

    filter: str
    source: str
    kind: Kind
    reason: str
    documents: int
    bytes: int
    parts: int = 0
    examples: tuple[str, ...] = ()


def record(
    step: PipelineStep, source: str, kind: Kind, reason: str = "", *, bytes: int, parts: int = 0, example: str = ""
) -> None:
    """Counts one document in the statistics of a step; for the arguments see `Outcome`.

    The data card shows the examples: they must not contain personal data.
    """
    documents = _encode(source, kind, reason, "documents")
    # A statistic is a number by label, so an example is a part of a label.
    if example and (documents not in step.stats.stats or step.stats.stats[documents].total < EXAMPLES):
        step.stat_update(_EXAMPLE + json.dumps([source, kind, reason, example], ensure_ascii=False))
    # Two labels, because datatrove writes no count where a total is 0.
    step.stat_update(documents)
    step.stat_update(_encode(source, kind, reason, "bytes"), value=bytes)
    if parts:
        step.stat_update(_encode(source, kind, reason, "parts"), value=parts)


def outcomes(filter: str, totals: Mapping[str, int]) -> Iterator[Outcome]:
    """Decodes the outcomes that `record` counted.

    Args:
        filter: name of the step.
        totals: the total of each statistic of the step by label; labels that are no outcomes are left out.
    """
    examples: dict[tuple[str, str, str], list[str]] = {}
    for label in totals:
        if label.startswith(_EXAMPLE):
            source, kind, reason, example = json.loads(label.removeprefix(_EXAMPLE))
            examples.setdefault((source, kind, reason), []).append(example)
    for label, documents in totals.items():
        if (key := _decode(label)) and key[3] == "documents":
            source, kind, reason, _ = key
            size, parts = (totals.get(_encode(source, kind, reason, unit), 0) for unit in ("bytes", "parts"))
            shown = tuple(sorted(examples.get((source, kind, reason), []))[:EXAMPLES])
            yield Outcome(filter, source, kind, reason, documents, size, parts, shown)


def recorded(step: PipelineStep) -> list[Outcome]:
    """Returns the outcomes that a step recorded in this process."""
    totals = {label: int(metric.total) for label, metric in step.stats.stats.items()}
    return list(outcomes(step_name(step.name), totals))


def step_name(name: str) -> str:
    """Returns the readable part of a step's name: datatrove's are a kind, a colon and often a picture before words."""
    return re.sub(r"^[^A-Za-z]*", "", name.rpartition(": ")[2])


@lru_cache(4096)
def _encode(source: str, kind: Kind, reason: str, unit: Literal["documents", "bytes", "parts"]) -> str:
    return _PREFIX + json.dumps([source, kind, reason, unit], ensure_ascii=False)


def _decode(label: str) -> tuple[str, Kind, str, str] | None:
    if not label.startswith(_PREFIX):
        return None
    source, kind, reason, unit = json.loads(label.removeprefix(_PREFIX))
    if kind not in get_args(Kind):
        raise ValueError(f"statistics of the pipeline have an outcome of the unknown kind {kind!r}")
    return source, kind, reason, unit
