"""Rationales by rule: words that tell of an answer, found among words that do not."""

from __future__ import annotations

import numpy as np
import pytest

from mindllm_jax.instruct.domains.prepare import Asked
from mindllm_jax.instruct.domains.rationale_rules import longest_clauses, telling_words

pytest.importorskip("sklearn", reason="scikit-learn (the extra `labels`) is not installed")
TOLD = {"good": "大涨", "bad": "暴跌"}


def _records(count: int = 200) -> list[Asked]:
    """Questions with one word that tells of the answer, in two thirds of them, and random characters."""
    draw, filler = np.random.default_rng(0), list("天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往")
    records = []
    for number in range(count):
        answer = ("good", "bad")[number % 2]
        words = ["".join(draw.choice(filler, 2)) for _ in range(4)]
        if number % 3:
            words[int(draw.integers(4))] = TOLD[answer]
        records.append(Asked(str(number), f"判断情绪：{'，'.join(words)}。", answer, ""))
    return records


def test_telling_words_are_found() -> None:
    records = _records()
    found = telling_words(records)
    for record in records:
        told = TOLD[record.answer]
        if told in record.question:
            assert found[record.id].split("、")[0] == told
        else:
            assert told not in found.get(record.id, "")
        assert not {"判断", "情绪"} & set(found.get(record.id, "").split("、"))  # the template's


def test_words_are_of_the_question_and_apart() -> None:
    records = _records()
    found = telling_words(records)
    for record in records:
        words = found.get(record.id, "").split("、")
        for word in words:
            assert word in record.question and sum(word in other for other in words) == 1


def test_too_few_records() -> None:
    with pytest.raises(ValueError, match="no characters are in 3 records"):
        telling_words([Asked("a", "大涨", "good", ""), Asked("b", "暴跌", "bad", "")])


def test_the_longest_clause() -> None:
    assert longest_clauses([Asked("a", "短，这一句最长。end", "good", "")]) == {"a": "这一句最长"}
