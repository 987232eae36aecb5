"""The scoring of LawBench: each function gives an answer's score from 0 to 1, or None where the model did not answer.

The rules are those of LawBench's published evaluation functions, but 2-1, whose tool downloads a model.
"""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mindllm_jax.evaluation.tasks.lawbench import labels
from mindllm_jax.evaluation.tasks.lawbench.numerals import to_digits

LONGEST = math.log(216)  # the log distance of a term that was not predicted


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Returns score and abstention (0 or 1) of an item `{"task", "question", "answer", …}` and a generated answer."""
    score = SCORES[doc["task"]](results[0], doc)
    return {"score": score or 0.0, "abstention_rate": float(score is None)}


def _one_of(options: Sequence[str], first: int, last: int | None) -> Callable[[str, Mapping[str, Any]], float | None]:
    """Scores 1 where the answer holds the right option and no other; `first` and `last` bound it in the reference."""

    def score(answer: str, doc: Mapping[str, Any]) -> float | None:
        found = [option for option in options if option in answer]
        return float(found == [doc["answer"][first:last]]) if found else None

    return score


def _several_of(
    options: Sequence[str], references: Callable[[str], list[str]]
) -> Callable[[str, Mapping[str, Any]], float | None]:
    """Scores the F1 between the options that the answer holds and those of the reference."""

    def score(answer: str, doc: Mapping[str, Any]) -> float | None:
        found = {option for option in options if option in answer}
        return _f1_of_sets(found, set(references(doc["answer"]))) if found else None

    return score


def _rouge(prefix: str) -> Callable[[str, Mapping[str, Any]], float | None]:
    """Scores ROUGE-L on words of jieba, after the prefix of the reference."""

    def score(answer: str, doc: Mapping[str, Any]) -> float | None:
        words, reference = _words(answer), _words(doc["answer"].replace(prefix, ""))
        common = _common_subsequence(words, reference)
        value = _f1(common / len(words), common / len(reference), 1e-8)
        return value if answer.strip() else None

    return score


def _reading(answer: str, doc: Mapping[str, Any]) -> float | None:
    """Scores the F1 of characters."""
    value = _f1_of_characters(answer, doc["answer"].replace("回答:", ""))
    return value if answer.strip() else None


def _entities(answer: str, doc: Mapping[str, Any]) -> float | None:
    """Scores the F1 of entities, `TYPE:TEXT`, where an entity counts by its characters."""
    reference = dict(pair.split(":")[:2] for pair in doc["answer"].split(";")) if doc["answer"].strip() else {}
    found: dict[str, str] = {}
    for kind in labels.ENTITIES:
        for match in re.finditer(kind, answer):
            end = match.end()
            if end < len(answer) - 2 and answer[end] in ":：":
                entity = re.split("\n| ", answer[end + 1 :].strip())[0].strip()
                if entity not in ("无", "未提及"):
                    found[kind] = entity
    if not reference:
        return float(not found)
    if not found:
        return None
    common = sum(_f1_of_characters(text, reference[kind]) for kind, text in found.items() if kind in reference)
    return _f1(common / len(found), common / len(reference), 1e-10)


def _triggers(answer: str, doc: Mapping[str, Any]) -> float | None:
    """Scores the F1 of words in their order, where a word counts by its characters."""
    words, reference = answer.split(";"), doc["answer"].split(";")
    common = sum(_f1_of_characters(word, right) for word, right in zip(words, reference, strict=False))
    value = _f1(common / len(words), common / len(reference), 1e-10)
    return value if answer.strip() else None


def _articles(answer: str, doc: Mapping[str, Any]) -> float | None:
    """Scores the F1 of the numbers of articles; the first number between enumeration commas counts."""
    reference = {int(number) for number in re.findall(r"\d+", doc["answer"])}
    found: set[int] = set()
    for chunk in answer.split("、"):
        # Paragraphs of an article do not count.
        chunk = re.sub("第(.*?)款", "", chunk.replace("万元", "元"))
        if number := re.search(r"\d+", to_digits(re.sub("第(.*?)条", r"\1", chunk))):
            found.add(int(number[0]))
    return _f1_of_sets(found, reference) if found else None


def _term(answer: str, doc: Mapping[str, Any]) -> float | None:
    """Scores 1 less the distance of log months over that of 216 months."""
    answer = to_digits(answer)
    months = [int(number) for pattern in (r"(\d+)个月", r"(\d+)月") for number in re.findall(pattern, answer)]
    months += [12 * int(number) for number in re.findall(r"(\d+)年", answer)]
    if not months:
        return None
    right = int(doc["answer"].removeprefix("刑期:").removesuffix("个月"))
    return 1 - abs(math.log(right + 1) - math.log(months[0] + 1)) / LONGEST


def _amount(answer: str, doc: Mapping[str, Any]) -> float | None:
    """Scores 1 where the answer holds the amount."""
    right = float(doc["answer"].removeprefix("上文涉及到的犯罪金额:").removesuffix("元。"))
    found = [float(number) for number in re.findall(r"\d+\.?\d*", answer)]
    return float(right in found) if found else None


def _corrections(answer: str, doc: Mapping[str, Any]) -> float | None:
    """Scores the F0.5 of edits of characters that turn the question into the answer and into the reference.

    An answer is cut 5 characters after the length of the reference, as in LawBench.
    """
    question, reference, answer = (re.sub(r"[\n\t]", "", text) for text in (doc["question"], doc["answer"], answer))
    edits, right = _edits(question, answer[: len(reference) + 5]), _edits(question, reference)
    common = len(edits & right)
    precision = common / len(edits) if edits else 1.0
    recall = common / len(right) if right else 1.0
    value = 1.25 * precision * recall / (0.25 * precision + recall) if precision + recall else 0.0
    return value if answer.strip() else None


def _edits(text: str, corrected: str) -> set[tuple[int, int, str]]:
    matcher = difflib.SequenceMatcher(None, text, corrected, autojunk=False)
    return {(i, j, corrected[m:n]) for tag, i, j, m, n in matcher.get_opcodes() if tag != "equal"}


def _words(text: str) -> list[str]:
    import jieba

    jieba.setLogLevel("ERROR")
    return [word for word in jieba.cut(text if text.strip() else "无内容") if word.strip()]


def _common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Returns the length of the longest common subsequence."""
    lengths = [0] * (len(other) + 1)
    for word in one:
        diagonal = 0
        for column, right in enumerate(other, 1):
            above = lengths[column]
            lengths[column] = diagonal + 1 if word == right else max(above, lengths[column - 1])
            diagonal = above
    return lengths[-1]


