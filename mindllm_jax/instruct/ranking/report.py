"""The tables of a ranking, and its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mindllm_jax.files import write_text
from mindllm_jax.reporting.tables import Table


def ranking_table(result: dict[str, Any]) -> Table:
    """Tabulates the models, the best first."""
    rows = [
        (
            model["name"],
            round(model["rating"]),
            "{:.0f} to {:.0f}".format(*model["interval"]) if model["interval"] else None,
            model["wins"],
            model["ties"],
            model["losses"],
        )
        for model in result["models"]
    ]
    judge = result["judge"]
    judged = f"{result['judged_prompts']} of {result['prompts']} prompts judged by {judge['by']} ({judge['name']})"
    caption = f"{judged}; intervals resample these"
    return Table(("model", "rating", "95% interval", "wins", "ties", "losses"), rows, caption)


def judge_table(result: dict[str, Any]) -> Table:
    """Tabulates what the judge was asked and how far its verdicts can be trusted."""
    counts = dict(result["counts"])
    places, first = counts.pop("replies for a place", 0), counts.pop("replies for the first place", 0)
    rows: list[tuple[str, int | str]] = [(name, count) for name, count in counts.items() if count]
    if result["judge"]["by"] == "endpoint" and places:
        rows.append(
            ("position bias: verdicts for the first place (50%: none)", f"{first} of {places}, {first / places:.0%}")
        )
    rows += [(f"replies of this start: {kind}", count) for kind, count in result["requests"].items()]
    rows += [
        (f"prompts cut for {model['name']}", model["cut_prompts"]) for model in result["models"] if model["cut_prompts"]
    ]
    return Table(("judge", "count"), rows)


def write_ranking(result: dict[str, Any], workdir: Path) -> Path:
    """Writes ranking.json and ranking.md into a folder, and returns the path of the latter."""
    write_text(workdir / "ranking.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    parts = [ranking_table(result).markdown(), judge_table(result).markdown()]
    parts += [result["note"] + "\n"] if result["note"] else []
    write_text(workdir / "ranking.md", "\n".join(parts))
    return workdir / "ranking.md"
