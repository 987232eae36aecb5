"""Fields of a record: texts, and what counts as no value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from mindllm_jax.batching.chat_template import Message
from mindllm_jax.text.json_lines import BadLine

NO_METADATA: Mapping[str, Any] = {}

SPEAKERS = {"role": "content", "from": "value"}
"""The field of a message's speaker, and that of its text."""


class Turns(NamedTuple):
    """One conversation of a record.

    Attributes:
        messages: questions and answers in turn, perhaps after a system message.
        task: the task that the shape tells; None: the one that a field of the record names, if any.
        metadata: what the record says about the conversation, as `score`, by name.
    """

    messages: list[Message]
    task: str | None = None
    metadata: Mapping[str, Any] = NO_METADATA


def is_absent(value: Any) -> bool:
    """Whether a value is none: null, blank, or the NaN that pandas writes for a missing one."""
    return value is None or (isinstance(value, str) and not value.strip()) or (_is_nan(value))


def text_of(value: Any, name: str) -> str:
    """Returns the text of a field without white space around it. Raises BadLine that names the field if it has none."""
    if _is_nan(value):
        raise BadLine("text is NaN", f"`{name}` is NaN, a missing value; remove the row")
    if not isinstance(value, str):
        raise BadLine("text not a string", f"`{name}` is a {type(value).__name__}, not a string")
    if not value.strip():
        raise BadLine("empty text", f"`{name}` is empty; remove the line")
    return value.strip()


def in_turn(*texts: str) -> list[Message]:
    """Returns questions and answers in turn as messages."""
    return [Message(("user", "assistant")[number % 2], text) for number, text in enumerate(texts)]


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
