"""Financial tasks as questions: the arrays of FinCUGE, `sentence@label`, and rows of `text` and `label`.

These sets have fields without a question. The questions below are ours; the answers are the sets' own labels and texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mindllm_jax.instruct.reading.fields import Turns, in_turn, is_absent, text_of
from mindllm_jax.text.json_lines import BadLine

_FINCUGE_NAME = re.compile(r"(?:^|[_/\\-])(fin(?:na|qa|cqa|nl|nsp|re|fe|ese))(?=[_./\\-]|$)", re.IGNORECASE)
_TWITTER_NAME = re.compile("fingpt|twitter", re.IGNORECASE)
_SENTIMENTS = ("消极", "中性", "积极")
_TWITTER = {"0": "bearish", "1": "bullish", "2": "neutral"}
_ENGLISH = "What is the sentiment of this sentence from financial news: positive, negative or neutral?\n"
_TWEET = "What is the sentiment of this tweet about a stock: bearish, bullish or neutral?\n"


class _Task(NamedTuple):
    """The number of fields of a task's arrays, and the question and answer that they become."""

    fields: int
    pair: Callable[[Sequence[Any]], tuple[str, str]]


def _sentiment(row: Sequence[Any]) -> tuple[str, str]:
    if row[1] not in (0, 1, 2) or isinstance(row[1], bool):
        raise BadLine("unknown label", f"field 2 is {row[1]!r} where 0, 1 or 2 was expected")
    return f"判断下面这条股吧评论的情绪（积极、中性或消极）：\n{_field(row, 0)}", _SENTIMENTS[int(row[1])]


def _event(row: Sequence[Any]) -> tuple[str, str]:
    # The files have the text "NaN" where there is no subject.
    subject = "无" if is_absent(row[3]) or row[3] == "NaN" else _field(row, 3)
    return f"下面的新闻说的是什么事件？主体是谁？\n{_field(row, 1)}", f"事件：{_field(row, 2)}；主体：{subject}"


def _negative(row: Sequence[Any]) -> tuple[str, str]:
    if row[4] not in ("0", "1", 0, 1):
        raise BadLine("unknown label", f"field 5 is {row[4]!r} where 0 or 1 was expected")
    text = "\n".join(_field(row, index) for index in (1, 2) if not is_absent(row[index]))
    is_negative = int(row[4]) == 1
    subjects = "无" if is_absent(row[5]) else _field(row, 5)
    return (
        f"下面的消息对其中的金融机构是负面的吗？负面的主体有哪些？\n{text_of(text, 'fields 2 and 3')}",
        f"是；主体：{subjects}" if is_negative else "否",
    )


_FINCUGE: dict[str, _Task] = {
    "finna": _Task(2, lambda row: (f"给下面的财经新闻写一个标题：\n{_field(row, 1)}", _field(row, 0))),
    "finqa": _Task(2, lambda row: (_field(row, 0), _field(row, 1))),
    "fincqa": _Task(2, lambda row: (_field(row, 0), _field(row, 1))),
    "finnl": _Task(2, lambda row: (f"给下面的财经新闻分类：\n{_field(row, 0)}", _field(row, 1))),
    "finre": _Task(
        4,
        lambda row: (
            f"下面的句子中“{_field(row, 0)}”与“{_field(row, 1)}”是什么关系？\n{_field(row, 3)}",
            _field(row, 2),
        ),
    ),
    "finfe": _Task(2, _sentiment),
    "finese": _Task(4, _event),
    "finnsp": _Task(6, _negative),
}


def fincuge_task(file: str) -> str | None:
    """Returns the task of FinCUGE that a path names in its file or in the folder above it, as `finfe`."""
    found = _FINCUGE_NAME.findall(file)
    return found[-1].lower() if found else None


def from_fincuge(row: list[Any], task: str) -> list[Turns]:
    """Returns the conversation of an array of a FinCUGE task."""
    wanted = _FINCUGE[task].fields
    if len(row) != wanted:
        raise BadLine("wrong number of fields", f"{len(row)} fields where {task} has {wanted}")
    return [Turns(in_turn(*_FINCUGE[task].pair(row)), task)]


def from_labelled_sentence(line: str) -> list[Turns]:
    """Returns the conversation of a line `sentence@label`, as FinancialPhraseBank has them."""
    sentence, at, label = line.rpartition("@")
    if not at or label.strip() not in ("positive", "negative", "neutral"):
        raise BadLine("unknown label", f"{line[-20:]!r} does not end in @positive, @negative or @neutral")
    return [Turns(in_turn(_ENGLISH + text_of(sentence, "sentence"), label.strip()), "sentiment")]


def from_labelled_text(row: dict[str, Any], file: str) -> list[Turns]:
    """Returns the conversation of `text` and `label`, as FinGPT's tweets have them: 0 bearish, 1 bullish, 2 neutral.

    Raises BadLine for those of a file whose path does not name them: labels of another set mean something else.
    """
    if not _TWITTER_NAME.search(file):
        raise BadLine(
            "labels of no known set",
            "`text` and `label` are read in files of FinGPT's tweets alone (with fingpt or twitter in the name): "
            "write conversations of this set by launch/prepare_instructions.py",
        )
    label = _TWITTER.get(str(row["label"]).strip())
    if label is None:
        raise BadLine("unknown label", f"`label` is {row['label']!r} where 0, 1 or 2 was expected")
    return [Turns(in_turn(_TWEET + text_of(row["text"], "text"), label), "sentiment")]


def _field(row: Sequence[Any], index: int) -> str:
    return text_of(row[index], f"field {index + 1}")
