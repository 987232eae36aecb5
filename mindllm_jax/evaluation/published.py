"""Published scores of the paper's models and of others, from published.json, each with its source and setting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mindllm_jax.files import read_json
from mindllm_jax.reporting.tables import Table

_FILE = Path(__file__).with_name("published.json")


def published_table(
    tasks: Mapping[str, Mapping[str, Any]], show: Callable[[Mapping[str, Any], str], str | None]
) -> tuple[Table, list[str]] | None:
    """Tabulates the scores of a run beside published ones, in percent; None where there are none for its tasks.

    tasks: entries of eval.json by name. show: returns the text of an entry's metric in percent, None where it has none.

    Every model of every source has its own column, named with the number of its source; the sources, with their
    settings, are the list that is returned too.
    """
    content = read_json(_FILE)
    figures = [figure for figure in content["figures"] if any(task in tasks for task in figure["values"])]
    if not figures:
        return None
    sources = list(dict.fromkeys(figure["source"] for figure in figures))
    cells: dict[tuple[str, str], dict[str, float]] = {}
    for figure in figures:
        column = f"{figure['model']} [{sources.index(figure['source']) + 1}]"
        for task, value in figure["values"].items():
            if task in tasks:
                cells.setdefault((task, figure["metric"]), {})[column] = value
    columns = list(dict.fromkeys(column for row in cells.values() for column in row))
    rows = [
        (
            f"{task}, {metric}",
            show(tasks[task], metric),
            *(None if (v := row.get(c)) is None else f"{v:.2f}" for c in columns),
        )
        for (task, metric), row in sorted(cells.items(), key=lambda cell: list(tasks).index(cell[0][0]))
    ]
    caption = "Percent. Published figures come from other prompts, shots and splits than this run's, see the sources."
    notes = [
        f"[{number}] {content['sources'][source]['title']}: {content['sources'][source]['setting']}."
        for number, source in enumerate(sources, start=1)
    ]
    return Table(("", "this run", *columns), rows, caption), notes
