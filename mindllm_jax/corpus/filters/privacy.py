"""Replaces personal data and secrets by typed markers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from datatrove.data import Document

from mindllm_jax.corpus.filters.base import CleaningFilter
from mindllm_jax.corpus.filters.privacy_patterns import GROUPS
from mindllm_jax.corpus.filters.privacy_search import Pattern
from mindllm_jax.corpus.outcomes import record


class Privacy(CleaningFilter):
    """Replaces personal data and secrets by typed markers.

    The markers are `<email>`, `<phone>`, `<id_number>`, `<passport>`, `<plate>`, `<account>` (WeChat, QQ),
    `<bank_card>`, `<ip>`, `<key>`, `<password>`. Numbers with a check digit are replaced if it is right, IP addresses
    if they are public. Digits inside longer numbers, words and paths are not replaced, as in hashes, identifiers and
    prices. The title, the address and the columns of a document stay as they are. It records an outcome `changed` per
    kind of data that a document had.
    """

    name = "Privacy"

    def apply(self, document: Document) -> str | None:
        """Cleans the document in place; returns a drop reason or None."""
        document.text, replaced = without_personal_data(document.text)
        for marker, matches in replaced.items():
            size = sum(len(match.encode()) for match in matches)
            record(self, document.metadata["source"], "changed", marker, bytes=size)
        return None


def without_personal_data(text: str) -> tuple[str, dict[str, list[str]]]:
    """Returns the text with markers, and by marker what they replace."""
    replaced: dict[str, list[str]] = {}
    for group in GROUPS:
        places = group.signs(text)
        if group.lines and places:
            text = "".join(_pieces(text, places, group.patterns, replaced))
        elif places:
            text = _replace(text, group.patterns, replaced)
    return text, replaced


def _pieces(
    text: str, places: list[int], patterns: tuple[Pattern, ...], replaced: dict[str, list[str]]
) -> Iterator[str]:
    """Yields the text in pieces; lines at the places have their matches replaced."""
    end = 0
    for place in places:
        if place < end:
            continue
        start = max(end, text.rfind("\n", end, place) + 1)
        yield text[end:start]
        end = text.find("\n", place)
        end = len(text) if end < 0 else end
        yield _replace(text[start:end], patterns, replaced)
    yield text[end:]


def _replace(text: str, patterns: tuple[Pattern, ...], replaced: dict[str, list[str]]) -> str:
    """Replaces the matches of all patterns in a text; adds them to `replaced`."""
    for pattern in patterns:
        if (pattern.words and not any(word in text for word in pattern.words)) or not pattern.regex.search(text):
            continue

        def replace(match: re.Match[str], pattern: Pattern = pattern) -> str:
            if not pattern.check(match):
                return match[0]
            value = match["value"] if "value" in pattern.regex.groupindex else match[0]
            replaced.setdefault(pattern.marker, []).append(value)
            return f"{match[0].removesuffix(value)}<{pattern.marker}>"

        text = pattern.regex.sub(replace, text)
    return text
