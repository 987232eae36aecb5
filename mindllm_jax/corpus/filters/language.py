"""Language and script: Chinese, English, both or another, by counting characters and small words."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.writers.disk_base import DiskWriter

from mindllm_jax.corpus.filters.base import CleaningFilter
from mindllm_jax.text.codepoints import codepoints, han, simplified, text_of, traditional

# The hundred commonest words of English that are no common words of French, German, Spanish or Italian.
_ENGLISH = frozenset(
    """the of and to that it is was for on are as with his they at be this from have or by one had not but what all were
    when we there can your which their said if do will each about how up out them then she many some so these would
    other into has more her two like him see time could no make than first been its who now people my made over did
    down only way find use may long little very after words called just where most know you he""".split()
)
_WORD = re.compile(r"[a-z']+")
_SAMPLE = 20_000  # characters that are looked at
_FEW_WORDS = 25


class Script(NamedTuple):
    """Shares of a text, each 0 to 1 where nothing else is said.

    Attributes:
        han: Han characters among the letters (a Han character counts as two letters: that is what it takes to say).
        other: letters neither Han nor Latin.
        english: small words of English among the Latin words.
        words: how many Latin words, a number.
        traditional: characters only traditional text has, among those that differ between the two scripts.
        kana: Japanese syllables among the letters.
    """

    han: float
    other: float
    english: float
    words: float
    traditional: float
    kana: float


class Language(CleaningFilter):
    """Notes the language as `lang` and, of Chinese, the script; drops what is neither Chinese nor English.

    `zh` where Han characters are most of the letters, `en` where Latin words are and enough of them are small words of
    English. Texts with a good part of both get `mixed` in the metadata and the language that a source declares, else
    that of the larger part. Documents in the other language than their source declares are gathered in the source
    `stray_LANG`, because a source of the token store has one language.

    Args:
        mixed: the least share of the smaller part of a mixed text.
        least_english: the least share of small words in English. Running text has 0.3 to 0.5, lists and code less. Of
            texts of less than 50 words five eighths of it are asked, of less than 25 none.
        convert: "simplified" or "traditional" rewrites Chinese text (OpenCC, phrase by phrase); None leaves it.
        exclusion_writer: see `CleaningFilter`.
    """

    name = "Language"

    def __init__(
        self,
        mixed: float = 0.2,
        least_english: float = 0.08,
        convert: Literal["simplified", "traditional"] | None = None,
        exclusion_writer: DiskWriter | None = None,
    ) -> None:
        super().__init__(exclusion_writer)
        self.mixed, self.least_english, self.convert = mixed, least_english, convert

    def apply(self, document: Document) -> str | None:
        """See `CleaningFilter.apply`."""
        script = script_of(document.text)
        declared = document.metadata.get("lang")
        found = self.language(script)
        if found == "other":
            return "other language"
        if found == "mixed":
            document.metadata["mixed"] = True
            found = declared if declared in ("zh", "en") else "zh" if script.han >= 0.5 else "en"
        if declared not in (None, found):
            document.metadata |= {"source": f"stray_{found}", "declared_source": document.metadata["source"]}
        document.metadata["lang"] = found
        if found == "zh":
            document.metadata["script"] = "traditional" if script.traditional > 0.5 else "simplified"
            if self.convert and self.convert != document.metadata["script"]:
                document.text = _converter(self.convert).convert(document.text)
                document.metadata["script"] = self.convert
        return None

    def language(self, script: Script) -> str:
        """`zh`, `en`, `mixed` or `other`."""
        # Formal Japanese is mostly Han characters, but has no sentence without a syllable.
        if script.other > max(0.3, script.han) or script.kana > 0.1 * script.han >= 0.1 * self.mixed:
            return "other"
        if script.han > 1 - self.mixed:
            return "zh"
        if script.han >= self.mixed:
            # Names and terms in Chinese text are no English.
            return "mixed" if script.english >= self.least_english else "zh"
        # A handful of words may hold no small one, and a few handfuls not many.
        if script.words < _FEW_WORDS:
            return "en" if script.words else "other"
        least = self.least_english * (1 if script.words >= 2 * _FEW_WORDS else 0.625)
        return "en" if script.english >= least else "other"


def script_of(text: str) -> Script:
    """The shares of the beginning of a text."""
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


@cache
def _converter(script: str) -> Any:
    from opencc import OpenCC

    return OpenCC("t2s" if script == "simplified" else "s2t")
