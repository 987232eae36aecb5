"""Text as an array of code points, and tables of properties of code points.

Chinese has no spaces to split at, so arrays of characters take the place of the word lists of other pipelines: the same
code serves both scripts, at the speed of numpy.
"""

from __future__ import annotations

import sys
import unicodedata
from functools import cache

import numpy as np

SEPARATOR, WORD, HAN = 0, 1, 2
"""Classes of a canonical code point: between words, in a word, a word by itself."""

# Blocks in which one character is one syllable or more: CJK ideographs with their extensions, and 〇.
_HAN = ((0x3007, 0x3007), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF))
_LIMIT = 0x32400  # above it only private use has letters


def codepoints(text: str) -> np.ndarray:
    """Returns the code points of a text, uint32. Raises UnicodeEncodeError for half a surrogate pair."""
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


def text_of(points: np.ndarray) -> str:
    """Returns the text of uint32 code points."""
    return points.astype("<u4").tobytes().decode("utf-32-le")


@cache
def han() -> np.ndarray:
    """Returns whether each code point is a Han character, bool [0x110000]."""
    table = np.zeros(sys.maxunicode + 1, np.bool_)
    for first, last in _HAN:
        table[first : last + 1] = True
    return table


@cache
def canonical() -> np.ndarray:
    """Returns the code point that each one is compared as, uint32 [0x110000].

    Case, width and script variant do not matter: A is a, a full-width letter its half-width one, a traditional
    character its simplified one, and so are the variants of Taiwan and Hong Kong (著 is 着, 衞 is 卫). Code points that
    are neither letter nor digit (spaces, punctuation, marks) are 0.
    """
    table = np.zeros(sys.maxunicode + 1, np.uint32)
    for point in range(_LIMIT):
        folded = unicodedata.normalize("NFKC", chr(point)).casefold()[:1]
        if folded.isalnum():
            table[point] = ord(folded)
    one_script = _converted("hk2t", "tw2s")
    # Some characters become one that becomes another: 麼, 么, 幺.
    while (again := one_script[one_script]).tobytes() != one_script.tobytes():
        one_script = again
    table[:_LIMIT] = np.where(han()[:_LIMIT], one_script, table[:_LIMIT])
    table.flags.writeable = False
    return table


@cache
def classes() -> np.ndarray:
    """Returns the class of each canonical code point, uint8 [0x110000]: SEPARATOR, WORD or HAN."""
    table = np.where(han(), HAN, WORD).astype(np.uint8)
    table[0] = SEPARATOR
    table.flags.writeable = False
    return table


@cache
def simplified() -> np.ndarray:
    """Returns the simplified character of each code point, uint32 [0x32400], by OpenCC's table.

    Variants of Taiwan and Hong Kong that simplified text has as well (著 in 著名) stay, so a character that changes is
    a sign of traditional script.
    """
    return _converted("t2s")


@cache
def traditional() -> np.ndarray:
    """Returns the traditional character of each code point, uint32 [0x32400], by OpenCC's table."""
    return _converted("s2t")


def _converted(*directions: str) -> np.ndarray:
    """Returns the character of each code point after OpenCC's conversions, one after the other."""
    try:
        from opencc import OpenCC
    except ImportError as error:
        raise ImportError(
            "comparing Chinese text needs OpenCC's tables of characters: pip install 'mindllm-jax[data]'"
        ) from error
    table = np.arange(_LIMIT, dtype=np.uint32)
    characters = [chr(point) for first, last in _HAN for point in range(first, last + 1)]
    # One per line: OpenCC converts by phrase, so neighbours would change the result.
    lines = "\n".join(characters)
    for direction in directions:
        lines = OpenCC(direction).convert(lines)
    for before, after in zip(characters, lines.split("\n"), strict=True):
        if len(after) == 1:
            table[ord(before)] = ord(after)
    return table
