"""Pairs of answers to a prompt, the requests by which a judge compares them, and what its verdicts come to."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, Literal, NamedTuple

from mindllm_jax.files import json_sha256
from mindllm_jax.instruct.domains.records import filled
from mindllm_jax.instruct.ranking.answers import Answers
from mindllm_jax.instruct.ranking.prompts import Prompt
from mindllm_jax.instruct.ranking.settings import Judge

Winner = Literal["first", "second", "tie"]
OTHER: dict[Winner, Winner] = {"first": "second", "second": "first", "tie": "tie"}
LETTERS: dict[str, Winner] = {"A": "first", "B": "second", "C": "tie"}


class Comparison(NamedTuple):
    """Two models and their answers to a prompt; None: an answer that is still to be made."""

    prompt: Prompt
    names: tuple[str, str]
    answers: tuple[str | None, str | None]

    @property
    def is_equal(self) -> bool:
        """Whether there is nothing to compare."""
        first, second = self.answers
        return first is not None and second is not None and first.strip() == second.strip()


class Judgement(NamedTuple):
    """The better one of two models at a prompt, or a tie."""

    id: str
    first: str
    second: str
    winner: Winner


class Request(NamedTuple):
    """One question to a judge: the answer of which of two models is better, in this order.

    Attributes:
        key: hash of what the verdict depends on.
        prompt: the prompt.
        names: the models.
        answers: theirs; "" where one is still to be made.
        text: the message to an endpoint.
    """

    key: str
    prompt: Prompt
    names: tuple[str, str]
    answers: tuple[str, str]
    text: str


def comparisons(prompts: Sequence[Prompt], names: Sequence[str], answers: Answers) -> list[Comparison]:
    """Returns every pair of models at every prompt."""
    texts = {name: {id: answer.text for id, answer in answers[name].items()} for name in names}
    return [
        Comparison(prompt, (first, second), (texts[first].get(prompt.id), texts[second].get(prompt.id)))
        for prompt in prompts
        for first, second in combinations(names, 2)
    ]


def requests(judge: Judge, origin: str, comparison: Comparison) -> list[Request]:
    """Returns what is asked about a pair: in both orders of an endpoint, once for a likelihood, nothing of equal ones.

    origin: what identifies the judge: the model's name, or a hash of its weights.
    """
    if comparison.is_equal or judge.by == "file":
        return []
    prompt, names = comparison.prompt, comparison.names
    first, second = (answer or "" for answer in comparison.answers)

    def key(order: tuple[str, str], *content: Any) -> str:
        # What is known of a request with an answer that is still to be made may equal another one's.
        return json_sha256([origin, *content, *((prompt.id, *order) if None in comparison.answers else ())])[:24]

    if judge.by == "likelihood":
        content = (judge.tie, prompt.messages, first, second)
        return [Request(key(names, *content), prompt, names, (first, second), "")]
    both: list[Request] = []
    for order, answers in ((names, (first, second)), ((names[1], names[0]), (second, first))):
        shown = [answer.strip() or "(no answer)" for answer in answers]
        text = filled(judge.prompt, {"question": prompt.text, "first": shown[0], "second": shown[1]})
        both.append(Request(key(order, judge.max_tokens, text), prompt, order, answers, text))
    return both


def verdict_of(reply: str) -> Winner | None:
    """Returns the verdict of a reply whose first line is A, B or C, or that holds one of them alone; None of any other.

    A letter before a blank at the beginning may be an article, and is no verdict.
    """
    if first := re.fullmatch(r"[*\[(\s]*([ABC])[*\])\s.。]*", reply.partition("\n")[0]):
        return LETTERS[first[1]]
    found = set(re.findall(r"(?<![A-Za-z])[ABC](?![A-Za-z'’])", reply))
    return LETTERS[found.pop()] if len(found) == 1 and not reply.startswith("A ") else None


def judgements(
    judge: Judge, origin: str, compared: Iterable[Comparison], verdicts: Mapping[str, Mapping[str, Any]]
) -> tuple[list[Judgement], Counter[str]]:
    """Returns the judgements of pairs by the verdicts on their requests, by key, and counts for the report.

    An endpoint's two orders have to agree on a winner, or else the pair is a tie. A pair without a verdict has none.
    """
    found, counts = list[Judgement](), Counter[str]()
    for comparison in compared:
        counts["pairs"] += 1
        asked = [verdicts.get(request.key) for request in requests(judge, origin, comparison)]
        given: list[Winner] = [row["verdict"] for row in asked if row is not None]
        counts["replies for a place"] += sum(verdict != "tie" for verdict in given)
        counts["replies for the first place"] += given.count("first")
        counts["pairs with a cut prompt"] += any(row is not None and row.get("cut", False) for row in asked)
        if comparison.is_equal:
            winner: Winner = "tie"
            counts["equal answers"] += 1
        elif len(given) < len(asked):
            counts["without a verdict"] += 1
            continue
        elif len(given) == 2 and given[0] != OTHER[given[1]]:
            winner = "tie"
            counts["orders disagree"] += 1
        else:
            winner = given[0]
        found.append(Judgement(comparison.prompt.id, *comparison.names, winner))
    return found, counts
