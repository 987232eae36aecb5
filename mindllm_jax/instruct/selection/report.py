"""Tables and the page of a selection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mindllm_jax.instruct.selection.clusters import bucket_ranges
from mindllm_jax.instruct.selection.columns import COLUMNS
from mindllm_jax.instruct.selection.correlation import rank_correlations
from mindllm_jax.instruct.selection.settings import Selection
from mindllm_jax.reporting.page import Figure, Page, Paragraph, Section
from mindllm_jax.reporting.plots import Line, line_plot
from mindllm_jax.reporting.tables import Cell, Table

_PER_FIGURE = 6
_BINS = 40
_EXAMPLE = 60  # characters of a question or answer
_LISTED = 3


class Selected(NamedTuple):
    """Scored conversations, and which are selected; arrays and lists are [n].

    Attributes:
        columns: see `columns.columns`.
        buckets: int64, bucket of each conversation.
        chosen: int64, the selected ones in their order.
        datasets, langs: of each conversation.
        examples: question and answer of some conversations, by their number.
        not_scored: conversations without scores, by reason.
        skipped: malformed records, by reason.
        near_duplicates: conversations that were passed over as such.
    """

    columns: Mapping[str, np.ndarray]
    buckets: np.ndarray
    chosen: np.ndarray
    datasets: Sequence[str]
    langs: Sequence[str]
    examples: Mapping[int, tuple[str, str]]
    not_scored: Mapping[str, int]
    skipped: Mapping[str, int]
    near_duplicates: int


def example_rows(buckets: np.ndarray, score: np.ndarray) -> list[int]:
    """Returns two conversations of each bucket, those nearest to its median score."""
    found = []
    for bucket in range(int(buckets.max(initial=-1)) + 1):
        rows = np.flatnonzero(buckets == bucket)
        if len(rows):
            distance = np.abs(score[rows] - np.median(score[rows]))
            found += rows[np.argsort(distance, kind="stable")[:2]].tolist()
    return found


def summary_table(selected: Selected, score: str) -> Table:
    """Tabulates the buckets in numbers: range, conversations, tokens, and those selected."""
    rows: list[list[Cell]] = []
    chosen = np.zeros(len(selected.buckets), np.bool_)
    chosen[selected.chosen] = True
    tokens, answers = selected.columns["whole_tokens"], selected.columns["answer_tokens"]
    for bucket, (low, high) in enumerate(bucket_ranges(selected.columns[score], selected.buckets)):
        members = selected.buckets == bucket
        mean = float(answers[members].mean()) if members.any() else None
        span = f"{low:.3f} to {high:.3f}" if members.any() else None
        taken = members & chosen
        of_all, of_taken = ([int(some.sum()), int(tokens[some].sum())] for some in (members, taken))
        rows.append([bucket, span, *of_all, mean, *of_taken])
    columns = ("bucket", score, "conversations", "tokens", "mean answer tokens", "selected", "selected tokens")
    return Table(columns, rows, f"Buckets by {score}")


def bucket_table(selected: Selected, score: str) -> Table:
    """Tabulates the buckets: as `summary_table`, with sets, languages and examples."""
    numbers = summary_table(selected, score)
    rows: list[list[Cell]] = []
    for row in numbers.rows:
        members = np.flatnonzero(selected.buckets == row[0]).tolist()
        shown = [selected.examples[member] for member in members if member in selected.examples]
        rows.append(
            [
                *row,
                _most([selected.datasets[member] for member in members]),
                _most([selected.langs[member] for member in members]),
                "; ".join(f"{_short(question)} → {_short(answer)}" for question, answer in shown),
            ]
        )
    columns = (*numbers.columns, "sets", "languages", "examples")
    return Table(columns, rows, f"{numbers.caption}: {COLUMNS[score]}")


def dataset_table(selected: Selected, score: str) -> Table:
    """Tabulates the distribution of a score by set."""
    rows: list[list[Cell]] = []
    chosen, values = Counter(selected.datasets[row] for row in selected.chosen), selected.columns[score]
    for name, members in _members(selected.datasets).items():
        some = values[members]
        some = some[np.isfinite(some)]
        quantiles = np.quantile(some, (0.05, 0.25, 0.5, 0.75, 0.95)).tolist() if len(some) else [None] * 5
        median_length = float(np.nanmedian(selected.columns["answer_tokens"][members])) if len(some) else None
        rows.append([name, len(some), chosen[name], *quantiles, median_length])
    columns = ("set", "scored", "selected", "5 %", "25 %", "median", "75 %", "95 %", "median answer tokens")
    return Table(columns, rows, f"Quantiles of {score} by set")


def correlation_table(selected: Selected, seed: int) -> Table | None:
    """Tabulates the rank correlation of each column with the records' own score, by language; None without scores."""
    rows: list[list[Cell]] = []
    for lang, members in _members(selected.langs).items():
        columns = {name: values[members] for name, values in selected.columns.items()}
        own = columns.pop("record_score")
        found = rank_correlations(columns, own, columns["answer_tokens"], seed)
        for name, one in found.items():
            rows.append([lang, name, one.conversations, *one.shown()])
    columns = ("language", "score", "conversations", "rank correlation", "without answer tokens")
    caption = (
        "Spearman's rank correlation with the records' own score, and with answer tokens partialled out; 95 % intervals"
    )
    return Table(columns, rows, caption) if rows else None


