"""The registry of shapes: which record is read how."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from mindllm_jax.batching.chat_template import Message
from mindllm_jax.instruct.reading.fields import Turns, is_absent, text_of
from mindllm_jax.instruct.reading.finance import (
    fincuge_task,
    from_fincuge,
    from_labelled_sentence,
    from_labelled_text,
)
from mindllm_jax.instruct.reading.pairs import (
    from_bilingual_pair,
    from_instruction,
    from_legal_consultation,
    from_seed_task,
)
from mindllm_jax.instruct.reading.records import are_messages
from mindllm_jax.instruct.reading.turns import from_messages, from_moss, from_prompt_and_completion
from mindllm_jax.text.json_lines import BadLine

_MESSAGES = ("messages", "conversations")


class Shape(NamedTuple):
    """A shape of records.

    Attributes:
        matches: whether a record has the shape, from its value and the path of its file.
        read: returns the conversations of such a record. Raises BadLine, which names the field, where it is malformed.
    """

    matches: Callable[[Any, str], bool]
    read: Callable[[Any, str], list[Turns]]


def _has(*names: str) -> Callable[[Any, str], bool]:
    return lambda row, file: isinstance(row, dict) and all(row.get(name) is not None for name in names)


def _messages_field(row: Any) -> str | None:
    return next((name for name in _MESSAGES if isinstance(row, dict) and row.get(name) is not None), None)


def _one(read: Callable[[Any], list[Message]]) -> Callable[[Any, str], list[Turns]]:
    return lambda row, file: [Turns(read(row))]


SHAPES: dict[str, Shape] = {
    "list of messages": Shape(
        lambda row, file: isinstance(row, list) and are_messages(row), _one(lambda row: from_messages(row, "list"))
    ),
    "FinCUGE": Shape(
        lambda row, file: isinstance(row, list) and fincuge_task(file) is not None,
        lambda row, file: from_fincuge(row, fincuge_task(file) or ""),
    ),
    "sentence@label": Shape(lambda row, file: isinstance(row, str), lambda row, file: from_labelled_sentence(row)),
    "messages": Shape(
        lambda row, file: _messages_field(row) is not None,
        _one(lambda row: from_messages(row[name := _messages_field(row)], str(name))),
    ),
    "MOSS": Shape(_has("chat"), _one(lambda row: from_moss(row["chat"]))),
    "prompt and completion as lists": Shape(
        lambda row, file: (
            _has("prompt", "completion")(row, file)
            and (isinstance(row["prompt"], list) or isinstance(row["completion"], list))
        ),
        _one(from_prompt_and_completion),
    ),
    "seed task": Shape(_has("instances"), lambda row, file: from_seed_task(row)),
    "bilingual pair": Shape(_has("en_instruction", "zh_instruction"), lambda row, file: from_bilingual_pair(row)),
    "legal consultation": Shape(_has("query", "laws"), lambda row, file: from_legal_consultation(row)),
    "text and label": Shape(
        lambda row, file: isinstance(row, dict) and row.keys() == {"text", "label"},
        from_labelled_text,
    ),
    "instruction": Shape(lambda row, file: isinstance(row, dict), _one(from_instruction)),
}
"""Shapes by name; a record has the first that matches."""


def conversations_of(row: Any, file: str) -> list[Turns]:
    """Returns the conversations of a record of a file, at least one, each with the record's `system` in front.

    Raises BadLine where the record has no known shape or is malformed.
    """
    shape = next((shape for shape in SHAPES.values() if shape.matches(row, file)), None)
    if shape is None:
        raise BadLine("not an object", f"a JSON {type(row).__name__} where an object of turns was expected")
    turns = shape.read(row, file)
    if not isinstance(row, dict) or is_absent(row.get("system")):
        return turns
    system = text_of(row["system"], "system")
    return [one._replace(messages=_with_system(system, one.messages)) for one in turns]


def _with_system(system: str, messages: list[Message]) -> list[Message]:
    if messages[0].role == "system":
        system, messages = f"{system}\n\n{messages[0].content}", messages[1:]
    return [Message("system", system), *messages]
