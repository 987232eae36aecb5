"""Reads instruction files, JSON in the shapes of published sets, as messages."""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mindllm_jax.batching.chat_template import Message
from mindllm_jax.text.documents import check_unicode
from mindllm_jax.text.json_lines import BadLine, lines, parse, parse_rows

_QUESTIONS = ("instruction", "prompt", "input")
_ANSWERS = ("output", "response", "completion", "target")
_MESSAGES = ("messages", "conversations")
_SPEAKERS = {"role": "content", "from": "value"}  # the field of the speaker, and the field of the text
_ROLES = {"human": "user", "gpt": "assistant"}  # other names of roles
_MOSS_MARKS = re.compile(r"^<\|\w+\|>:?|<eo\w>\s*$")


class Conversation(NamedTuple):
    """Questions and their answers in turn, perhaps after a system message."""

    id: str
    messages: tuple[Message, ...]


def read_conversations(
    path: Path, *, on_bad: Literal["error", "skip"] = "error", skipped: Counter[str] | None = None
) -> Iterator[Conversation]:
    """Reads a file of JSON lines or of one JSON array, plain or gzip.

    A record is one conversation, in one of these shapes:

    - `messages` or `conversations`: objects of `role` and `content`, or of `from` and `value`; user (or human) and
      assistant (or gpt) in turn, perhaps a system before them;
    - a list of such objects;
    - `instruction` and perhaps `input`, or `input` alone, or `prompt`, answered by `output`, `response`, `completion`
      or `target`; earlier turns perhaps as pairs in `history`;
    - `chat`, as MOSS has it: objects `turn_1`, `turn_2`, … of `Human` and `MOSS`.

    Any other list is an array of records, on one line or over many. A system prompt, as a message or in a field
    `system` of any record, is the first message; the chat template decides where it stands.

    White space around questions and answers is dropped, and a blank field counts as absent. A conversation without an
    `id` gets one from its first question, the system prompt included, so that those with the same question are on the
    same side of a split.

    Args:
        path: the file, UTF-8.
        on_bad: whether a malformed record raises or is skipped.
        skipped: counts skipped records by reason.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is a damaged gzip file or array, has no conversation, or (`on_bad="error"`) has a malformed
            record; the message names its line and field.
    """
    yield from parse_rows(
        path,
        _records(path),
        _conversation,
        on_bad=on_bad,
        skipped=skipped,
        expected="conversation",
        example='{"instruction": "...", "output": "..."}',
    )


def _conversation(row: Any) -> Conversation:
    if isinstance(row, BadLine):
        raise row
    messages = tuple(_messages(row))
    id = row.get("id") if isinstance(row, dict) else None
    check_unicode("".join([str(id), *(message.content for message in messages)]))
    asked = "\n\n".join([message.content for message in messages[: 2 if messages[0].role == "system" else 1]])
    name = hashlib.sha256(asked.encode()).hexdigest()[:16] if id in (None, "") else str(id)
    return Conversation(name, messages)


def _records(path: Path) -> Iterator[tuple[str, Any]]:
    """Yields the place and the value of every record, or the error in its line."""
    content = lines(path)
    for position, (number, line) in enumerate(content):
        if position == 0 and _begins_array(line):
            for index, row in enumerate(_array(path, [(number, line), *content]), start=1):
                yield f"{path}, row {index}", row
            return
        where = f"{path}, line {number}"
        try:
            value = parse(line)
        except BadLine as bad:
            yield where, bad
            continue
        if _are_records(value):
            for index, row in enumerate(value, start=1):
                yield f"{where}, row {index}", row
        else:
            yield where, value


def _begins_array(line: bytes) -> bool:
    """Returns whether the first line of a file begins an array that it does not end."""
    text = line.removeprefix(codecs.BOM_UTF8).strip()
    return text.startswith(b"[") and not text.endswith(b"]")


def _array(path: Path, content: list[tuple[int, bytes]]) -> list[Any]:
    """Returns the records of an array over all lines of a file."""
    # With the blank lines, which `content` lacks, so that an error names the right line.
    text = [b"\n"] * content[-1][0]
    for number, line in content:
        text[number - 1] = line
    try:
        rows = json.loads(b"".join(text).decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}, line {error.lineno}: wrong JSON at column {error.colno} ({error.msg}) in an array over several"
            " lines; fetch or repair the file"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: an array of JSON that cannot be read ({error})") from None
    return rows if _are_records(rows) else [rows]


def _are_records(value: Any) -> bool:
    """Returns whether a JSON value is an array of records, and not a record."""
    holds_rows = isinstance(value, list) and any(isinstance(part, dict | list) for part in value)
    return holds_rows and not _are_messages(value)


def _are_messages(value: list[Any]) -> bool:
    """Returns whether a list is the messages of one conversation."""
    return bool(value) and all(
        isinstance(part, dict) and any(part.keys() >= {*fields} for fields in _SPEAKERS.items()) for part in value
    )


