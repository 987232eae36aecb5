"""Scores instruction data and writes a selection of it, with tables and a page."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mindllm_jax.files import write_text
from mindllm_jax.instruct.reading.records import instruction_files
from mindllm_jax.instruct.scoring.score import Extent, Inputs, score_conversations, score_key, survey
from mindllm_jax.instruct.scoring.shards import NUMBERS, ScoreShards
from mindllm_jax.instruct.selection.budget import Taken, take
from mindllm_jax.instruct.selection.clusters import bucket_numbers
from mindllm_jax.instruct.selection.columns import columns
from mindllm_jax.instruct.selection.near_duplicates import NearDuplicates
from mindllm_jax.instruct.selection.report import (
    Selected,
    bucket_table,
    correlation_table,
    dataset_table,
    example_rows,
    selection_page,
    summary_table,
)
from mindllm_jax.instruct.selection.rules import admitted
from mindllm_jax.instruct.selection.settings import SelectInstructions, Selection
from mindllm_jax.instruct.selection.zip_order import zip_order
from mindllm_jax.model.config import Model
from mindllm_jax.parallel.sharding import Sharding
from mindllm_jax.parallel.together import from_first, together
from mindllm_jax.reporting.page import write_page
from mindllm_jax.reporting.tables import Table
from mindllm_jax.text.documents import write_json_lines
from mindllm_jax.training.load_run import RunRecord, load_decoder, read_run


class Scored(NamedTuple):
    """The folder of the scores, and the records that were skipped."""

    shards: ScoreShards
    extent: Extent


def score(
    config: SelectInstructions,
    workdir: Path,
    accept: Callable[[str], None] = lambda compute_dtype: None,
    resolve_model: Callable[[Model], Model] = lambda model: model,
) -> Scored:
    """Scores what is not scored yet. `accept` is called with the compute dtype when all checks have passed.

    Raises:
        OSError: a run or an input is missing.
        ValueError: an input is malformed, the tokenizers differ, or the folder has other scores.
        ImportError: a package of the selection is not installed.
    """
    together(lambda: require_packages(config.selection))
    inputs, records = together(lambda: _checked(config))
    shards = ScoreShards(Path(config.scores) if config.scores else workdir / "scores")
    dtype = resolve_model(records[0].model).dtype.name
    key = together(lambda: score_key(inputs, records, dtype))
    together(lambda: shards.open(key))
    extent = together(lambda: survey(inputs))
    accept(dtype)
    if from_first(str(shards.is_finished())) == str(True):
        return Scored(shards, extent)
    sharding = Sharding(config.mesh.build())
    runs = [load_decoder(record, sharding=sharding, resolve_model=resolve_model) for record in records]
    score_conversations(inputs, extent, runs, shards, key, config.batch_tokens)
    return Scored(shards, extent)


def select(config: SelectInstructions, workdir: Path, scored: Scored) -> Table:
    """Selects and writes selection.jsonl, refused.jsonl, tables.md and selection.html into the workdir.

    Returns what the terminal shows. Raises ValueError where the rule admits no conversation, or no record has the score
    of its own that it asks for; then nothing is written.
    """
    selection, shards = config.selection, scored.shards
    table = shards.columns()
    raw = {name: table[name].to_numpy().astype(np.float64) for name in NUMBERS}
    names = {name: table[name].to_pylist() for name in ("dataset", "lang", "task", "id", "where", "problem")}
    of_rows = columns(raw)
    if selection.score == "record_score" and not np.isfinite(of_rows["record_score"]).any():
        raise ValueError(
            "Selection.score = 'record_score': no record of SelectInstructions.inputs has a number in metadata.score or"
            " score"
        )
    taken = _taken(selection, of_rows, names, shards)
    if not len(taken.chosen):
        raise ValueError(
            f"Selection.rule = {selection.rule!r} selects none of {len(table):,} conversations:"
            " widen its limits or budget"
        )
    buckets = bucket_numbers(of_rows[selection.score], selection.buckets)
    examples = set(example_rows(buckets, of_rows[selection.score]))
    shown = {number: _example(messages) for number, messages in shards.messages() if number in examples}
    selected = Selected(
        of_rows,
        buckets,
        taken.chosen,
        names["dataset"],
        names["lang"],
        shown,
        Counter(problem for problem in names["problem"] if problem),
        Counter(one.kind for one in scored.extent.refused),
        taken.near_duplicates,
    )
    tables = [bucket_table(selected, selection.score), dataset_table(selected, selection.score)]
    tables += [table for table in [correlation_table(selected, selection.seed)] if table is not None]
    write_json_lines(workdir / "refused.jsonl", (one._asdict() for one in scored.extent.refused))
    write_json_lines(
        workdir / "selection.jsonl", _lines(taken, of_rows[selection.score], raw["quality"], names, buckets, shards)
    )
    write_text(workdir / "tables.md", "\n".join(table.markdown() for table in tables))
    write_page(workdir / "selection.html", selection_page(selected, selection, tables, config.run))
    return summary_table(selected, selection.score)


def preview(config: SelectInstructions) -> Table:
    """Tabulates the work, without loading parameters or scoring anything. Raises as `score` does."""
    inputs, records = _checked(config)
    extent = survey(inputs)
    rows = [(f"checkpoint {number}", str(record.folder)) for number, record in enumerate(records, start=1)]
    rows += [
        ("files", f"{len(inputs.files):,}"),
        ("conversations", f"{extent.conversations:,} of {extent.characters:,} characters"),
        *((f"skipped: {kind}", f"{count:,}") for kind, count in Counter(one.kind for one in extent.refused).items()),
    ]
    return Table(("", ""), rows, "Scoring instruction data")


def require_packages(selection: Selection) -> None:
    """Raises ImportError, before hours of scoring, that names the extra of a package that the selection will need."""
    needed = {"pyarrow": "select"}
    needed |= {"ckwrap": "select"} if selection.buckets.method == "exact" else {}
    needed |= {"sklearn": "select"} if selection.buckets.method == "kmeans" else {}
    needed |= {} if selection.min_similarity is None else {"datatrove": "data", "opencc": "data"}
    for package, extra in needed.items():
        if importlib.util.find_spec(package) is None:
            raise ImportError(f"the selection needs {package}, which is missing: pip install 'mindllm-jax[{extra}]'")


def _checked(config: SelectInstructions) -> tuple[Inputs, list[RunRecord]]:
    records = [read_run(Path(config.run), config.step)]
    if config.tuned:
        records.append(read_run(Path(config.tuned), config.tuned_step))
    inputs = Inputs(instruction_files(config.inputs), config.on_bad, config.on_long, config.sample, config.sample_seed)
    return inputs, records


def _taken(
    selection: Selection, of_rows: dict[str, np.ndarray], names: dict[str, list[Any]], shards: ScoreShards
) -> Taken:
    order = admitted(of_rows, selection)
    tokens = np.nan_to_num(of_rows["whole_tokens"]).astype(np.int64)
    is_new: Callable[[int], bool] = lambda row: True  # noqa: E731
    if selection.rule == "zip" or selection.min_similarity is not None:
        asked = set(order.tolist())
        texts = {
            number: "\n".join(message["content"] for message in messages)
            for number, messages in shards.messages()
            if number in asked
        }
        if selection.rule == "zip":
            order = order[list(_within(zip_order([texts[row] for row in order]), tokens[order], selection))]
        if selection.min_similarity is not None:
            near = NearDuplicates(selection.min_similarity)
            place = {row: index for index, row in enumerate(order.tolist())}
            signatures = near.signatures([texts[row] for row in order.tolist()])
            is_new = lambda row: near.add(signatures[place[row]])  # noqa: E731
    groups = list(zip(*(names[name] for name in selection.balance), strict=True)) or [()] * len(tokens)
    return take(
        order, tokens, groups, max_conversations=selection.conversations, max_tokens=selection.tokens, is_new=is_new
    )


def _within(order: Iterator[int], tokens: np.ndarray, selection: Selection) -> Iterator[int]:
    """Yields an order until the budget is spent, so that a slow order is computed no further."""
    spent = 0

    def fits(index_and_row: tuple[int, int]) -> bool:
        nonlocal spent
        index, row = index_and_row
        spent += int(tokens[row])
        return (selection.conversations is None or index < selection.conversations) and (
            selection.tokens is None or spent <= selection.tokens
        )

    return (row for _, row in takewhile(fits, enumerate(order)))


def _lines(
    taken: Taken,
    score: np.ndarray,
    quality: np.ndarray,
    names: dict[str, list[Any]],
    buckets: np.ndarray,
    shards: ScoreShards,
) -> Iterator[dict[str, Any]]:
    """Yields the selected conversations in the order of the inputs."""
    wanted = set(taken.chosen.tolist())
    for row, messages in shards.messages():
        if row in wanted:
            about = {name: names[name][row] for name in ("id", "dataset", "task", "lang", "where")}
            value = float(score[row])
            yield {
                "messages": messages,
                **about,
                # Not as `score`, which readers take for the record's own.
                "selection": {"score": value if np.isfinite(value) else None, "bucket": int(buckets[row])},
                **({"metadata": {"score": float(quality[row])}} if np.isfinite(quality[row]) else {}),
            }


def _example(messages: list[dict[str, str]]) -> tuple[str, str]:
    question = next(message["content"] for message in messages if message["role"] == "user")
    return question, messages[-1]["content"]
