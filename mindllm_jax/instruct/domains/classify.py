"""Accuracy and weighted F1 of a tuned run on labelled conversations, with 95% intervals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindllm_jax.checks import require_at_least, require_local, require_seed
from mindllm_jax.files import write_text
from mindllm_jax.instruct.domains.labels import (
    LabelledRows,
    Labels,
    accuracy_and_f1,
    encoded_prompts,
    predict,
    share_without,
)
from mindllm_jax.reporting.tables import Table
from mindllm_jax.training.load_run import LoadedRun


@dataclass(frozen=True)
class Classify:
    """Settings of a score by labels.

    Attributes:
        run: the folder of the tuned run.
        labels: the labelled conversations.
        resamples: of the bootstrap that gives 95% intervals.
        seed: of the bootstrap.
    """

    run: str
    labels: Labels
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        require_local(self, "run")
        require_at_least(self, 1, "resamples")
        require_seed(self, "seed")


def classify(config: Classify, run: LoadedRun, labelled: LabelledRows) -> dict[str, Any]:
    """Answers every row greedily, and returns scores and predictions as JSON values.

    Raises ImportError where scikit-learn is not installed, ValueError where a prompt is malformed.
    """
    accuracy_and_f1(["a"], ["a"], ["a"])  # an import that fails does so before the long part
    rows, labels = labelled
    prompts = encoded_prompts(run.tokenizer, rows)
    predictions = predict(config.labels, run.decoder, run.tokenizer, labels, prompts)
    truth, predicted = [row.label for row in rows], [one.label for one in predictions]
    return {
        "run": config.run,
        "step": run.step,
        "rows": len(rows),
        "cut_prompts": sum(one.cut_prompt for one in predictions),
        "cut_answers": sum(one.cut_answer for one in predictions),
        "scores": scores_of(truth, predicted, labels, resamples=config.resamples, seed=config.seed),
        "predictions": [
            {"id": row.id, "label": row.label, "predicted": one.label, "answer": one.answer}
            for row, one in zip(rows, predictions, strict=True)
        ],
    }


def scores_of(
    truth: Sequence[str], predictions: Sequence[str], labels: Sequence[str], *, resamples: int, seed: int
) -> dict[str, Any]:
    """Returns accuracy, weighted F1 and the share of answers without a label, the first two with 95% intervals."""
    true, predicted = np.array(truth, object), np.array(predictions, object)
    draw = np.random.default_rng(seed)
    draws = (draw.integers(0, len(true), len(true)) for _ in range(resamples))
    drawn = np.array([accuracy_and_f1(true[rows], predicted[rows], labels) for rows in draws])
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    values = accuracy_and_f1(true, predicted, labels)
    scores: dict[str, Any] = {}
    for index, name in enumerate(("accuracy", "weighted_f1")):
        scores[name] = values[index]
        scores[f"{name}_interval"] = [float(low[index]), float(high[index])]
    return scores | {"without_label": share_without(predictions)}


def scores_table(result: dict[str, Any]) -> Table:
    """Tabulates the scores of `classify`."""
    scores = result["scores"]
    rows = [
        (name, f"{scores[name]:.4f}", "{:.4f} to {:.4f}".format(*scores[f"{name}_interval"]))
        for name in ("accuracy", "weighted_f1")
    ]
    rows.append(("answers without a label", f"{scores['without_label']:.4f}", ""))
    caption = f"{result['rows']} rows, {result['run']}; {result['cut_answers']} answers cut at Labels.max_tokens"
    return Table(("score", "value", "95% interval"), rows, caption)


def write_result(result: dict[str, Any], workdir: Path) -> Path:
    """Writes scores.json into a folder and returns its path."""
    path = workdir / "scores.json"
    write_text(path, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return path
