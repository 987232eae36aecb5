"""Instruction files: JSON lines in the shapes that published sets come in, read as turns of question and answer."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mindllm_jax.corpus.json_lines import BadLine, lines, parse
from mindllm_jax.data.chat import Turn

_MOSS_MARKS = re.compile(r"^<\|\w+\|>:?|<eo\w>\s*$")


class Conversation(NamedTuple):
    """Questions and their answers, in order."""

    id: str
    turns: tuple[Turn, ...]


def read_conversations(
    path: Path, *, on_bad: Literal["error", "skip"] = "error", skipped: Counter[str] | None = None
) -> Iterator[Conversation]:
    """Reads a JSON-lines file, plain or gzip, whose lines have one of these shapes:

    - `messages`: objects of `role` (user and assistant in turn, perhaps a system before them) and `content`; what the
      system says is put before the first question, for the format has no place of its own for it;
    - `instruction` and perhaps `input`, or `input` alone, answered by `output` or `response`; earlier turns perhaps as
      pairs in `history`;
    - `chat`, as MOSS has it: objects `turn_1`, `turn_2`, … of `Human` and `MOSS`;
    - a list of such objects: the turns of one conversation.

    White space around questions and answers is dropped. A conversation without an `id` is named by its first question,
    so that those with the same question fall on the same side of a split.

    Args:
        path: the file, UTF-8.
        on_bad: what to do with a line that holds no conversation: raise, or leave it out and go on.
        skipped: with `on_bad="skip"`, how many lines were left out is added here, by reason.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is a damaged gzip file, holds no conversation at all, or (`on_bad="error"`) has a bad line, which
            is named with its field.
    """
    skipped = Counter() if skipped is None else skipped
    found = False
    for number, line in lines(path):
        try:
            row = parse(line)
            turns = tuple(_turns(row))
            _require_unicode(turns)
        except BadLine as bad:
            if on_bad == "error":
                raise ValueError(
                    f"{path}, line {number}: {bad} (or leave such lines out with on_bad = 'skip')"
                ) from None
            skipped[bad.kind] += 1
            continue
        found = True
        id = row.get("id") if isinstance(row, dict) else None
        name = hashlib.sha256(turns[0].question.encode()).hexdigest()[:16] if id in (None, "") else str(id)
        yield Conversation(name, turns)
    if not found:
        left_out = ", ".join(f"{count} x {kind}" for kind, count in skipped.items())
        raise ValueError(
            f"{path} holds no conversation"
            + (f": every line was left out ({left_out})" if left_out else ": the file is empty")
            + '; it needs lines such as {"instruction": "...", "output": "..."}'
        )


def _turns(row: Any) -> list[Turn]:
    """The turns of one line's value, at least one."""
    if isinstance(row, list) and row:
        return [turn for part in row for turn in _turns(part)]
    if not isinstance(row, dict):
        raise BadLine("not an object", f"a JSON {type(row).__name__} where an object of turns was expected")
    if "messages" in row:
        return _from_messages(row["messages"])
    if "chat" in row:
        return _from_moss(row["chat"])
    return [*_from_history(row.get("history")), _from_instruction(row)]


def _from_messages(messages: Any) -> list[Turn]:
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise BadLine("messages not a list", "`messages` must be a list of objects of `role` and `content`")
    said = [
        (message.get("role"), _text(message.get("content"), f"messages[{i}].content"))
        for i, message in enumerate(messages)
    ]
    preface = [text for role, text in said[:1] if role == "system"]
    said = said[len(preface) :]
    if not any(role == "assistant" for role, _ in said):
        raise BadLine(
            "no assistant", "`messages` has no turn of the role 'assistant': there is nothing to learn to say"
        )
    for index, (role, _) in enumerate(said):
        wanted = ("user", "assistant")[index % 2]
        if role != wanted:
            raise BadLine(
                "roles out of order",
                f"`messages[{index + len(preface)}].role` is {role!r} where {wanted!r} was expected: user and "
                "assistant take turns, after one 'system' at most",
            )
    if len(said) % 2:
        raise BadLine("no answer", "the last of `messages` is a question that nobody answers")
    texts = [text for _, text in said]
    texts[0] = "\n\n".join([*preface, texts[0]])
    return [Turn(question, answer) for question, answer in zip(texts[::2], texts[1::2], strict=True)]


def _from_moss(chat: Any) -> list[Turn]:
    names = [f"turn_{number + 1}" for number in range(len(chat))] if isinstance(chat, dict) else []
    if not names or not all(isinstance(chat.get(name), dict) for name in names):
        raise BadLine("chat without turns", "`chat` must be an object of objects `turn_1`, `turn_2`, …")

    def said(name: str, who: str) -> str:
        text = chat[name].get(who)
        return _text(_MOSS_MARKS.sub("", text) if isinstance(text, str) else text, f"chat.{name}.{who}")

    return [Turn(said(name, "Human"), said(name, "MOSS")) for name in names]


def _from_history(history: Any) -> list[Turn]:
    if history in (None, "", []):
        return []
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        raise BadLine("history not pairs", "`history` must be a list of pairs of question and answer")
    return [
        Turn(_text(question, f"history[{i}][0]"), _text(answer, f"history[{i}][1]"))
        for i, (question, answer) in enumerate(history)
    ]


def _from_instruction(row: dict[str, Any]) -> Turn:
    asked = [name for name in ("instruction", "input") if row.get(name) not in (None, "")]
    answers = [name for name in ("output", "response") if row.get(name) is not None]
    if not asked or not answers:
        missing = "answer (`output` or `response`)" if asked else "question (`instruction` or `input`)"
        fields = ", ".join(sorted(row)[:8]) or "none"
        raise BadLine("no answer" if asked else "no question", f"no {missing}; its fields: {fields}")
    return Turn("\n".join(_text(row[name], name) for name in asked), _text(row[answers[0]], answers[0]))


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise BadLine("text not a string", f"`{name}` is a {type(value).__name__}, not a string")
    if not value.strip():
        raise BadLine("empty text", f"`{name}` is empty; remove the line")
    return value.strip()


def _require_unicode(turns: tuple[Turn, ...]) -> None:
    try:
        "".join(text for turn in turns for text in turn).encode()
    except UnicodeEncodeError:
        raise BadLine(
            "broken Unicode", r"an escape \ud800 to \udfff without its other half, which no UTF-8 text can hold"
        ) from None
