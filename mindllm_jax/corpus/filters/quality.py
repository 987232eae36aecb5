"""Quality rules: thresholds on features of a text, per language, as settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from datatrove.data import Document
from datatrove.pipeline.writers.disk_base import DiskWriter

from mindllm_jax.corpus.filters.base import CleaningFilter, rules_source
from mindllm_jax.corpus.filters.chinese import chinese_features
from mindllm_jax.corpus.filters.english import english_features
from mindllm_jax.corpus.filters.format import prose
from mindllm_jax.corpus.settings import QualityRules

_ANY = float("inf")


class Bound(NamedTuple):
    """A feature's value and its limits; a document outside of them is dropped for `reason`."""

    reason: str
    value: float
    min: float
    max: float

    @property
    def kept(self) -> bool:
        return self.min <= self.value <= self.max


def bounds(document: Document, rules: QualityRules) -> Iterator[Bound]:
    """Yields every rule that holds for a document, with the document's value."""
    if "density" in document.metadata:
        yield Bound("low text density", document.metadata["density"], rules.min_text_density, _ANY)
    short = rules_source(document) in rules.short_sources
    if short:
        yield Bound("too short", len(document.text), rules.short_min_chars, _ANY)
    # Code repeats itself and has no sentences.
    text = prose(document.text)
    repetition = rules.short_max_repetition if short else 0.0
    if document.metadata["lang"] == "zh":
        zh = chinese_features(text)
        if not short:
            yield Bound("too few Han characters", zh.han_chars, rules.zh_min_han_chars, _ANY)
            yield Bound("unterminated lines", zh.terminated_share, rules.zh_min_terminated_share, _ANY)
            yield Bound("too few dictionary words", zh.dictionary_share, rules.zh_min_dictionary_share, _ANY)
        yield Bound("low share of Han characters", zh.han_share, rules.zh_min_han_share, _ANY)
        if short:
            marks = 0.0, rules.short_max_punctuation_share
        else:
            marks = rules.zh_min_punctuation_share, rules.zh_max_punctuation_share
        yield Bound("share of punctuation", zh.punctuation_share, *marks)
        yield Bound("too many symbols", zh.symbol_share, 0, rules.zh_max_symbol_share)
        limits = rules.zh_max_duplicate_line_share, rules.zh_max_duplicate_ngram_share, rules.zh_max_top_ngram_share
        shares = zh.duplicate_line_share, zh.duplicate_ngram_share, zh.top_ngram_share
    else:
        en = english_features(text)
        if not short:
            yield Bound("too few words", en.words, rules.en_min_words, _ANY)
            yield Bound("too few stop words", en.stop_words, rules.en_min_stop_words, _ANY)
            yield Bound("unterminated lines", en.terminated_share, rules.en_min_terminated_share, _ANY)
            lengths = rules.en_min_avg_word_length, rules.en_max_avg_word_length
            yield Bound("average word length", en.avg_word_length, *lengths)
            yield Bound("too many bullet lines", en.bullet_line_share, 0, rules.en_max_bullet_line_share)
            yield Bound("too many ellipsis lines", en.ellipsis_line_share, 0, rules.en_max_ellipsis_line_share)
            yield Bound("placeholder text", en.placeholder, 0, 0)
        yield Bound("too few alphabetic words", en.alphabetic_share, rules.en_min_alphabetic_share, _ANY)
        symbols = en.hash_word_ratio + (0 if short else en.ellipsis_word_ratio)
        yield Bound("too many symbols", symbols, 0, rules.en_max_symbol_word_ratio)
        limits = rules.en_max_duplicate_line_share, rules.en_max_duplicate_ngram_share, rules.en_max_top_ngram_share
        shares = en.duplicate_line_share, en.duplicate_ngram_share, en.top_ngram_share
    reasons = "duplicate lines", "duplicate n-grams", "dominant n-gram"
    for reason, share, limit in zip(reasons, shares, limits, strict=True):
        yield Bound(reason, share, 0, max(limit, repetition))


class Quality(CleaningFilter):
    """Drops documents outside of a threshold; the reason is that of the first such rule."""

    name = "Quality"

    def __init__(self, rules: QualityRules, exclusion_writer: DiskWriter | None = None) -> None:
        super().__init__(exclusion_writer)
        self.rules = rules

    def apply(self, document: Document) -> str | None:
        """Cleans the document in place; returns a drop reason or None."""
        return next((bound.reason for bound in bounds(document, self.rules) if not bound.kept), None)
