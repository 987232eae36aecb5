"""Corpus scores of translations by sacreBLEU."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Pair = tuple[str, str]


def pair_zh(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Pair]:
    """Returns reference and translation of an item into Chinese, for both scores."""
    return _pair(doc["zho_Hans"], results[0])


def pair_en(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Pair]:
    """Returns reference and translation of an item into English, for both scores."""
    return _pair(doc["eng_Latn"], results[0])


def bleu_zh(pairs: Iterable[Pair]) -> float:
    """Returns the BLEU of a corpus in percent, its Chinese split into characters."""
    return _bleu(pairs, "zh")


def bleu_en(pairs: Iterable[Pair]) -> float:
    """Returns the BLEU of a corpus in percent, in words of the tokenizer 13a."""
    return _bleu(pairs, "13a")


def chrf_plus_plus(pairs: Iterable[Pair]) -> float:
    """Returns the chrF++ of a corpus in percent: n-grams of 6 characters and of 2 words."""
    from sacrebleu.metrics.chrf import CHRF

    references, translations = zip(*pairs, strict=True)
    return CHRF(word_order=2).corpus_score(translations, [references]).score


def _pair(reference: str, translation: str) -> dict[str, Pair]:
    pair = (reference, translation.strip())
    return {"bleu": pair, "chrf++": pair}


def _bleu(pairs: Iterable[Pair], tokenize: str) -> float:
    from sacrebleu.metrics.bleu import BLEU

    references, translations = zip(*pairs, strict=True)
    return BLEU(tokenize=tokenize).corpus_score(translations, [references]).score
