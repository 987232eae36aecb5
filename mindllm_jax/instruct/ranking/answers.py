"""Greedy answers of runs to the prompts, kept in WORKDIR/answers/NAME.jsonl.

A line is the answer to a prompt, with what it depends on: hashes of the run's weights and of the prompt's messages, and
`max_tokens`. An answer that depends on anything else is refused, so that a ranking never mixes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mindllm_jax.batching.chat_format import encode_prompt
from mindllm_jax.instruct.answers import greedy_answers
from mindllm_jax.instruct.kept_lines import appending, kept_lines
from mindllm_jax.instruct.ranking.prompts import Prompt
from mindllm_jax.instruct.ranking.settings import REFERENCE, RankAnswers
from mindllm_jax.training.load_run import RunRecord, load_decoder, weights_identity

BATCHES = 8  # answered before they are kept; more are sorted by length, which saves padding


class Answer(NamedTuple):
    """The answer of a model to a prompt, and how many tokens of the prompt's beginning it did not fit with."""

    text: str
    cut: int = 0


Answers = dict[str, dict[str, Answer]]
"""Answers by model and id of the prompt."""


def kept_answers(
    config: RankAnswers, workdir: Path, prompts: Sequence[Prompt], records: Mapping[str, RunRecord]
) -> Answers:
    """Returns the answers that are there, the references among them.

    Raises ValueError that names a line which is damaged, or was answered by other weights, to another prompt, or with
    another `max_tokens`.
    """
    answers: Answers = {name: _kept(config, workdir, prompts, name, record) for name, record in records.items()}
    if config.with_reference:
        answers[REFERENCE] = {prompt.id: Answer(prompt.reference) for prompt in prompts}
    return answers


def add_answers(
    config: RankAnswers,
    workdir: Path,
    prompts: Sequence[Prompt],
    name: str,
    record: RunRecord,
    known: dict[str, Answer],
) -> None:
    """Asks a run for the answers that it has not given, keeps them, and adds them to `known`.

    Raises OSError when they cannot be written, ValueError where the checkpoint is damaged or a prompt is malformed.
    """
    missing = [prompt for prompt in prompts if prompt.id not in known]
    if not missing:
        return
    run, weights = load_decoder(record), weights_identity(record)
    with appending(_path(workdir, name)) as append:
        for start in range(0, len(missing), BATCHES * config.batch_size):
            part = missing[start : start + BATCHES * config.batch_size]
            ids = [encode_prompt(run.tokenizer, prompt.messages) for prompt in part]
            given = greedy_answers(
                run.decoder, run.tokenizer, ids, max_tokens=config.max_tokens, batch_size=config.batch_size
            )
            for prompt, one in zip(part, given, strict=True):
                known[prompt.id] = Answer(one.text, one.cut)
                append({"id": prompt.id, "answer": one.text, "cut": one.cut} | _depends_on(config, prompt, weights))
            print(f"{name}: {len(known)} of {len(prompts)} prompts answered")


def _kept(
    config: RankAnswers, workdir: Path, prompts: Sequence[Prompt], name: str, record: RunRecord
) -> dict[str, Answer]:
    path, answers = _path(workdir, name), dict[str, Answer]()
    if not path.exists():
        return answers
    weights = weights_identity(record)
    by_id = {prompt.id: prompt for prompt in prompts}
    for number, row in kept_lines(path, ("id", "answer")):
        if (prompt := by_id.get(row["id"])) is None:
            continue
        reasons = {
            "weights": f"{config.runs[name]} had other weights (it was trained on, or is another run)",
            "prompt": f"the prompt {prompt.id!r} was another one",
            "max_tokens": f"RankAnswers.max_tokens was {row.get('max_tokens')}",
        }
        for key, value in _depends_on(config, prompt, weights).items():
            if row.get(key) != value:
                raise ValueError(
                    f"{path}, line {number}: {reasons[key]} when this was answered: take another --workdir, or remove "
                    "the file to have all its prompts answered again"
                )
        answers[prompt.id] = Answer(row["answer"], row.get("cut", 0))
    return answers


def _depends_on(config: RankAnswers, prompt: Prompt, weights: str) -> dict[str, Any]:
    return {"weights": weights[:24], "prompt": prompt.digest[:24], "max_tokens": config.max_tokens}


def _path(workdir: Path, name: str) -> Path:
    return workdir / "answers" / f"{name}.jsonl"
