"""The continuation task for small models: which of four continuations follows the first half of a paragraph?

The wrong ones are second halves of other paragraphs of the same document, of similar length, so topic, style and length
do not give the answer away; guessing is right one time in four. The cut is in the middle, mostly inside a sentence, so
that a model with words and phrases but without facts scores above chance.
"""

import bisect
import random
from collections.abc import Iterable, Iterator
from typing import Any

CHOICES = 4
# Shortest and longest paragraph, in characters.
_LENGTHS = {"zh": (40, 300), "en": (120, 800)}
# A wrong continuation is at most this much shorter or longer than the right one.
_STRETCH = 1.5
# The wrong ones are drawn from this many nearest in length on either side.
_NEAREST = 8


def items(document_id: str, lang: str, paragraphs: Iterable[str], seed: int = 0) -> Iterator[dict[str, Any]]:
    """Yields the items of one document: `{"id", "lang", "context", "choices", "answer"}`.

    `context + choices[answer]` is the paragraph, character for character. The right answer is the shortest, the second,
    the third or the longest of the four with equal chances. Each item is a pure function of the seed and the document.
    Languages other than Chinese are cut at a space and measured as English.
    """
    shortest, longest = _LENGTHS.get(lang, _LENGTHS["en"])
    cuts = {}
    for index, paragraph in enumerate(paragraphs):
        if shortest <= len(paragraph) <= longest:
            first, second = _halves(paragraph, lang)
            # The same continuation of several beginnings could be a right answer marked wrong: none is used.
            cuts[second] = None if second in cuts else (index, first)
    candidates = sorted((second for second, cut in cuts.items() if cut), key=lambda text: (len(text), text))
    lengths = [len(text) for text in candidates]
    for place, second in enumerate(candidates):
        index, first = cuts[second]
        id = f"{document_id}#{index}"
        draw = random.Random(f"{seed}/{id}")
        shorter_ones = draw.randrange(CHOICES)
        start = max(place - _NEAREST, bisect.bisect_left(lengths, len(second) / _STRETCH))
        stop = min(place + 1 + _NEAREST, bisect.bisect_right(lengths, len(second) * _STRETCH))
        shorter, longer = candidates[start:place], candidates[place + 1 : stop]
        if len(shorter) < shorter_ones or len(longer) < CHOICES - 1 - shorter_ones:
            continue
        choices = [second, *draw.sample(shorter, shorter_ones), *draw.sample(longer, CHOICES - 1 - shorter_ones)]
        draw.shuffle(choices)
        yield {"id": id, "lang": lang, "context": first, "choices": choices, "answer": choices.index(second)}


def _halves(paragraph: str, lang: str) -> tuple[str, str]:
    """Cuts a paragraph in its middle, other languages than Chinese before the next space if there is one."""
    middle = len(paragraph) // 2
    cut = middle if lang == "zh" else paragraph.find(" ", middle)
    return (paragraph[:cut], paragraph[cut:]) if cut > 0 else (paragraph[:middle], paragraph[middle:])
