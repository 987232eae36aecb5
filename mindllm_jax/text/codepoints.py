"""Text as an array of code points, and tables that say of every code point what the cleaning rules ask.

Chinese has no spaces to split at, so what other pipelines do with lists of words is done here with arrays of
characters: the same code serves both scripts, at the speed of numpy.
"""

from __future__ import annotations

import sys
import unicodedata
from functools import cache

import numpy as np

SEPARATOR, WORD, HAN = 0, 1, 2
"""Classes of a canonical code point: stands between words, in a word, is a word of its own."""

# Blocks in which one character is one syllable or more: CJK ideographs with their extensions, and 〇.
_HAN = ((0x3007, 0x3007), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF))
_LIMIT = 0x32400  # beyond it there is no letter, but in planes of private use


def codepoints(text: str) -> np.ndarray:
    """uint32, one a character. Raises UnicodeEncodeError for half a surrogate pair, which no UTF-8 text can hold."""
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


def text_of(points: np.ndarray) -> str:
    """The text of uint32 code points."""
    return points.astype("<u4").tobytes().decode("utf-32-le")


@cache
def han() -> np.ndarray:
    """bool by code point: Han characters."""
    table = np.zeros(sys.maxunicode + 1, np.bool_)
    for first, last in _HAN:
        table[first : last + 1] = True
    return table


@cache
def canonical() -> np.ndarray:
    """uint32 by code point: what is compared in its place.

    Case, width and script variant do not count: A is a, a full-width letter its half-width one, a traditional character
    its simplified one. What is neither letter nor digit (spaces, punctuation, marks) is 0.
    """
    table = np.zeros(sys.maxunicode + 1, np.uint32)
    for point in range(_LIMIT):
        folded = unicodedata.normalize("NFKC", chr(point)).casefold()[:1]
        if folded.isalnum():
            table[point] = ord(folded)
    table[: len(simplified())] = np.where(han()[: len(simplified())], simplified(), table[: len(simplified())])
    table.flags.writeable = False
    return table


@cache
def classes() -> np.ndarray:
    """uint8 by canonical code point: SEPARATOR, WORD or HAN."""
    table = np.where(han(), HAN, WORD).astype(np.uint8)
    table[0] = SEPARATOR
    table.flags.writeable = False
    return table


@cache
def simplified() -> np.ndarray:
    """uint32 by code point below 0x32400: the simplified character of each Han character, by OpenCC's table."""
    return _converted("t2s")


@cache
def traditional() -> np.ndarray:
    """uint32 by code point below 0x32400: the traditional character of each Han character, by OpenCC's table."""
    return _converted("s2t")


def _converted(direction: str) -> np.ndarray:
    try:
        from opencc import OpenCC
    except ImportError as error:
        raise ImportError(
            "comparing Chinese text needs OpenCC's tables of characters: pip install 'mindllm-jax[data]'"
        ) from error
    table = np.arange(_LIMIT, dtype=np.uint32)
    characters = [chr(point) for first, last in _HAN for point in range(first, last + 1)]
    # A line each: what stands beside a character would otherwise decide what it becomes.
    for before, after in zip(characters, OpenCC(direction).convert("\n".join(characters)).split("\n"), strict=True):
        if len(after) == 1:
            table[ord(before)] = ord(after)
    return table
