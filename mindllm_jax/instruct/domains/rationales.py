"""Rationales of labelled records, asked of an OpenAI-compatible endpoint, and kept in a file that resumes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from mindllm_jax.checks import require_at_least
from mindllm_jax.files import json_sha256
from mindllm_jax.instruct.domains.rationale_rules import RULES
from mindllm_jax.instruct.domains.records import filled, require_template
from mindllm_jax.instruct.endpoint import Endpoint, Refused, Reply, ask, in_parallel
from mindllm_jax.instruct.kept_lines import appending, kept_lines

if TYPE_CHECKING:
    from mindllm_jax.instruct.domains.prepare import Asked


@dataclass(frozen=True)
class Rationales(Endpoint):
    """Settings of the rationales of a domain's records.

    Attributes:
        by: "endpoint" asks a model; "words" takes the words of a question that tell of its answer most
            (`telling_words`); "clause" takes its longest clause, which explains nothing and is for tests of the
            pipeline. Each line of the file says by which it was made.
        prompt: template of the message; {asked} and {answered} are the filled question and answer.
        longest: characters of a rationale; a longer reply counts as nonsense. One that `max_tokens` cuts is no
            rationale either.
        limit: records that are asked about in this start; None: all.
    """

    by: Literal["endpoint", "words", "clause"] = "endpoint"
    prompt: str = "{asked}\n答案是“{answered}”。请用一两句话说明理由，不要重复题目。"
    longest: int = 600
    limit: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "longest", "limit")
        require_template("Rationales.prompt", self.prompt)
        if self.by == "endpoint":
            self.require_model()


class Rationale(NamedTuple):
    """A rationale, the answer that it is of (None where its line has none), and the model or rule that it is from."""

    text: str
    answer: str | None
    origin: str


TEXTS = ("id", "rationale")
"""The texts of every line of the file."""


def write_rationales(
    config: Rationales, path: Path, records: Iterable[Asked], sleep: Callable[[float], None] = time.sleep
) -> Counter[str]:
    """Asks for the rationales that a file lacks, appends each as it comes, and returns counts of what happened.

    A line of the file has `id`, `key` (of the request), `from` (the model, or the rule), `answer` and `rationale`.

    The same command resumes: a kept rationale is not asked for again while model, prompt and answer are the same. A
    record without a usable reply gets no line, so that the next start asks again; a line of another model stays.

    Raises OSError when the file cannot be written or the endpoint cannot be connected to, ValueError when a line of the
    file is damaged, or when the endpoint refuses the key or does not know the model; as the rule does where there is
    one.
    """
    counts, records = Counter[str](), list(records)
    rule = RULES.get(config.by)
    origin = rule.origin if rule else config.model
    by_rule = rule.rationales(records) if rule else {}
    kept = {row["id"]: row.get("key", "") for _, row in kept_lines(path, TEXTS)} if path.exists() else dict[str, str]()
    missing = []
    for record in records:
        prompt = filled(config.prompt, {"asked": record.question, "answered": record.answer})
        asked = [by_rule.get(record.id)] if rule else [prompt, config.max_tokens]
        key = json_sha256([record.id, record.answer, origin, *asked])[:24]
        if kept.get(record.id) == key:
            counts["kept from before"] += 1
        else:
            missing.append((record, prompt, key))
    missing = missing[: config.limit]

    def explain(item: tuple[Asked, str, str]) -> tuple[str | None, Counter[str]]:
        record, prompt, _ = item
        if rule:  # "" where there is none, so that an older rationale no longer counts
            found = by_rule.get(record.id, "")
            return found, Counter(["by the rule" if found else "without a rationale"])
        rationale, happened = ask(config, prompt, lambda reply: _usable(reply, config.longest), sleep)
        if rationale is None:
            happened["without a rationale"] += 1
        return rationale, happened

    with appending(path) as append:
        for (record, _, key), (rationale, happened) in in_parallel(missing, explain, config.concurrency):
            counts.update(happened)
            if rationale is not None:
                row = {"id": record.id, "key": key, "from": origin, "answer": record.answer}
                append(row | {"rationale": rationale})
    return counts


def read_rationales(path: Path) -> dict[str, Rationale]:
    """Returns the rationales of a file by the id of their record; the last line of a record counts, if it has one.

    Raises OSError where there is no file, ValueError that names a damaged line.
    """
    last = {row["id"]: row for _, row in kept_lines(path, TEXTS)}
    return {
        id: Rationale(row["rationale"], row.get("answer"), str(row.get("from")))
        for id, row in last.items()
        if row["rationale"]
    }


def _usable(reply: Reply, longest: int) -> str | None:
    """Returns a text that could be a rationale, and None for any other. Raises Refused where it was cut."""
    if reply.is_cut:
        raise Refused("cut at max_tokens")
    return reply.text if reply.text and len(reply.text) <= longest and "\ufffd" not in reply.text else None
