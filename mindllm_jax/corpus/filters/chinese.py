"""What the rules of quality look at in a Chinese text. None of it needs words: Chinese text has no spaces."""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

import numpy as np

from mindllm_jax.corpus.filters.repetition import commonest_run, ending_share, repeated_lines, repeated_runs
from mindllm_jax.text.codepoints import codepoints, han, simplified
from mindllm_jax.text.ngrams import tokens

_PUNCTUATION = "，。！？；：、“”‘’「」『』（）《》〈〉—…·,.!?;:()\"'-"
_ENDS = ("。", "！", "？", "…", "；", "：", "”", "』", "」", "）", "》", "，", "、", "—", ".", "!", "?", ":", ")")


_ITEM = re.compile(r"^[ \t]*+(?:[-*+•]|\d++[.、)])[ \t]++(?=(?:[^\n\u4e00-\u9fff]*+[\u4e00-\u9fff]){10})[^\n]*+", re.M)


class ChineseFeatures(NamedTuple):
    """Of one text.

    Attributes:
        han: Han characters.
        han_share: of the characters that are not blank.
        punctuation: share of the characters that are not blank.
        symbols: share of the characters that are not blank and neither letter, digit nor punctuation.
        ends: share of the text in lines or paragraphs that end as a clause does; see `repetition.ending_share`. An item
            of a list with at least 10 Han characters says something without a full stop.
        words: share of the Han characters in two-character words of a dictionary.
        repeated_lines: see `repetition.repeated_lines`.
        repeated_runs: of 20 tokens; see `repetition.repeated_runs`.
        commonest_run: of 4 tokens; see `repetition.commonest_run`.
    """

    han: float
    han_share: float
    punctuation: float
    symbols: float
    ends: float
    words: float
    repeated_lines: float
    repeated_runs: float
    commonest_run: float


def chinese_features(text: str) -> ChineseFeatures:
    """The features of a text."""
    points = codepoints(text)
    kinds = _kinds()[points]
    shown = max(1, int((kinds != _BLANK).sum()))
    ideographs = int((kinds == _IDEOGRAPH).sum())
    lines = [line for line in map(str.strip, text.split("\n")) if line]
    hashes = tokens(text).hashes
    return ChineseFeatures(
        han=ideographs,
        han_share=ideographs / shown,
        punctuation=int((kinds == _MARK).sum()) / shown,
        symbols=int((kinds == _SYMBOL).sum()) / shown,
        ends=ending_share(_ITEM.sub("\\g<0>。", text), _ENDS, ("。", "！", "？", "；")),
        words=_dictionary_share(points),
        repeated_lines=repeated_lines(lines),
        repeated_runs=repeated_runs(hashes, 20),
        commonest_run=commonest_run(hashes, 4),
    )


_BLANK, _IDEOGRAPH, _LETTER, _MARK, _SYMBOL = range(5)


@cache
def _kinds() -> np.ndarray:
    """uint8 by code point."""
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
    """The share of the Han characters that stand in a two-character word, at either place of it."""
    ideograph = han()[points] & (points < 0x10000)
    if not ideograph.any():
        return 0.0
    basic = np.where(ideograph, points, 0)
    basic = np.where(ideograph, simplified()[basic], 0).astype(np.uint32)
    pairs = (basic[:-1] << 16) | basic[1:]
    words = _two_character_words()
    places = np.minimum(np.searchsorted(words, pairs), len(words) - 1)
    found = (words[places] == pairs) & (basic[:-1] > 0) & (basic[1:] > 0)
    covered = np.concatenate([found, [False]]) | np.concatenate([[False], found])
    return float(covered.sum() / ideograph.sum())


@cache
def _two_character_words() -> np.ndarray:
    """uint32, sorted: both characters of each word of jieba's dictionary that has two."""
    try:
        from importlib.resources import files

        entries = (files("jieba") / "dict.txt").read_text("utf-8").split("\n")
    except ModuleNotFoundError as error:
        raise ImportError(
            "the share of dictionary words needs jieba's list: pip install 'mindllm-jax[data]'"
        ) from error
    words = (entry.split(" ", 1)[0] for entry in entries)
    pairs = {(ord(word[0]) << 16) | ord(word[1]) for word in words if len(word) == 2 and max(word) < "\U00010000"}
    return np.sort(np.fromiter(pairs, np.uint32, len(pairs)))
