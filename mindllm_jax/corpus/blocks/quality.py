"""Rules of quality: bounds on features of a text, per language, as settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from datatrove.data import Document
from datatrove.pipeline.writers.disk_base import DiskWriter

from mindllm_jax.corpus.blocks.block import Block
from mindllm_jax.corpus.blocks.chinese import chinese_features
from mindllm_jax.corpus.blocks.english import english_features


@dataclass(frozen=True)
class QualityRules:
    """Bounds; a document on the wrong side of one is dropped. For the features see `chinese.py` and `english.py`.

    The paper's rules as far as they are known are the text density and the Han characters; the English ones are those
    of Gopher (arXiv 2112.11446, table A1) and C4, the other Chinese ones are ours.

    Attributes:
        density: least text density of a web page, 0 to 1.
        short_sources: sources of poems, quotations, reviews, headlines. Only these rules hold for them: the next,
            `zh_han_share`, `zh_most_punctuation`, `zh_symbols`, `zh_words`, `en_alphabetic`, `en_symbols`, and those of
            repetition.
        short_characters: least characters of a text of those.
        zh_han, zh_han_share, zh_punctuation, zh_ends, zh_words: least.
        zh_most_punctuation, zh_symbols: most.
        zh_repeated_lines, zh_repeated_runs, zh_commonest_run: most.
        en_words, en_alphabetic, en_stop_words, en_ends: least.
        en_word_length: least and most.
        en_symbols, en_bullets, en_ellipses, en_repeated_lines, en_repeated_runs, en_commonest_run: most.
    """

    density: float = 0.75
    short_sources: tuple[str, ...] = ()
    short_characters: int = 10
    zh_han: int = 100
    zh_han_share: float = 0.1
    zh_punctuation: float = 0.02
    zh_most_punctuation: float = 0.35
    zh_symbols: float = 0.25
    zh_ends: float = 0.2
    zh_words: float = 0.2
    zh_repeated_lines: float = 0.3
    zh_repeated_runs: float = 0.3
    zh_commonest_run: float = 0.2
    en_words: int = 50
    en_word_length: tuple[float, float] = (3.0, 10.0)
    en_alphabetic: float = 0.7
    en_stop_words: int = 2
    en_symbols: float = 0.1
    en_bullets: float = 0.9
    en_ellipses: float = 0.3
    en_ends: float = 0.2
    en_repeated_lines: float = 0.3
    en_repeated_runs: float = 0.3
    en_commonest_run: float = 0.18


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
    if document.metadata["lang"] == "zh":
        zh = chinese_features(document.text)
        if not short:
            yield Bound("few Han characters", zh.han, rules.zh_han, _ANY)
            yield Bound("lines that do not end", zh.ends, rules.zh_ends, _ANY)
        yield Bound("low share of Han", zh.han_share, rules.zh_han_share, _ANY)
        yield Bound("punctuation", zh.punctuation, 0 if short else rules.zh_punctuation, rules.zh_most_punctuation)
        yield Bound("symbols", zh.symbols, 0, rules.zh_symbols)
        yield Bound("few dictionary words", zh.words, rules.zh_words, _ANY)
        yield Bound("repeated lines", zh.repeated_lines, 0, rules.zh_repeated_lines)
        yield Bound("repeated runs", zh.repeated_runs, 0, rules.zh_repeated_runs)
        yield Bound("one run again and again", zh.commonest_run, 0, rules.zh_commonest_run)
        return
    en = english_features(document.text)
    if not short:
        yield Bound("few words", en.words, rules.en_words, _ANY)
        yield Bound("few small words", en.stop_words, rules.en_stop_words, _ANY)
        yield Bound("lines that do not end", en.ends, rules.en_ends, _ANY)
        yield Bound("word length", en.word_length, *rules.en_word_length)
        yield Bound("bullets", en.bullets, 0, rules.en_bullets)
        yield Bound("ellipses", en.ellipses, 0, rules.en_ellipses)
        yield Bound("placeholder", en.placeholders, 0, 0)
    yield Bound("few alphabetic words", en.alphabetic, rules.en_alphabetic, _ANY)
    yield Bound("symbols", en.symbols, 0, rules.en_symbols)
    yield Bound("repeated lines", en.repeated_lines, 0, rules.en_repeated_lines)
    yield Bound("repeated runs", en.repeated_runs, 0, rules.en_repeated_runs)
    yield Bound("one run again and again", en.commonest_run, 0, rules.en_commonest_run)


class Quality(Block):
    """Drops documents on the wrong side of a rule; the reason is the first such rule's."""

    name = "Quality"

    def __init__(self, rules: QualityRules, exclusion_writer: DiskWriter | None = None) -> None:
        super().__init__(exclusion_writer)
        self.rules = rules

    def judge(self, document: Document) -> str | None:
        """See `Block`."""
        return next((bound.reason for bound in bounds(document, self.rules) if not bound.kept), None)
