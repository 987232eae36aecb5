"""Accuracy and weighted F1 of a tuned run on labelled conversations, from its greedy answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mindllm_jax.batching.chat_format import encode_prompt
from mindllm_jax.batching.chat_template import Message
from mindllm_jax.checks import require_at_least, require_local, require_seed
from mindllm_jax.files import write_text
from mindllm_jax.generation.engine import generate
from mindllm_jax.generation.sampling import Sampling
from mindllm_jax.reporting.tables import Table
from mindllm_jax.text.input_files import input_files
from mindllm_jax.text.json_lines import BadLine, lines, parse
from mindllm_jax.training.load_run import LoadedRun

NO_LABEL = "(none)"
"""The prediction of an answer in which no label occurs; it is always wrong."""


@dataclass(frozen=True)
class Classify:
    """Settings of a score by labels.

    Attributes:
        run: the folder of the tuned run.
        inputs: files of `launch/prepare_instructions.py`, of text that the run was not tuned on.
        mark: the label stands behind the last of these in an answer; where there is none, the whole answer is read.
        max_tokens: of an answer.
        limit: rows that are read; None: all.
        batch_size: answers decoded at a time.
        resamples: of the bootstrap that gives 95% intervals.
        seed: of the bootstrap.
    """

    run: str
    inputs: tuple[str, ...]
    mark: str = "答案："
    max_tokens: int = 64
    limit: int | None = None
    batch_size: int = 16
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        require_local(self, "run", "inputs")
        require_at_least(self, 1, "max_tokens", "limit", "batch_size", "resamples")
        require_seed(self, "seed")


class Labelled(NamedTuple):
    """A conversation up to its answer, and the label."""

    id: str
    messages: list[Message]
    label: str


def classify(config: Classify, run: LoadedRun, rows: Sequence[Labelled]) -> dict[str, Any]:
    """Answers every row greedily, and returns scores and predictions as JSON values.

    Raises ImportError where scikit-learn is not installed, ValueError where a prompt is malformed.
    """
    scores_of(["a"], ["a"], ["a"], resamples=1, seed=0)  # an import that fails does so before the long part
    prompts = [encode_prompt(run.tokenizer, row.messages) for row in rows]
    answers = generate(
        run.decoder,
        run.tokenizer,
        prompts,
        Sampling(temperature=0.0, max_tokens=config.max_tokens),
        stop_ids=run.tokenizer.ends,
        truncate=True,
        batch_size=config.batch_size,
    )
    labels = sorted({row.label for row in rows})
    predictions = [label_of(answer.text, labels, config.mark) for answer in answers]
    truth = [row.label for row in rows]
    return {
        "run": config.run,
        "step": run.step,
        "rows": len(rows),
        "cut_prompts": sum(answer.cut > 0 for answer in answers),
        "scores": scores_of(truth, predictions, labels, resamples=config.resamples, seed=config.seed),
        "predictions": [
            {"id": row.id, "label": row.label, "predicted": predicted, "answer": answer.text}
            for row, predicted, answer in zip(rows, predictions, answers, strict=True)
        ],
    }


def read_labelled(config: Classify) -> list[Labelled]:
    """Reads the rows. Raises OSError where a file is missing, ValueError that names a line without a label."""
    rows: list[Labelled] = []
    for file in input_files(config.inputs):
        for number, line in lines(file):
            try:
                rows.append(_labelled(parse(line)))
            except BadLine as bad:
                raise ValueError(f"{file}, line {number}: {bad}; write it by launch/prepare_instructions.py") from None
    return rows[: config.limit]


def label_of(answer: str, labels: Sequence[str], mark: str) -> str:
    """Returns the label that comes first in an answer, behind its last mark; of two at one place the longer one."""
    text = answer.rpartition(mark)[2] if mark else answer
    places = [(text.find(label), -len(label), label) for label in labels if label in text]
    return min(places)[2] if places else NO_LABEL


def scores_of(
    truth: Sequence[str], predictions: Sequence[str], labels: Sequence[str], *, resamples: int, seed: int
) -> dict[str, Any]:
    """Returns accuracy, weighted F1 and the share of answers without a label, the first two with 95% intervals."""
    try:
        from sklearn.metrics import accuracy_score, f1_score
    except ImportError:
        raise ImportError("scores by labels need scikit-learn; install mindllm-jax[labels]") from None
    true, predicted = np.array(truth, object), np.array(predictions, object)

    def both(rows: np.ndarray) -> tuple[float, float]:
        settings: Any = {"labels": list(labels), "average": "weighted", "zero_division": 0}
        weighted = f1_score(true[rows], predicted[rows], **settings)
        return float(accuracy_score(true[rows], predicted[rows])), float(weighted)

    draw = np.random.default_rng(seed)
    drawn = np.array([both(draw.integers(0, len(true), len(true))) for _ in range(resamples)])
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    values = both(np.arange(len(true)))
    scores: dict[str, Any] = {}
    for index, name in enumerate(("accuracy", "weighted_f1")):
        scores[name] = values[index]
        scores[f"{name}_interval"] = [float(low[index]), float(high[index])]
    return scores | {"without_label": float(np.mean(predicted == NO_LABEL))}


def scores_table(result: dict[str, Any]) -> Table:
    """Tabulates the scores of `classify`."""
    scores = result["scores"]
    rows = [
        (name, f"{scores[name]:.4f}", "{:.4f} to {:.4f}".format(*scores[f"{name}_interval"]))
        for name in ("accuracy", "weighted_f1")
    ]
    rows.append(("answers without a label", f"{scores['without_label']:.4f}", ""))
    return Table(("score", "value", "95% interval"), rows, f"{result['rows']} rows, {result['run']}")


def _labelled(row: Any) -> Labelled:
    match row:
        case {"id": str(id), "label": str(label), "messages": [*messages, {"role": "assistant"}]}:
            return Labelled(id, [Message(one["role"], one["content"]) for one in messages], label)
    raise BadLine("no label", "not an object with `id`, `label` and `messages` that end with an assistant's")


def write_result(result: dict[str, Any], workdir: Path) -> Path:
    """Writes scores.json into a folder and returns its path."""
    path = workdir / "scores.json"
    write_text(path, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return path
