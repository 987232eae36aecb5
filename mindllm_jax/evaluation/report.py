"""The tables of an evaluation: for the terminal, and report.md with published figures beside them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mindllm_jax.evaluation.held_out import FIVE_GRAM, XZ
from mindllm_jax.evaluation.published import published_table
from mindllm_jax.files import read_json
from mindllm_jax.reporting.tables import Table
from mindllm_jax.reporting.units import PER_CENT, unit_of

COUNTS = ("items", "requests", "cut_requests", "seam_differs", "shots", "chance", "against")
"""Entries of a task in eval.json that are no metrics."""
CUT_SHARE = 0.1
"""A task of which a larger share of the prompts was cut has its figures in brackets."""
_CHOICES = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "probability", "bits_per_byte")


def results_table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    """Tabulates results of `evaluate`, by the label of their column, with compressors and chance."""
    baselines: dict[str, Mapping[str, float]] = {}
    for result in results.values():
        baselines |= result.get("baselines", {})
    rows: list[tuple[str | None, ...]] = []
    of_bits = [result.get("bits_per_byte", {}) for result in results.values()]
    for language in dict.fromkeys(language for bits in of_bits for language in bits):
        of_models = [bits.get(language) for bits in of_bits]
        of_baselines = [baselines.get(language, {}).get(name) for name in (XZ, FIVE_GRAM)]
        rows.append((f"bits per byte, {language}", *map(_format, (*of_models, *of_baselines)), None))
    of_pairs = [_directions(result.get("bilingual", {})) for result in results.values()]
    for direction in dict.fromkeys(name for directions in of_pairs for name in directions):
        for metric in ("retrieval", "gain_over_none", "gain_over_wrong"):
            shown = [_score(directions.get(direction, {}), metric) for directions in of_pairs]
            rows.append((unit_of(metric).head(f"{metric}, {direction}"), *shown, None, None, None))
    of_tasks = [result.get("tasks", {}) for result in results.values()]
    for task in dict.fromkeys(task for tasks in of_tasks for task in tasks):
        of_models = [tasks.get(task, {}) for tasks in of_tasks]
        chance = next((values["chance"] for values in of_models if "chance" in values), None)
        for metric in dict.fromkeys(name for values in of_models for name in _metrics(values)):
            unit = unit_of(metric)
            shown = [_bracketed(_score(values, metric), values) for values in of_models]
            chances = None if chance is None or unit != PER_CENT else unit.text(chance)
            rows.append((unit.head(f"{metric}, {task}"), *shown, None, None, chances))
    columns = ("", *results, XZ, FIVE_GRAM, "chance")
    caption = "± is one standard error."
    if any(_was_cut(values) for tasks in of_tasks for values in tasks.values()):
        caption += f" In brackets: more than {CUT_SHARE:.0%} of the prompts lost their beginning."
    if baselines:
        caption += " xz reads nothing but the held-out documents; the 5-gram counts the training text."
    return Table(columns, rows, caption).without_empty_columns()


def read_result(path: Path) -> dict[str, Any]:
    """Reads the result of `evaluate` from its eval.json. Raises ValueError that names the file where it is damaged."""
    try:
        result = read_json(path)
        results_table({"": result})  # all shown fields exist
        if not result.keys() & {"bits_per_byte", "bilingual", "tasks", "failed_tasks"}:
            raise KeyError("bits_per_byte")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is damaged: not the result of an evaluation ({type(error).__name__}: {error}); remove it and"
            " evaluate again"
        ) from None
    return result


def report_markdown(result: Mapping[str, Any]) -> str:
    """Returns report.md: the result of `evaluate` in tables, beside published figures."""
    return "\n".join(_parts(result))


def _parts(result: Mapping[str, Any]) -> Iterator[str]:
    yield f"# {result['run']}, step {result['step']}: {_scale(result)}\n"
    yield f"Protocol: {_protocol(result['protocol'])}.\n"
    settings = result.get("task_settings", {})
    if count := settings.get("samples"):
        yield f"Items: at most {count} of each task, drawn with seed {settings['seed']}.\n"
    if tokens := settings.get("max_gen_toks"):
        yield f"Generated answers: at most {tokens} tokens (max_gen_toks).\n"
    tasks: dict[str, dict[str, Any]] = result.get("tasks", {})
    bits = {key: value for key, value in result.items() if key not in ("bilingual", "tasks", "failed_tasks")}
    if "bits_per_byte" in bits:
        yield f"## Held-out text\n\n{results_table({'this run': bits}).markdown()}"
        yield _position_table(bits["bits_per_byte_by_position"]).markdown()
    if "bilingual" in result:
        yield f"## Translations\n\n{_bilingual_table(result['bilingual']).markdown()}"
    if choice := {name: task for name, task in tasks.items() if "probability" in task}:
        yield f"## Multiple choice\n\n{_choice_table(choice).markdown()}"
    if other := {name: task for name, task in tasks.items() if name not in choice}:
        yield f"## Other tasks\n\n{_other_table(other).markdown()}"
    if published := published_table(tasks, lambda task, metric: _bracketed(_score(task, metric, places=2), task)):
        table, sources = published
        yield f"## Published figures\n\n{table.markdown()}\n" + "\n".join(f"- {source}" for source in sources) + "\n"
    if compared := {name: task["against"] for name, task in tasks.items() if "against" in task}:
        table = _difference_table(compared, result.get("against_differs", ()))
        yield f"## Compared with {result['against']}\n\n{table.markdown()}"
    if notes := [f"- {note}" for name, data in result.get("data", {}).items() for note in _notes(name, data)]:
        yield "## Data\n\n" + "\n".join(notes) + "\n"
    if failed := result.get("failed_tasks"):
        rows = "\n".join(f"- {name}: {reason}" for name, reason in failed.items())
        yield f"## Failed tasks\n\n{rows}\n"


def _notes(dataset: str, data: Mapping[str, Any]) -> Iterator[str]:
    """Yields the notes on a data set, and what was left out of each of its files."""
    for note in data["notes"]:
        yield f"{dataset}: {note}"
    for file, entry in data["files"].items():
        for reason, count in entry.get("left_out", {}).items():
            yield f"{file}: {count:,} of {count + entry['items']:,} items left out: {reason}."


def _scale(result: Mapping[str, Any]) -> str:
    tokens = result["training_tokens"]
    return f"{result['parameters']:,} parameters" + ("" if tokens is None else f", {tokens:,} training tokens")


def _protocol(protocol: Mapping[str, Any]) -> str:
    values = {name: "none" if value is None else str(value) for name, value in protocol.items()}
    return ", ".join(f"{name} {value[:12] if name.endswith('sha256') else value}" for name, value in values.items())


def _position_table(languages: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]) -> Table:
    columns = [(language, place) for language in languages for place in ("row", "document")]
    values = {
        (language, place, part["tokens_before"]): part["bits_per_byte"]
        for language, place in columns
        for part in languages[language][place]
    }
    ranges = sorted({before for _, _, before in values}, key=lambda before: int(before.split("-")[0]))
    rows = [(before, *(_format(values.get((*column, before))) for column in columns)) for before in ranges]
    caption = "Bits per byte by the number of tokens before a token, in its row and in its document within the row."
    return Table(("tokens before", *(f"{language}, {place}" for language, place in columns)), rows, caption)


def _bilingual_table(result: Mapping[str, Any]) -> Table:
    directions = _directions(result)
    rows: list[tuple[str | None, ...]] = [
        (
            name,
            PER_CENT.text(values["retrieval"], values["retrieval_stderr"]),
            PER_CENT.text(values["pieces"]),
            *(_format(bits) for bits in values["bits_per_byte"].values()),
            _score(values, "gain_over_none"),
            _score(values, "gain_over_wrong"),
        )
        for name, values in directions.items()
    ]
    conditions = next(iter(directions.values()))["bits_per_byte"]
    columns = ("", "retrieval, %", "pieces, %", *conditions, "gain over none", "gain over wrong")
    caption = (
        f"{result['sentences']:,} sentences, ± one standard error. retrieval: the translation is nearest by the mean"
        f" hidden state; chance {100 * result['chance']:.2g}; pieces: nearest by shared pieces, without a"
        " model. The others are bits per byte of the translation behind each source, and the gain from the right one."
    )
    return Table(columns, rows, caption)


def _directions(result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {name: values for name, values in result.items() if isinstance(values, Mapping)}


def _choice_table(tasks: Mapping[str, Mapping[str, Any]]) -> Table:
    rows = [
        (
            name,
            task["shots"],
            task["items"],
            *(_bracketed(_score(task, metric), task) for metric in _CHOICES),
            _score(task, "chance"),
            *_shares(task),
        )
        for name, task in tasks.items()
    ]
    scores = (unit_of(metric).head(metric) for metric in (*_CHOICES, "chance"))
    columns = ("task", "shots", "items", *scores, "cut, %", "seams differ, %")
    caption = (
        "± is one standard error. bits_per_byte: bits per byte of the right answer. acc is the harness's accuracy,"
        " acc_bytes that of the log-likelihood per byte, acc_mutual_info that of the log-likelihood less that without"
        " the prompt, probability that of the right answer among the choices, whose chance is that of accuracy. cut:"
        f" prompts that lost their beginning; figures in brackets: more than {CUT_SHARE:.0%} of them. seams differ:"
        " items whose tokens are others when context and continuation are encoded together or apart."
    )
    return Table(columns, rows, caption).without_empty_columns()


def _other_table(tasks: Mapping[str, Mapping[str, Any]]) -> Table:
    rows = [
        (
            name,
            task["shots"],
            task["items"],
            unit_of(metric).head(metric),
            _bracketed(_score(task, metric), task),
            _shares(task)[0],
        )
        for name, task in tasks.items()
        for metric in _metrics(task)
    ]
    caption = (
        "Metrics as the tasks define them, ± one standard error. cut: prompts that lost their beginning; figures in"
        f" brackets: more than {CUT_SHARE:.0%} of them."
    )
    return Table(("task", "shots", "items", "metric", "value", "cut, %"), rows, caption)


def _difference_table(
    compared: Mapping[str, Mapping[str, Mapping[str, float]]], settings_that_differ: Sequence[str]
) -> Table:
    rows: list[tuple[str | int, ...]] = []
    for name, differences in compared.items():
        for metric, of in differences.items():
            unit = unit_of(metric)
            difference, low, high = (unit.change(of[key]) for key in ("difference", "low", "high"))
            rows.append((name, unit.head(metric), int(of["items"]), difference, f"{low} to {high}"))
    rows += [(name, "no item of both", 0, "–", "–") for name, differences in compared.items() if not differences]
    caption = (
        "This run less the other, over the items of both; the 95 % interval is a bootstrap over items. Differences"
        " of scores in per cent are in percentage points."
    )
    if settings_that_differ:
        caption += f" Not the model alone differs: {'; '.join(settings_that_differ)}."
    return Table(("task", "metric", "items", "difference", "95 % interval"), rows, caption)


def _metrics(task: Mapping[str, Any]) -> list[str]:
    return [name for name in task if name not in COUNTS and not name.endswith("_stderr")]


def _shares(task: Mapping[str, Any]) -> Sequence[str]:
    """Returns the shares of prompts that were cut and of items whose tokens depend on the seam, in per cent."""
    return (
        PER_CENT.text(task["cut_requests"] / max(1, task["requests"])),  # those of an empty prompt are none
        PER_CENT.text(task["seam_differs"] / task["items"]),
    )


def _score(task: Mapping[str, Any], metric: str, places: int | None = None) -> str | None:
    error = task.get(f"{metric}_stderr", math.nan)
    return None if metric not in task else unit_of(metric).text(task[metric], error, places)


def _bracketed(text: str | None, task: Mapping[str, Any]) -> str | None:
    return f"({text})" if text and _was_cut(task) else text


def _was_cut(task: Mapping[str, Any]) -> bool:
    return task["cut_requests"] > CUT_SHARE * task["requests"]


def _format(bits: float | None) -> str | None:
    return None if bits is None else f"{bits:.3f}"
