"""Detects language and script by counting characters and stop words: Chinese, English, both or another."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.writers.disk_base import DiskWriter

from mindllm_jax.corpus.filters.base import CleaningFilter
from mindllm_jax.corpus.filters.format import prose
from mindllm_jax.corpus.reading.names import move_stray
from mindllm_jax.text.codepoints import codepoints, han, simplified, text_of, traditional

# The hundred most frequent words of English without frequent words of French, German, Spanish or Italian.
_ENGLISH = frozenset(
    """the of and to that it is was for on are as with his they at be this from have or by one had not but what all were
    when we there can your which their said if do will each about how up out them then she many some so these would
    other into has more her two like him see time could no make than first been its who now people my made over did
    down only way find use may long little very after words called just where most know you he""".split()
)
_WORD = re.compile(r"[a-z']+")
_SAMPLE = 20_000  # characters that are read
_FEW_WORDS = 25


class Script(NamedTuple):
    """Shares of a text, 0 to 1 each except `words`.

    Attributes:
        han: Han characters among the letters; a Han character counts as two letters.
        other: letters neither Han nor Latin.
        english: English stop words among the Latin words.
        words: the number of Latin words.
        traditional: traditional characters among those that differ between the two scripts.
        kana: Japanese syllables among the letters.
    """

    han: float
    other: float
    english: float
    words: float
    traditional: float
    kana: float


class Language(CleaningFilter):
    """Writes the language as `lang` and the Chinese script as `script`; drops other languages.

    A text is `zh` if most of its letters outside of code are Han characters, `en` if most are in Latin words and enough
    of these are English stop words. A text with both gets `mixed` in the metadata and the language that its source
    declares, else that of the larger part. Documents in another language than they declare are moved to the source
    `stray_LANG_SOURCE`, because a source of the token store has one language; the settings of their source hold.

    Args:
        min_mixed: share of the smaller part of a mixed text.
        min_english: share of stop words in English. Running text has 0.3 to 0.5, lists and code less. Texts of less
            than 50 words need five eighths of it, of less than 25 none.
        convert: see `CleanCorpus.convert` (OpenCC, phrase by phrase).
        exclusion_writer: see `CleaningFilter`.
    """

    name = "Language"

    def __init__(
        self,
        min_mixed: float = 0.2,
        min_english: float = 0.08,
        convert: Literal["simplified", "traditional"] | None = None,
        exclusion_writer: DiskWriter | None = None,
    ) -> None:
        super().__init__(exclusion_writer)
        self.min_mixed, self.min_english, self.convert = min_mixed, min_english, convert

    def apply(self, document: Document) -> str | None:
        """Cleans the document in place; returns a drop reason or None."""
        # Code is in no language.
        script = script_of(prose(document.text))
        declared = document.metadata.get("lang")
        lang = self.language(script)
        if lang == "other":
            return "other language"
        if lang == "mixed":
            document.metadata["mixed"] = True
            lang = declared if declared in ("zh", "en") else "zh" if script.han >= 0.5 else "en"
        if declared not in (None, lang):
            move_stray(document, lang)
        document.metadata["lang"] = lang
        if lang == "zh":
            document.metadata["script"] = "traditional" if script.traditional > 0.5 else "simplified"
            if self.convert and self.convert != document.metadata["script"]:
                document.text = converted(document.text, self.convert)
                document.metadata["script"] = self.convert
        return None

    def language(self, script: Script) -> str:
        """Returns `zh`, `en`, `mixed` or `other`."""
        # Formal Japanese is mostly Han characters, but has no sentence without a syllable.
        if script.other > max(0.3, script.han) or script.kana > 0.1 * script.han >= 0.1 * self.min_mixed:
            return "other"
        if script.han > 1 - self.min_mixed:
            return "zh"
        if script.han >= self.min_mixed:
            # Latin names and terms in Chinese text are not English.
            return "mixed" if script.english >= self.min_english else "zh"
        # Few words may have no stop word.
        if script.words < _FEW_WORDS:
            return "en" if script.words else "other"
        min_share = self.min_english * (1 if script.words >= 2 * _FEW_WORDS else 0.625)
        return "en" if script.english >= min_share else "other"


def script_of(text: str) -> Script:
    """Measures the beginning of a text."""
    sample = text[:_SAMPLE]
    points, counts = np.unique(codepoints(sample), return_counts=True)
    letter = np.fromiter(map(str.isalpha, text_of(points)), np.bool_)
    ideograph, latin = han()[points], letter & (points < 0x250)
    of_han, of_latin, of_all = (int(counts[kind].sum()) for kind in (ideograph, latin, letter | ideograph))
    others = of_all - of_han - of_latin
    kana = int(counts[letter & (points >= 0x3041) & (points < 0x3100)].sum())
    letters = max(1, 2 * of_han + of_latin + 2 * others)
    words = _WORD.findall(sample.lower())
    points, counts = points[ideograph], counts[ideograph]
    only_traditional = int(counts[simplified()[points] != points].sum())
    only_simplified = int(counts[traditional()[points] != points].sum())
    return Script(
        2 * of_han / letters,
        2 * others / letters,
        sum(word in _ENGLISH for word in words) / max(1, len(words)),
        len(words),
        only_traditional / max(1, only_traditional + only_simplified),
        2 * kana / letters,
    )


def converted(text: str, script: str) -> str:
    """Converts Chinese to a script, `simplified` or `traditional`, phrase by phrase (OpenCC).

    To simplified, the variants of Hong Kong (衞, 綫) and Taiwan (看著) become standard ones first, which `t2s` alone
    does not do. Words stay as they are (軟體 becomes 软体, not 软件): `tw2sp` would change them in texts of any region.
    """
    for converter in _converters(script):
        text = converter.convert(text)
    return text


@cache
def _converters(script: str) -> tuple[Any, ...]:
    from opencc import OpenCC

    return tuple(map(OpenCC, ("hk2t", "tw2s") if script == "simplified" else ("s2t",)))
