"""Rationales by rule, for records of which no model is asked."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from mindllm_jax.instruct.domains.prepare import Asked

_CLAUSES = re.compile(r"[，。！？；、,.!?;\n]+")
_LENGTHS = range(2, 5)  # characters of an n-gram
_FEWEST = 3  # records that have it
_WORDS = 3  # n-grams of a rationale
_COMMON = 0.5  # share of the records, above which an n-gram is the template's
_PRIOR = 100.0  # records: the weight of the prior


def longest_clauses(records: Sequence[Asked]) -> dict[str, str]:
    """Returns the longest clause of each question by the record's id; it explains nothing."""
    return {record.id: max(_CLAUSES.split(record.question), key=len).strip() for record in records}


def telling_words(records: Sequence[Asked]) -> dict[str, str]:
    """Returns the character n-grams of each question that tell of its answer most, by the record's id.

    An n-gram of 2 to 4 characters counts once a record, and not at all where half of the records have it. It tells of
    an answer by the z-score of its log-odds among the records with that answer against the others, with a Dirichlet
    prior from all records (Monroe, Colaresi and Quinn 2008, equations 15 to 22). Up to three n-grams of a question with
    a positive score are joined by 、, none of them inside another; a question without one has no rationale.

    Raises ImportError where scikit-learn is not installed, ValueError where no n-gram is in three records.
    """
    try:
        from sklearn.feature_extraction.text import CountVectorizer
    except ImportError:
        raise ImportError("rationales by words need scikit-learn; install mindllm-jax[labels]") from None
    analyzer: Any = _ngrams
    vectorizer = CountVectorizer(analyzer=analyzer, binary=True, min_df=_FEWEST, max_df=_COMMON, dtype=np.int64)
    try:
        found: Any = vectorizer.fit_transform([record.question for record in records])  # a sparse matrix [N V]
    except ValueError:
        raise ValueError(f"no characters are in {_FEWEST} records, so that none tell of an answer") from None
    names = vectorizer.get_feature_names_out()
    answers = np.array([record.answer for record in records], object)
    scores = {answer: _z_scores(found, answers == answer) for answer in dict.fromkeys(answers)}
    chosen: dict[str, str] = {}
    for row, record in enumerate(records):
        columns = found[row].indices
        own = scores[record.answer][columns]
        order = np.lexsort((names[columns], -own))
        if words := _apart([str(names[columns[place]]) for place in order if own[place] > 0]):
            chosen[record.id] = "、".join(words)
    return chosen


def _ngrams(text: str) -> list[str]:
    """Returns the n-grams of a text without spaces and clause marks."""
    clauses = ["".join(clause.split()) for clause in _CLAUSES.split(text)]
    return [
        clause[start : start + length]
        for clause in clauses
        for length in _LENGTHS
        for start in range(len(clause) - length + 1)
    ]


def _z_scores(found: Any, own: np.ndarray) -> np.ndarray:
    """Returns the z-score of each n-gram's log-odds, float64 [V], for the records that `own`, bool [N], marks.

    found: sparse matrix [N V] of ones.
    """
    total = np.asarray(found.sum(axis=0), float).ravel()
    prior = total * _PRIOR / len(own)
    ours = np.asarray(found[own].sum(axis=0), float).ravel()
    theirs = total - ours

    def log_odds(counts: np.ndarray) -> np.ndarray:
        smoothed = counts + prior
        return np.log(smoothed) - np.log(counts.sum() + prior.sum() - smoothed)

    return (log_odds(ours) - log_odds(theirs)) / np.sqrt(1 / (ours + prior) + 1 / (theirs + prior))


def _apart(words: Sequence[str]) -> list[str]:
    """Returns the first words of which none contains another."""
    taken: list[str] = []
    for word in words:
        if not any(word in other or other in word for other in taken):
            taken.append(word)
        if len(taken) == _WORDS:
            break
    return taken


class Rule(NamedTuple):
    """A rule: how a file of rationales names it, and the rationales of records by their ids."""

    origin: str
    rationales: Callable[[Sequence[Asked]], dict[str, str]]


RULES = {"clause": Rule("rule: longest clause", longest_clauses), "words": Rule("rule: telling words", telling_words)}
"""The rules by their names in `Rationales.by`."""
