"""Rules of quality: bounds on features of a text, per language, as settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from datatrove.data import Document
from datatrove.pipeline.writers.disk_base import DiskWriter

from mindllm_jax.corpus.filters.base import CleaningFilter
from mindllm_jax.corpus.filters.chinese import chinese_features
from mindllm_jax.corpus.filters.english import english_features
from mindllm_jax.corpus.filters.format import fenced
from mindllm_jax.corpus.settings import QualityRules


class Bound(NamedTuple):
    """A value that must lie between `least` and `most`; `reason` says what is wrong outside."""

    reason: str
    value: float
    least: float
    most: float

    @property
    def kept(self) -> bool:
        return self.least <= self.value <= self.most


_ANY = float("inf")


def bounds(document: Document, rules: QualityRules) -> Iterator[Bound]:
    """Every rule that holds for a document, with its value there."""
    if "density" in document.metadata:
        yield Bound("low text density", document.metadata["density"], rules.density, _ANY)
    short = document.metadata["source"] in rules.short_sources
    if short:
        yield Bound("too short", len(document.text), rules.short_characters, _ANY)
    # Code repeats itself and does not end as sentences do; of a text that is nothing else, it is the text.
    prose = "".join(part for part, is_code in fenced(document.text) if not is_code)
    text = prose if prose.strip() else document.text
    again = rules.short_repeats if short else 0.0
    if document.metadata["lang"] == "zh":
        zh = chinese_features(text)
        if not short:
            yield Bound("few Han characters", zh.han, rules.zh_han, _ANY)
            yield Bound("lines that do not end", zh.ends, rules.zh_ends, _ANY)
            yield Bound("few dictionary words", zh.words, rules.zh_words, _ANY)
        yield Bound("low share of Han", zh.han_share, rules.zh_han_share, _ANY)
        marks = (0.0, rules.short_punctuation) if short else (rules.zh_punctuation, rules.zh_most_punctuation)
        yield Bound("punctuation", zh.punctuation, *marks)
        yield Bound("symbols", zh.symbols, 0, rules.zh_symbols)
        yield Bound("repeated lines", zh.repeated_lines, 0, max(rules.zh_repeated_lines, again))
        yield Bound("repeated runs", zh.repeated_runs, 0, max(rules.zh_repeated_runs, again))
        yield Bound("one run again and again", zh.commonest_run, 0, max(rules.zh_commonest_run, again))
        return
    en = english_features(text)
    if not short:
        yield Bound("few words", en.words, rules.en_words, _ANY)
        yield Bound("few small words", en.stop_words, rules.en_stop_words, _ANY)
        yield Bound("lines that do not end", en.ends, rules.en_ends, _ANY)
        yield Bound("word length", en.word_length, *rules.en_word_length)
        yield Bound("bullets", en.bullets, 0, rules.en_bullets)
        yield Bound("ellipses", en.ellipses, 0, rules.en_ellipses)
        yield Bound("placeholder", en.placeholders, 0, 0)
    yield Bound("few alphabetic words", en.alphabetic, rules.en_alphabetic, _ANY)
    yield Bound("symbols", en.symbols + (0 if short else en.dots), 0, rules.en_symbols)
    yield Bound("repeated lines", en.repeated_lines, 0, max(rules.en_repeated_lines, again))
    yield Bound("repeated runs", en.repeated_runs, 0, max(rules.en_repeated_runs, again))
    yield Bound("one run again and again", en.commonest_run, 0, max(rules.en_commonest_run, again))


class Quality(CleaningFilter):
    """Drops documents on the wrong side of a rule; the reason is the first such rule's."""

    name = "Quality"

    def __init__(self, rules: QualityRules, exclusion_writer: DiskWriter | None = None) -> None:
        super().__init__(exclusion_writer)
        self.rules = rules

    def apply(self, document: Document) -> str | None:
        """See `CleaningFilter.apply`."""
        return next((bound.reason for bound in bounds(document, self.rules) if not bound.kept), None)
