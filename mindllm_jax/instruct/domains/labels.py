"""Labels that greedy answers give to labelled conversations, and a measurement of them while a run is tuned."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mindllm_jax.batching.chat_format import encode_prompt
from mindllm_jax.batching.chat_template import Message
from mindllm_jax.checks import require_at_least, require_local
from mindllm_jax.instruct.answers import greedy_answers
from mindllm_jax.model.decoder import Decoder
from mindllm_jax.text.input_files import input_files
from mindllm_jax.text.json_lines import BadLine, lines, parse
from mindllm_jax.tokenization.tokenizer import Tokenizer

NO_LABEL = "(none)"
"""The prediction of an answer in which no label occurs; it is always wrong."""

LABEL_SCORES = ("label_accuracy", "label_f1", "without_label")
"""The metrics of `label_scores`."""


@dataclass(frozen=True)
class Labels:
    """Settings of labelled conversations, and of how the label of an answer is read.

    Attributes:
        inputs: files of `launch/prepare_instructions.py`, of text that the run was not tuned on; empty: none.
        mark: the label stands behind the last of these in an answer; where there is none, the whole answer is read,
            unless `max_tokens` cut it, as it does a long rationale: such an answer has no label.
        max_tokens: of an answer, its rationale included.
        limit: rows that are scored; None: all.
        batch_size: answers decoded at a time.
    """

    inputs: tuple[str, ...] = ()
    mark: str = "答案："
    max_tokens: int = 64
    limit: int | None = None
    batch_size: int = 16

    def __post_init__(self) -> None:
        require_local(self, "inputs")
        require_at_least(self, 1, "max_tokens", "limit", "batch_size")


class Labelled(NamedTuple):
    """A conversation up to its answer, and the label."""

    id: str
    messages: list[Message]
    label: str


class LabelledRows(NamedTuple):
    """The rows that are scored, and the different labels of all rows of their files, sorted."""

    rows: list[Labelled]
    labels: list[str]


class Predicted(NamedTuple):
    """The label that an answer gives, or `NO_LABEL`; the answer; whether its prompt, or the answer, was cut."""

    label: str
    answer: str
    cut_prompt: bool
    cut_answer: bool


def read_labelled(config: Labels) -> LabelledRows:
    """Reads the rows.

    Raises OSError where a file is missing, ValueError where none is named, none has a row, or that names a line without
    a label.
    """
    if not config.inputs:
        raise ValueError("Labels.inputs is empty: name the files of labelled conversations")
    rows: list[Labelled] = []
    for file in input_files(config.inputs):
        for number, line in lines(file):
            try:
                rows.append(_labelled(parse(line)))
            except BadLine as bad:
                raise ValueError(f"{file}, line {number}: {bad}; write it by launch/prepare_instructions.py") from None
    if not rows:
        raise ValueError(f"Labels.inputs: there is no row in {', '.join(config.inputs)}")
    return LabelledRows(rows[: config.limit], sorted({row.label for row in rows}))


def encoded_prompts(tokenizer: Tokenizer, rows: Sequence[Labelled]) -> list[np.ndarray]:
    """Returns the ids of the rows' prompts, int32 [T] each. Raises ValueError where one is malformed."""
    return [encode_prompt(tokenizer, row.messages) for row in rows]


def predict(
    config: Labels, decoder: Decoder, tokenizer: Tokenizer, labels: Sequence[str], prompts: Sequence[np.ndarray]
) -> list[Predicted]:
    """Answers prompts greedily and reads which of the labels each answer gives; prompts: of `encoded_prompts`."""
    answers = greedy_answers(decoder, tokenizer, prompts, max_tokens=config.max_tokens, batch_size=config.batch_size)
    cut = [one.finish == "length" for one in answers]
    return [
        Predicted(label_of(one.text, labels, config.mark, is_cut=is_cut), one.text, one.cut > 0, is_cut)
        for one, is_cut in zip(answers, cut, strict=True)
    ]


def label_scores(
    config: Labels, tokenizer: Tokenizer, labelled: LabelledRows
) -> Callable[[Decoder], Mapping[str, float]]:
    """Returns a measurement for the training loop: `LABEL_SCORES`, of which F1 is weighted by the labels.

    Raises ImportError where scikit-learn is not installed, ValueError where a prompt is malformed.
    """
    accuracy_and_f1(["a"], ["a"], ["a"])  # an import that fails does so before the run
    rows, labels = labelled
    prompts, truth = encoded_prompts(tokenizer, rows), [row.label for row in rows]

    def measure(decoder: Decoder) -> dict[str, float]:
        predictions = [one.label for one in predict(config, decoder, tokenizer, labels, prompts)]
        accuracy, weighted = accuracy_and_f1(truth, predictions, labels)
        return dict(zip(LABEL_SCORES, (accuracy, weighted, share_without(predictions)), strict=True))

    return measure


def label_of(answer: str, labels: Sequence[str], mark: str, *, is_cut: bool = False) -> str:
    """Returns the label that comes first in an answer, behind its last mark; of two at one place the longer one.

    A label inside a longer Latin word, or right behind a negation, does not count.
    """
    _, found, text = answer.rpartition(mark) if mark else ("", "", answer)
    if is_cut and mark and not found:
        return NO_LABEL
    places = [(match.start(), -len(label), label) for label in labels if (match := _occurrence(label).search(text))]
    return min(places)[2] if places else NO_LABEL


_LATIN = "[0-9A-Za-zÀ-ɏ]"
_NEGATED = "(?<!不)(?<!不是)(?<!非)(?<!(?i:n[o'’]t) )"


def _occurrence(label: str) -> re.Pattern[str]:
    begin = f"(?<!{_LATIN})" if re.match(_LATIN, label) else ""
    end = f"(?!{_LATIN})" if re.search(f"{_LATIN}$", label) else ""
    return re.compile(f"{_NEGATED}{begin}{re.escape(label)}{end}")


def accuracy_and_f1(
    truth: Sequence[str] | np.ndarray, predictions: Sequence[str] | np.ndarray, labels: Sequence[str]
) -> tuple[float, float]:
    """Returns accuracy and weighted F1 by scikit-learn. Raises ImportError where it is not installed."""
    try:
        from sklearn.metrics import accuracy_score, f1_score
    except ImportError:
        raise ImportError("scores by labels need scikit-learn; install mindllm-jax[labels]") from None
    settings: Any = {"labels": list(labels), "average": "weighted", "zero_division": 0}
    return float(accuracy_score(truth, predictions)), float(f1_score(truth, predictions, **settings))


def share_without(predictions: Sequence[str]) -> float:
    """Returns the share of predictions without a label."""
    return sum(label == NO_LABEL for label in predictions) / len(predictions)


def _labelled(row: Any) -> Labelled:
    match row:
        case {"id": str(id), "label": str(label), "messages": [first, *others, {"role": "assistant"}]}:
            return Labelled(id, [_message(one) for one in (first, *others)], label)
    raise BadLine("no label", "not an object with `id`, `label` and `messages` that end with an assistant's")


def _message(value: Any) -> Message:
    match value:
        case {"role": str(role), "content": str(content)}:
            return Message(role, content)
    raise BadLine("no message", f"a message without `role` and `content`: {value!r:.80}")