def selection_page(selected: Selected, config: Selection, tables: Sequence[Table], run: str) -> Page:
    """Returns the page: the tables, and the distribution of the score by language and by set."""
    score = config.score
    values = selected.columns[score]
    by_lang, by_set = _members(selected.langs), _members(selected.datasets)
    names = sorted(by_set, key=lambda name: -len(by_set[name]))
    figures = [_figure(values, by_lang, list(by_lang), score)]
    figures += [_figure(values, by_set, names[i : i + _PER_FIGURE], score) for i in range(0, len(names), _PER_FIGURE)]
    tokens = int(np.nansum(selected.columns["whole_tokens"][selected.chosen]))
    lead = f"{len(selected.chosen):,} of {len(values):,} conversations, {tokens:,} tokens, by the rule {config.rule!r}"
    counts = [f"{count:,} {reason}" for reason, count in (*selected.not_scored.items(), *selected.skipped.items())]
    left_out = f"Not scored or skipped: {', '.join(counts) or 'none'}. Near-duplicates: {selected.near_duplicates:,}."
    meanings = Table(("score", "meaning"), [(name, meaning) for name, meaning in COLUMNS.items()], "Scores")
    sections = [
        Section("Tables", [Paragraph(left_out), *tables]),
        Section(f"Distribution of {score}", [figure for figure in figures if figure is not None]),
        Section("Scores", [meanings]),
    ]
    return Page(f"Instruction data scored by {run}", lead, sections)


def _figure(values: np.ndarray, members: Mapping[str, np.ndarray], names: Sequence[str], score: str) -> Figure | None:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None
    low, high = np.quantile(finite, (0.001, 0.999)).tolist()
    edges = np.linspace(low, high, _BINS + 1)
    if not edges[0] < edges[-1]:
        return None
    lines: dict[str, Line] = {}
    for name in names:
        some = values[members[name]]
        some = some[np.isfinite(some)]
        if len(some):
            shares = np.histogram(np.clip(some, edges[0], edges[-1]), edges)[0] / len(some)
            lines[name] = (((edges[1:] + edges[:-1]) / 2).tolist(), shares.tolist())
    if not lines:
        return None
    svg = line_plot(lines, x_label=COLUMNS[score].split(" (")[0], y_label="share of conversations", y_min=0)
    return Figure(svg, f"{score} of {', '.join(lines)}")


def _members(names: Sequence[str]) -> dict[str, np.ndarray]:
    array = np.array(names, object)
    return {name: np.flatnonzero(array == name) for name in sorted(set(names))}


def _most(names: Sequence[str]) -> str:
    counts = Counter(names).most_common()
    listed = ", ".join(f"{name} {count:,}" for name, count in counts[:_LISTED])
    return f"{listed}, {len(counts) - _LISTED} more" if len(counts) > _LISTED else listed


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _EXAMPLE else text[: _EXAMPLE - 1] + "…"
