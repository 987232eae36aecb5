"""Conversations of a domain from its records: one recipe, of which law, finance and medicine are settings."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from mindllm_jax.checks import require_local
from mindllm_jax.files import json_sha256, write_bytes
from mindllm_jax.instruct.domains.rationales import read_rationales
from mindllm_jax.instruct.domains.records import Record, fields_of, filled, read_records, require_template
from mindllm_jax.reporting.tables import Table
from mindllm_jax.text.input_files import input_files
from mindllm_jax.text.json_lines import BadLine

Parsed = TypeVar("Parsed")

RATIONALE = "_rationale"
"""Ends the name of the dataset of rationales, which the auxiliary set-up has beside that of labels."""


@dataclass(frozen=True)
class PrepareInstructions:
    """Settings by which records of a domain become a dataset of conversations.

    Templates are texts with fields of the record in braces, as {question}; the fields of an array are {0}, {1}, …. The
    last three know {asked}, {answered} and {rationale}: the filled `question`, `answer`, and the record's rationale.

    Attributes:
        inputs: files of JSON lines, plain or gzip, or folders of them.
        exclude: files of records whose questions are left out, as of those that are scored later; the fields that
            `question` names are compared, and the records need no answer.
        output: the folder to write; it gets `name`.jsonl.gz, and loses the rationales of an earlier auxiliary set-up.
        name: of the dataset.
        question: template of the user's message.
        answer: template of the assistant's message.
        context: template in front of the question, as of statutes; left out for a record that lacks one of its fields.
        system: the system message, without fields; "" for none.
        labels: the answers that there are, and how each is spelt; a record with another answer is a bad one. Empty:
            any answer.
        remove: regular expressions of what is deleted from every field, as residue of another chat format.
        setup: "label" answers with `answer`; "chain_of_thought" with the rationale and the answer; "auxiliary" writes
            the dataset of "label" and one of rationales, `name`_rationale, for `Instructions.weights` to mix.
        rationales: the file of `launch/rationales.py`, for the last two; a record without one, or with
            one of another answer, is left out and counted.
        thought_question: template of the user's message of "chain_of_thought".
        thought_answer: template of its answer, which ends with the label.
        rationale_question: template of the user's message of the auxiliary task, whose answer is the rationale.
        on_bad: "error" raises on a bad record, "skip" skips and counts it.
    """

    inputs: tuple[str, ...]
    output: str
    name: str
    question: str = "{instruction}"
    answer: str = "{output}"
    context: str = ""
    system: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    setup: Literal["label", "chain_of_thought", "auxiliary"] = "label"
    rationales: str = ""
    thought_question: str = "{asked}\n请先说明理由，再给出答案。"
    thought_answer: str = "{rationale}\n答案：{answered}"
    rationale_question: str = "{asked}\n请只说明理由，不给出答案。"
    on_bad: Literal["error", "skip"] = "error"

    def __post_init__(self) -> None:
        require_local(self, "inputs", "exclude", "output", "rationales")
        if not re.fullmatch(r"[\w-]+", self.name):
            raise ValueError(f"PrepareInstructions.name = {self.name!r}: letters, digits, _ and - alone")
        if self.name.endswith(RATIONALE):
            raise ValueError(f"PrepareInstructions.name = {self.name!r}: names in {RATIONALE!r} are of rationales")
        for name in ("question", "answer", "thought_question", "thought_answer", "rationale_question"):
            require_template(f"PrepareInstructions.{name}", getattr(self, name))
        if self.context:
            require_template("PrepareInstructions.context", self.context)
        if self.setup != "label" and not self.rationales:
            raise ValueError(
                f"PrepareInstructions.setup = {self.setup!r} needs PrepareInstructions.rationales: write the file by "
                "launch/rationales.py"
            )
        for pattern in self.remove:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(
                    f"PrepareInstructions.remove: {pattern!r} is not a regular expression: {error}"
                ) from None


class Asked(NamedTuple):
    """A record as a question and its answer.

    Attributes:
        id: of the record.
        question_id: hash of the fields that the question names, whatever its wording.
    """

    id: str
    question: str
    answer: str
    question_id: str


def asked_records(config: PrepareInstructions, counts: Counter[str]) -> Iterator[Asked]:
    """Yields every record once as a question and its answer; adds to `counts` what is left out.

    Raises OSError or ValueError as `read_records` does.
    """
    excluded = _excluded(config, counts)
    for record in _read(config, config.inputs, _asked, counts):
        if record.question_id in excluded:
            counts["its question is in PrepareInstructions.exclude"] += 1
        else:
            yield record


def _excluded(config: PrepareInstructions, counts: Counter[str]) -> set[str]:
    """Returns the question ids of `exclude`; adds to `counts` the records that have none."""
    if not config.exclude:
        return set()
    bad = Counter[str]()
    found = set(_read(config, config.exclude, _question_id, bad))
    del bad["duplicate"]
    if not found:
        raise ValueError(
            f"PrepareInstructions.exclude: no record of {', '.join(config.exclude)} has the fields of "
            f"PrepareInstructions.question = {config.question!r}"
        )
    counts.update({f"record of PrepareInstructions.exclude, not compared ({kind})": bad[kind] for kind in bad})
    return found


def _read(
    config: PrepareInstructions,
    inputs: Sequence[str],
    parse: Callable[[PrepareInstructions, Record], Parsed],
    counts: Counter[str],
) -> Iterator[Parsed]:
    """Yields what `parse` makes of every record of `inputs`, once; adds to `counts` what is left out."""
    seen: set[str] = set()
    for file in input_files(inputs):
        skipped = Counter[str]()
        for record in read_records(file, config.remove, on_bad=config.on_bad, skipped=skipped):
            if record.id in seen:
                counts["duplicate"] += 1
                continue
            seen.add(record.id)
            try:
                yield parse(config, record)
            except BadLine as bad:
                if config.on_bad == "error":
                    shown = json.dumps(record.fields, ensure_ascii=False)[:120]
                    raise ValueError(f"{file}: {bad} (or skip such records with on_bad = 'skip'): {shown}") from None
                skipped[bad.kind] += 1
        counts.update(skipped)


def prepare_instructions(config: PrepareInstructions) -> Table:
    """Writes the datasets of the set-up, and returns the numbers of their conversations.

    Raises OSError or ValueError for an input that is missing, malformed or leaves nothing to write.
    """
    counts, origins = Counter[str](), Counter[str]()
    rationales = {} if config.setup == "label" else read_rationales(Path(config.rationales))
    datasets: dict[str, list[dict[str, Any]]] = {}
    for record in asked_records(config, counts):
        fields = {"asked": record.question, "answered": record.answer}
        if config.setup != "label":
            rationale = rationales.get(record.id)
            if rationale is None or rationale.answer not in (None, record.answer):
                counts["no rationale" if rationale is None else "its rationale is of another answer"] += 1
                continue
            origins[rationale.origin] += 1
            fields["rationale"] = rationale.text
        question, answer = record.question, record.answer
        if config.setup == "chain_of_thought":
            question, answer = filled(config.thought_question, fields), filled(config.thought_answer, fields)
        datasets.setdefault(config.name, []).append(_row(config, record, question, answer))
        if config.setup == "auxiliary":
            row = _row(config, record, filled(config.rationale_question, fields), fields["rationale"])
            datasets.setdefault(f"{config.name}{RATIONALE}", []).append(row)
    reasons = [f"{count} left out: {reason}" for reason, count in sorted(counts.items())]
    if not datasets:
        raise ValueError(f"PrepareInstructions.inputs leave no conversation: {'; '.join(reasons) or 'they are empty'}")
    for name, rows in datasets.items():
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_bytes(_file(config, name), gzip.compress(content.encode(), mtime=0))
    if config.setup != "auxiliary":  # an earlier one wrote it
        _file(config, f"{config.name}{RATIONALE}").unlink(missing_ok=True)
    table = [
        (name, len(rows), len({row["messages"][-1]["content"] for row in rows})) for name, rows in datasets.items()
    ]
    notes = [*reasons, *(f"{count} rationales by {origin}" for origin, count in sorted(origins.items()))]
    return Table(("dataset", "conversations", "different answers"), table, "; ".join(notes))


def _file(config: PrepareInstructions, dataset: str) -> Path:
    return Path(config.output) / f"{dataset}.jsonl.gz"


def _asked(config: PrepareInstructions, record: Record) -> Asked:
    question, answer = filled(config.question, record.fields), filled(config.answer, record.fields)
    if config.labels and answer not in config.labels:
        raise BadLine("unknown label", f"the answer {answer!r} is none of {', '.join(config.labels)}")
    if config.context:
        with contextlib.suppress(BadLine):  # as a question without statutes
            question = f"{filled(config.context, record.fields)}\n\n{question}"
    return Asked(record.id, question, config.labels.get(answer, answer), _question_id(config, record))


def _question_id(config: PrepareInstructions, record: Record) -> str:
    """Returns the hash of the fields that the question names. Raises BadLine where one is missing or empty."""
    filled(config.question, record.fields)
    named = {name: record.fields[name] for name in fields_of(config.question)}
    return json_sha256(named, sort_keys=True, ensure_ascii=False)[:16]


def _row(config: PrepareInstructions, record: Asked, question: str, answer: str) -> dict[str, Any]:
    system = [{"role": "system", "content": config.system}] if config.system else []
    messages = [*system, {"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    label = {"label": record.answer} if config.labels else {}
    # Records of one question have one id, so that they are on one side of `Instructions.held_out`.
    return {"id": record.question_id, **label, "messages": messages}
