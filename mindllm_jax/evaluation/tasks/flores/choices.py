"""The translation of a sentence among those of three other sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mindllm_jax.hashing import hash64

if TYPE_CHECKING:
    from datasets import Dataset

_WRONG = 3


def into_chinese(docs: Dataset) -> Dataset:
    """Adds to each item of Flores `choices`, Chinese sentences, and `answer`, the number of the translation."""
    return _with_choices(docs, "zho_Hans")


def into_english(docs: Dataset) -> Dataset:
    """Adds to each item of Flores `choices`, English sentences, and `answer`, the number of the translation."""
    return _with_choices(docs, "eng_Latn")


def _with_choices(docs: Dataset, language: str) -> Dataset:
    """The wrong choices are the next sentences of a circle through all in an order of hashes, not their neighbours.

    Neighbours are of one article, and names that it repeats would be found in all choices. Raises ValueError where
    there are fewer sentences than choices.
    """
    texts: list[str] = list(docs[language])
    if len(texts) <= _WRONG:
        raise ValueError(f"{len(texts)} sentences of Flores-200: a choice of translations needs {_WRONG + 1} or more")
    circle = sorted(range(len(texts)), key=lambda number: hash64(str(number)))
    place = {number: where for where, number in enumerate(circle)}

    def choices(doc: dict[str, Any], number: int) -> dict[str, Any]:
        others = [texts[circle[(place[number] + step) % len(circle)]] for step in range(1, _WRONG + 1)]
        answer = number % (_WRONG + 1)
        return {"choices": [*others[:answer], texts[number], *others[answer:]], "answer": answer}

    return docs.map(choices, with_indices=True)
