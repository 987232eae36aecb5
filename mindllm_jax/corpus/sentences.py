"""Sentences and clauses of Chinese and English text, by their punctuation."""

import re

# Chinese: after the mark and the quotes and brackets that close with it.
_CHINESE_SENTENCE = re.compile(r"(?<=[。！？])(?![。！？”’」』）])|(?<=[。！？][”’」』）])")
_CHINESE_CLAUSE = re.compile(r"(?<=[，。；：！？])(?![”’」』）])|(?<=[，。；：！？][”’」』）])")
# English: before a capital, a digit or a quote, but not after an initial (J. S. Bach), U.S. or a short title.
_ENGLISH_SENTENCE = re.compile(
    r"(?<!\b[A-Z]\.)(?<!\b(?:St|Dr|Mr|Ms|Lt|Jr|Sr|vs|cf|ca|No)\.)(?<!\b(?:Mrs|Col|Gen|Rev|etc|Vol)\.)"
    r"(?:(?<=[.!?])|(?<=[.!?][\"”')]))(?=\s+[A-Z0-9\"“'(])"
)


def sentences(paragraph: str, lang: str) -> list[str]:
    """The sentences of a paragraph; joined they are the paragraph, so the space between two begins the second."""
    return _pieces(_CHINESE_SENTENCE if lang == "zh" else _ENGLISH_SENTENCE, paragraph)


def halves(paragraph: str, lang: str) -> tuple[str, str]:
    """The paragraph in two, cut where a sentence (Chinese: a clause) ends nearest to its middle.

    A paragraph of one sentence has an empty first half.
    """
    pieces = _pieces(_CHINESE_CLAUSE if lang == "zh" else _ENGLISH_SENTENCE, paragraph)
    ends, length = [], 0
    for piece in pieces[:-1]:
        length += len(piece)
        ends.append(length)
    cut = min(ends, key=lambda end: abs(2 * end - len(paragraph)), default=0)
    return paragraph[:cut], paragraph[cut:]


def _pieces(boundary: re.Pattern[str], text: str) -> list[str]:
    return [piece for piece in boundary.split(text) if piece]
