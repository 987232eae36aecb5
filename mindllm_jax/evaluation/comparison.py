"""Paired comparison of two evaluations: both answer the same items, so that the items' difficulty cancels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mindllm_jax.evaluation.harness.run import TaskResult
from mindllm_jax.evaluation.measures import sample_measures
from mindllm_jax.files import parse_json, read_json
from mindllm_jax.run_records import differences
from mindllm_jax.text.json_lines import lines

DRAWS = 2000
"""Resamples of the items."""
SEED = 0
_INTERVAL = (2.5, 97.5)  # percentiles: 95 %
_OF_THE_MODEL = ("tokenizer_sha256", "vocab_size")  # in the record of a protocol
_AT_A_TIME = 1 << 24  # drawn numbers in memory

ItemKey = tuple[str, str, int]  # filter, hash of the item, which of the items with this hash
Scores = dict[str, dict[ItemKey, float]]  # by metric


class Difference(NamedTuple):
    """The mean of paired differences, ours minus theirs, with a 95 % interval by bootstrap over items."""

    difference: float
    low: float
    high: float
    items: int


def compare(result: TaskResult, other: Path) -> dict[str, dict[str, float]]:
    """Compares a task's samples with those in the folder of another evaluation, item by item.

    Returns the fields of `Difference` by metric, of the metrics that both have; items that only one has are left out.
    Raises ValueError where a file of samples is damaged.
    """
    ours: Scores = {}
    theirs: Scores = {}
    for name, records in result.samples.items():
        _collect(ours, name, records)
        path = other / f"samples_{name}.jsonl"
        if path.exists():
            _collect(theirs, name, _read(path))
    found = {}
    for metric in ours:
        pairs = [(value, theirs[metric][key]) for key, value in ours[metric].items() if key in theirs.get(metric, {})]
        if pairs:
            found[metric] = paired([a - b for a, b in pairs])._asdict()
    return found


def settings_that_differ(result: Mapping[str, Any], shots: Mapping[str, int], other: Path) -> list[str]:
    """Returns what two evaluations do not have in common beside the model, as lines.

    The protocol, max_gen_toks, and the shots of the tasks that both have are compared. Items need no setting: they are
    paired by their hash.

    Args:
        result: the beginning of our eval.json.
        shots: examples in a prompt of ours, by task.
        other: folder of the other evaluation.

    Raises ValueError where the other's eval.json is damaged.
    """
    path = other / "eval.json"
    if not path.exists():
        return [f"the other's settings are not known: there is no {path}"]
    theirs = read_json(path)
    if "protocol" not in theirs:
        return [f"the other's settings are not known: {path} has no `protocol`"]
    try:
        of_both = {name: task["shots"] for name, task in theirs.get("tasks", {}).items() if name in shots}
        old = _settings(theirs, of_both)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: not the result of an evaluation ({error!r})") from None
    return differences(old, _settings(result, {name: shots[name] for name in of_both}), verbs=("there", "here"))


def _settings(result: Mapping[str, Any], shots: Mapping[str, int]) -> dict[str, Any]:
    tokens = result.get("task_settings", {}).get("max_gen_toks")
    protocol = {name: value for name, value in result["protocol"].items() if name not in _OF_THE_MODEL}
    return {"protocol": protocol, "max_gen_toks": tokens, "shots": dict(shots)}


def paired(values: Sequence[float], draws: int = DRAWS, seed: int = SEED) -> Difference:
    """Returns the mean of differences and the percentiles of the means of `draws` resamples of them."""
    array = np.asarray(values, np.float64)
    generator, count = np.random.default_rng(seed), len(array)
    size = max(1, _AT_A_TIME // count)
    means = [
        array[generator.integers(count, size=(min(size, draws - start), count))].mean(axis=1)
        for start in range(0, draws, size)
    ]
    low, high = np.percentile(np.concatenate(means), _INTERVAL)
    return Difference(float(array.mean()), float(low), float(high), count)


def require_samples(folder: Path, tasks: Iterable[str]) -> None:
    """Raises FileNotFoundError where a folder holds no samples of any of these tasks."""
    names = list(tasks)
    if not any((folder / f"samples_{name}.jsonl").exists() for name in names):
        raise FileNotFoundError(
            f"Evaluate.against: {folder} holds no samples_TASK.jsonl of {', '.join(names) or 'any task'}; give the"
            " --workdir of an evaluation of the same tasks"
        )


def _collect(scores: Scores, task: str, records: Iterable[Mapping[str, Any]]) -> None:
    """Adds the numbers of each item by metric, those of `sample_measures` included."""
    seen: dict[tuple[str, str], int] = {}
    for record in records:
        key = record["filter"], f"{task}:{record['doc_hash']}"
        number = seen[key] = seen.get(key, -1) + 1
        values = {metric: record[metric] for metric in record["metrics"]} | sample_measures(record)
        for metric, value in values.items():
            if isinstance(value, int | float) and math.isfinite(value):
                label = metric if record["filter"] == "none" else f"{metric},{record['filter']}"
                scores.setdefault(label, {})[*key, number] = float(value)


def _read(path: Path) -> list[dict[str, Any]]:
    records = []
    for number, line in lines(path):
        where = f"{path}, line {number}"
        record = parse_json(line, where)
        if not record.keys() >= {"filter", "doc_hash", "metrics"}:
            raise ValueError(f"{where}: damaged: not a sample of an evaluation")
        records.append(record)
    return records
