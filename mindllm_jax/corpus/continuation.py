"""A task for small models: which of four continuations follows the first half of a paragraph?

The wrong ones are second halves of other paragraphs of the same document, of similar length, so neither topic nor style
nor length gives the answer away; guessing is right one time in four.
"""

import random
from collections.abc import Iterable, Iterator
from typing import Any

from mindllm_jax.corpus.sentences import halves

CHOICES = 4
# Shortest and longest paragraph, and the shortest half, in characters.
_LENGTHS = {"zh": (40, 300, 15), "en": (120, 800, 45)}
# A wrong continuation is at most this much shorter or longer than the right one.
_STRETCH = 1.4


def items(document_id: str, lang: str, paragraphs: Iterable[str], seed: int = 0) -> Iterator[dict[str, Any]]:
    """The items of one document: `{"id", "lang", "context", "choices", "answer"}`.

    `context + choices[answer]` is the paragraph, character for character. Each item is a pure function of the seed and
    the document. Languages other than Chinese are cut and measured as English.
    """
    shortest, longest, shortest_half = _LENGTHS.get(lang, _LENGTHS["en"])
    cuts = {}
    for index, paragraph in enumerate(paragraphs):
        if shortest <= len(paragraph) <= longest:
            first, second = halves(paragraph, lang)
            if min(len(first), len(second)) >= shortest_half:
                # A continuation of several beginnings could be right where it is called wrong: none of them is used.
                cuts[second] = None if second in cuts else (index, first)
    candidates = sorted(second for second, cut in cuts.items() if cut)
    for second in candidates:
        index, first = cuts[second]
        others = [o for o in candidates if o != second and 1 / _STRETCH <= len(o) / len(second) <= _STRETCH]
        if len(others) < CHOICES - 1:
            continue
        id = f"{document_id}#{index}"
        draw = random.Random(f"{seed}/{id}")
        choices = [second, *draw.sample(others, CHOICES - 1)]
        draw.shuffle(choices)
        yield {"id": id, "lang": lang, "context": first, "choices": choices, "answer": choices.index(second)}
