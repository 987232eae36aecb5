"""Features of an English text for the quality rules.

Most are those of Gopher (arXiv 2112.11446, A1.1) and C4 (arXiv 1910.10683, 2.2).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from mindllm_jax.corpus.filters.repetition import (
    duplicate_line_share,
    duplicate_ngram_share,
    terminated_share,
    top_ngram_share,
)
from mindllm_jax.text.ngrams import tokens

_STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
_BULLETS = ("•", "-", "*", "‣", "◦")
_ELLIPSES = ("...", "…")
_ENDS = (".", "!", "?", '"', "”", "’", ")", ":", ";", ",")
_HEADING = re.compile(r"^#{1,6}[ \t]++", re.M)
_FRAME = re.compile(r"\|[|:-]*+|:-++:?|-++:|[-=]{3,}+")
_LETTER = re.compile("[A-Za-z]")
_PLACEHOLDER = re.compile(r"lorem ipsum|enable javascript|javascript (?:is|must be) (?:disabled|enabled)", re.I)


class EnglishFeatures(NamedTuple):
    """The features of one text; words are separated by white space, shares are 0 to 1.

    Attributes:
        words: words.
        avg_word_length: characters per word.
        alphabetic_share: share of the words with a letter; the bars and rules of a table are no words.
        stop_words: how many of the eight stop words (the, be, to, of, and, that, have, with) the text has.
        hash_word_ratio: `#` per word; those before headings count neither as symbols nor as words.
        ellipsis_word_ratio: ellipses per word.
        bullet_line_share: share of the lines that begin with a bullet.
        ellipsis_line_share: share of the lines that end with an ellipsis.
        terminated_share: see `repetition.terminated_share`.
        placeholder: 1 if more than one word in a hundred is `<unk>`, or if a short text has lorem ipsum or asks for
            JavaScript, else 0.
        duplicate_line_share: see `repetition.duplicate_line_share`.
        duplicate_ngram_share: of 10-grams; see `repetition.duplicate_ngram_share`.
        top_ngram_share: of 3-grams; see `repetition.top_ngram_share`.
    """

    words: float
    avg_word_length: float
    alphabetic_share: float
    stop_words: float
    hash_word_ratio: float
    ellipsis_word_ratio: float
    bullet_line_share: float
    ellipsis_line_share: float
    terminated_share: float
    placeholder: float
    duplicate_line_share: float
    duplicate_ngram_share: float
    top_ngram_share: float


def english_features(text: str) -> EnglishFeatures:
    """Measures a text."""
    text = _HEADING.sub("", text)
    words = text.split()
    count = max(1, len(words))
    lines = [line for line in map(str.strip, text.split("\n")) if line]
    hashes = tokens(text).hashes
    return EnglishFeatures(
        words=len(words),
        avg_word_length=sum(map(len, words)) / count,
        alphabetic_share=sum(_LETTER.search(word) is not None for word in words)
        / max(1, sum(_FRAME.fullmatch(word) is None for word in words)),
        stop_words=len(_STOP_WORDS.intersection(text.lower().split())),
        hash_word_ratio=text.count("#") / count,
        ellipsis_word_ratio=(text.count("...") + text.count("…")) / count,
        bullet_line_share=sum(line.startswith(_BULLETS) for line in lines) / max(1, len(lines)),
        ellipsis_line_share=sum(line.endswith(_ELLIPSES) for line in lines) / max(1, len(lines)),
        terminated_share=terminated_share(text, _ENDS, (". ", "! ", "? ")),
        placeholder=float(
            100 * text.count("<unk>") > len(words) or (len(words) < 100 and _PLACEHOLDER.search(text) is not None)
        ),
        duplicate_line_share=duplicate_line_share(lines),
        duplicate_ngram_share=duplicate_ngram_share(hashes, 10),
        top_ngram_share=top_ngram_share(hashes, 3),
    )
