"""Collects the numbers of the data card from the statistics, summaries and reports that the pipeline wrote."""

from __future__ import annotations

import json
import shlex
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from mindllm_jax.corpus.outcomes import Outcome, outcomes, step_name
from mindllm_jax.corpus.report.source_summary import rows
from mindllm_jax.corpus.report.summary import read_summaries
from mindllm_jax.files import read_json
from mindllm_jax.run_records import git_sha, installed

_PACKAGES = ("mindllm-jax", "datatrove", "numpy", "xxhash", "resiliparse", "mwparserfromhell", "ftfy")


class _Step(NamedTuple):
    """The statistics of a step over all of its tasks: seconds, and the total of each statistic by label."""

    stage: str
    name: str
    seconds: float
    totals: Counter[str]


def collect(folder: Path, *, chosen: Path | None = None) -> dict[str, Any]:
    """Returns the content of `card.json`; the tokens are those of an older card, see `add_tokens`.

    Args:
        folder: `CleanCorpus.output` of a finished corpus.
        chosen: `Scoring.output`, for the card of the documents that were chosen by score.
    """
    summaries = read_summaries(str((chosen or folder) / "summary"))
    if not summaries:
        raise ValueError(f"{chosen or folder} has no summary/: it was deleted; delete the folder to clean it again")
    logs = [folder / "logs", *([folder / "scored/logs", chosen / "logs"] if chosen else [])]
    steps = [step for log in logs for step in _steps(log)]
    counted = [outcome for step in steps for outcome in outcomes(step.name, step.totals)]
    return {
        "made": _made(),
        "settings": read_json(folder / "settings.json") if (folder / "settings.json").exists() else {},
        "sources": rows(summaries),
        "outcomes": [outcome._asdict() for outcome in counted],
        "seconds": [{"stage": s.stage, "step": s.name, "seconds": round(s.seconds, 1)} for s in steps],
        "benchmarks": _benchmarks(folder / "work/benchmarks/benchmarks.json", counted),
        "clusters": json.loads((folder / "work/clusters/clusters.json").read_text("utf-8")),
        "scores": json.loads((chosen / "parts.json").read_text("utf-8")) if chosen else {},
        "tokens": read_json(old)["tokens"] if (old := (chosen or folder) / "card.json").exists() else {},
    }


def _made() -> dict[str, Any]:
    """Returns the command that writes the card, its commit, the versions of its packages, and the date."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        "commit": git_sha(),
        "versions": installed(_PACKAGES),
    }


def _steps(logs: Path) -> Iterator[_Step]:
    for stage in sorted(path for path in logs.iterdir() if path.is_dir()):
        steps: list[_Step] = []
        for task in sorted((stage / "stats").glob("*.json")):
            for number, step in enumerate(json.loads(task.read_text("utf-8"))):
                if number == len(steps):
                    name = stage.name.partition("_")[2].replace("_", " ")
                    steps.append(_Step(name, step_name(step["name"]), 0.0, Counter()))
                totals = {label: _total(value) for label, value in step["stats"].items()}
                steps[number].totals.update(totals)
                steps[number] = steps[number]._replace(seconds=steps[number].seconds + _total(step["time_stats"]))
        yield from steps


def _total(statistic: Any) -> Any:
    """Returns the total of a statistic; datatrove writes the total alone where the rest follows from it."""
    return statistic["total"] if isinstance(statistic, dict) else statistic


def _benchmarks(file: Path, counted: list[Outcome]) -> dict[str, Any]:
    if not file.exists():
        return {}
    documents: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in counted:
        if outcome.kind == "benchmark item":
            documents[outcome.reason][outcome.source] += outcome.documents
    items = json.loads(file.read_text("utf-8"))
    return {name: {**counts, "documents": dict(documents[name])} for name, counts in items.items()}
