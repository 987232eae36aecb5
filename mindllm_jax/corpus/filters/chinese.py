"""Features of a Chinese text for the quality rules. None needs word segmentation: Chinese text has no spaces."""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

import numpy as np

from mindllm_jax.corpus.filters.repetition import (
    duplicate_line_share,
    duplicate_ngram_share,
    terminated_share,
    top_ngram_share,
)
from mindllm_jax.text.codepoints import codepoints, han, simplified
from mindllm_jax.text.ngrams import tokens

_PUNCTUATION = "，。！？；：、“”‘’「」『』（）《》〈〉—…·,.!?;:()\"'-"
_ENDS = ("。", "！", "？", "…", "；", "：", "”", "』", "」", "）", "》", "，", "、", "—", ".", "!", "?", ":", ")")


_ITEM = re.compile(r"^[ \t]*+(?:[-*+•]|\d++[.、)])[ \t]++(?=(?:[^\n\u4e00-\u9fff]*+[\u4e00-\u9fff]){10})[^\n]*+", re.M)


class ChineseFeatures(NamedTuple):
    """The features of one text; shares are 0 to 1.

    Attributes:
        han_chars: Han characters.
        han_share: Han characters among the characters that are not white space.
        punctuation_share: punctuation among them.
        symbol_share: characters among them that are neither letter, digit nor punctuation.
        terminated_share: see `repetition.terminated_share`. A list item with at least 10 Han characters is terminated.
        dictionary_share: Han characters in two-character words of a dictionary, among all Han characters.
        duplicate_line_share: see `repetition.duplicate_line_share`.
        duplicate_ngram_share: of 20-grams; see `repetition.duplicate_ngram_share`.
        top_ngram_share: of 4-grams; see `repetition.top_ngram_share`.
    """

    han_chars: float
    han_share: float
    punctuation_share: float
    symbol_share: float
    terminated_share: float
    dictionary_share: float
    duplicate_line_share: float
    duplicate_ngram_share: float
    top_ngram_share: float


def chinese_features(text: str) -> ChineseFeatures:
    """Measures a text."""
    points = codepoints(text)
    kinds = _kinds()[points]
    shown = max(1, int((kinds != _BLANK).sum()))
    ideographs = int((kinds == _IDEOGRAPH).sum())
    lines = [line for line in map(str.strip, text.split("\n")) if line]
    hashes = tokens(text).hashes
    return ChineseFeatures(
        han_chars=ideographs,
        han_share=ideographs / shown,
        punctuation_share=int((kinds == _MARK).sum()) / shown,
        symbol_share=int((kinds == _SYMBOL).sum()) / shown,
        terminated_share=terminated_share(_ITEM.sub("\\g<0>。", text), _ENDS, ("。", "！", "？", "；")),
        dictionary_share=_dictionary_share(points),
        duplicate_line_share=duplicate_line_share(lines),
        duplicate_ngram_share=duplicate_ngram_share(hashes, 20),
        top_ngram_share=top_ngram_share(hashes, 4),
    )


_BLANK, _IDEOGRAPH, _LETTER, _MARK, _SYMBOL = range(5)


@cache
def _kinds() -> np.ndarray:
    """Returns the kind of each code point, uint8."""
    table = np.full(len(han()), _SYMBOL, np.uint8)
    for point in range(0x10000):
        character = chr(point)
        if character.isspace():
            table[point] = _BLANK
        elif character.isalnum():
            table[point] = _LETTER
    table[[ord(mark) for mark in _PUNCTUATION]] = _MARK
    table[han()] = _IDEOGRAPH
    return table


def _dictionary_share(points: np.ndarray) -> float:
    """Returns the share of the Han characters that are the first or second of a two-character word."""
    ideograph = han()[points] & (points < 0x10000)
    if not ideograph.any():
        return 0.0
    basic = np.where(ideograph, points, 0)
    basic = np.where(ideograph, simplified()[basic], 0).astype(np.uint32)
    pairs = (basic[:-1] << 16) | basic[1:]
    words = _two_character_words()
    places = np.minimum(np.searchsorted(words, pairs), len(words) - 1)
    is_word = (words[places] == pairs) & (basic[:-1] > 0) & (basic[1:] > 0)
    covered = np.concatenate([is_word, [False]]) | np.concatenate([[False], is_word])
    return float(covered.sum() / ideograph.sum())


@cache
def _two_character_words() -> np.ndarray:
    """Returns the two-character words of jieba's dictionary as sorted uint32, 16 bits per character."""
    try:
        from importlib.resources import files

        entries = (files("jieba") / "dict.txt").read_text("utf-8").split("\n")
    except ModuleNotFoundError as error:
        raise ImportError(
            "the share of dictionary words needs jieba's dictionary: pip install 'mindllm-jax[data]'"
        ) from error
    words = (entry.split(" ", 1)[0] for entry in entries)
    pairs = {(ord(word[0]) << 16) | ord(word[1]) for word in words if len(word) == 2 and max(word) < "\U00010000"}
    return np.sort(np.fromiter(pairs, np.uint32, len(pairs)))