def _messages(row: Any) -> list[Message]:
    """Returns the messages of one record, at least a question and its answer."""
    if isinstance(row, list) and _are_messages(row):
        return _from_messages(row, "list")
    if not isinstance(row, dict):
        raise BadLine("not an object", f"a JSON {type(row).__name__} where an object of turns was expected")
    messages = next((name for name in _MESSAGES if row.get(name) is not None), None)
    if messages is not None:
        read = _from_messages(row[messages], messages)
    elif row.get("chat") is not None:
        read = _from_moss(row["chat"])
    else:
        read = [*_from_history(row.get("history")), *_from_instruction(row)]
    if _is_absent(row.get("system")):
        return read
    system = _text(row["system"], "system")
    if read[0].role == "system":
        system, read = f"{system}\n\n{read[0].content}", read[1:]
    return [Message("system", system), *read]


def _in_turn(*texts: str) -> list[Message]:
    """Returns questions and answers in turn as messages."""
    return [Message(("user", "assistant")[number % 2], text) for number, text in enumerate(texts)]


def _from_messages(messages: Any, name: str) -> list[Message]:
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise BadLine(
            "messages not a list", f"`{name}` must be a list of objects of `role` and `content`, or `from` and `value`"
        )
    texts: list[str] = []
    system = None
    for index, message in enumerate(messages):
        speaker = next((field for field in _SPEAKERS if field in message), "role")
        place, role, content = f"{name}[{index}]", str(message.get(speaker)), message.get(_SPEAKERS[speaker])
        role = _ROLES.get(role, role)
        if role == "system" and index == 0:
            system = None if _is_absent(content) else _text(content, f"{place}.{_SPEAKERS[speaker]}")
            continue
        wanted = ("user", "assistant")[len(texts) % 2]
        if role != wanted:
            raise BadLine(
                "roles out of order",
                f"`{place}.{speaker}` is {message.get(speaker)!r} where {wanted!r} was expected: user and assistant"
                " take turns, after one 'system' at most",
            )
        texts.append(_text(content, f"{place}.{_SPEAKERS[speaker]}"))
    if len(texts) < 2:
        raise BadLine("no assistant", f"`{name}` has no turn of the role 'assistant'")
    if len(texts) % 2:
        raise BadLine("no answer", f"the last of `{name}` is a question without an answer")
    return [*([] if system is None else [Message("system", system)]), *_in_turn(*texts)]


def _from_moss(chat: Any) -> list[Message]:
    names = [f"turn_{number + 1}" for number in range(len(chat))] if isinstance(chat, dict) else []
    if not names or not all(isinstance(chat.get(name), dict) for name in names):
        raise BadLine("chat without turns", "`chat` must be an object of objects `turn_1`, `turn_2`, …")

    def utterance(name: str, who: str) -> str:
        text = chat[name].get(who)
        return _text(_MOSS_MARKS.sub("", text) if isinstance(text, str) else text, f"chat.{name}.{who}")

    return _in_turn(*(utterance(name, who) for name in names for who in ("Human", "MOSS")))


def _from_history(history: Any) -> list[Message]:
    if history in (None, "", []):
        return []
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        raise BadLine("history not pairs", "`history` must be a list of pairs of question and answer")
    return _in_turn(*(_text(pair[side], f"history[{i}][{side}]") for i, pair in enumerate(history) for side in (0, 1)))


def _from_instruction(row: dict[str, Any]) -> list[Message]:
    asked = [name for name in _QUESTIONS if not _is_absent(row.get(name))]
    answers = [name for name in _ANSWERS if not _is_absent(row.get(name))]
    if not asked or not answers:
        # An empty field makes a better message than the list of all accepted fields.
        empty = [name for name in (_ANSWERS if asked else _QUESTIONS) if row.get(name) is not None]
        if empty:
            _text(row[empty[0]], empty[0])
        what, names = ("answer", _ANSWERS) if asked else ("question", _QUESTIONS)
        fields = ", ".join(sorted(row)[:8]) or "none"
        raise BadLine(f"no {what}", f"no {what} ({', '.join(f'`{name}`' for name in names)}); its fields: {fields}")
    for what, names in (("questions", [name for name in asked if name != "input"]), ("answers", answers)):
        if len({str(row[name]).strip() for name in names}) > 1:
            listed = " and ".join(f"`{name}`" for name in names)
            raise BadLine(f"several {what}", f"{listed} are different {what}; keep one")
    asked = [name for name in asked if name in (asked[0], "input")]
    return _in_turn("\n".join(_text(row[name], name) for name in asked), _text(row[answers[0]], answers[0]))


def _is_absent(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise BadLine("text not a string", f"`{name}` is a {type(value).__name__}, not a string")
    if not value.strip():
        raise BadLine("empty text", f"`{name}` is empty; remove the line")
    return value.strip()
