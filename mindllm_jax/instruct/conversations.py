"""Reads files of published conversations; `reading` holds their formats and shapes."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from mindllm_jax.batching.chat_template import Message
from mindllm_jax.instruct.reading.fields import NO_METADATA, Turns, is_absent
from mindllm_jax.instruct.reading.records import dataset_name, records
from mindllm_jax.instruct.reading.shapes import conversations_of
from mindllm_jax.text.codepoints import codepoints, han
from mindllm_jax.text.documents import check_unicode, id_of, part_id
from mindllm_jax.text.json_lines import BadLine, parse_rows
from mindllm_jax.text.names import language_code

_TASKS = ("task", "category", "kind", "class")  # fields that name a task
_MIN_HAN = 0.2


class Conversation(NamedTuple):
    """Questions and their answers in turn, perhaps after a system message.

    Attributes:
        id: conversations with the same question share it where the record has none, so that a split has them on one
            side; several conversations of a record are parts of its id (`text.documents.part_id`).
        messages: user and assistant in turn, perhaps after a system message.
        dataset: the published set: the record's field `dataset`, or the file's name without its format's suffix.
        task: a field of the record (`task`, `category`, `kind`, `class`), or what its shape tells; "" where neither.
        lang: `zh`, `en` or `other`: the record's field `lang`, or `language_of` its texts.
        where: file and line.
        metadata: what the record says about the conversation: `score`, `laws`.
    """

    id: str
    messages: tuple[Message, ...]
    dataset: str = ""
    task: str = ""
    lang: str = ""
    where: str = ""
    metadata: Mapping[str, Any] = NO_METADATA


class Refused(NamedTuple):
    """A record that was skipped: its file and line, a few words to count by, and what was wrong."""

    where: str
    kind: str
    message: str


def read_conversations(
    path: Path,
    *,
    on_bad: Literal["error", "skip"] = "error",
    skipped: Counter[str] | None = None,
    refused: list[Refused] | None = None,
) -> Iterator[Conversation]:
    """Reads a file: JSON lines or one JSON array, plain or gzip; CSV with a header; parquet; lines `sentence@label`.

    A record is one conversation or several, in one of the shapes of `reading.shapes`:

    - `messages` or `conversations`: objects of `role` and `content`, or of `from` and `value`; user (or human) and
      assistant (or gpt) in turn, perhaps a system before them;
    - a list of such objects; or two, `prompt` and `completion`;
    - a question (`instruction`, `prompt`, `question`, `query`, `q`) and perhaps `input`, or `input` alone, answered by
      `output`, `response`, `completion`, `target`, `answer`, `std_answer` or `a`; earlier turns perhaps as pairs in
      `history`;
    - `chat`, as MOSS has it: objects `turn_1`, `turn_2`, … of `Human` and `MOSS`;
    - `instruction` with `instances`, as seed tasks have it: a conversation each;
    - fields `en_…` and `zh_…`: a conversation in each language;
    - `query` and `laws` of lawyer-llama, with `response` or a `history` of client and lawyer;
    - arrays of FinCUGE, by the task in the file's name; lines `sentence@label`; `text` and `label` of FinGPT's
      tweets, where the file's name says so.

    Any other list is an array of records, on one line or over many. A system prompt, as a message or in a field
    `system` of any record, is the first message; the chat template decides where it stands. Shapes may be mixed in one
    file.

    White space around questions and answers is dropped, and a blank, null or NaN field counts as absent. A record with
    a turn of a tool is malformed. A record is read as a whole or not at all. A number in `metadata.score` or `score` is
    the record's own score, that of each of its conversations.

    Args:
        path: the file, UTF-8.
        on_bad: whether a malformed record raises or is skipped.
        skipped: counts skipped records by reason.
        refused: skipped records are appended, each with its place.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is a damaged file or array, has no conversation, or (`on_bad="error"`) has a malformed record;
            the message names its line and field.
        ImportError: it is parquet, and pyarrow is not installed.
    """

    def parse_record(record: tuple[str, Any]) -> list[Conversation]:
        try:
            return _conversations(path, *record)
        except BadLine as bad:
            if refused is not None:
                refused.append(Refused(record[0], bad.kind, str(bad)))
            raise

    for several in parse_rows(
        path,
        ((where, (where, row)) for where, row in records(path)),
        parse_record,
        on_bad=on_bad,
        skipped=skipped,
        expected="conversation",
        example='{"instruction": "...", "output": "..."}',
    ):
        yield from several


def language_of(text: str) -> str:
    """Returns `zh`, `en` or `other` by the letters of a text.

    It is `zh` where at least a fifth of the letters are Han characters, each of which counts as two: Chinese answers
    with code in them are Chinese. Else it is `en` where most letters are Latin, and where there are none.
    """
    points = codepoints(text)
    letters = np.fromiter(map(str.isalpha, text), np.bool_, len(text))
    of_han = 2 * int(han()[points].sum())
    latin = int((letters & (points < 0x250)).sum())
    others = int(letters.sum()) - of_han // 2 - latin
    if of_han and of_han >= _MIN_HAN * (of_han + latin + others):
        return "zh"
    return "en" if latin >= others else "other"


def _conversations(path: Path, where: str, row: Any) -> list[Conversation]:
    """Returns the conversations of a record. Raises BadLine where it is malformed."""
    if isinstance(row, BadLine):
        raise row
    fields = row if isinstance(row, dict) else {}
    read = conversations_of(row, f"{path.parent.name}/{path.name}")
    texts = "".join([message.content for one in read for message in one.messages])
    id = id_of(fields)
    check_unicode(f"{id}{texts}")
    name = _question_id(read[0]) if id is None else id
    dataset = fields.get("dataset")
    score = _own_score(fields)
    task = next((str(fields[key]).strip() for key in _TASKS if isinstance(fields.get(key), str)), "")
    return [
        Conversation(
            name if len(read) == 1 else part_id(name, number),
            tuple(one.messages),
            str(dataset) if isinstance(dataset, str) and not is_absent(dataset) else dataset_name(path),
            one.task or task,
            _language(one, fields),
            where,
            {**one.metadata, **score},
        )
        for number, one in enumerate(read, start=1)
    ]


def _language(turns: Turns, fields: dict[str, Any]) -> str:
    declared = language_code(turns.metadata.get("lang") or fields.get("lang"))
    if declared is not None:
        return declared if declared in ("zh", "en") else "other"
    return language_of("".join([message.content for message in turns.messages if message.role != "system"]))


def _own_score(fields: dict[str, Any]) -> dict[str, float]:
    """Returns the score that a person or a model gave the record, in `metadata.score` or `score`, if there is one."""
    metadata = fields.get("metadata")
    for value in (metadata.get("score") if isinstance(metadata, dict) else None, fields.get("score")):
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
            return {"score": float(value)}
    return {}


def _question_id(turns: Turns) -> str:
    """Returns an id from the first question, the system prompt included."""
    messages = turns.messages
    asked = "\n\n".join([message.content for message in messages[: 2 if messages[0].role == "system" else 1]])
    return hashlib.sha256(asked.encode(errors="surrogatepass")).hexdigest()[:16]