def _f1(precision: float, recall: float, epsilon: float = 0.0) -> float:
    return 2 * precision * recall / (precision + recall + epsilon) if precision + recall else 0.0


def _f1_of_sets(found: set[Any], right: set[Any]) -> float:
    common = len(found & right)
    return _f1(common / len(found), common / len(right))


def _f1_of_characters(one: str, other: str) -> float:
    first, second = _characters(one), _characters(other)
    if not first or not second:
        return float(first == second)
    common = sum((Counter(first) & Counter(second)).values())
    return _f1(common / len(first), common / len(second))


def _characters(text: str) -> list[str]:
    """Returns letters and digits in lower case."""
    return [character for character in text.lower() if character.isdigit() or character.isalpha()]


def _after(prefix: str, separator: str, end: str = "") -> Callable[[str], list[str]]:
    return lambda reference: reference.removeprefix(prefix).removesuffix(end).split(separator)


SCORES: dict[str, Callable[[str, Mapping[str, Any]], float | None]] = {
    "1-1": _rouge("答案:"),
    "1-2": _one_of("ABCD", 5, 6),
    "2-1": _corrections,
    "2-2": _one_of(labels.DISPUTES, 7, -1),
    "2-3": _several_of(labels.MARRIAGE, _after("类别:", "、", "。")),
    "2-4": _one_of(labels.CONSULTATIONS, 0, None),
    "2-5": _reading,
    "2-6": _entities,
    "2-7": _rouge(""),
    "2-8": _one_of("ABCDE", 6, 7),
    "2-9": _several_of(labels.EVENTS, _after("", ";")),
    "2-10": _triggers,
    "3-1": _articles,
    "3-2": _rouge(""),
    "3-3": _several_of(labels.ACCUSATIONS, _after("罪名:", ";")),
    "3-4": _term,
    "3-5": _term,
    "3-6": _one_of("ABCD", 5, 6),
    "3-7": _amount,
    "3-8": _rouge(""),
}
