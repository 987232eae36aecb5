"""Records of a question and its answer in fields: Alpaca, BELLE, Firefly, minimind, bilingual pairs, seed tasks."""

from __future__ import annotations

import re
from typing import Any

from mindllm_jax.batching.chat_template import Message
from mindllm_jax.instruct.reading.fields import Turns, in_turn, is_absent, text_of
from mindllm_jax.instruct.reading.turns import from_consultation, from_history, is_consultation
from mindllm_jax.text.json_lines import BadLine

_QUESTIONS = ("instruction", "prompt", "question", "query", "q", "input")
_ANSWERS = ("output", "response", "completion", "target", "answer", "std_answer", "a")
_NO_INPUT = re.compile(r"<?no ?input>?", re.IGNORECASE)  # in place of an empty one, as in a few rows of Alpaca


def from_instruction(row: dict[str, Any]) -> list[Message]:
    """Returns the messages of a record with a question, perhaps an `input` to it, and an answer.

    Earlier turns may be pairs in `history`. Raises BadLine where a side is missing, empty, or there twice with two
    texts.
    """
    asked = [name for name in _QUESTIONS if not _lacks(row.get(name))]
    answers = [name for name in _ANSWERS if not is_absent(row.get(name))]
    if not asked or not answers:
        # An empty field makes a better message than the list of all accepted fields.
        empty = [name for name in (_ANSWERS if asked else _QUESTIONS) if row.get(name) is not None]
        if empty:
            text_of(row[empty[0]], empty[0])
        what, names = ("answer", _ANSWERS) if asked else ("question", _QUESTIONS)
        fields = ", ".join(sorted(map(str, row))[:8]) or "none"
        raise BadLine(f"no {what}", f"no {what} ({', '.join(f'`{name}`' for name in names)}); its fields: {fields}")
    for what, names in (("questions", [name for name in asked if name != "input"]), ("answers", answers)):
        if len({str(row[name]).strip() for name in names}) > 1:
            listed = " and ".join(f"`{name}`" for name in names)
            raise BadLine(f"several {what}", f"{listed} are different {what}; keep one")
    asked = [name for name in asked if name in (asked[0], "input")]
    question, answer = "\n".join(text_of(row[name], name) for name in asked), text_of(row[answers[0]], answers[0])
    return [*from_history(row.get("history")), *in_turn(question, answer)]


def from_seed_task(row: dict[str, Any]) -> list[Turns]:
    """Returns a conversation per entry of `instances`, as the seed tasks of self-instruct and BELLE have them."""
    instances, instruction = row["instances"], text_of(row.get("instruction"), "instruction")
    if not isinstance(instances, list) or not instances or not all(isinstance(one, dict) for one in instances):
        raise BadLine("instances not a list", "`instances` must be a list of objects of `input` and `output`")
    turns = []
    for index, instance in enumerate(instances):
        given = instance.get("input")
        extra = [] if _lacks(given) else [text_of(given, f"instances[{index}].input")]
        answer = text_of(instance.get("output"), f"instances[{index}].output")
        turns.append(Turns(in_turn("\n".join([instruction, *extra]), answer)))
    return turns


def from_bilingual_pair(row: dict[str, Any]) -> list[Turns]:
    """Returns the English and the Chinese conversation of a record of `en_…` and `zh_…` fields."""
    turns = []
    for lang in ("en", "zh"):
        instruction, given = row.get(f"{lang}_instruction"), row.get(f"{lang}_input")
        extra = [] if _lacks(given) else [text_of(given, f"{lang}_input")]
        question = "\n".join([text_of(instruction, f"{lang}_instruction"), *extra])
        messages = in_turn(question, text_of(row.get(f"{lang}_output"), f"{lang}_output"))
        turns.append(Turns(messages, metadata={"lang": lang}))
    return turns


def from_legal_consultation(row: dict[str, Any]) -> list[Turns]:
    """Returns the conversation of a lawyer-llama record; the statutes it cites are metadata, `laws`."""
    laws, history = row["laws"], row.get("history")
    if not isinstance(laws, list) or not all(isinstance(law, str) for law in laws):
        raise BadLine("laws not texts", "`laws` must be a list of texts")
    messages = from_consultation(history) if history and is_consultation(history) else from_instruction(row)
    return [Turns(messages, metadata={"laws": laws})]


def _lacks(value: Any) -> bool:
    """Whether the input to a question is none, or says that there is none."""
    return is_absent(value) or (isinstance(value, str) and _NO_INPUT.fullmatch(value.strip()) is not None)
