"""What the rules of quality look at in an English text.

Most are those of Gopher (arXiv 2112.11446, A1.1) and C4 (arXiv 1910.10683, 2.2).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from mindllm_jax.corpus.filters.repetition import commonest_run, ending_share, repeated_lines, repeated_runs
from mindllm_jax.text.ngrams import tokens

_STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
_BULLETS = ("•", "-", "*", "‣", "◦")
_ELLIPSES = ("...", "…")
_ENDS = (".", "!", "?", '"', "”", "’", ")", ":", ";", ",")
_HEADING = re.compile(r"^#{1,6}[ \t]++", re.M)
_LETTER = re.compile("[A-Za-z]")
_PLACEHOLDER = re.compile(r"lorem ipsum|enable javascript|javascript (?:is|must be) (?:disabled|enabled)", re.I)


class EnglishFeatures(NamedTuple):
    """Of one text; words are what stands between blanks.

    Attributes:
        words: how many.
        word_length: mean characters of a word.
        alphabetic: share of the words with a letter.
        stop_words: how many of eight small words (the, be, to, of, and, that, have, with) are there.
        symbols: `#` by word; those before headings do not count, and are no words.
        dots: ellipses by word.
        bullets: share of the lines that begin with one.
        ellipses: share of the lines that end with one.
        ends: share of the text in lines or paragraphs that end as a clause does; see `repetition.ending_share`.
        placeholders: 1 if more than one word in a hundred is `<unk>`, or it is short and holds lorem ipsum or asks for
            JavaScript.
        repeated_lines: see `repetition.repeated_lines`.
        repeated_runs: of 10 tokens; see `repetition.repeated_runs`.
        commonest_run: of 3 tokens; see `repetition.commonest_run`.
    """

    words: float
    word_length: float
    alphabetic: float
    stop_words: float
    symbols: float
    dots: float
    bullets: float
    ellipses: float
    ends: float
    placeholders: float
    repeated_lines: float
    repeated_runs: float
    commonest_run: float


def english_features(text: str) -> EnglishFeatures:
    """The features of a text."""
    text = _HEADING.sub("", text)
    words = text.split()
    count = max(1, len(words))
    lines = [line for line in map(str.strip, text.split("\n")) if line]
    hashes = tokens(text).hashes
    return EnglishFeatures(
        words=len(words),
        word_length=sum(map(len, words)) / count,
        alphabetic=sum(_LETTER.search(word) is not None for word in words) / count,
        stop_words=len(_STOP_WORDS.intersection(text.lower().split())),
        symbols=text.count("#") / count,
        dots=(text.count("...") + text.count("…")) / count,
        bullets=sum(line.startswith(_BULLETS) for line in lines) / max(1, len(lines)),
        ellipses=sum(line.endswith(_ELLIPSES) for line in lines) / max(1, len(lines)),
        ends=ending_share(text, _ENDS, (". ", "! ", "? ")),
        placeholders=float(
            100 * text.count("<unk>") > len(words) or (len(words) < 100 and _PLACEHOLDER.search(text) is not None)
        ),
        repeated_lines=repeated_lines(lines),
        repeated_runs=repeated_runs(hashes, 10),
        commonest_run=commonest_run(hashes, 3),
    )
