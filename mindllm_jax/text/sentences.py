"""Splits Chinese and English text into sentences by punctuation."""

import re

# Chinese: after the mark and the quotes and brackets that close with it.
_CHINESE_SENTENCE = re.compile(r"(?<=[。！？])(?![。！？”’」』）])|(?<=[。！？][”’」』）])")
# English: before a capital, a digit or a quote, but not after an initial (J. S. Bach), U.S. or a short title.
_ENGLISH_SENTENCE = re.compile(
    r"(?<!\b[A-Z]\.)(?<!\b(?:St|Dr|Mr|Ms|Lt|Jr|Sr|vs|cf|ca|No)\.)(?<!\b(?:Mrs|Col|Gen|Rev|etc|Vol)\.)"
    r"(?:(?<=[.!?])|(?<=[.!?][\"”')]))(?=\s+[A-Z0-9\"“'(])"
)


def sentences(paragraph: str, lang: str) -> list[str]:
    """Splits a paragraph into sentences. Joined they are the paragraph: the space between two begins the second."""
    boundary = _CHINESE_SENTENCE if lang == "zh" else _ENGLISH_SENTENCE
    return [piece for piece in boundary.split(paragraph) if piece]
